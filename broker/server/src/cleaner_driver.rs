//! The cleaner's threads: they take the dirtiest log, clean it, and rest when there is none.
//!
//! What is cleaned, and how, is decided in `strandline-compaction`. Here are the threads, the clock, the rate limit's
//! waiting, the metrics and the log lines. The threads have a lower priority than those that serve: cleaning may wait. A
//! partition that cannot be cleaned is set aside, and the others go on.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use prometheus::Registry;
use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use strandline_compaction::{
    CleanError, Cleaned, Cleaner, CleanerConfig, CleanerMetrics, Grabbed, LogCleanerManager,
    Throttler,
};
use strandline_log::{LogError, LogManager};

use crate::clock;
use crate::ids;

/// Added to the threads' niceness.
const NICE: i32 = 5;
/// A full disk or an offline folder is not asked more often.
const FAILURE_PAUSE: Duration = Duration::from_secs(60);

pub struct CleanerDriver {
    worker: Arc<Worker>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

struct Worker {
    logs: Arc<LogManager>,
    manager: Arc<LogCleanerManager>,
    cleaner: Cleaner,
    throttler: Throttler,
    metrics: CleanerMetrics,
    backoff: Duration,
    stopping: AtomicBool,
    /// Held only to wait.
    resting: Mutex<()>,
    woken: Condvar,
}

impl CleanerDriver {
    /// Starts the threads, unless log.cleaner.enable says not to. The logs must be loaded.
    pub fn start(
        values: &BTreeMap<String, String>,
        logs: &Arc<LogManager>,
        registry: &Registry,
    ) -> anyhow::Result<Self> {
        let config = CleanerConfig::from_map(values);
        let manager = Arc::new(LogCleanerManager::new(&logs.dirs()));
        registry.register(Box::new(TimeSinceLastRun::new(Arc::clone(&manager))?))?;
        let worker = Arc::new(Worker {
            logs: Arc::clone(logs),
            manager,
            throttler: Throttler::new(config.io_bytes_per_second_max),
            metrics: CleanerMetrics::new(registry)?,
            backoff: Duration::from_millis(config.backoff_ms.max(1)),
            stopping: AtomicBool::new(false),
            resting: Mutex::new(()),
            woken: Condvar::new(),
            cleaner: Cleaner::new(config.clone(), ids::seed()),
        });
        let count = if config.enable { config.threads } else { 0 };
        if count == 0 {
            tracing::warn!("the log cleaner is off: compacted topics grow for ever");
        }
        let threads = (0..count)
            .map(|i| {
                let worker = Arc::clone(&worker);
                std::thread::Builder::new()
                    .name(format!("log-cleaner-{i}"))
                    .spawn(move || worker.run())
            })
            .collect::<Result<_, _>>()?;
        Ok(Self {
            worker,
            threads: Mutex::new(threads),
        })
    }

    /// Ends the threads; a round that is under way is given up.
    pub async fn shutdown(&self) {
        self.worker.stop();
        let threads = std::mem::take(&mut *self.threads.lock());
        let joined = tokio::task::spawn_blocking(move || {
            threads.into_iter().all(|thread| thread.join().is_ok())
        });
        if !matches!(joined.await, Ok(true)) {
            tracing::error!("a cleaner thread had died; this is a bug");
        }
    }
}

impl Worker {
    fn stop(&self) {
        let resting = self.resting.lock();
        self.stopping.store(true, Ordering::Release);
        drop(resting);
        self.woken.notify_all();
    }

    fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    /// Waits, at most until it is time to stop.
    fn rest(&self, time: Duration) {
        let deadline = clock::now() + time;
        let mut resting = self.resting.lock();
        while !self.is_stopping() {
            if self.woken.wait_until(&mut resting, deadline).timed_out() {
                return;
            }
        }
    }

    fn run(&self) {
        // On Linux this is the calling thread's alone. Refused, the thread is as important as the others.
        let _ = rustix::process::nice(NICE);
        while !self.is_stopping() {
            let cleaned = catch_unwind(AssertUnwindSafe(|| self.clean_filthiest()));
            if cleaned.is_err() {
                tracing::error!("a round of cleaning failed by a bug");
                self.metrics.failures.inc();
            }
            if !matches!(cleaned, Ok(true)) {
                self.rest(self.backoff);
            }
        }
    }

    /// True when there may be more to do at once.
    fn clean_filthiest(&self) -> bool {
        let now_ms = clock::now_ms();
        let grabbed = self.manager.grab_filthiest(&self.logs.logs(), now_ms);
        self.show_seen();
        let Some(grabbed) = grabbed else {
            return false;
        };
        let guard = GiveBack {
            manager: &self.manager,
            grabbed: &grabbed,
        };
        let begun = clock::now();
        let result = self
            .cleaner
            .clean(&grabbed.log, &grabbed.plan, now_ms, &mut |bytes| {
                self.pace(bytes)
            });
        let took = begun.elapsed();
        self.metrics.seconds.inc_by(took.as_secs_f64());
        match result {
            Ok(cleaned) => {
                std::mem::forget(guard);
                self.manager.done(&grabbed.log, cleaned.end_offset);
                self.show_cleaned(&grabbed, &cleaned, took);
                true
            }
            Err(CleanError::Stopped) => false,
            Err(CleanError::Changed) => {
                std::mem::forget(guard);
                self.postpone(&grabbed, self.backoff);
                true
            }
            Err(CleanError::Log(error)) => {
                std::mem::forget(guard);
                self.failed(&grabbed, &error);
                true
            }
        }
    }

    fn pace(&self, bytes: u64) -> ControlFlow<()> {
        let wait = self.throttler.observe(bytes, clock::now());
        if !wait.is_zero() {
            self.rest(wait);
        }
        if self.is_stopping() {
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    }

    fn postpone(&self, grabbed: &Grabbed, time: Duration) {
        let ms = i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
        let until_ms = clock::now_ms().saturating_add(ms);
        self.manager.postpone(&grabbed.log, until_ms);
    }

    fn failed(&self, grabbed: &Grabbed, error: &LogError) {
        let log = &grabbed.log;
        let partition = log.topic_partition();
        if log.is_closed() {
            self.manager.give_back(log);
            return;
        }
        self.metrics.failures.inc();
        let passes = match error {
            LogError::Storage(e) => e.is_full() || e.is_harmless(),
            LogError::Offline(_) | LogError::Closed => true,
            _ => false,
        };
        if passes {
            tracing::warn!(%partition, %error, "cleaning failed and is tried again");
            self.postpone(grabbed, FAILURE_PAUSE);
            return;
        }
        self.manager.set_aside(log);
        self.show_seen();
        tracing::error!(
            %partition,
            %error,
            "the partition cannot be cleaned and is set aside until the next start"
        );
    }

    fn show_seen(&self) {
        let seen = self.manager.seen();
        let metrics = &self.metrics;
        let whole = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        metrics
            .uncleanable_partitions
            .set(whole(seen.uncleanable_partitions as u64));
        metrics.uncleanable_bytes.set(whole(seen.uncleanable_bytes));
        metrics
            .max_dirty_percent
            .set((seen.max_dirty_ratio * 100.0) as i64);
        metrics
            .max_compaction_delay_secs
            .set(seen.max_compaction_delay_ms / 1_000);
    }

    fn show_cleaned(&self, grabbed: &Grabbed, cleaned: &Cleaned, took: Duration) {
        let (stats, metrics) = (&cleaned.stats, &self.metrics);
        let bytes_read = stats.map_bytes_read + stats.bytes_read;
        metrics.runs.inc();
        metrics.bytes_read.inc_by(bytes_read);
        metrics.bytes_written.inc_by(stats.bytes_written);
        metrics.records_read.inc_by(stats.records.read);
        metrics.records_written.inc_by(stats.records.kept);
        metrics.invalid_records.inc_by(stats.records.invalid);
        metrics
            .max_buffer_utilization_percent
            .set((stats.map_utilization * 100.0) as i64);
        metrics.recopy_percent.set(
            i64::try_from(100 * stats.bytes_written / stats.bytes_read.max(1)).unwrap_or(i64::MAX),
        );
        metrics.max_clean_time_secs.set(took.as_secs_f64());
        tracing::info!(
            partition = %grabbed.log.topic_partition(),
            from = grabbed.plan.first_dirty,
            to = cleaned.end_offset,
            bytes_read,
            bytes_written = stats.bytes_written,
            records_read = stats.records.read,
            records_kept = stats.records.kept,
            segments_before = stats.segments_before,
            segments_after = stats.segments_after,
            took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
            "cleaned the log"
        );
    }
}

/// Gives a log back when its round ends in any way that nobody has taken care of, a panic too.
struct GiveBack<'a> {
    manager: &'a LogCleanerManager,
    grabbed: &'a Grabbed,
}

impl Drop for GiveBack<'_> {
    fn drop(&mut self) {
        self.manager.give_back(&self.grabbed.log);
    }
}

/// A gauge that is read from the clock when someone asks.
struct TimeSinceLastRun {
    manager: Arc<LogCleanerManager>,
    gauge: prometheus::IntGauge,
}

impl TimeSinceLastRun {
    fn new(manager: Arc<LogCleanerManager>) -> prometheus::Result<Self> {
        let gauge = prometheus::IntGauge::new(
            "strandline_log_cleaner_time_since_last_run_ms",
            "Milliseconds since a cleaner last looked for work; -1 before the first time.",
        )?;
        Ok(Self { manager, gauge })
    }
}

impl Collector for TimeSinceLastRun {
    fn desc(&self) -> Vec<&Desc> {
        self.gauge.desc()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let since = self.manager.seen().at_ms;
        self.gauge
            .set(since.map_or(-1, |at_ms| (clock::now_ms() - at_ms).max(0)));
        self.gauge.collect()
    }
}
