//! DescribeProducers (61), version 0.
//!
//! The idempotent producers that a partition's log remembers.

use kafka_protocol::messages::describe_producers_response::{
    PartitionResponse, ProducerState, TopicResponse,
};
use kafka_protocol::messages::{DescribeProducersRequest, DescribeProducersResponse, ProducerId};
use strandline_core::metadata::MetadataImage;
use strandline_wire::{Api, KafkaError};

use super::Apis;
use super::text::text;

pub async fn handle(apis: &Apis, request: DescribeProducersRequest) -> DescribeProducersResponse {
    let image = apis.metadata.image();
    let topics = request
        .topics
        .into_iter()
        .map(|topic| {
            let partitions = topic
                .partition_indexes
                .iter()
                .map(|index| {
                    let response = PartitionResponse::default().with_partition_index(*index);
                    match producers(apis, &image, &topic.name, *index) {
                        Ok(producers) => response.with_active_producers(producers),
                        Err(error) => {
                            apis.count_error(Api::DescribeProducers, error);
                            response
                                .with_error_code(error.code())
                                .with_error_message(Some(text(error.to_string())))
                        }
                    }
                })
                .collect();
            TopicResponse::default()
                .with_name(topic.name)
                .with_partitions(partitions)
        })
        .collect();
    DescribeProducersResponse::default().with_topics(topics)
}

fn producers(
    apis: &Apis,
    image: &MetadataImage,
    topic: &str,
    index: i32,
) -> Result<Vec<ProducerState>, KafkaError> {
    let partition = apis.replicas.resolve(image, topic, index)?;
    partition.check_leader(-1)?;
    Ok(partition
        .log()
        .producers()
        .into_iter()
        .map(|producer| {
            ProducerState::default()
                .with_producer_id(ProducerId(producer.producer_id))
                .with_producer_epoch(i32::from(producer.producer_epoch))
                .with_last_sequence(producer.last_sequence())
                .with_last_timestamp(producer.last_batch().map_or(-1, |batch| batch.timestamp))
                .with_coordinator_epoch(producer.coordinator_epoch)
                .with_current_txn_start_offset(producer.current_txn_first_offset.unwrap_or(-1))
        })
        .collect())
}
