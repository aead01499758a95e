//! Load: pre-built requests over many connections, and readers; measured without coordinated omission.

mod answer;
mod engine;
mod fetch;
mod frames;
mod outcome;

pub use engine::{Answers, Engine, Load, Pace, Replay};
pub use fetch::{Fetch, Schedule};
pub use frames::{BatchSize, Frame, Shape, produce_frames};
pub use outcome::{Outcome, percentile_ms};

use std::sync::atomic::AtomicBool;

use anyhow::anyhow;

/// Runs loads at the same time, each on a thread of its own, and joins what they saw.
pub fn run_loads(port: u16, loads: Vec<Load>) -> anyhow::Result<Outcome> {
    let engines = loads
        .into_iter()
        .map(|load| Engine::connect(port, load))
        .collect::<anyhow::Result<Vec<_>>>()?;
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let running: Vec<_> = engines
            .into_iter()
            .map(|engine| scope.spawn(|| engine.run(&stop)))
            .collect();
        let mut joined = Outcome::default();
        for thread in running {
            let outcome = thread
                .join()
                .map_err(|_| anyhow!("a thread of the load panicked"))??;
            joined.merge(outcome);
        }
        Ok(joined)
    })
}
