//! What is measured. A row is one piece of work; it yields a sample for each of its figures, per contender and round.
//!
//! Rows run in this order within a round and share the round's broker. A row that needs a broker of its own throws the
//! shared one away first. A row never asserts: its targets are printed beside what was measured.
//!
//! To add a row: one entry in a `rows()` function. A cleaner row (bytes cleaned per CPU second) belongs in
//! `cleaner.rs`: it would fill a compacted topic, stop the broker, copy the folder, and measure each contender's cleaner
//! on the same files.

mod cleaner;
mod consume;
mod fsync;
mod java;
mod latency;
mod lifecycle;
mod many;
mod produce;
mod tier;

use crate::contender::Contender;
use crate::session::Session;

/// Strandline's median over another's must not exceed `max`, or not fall below `min`.
#[derive(Clone, Copy, Debug)]
pub enum Target {
    None,
    AtMost(f64),
    AtLeast(f64),
    /// At most this many times our own figure elsewhere (row, figure), or that plus so much.
    OwnAtMost {
        row: &'static str,
        figure: &'static str,
        times: f64,
        plus: f64,
    },
}

#[derive(Clone, Copy, Debug)]
pub struct Figure {
    pub name: &'static str,
    pub unit: &'static str,
    pub against_kafka: Target,
    pub against_floor: Target,
}

impl Figure {
    pub const fn new(name: &'static str, unit: &'static str) -> Figure {
        Figure {
            name,
            unit,
            against_kafka: Target::None,
            against_floor: Target::None,
        }
    }

    pub const fn kafka(self, target: Target) -> Figure {
        Figure {
            against_kafka: target,
            ..self
        }
    }

    pub const fn floor(self, target: Target) -> Figure {
        Figure {
            against_floor: target,
            ..self
        }
    }
}

type Run = Box<dyn Fn(&mut Session<'_>) -> anyhow::Result<Vec<f64>>>;

pub struct Row {
    pub name: &'static str,
    pub what: String,
    /// Runs under --quick, too.
    pub is_quick: bool,
    pub contenders: &'static [Contender],
    pub figures: Vec<Figure>,
    /// One sample for each figure.
    pub run: Run,
}

pub const BROKERS: &[Contender] = &[Contender::Kafka, Contender::Strandline];
pub const WITH_FLOOR: &[Contender] = &Contender::ALL;

pub fn all() -> Vec<Row> {
    let mut rows = Vec::new();
    rows.extend(lifecycle::start());
    rows.extend(produce::rows());
    rows.extend(consume::rows());
    rows.extend(latency::rows());
    rows.extend(java::rows());
    rows.extend(fsync::rows());
    rows.extend(many::rows());
    rows.extend(cleaner::rows());
    rows.extend(tier::rows());
    rows.extend(lifecycle::rows());
    rows
}
