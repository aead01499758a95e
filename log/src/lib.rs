//! One replica's local log: record batches, segments, indexes, producer state, leader epochs, recovery.
//!
//! Synchronous and self-contained: no network, no async runtime, no clock of its own. The files are Kafka's.

pub mod config_def;
pub mod record;
pub mod types;

pub use types::*;
