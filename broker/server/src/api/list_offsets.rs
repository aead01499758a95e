//! ListOffsets (2), versions 1-11.
//!
//! By timestamp, over both tiers: the first record, in the order of offsets, that is at or after it. Special
//! timestamps: -1 the end that the isolation level allows (high watermark or last stable offset), -2 the log start,
//! -3 the record with the largest timestamp (version 7 on), -4 the earliest local offset (8 on), -5 the last offset
//! in the remote tier, inclusive, -1 when there is none (9 on), -6 the next offset to upload (11 on).

use std::sync::Arc;
use std::time::Duration;

use kafka_protocol::messages::list_offsets_request::ListOffsetsPartition;
use kafka_protocol::messages::list_offsets_response::{
    ListOffsetsPartitionResponse, ListOffsetsTopicResponse,
};
use kafka_protocol::messages::{ListOffsetsRequest, ListOffsetsResponse};
use strandline_core::metadata::MetadataImage;
use strandline_log::{Offset, TimestampMs};
use strandline_tiering::RemoteReadError;
use strandline_wire::{Api, KafkaError};

use super::{Apis, RequestContext, max_timestamp};
use crate::errors;
use crate::partition::Partition;

const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
const MAX_TIMESTAMP: i64 = -3;
const EARLIEST_LOCAL: i64 = -4;
const LATEST_TIERED: i64 = -5;
const EARLIEST_PENDING_UPLOAD: i64 = -6;

/// From which version on a special timestamp may be asked for.
fn allowed_since(timestamp: i64) -> Option<i16> {
    match timestamp {
        0.. | LATEST | EARLIEST => Some(1),
        MAX_TIMESTAMP => Some(7),
        EARLIEST_LOCAL => Some(8),
        LATEST_TIERED => Some(9),
        EARLIEST_PENDING_UPLOAD => Some(11),
        _ => None,
    }
}

#[derive(Clone, Copy)]
struct Found {
    offset: Offset,
    timestamp: TimestampMs,
    leader_epoch: i32,
}

impl Found {
    const NOTHING: Self = Self {
        offset: -1,
        timestamp: -1,
        leader_epoch: -1,
    };
}

pub async fn handle(
    apis: &Apis,
    context: &RequestContext,
    request: ListOffsetsRequest,
) -> ListOffsetsResponse {
    let image = apis.metadata.image();
    let read_committed = request.isolation_level == 1;
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for wanted in &topic.partitions {
            let index = wanted.partition_index;
            let duplicate = topic
                .partitions
                .iter()
                .filter(|other| other.partition_index == index)
                .count()
                > 1;
            let found = if duplicate {
                Err(KafkaError::InvalidRequest)
            } else {
                list(
                    apis,
                    context.api_version,
                    &image,
                    &topic.name,
                    wanted,
                    read_committed,
                )
                .await
            };
            let response = ListOffsetsPartitionResponse::default().with_partition_index(index);
            partitions.push(match found {
                Ok(found) => {
                    let response = response
                        .with_timestamp(found.timestamp)
                        .with_offset(found.offset);
                    if context.api_version >= 4 {
                        response.with_leader_epoch(found.leader_epoch)
                    } else {
                        response
                    }
                }
                Err(error) => {
                    apis.count_error(Api::ListOffsets, error);
                    response
                        .with_error_code(error.code())
                        .with_timestamp(-1)
                        .with_offset(-1)
                }
            });
        }
        topics.push(
            ListOffsetsTopicResponse::default()
                .with_name(topic.name)
                .with_partitions(partitions),
        );
    }
    ListOffsetsResponse::default().with_topics(topics)
}

async fn list(
    apis: &Apis,
    version: i16,
    image: &MetadataImage,
    topic: &str,
    wanted: &ListOffsetsPartition,
    read_committed: bool,
) -> Result<Found, KafkaError> {
    if allowed_since(wanted.timestamp).is_none_or(|since| version < since) {
        return Err(KafkaError::UnsupportedVersion);
    }
    let partition = apis
        .replicas
        .resolve(image, topic, wanted.partition_index)?;
    let epoch = partition.check_leader(wanted.current_leader_epoch)?;
    let log = partition.log();
    let end = if read_committed {
        log.last_stable_offset()
    } else {
        log.high_watermark()
    };
    let at = |offset: Offset, leader_epoch: Option<i32>| Found {
        offset,
        timestamp: -1,
        leader_epoch: leader_epoch.unwrap_or(-1),
    };
    match wanted.timestamp {
        LATEST => Ok(at(end, Some(epoch))),
        EARLIEST => {
            let start = log.log_start_offset();
            let epoch = epoch_of(apis, &partition, start).await;
            Ok(at(start, epoch))
        }
        EARLIEST_LOCAL => {
            let start = log.local_log_start_offset();
            Ok(at(start, log.epoch_for_offset(start)))
        }
        LATEST_TIERED => match uploaded_end(apis, &partition).await?.map(|(end, _)| end) {
            Some(end) if end > log.log_start_offset() => {
                Ok(at(end - 1, epoch_of(apis, &partition, end - 1).await))
            }
            _ => Ok(Found::NOTHING),
        },
        EARLIEST_PENDING_UPLOAD => match uploaded_end(apis, &partition).await? {
            Some((_, next)) => {
                let next = next.max(log.log_start_offset());
                Ok(at(next, log.epoch_for_offset(next)))
            }
            None if log.config().remote_storage_enable => {
                let start = log.local_log_start_offset();
                Ok(at(start, log.epoch_for_offset(start)))
            }
            None => Ok(Found::NOTHING),
        },
        MAX_TIMESTAMP => {
            let found =
                tokio::time::timeout(remote_patience(apis), max_timestamp::find(apis, &partition))
                    .await;
            let found = found.unwrap_or(Err(KafkaError::RequestTimedOut))?;
            local_found(Some(Ok(found)), end)
        }
        timestamp => by_timestamp(apis, &partition, timestamp, end).await,
    }
}

/// The end of what is in the store, and where the next upload begins: a gap may lie between them. After a start the
/// manifest may not have been read yet: "nothing is tiered" would be wrong then.
async fn uploaded_end(
    apis: &Apis,
    partition: &Partition,
) -> Result<Option<(Offset, Offset)>, KafkaError> {
    let Some(remote) = partition.remote() else {
        return Ok(None);
    };
    match tokio::time::timeout(remote_patience(apis), remote.read_uploaded_end()).await {
        Ok(Ok(end)) => Ok(end.zip(remote.next_upload())),
        Ok(Err(error)) => {
            tracing::warn!(partition = %partition.topic_partition(), %error, "the manifest cannot be read");
            Err(KafkaError::KafkaStorageError)
        }
        Err(_) => Err(KafkaError::RequestTimedOut),
    }
}

fn remote_patience(apis: &Apis) -> Duration {
    Duration::from_millis(apis.config.usize("remote.list.offsets.request.timeout.ms") as u64)
}

async fn epoch_of(apis: &Apis, partition: &Partition, offset: Offset) -> Option<i32> {
    let log = partition.log();
    if let Some(epoch) = log.epoch_for_offset(offset) {
        return Some(epoch);
    }
    let remote = partition
        .remote()
        .filter(|_| offset < log.local_log_start_offset())?;
    tokio::time::timeout(remote_patience(apis), remote.epoch_for_offset(offset))
        .await
        .ok()?
        .ok()?
}

async fn by_timestamp(
    apis: &Apis,
    partition: &Arc<Partition>,
    timestamp: TimestampMs,
    end: Offset,
) -> Result<Found, KafkaError> {
    let log = partition.log();
    if log.log_start_offset() < log.local_log_start_offset()
        && let Some(remote) = partition.remote()
    {
        match tokio::time::timeout(
            remote_patience(apis),
            remote.offset_for_timestamp(timestamp),
        )
        .await
        {
            Err(_) => return Err(KafkaError::RequestTimedOut),
            Ok(Ok(Some(found))) if found.offset >= log.log_start_offset() => {
                // Both tiers hold a stretch of the log: the local one may know an earlier answer only beyond it.
                return Ok(Found {
                    offset: found.offset,
                    timestamp: found.timestamp,
                    leader_epoch: found.leader_epoch,
                });
            }
            Ok(Ok(_)) => {}
            Ok(Err(RemoteReadError::OutOfRange { .. })) => {}
            Ok(Err(error)) => {
                tracing::warn!(partition = %log.topic_partition(), %error, "a remote search by time failed");
                return Err(errors::remote_read_error(&error));
            }
        }
    }
    let log = Arc::clone(log);
    let found = apis
        .cold_reads
        .run(move || log.offset_for_timestamp(timestamp))
        .await;
    local_found(found, end)
}

type LocalFound = Option<Result<Option<strandline_log::TimestampOffset>, strandline_log::LogError>>;

fn local_found(found: LocalFound, end: Offset) -> Result<Found, KafkaError> {
    match found {
        None => Err(KafkaError::UnknownServerError),
        Some(Err(error)) => Err(errors::log_error(&error)),
        // Past what the reader may see is as good as nothing.
        Some(Ok(Some(found))) if found.offset < end => Ok(Found {
            offset: found.offset,
            timestamp: found.timestamp,
            leader_epoch: found.leader_epoch,
        }),
        Some(Ok(_)) => Ok(Found::NOTHING),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn special_timestamps_wait_for_their_version() {
        let table = [
            (0, 1),
            (-1, 1),
            (-2, 1),
            (-3, 7),
            (-4, 8),
            (-5, 9),
            (-6, 11),
        ];
        for (timestamp, since) in table {
            assert_eq!(allowed_since(timestamp), Some(since), "{timestamp}");
        }
        assert_eq!(allowed_since(-7), None);
    }
}
