//! Reads the logs' sealed segments in the background, within a budget, and checks every batch.
//!
//! A hot fetch sends file bytes without looking at them, so a disk that loses bits quietly would be met by consumers
//! first. What is found is remembered by the log, which answers fetches of it with CORRUPT_MESSAGE from then on, and is
//! counted here. One thread goes round all logs; a log's pass may take many steps.

use std::sync::Arc;
use std::time::Duration;

use prometheus::{IntCounter, Registry};
use strandline_log::{Log, LogManager, ScrubPoint};

use crate::threads::{ThreadGroup, ThreadStop, Threads};

/// So much is read between two sleeps.
const STEP_BYTES: u64 = 1 << 20;
/// Between two rounds over all logs.
const PAUSE: Duration = Duration::from_secs(60);

struct Shared {
    logs: Arc<LogManager>,
    bytes_per_second: u64,
    bytes: IntCounter,
    damages: IntCounter,
}

pub struct Scrubber {
    threads: ThreadGroup,
}

impl Scrubber {
    /// Starts the thread, unless the budget is 0.
    pub fn start(
        logs: &Arc<LogManager>,
        bytes_per_second: u64,
        threads: &Threads,
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
        let shared = Shared {
            logs: Arc::clone(logs),
            bytes_per_second,
            bytes,
            damages,
        };
        let threads = threads.group("scrub");
        if bytes_per_second > 0 {
            threads.spawn("scrub".to_owned(), move |stop| shared.run(stop))?;
        }
        Ok(Self { threads })
    }

    /// Ends the thread after the step that it is in. Blocks.
    pub fn shutdown(&self) {
        self.threads.stop();
        self.threads.join();
    }
}

impl Shared {
    fn run(&self, stop: &ThreadStop) {
        loop {
            for log in self.logs.logs() {
                if !self.scrub(&log, stop) {
                    return;
                }
            }
            if stop.wait(PAUSE) {
                return;
            }
        }
    }

    /// Goes through one log. False when the scrub is to end.
    fn scrub(&self, log: &Log, stop: &ThreadStop) -> bool {
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
            if step.bytes > 0 && stop.wait(earned) {
                return false;
            }
            match step.next {
                Some(next) => from = next,
                None => return true,
            }
        }
    }
}
