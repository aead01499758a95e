//! Topics by name and by id, and their partitions.

use std::sync::Arc;

use strandline_log::{LeaderEpoch, TopicId};

use super::{BrokerId, SharedMap};

/// A partition's leader when it has none.
pub const NO_LEADER: BrokerId = -1;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionImage {
    /// In order of preference: the first is the preferred leader.
    pub replicas: Arc<[BrokerId]>,
    pub isr: Arc<[BrokerId]>,
    pub leader: BrokerId,
    /// Rises with each new leader and with each start of the leader's process.
    pub leader_epoch: LeaderEpoch,
    /// Rises with every change of the partition.
    pub partition_epoch: i32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicImage {
    pub name: Arc<str>,
    pub id: TopicId,
    /// By partition number, without holes.
    pub partitions: Vec<Arc<PartitionImage>>,
}

impl TopicImage {
    pub fn partition(&self, partition: i32) -> Option<&Arc<PartitionImage>> {
        self.partitions.get(usize::try_from(partition).ok()?)
    }

    pub fn partition_count(&self) -> i32 {
        i32::try_from(self.partitions.len()).unwrap_or(i32::MAX)
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TopicsImage {
    by_name: SharedMap<Arc<str>, Arc<TopicImage>>,
    by_id: SharedMap<TopicId, Arc<TopicImage>>,
    /// Names that hold a dot or an underscore, with dots read as underscores: metrics cannot tell these apart, so no
    /// two topics may agree here.
    collisions: SharedMap<Arc<str>, Arc<str>>,
    partition_count: usize,
}

impl TopicsImage {
    pub fn get(&self, name: &str) -> Option<&Arc<TopicImage>> {
        self.by_name.get(name)
    }

    pub fn get_by_id(&self, id: &TopicId) -> Option<&Arc<TopicImage>> {
        self.by_id.get(id)
    }

    pub fn partition(&self, topic: &str, partition: i32) -> Option<&Arc<PartitionImage>> {
        self.get(topic)?.partition(partition)
    }

    /// In order of name.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<TopicImage>> {
        self.by_name.iter().map(|(_, topic)| topic)
    }

    /// In order of name, from the first that is not below `name`.
    pub fn iter_from(&self, name: &str) -> impl Iterator<Item = &Arc<TopicImage>> {
        self.by_name.iter_from(name).map(|(_, topic)| topic)
    }

    pub fn len(&self) -> usize {
        self.by_name.len()
    }

    pub fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }

    /// Partitions of all topics.
    pub fn partition_count(&self) -> usize {
        self.partition_count
    }

    /// The topic whose name metrics could not tell from `name`.
    pub fn colliding(&self, name: &str) -> Option<&Arc<str>> {
        self.collisions.get(collision_key(name)?.as_str())
    }

    /// Adds a topic, or replaces the one of the same name and id.
    pub(super) fn put(&mut self, topic: Arc<TopicImage>) {
        if let Some(key) = collision_key(&topic.name) {
            self.collisions.insert(key.into(), topic.name.clone());
        }
        self.partition_count += topic.partitions.len();
        self.by_id.insert(topic.id, topic.clone());
        if let Some(before) = self.by_name.insert(topic.name.clone(), topic) {
            self.partition_count -= before.partitions.len();
        }
    }

    pub(super) fn remove(&mut self, id: &TopicId) -> Option<Arc<TopicImage>> {
        let topic = self.by_id.remove(id)?;
        self.by_name.remove(&*topic.name);
        if let Some(key) = collision_key(&topic.name) {
            self.collisions.remove(key.as_str());
        }
        self.partition_count -= topic.partitions.len();
        Some(topic)
    }
}

fn collision_key(name: &str) -> Option<String> {
    name.contains(['.', '_']).then(|| name.replace('.', "_"))
}
