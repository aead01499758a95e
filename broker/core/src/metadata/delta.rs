//! What one command changed: exactly that, so that a broker reconciles in time proportional to the change.

use std::sync::Arc;

use strandline_log::TopicId;

use super::{BrokerId, ConfigResource, PartitionImage, ProducerIdBlock, TopicImage};

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
}
