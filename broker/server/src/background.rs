//! What runs beside the requests: rolling, flushing sealed segments, retention, checkpoints, producer expiry. Unsynced
//! bytes are [`crate::flusher`]'s.
//!
//! Each kind of work has one task and does its disk IO on a blocking thread, one pass after the other. No pass walks all
//! logs: it looks at those that changed since the last one, and at those of which something falls due. Retention of
//! tiered topics is the tier's.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use strandline_log::{Log, LogManager, TierView, TimestampMs, TopicPartition};
use strandline_tiering::Tier;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use crate::clock;
use crate::config::BrokerConfig;
use crate::partition::Partition;
use crate::replica_manager::ReplicaManager;

/// How often open segments' ages are looked at, and files whose time has come are removed.
const ROLL_INTERVAL: Duration = Duration::from_secs(1);
const PURGE_INTERVAL: Duration = Duration::from_secs(15);

/// After a failed roll.
const ROLL_RETRY_MS: TimestampMs = 10_000;

/// Partitions with records in their active segment, by when that is to be sealed.
struct OpenSegments<P> {
    partitions: HashMap<TopicPartition, (TimestampMs, P)>,
    due: BTreeSet<(TimestampMs, TopicPartition)>,
}

impl<P> Default for OpenSegments<P> {
    fn default() -> Self {
        Self {
            partitions: HashMap::new(),
            due: BTreeSet::new(),
        }
    }
}

impl<P> OpenSegments<P> {
    fn insert(&mut self, tp: &TopicPartition, at_ms: TimestampMs, partition: P) {
        self.remove(tp);
        self.due.insert((at_ms, tp.clone()));
        self.partitions.insert(tp.clone(), (at_ms, partition));
    }

    fn remove(&mut self, tp: &TopicPartition) -> Option<P> {
        let (at_ms, partition) = self.partitions.remove(tp)?;
        self.due.remove(&(at_ms, tp.clone()));
        Some(partition)
    }

    /// The next one whose time has come.
    fn pop_due(&mut self, now_ms: TimestampMs) -> Option<P> {
        let (_, tp) = self.due.first().filter(|(at_ms, _)| *at_ms <= now_ms)?;
        let tp = tp.clone();
        self.remove(&tp)
    }

    fn clear(&mut self) {
        *self = Self::default();
    }
}

/// What partitions tell the background work. Cheap to clone.
#[derive(Clone)]
pub struct Upkeep {
    open: Arc<Mutex<OpenSegments<Arc<Partition>>>>,
    sealed: mpsc::UnboundedSender<Arc<Partition>>,
}

impl Upkeep {
    pub fn new() -> (Self, SealedPartitions) {
        let (sealed, receiver) = mpsc::unbounded_channel();
        let upkeep = Self {
            open: Arc::default(),
            sealed,
        };
        (upkeep, SealedPartitions(receiver))
    }

    /// The first append since the partition's last roll.
    pub fn opened(&self, partition: &Arc<Partition>) {
        if let Some(at_ms) = partition.log().rolls_at_ms() {
            let tp = partition.topic_partition();
            self.open.lock().insert(tp, at_ms, Arc::clone(partition));
        }
    }

    /// The partition's settings have changed: its segment may have to be rolled at another time.
    pub fn reconsider(&self, partition: &Arc<Partition>) {
        let tp = partition.topic_partition();
        let mut open = self.open.lock();
        if open.remove(tp).is_some()
            && let Some(at_ms) = partition.log().rolls_at_ms()
        {
            open.insert(tp, at_ms, Arc::clone(partition));
        }
    }

    /// A segment was sealed: it is to be flushed, and then uploaded.
    pub fn sealed(&self, partition: &Arc<Partition>) {
        // Without a receiver the broker is going down, and flushes everything anyway.
        let _ = self.sealed.send(Arc::clone(partition));
    }
}

/// The other end of [`Upkeep`].
pub struct SealedPartitions(mpsc::UnboundedReceiver<Arc<Partition>>);

pub struct Background {
    stop: watch::Sender<bool>,
    upkeep: Upkeep,
    tasks: Mutex<Vec<JoinHandle<()>>>,
}

impl Background {
    pub fn start(
        config: &BrokerConfig,
        replicas: &Arc<ReplicaManager>,
        tier: &Arc<Tier>,
        upkeep: Upkeep,
        sealed: SealedPartitions,
        runtime: &Handle,
    ) -> Self {
        let (stop, stopped) = watch::channel(false);
        let logs = replicas.logs();
        let ms =
            |name: &str| Duration::from_millis(u64::try_from(config.i64(name)).unwrap_or(1).max(1));
        let initial = ms("log.initial.task.delay.ms");
        let every = |interval: Duration, first: Duration, work: Box<dyn Fn() + Send + Sync>| {
            runtime.spawn(repeat(
                interval,
                first.min(interval),
                Arc::from(work),
                stopped.clone(),
            ))
        };
        let work = |logs: &Arc<LogManager>, work: fn(&LogManager)| -> Box<dyn Fn() + Send + Sync> {
            let logs = Arc::clone(logs);
            Box::new(move || work(&logs))
        };
        let roller = upkeep.clone();
        let tasks = vec![
            every(
                ROLL_INTERVAL,
                ROLL_INTERVAL,
                Box::new(move || roll(&roller)),
            ),
            every(
                PURGE_INTERVAL,
                PURGE_INTERVAL,
                work(logs, |logs| {
                    logs.purge(clock::now_ms());
                }),
            ),
            every(
                ms("log.retention.check.interval.ms"),
                initial,
                work(logs, retain),
            ),
            every(
                ms("replica.high.watermark.checkpoint.interval.ms")
                    .min(ms("log.flush.offset.checkpoint.interval.ms")),
                initial,
                work(logs, checkpoint),
            ),
            every(
                ms("producer.id.expiration.check.interval.ms"),
                initial,
                work(logs, |logs| {
                    logs.expire_producers(clock::now_ms());
                }),
            ),
            runtime.spawn(flush_sealed(sealed, Arc::clone(tier), stopped.clone())),
        ];
        Self {
            stop,
            upkeep,
            tasks: Mutex::new(tasks),
        }
    }

    /// Ends the tasks between two passes.
    pub async fn shutdown(&self) {
        self.stop.send_replace(true);
        let tasks = std::mem::take(&mut *self.tasks.lock());
        for task in tasks {
            if task.await.is_err() {
                tracing::error!("a background task had failed by a bug");
            }
        }
        // Partitions know the upkeep, and it must not keep them for ever.
        self.upkeep.open.lock().clear();
    }
}

async fn repeat(
    interval: Duration,
    first: Duration,
    work: Arc<dyn Fn() + Send + Sync>,
    mut stopped: watch::Receiver<bool>,
) {
    let mut wait = first;
    loop {
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            _ = stopped.wait_for(|stopped| *stopped) => return,
        }
        wait = interval;
        let pass = Arc::clone(&work);
        if tokio::task::spawn_blocking(move || pass()).await.is_err() {
            tracing::error!("a pass of background work failed by a bug");
        }
    }
}

/// Seals segments that are as old as their topic lets them get.
fn roll(upkeep: &Upkeep) {
    let now_ms = clock::now_ms();
    loop {
        let Some(partition) = upkeep.open.lock().pop_due(now_ms) else {
            return;
        };
        if partition.is_closed() {
            continue;
        }
        let again_ms = match partition.log().maybe_roll(now_ms) {
            Ok(rolled) => {
                if rolled {
                    upkeep.sealed(&partition);
                }
                // An append that comes now either is seen below or finds the mark gone and enters the partition itself:
                // it writes first and marks then.
                partition.set_open(false);
                // Of a segment that was rolled meanwhile by its size, the time has not come.
                partition.log().rolls_at_ms()
            }
            Err(error) => {
                tracing::error!(partition = %partition.topic_partition(), %error, "could not roll the log");
                Some(now_ms.saturating_add(ROLL_RETRY_MS))
            }
        };
        if let Some(at_ms) = again_ms {
            partition.set_open(true);
            // Not this pass again, whatever its settings say.
            let at_ms = at_ms.max(now_ms.saturating_add(1));
            let tp = partition.topic_partition().clone();
            upkeep.open.lock().insert(&tp, at_ms, partition);
        }
    }
}

fn retain(logs: &LogManager) {
    let now_ms = clock::now_ms();
    for log in logs.due_for_retention(now_ms) {
        let succeeded = log.config().remote_storage_enable || retain_log(&log, now_ms);
        logs.retained(&log, succeeded, now_ms);
    }
}

fn retain_log(log: &Log, now_ms: TimestampMs) -> bool {
    let plan = log.plan_retention(now_ms, &TierView::default());
    if plan.is_empty() {
        return true;
    }
    match log.apply_retention(&plan, now_ms) {
        Ok(deleted) => {
            if deleted.segments > 0 {
                tracing::info!(
                    partition = %log.topic_partition(),
                    segments = deleted.segments,
                    bytes = deleted.bytes,
                    log_start = log.log_start_offset(),
                    "retention deleted segments"
                );
            }
            true
        }
        Err(error) => {
            tracing::error!(partition = %log.topic_partition(), %error, "retention failed");
            false
        }
    }
}

fn checkpoint(logs: &LogManager) {
    if let Err(error) = logs.checkpoint() {
        tracing::error!(%error, "could not write the checkpoints");
    }
}

/// Flushes what was sealed, one partition after the other, and tells the tier of it.
async fn flush_sealed(
    mut sealed: SealedPartitions,
    tier: Arc<Tier>,
    mut stopped: watch::Receiver<bool>,
) {
    loop {
        let partition = tokio::select! {
            partition = sealed.0.recv() => partition,
            _ = stopped.wait_for(|stopped| *stopped) => return,
        };
        let Some(partition) = partition else { return };
        let log = Arc::clone(partition.log());
        match tokio::task::spawn_blocking(move || log.flush_sealed()).await {
            Ok(Ok(_)) => {
                if partition.remote().is_some() {
                    tier.notify_sealed(partition.topic_partition());
                }
            }
            Ok(Err(error)) => {
                tracing::error!(partition = %partition.topic_partition(), %error, "could not flush a sealed segment");
            }
            Err(_) => tracing::error!("flushing a sealed segment failed by a bug"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tick_sees_only_segments_whose_time_has_come() {
        let tp = |number| TopicPartition::new("t", number);
        let mut open = OpenSegments::default();
        for number in 0..1_000 {
            open.insert(&tp(number), 1_000 + i64::from(number), number);
        }
        let mut looks = 0;
        for now_ms in 0..1_000 {
            looks += usize::from(open.pop_due(now_ms).is_some());
        }
        assert_eq!(looks, 0, "nothing was due");
        assert_eq!(open.pop_due(1_001), Some(0));
        open.insert(&tp(1), 5_000, 1);
        assert_eq!(open.pop_due(1_001), None, "it was entered for later");
        open.remove(&tp(2));
        assert_eq!(open.pop_due(1_003), Some(3));
        assert_eq!(open.pop_due(1_003), None);
        assert_eq!((open.partitions.len(), open.due.len()), (997, 997));
    }
}
