//! OffsetCommit: by a member of the current generation, or by anyone while the group is empty.

use kafka_protocol::ResponseError as KafkaError;
use kafka_protocol::messages::offset_commit_response::{
    OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};
use kafka_protocol::messages::{OffsetCommitRequest, OffsetCommitResponse};

use super::event::GroupResponse;
use super::group::Group;
use super::limits::TEXT_BYTES_MAX;
use super::offsets::OffsetChange;
use super::record::{OffsetCommitKey, OffsetCommitValue};
use super::reply;
use super::shard::GroupShard;
use super::state::GroupState;

/// The request leaves the retention to the broker.
const DEFAULT_RETENTION: i64 = -1;

impl GroupShard {
    pub(super) fn offset_commit(
        &mut self,
        token: u64,
        version: i16,
        request: &OffsetCommitRequest,
    ) {
        let id = request.group_id.as_str();
        let checked = match self.groups.get(id) {
            Some(group) => check(group, request),
            // Offsets alone make a simple group, once they are committed.
            None if request.generation_id_or_member_epoch < 0 => Ok(()),
            None if version >= 9 => Err(KafkaError::GroupIdNotFound),
            None => Err(KafkaError::IllegalGeneration),
        };
        if let Err(error) = checked {
            self.ctx
                .reply(token, reply::offset_commit_error(request, error));
            return;
        }
        if let Some(group) = self.groups.get(id)
            && matches!(
                group.state,
                GroupState::Stable | GroupState::PreparingRebalance
            )
        {
            self.ctx.renew_session(group, &request.member_id);
        }
        let now_ms = self.ctx.now_ms;
        let expire_timestamp_ms = Some(request.retention_time_ms)
            .filter(|retention| *retention != DEFAULT_RETENTION)
            .map(|retention| now_ms.saturating_add(retention));
        let mut changes = Vec::new();
        let mut topics = Vec::with_capacity(request.topics.len());
        for topic in &request.topics {
            let mut partitions = Vec::with_capacity(topic.partitions.len());
            for partition in &topic.partitions {
                let metadata = partition.committed_metadata.as_deref().unwrap_or_default();
                let fits = metadata.len() <= TEXT_BYTES_MAX
                    && metadata.encode_utf16().count() <= self.ctx.config.offset_metadata_max_bytes;
                let error_code = if fits {
                    changes.push(OffsetChange {
                        key: OffsetCommitKey {
                            group: id.to_owned(),
                            topic: topic.name.to_string(),
                            partition: partition.partition_index,
                        },
                        value: Some(OffsetCommitValue {
                            offset: partition.committed_offset,
                            leader_epoch: match expire_timestamp_ms {
                                None => partition.committed_leader_epoch.max(-1),
                                // That version of the record has no place for it.
                                Some(_) => -1,
                            },
                            metadata: metadata.to_owned(),
                            commit_timestamp_ms: now_ms,
                            expire_timestamp_ms,
                        }),
                    });
                    0
                } else {
                    KafkaError::OffsetMetadataTooLarge.code()
                };
                partitions.push(
                    OffsetCommitResponsePartition::default()
                        .with_partition_index(partition.partition_index)
                        .with_error_code(error_code),
                );
            }
            topics.push(
                OffsetCommitResponseTopic::default()
                    .with_name(topic.name.clone())
                    .with_partitions(partitions),
            );
        }
        let response =
            GroupResponse::OffsetCommit(OffsetCommitResponse::default().with_topics(topics));
        self.ctx
            .append_offsets(&mut self.offsets, changes, vec![(token, response)]);
    }
}

fn check(group: &Group, request: &OffsetCommitRequest) -> Result<(), KafkaError> {
    let generation = request.generation_id_or_member_epoch;
    let instance_id = request.group_instance_id.as_deref();
    if generation < 0 && group.state == GroupState::Empty {
        return Ok(());
    }
    if generation >= 0 || !request.member_id.is_empty() || instance_id.is_some() {
        group.validate_member(&request.member_id, instance_id)?;
        if generation != group.generation {
            return Err(KafkaError::IllegalGeneration);
        }
    } else if group.state != GroupState::Empty {
        return Err(KafkaError::UnknownMemberId);
    }
    if group.state == GroupState::CompletingRebalance {
        // The member knows its generation but not its assignment: it commits again after the rebalance.
        return Err(KafkaError::RebalanceInProgress);
    }
    Ok(())
}
