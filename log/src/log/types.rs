//! What goes into a log's operations and what comes out.

use std::path::PathBuf;
use std::sync::Arc;

use crate::dir_health::DirHealth;
use crate::file_cache::FileCache;
use crate::file_slice::FileSlice;
use crate::log_error::{LogError, StorageError};
use crate::producer_state::ProducerError;
use crate::record::ValidBatch;
use crate::types::{LeaderEpoch, Offset, TimestampMs};

/// What the log manager knows about a log before it is opened.
#[derive(Clone, Debug)]
pub struct OpenLog {
    /// All was flushed and closed: nothing is scanned.
    pub clean_shutdown: bool,
    /// Everything below was synced.
    pub recovery_point: Offset,
    pub log_start_offset: Offset,
    pub producer_id_expiration_ms: TimestampMs,
    pub now_ms: TimestampMs,
    /// Shared by all logs of the process.
    pub files: Arc<FileCache>,
    /// Shared by all logs of a directory.
    pub health: Arc<DirHealth>,
}

impl OpenLog {
    /// For a log that is new, or whose past is unknown: everything is recovered.
    pub fn new(now_ms: TimestampMs) -> Self {
        Self {
            clean_shutdown: false,
            recovery_point: 0,
            log_start_offset: 0,
            producer_id_expiration_ms: 86_400_000,
            now_ms,
            files: FileCache::new(256),
            health: DirHealth::new(PathBuf::new()),
        }
    }
}

/// What opening a log had to do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecoveryReport {
    pub segments: usize,
    /// Segments whose batches were read and checked.
    pub scanned_segments: usize,
    pub scanned_bytes: u64,
    /// Bytes of a torn tail that were cut.
    pub truncated_bytes: u64,
    /// Whole segments behind a torn one that were dropped.
    pub dropped_segments: usize,
    pub rebuilt_indexes: usize,
    pub log_end_offset: Offset,
}

/// One batch that a leader appends.
#[derive(Clone, Debug)]
pub struct LeaderAppend {
    pub batch: ValidBatch,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AppendInfo {
    pub base_offset: Offset,
    pub last_offset: Offset,
    /// -1 unless the topic stamps records itself.
    pub log_append_time_ms: TimestampMs,
    pub log_start_offset: Offset,
    /// Stored before, by an earlier try of the same producer: these are the offsets of that.
    pub duplicate: bool,
}

#[derive(Clone, Debug, thiserror::Error)]
pub enum AppendError {
    #[error("the batch has {size} bytes, more than a segment of {segment_bytes}")]
    BatchTooLarge { size: usize, segment_bytes: u32 },
    /// A duplicate that is too old, a gap, or a fenced producer.
    #[error(transparent)]
    Producer(#[from] ProducerError),
    /// Nothing of the batch was kept; a later try may succeed.
    #[error(transparent)]
    Log(#[from] LogError),
}

impl From<StorageError> for AppendError {
    fn from(e: StorageError) -> Self {
        Self::Log(e.into())
    }
}

/// A range of the log as slices of files.
#[derive(Clone, Debug)]
pub struct LogRead {
    /// Whole batches, the first of which holds `first_offset`; the last may be cut short by the size limit.
    pub slices: Vec<FileSlice>,
    /// The offset that was asked for.
    pub first_offset: Offset,
    /// No record in the slices is at or above this.
    pub end_bound: Offset,
    pub bytes: usize,
    pub log_start_offset: Offset,
    pub log_end_offset: Offset,
}

impl LogRead {
    pub fn is_empty(&self) -> bool {
        self.bytes == 0
    }
}

#[derive(Clone, Debug, thiserror::Error)]
pub enum ReadError {
    #[error("offset {offset} is outside of [{log_start}, {log_end}]")]
    OutOfRange {
        offset: Offset,
        log_start: Offset,
        log_end: Offset,
    },
    /// In range, but only the remote tier has it.
    #[error("the local log starts at {local_start}")]
    BelowLocal { local_start: Offset },
    #[error(transparent)]
    Storage(LogError),
}

/// A record found by time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimestampOffset {
    pub offset: Offset,
    pub timestamp: TimestampMs,
    pub leader_epoch: LeaderEpoch,
}

/// A part of the log that will not change and is safe on disk: ready for upload.
#[derive(Clone, Debug)]
pub struct SealedRange {
    pub start: Offset,
    /// Exclusive.
    pub end: Offset,
    pub slices: Vec<FileSlice>,
    pub bytes: u64,
    /// The largest timestamp of the whole segment; -1 when it has none.
    pub max_timestamp: TimestampMs,
    pub segment_base_offset: Offset,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeletedSegments {
    pub segments: usize,
    pub bytes: u64,
    pub local_log_start_offset: Offset,
}
