//! What runs beside the requests: rolling, flushing sealed segments, retention, checkpoints, producer expiry. Unsynced
//! bytes are [`crate::flusher`]'s.
//!
//! Each kind of work has one task and does its disk IO on a blocking thread, one pass after the other. Rolling looks
//! only at partitions that were appended to since their last roll; retention, checkpoints and expiry walk all logs,
//! minutes apart. Retention of tiered topics is the tier's.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use strandline_log::{LogManager, TierView, TopicPartition};
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

/// What partitions tell the background work. Cheap to clone.
#[derive(Clone)]
pub struct Upkeep {
    /// Partitions with records in their active segment.
    open: Arc<Mutex<HashMap<TopicPartition, Arc<Partition>>>>,
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
        self.open
            .lock()
            .insert(partition.topic_partition().clone(), Arc::clone(partition));
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
                    for log in logs.logs() {
                        log.expire_producers(clock::now_ms());
                    }
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
    let open: Vec<Arc<Partition>> = upkeep.open.lock().values().cloned().collect();
    for partition in open {
        if partition.is_closed() {
            upkeep.open.lock().remove(partition.topic_partition());
            continue;
        }
        match partition.log().maybe_roll(now_ms) {
            Ok(rolled) => {
                if rolled {
                    upkeep.sealed(&partition);
                }
                // An append that comes now either is seen here or finds the mark gone and opens it again: it writes
                // first and marks then, and marking takes this lock.
                let mut open = upkeep.open.lock();
                partition.set_open(false);
                if partition.log().active_segment_base_offset() == partition.log().log_end_offset()
                {
                    open.remove(partition.topic_partition());
                } else {
                    partition.set_open(true);
                }
            }
            Err(error) => {
                tracing::error!(partition = %partition.topic_partition(), %error, "could not roll the log");
            }
        }
    }
}

fn retain(logs: &LogManager) {
    let now_ms = clock::now_ms();
    for log in logs.logs() {
        if log.config().remote_storage_enable {
            continue;
        }
        let plan = log.plan_retention(now_ms, &TierView::default());
        if plan.is_empty() {
            continue;
        }
        match log.apply_retention(&plan, now_ms) {
            Ok(deleted) if deleted.segments == 0 => {}
            Ok(deleted) => tracing::info!(
                partition = %log.topic_partition(),
                segments = deleted.segments,
                bytes = deleted.bytes,
                log_start = log.log_start_offset(),
                "retention deleted segments"
            ),
            Err(error) => {
                tracing::error!(partition = %log.topic_partition(), %error, "retention failed")
            }
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
