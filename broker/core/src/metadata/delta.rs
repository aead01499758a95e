//! What one command changed: exactly that, so that a broker reconciles in time proportional to the change.

use std::sync::Arc;

use strandline_log::TopicId;

use super::{
    BrokerId, ConfigResource, MetadataImage, PartitionImage, ProducerIdBlock, SharedMap, TopicImage,
};

/// A partition of a topic that was there before: changed, or added to it (`before` is none).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionDelta {
    pub topic: Arc<str>,
    pub topic_id: TopicId,
    pub partition: i32,
    pub before: Option<Arc<PartitionImage>>,
    pub after: Arc<PartitionImage>,
}

/// Empty when a command changed nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MetadataDelta {
    /// Whole: their partitions are not repeated in `partitions_changed`, nor their configs in `configs_changed`.
    pub topics_created: Vec<Arc<TopicImage>>,
    /// As they were. Their configs are gone too.
    pub topics_deleted: Vec<Arc<TopicImage>>,
    pub partitions_changed: Vec<PartitionDelta>,
    pub configs_changed: Vec<ConfigResource>,
    pub brokers_changed: Vec<BrokerId>,
    pub producer_ids: Option<ProducerIdBlock>,
    /// The cluster's id, incarnation or features.
    pub cluster_changed: bool,
}

impl MetadataDelta {
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// All that differs between two images, however they came about; producer id blocks leave no trace in an image.
    /// Linear in the images: for a follower that was given a snapshot instead of the commands.
    pub fn between(before: &MetadataImage, after: &MetadataImage) -> Self {
        let mut delta = Self {
            brokers_changed: differing_keys(&before.brokers, &after.brokers),
            cluster_changed: before.cluster_id != after.cluster_id
                || before.incarnation != after.incarnation
                || before.features != after.features,
            ..Self::default()
        };
        for topic in before.topics.iter() {
            if after.topics.get_by_id(&topic.id).is_none() {
                delta.topics_deleted.push(topic.clone());
            }
        }
        for topic in after.topics.iter() {
            match before.topics.get_by_id(&topic.id) {
                None => delta.topics_created.push(topic.clone()),
                Some(known) if Arc::ptr_eq(known, topic) => {}
                Some(known) => delta.add_partitions_between(known, topic),
            }
        }
        let mut configs = differing_keys(before.configs.resources(), after.configs.resources());
        configs.retain(|resource| match resource {
            ConfigResource::Topic(name) => {
                let same = |t: &Arc<TopicImage>| before.topics.get_by_id(&t.id).is_some();
                after.topics.get(name).is_some_and(same)
            }
            _ => true,
        });
        delta.configs_changed = configs;
        delta
    }

    fn add_partitions_between(&mut self, known: &TopicImage, topic: &TopicImage) {
        for (number, after) in (0..).zip(&topic.partitions) {
            let before = known.partition(number);
            if before != Some(after) {
                self.partitions_changed.push(PartitionDelta {
                    topic: topic.name.clone(),
                    topic_id: topic.id,
                    partition: number,
                    before: before.cloned(),
                    after: after.clone(),
                });
            }
        }
    }
}

/// Keys whose values differ or that only one side has, in order.
fn differing_keys<K: Ord + Clone, V: Clone + PartialEq>(
    before: &SharedMap<K, V>,
    after: &SharedMap<K, V>,
) -> Vec<K> {
    let changed = after.iter().filter(|(k, v)| before.get(k) != Some(v));
    let removed = before.iter().filter(|(k, _)| !after.contains_key(*k));
    let mut keys: Vec<K> = changed.chain(removed).map(|(k, _)| k.clone()).collect();
    keys.sort();
    keys
}
