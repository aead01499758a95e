//! One thread per log folder that keeps what is not on disk bounded, in bytes and by `flush.ms`.
//!
//! It sleeps until the folder has something to do: many unsynced bytes, a sealed segment, a deadline. The decisions are
//! [`strandline_log::LogManager::bound_unflushed`]'s; a failed sync takes the folder offline there.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use prometheus::{Histogram, HistogramOpts, IntGaugeVec, Opts, Registry};
use strandline_log::LogManager;

use crate::clock;
use crate::threads::{ThreadGroup, ThreadStop, Threads};

/// The longest sleep; whoever has work for the flusher wakes it before.
const PATIENCE: Duration = Duration::from_secs(5);

struct Shared {
    logs: Arc<LogManager>,
    bytes_max: u64,
    seconds: Histogram,
    unflushed_bytes: IntGaugeVec,
}

pub struct Flusher {
    shared: Arc<Shared>,
    dirs: Vec<PathBuf>,
    threads: ThreadGroup,
}

impl Flusher {
    /// Starts a thread for each folder. Its unsynced bytes are kept near `bytes_max`.
    pub fn start(
        logs: &Arc<LogManager>,
        bytes_max: u64,
        threads: &Threads,
        registry: &Registry,
    ) -> anyhow::Result<Self> {
        let seconds = Histogram::with_opts(
            HistogramOpts::new(
                "strandline_log_flusher_pass_seconds",
                "Seconds that the flusher took to bring the unsynced bytes of a folder down.",
            )
            .buckets(prometheus::exponential_buckets(0.001, 2.0, 14)?),
        )?;
        registry.register(Box::new(seconds.clone()))?;
        let unflushed_bytes = IntGaugeVec::new(
            Opts::new(
                "strandline_log_unflushed_bytes",
                "Bytes of logs that are not synced, when the flusher looked last.",
            ),
            &["dir"],
        )?;
        registry.register(Box::new(unflushed_bytes.clone()))?;
        let shared = Arc::new(Shared {
            logs: Arc::clone(logs),
            bytes_max,
            seconds,
            unflushed_bytes,
        });
        let dirs = logs.dirs();
        let threads = threads.group("flush");
        for (number, dir) in dirs.iter().cloned().enumerate() {
            let shared = Arc::clone(&shared);
            threads.spawn(format!("flush-{number}"), move |stop| {
                shared.run(&dir, stop)
            })?;
        }
        Ok(Self {
            shared,
            dirs,
            threads,
        })
    }

    /// Ends the threads after the pass that they are in. Blocks.
    pub fn shutdown(&self) {
        self.threads.stop();
        for dir in &self.dirs {
            if let Some(health) = self.shared.logs.health(dir) {
                health.unflushed().wake();
            }
        }
        self.threads.join();
    }
}

impl Shared {
    fn run(&self, dir: &Path, stop: &ThreadStop) {
        let Some(health) = self.logs.health(dir) else {
            return;
        };
        let unflushed = health.unflushed();
        unflushed.set_wake_at(self.bytes_max / 2);
        let gauge = self
            .unflushed_bytes
            .with_label_values(&[&dir.display().to_string()]);
        while !stop.is_set() {
            let until_deadline = unflushed.next_deadline_ms().map(|at_ms| {
                Duration::from_millis(u64::try_from(at_ms - clock::now_ms()).unwrap_or(0))
            });
            unflushed.wait(until_deadline.unwrap_or(PATIENCE).min(PATIENCE));
            if health.is_offline() {
                return;
            }
            gauge.set(i64::try_from(unflushed.bytes()).unwrap_or(i64::MAX));
            self.logs.flush_dirty(dir, clock::now_ms());
            let begun = clock::now();
            match self.logs.bound_unflushed(dir, self.bytes_max) {
                Ok(0) => {}
                Ok(bytes) => {
                    self.seconds.observe(begun.elapsed().as_secs_f64());
                    tracing::debug!(dir = %dir.display(), bytes, "synced what had gathered");
                }
                Err(error) => tracing::error!(%error, "could not write the recovery points"),
            }
            gauge.set(i64::try_from(unflushed.bytes()).unwrap_or(i64::MAX));
        }
    }
}
