//! One replica's local log: record batches, segments, indexes, producer state, leader epochs, recovery.
//!
//! Synchronous and self-contained: no network, no async runtime, no clock of its own. The files are Kafka's.

mod changes;
pub mod checkpoint;
pub mod config_def;
pub mod dir_health;
mod durable;
pub mod file_cache;
pub mod file_slice;
mod index_file;
pub mod leader_epoch;
pub mod log;
pub mod log_config;
pub mod log_error;
pub mod log_manager;
pub mod offset_index;
pub mod page_cache;
pub mod producer_state;
pub mod record;
mod recovery;
pub mod retention;
pub mod segment;
pub mod segment_files;
mod segments;
pub mod time_index;
#[cfg(test)]
mod torture;
pub mod txn_index;
pub mod types;
pub mod unflushed;
mod writeback;

pub use file_slice::FileSlice;
pub use log::{
    AppendError, AppendInfo, Damage, DeletedSegments, LeaderAppend, Log, LogRead, OpenLog,
    ReadError, RecoveryReport, ScrubPoint, Scrubbed, SealedRange, TierStart, TimestampOffset,
};
pub use log_config::LogConfig;
pub use log_error::{LogError, StorageError};
pub use log_manager::{LoadReport, LogManager, LogManagerConfig, LogManagerError};
pub use retention::{RetentionPlan, TierView};
pub use types::*;
