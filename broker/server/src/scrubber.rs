//! Reads the logs' sealed segments in the background, within a budget, and checks every batch.
//!
//! A hot fetch sends file bytes without looking at them, so a disk that loses bits quietly would be met by consumers
//! first. What is found is remembered by the log, which answers fetches of it with CORRUPT_MESSAGE from then on, and is
//! counted here. One thread goes round all logs; a log's pass may take many steps.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use prometheus::{IntCounter, Registry};
use strandline_log::{Log, LogManager, ScrubPoint};

/// So much is read between two sleeps.
const STEP_BYTES: u64 = 1 << 20;
/// Between two rounds over all logs.
const PAUSE: Duration = Duration::from_secs(60);

struct Shared {
    logs: Arc<LogManager>,
    bytes_per_second: u64,
    stopping: Mutex<bool>,
    stop: Condvar,
    bytes: IntCounter,
    damages: IntCounter,
}

pub struct Scrubber {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Scrubber {
    /// Starts the thread, unless the budget is 0.
    pub fn start(
        logs: &Arc<LogManager>,
        bytes_per_second: u64,
        registry: &Registry,
    ) -> anyhow::Result<Self> {
        let bytes = IntCounter::new(
            "strandline_log_scrubbed_bytes_total",
            "Bytes of sealed segments that the scrub has read and checked.",
        )?;
        registry.register(Box::new(bytes.clone()))?;
        let damages = IntCounter::new(
            "strandline_log_damaged_batches_total",
            "Batches below the recovery point that the scrub has found damaged.",
        )?;
        registry.register(Box::new(damages.clone()))?;
        let shared = Arc::new(Shared {
            logs: Arc::clone(logs),
            bytes_per_second,
            stopping: Mutex::new(false),
            stop: Condvar::new(),
            bytes,
            damages,
        });
        let thread = match bytes_per_second {
            0 => None,
            _ => {
                let shared = Arc::clone(&shared);
                let thread = std::thread::Builder::new().name("scrub".to_owned());
                Some(thread.spawn(move || shared.run())?)
            }
        };
        Ok(Self {
            shared,
            thread: Mutex::new(thread),
        })
    }

    /// Ends the thread after the step that it is in. Blocks.
    pub fn shutdown(&self) {
        *self.shared.stopping.lock() = true;
        self.shared.stop.notify_all();
        if let Some(thread) = self.thread.lock().take()
            && thread.join().is_err()
        {
            tracing::error!("the scrub had panicked");
        }
    }
}

impl Shared {
    fn run(&self) {
        loop {
            for log in self.logs.logs() {
                if !self.scrub(&log) {
                    return;
                }
            }
            if self.stops_within(PAUSE) {
                return;
            }
        }
    }

    /// Goes through one log. False when the scrub is to end.
    fn scrub(&self, log: &Log) -> bool {
        let mut from = ScrubPoint::default();
        loop {
            let step = match log.scrub(from, STEP_BYTES.min(self.bytes_per_second)) {
                Ok(step) => step,
                Err(error) => {
                    tracing::debug!(partition = %log.topic_partition(), %error, "not scrubbed");
                    return true;
                }
            };
            self.bytes.inc_by(step.bytes);
            self.damages.inc_by(step.damages as u64);
            let earned = Duration::from_secs_f64(step.bytes as f64 / self.bytes_per_second as f64);
            if step.bytes > 0 && self.stops_within(earned) {
                return false;
            }
            match step.next {
                Some(next) => from = next,
                None => return true,
            }
        }
    }

    /// Sleeps, unless the broker goes down meanwhile.
    fn stops_within(&self, time: Duration) -> bool {
        let mut stopping = self.stopping.lock();
        if !*stopping {
            // A timeout is what is hoped for.
            let _ = self.stop.wait_for(&mut stopping, time);
        }
        *stopping
    }
}
