//! CreatePartitions (37), versions 0-3.
//!
//! Raises a topic's number of partitions, with placements given or planned. The answer comes when this broker has the
//! new logs.

use std::sync::Arc;

use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::create_partitions_response::CreatePartitionsTopicResult;
use kafka_protocol::messages::{CreatePartitionsRequest, CreatePartitionsResponse};
use strandline_core::metadata::{
    Command, CommandOutcome, CreatePartitions, MetadataImage, NewPartitions, TopicImage,
    plan_new_partitions,
};
use strandline_wire::{Api, KafkaError};

use super::text::text;
use super::{Apis, create_topics};
use crate::ids;

type Refusal = (KafkaError, String);

pub async fn handle(apis: &Apis, request: CreatePartitionsRequest) -> CreatePartitionsResponse {
    let image = apis.metadata.image();
    let planned: Vec<Result<NewPartitions, Refusal>> = request
        .topics
        .iter()
        .enumerate()
        .map(|(at, topic)| {
            if request.topics[..at]
                .iter()
                .any(|earlier| earlier.name == topic.name)
            {
                return Err((
                    KafkaError::InvalidRequest,
                    "Duplicate topic in request.".to_owned(),
                ));
            }
            plan(apis, &image, topic)
        })
        .collect();
    let topics: Vec<NewPartitions> = planned
        .iter()
        .filter_map(|p| p.as_ref().ok().cloned())
        .collect();
    let mut outcomes = if request.validate_only || topics.is_empty() {
        Ok(None)
    } else {
        match apis
            .metadata
            .propose(Command::CreatePartitions(CreatePartitions { topics }))
            .await
        {
            Ok(CommandOutcome::Topics(outcomes)) => Ok(Some(outcomes.into_iter())),
            Ok(CommandOutcome::Refused(error)) => Err((error.kafka_error(), error.to_string())),
            Ok(_) => Err((
                KafkaError::UnknownServerError,
                "An outcome of another command.".to_owned(),
            )),
            Err(refusal) => Err(refusal),
        }
    };
    let results = request
        .topics
        .iter()
        .zip(planned)
        .map(|(topic, planned)| {
            let result = planned.and_then(|_| match &mut outcomes {
                Ok(None) => Ok(()),
                Ok(Some(outcomes)) => match outcomes.next().map(|outcome| outcome.result) {
                    Some(Ok(_)) => Ok(()),
                    Some(Err(error)) => Err((error.kafka_error(), error.to_string())),
                    None => Err((KafkaError::UnknownServerError, "No outcome.".to_owned())),
                },
                Err(refusal) => Err(refusal.clone()),
            });
            let answer = CreatePartitionsTopicResult::default().with_name(topic.name.clone());
            match result {
                Ok(()) => answer.with_error_message(None),
                Err((error, message)) => {
                    apis.count_error(Api::CreatePartitions, error);
                    answer
                        .with_error_code(error.code())
                        .with_error_message(Some(text(message)))
                }
            }
        })
        .collect();
    CreatePartitionsResponse::default().with_results(results)
}

fn plan(
    apis: &Apis,
    image: &MetadataImage,
    wanted: &CreatePartitionsTopic,
) -> Result<NewPartitions, Refusal> {
    let topic: &Arc<TopicImage> = image.topics.get(&wanted.name).ok_or_else(|| {
        let message = "This server does not host this topic-partition.".to_owned();
        (KafkaError::UnknownTopicOrPartition, message)
    })?;
    create_topics::check_partition_count(apis, wanted.count)?;
    let planned = plan_new_partitions(image, topic, wanted.count, ids::seed())
        .map_err(|error| (error.kafka_error(), error.to_string()))?;
    let assignments = match &wanted.assignments {
        None => planned,
        Some(given) if given.len() == planned.len() => given
            .iter()
            .map(|a| a.broker_ids.iter().map(|id| id.0).collect())
            .collect(),
        Some(given) => {
            let message = format!(
                "Attempted to add {} additional partition(s), but only {} assignment(s) were specified.",
                planned.len(),
                given.len()
            );
            return Err((KafkaError::InvalidReplicaAssignment, message));
        }
    };
    Ok(NewPartitions {
        topic_id: topic.id,
        count_before: topic.partition_count(),
        assignments,
    })
}
