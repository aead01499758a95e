//! OffsetForLeaderEpoch (23), versions 2-4.
//!
//! The largest epoch at or below the one asked for, and the offset where it ends, over both tiers: where the local
//! epoch checkpoint no longer reaches, the manifest's lineage does.

use kafka_protocol::messages::offset_for_leader_epoch_request::OffsetForLeaderPartition;
use kafka_protocol::messages::offset_for_leader_epoch_response::{
    EpochEndOffset, OffsetForLeaderTopicResult,
};
use kafka_protocol::messages::{OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse};
use strandline_core::metadata::MetadataImage;
use strandline_log::Offset;
use strandline_wire::{Api, KafkaError};

use super::Apis;
use crate::errors;

pub async fn handle(
    apis: &Apis,
    request: OffsetForLeaderEpochRequest,
) -> OffsetForLeaderEpochResponse {
    let image = apis.metadata.image();
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for wanted in &topic.partitions {
            let response = EpochEndOffset::default().with_partition(wanted.partition);
            partitions.push(
                match end_of_epoch(apis, &image, &topic.topic, wanted).await {
                    Ok((epoch, end)) => response.with_leader_epoch(epoch).with_end_offset(end),
                    Err(error) => {
                        apis.count_error(Api::OffsetForLeaderEpoch, error);
                        response
                            .with_error_code(error.code())
                            .with_leader_epoch(-1)
                            .with_end_offset(-1)
                    }
                },
            );
        }
        topics.push(
            OffsetForLeaderTopicResult::default()
                .with_topic(topic.topic)
                .with_partitions(partitions),
        );
    }
    OffsetForLeaderEpochResponse::default().with_topics(topics)
}

async fn end_of_epoch(
    apis: &Apis,
    image: &MetadataImage,
    topic: &str,
    wanted: &OffsetForLeaderPartition,
) -> Result<(i32, Offset), KafkaError> {
    const UNKNOWN: (i32, Offset) = (-1, -1);
    let partition = apis.replicas.resolve(image, topic, wanted.partition)?;
    partition.check_leader(wanted.current_leader_epoch)?;
    if wanted.leader_epoch < 0 {
        return Ok(UNKNOWN);
    }
    if let Some(found) = partition.log().epoch_end_offset(wanted.leader_epoch) {
        return Ok(found);
    }
    let Some(remote) = partition.remote() else {
        return Ok(UNKNOWN);
    };
    match remote.epoch_end_offset(wanted.leader_epoch).await {
        Ok(found) => Ok(found.unwrap_or(UNKNOWN)),
        Err(error) => {
            tracing::warn!(topic, partition = wanted.partition, %error, "a remote epoch lookup failed");
            Err(errors::remote_read_error(&error))
        }
    }
}
