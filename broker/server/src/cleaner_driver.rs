//! The cleaner's threads: they take the dirtiest log, clean it, and rest when there is none.
//!
//! What is cleaned, and how, is decided in `strandline-compaction`. Here are the threads, the clock, the rate limit's
//! waiting, the metrics and the log lines. The threads have a lower priority than those that serve: cleaning may wait. A
//! partition that cannot be cleaned is set aside, and the others go on.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

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
use crate::threads::{ThreadGroup, ThreadStop, Threads};

/// Added to the threads' niceness.
const NICE: i32 = 5;
/// A full disk or an offline folder is not asked more often.
const FAILURE_PAUSE: Duration = Duration::from_secs(60);

pub struct CleanerDriver {
    threads: Arc<ThreadGroup>,
}

struct Worker {
    logs: Arc<LogManager>,
    manager: Arc<LogCleanerManager>,
    cleaner: Cleaner,
    throttler: Throttler,
    metrics: CleanerMetrics,
    backoff: Duration,
}

impl CleanerDriver {
    /// Starts the threads, unless log.cleaner.enable says not to. The logs must be loaded.
    pub fn start(
        values: &BTreeMap<String, String>,
        logs: &Arc<LogManager>,
        threads: &Threads,
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
            cleaner: Cleaner::new(config.clone(), ids::seed()),
        });
        let count = if config.enable { config.threads } else { 0 };
        if count == 0 {
            tracing::warn!("the log cleaner is off: compacted topics grow for ever");
        }
        let threads = Arc::new(threads.group("log-cleaner"));
        for i in 0..count {
            let worker = Arc::clone(&worker);
            threads.spawn(format!("log-cleaner-{i}"), move |stop| worker.run(stop))?;
        }
        Ok(Self { threads })
    }

    /// Ends the threads; a round that is under way is given up.
    pub async fn shutdown(&self) {
        self.threads.stop();
        let threads = Arc::clone(&self.threads);
        if tokio::task::spawn_blocking(move || threads.join())
            .await
            .is_err()
        {
            tracing::error!("ending the cleaner failed by a bug");
        }
    }
}

impl Worker {
    fn run(&self, stop: &ThreadStop) {
        // On Linux this is the calling thread's alone. Refused, the thread is as important as the others.
        let _ = rustix::process::setpriority_process(None, NICE);
        while !stop.is_set() {
            if !self.clean_filthiest(stop) && stop.wait(self.backoff) {
                return;
            }
        }
    }

    /// True when there may be more to do at once.
    fn clean_filthiest(&self, stop: &ThreadStop) -> bool {
        let now_ms = clock::now_ms();
        let grabbed = self.manager.grab_filthiest(&self.logs.logs(), now_ms);
        self.show_seen();
        let Some(grabbed) = grabbed else {
            return false;
        };
        let guard = GiveBack {
            worker: self,
            grabbed: &grabbed,
        };
        let begun = clock::now();
        let result = self
            .cleaner
            .clean(&grabbed.log, &grabbed.plan, now_ms, &mut |bytes| {
                self.pace(bytes, stop)
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

    fn pace(&self, bytes: u64, stop: &ThreadStop) -> ControlFlow<()> {
        let wait = self.throttler.observe(bytes, clock::now());
        if stop.wait(wait) {
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
        if let LogError::Corrupt { path, position, .. } = error
            && let Err(error) = log.examine(path, *position)
        {
            tracing::warn!(%partition, %error, "the damage could not be looked at");
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

/// Gives a log back when its round ends in any way that nobody has taken care of. One that a bug of ours cannot clean
/// is set aside, so that the others get their turn.
struct GiveBack<'a> {
    worker: &'a Worker,
    grabbed: &'a Grabbed,
}

impl Drop for GiveBack<'_> {
    fn drop(&mut self) {
        let manager = &self.worker.manager;
        if std::thread::panicking() {
            self.worker.metrics.failures.inc();
            manager.set_aside(&self.grabbed.log);
        } else {
            manager.give_back(&self.grabbed.log);
        }
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
