//! The remote tier of one broker.

use std::sync::Arc;

use strandline_log::{TopicId, TopicPartition};

use crate::config::TierConfig;
use crate::health::TierHealth;
use crate::remote_partition::{LeaderPartition, RemotePartition};

/// Why a tier cannot be made: settings that can never work. A store that is away is no such reason.
#[derive(Debug, thiserror::Error)]
pub enum TierError {
    #[error("{0}")]
    Store(String),
    #[error("metrics: {0}")]
    Metrics(#[from] prometheus::Error),
}

pub struct Tier {
    config: TierConfig,
}

impl Tier {
    /// Touches neither disk nor store. `seed` must be fresh per process: the names in the bucket come from it.
    pub fn new(
        config: TierConfig,
        cluster_id: &str,
        registry: &prometheus::Registry,
        seed: [u8; 32],
    ) -> Result<Arc<Self>, TierError> {
        let _ = (cluster_id, registry, seed);
        Ok(Arc::new(Self { config }))
    }

    pub fn config(&self) -> &TierConfig {
        &self.config
    }

    /// Starts the workers on a runtime.
    pub fn start(self: &Arc<Self>, runtime: tokio::runtime::Handle) {
        let _ = runtime;
    }

    /// Stops between steps; what was begun is finished or left to a retry of the next start.
    pub async fn shutdown(&self) {}

    /// This broker leads the partition now. Replaces what an earlier epoch had. Does no IO.
    pub fn lead(&self, leader: LeaderPartition) -> Arc<RemotePartition> {
        let _ = leader;
        todo!()
    }

    /// This broker no longer leads it.
    pub fn resign(&self, tp: &TopicPartition) {
        let _ = tp;
    }

    pub fn partition(&self, tp: &TopicPartition) -> Option<Arc<RemotePartition>> {
        let _ = tp;
        todo!()
    }

    /// A segment was sealed, flushed, or the high watermark passed its end: look at the partition soon.
    pub fn notify_sealed(&self, tp: &TopicPartition) {
        let _ = tp;
    }

    /// The topic is gone: its remote log is hidden at once and its objects are removed in the background.
    pub fn delete_topic(&self, topic: &str, topic_id: TopicId, partitions: i32) {
        let _ = (topic, topic_id, partitions);
    }

    pub fn health(&self) -> TierHealth {
        todo!()
    }
}
