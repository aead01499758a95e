//! One partition's log on local disk: segments of Kafka's files, and what is known of producers and leader epochs.
//!
//! What always holds:
//! - One appender at a time, behind `writer`. Readers take a snapshot of the segment list and the published tail, and
//!   never wait for an append's disk write.
//! - The log end offset moves only after the bytes are written; below it nothing changes, except by truncation.
//! - `local start <= log end`, `log start <= high watermark <= log end`. The log start may lie below the local start:
//!   then the tier holds what is between.
//! - Everything below the recovery point is on disk, by file and directory sync.
//!
//! No clock, no threads, no network. Each concern has its file; this one holds the state and the plain questions.

mod append;
mod damage;
mod delete;
mod epochs;
mod flush;
mod open;
mod producers;
mod read;
mod replace_segments;
mod roll;
mod sealed;
mod tail;
#[cfg(test)]
mod tests;
mod tier_start;
mod time;
mod truncate;
mod types;
mod unflushed;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};

use parking_lot::{Mutex, RwLock};

pub(crate) use damage::{DAMAGES_MAX, headless, read_damages};
pub use damage::{Damage, ScrubPoint, Scrubbed};
pub(crate) use producers::{Replayed, replay, txn_index_path};
pub use replace_segments::{ReplaceError, SwapOp, SwapStep};
pub use tier_start::TierStart;
pub use types::*;

use crate::changes::ChangeMark;
use crate::dir_health::DirHealth;
use crate::file_cache::FileCache;
use crate::leader_epoch::LeaderEpochFileCache;
use crate::log_config::LogConfig;
use crate::log_error::LogError;
use crate::producer_state::{ProducerSnapshots, ProducerStateManager};
use crate::segment::LogSegment;
use crate::segments::LogSegments;
use crate::types::{NO_TIMESTAMP, Offset, TimestampMs, TopicId, TopicPartition};
use delete::DeletedFile;
use tail::Tail;

/// Stands for "no transaction is open" in the atomic.
const NO_UNSTABLE: Offset = Offset::MAX;

#[derive(Debug)]
pub struct Log {
    tp: TopicPartition,
    topic_id: TopicId,
    dir: Arc<Path>,
    config: RwLock<Arc<LogConfig>>,
    producer_id_expiration_ms: TimestampMs,
    files: Arc<FileCache>,
    health: Arc<DirHealth>,
    segments: LogSegments,
    /// The log end and the positions of the last appends' ends.
    tail: RwLock<Tail>,
    log_start: AtomicI64,
    high_watermark: AtomicI64,
    first_unstable: AtomicI64,
    recovery_point: AtomicI64,
    /// When the oldest record above the recovery point was appended; -1 when there is none.
    unflushed_since_ms: AtomicI64,
    unflushed_bytes: AtomicU64,
    /// The directory's list of logs to sync has this one.
    is_entered: AtomicBool,
    /// The directory knows when `flush.ms` is over.
    has_deadline: AtomicBool,
    /// Held by whoever changes segments: append, roll, truncate, delete.
    writer: Mutex<()>,
    /// Held by whoever takes segments out of the list: delete, truncate, replace; and by close. Taken after `writer`.
    taking_out: Mutex<()>,
    /// Held by one flush; the next ones find their work done.
    flushing: Mutex<()>,
    /// Files were created since the folder was synced.
    dir_dirty: AtomicBool,
    /// The folder's own name and its metadata were not synced in this life.
    folder_dirty: AtomicBool,
    producers: Mutex<ProducerStateManager>,
    snapshots: Mutex<ProducerSnapshots>,
    epochs: Mutex<LeaderEpochFileCache>,
    deleted: Mutex<Vec<DeletedFile>>,
    /// By their first offsets.
    damages: Mutex<BTreeMap<Offset, Damage>>,
    is_damaged: AtomicBool,
    /// What is known is not written down.
    damages_changed: AtomicBool,
    /// The directory's list of changed logs has this one.
    change_mark: ChangeMark,
    /// Something was written since a clean stop.
    changed: AtomicBool,
    closed: AtomicBool,
}

impl Log {
    pub fn topic_partition(&self) -> &TopicPartition {
        &self.tp
    }

    pub fn topic_id(&self) -> TopicId {
        self.topic_id
    }

    /// The partition's folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The log directory that the folder is in.
    pub fn parent_dir(&self) -> PathBuf {
        self.health.dir().to_owned()
    }

    pub fn config(&self) -> Arc<LogConfig> {
        Arc::clone(&self.config.read())
    }

    pub fn set_config(&self, config: Arc<LogConfig>) {
        *self.config.write() = Arc::clone(&config);
        self.note_change();
        let since = self.unflushed_since_ms.load(Ordering::Acquire);
        if since > NO_TIMESTAMP {
            self.note_deadline(&config, since);
        }
    }

    /// The first offset that may be read, in either tier.
    pub fn log_start_offset(&self) -> Offset {
        self.log_start.load(Ordering::Acquire)
    }

    /// The first offset that is on local disk.
    pub fn local_log_start_offset(&self) -> Offset {
        self.segments
            .first_base_offset()
            .max(self.log_start_offset())
    }

    /// The offset that the next record gets.
    pub fn log_end_offset(&self) -> Offset {
        self.tail.read().end_offset()
    }

    pub fn high_watermark(&self) -> Offset {
        self.high_watermark.load(Ordering::Acquire)
    }

    /// Below it every transaction is decided: the smaller of the high watermark and the first unstable offset.
    pub fn last_stable_offset(&self) -> Offset {
        let unstable = self.first_unstable.load(Ordering::Acquire);
        self.high_watermark().min(unstable)
    }

    /// The first offset of the earliest transaction that is not decided.
    pub fn first_unstable_offset(&self) -> Option<Offset> {
        let unstable = self.first_unstable.load(Ordering::Acquire);
        (unstable != NO_UNSTABLE).then_some(unstable)
    }

    /// Raises the high watermark, clamped to the log. It never goes down but by truncation. Tells where it is.
    pub fn set_high_watermark(&self, offset: Offset) -> Offset {
        let clamped = offset.clamp(self.log_start_offset(), self.log_end_offset());
        let before = self.high_watermark.fetch_max(clamped, Ordering::AcqRel);
        if clamped > before {
            self.note_change();
        }
        if clamped > before && self.first_unstable.load(Ordering::Acquire) != NO_UNSTABLE {
            let mut producers = self.producers.lock();
            producers.on_high_watermark(clamped);
            self.note_first_unstable(&producers);
        }
        before.max(clamped)
    }

    pub fn recovery_point(&self) -> Offset {
        self.recovery_point.load(Ordering::Acquire)
    }

    pub fn size_bytes(&self) -> u64 {
        self.segments.snapshot().iter().map(|s| s.size()).sum()
    }

    pub fn segment_count(&self) -> usize {
        self.segments.snapshot().len()
    }

    /// The log start, when the folder's files do not tell it.
    pub(crate) fn log_start_to_checkpoint(&self) -> Option<Offset> {
        let log_start = self.log_start_offset();
        let told =
            !self.config().remote_storage_enable && log_start == self.segments.first_base_offset();
        (!told).then_some(log_start)
    }

    /// The segments in order, the active one last, as they are now.
    pub fn log_segments(&self) -> Arc<Vec<Arc<LogSegment>>> {
        self.segments.snapshot()
    }

    /// Whether an append would have to wait now: for another append, or for segments to be cut or dropped, which syncs.
    pub fn is_being_written(&self) -> bool {
        self.writer.is_locked()
    }

    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// The base offset of the segment that is appended to.
    pub fn active_segment_base_offset(&self) -> Offset {
        self.segments.active().base_offset()
    }

    /// Records above the recovery point, which a power loss may take.
    pub fn unflushed_records(&self) -> i64 {
        (self.log_end_offset() - self.recovery_point()).max(0)
    }

    /// Timers are to look at this log: its offsets, segments, producers or settings are not what they were.
    fn note_change(&self) {
        self.change_mark.set(&self.tp, self.health.changes());
    }

    /// What changed before this is looked at after it.
    pub(crate) fn change_is_seen(&self) {
        self.change_mark.clear();
    }

    fn note_first_unstable(&self, producers: &ProducerStateManager) {
        let first = producers.first_unstable_offset().unwrap_or(NO_UNSTABLE);
        self.first_unstable.store(first, Ordering::Release);
    }

    fn check_open(&self) -> Result<(), LogError> {
        if self.closed.load(Ordering::Acquire) {
            return Err(LogError::Closed);
        }
        self.health.check()
    }
}
