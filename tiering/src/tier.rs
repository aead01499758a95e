//! The remote tier of one broker: what it leads, and the workers that upload, expire and remove.
//!
//! - The dispatcher hands partitions to at most remote.log.manager.copier.thread.pool.size tasks, fair over topics.
//! - The tails' worker bounds what the bucket lacks of unsealed segments, when it is asked to.
//! - The collector removes what no manifest names any more, and deleted topics.
//! - All are supervised: one that dies is logged, counted and started again. A store that is away delays them and
//!   remote reads, and nothing else.
//! - A stop is a flag that is read between steps.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use strandline_log::{TimestampMs, TopicId, TopicPartition};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use crate::bucket_reader::{StateError, write_state};
use crate::cache::{CacheMetrics, ChunkCache};
use crate::clock::Clock;
use crate::collector;
use crate::config::TierConfig;
use crate::core::Core;
use crate::exposure::ExposureMetrics;
use crate::format::TopicMarker;
use crate::garbage::{Removal, What};
use crate::health::{DiskPressure, PartitionHealth, TierHealth};
use crate::id_source::IdSource;
use crate::metrics::TierMetrics;
use crate::reader::{SegmentReader, TailCache};
use crate::remote_partition::{LeaderPartition, RemotePartition};
use crate::store::{
    Purpose, RemoteStore, RequestBudgets, RequestCount, S3Options, StoreError, StoreMetrics,
    StoreUrl,
};
use crate::supervise::supervise;
use crate::tails;
use crate::undelete::{self, UndeleteError};
use crate::uploader::{Next, Stay};

/// A worker that waits looks at the time again at least this often.
const IDLE_MS_MAX: i64 = 60_000;
/// The rest of a partition whose task died.
const DEAD_TASK_REST_MS: i64 = 30_000;

/// Why a tier cannot be made: settings that can never work. A store that is away is no such reason.
#[derive(Debug, thiserror::Error)]
pub enum TierError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("metrics: {0}")]
    Metrics(#[from] prometheus::Error),
}

impl TierConfig {
    /// The store that the settings name. Touches neither disk nor network.
    pub fn open_store(&self, metrics: StoreMetrics) -> Result<RemoteStore, StoreError> {
        let url: StoreUrl = self.url.parse()?;
        let s3 = S3Options {
            endpoint: self.s3.endpoint.clone(),
            region: self.s3.region.clone(),
            path_style: self.s3.path_style,
            access_key_id: self.s3.access_key_id.clone(),
            secret_access_key: self.s3.secret_access_key.clone(),
            objects: self.s3.objects.clone(),
            read_timeout_ms: self.stall_ms as u64,
            ..S3Options::default()
        };
        let budgets = RequestBudgets::parse(&self.request_budgets)
            .map_err(|what| StoreError::Invalid { what })?;
        Ok(RemoteStore::open(&url, &s3, metrics)?.with_budgets(budgets))
    }
}

struct Led {
    partition: Arc<RemotePartition>,
    stay: Stay,
}

pub struct Tier {
    core: Arc<Core>,
    led: RwLock<HashMap<TopicPartition, Led>>,
    copiers: Arc<Semaphore>,
    workers: Mutex<Vec<JoinHandle<()>>>,
    begun_ms: TimestampMs,
}

impl Tier {
    /// Touches neither disk nor store. `seed` must be fresh per process: the names in the bucket come from it.
    pub fn new(
        config: TierConfig,
        cluster_id: &str,
        registry: &prometheus::Registry,
        seed: [u8; 32],
    ) -> Result<Arc<Self>, TierError> {
        let store = config.open_store(StoreMetrics::register(registry)?)?;
        Self::with_store(config, cluster_id, store, registry, seed, Clock::system())
    }

    /// With a store and a clock of the caller's: tests and simulations.
    pub fn with_store(
        config: TierConfig,
        cluster_id: &str,
        store: RemoteStore,
        registry: &prometheus::Registry,
        seed: [u8; 32],
        clock: Clock,
    ) -> Result<Arc<Self>, TierError> {
        let metrics = TierMetrics::new(registry)?;
        let chunks = Arc::new(ChunkCache::new(
            config.cache_dir.clone(),
            config.cache_bytes_max,
            CacheMetrics::from(&metrics),
        ));
        let reader = SegmentReader::new(
            store.with_purpose(Purpose::Read),
            chunks,
            Arc::new(TailCache::new(config.index_cache_bytes_max)),
            config.chunk_bytes,
            config.readers_max,
            config.reads_pending_max,
        );
        let copiers = Arc::new(Semaphore::new(config.copiers_max));
        let begun_ms = clock.now_ms();
        let core = Core::new(
            config,
            cluster_id.to_owned(),
            store,
            IdSource::from_seed(seed),
            clock,
            metrics,
            reader,
        );
        let tier = Arc::new(Self {
            core: Arc::new(core),
            led: RwLock::default(),
            copiers,
            workers: Mutex::default(),
            begun_ms,
        });
        let exposure = ExposureMetrics::new(Arc::downgrade(&tier))?;
        registry.register(Box::new(exposure))?;
        Ok(tier)
    }

    pub(crate) fn core(&self) -> &Arc<Core> {
        &self.core
    }

    pub fn config(&self) -> &TierConfig {
        &self.core.config
    }

    pub fn metrics(&self) -> &TierMetrics {
        &self.core.metrics
    }

    /// Whether anything was tiered by this process, and the store can be used.
    pub fn is_used(&self) -> bool {
        self.core.is_probed()
    }

    /// Replaces an object of the cluster's state, unless a newer incarnation has written it.
    pub async fn write_state(
        &self,
        key: &str,
        incarnation: u64,
        bytes: bytes::Bytes,
    ) -> Result<(), StateError> {
        let store = self.core.store.with_purpose(Purpose::State);
        write_state(&store, key, incarnation, bytes).await
    }

    /// Topics that somebody has brought back, and that are to be made again: one listing.
    pub async fn undeleted_topics(&self) -> Result<Vec<TopicMarker>, UndeleteError> {
        let store = self.core.store.with_purpose(Purpose::State);
        undelete::notices(&store, &self.core.cluster_id).await
    }

    /// The topic is there.
    pub async fn forget_undeleted(&self, topic_id: TopicId) -> Result<(), UndeleteError> {
        let store = self.core.store.with_purpose(Purpose::State);
        undelete::forget_notice(&store, &self.core.cluster_id, &topic_id).await
    }

    pub fn cluster_id(&self) -> &str {
        &self.core.cluster_id
    }

    /// The object store, for tools in the same process.
    pub fn store(&self) -> &RemoteStore {
        &self.core.store
    }

    /// The chunk cache's folder is scanned and the workers start, on the runtime's threads.
    pub fn start(self: &Arc<Self>, runtime: Handle) {
        let _entered = runtime.enter();
        let chunks = Arc::clone(self.core.reader.chunks());
        tokio::task::spawn_blocking(move || match chunks.scan() {
            Ok(found) => tracing::debug!(found, "the chunk cache was taken over"),
            Err(error) => {
                tracing::warn!(%error, dir = %chunks.dir().display(), "cannot read the chunk cache's folder");
            }
        });
        let restarted = &self.core.metrics.workers_restarted;
        let mut workers = self.workers.lock();
        let tier = Arc::clone(self);
        workers.push(supervise(
            "dispatcher",
            self.core.stop(),
            restarted.clone(),
            move || Arc::clone(&tier).dispatch(),
        ));
        let tier = Arc::clone(self);
        workers.push(supervise(
            "tails",
            self.core.stop(),
            restarted.clone(),
            move || tails::run(Arc::clone(&tier)),
        ));
        let core = Arc::clone(&self.core);
        workers.push(supervise(
            "collector",
            self.core.stop(),
            restarted.clone(),
            move || collector::run(Arc::clone(&core)),
        ));
    }

    /// Stops between steps; what was begun is finished, the rest is left to the next start.
    pub async fn shutdown(&self) {
        self.core.stop.send_replace(true);
        let workers = std::mem::take(&mut *self.workers.lock());
        for worker in workers {
            if let Err(error) = worker.await {
                tracing::error!(%error, "a supervisor of the tier died");
            }
        }
        // Tasks that were handed out hold permits.
        let copiers = u32::try_from(self.core.config.copiers_max).unwrap_or(u32::MAX);
        let _all = self.copiers.acquire_many(copiers).await;
        self.core.reader.close().await;
    }

    /// This broker leads the partition now. Replaces what an earlier epoch had. Does no IO. The log must hold all that
    /// the manifest names: a fresh topic's, or one that was led until now.
    pub fn lead(&self, leader: LeaderPartition) -> Arc<RemotePartition> {
        self.lead_with(leader, true)
    }

    /// As [`lead`](Self::lead), but nothing is done until [`RemotePartition::settle`] has succeeded.
    pub fn lead_unsettled(&self, leader: LeaderPartition) -> Arc<RemotePartition> {
        self.lead_with(leader, false)
    }

    fn lead_with(&self, leader: LeaderPartition, settled: bool) -> Arc<RemotePartition> {
        let tp = leader.tp.clone();
        let counted = self.core.store.metrics();
        counted.name_topic(leader.topic_id, &tp.topic);
        let partition = Arc::new(RemotePartition::new(Arc::clone(&self.core), leader));
        partition.set_settled(settled);
        let mut led = self.led.write();
        let stay = self.core.schedule.lock().add(&tp);
        let replaced = led.insert(
            tp,
            Led {
                partition: Arc::clone(&partition),
                stay,
            },
        );
        drop(led);
        if let Some(old) = replaced {
            old.partition.leave();
        }
        self.core.schedule_changed.notify_one();
        partition
    }

    /// This broker no longer leads it.
    pub fn resign(&self, tp: &TopicPartition) {
        let mut led = self.led.write();
        self.core.schedule.lock().remove(tp);
        let left = led.remove(tp);
        drop(led);
        if let Some(left) = left {
            left.partition.leave();
        }
    }

    pub fn partition(&self, tp: &TopicPartition) -> Option<Arc<RemotePartition>> {
        let led = self.led.read();
        led.get(tp).map(|led| Arc::clone(&led.partition))
    }

    /// A segment was sealed, or the high watermark passed the end of one: look at the partition soon.
    pub fn notify_sealed(&self, tp: &TopicPartition) {
        self.core.schedule.lock().wake(tp);
        self.core.schedule_changed.notify_one();
    }

    /// The topic is gone: its remote log is hidden as soon as the store answers, and its objects are removed in the
    /// background after remote.log.delete.delay.ms, also when this process dies before. Blocks on a small file.
    pub fn delete_topic(&self, topic: &str, topic_id: TopicId, partitions: i32) {
        let name: Arc<str> = topic.into();
        for number in 0..partitions {
            let tp = TopicPartition::new(Arc::clone(&name), number);
            let is_ours = self
                .partition(&tp)
                .is_some_and(|led| led.topic_id() == topic_id);
            if is_ours {
                self.resign(&tp);
            }
        }
        if let Err(error) = self.core.journal.note(topic, topic_id, partitions) {
            tracing::error!(topic, %error, "after a crash the deleted topic's objects may stay in the store");
        }
        let hide = What::Topic {
            topic_id,
            partitions,
            again: false,
        };
        let removal = Removal::new(&name, hide);
        if !self.core.garbage.push(removal, self.core.clock.now_ms()) {
            tracing::warn!(
                topic,
                "too many removals wait; the deleted topic's objects stay until the next start"
            );
        }
    }

    pub(crate) fn now_ms(&self) -> TimestampMs {
        self.core.clock.now_ms()
    }

    /// All that this broker leads: for reports.
    pub(crate) fn partitions(&self) -> Vec<Arc<RemotePartition>> {
        let led = self.led.read();
        led.values().map(|led| Arc::clone(&led.partition)).collect()
    }

    /// What an operator should know. Walks all partitions: for a report, not for a timer.
    pub fn health(&self) -> TierHealth {
        let led = self.led.read();
        let mut health = TierHealth {
            enabled: self.core.config.enabled,
            partitions: led.len(),
            store_error: self.core.store_error.lock().as_deref().map(str::to_owned),
            workers_restarted: self.core.metrics.workers_restarted.get(),
            removals_waiting: self.core.garbage.waiting(),
            ..TierHealth::default()
        };
        let now_ms = self.core.clock.now_ms();
        let overdue_ms = self.core.config.copy_overdue_ms;
        for partition in led.values().map(|led| &led.partition) {
            let status = partition.status();
            health.lag_bytes += status.lag_bytes;
            health.lag_segments += status.lag_segments;
            health.lag_ms_max = health.lag_ms_max.max(status.lag_ms(now_ms));
            if status.is_overdue(now_ms, overdue_ms) {
                health.troubled.push(PartitionHealth {
                    tp: partition.topic_partition().clone(),
                    uploaded_end: partition.uploaded_end(),
                    status,
                });
            }
        }
        health.troubled.sort_by(|a, b| a.tp.cmp(&b.tp));
        health
    }

    /// What keeps a log folder's disk full. Walks all partitions: only for a disk that runs full.
    pub fn disk_pressure(&self, log_dir: &Path) -> DiskPressure {
        let now_ms = self.core.clock.now_ms();
        let mut pressure = DiskPressure::default();
        for led in self.led.read().values() {
            if led.partition.log().dir().parent() != Some(log_dir) {
                continue;
            }
            let status = led.partition.status();
            // As it is now: a status is as old as the last turn.
            pressure.waiting_bytes += led.partition.unprotected().bytes;
            let overdue = status.is_overdue(now_ms, self.core.config.copy_overdue_ms);
            pressure.overdue += usize::from(overdue);
        }
        pressure
    }

    /// Lets history expire also while the store is away: `keep` makes the logs' starts outlive a crash, and blocks.
    /// Once, before the start.
    pub fn keep_log_starts_with(
        &self,
        keep: impl Fn() -> Result<(), String> + Send + Sync + 'static,
    ) {
        if self.core.keep_log_starts.set(Arc::new(keep)).is_err() {
            tracing::error!("the log starts' keeper was set twice; this is a bug");
        }
    }

    /// Every partition's upload as JSON: state, error, since when, until when. Walks all partitions.
    pub fn report_json(&self) -> String {
        let mut partitions = self.partitions();
        partitions.sort_by(|a, b| a.topic_partition().cmp(b.topic_partition()));
        let partitions: Vec<_> = partitions
            .iter()
            .map(|partition| {
                let (tp, status) = (partition.topic_partition(), partition.status());
                let unprotected = partition.unprotected();
                serde_json::json!({
                    "topic": &*tp.topic,
                    "partition": tp.partition,
                    "state": status.state.as_str(),
                    "settled": partition.is_settled(),
                    "uploaded_end": partition.uploaded_end(),
                    "lag_bytes": status.lag_bytes,
                    "lag_segments": status.lag_segments,
                    "lag_since_ms": status.lag_since_ms,
                    "remote_bytes": status.remote_bytes,
                    "failures": status.failures,
                    "error": status.last_error,
                    "trouble_since_ms": status.trouble_since_ms,
                    "next_try_ms": status.next_try_ms,
                    "caught_up_at_ms": status.caught_up_at_ms,
                    "unprotected_records": unprotected.records,
                    "unprotected_bytes": unprotected.bytes,
                    "unprotected_since_ms": unprotected.since_ms,
                    "damaged": partition
                        .damages()
                        .iter()
                        .map(|(start, damage)| serde_json::json!({
                            "start": start,
                            "end": damage.end,
                            "key": damage.key,
                            "cause": damage.cause,
                            "since_ms": damage.since_ms,
                        }))
                        .collect::<Vec<_>>(),
                })
            })
            .collect();
        serde_json::json!({
            "enabled": self.core.config.enabled,
            "store": self.core.config.url,
            "store_error": self.core.store_error.lock().as_deref(),
            "removals_waiting": self.core.garbage.waiting(),
            "now_ms": self.now_ms(),
            "counted_since_ms": self.begun_ms,
            "requests": counted(self.core.store.metrics().request_counts()),
            "bytes": counted(self.core.store.metrics().byte_counts()),
            "partitions": partitions,
        })
        .to_string()
    }

    /// Hands out turns until the stop.
    async fn dispatch(self: Arc<Self>) {
        let stop = self.core.stop();
        while !stop.is_set() {
            let permit = tokio::select! {
                permit = Arc::clone(&self.copiers).acquire_owned() => permit,
                () = stop.wait() => break,
            };
            let Ok(permit) = permit else { break };
            let now_ms = self.core.clock.now_ms();
            let (next, due_ms) = {
                let mut schedule = self.core.schedule.lock();
                (schedule.next(now_ms), schedule.next_due_ms())
            };
            let Some((tp, stay)) = next else {
                drop(permit);
                tokio::select! {
                    () = self.core.schedule_changed.notified() => {}
                    () = tokio::time::sleep(until(due_ms, now_ms)) => {}
                    () = stop.wait() => {}
                }
                continue;
            };
            let tier = Arc::clone(&self);
            tokio::spawn(async move {
                let next = tier.turn(&tp, stay).await;
                tier.core.schedule.lock().finished(&tp, stay, next);
                drop(permit);
                tier.core.schedule_changed.notify_one();
            });
        }
    }

    async fn turn(&self, tp: &TopicPartition, stay: Stay) -> Next {
        let led = self
            .led
            .read()
            .get(tp)
            .map(|led| (Arc::clone(&led.partition), led.stay));
        let now_ms = self.core.clock.now_ms();
        let Some((partition, _)) = led.filter(|(_, current)| *current == stay) else {
            return Next::At(now_ms.saturating_add(IDLE_MS_MAX));
        };
        match tokio::spawn(async move { partition.take_turn().await }).await {
            Ok(next) => next,
            Err(died) => {
                self.core.metrics.workers_restarted.inc();
                tracing::error!(partition = %tp, error = %died, "a partition's remote task died; it is started again");
                Next::NotBefore(now_ms.saturating_add(DEAD_TASK_REST_MS))
            }
        }
    }
}

fn counted(lines: Vec<RequestCount>) -> Vec<serde_json::Value> {
    let lines = lines.into_iter().map(|line| {
        serde_json::json!({
            "class": line.class, "purpose": line.purpose, "topic": line.topic, "count": line.count,
        })
    });
    lines.collect()
}

/// How long to sleep for something that is due then.
pub(crate) fn until(due_ms: Option<TimestampMs>, now_ms: TimestampMs) -> Duration {
    let wait_ms = due_ms.map_or(IDLE_MS_MAX, |due_ms| {
        due_ms.saturating_sub(now_ms).clamp(1, IDLE_MS_MAX)
    });
    Duration::from_millis(wait_ms as u64)
}

mod final_upload;
#[cfg(test)]
mod tests;
