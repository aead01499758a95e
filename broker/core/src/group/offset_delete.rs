//! OffsetDelete, and the deletion of topics: tombstones for committed offsets.

use kafka_protocol::ResponseError as KafkaError;
use kafka_protocol::messages::offset_delete_response::{
    OffsetDeleteResponsePartition, OffsetDeleteResponseTopic,
};
use kafka_protocol::messages::{OffsetDeleteRequest, OffsetDeleteResponse};

use super::event::{GroupRequest, GroupResponse};
use super::group::Group;
use super::offsets::OffsetChange;
use super::record::OffsetCommitKey;
use super::reply;
use super::shard::GroupShard;
use super::state::GroupState;

/// The most tombstones in one append that nobody waits for.
pub const RECORDS_PER_APPEND_MAX: usize = 1_000;

impl GroupShard {
    pub(super) fn offset_delete(&mut self, token: u64, request: &OffsetDeleteRequest) {
        let group = self.groups.get(request.group_id.as_str());
        let group = match group.ok_or(KafkaError::GroupIdNotFound).and_then(check) {
            Ok(group) => group,
            Err(error) => {
                let response =
                    reply::request_error(0, &GroupRequest::OffsetDelete(request.clone()), error);
                self.ctx.reply(token, response);
                return;
            }
        };
        let mut changes = Vec::new();
        let mut topics = Vec::with_capacity(request.topics.len());
        for topic in &request.topics {
            let subscribed = group.is_subscribed_to(&topic.name);
            let mut partitions = Vec::with_capacity(topic.partitions.len());
            for partition in &topic.partitions {
                let key = OffsetCommitKey {
                    group: request.group_id.to_string(),
                    topic: topic.name.to_string(),
                    partition: partition.partition_index,
                };
                if !subscribed && self.offsets.exists(&key) {
                    changes.push(OffsetChange::tombstone(key));
                }
                let error = subscribed.then_some(KafkaError::GroupSubscribedToTopic);
                partitions.push(
                    OffsetDeleteResponsePartition::default()
                        .with_partition_index(partition.partition_index)
                        .with_error_code(error.map_or(0, |e| e.code())),
                );
            }
            topics.push(
                OffsetDeleteResponseTopic::default()
                    .with_name(topic.name.clone())
                    .with_partitions(partitions),
            );
        }
        let response =
            GroupResponse::OffsetDelete(OffsetDeleteResponse::default().with_topics(topics));
        self.ctx
            .append_offsets(&mut self.offsets, changes, vec![(token, response)]);
    }

    pub(super) fn on_topics_deleted(&mut self, topics: &[String]) {
        let changes: Vec<OffsetChange> = topics
            .iter()
            .flat_map(|topic| self.offsets.keys_of_topic(topic))
            .map(OffsetChange::tombstone)
            .collect();
        for chunk in changes.chunks(RECORDS_PER_APPEND_MAX) {
            self.ctx
                .append_offsets(&mut self.offsets, chunk.to_vec(), Vec::new());
        }
    }
}

/// Offsets of a group in use are deleted only where it is known which topics it uses.
fn check(group: &Group) -> Result<&Group, KafkaError> {
    match group.state {
        GroupState::Empty => Ok(group),
        GroupState::Dead => Err(KafkaError::GroupIdNotFound),
        _ if group.uses_consumer_protocol() => Ok(group),
        _ => Err(KafkaError::NonEmptyGroup),
    }
}
