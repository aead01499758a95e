//! CreateTopics (19), versions 2-7; and the topics that the broker creates by itself.
//!
//! Names, assignments and configs are checked; -1 takes the broker's default for partitions and replicas. The answer
//! comes when this broker has the topic's logs, so that a produce right after it works. `validate_only` changes nothing.
//! An internal topic gets no more replicas than there are brokers.
//!
//! Gaps: no create policy, no quota.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::create_topics_response::{
    CreatableTopicConfigs, CreatableTopicResult,
};
use kafka_protocol::messages::{CreateTopicsRequest, CreateTopicsResponse};
use strandline_core::metadata::{
    Command, CommandOutcome, CreateTopics, MetadataImage, NewTopic, TopicImage, plan_placement,
    validate_new_topic, validate_topic_name,
};
use strandline_wire::{Api, KafkaError};

use super::text::text;
use super::{Apis, RequestContext, brokers, config_resources};
use crate::{ids, topic_config};

type Refusal = (KafkaError, String);

pub async fn handle(
    apis: &Apis,
    context: &RequestContext,
    request: CreateTopicsRequest,
) -> CreateTopicsResponse {
    let image = apis.metadata.image();
    let mut names: HashMap<&str, usize> = HashMap::new();
    for topic in &request.topics {
        *names.entry(topic.name.as_str()).or_default() += 1;
    }
    let mut results = Vec::with_capacity(request.topics.len());
    let mut right = Vec::new();
    for topic in &request.topics {
        let name = topic.name.as_str();
        match names.get(name) {
            // One answer for all of them, as in Kafka.
            None => continue,
            Some(count) if *count > 1 => {
                names.remove(name);
                let message = "Found multiple entries for this topic.".to_owned();
                results.push(refused(apis, topic, (KafkaError::InvalidRequest, message)));
            }
            Some(_) => match plan(apis, &image, topic) {
                Ok(new) => right.push((topic, new)),
                Err(refusal) => results.push(refused(apis, topic, refusal)),
            },
        }
    }
    if request.validate_only {
        for (topic, new) in right {
            let partitions = i32::try_from(new.assignments.len()).unwrap_or(i32::MAX);
            let replicas = new.assignments.first().map_or(0, Vec::len);
            results.push(created(
                apis,
                context,
                &image,
                topic,
                &new.configs,
                uuid::Uuid::nil(),
                partitions,
                replicas,
            ));
        }
        return CreateTopicsResponse::default().with_topics(results);
    }
    let (topics, new): (Vec<&CreatableTopic>, Vec<NewTopic>) = right.into_iter().unzip();
    let outcomes = create(apis, new.clone()).await;
    let image = apis.metadata.image();
    for ((topic, new), outcome) in topics.into_iter().zip(new).zip(outcomes) {
        results.push(match outcome {
            Ok(made) => {
                let replicas = made
                    .partitions
                    .first()
                    .map_or(0, |partition| partition.replicas.len());
                created(
                    apis,
                    context,
                    &image,
                    topic,
                    &new.configs,
                    made.id,
                    made.partition_count(),
                    replicas,
                )
            }
            Err(refusal) => refused(apis, topic, refusal),
        });
    }
    CreateTopicsResponse::default().with_topics(results)
}

/// Creates topics that clients asked Metadata for. What cannot be created stays missing.
pub async fn auto_create(apis: &Apis, names: &[&str]) {
    let image = apis.metadata.image();
    let new: Vec<NewTopic> = names
        .iter()
        .filter(|name| validate_topic_name(name).is_ok())
        .filter_map(|name| {
            let planned = if brokers::is_internal(name) {
                plan_internal(apis, &image, name)
            } else {
                let partitions = apis.config.i32("num.partitions");
                let replicas = i16::try_from(apis.config.i32("default.replication.factor"))
                    .unwrap_or(i16::MAX);
                plan_new(&image, name, partitions, replicas, BTreeMap::new())
            };
            planned
                .inspect_err(|(_, message)| {
                    tracing::warn!(topic = *name, message, "a topic cannot be auto-created")
                })
                .ok()
        })
        .collect();
    if new.is_empty() {
        return;
    }
    let names: Vec<Arc<str>> = new.iter().map(|topic| Arc::clone(&topic.name)).collect();
    for (name, outcome) in names.iter().zip(create(apis, new).await) {
        match outcome {
            Ok(_) => tracing::info!(topic = &**name, "auto-created the topic"),
            Err((KafkaError::TopicAlreadyExists, _)) => {}
            Err((error, message)) => {
                tracing::warn!(topic = &**name, %error, message, "could not auto-create the topic")
            }
        }
    }
}

/// Makes sure that `__consumer_offsets` exists and returns its number of partitions.
pub async fn ensure_consumer_offsets(apis: &Apis) -> Option<i32> {
    let name = brokers::CONSUMER_OFFSETS_TOPIC;
    if apis.metadata.image().topics.get(name).is_none() {
        auto_create(apis, &[name]).await;
    }
    apis.metadata
        .image()
        .topics
        .get(name)
        .map(|topic| topic.partition_count())
}

fn plan_internal(apis: &Apis, image: &MetadataImage, name: &str) -> Result<NewTopic, Refusal> {
    if name != brokers::CONSUMER_OFFSETS_TOPIC {
        return Err((
            KafkaError::InvalidTopicException,
            "There are no transactions here yet, hence no topic for their state.".to_owned(),
        ));
    }
    let brokers = image.active_brokers().count();
    let replicas = apis
        .config
        .usize("offsets.topic.replication.factor")
        .min(brokers)
        .max(1);
    let configs = BTreeMap::from([
        ("cleanup.policy".to_owned(), "compact".to_owned()),
        ("compression.type".to_owned(), "producer".to_owned()),
        (
            "segment.bytes".to_owned(),
            apis.config.str("offsets.topic.segment.bytes").to_owned(),
        ),
    ]);
    plan_new(
        image,
        name,
        apis.config.i32("offsets.topic.num.partitions"),
        i16::try_from(replicas).unwrap_or(i16::MAX),
        configs,
    )
}

fn plan_new(
    image: &MetadataImage,
    name: &str,
    partitions: i32,
    replicas: i16,
    configs: BTreeMap<String, String>,
) -> Result<NewTopic, Refusal> {
    let assignments = plan_placement(image, 0, partitions, replicas, ids::seed())
        .map_err(|error| (error.kafka_error(), error.to_string()))?;
    Ok(NewTopic {
        name: name.into(),
        id: ids::new_topic_id(),
        assignments,
        configs,
    })
}

fn plan(apis: &Apis, image: &MetadataImage, topic: &CreatableTopic) -> Result<NewTopic, Refusal> {
    let name = topic.name.as_str();
    let refuse =
        |error: strandline_core::metadata::MetadataError| (error.kafka_error(), error.to_string());
    validate_topic_name(name).map_err(refuse)?;
    let mut configs = BTreeMap::new();
    for config in &topic.configs {
        let Some(value) = &config.value else {
            let message = format!(
                "Null value not supported for topic configs: {}",
                config.name.as_str()
            );
            return Err((KafkaError::InvalidConfig, message));
        };
        configs.insert(config.name.to_string(), value.trim().to_owned());
    }
    let new = if topic.assignments.is_empty() {
        let partitions = match topic.num_partitions {
            -1 => apis.config.i32("num.partitions"),
            count => count,
        };
        check_partition_count(apis, partitions)?;
        let replicas = match topic.replication_factor {
            -1 => i16::try_from(apis.config.i32("default.replication.factor")).unwrap_or(i16::MAX),
            count => count,
        };
        plan_new(image, name, partitions, replicas, configs)?
    } else {
        NewTopic {
            name: name.into(),
            id: ids::new_topic_id(),
            assignments: manual_assignments(topic)?,
            configs,
        }
    };
    validate_new_topic(image, &new).map_err(refuse)?;
    topic_config::validate_topic(&apis.config, image, &new.configs, None)
        .map_err(|message| (KafkaError::InvalidConfig, message))?;
    Ok(new)
}

pub(super) fn check_partition_count(apis: &Apis, partitions: i32) -> Result<(), Refusal> {
    let most = apis.config.i32("topic.max.partitions");
    if partitions > most {
        let message =
            format!("{partitions} partitions are more than topic.max.partitions, which is {most}.");
        return Err((KafkaError::InvalidPartitions, message));
    }
    Ok(())
}

fn manual_assignments(topic: &CreatableTopic) -> Result<Vec<Vec<i32>>, Refusal> {
    if topic.num_partitions != -1 || topic.replication_factor != -1 {
        let what = if topic.num_partitions != -1 {
            "numPartitions"
        } else {
            "replication factor"
        };
        let message =
            format!("A manual partition assignment was specified, but {what} was not set to -1.");
        return Err((KafkaError::InvalidRequest, message));
    }
    let by_partition: BTreeMap<i32, Vec<i32>> = topic
        .assignments
        .iter()
        .map(|a| {
            (
                a.partition_index,
                a.broker_ids.iter().map(|id| id.0).collect(),
            )
        })
        .collect();
    if by_partition.len() != topic.assignments.len()
        || !by_partition
            .keys()
            .copied()
            .eq(0..topic.assignments.len() as i32)
    {
        let message = "Partitions should be a consecutive 0-based integer sequence.".to_owned();
        return Err((KafkaError::InvalidReplicaAssignment, message));
    }
    Ok(by_partition.into_values().collect())
}

/// Proposes the topics and waits until this broker has them. One result per topic, in order.
async fn create(apis: &Apis, topics: Vec<NewTopic>) -> Vec<Result<Arc<TopicImage>, Refusal>> {
    let count = topics.len();
    if count == 0 {
        return Vec::new();
    }
    let fail = |refusal: Refusal| (0..count).map(|_| Err(refusal.clone())).collect();
    match apis
        .metadata
        .propose(Command::CreateTopics(CreateTopics { topics }))
        .await
    {
        Ok(CommandOutcome::Topics(outcomes)) => outcomes
            .into_iter()
            .map(|outcome| {
                outcome
                    .result
                    .map_err(|error| (error.kafka_error(), error.to_string()))
            })
            .collect(),
        Ok(CommandOutcome::Refused(error)) => fail((error.kafka_error(), error.to_string())),
        Ok(_) => fail((
            KafkaError::UnknownServerError,
            "An outcome of another command.".to_owned(),
        )),
        Err(refusal) => fail(refusal),
    }
}

fn refused(apis: &Apis, topic: &CreatableTopic, (error, message): Refusal) -> CreatableTopicResult {
    apis.count_error(Api::CreateTopics, error);
    CreatableTopicResult::default()
        .with_name(topic.name.clone())
        .with_error_code(error.code())
        .with_error_message(Some(text(message)))
        .with_num_partitions(-1)
        .with_replication_factor(-1)
        .with_configs(None)
}

#[allow(clippy::too_many_arguments)] // One field of the answer each.
fn created(
    apis: &Apis,
    context: &RequestContext,
    image: &MetadataImage,
    topic: &CreatableTopic,
    overrides: &BTreeMap<String, String>,
    id: uuid::Uuid,
    partitions: i32,
    replicas: usize,
) -> CreatableTopicResult {
    let result = CreatableTopicResult::default()
        .with_name(topic.name.clone())
        .with_topic_id(id);
    if context.api_version < 5 {
        return result;
    }
    let configs = config_resources::topic_entries(&apis.config, image, overrides)
        .iter()
        .map(|entry| {
            CreatableTopicConfigs::default()
                .with_name(text(entry.def.name))
                .with_value(config_resources::shown(entry, &entry.value))
                .with_read_only(entry.read_only)
                .with_config_source(entry.source as i8)
                .with_is_sensitive(entry.is_sensitive())
        })
        .collect();
    result
        .with_num_partitions(partitions)
        .with_replication_factor(i16::try_from(replicas).unwrap_or(i16::MAX))
        .with_configs(Some(configs))
}
