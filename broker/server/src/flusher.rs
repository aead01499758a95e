//! One thread per log folder that keeps what is not on disk bounded, in bytes and by `flush.ms`.
//!
//! It sleeps until the folder has something to do: many unsynced bytes, a sealed segment, a deadline. The decisions are
//! [`strandline_log::LogManager::bound_unflushed`]'s; a failed sync takes the folder offline there.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::Mutex;
use prometheus::{Histogram, HistogramOpts, IntGaugeVec, Opts, Registry};
use strandline_log::LogManager;

use crate::clock;

/// The longest sleep; whoever has work for the flusher wakes it before.
const PATIENCE: Duration = Duration::from_secs(5);

struct Shared {
    logs: Arc<LogManager>,
    bytes_max: u64,
    stopping: AtomicBool,
    seconds: Histogram,
    unflushed_bytes: IntGaugeVec,
}

pub struct Flusher {
    shared: Arc<Shared>,
    dirs: Vec<PathBuf>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Flusher {
    /// Starts a thread for each folder. Its unsynced bytes are kept near `bytes_max`.
    pub fn start(
        logs: &Arc<LogManager>,
        bytes_max: u64,
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
            stopping: AtomicBool::new(false),
            seconds,
            unflushed_bytes,
        });
        let dirs = logs.dirs();
        let mut threads = Vec::with_capacity(dirs.len());
        for (number, dir) in dirs.iter().cloned().enumerate() {
            let shared = Arc::clone(&shared);
            let thread = std::thread::Builder::new()
                .name(format!("flush-{number}"))
                .spawn(move || shared.run(&dir))?;
            threads.push(thread);
        }
        Ok(Self {
            shared,
            dirs,
            threads: Mutex::new(threads),
        })
    }

    /// Ends the threads after the pass that they are in. Blocks.
    pub fn shutdown(&self) {
        self.shared.stopping.store(true, Ordering::Release);
        for dir in &self.dirs {
            if let Some(health) = self.shared.logs.health(dir) {
                health.unflushed().wake();
            }
        }
        for thread in std::mem::take(&mut *self.threads.lock()) {
            if thread.join().is_err() {
                tracing::error!("a flusher had panicked");
            }
        }
    }
}

impl Shared {
    fn run(&self, dir: &Path) {
        let Some(health) = self.logs.health(dir) else {
            return;
        };
        let unflushed = health.unflushed();
        unflushed.set_wake_at(self.bytes_max / 2);
        let gauge = self
            .unflushed_bytes
            .with_label_values(&[&dir.display().to_string()]);
        while !self.stopping.load(Ordering::Acquire) {
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
