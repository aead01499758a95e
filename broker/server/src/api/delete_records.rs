//! DeleteRecords (21), versions 0-2.
//!
//! Moves the log start up to an offset (-1: the high watermark). The new start is on disk before the answer; local
//! segments and remote objects below it go in the background. Topics that only compact are refused, as in Kafka.
//!
//! Gaps: with followers the answer will wait for all their log starts.

use std::sync::Arc;

use kafka_protocol::messages::delete_records_response::{
    DeleteRecordsPartitionResult, DeleteRecordsTopicResult,
};
use kafka_protocol::messages::{DeleteRecordsRequest, DeleteRecordsResponse};
use strandline_core::metadata::MetadataImage;
use strandline_log::Offset;
use strandline_wire::{Api, KafkaError};

use super::{Apis, brokers};
use crate::errors;

/// Asks for everything below the high watermark.
const HIGH_WATERMARK: Offset = -1;

pub async fn handle(apis: &Apis, request: DeleteRecordsRequest) -> DeleteRecordsResponse {
    let image = apis.metadata.image();
    let mut topics = Vec::with_capacity(request.topics.len());
    let mut any = false;
    for topic in request.topics {
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for wanted in &topic.partitions {
            let result = delete(
                apis,
                &image,
                &topic.name,
                wanted.partition_index,
                wanted.offset,
            )
            .await;
            any |= result.is_ok();
            let response = DeleteRecordsPartitionResult::default()
                .with_partition_index(wanted.partition_index);
            partitions.push(match result {
                Ok(low_watermark) => response.with_low_watermark(low_watermark),
                Err(error) => {
                    apis.count_error(Api::DeleteRecords, error);
                    response
                        .with_low_watermark(-1)
                        .with_error_code(error.code())
                }
            });
        }
        topics.push(
            DeleteRecordsTopicResult::default()
                .with_name(topic.name)
                .with_partitions(partitions),
        );
    }
    if any && !checkpoint(apis).await {
        // The starts hold in memory, but a crash may bring records back: the client must know.
        for partition in topics.iter_mut().flat_map(|topic| &mut topic.partitions) {
            if partition.error_code == 0 {
                partition.error_code = KafkaError::KafkaStorageError.code();
                partition.low_watermark = -1;
            }
        }
    }
    DeleteRecordsResponse::default().with_topics(topics)
}

async fn delete(
    apis: &Apis,
    image: &MetadataImage,
    topic: &str,
    index: i32,
    offset: Offset,
) -> Result<Offset, KafkaError> {
    if brokers::is_internal(topic) {
        return Err(KafkaError::InvalidTopicException);
    }
    let partition = apis.replicas.resolve(image, topic, index)?;
    partition.check_leader(-1)?;
    let log = Arc::clone(partition.log());
    let policy = log.config().cleanup_policy;
    if policy.compact && !policy.delete {
        return Err(KafkaError::PolicyViolation);
    }
    let high_watermark = log.high_watermark();
    let offset = if offset == HIGH_WATERMARK {
        high_watermark
    } else {
        offset
    };
    if offset < 0 || offset > high_watermark {
        return Err(KafkaError::OffsetOutOfRange);
    }
    let moved = apis
        .cold_reads
        .run(move || log.increment_log_start_offset(offset))
        .await;
    match moved {
        None => return Err(KafkaError::UnknownServerError),
        Some(Err(error)) => {
            tracing::warn!(topic, partition = index, %error, "could not delete records");
            return Err(errors::log_error(&error));
        }
        Some(Ok(moved)) => {
            if moved && let Some(remote) = partition.remote() {
                remote.advance_log_start(offset);
            }
        }
    }
    partition.fetch_waiters.mark_all();
    Ok(partition.low_watermark())
}

async fn checkpoint(apis: &Apis) -> bool {
    let logs = Arc::clone(apis.replicas.logs());
    let written = apis
        .cold_reads
        .run(move || logs.checkpoint_log_start_offsets())
        .await;
    match written {
        Some(Ok(())) => true,
        Some(Err(error)) => {
            tracing::error!(%error, "could not write the log start offsets");
            false
        }
        None => false,
    }
}
