//! Removing the start of the log: moving the log start, retention, and what becomes of the files.
//!
//! A segment's files are renamed to `.deleted` first and unlinked by `purge` once `file.delete.delay.ms` has passed.
//! Slices that were handed out hold their file open, so nobody loses bytes under his hands.

use std::path::PathBuf;
use std::sync::atomic::Ordering;

use super::{DeletedSegments, Log};
use crate::log_error::{AtPath, LogError, StorageError};
use crate::retention::{self, LogView, RetentionPlan, SegmentMeta, TierView};
use crate::segment::LogSegment;
use crate::segment_files::{DELETED_SUFFIX, SegmentFile, segment_path};
use crate::types::{Offset, TimestampMs};

/// A renamed file that waits to be unlinked.
#[derive(Debug)]
pub(super) struct DeletedFile {
    path: PathBuf,
    /// When `purge` first saw it.
    since_ms: Option<TimestampMs>,
}

impl DeletedFile {
    pub fn new(path: PathBuf) -> Self {
        Self {
            path,
            since_ms: None,
        }
    }
}

impl Log {
    /// What retention and the tier see of the segments: in order, the active one last.
    pub fn segment_metas(&self) -> Result<Vec<SegmentMeta>, LogError> {
        let segments = self.segments.snapshot();
        segments.iter().map(|segment| Ok(segment.meta()?)).collect()
    }

    /// What retention would do now. Nothing is changed. What cannot be read is not deleted: then the plan is empty.
    pub fn plan_retention(&self, now_ms: TimestampMs, tier: &TierView) -> RetentionPlan {
        let metas = match self.segment_metas() {
            Ok(metas) => metas,
            Err(error) => {
                tracing::warn!(partition = %self.tp, %error, "retention waits");
                return RetentionPlan::default();
            }
        };
        let view = LogView {
            log_start: self.log_start_offset(),
            high_watermark: self.high_watermark(),
        };
        retention::plan(&metas, view, &self.config(), tier, now_ms)
    }

    /// Carries a plan out. Segments that were rolled or deleted since are no obstacle.
    pub fn apply_retention(
        &self,
        plan: &RetentionPlan,
        now_ms: TimestampMs,
    ) -> Result<DeletedSegments, LogError> {
        let Some(below) = plan.delete_below else {
            return Ok(self.deleted_nothing());
        };
        if plan.roll_active {
            self.roll(now_ms)?;
        }
        if let Some(log_start) = plan.log_start {
            self.increment_log_start_offset(log_start)?;
        }
        self.delete_local_segments_below(below)
    }

    /// Moves the log start up to `offset`, which may not be above the high watermark. What lies below can not be read
    /// any more, in either tier. Tells whether it moved. Kept over a restart once the log manager has written its
    /// log start checkpoint.
    pub fn increment_log_start_offset(&self, offset: Offset) -> Result<bool, LogError> {
        let _writer = self.writer.lock();
        self.check_open()?;
        let log_start = self.log_start_offset();
        let high_watermark = self.high_watermark();
        if offset > high_watermark {
            return Err(LogError::OutOfRange {
                offset,
                log_start,
                log_end: high_watermark,
            });
        }
        if offset <= log_start {
            return Ok(false);
        }
        self.log_start.store(offset, Ordering::Release);
        self.note_change();
        self.epochs.lock().truncate_from_start(offset);
        let mut producers = self.producers.lock();
        producers.on_log_start(offset);
        self.note_first_unstable(&producers);
        Ok(true)
    }

    /// Drops the local segments that end at or below `offset`, never the active one, and tells what went. Of a log that
    /// is not tiered the log start moves along; of a tiered one the caller answers for `offset` being uploaded (I4).
    pub fn delete_local_segments_below(&self, offset: Offset) -> Result<DeletedSegments, LogError> {
        let _writer = self.writer.lock();
        let _taking_out = self.taking_out.lock();
        self.check_open()?;
        let removed = self.segments.remove_below(offset);
        if removed.is_empty() {
            return Ok(self.deleted_nothing());
        }
        self.changed.store(true, Ordering::Release);
        // The names of the segments that stay come first: else a crash could leave a later one as the log's start.
        if self.dir_dirty.swap(false, Ordering::AcqRel) {
            self.sync_folder()?;
        }
        let mut deleted = DeletedSegments::default();
        for segment in &removed {
            deleted.segments += 1;
            deleted.bytes += segment.size();
            self.rename_files(segment)?;
            // One after the other and for good, so that a crash leaves the log with another start, never with a hole; and
            // the log start is told by the first file's name.
            self.sync_folder()?;
        }
        self.note_flushed(removed.iter().map(|s| s.unsynced_bytes()).sum());
        let local_start = self.segments.first_base_offset();
        if !self.config().remote_storage_enable {
            self.log_start.fetch_max(local_start, Ordering::AcqRel);
            self.epochs
                .lock()
                .truncate_from_start(self.log_start_offset());
        }
        self.note_change();
        self.forget_damages();
        self.snapshots.lock().delete_below(local_start)?;
        deleted.local_log_start_offset = self.local_log_start_offset();
        tracing::info!(
            partition = %self.tp,
            segments = deleted.segments,
            bytes = deleted.bytes,
            local_start,
            "deleted local segments"
        );
        Ok(deleted)
    }

    fn deleted_nothing(&self) -> DeletedSegments {
        DeletedSegments {
            local_log_start_offset: self.local_log_start_offset(),
            ..DeletedSegments::default()
        }
    }

    fn rename_files(&self, segment: &LogSegment) -> Result<(), StorageError> {
        segment.forget_files();
        let mut deleted = self.deleted.lock();
        for kind in SegmentFile::ALL {
            if kind == SegmentFile::Snapshot {
                continue;
            }
            let path = segment_path(&self.dir, segment.base_offset(), kind);
            let mut renamed = path.clone().into_os_string();
            renamed.push(DELETED_SUFFIX);
            let renamed = PathBuf::from(renamed);
            match std::fs::rename(&path, &renamed) {
                Ok(()) => deleted.push(DeletedFile::new(renamed)),
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
                Err(e) => return Err(StorageError::new("rename", path, e)),
            }
        }
        Ok(())
    }

    /// Removes a segment's files at once, without the delay: a truncated log must not find them again.
    pub(super) fn remove_files_now(&self, segment: &LogSegment) -> Result<(), StorageError> {
        segment.forget_files();
        for kind in SegmentFile::ALL {
            let path = segment_path(&self.dir, segment.base_offset(), kind);
            match std::fs::remove_file(&path) {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                    return Err(StorageError::new("remove", path, e));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// When [`Self::purge`] has the next file to remove.
    pub(crate) fn purge_due_ms(&self) -> Option<TimestampMs> {
        let delay_ms = self.config().file_delete_delay_ms;
        let deleted = self.deleted.lock();
        let first = deleted.iter().filter_map(|file| file.since_ms).min();
        first.map(|since_ms| since_ms.saturating_add(delay_ms))
    }

    /// When the first segment expires, if nothing changes before; `None` when nothing expires by time.
    pub(crate) fn retention_due_ms(&self) -> Option<TimestampMs> {
        let segments = self.segments.snapshot();
        // What cannot be read is not deleted.
        let first = segments.first()?.meta().ok()?;
        retention::expires_at_ms(&first, segments.len() == 1, &self.config())
    }

    /// Unlinks deleted files whose delay is over, counted from the first call that saw them. Tells how many are gone.
    pub fn purge(&self, now_ms: TimestampMs) -> usize {
        let delay_ms = self.config().file_delete_delay_ms;
        let due = {
            let mut deleted = self.deleted.lock();
            let (due, waiting) = std::mem::take(&mut *deleted)
                .into_iter()
                .map(|file| DeletedFile {
                    since_ms: file.since_ms.or(Some(now_ms)),
                    ..file
                })
                .partition::<Vec<_>, _>(|file| {
                    file.since_ms
                        .is_some_and(|since| now_ms.saturating_sub(since) >= delay_ms)
                });
            *deleted = waiting;
            due
        };
        let mut gone = 0;
        for file in due {
            match std::fs::remove_file(&file.path).at("remove", &file.path) {
                Ok(()) => gone += 1,
                Err(e) if e.is_not_found() => {}
                // The next start removes it.
                Err(error) => tracing::warn!(%error, "a deleted file stays"),
            }
        }
        gone
    }
}
