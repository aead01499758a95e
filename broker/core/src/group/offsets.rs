//! The committed offsets of a shard's groups.
//!
//! A reader sees what is committed. A writer of tombstones also sees what is on its way, since that will be in the log
//! before the tombstone is.

use std::collections::BTreeMap;
use std::ops::Bound;

use super::event::CoordinatorRecord;
use super::record::{OffsetCommitKey, OffsetCommitValue};

/// One offset on its way into the log; `None` takes it away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OffsetChange {
    pub key: OffsetCommitKey,
    pub value: Option<OffsetCommitValue>,
}

impl OffsetChange {
    pub fn tombstone(key: OffsetCommitKey) -> Self {
        Self { key, value: None }
    }

    pub fn record(&self) -> CoordinatorRecord {
        CoordinatorRecord {
            key: self.key.encode(),
            value: self.value.as_ref().map(OffsetCommitValue::encode),
        }
    }
}

#[derive(Clone, Debug, Default)]
struct Entry {
    committed: Option<OffsetCommitValue>,
    /// Changes on their way into the log.
    pending: u32,
}

#[derive(Clone, Debug, Default)]
pub struct Offsets {
    by_group: BTreeMap<String, BTreeMap<(String, i32), Entry>>,
}

impl Offsets {
    pub fn committed(
        &self,
        group: &str,
        topic: &str,
        partition: i32,
    ) -> Option<&OffsetCommitValue> {
        self.by_group
            .get(group)?
            .get(&(topic.to_owned(), partition))?
            .committed
            .as_ref()
    }

    /// A group's committed offsets by topic and partition.
    pub fn committed_of(
        &self,
        group: &str,
    ) -> impl Iterator<Item = (&str, i32, &OffsetCommitValue)> {
        self.by_group
            .get(group)
            .into_iter()
            .flatten()
            .filter_map(|((topic, partition), entry)| {
                Some((topic.as_str(), *partition, entry.committed.as_ref()?))
            })
    }

    pub fn groups(&self) -> Vec<String> {
        self.by_group.keys().cloned().collect()
    }

    /// Whether a tombstone is needed to be rid of the offset.
    pub fn exists(&self, key: &OffsetCommitKey) -> bool {
        self.by_group
            .get(&key.group)
            .is_some_and(|offsets| offsets.contains_key(&(key.topic.clone(), key.partition)))
    }

    /// Every offset of a group, committed or on its way.
    pub fn keys_of(&self, group: &str) -> Vec<OffsetCommitKey> {
        self.by_group
            .get(group)
            .into_iter()
            .flat_map(|offsets| offsets.keys())
            .map(|(topic, partition)| key(group, topic, *partition))
            .collect()
    }

    /// Every offset of a topic in any group.
    pub fn keys_of_topic(&self, topic: &str) -> Vec<OffsetCommitKey> {
        let from = (topic.to_owned(), i32::MIN);
        self.by_group
            .iter()
            .flat_map(|(group, offsets)| {
                offsets
                    .range((Bound::Included(&from), Bound::Unbounded))
                    .take_while(|((t, _), _)| t == topic)
                    .map(move |((t, partition), _)| key(group, t, *partition))
            })
            .collect()
    }

    pub fn has_pending(&self, key: &OffsetCommitKey) -> bool {
        self.by_group
            .get(&key.group)
            .and_then(|offsets| offsets.get(&(key.topic.clone(), key.partition)))
            .is_some_and(|entry| entry.pending > 0)
    }

    /// A change was handed to the log.
    pub fn begin(&mut self, change: &OffsetChange) {
        self.by_group
            .entry(change.key.group.clone())
            .or_default()
            .entry((change.key.topic.clone(), change.key.partition))
            .or_default()
            .pending += 1;
    }

    /// A change that was begun is committed, or not in the log at all.
    pub fn end(&mut self, change: OffsetChange, committed: bool) {
        let OffsetChange { key, value } = change;
        let Some(offsets) = self.by_group.get_mut(&key.group) else {
            return;
        };
        let at = (key.topic, key.partition);
        if let Some(entry) = offsets.get_mut(&at) {
            entry.pending -= 1;
            if committed {
                entry.committed = value;
            }
            if entry.pending == 0 && entry.committed.is_none() {
                offsets.remove(&at);
            }
        }
        if offsets.is_empty() {
            self.by_group.remove(&key.group);
        }
    }

    /// A record was read from the log.
    pub fn replay(&mut self, change: OffsetChange) {
        self.begin(&change);
        self.end(change, true);
    }

    pub fn clear(&mut self) {
        self.by_group.clear();
    }
}

fn key(group: &str, topic: &str, partition: i32) -> OffsetCommitKey {
    OffsetCommitKey {
        group: group.to_owned(),
        topic: topic.to_owned(),
        partition,
    }
}
