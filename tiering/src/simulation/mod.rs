//! A seeded simulation of one tiered partition: the real manifest, upload, retention and garbage code over real logs and
//! a store in memory, on a single-threaded executor.
//!
//! - [`store`]: requests wait until the simulation says what becomes of them: lost before or after the effect, repeated,
//!   late, slow.
//! - [`world`]: brokers that lead, are replaced without knowing it, die between any two requests and lose what was not
//!   synced, or their disk; one step after the other, chosen by the seed.
//! - [`checks`]: I1, I3, I4, I5 and I6 after each step, and that every committed record can be read.
//!
//! The same seed gives the same trace. What is simulated beside the tier is the quorum (it is perfect) and replication
//! (followers copy batches).

mod checks;
mod plant;
mod store;
mod tests;
mod world;

use std::cell::Cell;

pub(crate) use plant::{Plant, is_planted};

thread_local! {
    static RUNNING: Cell<bool> = const { Cell::new(false) };
}

/// Whether this thread simulates: blocking work is done in place.
pub(crate) fn is_running() -> bool {
    RUNNING.get()
}
