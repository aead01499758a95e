//! Keyed compaction of local logs: what Kafka calls the log cleaner.
//!
//! A compacted log keeps the last value of every key (I7). The cleaner reads the dirty part of a log into a map from
//! keys to their last offsets, then copies the segments up to there, leaving out what the map knows to be superseded,
//! and swaps the copies in. Offsets never change; the active segment is never touched.
//!
//! - `plan` says which part of which log may be cleaned, and which is due. Pure.
//! - `batch_filter` says what becomes of one batch. Pure.
//! - `offset_map` is the bounded map; when keys outgrow it, a log is cleaned in more than one round.
//! - `cleaner` carries a round out; the swap itself is the log's (`Log::replace_segments`).
//! - `cleaner_manager` remembers how far each log was cleaned, and which were set aside.
//!
//! No clock and no threads: the broker's driver brings both. Compaction of what lies in the object store is not here.

pub mod batch_filter;
pub mod batch_reader;
pub mod cleaned_transactions;
pub mod cleaner;
pub mod cleaner_manager;
pub mod config;
mod metrics;
pub mod offset_map;
mod output;
pub mod plan;
mod round;
#[cfg(test)]
mod tests;
pub mod throttler;

pub use cleaner::{CleanError, Cleaned, Cleaner, CleanerStats, Progress};
pub use cleaner_manager::{Grabbed, LogCleanerManager};
pub use config::CleanerConfig;
pub use metrics::CleanerMetrics;
pub use throttler::Throttler;
