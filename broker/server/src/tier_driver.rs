//! Between partitions and the remote tier: who leads what, and remote reads that outlive those who wait for them.
//!
//! A fetch below the local start begins a read and waits for it as long as it may. The read itself is never cancelled:
//! it fills the cache, and the consumer's next fetch finds it. Readers of one position share one read. A partition's
//! failures are kept from consumers until they have lasted for remote.fetch.patience.ms.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use strandline_core::metadata::{PartitionImage, first_leader_epoch};
use strandline_log::{Offset, TimestampMs, TopicId};
use strandline_tiering::{
    Fence, LeaderPartition, RemotePartition, RemoteRead, RemoteReadError, Settled, Tier,
};
use tokio::sync::{Semaphore, watch};

use crate::clock;
use crate::partition::Partition;

const SETTLE_RETRY_MIN: Duration = Duration::from_millis(100);
const SETTLE_RETRY_MAX: Duration = Duration::from_secs(5);
/// Partitions that are compared with the tier at the same time.
const SETTLING_MAX: usize = 16;

/// Tells the tier what this broker leads.
pub struct TierDriver {
    tier: Arc<Tier>,
    settling: Arc<Semaphore>,
    /// Topics that were brought back: they are new to the quorum, and the tier holds history of theirs.
    undeleted: Mutex<HashSet<TopicId>>,
}

impl TierDriver {
    pub fn new(tier: Arc<Tier>) -> Self {
        Self {
            tier,
            settling: Arc::new(Semaphore::new(SETTLING_MAX)),
            undeleted: Mutex::default(),
        }
    }

    /// Places for [`settle`](Self::settle).
    pub fn settling(&self) -> Arc<Semaphore> {
        Arc::clone(&self.settling)
    }

    /// Before the topic is made again.
    pub fn expect_history(&self, topic_id: TopicId) {
        self.undeleted.lock().insert(topic_id);
    }

    pub fn tier(&self) -> &Arc<Tier> {
        &self.tier
    }

    /// Before a term begins. `Some`: the partition may not be led before [`settle`](Self::settle) has ended, because the
    /// local log may lack what the tier holds (design, decision 8). Blocks on a small file.
    pub fn must_settle(
        &self,
        partition: &Partition,
        incarnation: u32,
        wanted: &PartitionImage,
    ) -> Option<Arc<RemotePartition>> {
        let (log, leader_epoch) = (partition.log(), wanted.leader_epoch);
        if !log.config().remote_storage_enable || !self.tier.config().enabled {
            return None;
        }
        let fence = Fence::new(u64::from(incarnation), leader_epoch);
        let led = partition.remote().is_some_and(|r| r.fence() == fence);
        // Switched on while it is led: nothing was tiered that this log does not hold.
        if led || partition.check_leader(leader_epoch).is_ok() {
            return None;
        }
        let remote = self.tier.lead_unsettled(LeaderPartition {
            tp: partition.topic_partition().clone(),
            topic_id: partition.topic_id(),
            fence,
            log: Arc::clone(log),
        });
        // In a topic's first term nobody has tiered anything before.
        let only_replica = wanted.replicas.len() == 1;
        let is_first_term = !self.undeleted.lock().contains(&partition.topic_id())
            && leader_epoch == first_leader_epoch(incarnation)
            && log.log_end_offset() == 0;
        let covered =
            (is_first_term && remote.assume_covered().is_ok()) || remote.is_covered(only_replica);
        if covered {
            partition.set_remote(Some(remote));
            return None;
        }
        Some(remote)
    }

    /// Makes the log go on where the tier ends, however long the store is away. `None` when the term was over before.
    pub async fn settle(remote: &RemotePartition, places: &Semaphore) -> Option<Settled> {
        let mut wait = SETTLE_RETRY_MIN;
        loop {
            if remote.is_gone() {
                return None;
            }
            let place = places.acquire().await;
            match remote.settle(clock::now_ms()).await {
                Ok(settled) => {
                    tracing::debug!(partition = %remote.topic_partition(), ?settled, "compared with the tier");
                    return (!remote.is_gone()).then_some(settled);
                }
                Err(error) => tracing::warn!(
                    partition = %remote.topic_partition(), %error,
                    "not led yet: whether the local log holds what the tier does is not known; it is tried again"
                ),
            }
            drop(place);
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(SETTLE_RETRY_MAX);
        }
    }

    /// After a term has begun, or the topic's settings have changed.
    pub fn lead(&self, partition: &Partition, incarnation: u32, leader_epoch: i32) {
        let log = partition.log();
        let config = log.config();
        let tiered = config.remote_storage_enable;
        // What is remote of a topic that gave its tier up is still to be deleted.
        if !self.tier.config().enabled || !(tiered || config.remote_log_delete_on_disable) {
            self.resign(partition);
            return;
        }
        let fence = Fence::new(u64::from(incarnation), leader_epoch);
        if tiered
            && partition
                .remote()
                .is_some_and(|remote| remote.fence() == fence)
        {
            return;
        }
        if let Some(known) = self.tier.partition(partition.topic_partition())
            && known.fence() == fence
            && !known.is_gone()
        {
            // It was settled for this term.
            if !tiered {
                give_up(&known);
            }
            self.tier.notify_sealed(partition.topic_partition());
            partition.set_remote(tiered.then_some(known));
            return;
        }
        let remote = self.tier.lead(LeaderPartition {
            tp: partition.topic_partition().clone(),
            topic_id: partition.topic_id(),
            fence,
            log: Arc::clone(log),
        });
        if !tiered {
            give_up(&remote);
        } else if let Err(error) = remote.assume_covered() {
            tracing::warn!(partition = %partition.topic_partition(), %error, "the next start has to ask the tier");
        }
        partition.set_remote(tiered.then_some(remote));
    }

    pub fn resign(&self, partition: &Partition) {
        let tp = partition.topic_partition();
        if partition.remote().is_some() || self.tier.partition(tp).is_some() {
            self.tier.resign(partition.topic_partition());
            partition.set_remote(None);
        }
    }
}

fn give_up(remote: &RemotePartition) {
    if let Err(error) = remote.begin_to_give_up() {
        let partition = remote.topic_partition();
        tracing::error!(%partition, %error, "tiering was switched off; it may not be switched on again before the store has answered");
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
