//! DescribeTopicPartitions (75), version 0.
//!
//! The named topics, or all of them, in order of name, from the cursor on and up to the limit of partitions; what did
//! not fit is named by the next cursor.
//!
//! Gaps: eligible leader replicas come with replication.

use std::collections::BTreeSet;

use kafka_protocol::messages::describe_topic_partitions_response::{
    Cursor, DescribeTopicPartitionsResponsePartition, DescribeTopicPartitionsResponseTopic,
};
use kafka_protocol::messages::{
    BrokerId, DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse,
};
use strandline_core::metadata::{MetadataImage, PartitionImage, validate_topic_name};
use strandline_wire::{Api, KafkaError};

use super::text::topic_name;
use super::{Apis, authorized_operations, brokers};

/// Kafka's max.request.partition.size.limit.
const PARTITIONS_MAX: i32 = 2000;

pub fn handle(
    apis: &Apis,
    request: &DescribeTopicPartitionsRequest,
) -> DescribeTopicPartitionsResponse {
    let image = apis.metadata.image();
    let cursor = request.cursor.as_ref();
    let from_topic = cursor.map_or("", |cursor| cursor.topic_name.as_str());
    let mut room = request.response_partition_limit.clamp(1, PARTITIONS_MAX) as usize;

    let named: BTreeSet<&str> = request
        .topics
        .iter()
        .map(|topic| topic.name.as_str())
        .collect();
    let names: Vec<&str> = if named.is_empty() {
        image
            .topics
            .iter_from(from_topic)
            .map(|topic| &*topic.name)
            .collect()
    } else {
        named
            .into_iter()
            .filter(|name| *name >= from_topic)
            .collect()
    };
    let mut topics = Vec::new();
    let mut next_cursor = None;
    for name in names {
        if room == 0 {
            next_cursor = Some(
                Cursor::default()
                    .with_topic_name(topic_name(name))
                    .with_partition_index(0),
            );
            break;
        }
        let Some(topic) = image.topics.get(name) else {
            let error = if validate_topic_name(name).is_err() {
                KafkaError::InvalidTopicException
            } else {
                KafkaError::UnknownTopicOrPartition
            };
            apis.count_error(Api::DescribeTopicPartitions, error);
            topics.push(
                DescribeTopicPartitionsResponseTopic::default()
                    .with_error_code(error.code())
                    .with_name(Some(topic_name(name)))
                    .with_topic_authorized_operations(authorized_operations::NOT_ASKED),
            );
            continue;
        };
        let first = cursor
            .filter(|cursor| cursor.topic_name.as_str() == name)
            .map_or(0, |cursor| {
                usize::try_from(cursor.partition_index).unwrap_or(0)
            });
        let partitions: Vec<_> = topic
            .partitions
            .iter()
            .enumerate()
            .skip(first)
            .take(room)
            .map(|(index, partition)| describe(&image, index, partition))
            .collect();
        room -= partitions.len();
        let end = first + partitions.len();
        topics.push(
            DescribeTopicPartitionsResponseTopic::default()
                .with_name(Some(topic_name(name)))
                .with_topic_id(topic.id)
                .with_is_internal(brokers::is_internal(name))
                .with_partitions(partitions)
                .with_topic_authorized_operations(authorized_operations::TOPIC),
        );
        if end < topic.partitions.len() {
            let index = i32::try_from(end).unwrap_or(i32::MAX);
            next_cursor = Some(
                Cursor::default()
                    .with_topic_name(topic_name(name))
                    .with_partition_index(index),
            );
            break;
        }
    }
    DescribeTopicPartitionsResponse::default()
        .with_topics(topics)
        .with_next_cursor(next_cursor)
}

fn describe(
    image: &MetadataImage,
    index: usize,
    partition: &PartitionImage,
) -> DescribeTopicPartitionsResponsePartition {
    let has_leader = image.is_active(partition.leader);
    DescribeTopicPartitionsResponsePartition::default()
        .with_error_code(if has_leader {
            0
        } else {
            KafkaError::LeaderNotAvailable.code()
        })
        .with_partition_index(i32::try_from(index).unwrap_or(i32::MAX))
        .with_leader_id(BrokerId(if has_leader { partition.leader } else { -1 }))
        .with_leader_epoch(partition.leader_epoch)
        .with_replica_nodes(brokers::ids(&partition.replicas))
        .with_isr_nodes(brokers::ids(&partition.isr))
        .with_eligible_leader_replicas(Some(Vec::new()))
        .with_last_known_elr(Some(Vec::new()))
        .with_offline_replicas(brokers::offline_replicas(image, partition))
}
