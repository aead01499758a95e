//! Between partitions and the remote tier: who leads what, and remote reads that outlive those who wait for them.
//!
//! A fetch below the local start begins a read and waits for it as long as it may. The read itself is never cancelled:
//! it fills the cache, and the consumer's next fetch finds it. Readers of one position share one read. A partition's
//! failures are kept from consumers until they have lasted for remote.fetch.patience.ms.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use strandline_log::{Offset, TimestampMs, TopicId};
use strandline_tiering::{
    Fence, LeaderPartition, RemotePartition, RemoteRead, RemoteReadError, Tier,
};
use tokio::sync::watch;

use crate::clock;
use crate::partition::Partition;

/// Tells the tier what this broker leads.
pub struct TierDriver {
    tier: Arc<Tier>,
}

impl TierDriver {
    pub fn new(tier: Arc<Tier>) -> Self {
        Self { tier }
    }

    pub fn tier(&self) -> &Arc<Tier> {
        &self.tier
    }

    /// After a term has begun, or the topic's settings have changed.
    pub fn lead(&self, partition: &Partition, incarnation: u32, leader_epoch: i32) {
        let log = partition.log();
        if !log.config().remote_storage_enable || !self.tier.config().enabled {
            self.resign(partition);
            return;
        }
        let fence = Fence::new(u64::from(incarnation), leader_epoch);
        if partition
            .remote()
            .is_some_and(|remote| remote.fence() == fence)
        {
            return;
        }
        let remote = self.tier.lead(LeaderPartition {
            tp: partition.topic_partition().clone(),
            topic_id: partition.topic_id(),
            fence,
            log: Arc::clone(log),
        });
        partition.set_remote(Some(remote));
    }

    pub fn resign(&self, partition: &Partition) {
        if partition.remote().is_some() {
            self.tier.resign(partition.topic_partition());
            partition.set_remote(None);
        }
    }
}

type ReadKey = (TopicId, i32, Offset);
type ReadResult = Result<Arc<RemoteRead>, RemoteReadError>;

/// A remote read that was begun.
pub struct PendingRemoteRead {
    key: ReadKey,
    result: watch::Receiver<Option<ReadResult>>,
}

#[derive(Default)]
struct Reads {
    running: HashMap<ReadKey, watch::Receiver<Option<ReadResult>>>,
    /// By partition, while its reads fail.
    failing_since: HashMap<(TopicId, i32), TimestampMs>,
}

pub struct RemoteReads {
    reads: Arc<Mutex<Reads>>,
    patience_ms: i64,
}

impl RemoteReads {
    pub fn new(patience_ms: i64) -> Self {
        Self {
            reads: Arc::default(),
            patience_ms,
        }
    }

    /// Begins a read, or joins the one that is under way.
    pub fn start(
        &self,
        remote: &Arc<RemotePartition>,
        from: Offset,
        max_bytes: usize,
    ) -> PendingRemoteRead {
        let key = (remote.topic_id(), remote.topic_partition().partition, from);
        let mut reads = self.reads.lock();
        if let Some(result) = reads.running.get(&key) {
            return PendingRemoteRead {
                key,
                result: result.clone(),
            };
        }
        let (sender, result) = watch::channel(None);
        reads.running.insert(key, result.clone());
        drop(reads);
        let (remote, all) = (Arc::clone(remote), Arc::clone(&self.reads));
        tokio::spawn(async move {
            let read = remote.read(from, max_bytes).await.map(Arc::new);
            // From here on a new reader begins anew, and finds the cache filled.
            all.lock().running.remove(&key);
            sender.send_replace(Some(read));
        });
        PendingRemoteRead { key, result }
    }

    /// Waits for a read. `Err(None)`: it failed, and the consumer should not be told yet.
    pub async fn finish(
        &self,
        mut pending: PendingRemoteRead,
    ) -> Result<Arc<RemoteRead>, Option<RemoteReadError>> {
        let result = match pending.result.wait_for(Option::is_some).await {
            Ok(result) => result.clone(),
            Err(_) => None,
        };
        let (topic_id, partition, _) = pending.key;
        let mut reads = self.reads.lock();
        match result {
            None => Err(None),
            Some(Ok(read)) => {
                reads.failing_since.remove(&(topic_id, partition));
                Ok(read)
            }
            Some(Err(error)) if error.is_retriable() => {
                let now_ms = clock::now_ms();
                let since = *reads
                    .failing_since
                    .entry((topic_id, partition))
                    .or_insert(now_ms);
                Err((now_ms - since >= self.patience_ms).then_some(error))
            }
            Some(Err(error)) => Err(Some(error)),
        }
    }
}
