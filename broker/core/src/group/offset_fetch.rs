//! OffsetFetch of one group: what is committed. Partitions without an offset answer -1.
//!
//! `require_stable` asks for no offset that an open transaction may still change; there are no transactional commits yet,
//! so every offset is stable.

use kafka_protocol::messages::TopicName;
use kafka_protocol::messages::offset_fetch_request::OffsetFetchRequestGroup;
use kafka_protocol::messages::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartitions, OffsetFetchResponseTopics,
};

use super::event::GroupResponse;
use super::record::OffsetCommitValue;
use super::reply::text;
use super::shard::GroupShard;

impl GroupShard {
    pub(super) fn offset_fetch(
        &mut self,
        token: u64,
        request: &OffsetFetchRequestGroup,
        _require_stable: bool,
    ) {
        let topics = match &request.topics {
            Some(topics) => topics
                .iter()
                .map(|topic| {
                    let partitions = topic.partition_indexes.iter().map(|index| {
                        let committed =
                            self.offsets
                                .committed(&request.group_id, &topic.name, *index);
                        partition(*index, committed)
                    });
                    OffsetFetchResponseTopics::default()
                        .with_name(topic.name.clone())
                        .with_partitions(partitions.collect())
                })
                .collect(),
            None => self.all_offsets(&request.group_id),
        };
        let response = OffsetFetchResponseGroup::default()
            .with_group_id(request.group_id.clone())
            .with_topics(topics);
        self.ctx.reply(token, GroupResponse::OffsetFetch(response));
    }

    fn all_offsets(&self, group: &str) -> Vec<OffsetFetchResponseTopics> {
        let mut topics: Vec<OffsetFetchResponseTopics> = Vec::new();
        for (name, index, value) in self.offsets.committed_of(group) {
            if topics.last().is_none_or(|last| last.name.as_str() != name) {
                topics.push(OffsetFetchResponseTopics::default().with_name(TopicName(text(name))));
            }
            if let Some(topic) = topics.last_mut() {
                topic.partitions.push(partition(index, Some(value)));
            }
        }
        topics
    }
}

fn partition(index: i32, committed: Option<&OffsetCommitValue>) -> OffsetFetchResponsePartitions {
    let (offset, leader_epoch, metadata) = match committed {
        Some(value) => (value.offset, value.leader_epoch, value.metadata.as_str()),
        None => (-1, -1, ""),
    };
    OffsetFetchResponsePartitions::default()
        .with_partition_index(index)
        .with_committed_offset(offset)
        .with_committed_leader_epoch(leader_epoch)
        .with_metadata(Some(text(metadata)))
}
