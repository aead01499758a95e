//! Metadata (3), versions 0-13.
//!
//! Topics by name, from version 10 on also by id. Version 0 means all topics by an empty list, later ones by null and
//! none by an empty list. A topic that is asked for by name and does not exist is created when the request (version 4
//! on) and auto.create.topics.enable allow it, and answered at once with its partitions: Kafka lets the client ask
//! again. Brokers carry the addresses of the listener that the request came through.
//!
//! Gaps: the controller is always this node; a client cannot tell, since every request may go to any broker.

use std::sync::Arc;

use kafka_protocol::messages::metadata_response::{
    MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_protocol::messages::{BrokerId, MetadataRequest, MetadataResponse};
use strandline_core::metadata::{MetadataImage, PartitionImage, TopicImage, validate_topic_name};
use strandline_wire::{Api, KafkaError};
use uuid::Uuid;

use super::text::{text, topic_name};
use super::{Apis, RequestContext, authorized_operations, brokers, create_topics};

pub async fn handle(
    apis: &Apis,
    context: &RequestContext,
    request: MetadataRequest,
) -> MetadataResponse {
    let version = context.api_version;
    let wanted = match request.topics {
        None => None,
        Some(topics) if topics.is_empty() && version == 0 => None,
        Some(topics) => Some(topics),
    };
    let mut image = apis.metadata.image();
    if let Some(wanted) = &wanted
        && (version < 4 || request.allow_auto_topic_creation)
        && apis.config.bool("auto.create.topics.enable")
    {
        let missing: Vec<&str> = wanted
            .iter()
            .filter_map(|topic| topic.name.as_ref().map(|name| name.as_str()))
            .filter(|name| image.topics.get(name).is_none())
            .collect();
        if !missing.is_empty() {
            create_topics::auto_create(apis, &missing).await;
            image = apis.metadata.image();
        }
    }
    let operations = match (request.include_topic_authorized_operations, version >= 8) {
        (true, true) => authorized_operations::TOPIC,
        _ => authorized_operations::NOT_ASKED,
    };
    let topics = match wanted {
        None => image
            .topics
            .iter()
            .map(|topic| describe(&image, topic, version, operations))
            .collect(),
        Some(wanted) => wanted
            .iter()
            .map(|topic| {
                let by_name = topic.name.as_ref().map(|name| name.as_str());
                let found = match by_name {
                    Some(name) => image.topics.get(name),
                    None => image.topics.get_by_id(&topic.topic_id),
                };
                match found {
                    Some(topic) => describe(&image, topic, version, operations),
                    None => {
                        let error = match by_name {
                            None => KafkaError::UnknownTopicId,
                            Some(name) if validate_topic_name(name).is_err() => {
                                KafkaError::InvalidTopicException
                            }
                            Some(_) => KafkaError::UnknownTopicOrPartition,
                        };
                        apis.count_error(Api::Metadata, error);
                        unknown(by_name, topic.topic_id, version, error)
                    }
                }
            })
            .collect(),
    };
    let cluster_operations = match (
        request.include_cluster_authorized_operations,
        (8..=10).contains(&version),
    ) {
        (true, true) => authorized_operations::CLUSTER,
        _ => authorized_operations::NOT_ASKED,
    };
    MetadataResponse::default()
        .with_brokers(brokers::metadata_brokers(&image, &context.listener))
        .with_cluster_id(Some(text(&*image.cluster_id)))
        .with_controller_id(BrokerId(apis.config.node_id))
        .with_topics(topics)
        .with_cluster_authorized_operations(cluster_operations)
}

fn describe(
    image: &MetadataImage,
    topic: &Arc<TopicImage>,
    version: i16,
    operations: i32,
) -> MetadataResponseTopic {
    let partitions = (0..)
        .zip(&topic.partitions)
        .map(|(index, partition)| describe_partition(image, index, partition))
        .collect();
    MetadataResponseTopic::default()
        .with_name(Some(topic_name(&topic.name)))
        .with_topic_id(if version >= 10 { topic.id } else { Uuid::nil() })
        .with_is_internal(brokers::is_internal(&topic.name))
        .with_partitions(partitions)
        .with_topic_authorized_operations(operations)
}

fn describe_partition(
    image: &MetadataImage,
    index: i32,
    partition: &PartitionImage,
) -> MetadataResponsePartition {
    let has_leader = image.is_active(partition.leader);
    MetadataResponsePartition::default()
        .with_error_code(if has_leader {
            0
        } else {
            KafkaError::LeaderNotAvailable.code()
        })
        .with_partition_index(index)
        .with_leader_id(BrokerId(if has_leader { partition.leader } else { -1 }))
        .with_leader_epoch(partition.leader_epoch)
        .with_replica_nodes(brokers::ids(&partition.replicas))
        .with_isr_nodes(brokers::ids(&partition.isr))
        .with_offline_replicas(brokers::offline_replicas(image, partition))
}

fn unknown(
    name: Option<&str>,
    topic_id: Uuid,
    version: i16,
    error: KafkaError,
) -> MetadataResponseTopic {
    // Names may be null from version 12 on; before, a topic that is only known by id has an empty one.
    let name = match name {
        None if version < 12 => Some(topic_name("")),
        name => name.map(topic_name),
    };
    MetadataResponseTopic::default()
        .with_error_code(error.code())
        .with_name(name)
        .with_topic_id(topic_id)
        .with_topic_authorized_operations(authorized_operations::NOT_ASKED)
}
