//! Making records safe on disk, and closing.

use std::fs::File;
use std::path::Path;
use std::sync::atomic::Ordering;

use super::Log;
use super::producers::txn_index_path;
use crate::checkpoint::{PartitionMetadataFile, sync_dir};
use crate::durable;
use crate::log_error::{AtPath, LogError, StorageError};
use crate::types::{NO_TIMESTAMP, Offset, TimestampMs};

impl Log {
    /// Syncs everything that is published and moves the recovery point to it. One sync serves all who wait: a caller
    /// whose records were covered by the flush before it does nothing. After a failure the log directory is offline:
    /// a second sync would lie.
    pub fn flush(&self) -> Result<Offset, LogError> {
        let target = self.log_end_offset();
        self.flush_to(target)
    }

    /// As [`Self::flush`], and writes the index entries that are only in memory, so that a start after a crash need not
    /// look for them in the batches.
    pub fn flush_with_indexes(&self) -> Result<Offset, LogError> {
        self.segments.active().write_indexes()?;
        self.flush()
    }

    /// As [`Self::flush`], at least for the records below `target`.
    pub fn flush_to(&self, target: Offset) -> Result<Offset, LogError> {
        self.flush_with(target, || self.log_end_offset())
    }

    /// Syncs the segments before the active one, as is due after a roll.
    pub fn flush_sealed(&self) -> Result<Offset, LogError> {
        let sealed_end = self.active_segment_base_offset();
        self.flush_with(sealed_end, || sealed_end)
    }

    fn flush_with(&self, target: Offset, end: impl FnOnce() -> Offset) -> Result<Offset, LogError> {
        if self.recovery_point() >= target {
            return Ok(self.recovery_point());
        }
        let _flushing = self.flushing.lock();
        if self.recovery_point() >= target {
            return Ok(self.recovery_point());
        }
        self.health.check()?;
        let flushed_end = self.log_end_offset();
        // What recovery has read from the batches has to be in the file before they count as synced.
        self.epochs.lock().flush_below(flushed_end, true)?;
        // Records that come from here on count as younger than this flush.
        let since = self.unflushed_since_ms.swap(NO_TIMESTAMP, Ordering::AcqRel);
        let end = end();
        let synced = self.sync_up_to(end);
        if synced.is_ok() {
            self.recovery_point.fetch_max(end, Ordering::AcqRel);
            self.note_change();
        }
        if self.unflushed_records() > 0 {
            // Not all of the older records were covered.
            let _ = self.unflushed_since_ms.compare_exchange(
                NO_TIMESTAMP,
                since,
                Ordering::AcqRel,
                Ordering::Acquire,
            );
        }
        if let Err(LogError::Storage(cause)) = &synced
            && !cause.is_harmless()
        {
            self.health.mark_offline(cause);
        }
        synced.map(|()| end)
    }

    fn sync_up_to(&self, end: Offset) -> Result<(), LogError> {
        let segments = self.segments.snapshot();
        let before = self.recovery_point();
        // The segment that ends at the recovery point too: its indexes may not be synced.
        let first = crate::segments::floor(&segments, before.saturating_sub(1)).unwrap_or(0);
        for (i, segment) in segments.iter().enumerate().skip(first) {
            let active = i + 1 == segments.len();
            if segment.base_offset() >= end && !active {
                break;
            }
            if segment.is_synced(active) {
                continue;
            }
            match segment.sync(active) {
                Ok(bytes) => self.note_flushed(bytes),
                // Retention took it meanwhile.
                Err(e) if e.is_not_found() && self.is_gone(segment.base_offset()) => continue,
                Err(e) => return Err(e.into()),
            }
            sync_if_there(&txn_index_path(segment))?;
            let snapshot = self.snapshots.lock().path_of(segment.base_offset());
            sync_if_there(&snapshot)?;
        }
        if self.dir_dirty.swap(false, Ordering::AcqRel) {
            sync_dir(&self.dir)?;
        }
        if self.folder_dirty.swap(false, Ordering::AcqRel) {
            sync_if_there(&self.dir.join(PartitionMetadataFile::NAME))?;
            sync_dir(self.dir.parent().unwrap_or_else(|| Path::new("")))?;
        }
        Ok(())
    }

    /// Makes the names in the partition's folder safe. As with any sync, a failure takes the directory offline.
    pub(super) fn sync_folder(&self) -> Result<(), LogError> {
        let synced = sync_dir(&self.dir).map_err(LogError::from);
        if let Err(LogError::Storage(cause)) = &synced
            && !cause.is_harmless()
        {
            self.health.mark_offline(cause);
        }
        synced
    }

    fn is_gone(&self, base_offset: Offset) -> bool {
        base_offset < self.segments.first_base_offset()
    }

    /// Whether sealed segments wait for their sync.
    pub fn has_unflushed_sealed(&self) -> bool {
        self.active_segment_base_offset() > self.recovery_point()
    }

    /// Whether a record waits for a sync longer than `flush.ms`.
    pub fn flush_is_due(&self, now_ms: TimestampMs) -> bool {
        let since = self.unflushed_since_ms.load(Ordering::Acquire);
        since > NO_TIMESTAMP
            && self.recovery_point() < self.log_end_offset()
            && now_ms.saturating_sub(since) >= self.config().flush_ms
    }

    /// Ends the log's life. Clean: everything is synced, with a snapshot at the log's end, so that the next open reads
    /// nothing. Appends fail from here on; slices that were handed out stay readable.
    pub fn close(&self, clean: bool) -> Result<(), LogError> {
        let _writer = self.writer.lock();
        let _taking_out = self.taking_out.lock();
        if self.closed.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        if !clean {
            return Ok(());
        }
        self.health.check()?;
        if !self.changed.load(Ordering::Acquire) {
            // All is as the last clean stop has left it.
            let end = self.log_end_offset();
            return Ok(self.epochs.lock().flush_below(end, true)?);
        }
        let active = self.segments.active();
        active.cut_torn_bytes()?;
        // As Kafka does, so that retention by time reads the right end after the restart.
        active.seal()?;
        self.flush()?;
        // After a crash the sealed segments' indexes may wait for their sync although no record does.
        for segment in self.segments.snapshot().iter() {
            if !segment.is_synced(false) {
                self.note_flushed(segment.sync(false)?);
            }
        }
        if self.folder_dirty.swap(false, Ordering::AcqRel) {
            sync_if_there(&self.dir.join(PartitionMetadataFile::NAME))?;
        }
        let end = self.log_end_offset();
        self.epochs.lock().flush_below(end, true)?;
        self.take_snapshot(true)?;
        sync_dir(&self.dir)?;
        Ok(())
    }
}

fn sync_if_there(path: &Path) -> Result<(), StorageError> {
    match File::open(path) {
        Ok(file) => durable::sync_all(&file, path).at("sync", path),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(StorageError::new("open", path, e)),
    }
}
