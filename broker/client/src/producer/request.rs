//! The Produce request: batches in, and what its answer says about each.

use bytes::Bytes;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::produce_response::TopicProduceResponse;
use kafka_protocol::messages::{ProduceRequest, ProduceResponse};
use strandline_log::TopicPartition;
use strandline_log::record::{BatchBuilder, BatchOptions, BuildError};
use strandline_wire::error_from_code;
use uuid::Uuid;

use super::partition_queue::{AttemptEnd, QueuedBatch};
use super::{ProducerConfig, RecordAck};
use crate::ConnectionError;
use crate::client::topic_name;

/// The first version that names topics by id.
pub(super) const TOPIC_IDS_SINCE: i16 = 13;

/// A batch that is out for an attempt.
pub(super) struct TakenBatch {
    pub partition: TopicPartition,
    pub topic_id: Uuid,
    pub batch: QueuedBatch,
}

pub(super) fn sent_unanswered(sent: &Result<(), ConnectionError>) -> AttemptEnd {
    match sent {
        Ok(()) => AttemptEnd::Stored(RecordAck {
            offset: -1,
            log_append_time_ms: -1,
        }),
        Err(error) => AttemptEnd::NotSent {
            reason: error.to_string(),
        },
    }
}

pub(super) fn attempt_end(
    version: i16,
    answer: &Result<ProduceResponse, ConnectionError>,
    taken: &TakenBatch,
) -> AttemptEnd {
    let response = match answer {
        Ok(response) => response,
        Err(error) => {
            return AttemptEnd::NoAnswer {
                reason: error.to_string(),
            };
        }
    };
    let is_topic = |topic: &TopicProduceResponse| {
        if version >= TOPIC_IDS_SINCE {
            topic.topic_id == taken.topic_id
        } else {
            *topic.name.0 == *taken.partition.topic
        }
    };
    let topic = response.responses.iter().find(|topic| is_topic(topic));
    let partition = topic.and_then(|topic| {
        topic
            .partition_responses
            .iter()
            .find(|partition| partition.index == taken.partition.partition)
    });
    let Some(partition) = partition else {
        return AttemptEnd::NoAnswer {
            reason: "the answer does not mention the partition".to_owned(),
        };
    };
    match error_from_code(partition.error_code) {
        None => AttemptEnd::Stored(RecordAck {
            offset: partition.base_offset,
            log_append_time_ms: partition.log_append_time_ms,
        }),
        Some(error) => {
            let message = partition
                .error_message
                .as_ref()
                .map(|message| message.to_string());
            AttemptEnd::Refused { error, message }
        }
    }
}

pub(super) fn produce_request(
    config: &ProducerConfig,
    version: i16,
    taken: &[TakenBatch],
) -> Result<ProduceRequest, BuildError> {
    let mut topics: Vec<TopicProduceData> = Vec::new();
    for taken in taken {
        let records = build_batch(config, &taken.batch)?;
        let data = PartitionProduceData::default()
            .with_index(taken.partition.partition)
            .with_records(Some(records));
        match topics
            .iter_mut()
            .find(|topic| *topic.name.0 == *taken.partition.topic)
        {
            Some(topic) => topic.partition_data.push(data),
            None => topics.push(
                TopicProduceData::default()
                    .with_name(topic_name(&taken.partition.topic))
                    .with_topic_id(taken.topic_id)
                    .with_partition_data(vec![data]),
            ),
        }
    }
    // Each version has one of the two names, and the codec refuses what it would lose.
    for topic in &mut topics {
        if version >= TOPIC_IDS_SINCE {
            topic.name = Default::default();
        } else {
            topic.topic_id = Uuid::nil();
        }
    }
    let timeout_ms = i32::try_from(config.request_timeout.as_millis()).unwrap_or(i32::MAX);
    Ok(ProduceRequest::default()
        .with_transactional_id(None)
        .with_acks(config.acks.code())
        .with_timeout_ms(timeout_ms)
        .with_topic_data(topics))
}

fn build_batch(config: &ProducerConfig, batch: &QueuedBatch) -> Result<Bytes, BuildError> {
    let mut options = BatchOptions {
        compression: config.compression,
        compression_level: config.compression_level,
        ..BatchOptions::default()
    };
    if let Some(identity) = batch.identity() {
        options.producer_id = identity.producer_id;
        options.producer_epoch = identity.producer_epoch;
        options.base_sequence = identity.base_sequence;
    }
    let mut builder = BatchBuilder::new(options);
    for record in batch.records() {
        builder.append(record.clone())?;
    }
    Ok(builder.build())
}
