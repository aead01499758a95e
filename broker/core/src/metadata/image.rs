//! The whole of the metadata at one point of its log.

use std::sync::Arc;

use strandline_log::ProducerId;

use super::{BrokerId, BrokerRegistration, ConfigsImage, SharedMap, TopicsImage};

/// Immutable once published; a clone shares everything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetadataImage {
    /// The number of commands applied so far. Each raises it by one, so a broker that has reconciled itself with offset
    /// n has seen every change up to it.
    pub offset: i64,
    /// Empty until the cluster is initialised.
    pub cluster_id: Arc<str>,
    /// The first half of every fence. 0 until the cluster is initialised, then 1 or more.
    pub incarnation: u32,
    pub next_producer_id: ProducerId,
    pub features: SharedMap<Arc<str>, i16>,
    pub brokers: SharedMap<BrokerId, Arc<BrokerRegistration>>,
    pub topics: TopicsImage,
    pub configs: ConfigsImage,
}

impl Default for MetadataImage {
    fn default() -> Self {
        Self {
            offset: 0,
            cluster_id: "".into(),
            incarnation: 0,
            next_producer_id: 0,
            features: SharedMap::default(),
            brokers: SharedMap::default(),
            topics: TopicsImage::default(),
            configs: ConfigsImage::default(),
        }
    }
}

impl MetadataImage {
    pub fn is_initialized(&self) -> bool {
        self.incarnation > 0
    }

    pub fn broker(&self, id: BrokerId) -> Option<&Arc<BrokerRegistration>> {
        self.brokers.get(&id)
    }

    /// Brokers that may lead and that clients see, in order of id.
    pub fn active_brokers(&self) -> impl Iterator<Item = &Arc<BrokerRegistration>> {
        self.brokers.iter().map(|(_, b)| b).filter(|b| !b.fenced)
    }

    pub fn is_active(&self, id: BrokerId) -> bool {
        self.broker(id).is_some_and(|b| !b.fenced)
    }
}
