//! Cutting the end of the log off: what a follower does whose leader knows otherwise.
//!
//! What is cut is gone for good when the call returns: bytes are cut and names removed from the end on, each step synced,
//! so that a crash leaves the log as it was, or cut somewhere, never with a hole or with old records behind new ones.
//! The recovery point goes down with the log. The caller writes the checkpoints before it appends again
//! ([`crate::LogManager::truncate_to`] does), so that a crash does not mistake new bytes for flushed ones.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::Log;
use super::producers::{Replayed, replay, txn_index_path};
use crate::log_error::LogError;
use crate::segment::LogSegment;
use crate::segments::floor;
use crate::txn_index::TransactionIndex;
use crate::types::{Offset, TimestampMs};

impl Log {
    /// Removes the records at and above `offset`. Below the local start, the log is emptied and begins there.
    pub fn truncate_to(&self, offset: Offset, now_ms: TimestampMs) -> Result<(), LogError> {
        self.truncate_to_with(offset, now_ms, || Ok(()))
    }

    /// As [`Self::truncate_to`]; `persist` writes the recovery point, which is lowered already, before anything is cut:
    /// a file system that cuts a file may write its zeroed end first, and that must not look like damage.
    pub(crate) fn truncate_to_with<E: From<LogError>>(
        &self,
        offset: Offset,
        now_ms: TimestampMs,
        persist: impl FnOnce() -> Result<(), E>,
    ) -> Result<(), E> {
        let _writer = self.writer.lock();
        let _taking_out = self.taking_out.lock();
        let _flushing = self.flushing.lock();
        self.check_open()?;
        if offset >= self.log_end_offset() {
            return Ok(());
        }
        // A cut in the middle of damage would leave an end that nobody can tell.
        let offset = match self.damage_behind(offset) {
            Some(damage) if damage.start < offset => damage.start,
            _ => offset,
        };
        if offset <= self.segments.first_base_offset() {
            return Ok(self.start_anew(offset.max(0), now_ms)?);
        }
        let segments = self.segments.snapshot();
        let Some(last) = floor(&segments, offset) else {
            return Ok(self.start_anew(offset, now_ms)?);
        };
        let first_cut = segments[last]
            .find(offset, segments[last].size())
            .map_err(LogError::from)?;
        let point = first_cut.map_or(offset, |batch| batch.header.base_offset.min(offset));
        self.changed.store(true, Ordering::Release);
        self.recovery_point.fetch_min(point, Ordering::AcqRel);
        persist()?;
        Ok(self.truncate_locked(&segments, last, offset, now_ms)?)
    }

    fn truncate_locked(
        &self,
        segments: &[Arc<LogSegment>],
        last: usize,
        offset: Offset,
        now_ms: TimestampMs,
    ) -> Result<(), LogError> {
        // A segment that would be empty is still a good active segment.
        let (kept, dropped) = segments.split_at(last + 1);
        self.segments.replace(kept.to_vec());
        self.remove_for_good(dropped)?;
        let active = &kept[last];
        if !dropped.is_empty() {
            active.activate()?;
        }
        active.truncate_to(offset)?;
        // A batch that spans the offset went as a whole, and its first offset is where the log ends then.
        let end = match active.size() {
            0 => active.base_offset(),
            _ => offset.min(active.next_offset().max(active.base_offset())),
        };
        active.set_next_offset(end);
        let mut aborted = TransactionIndex::open(txn_index_path(active))?;
        aborted.truncate_to(end)?;
        aborted.flush()?;
        {
            let mut epochs = self.epochs.lock();
            epochs.truncate_from_end(end);
            epochs.flush(true)?;
        }
        self.publish_cut(end, active);
        self.recount_unflushed();
        self.forget_damages();
        self.reload_producers(end, now_ms)?;
        // Snapshots of what was cut must not come back either.
        self.sync_folder()
    }

    /// Drops everything; the log is empty and begins at `offset`.
    pub fn truncate_fully_and_start_at(
        &self,
        offset: Offset,
        now_ms: TimestampMs,
    ) -> Result<(), LogError> {
        let _writer = self.writer.lock();
        let _taking_out = self.taking_out.lock();
        let _flushing = self.flushing.lock();
        self.check_open()?;
        self.start_anew(offset, now_ms)
    }

    pub(super) fn start_anew(&self, offset: Offset, now_ms: TimestampMs) -> Result<(), LogError> {
        let old = self.segments.snapshot();
        self.changed.store(true, Ordering::Release);
        self.recovery_point.fetch_min(offset, Ordering::AcqRel);
        self.remove_for_good(&old)?;
        let active = Arc::new(LogSegment::create(
            Arc::clone(&self.dir),
            offset,
            Arc::clone(&self.files),
            now_ms,
        )?);
        self.segments.replace(vec![Arc::clone(&active)]);
        {
            let mut epochs = self.epochs.lock();
            epochs.truncate_from_end(offset);
            epochs.truncate_from_start(offset);
            epochs.flush(true)?;
        }
        self.snapshots.lock().delete_all()?;
        self.producers.lock().truncate_fully_and_start_at(offset);
        self.note_first_unstable(&self.producers.lock());
        self.log_start.store(offset, Ordering::Release);
        self.publish_cut(offset, &active);
        self.recount_unflushed();
        self.forget_damages();
        self.high_watermark.store(offset, Ordering::Release);
        self.note_change();
        self.sync_folder()
    }

    fn remove_for_good(&self, segments: &[Arc<LogSegment>]) -> Result<(), LogError> {
        for segment in segments.iter().rev() {
            self.remove_files_now(segment)?;
            self.sync_folder()?;
        }
        Ok(())
    }

    fn publish_cut(&self, end: Offset, active: &LogSegment) {
        *self.tail.write() = super::tail::Tail::new(end, active.base_offset(), active.size());
        self.high_watermark.fetch_min(end, Ordering::AcqRel);
        self.recovery_point.fetch_min(end, Ordering::AcqRel);
        self.log_start.fetch_min(end, Ordering::AcqRel);
        self.note_change();
    }

    fn reload_producers(&self, end: Offset, now_ms: TimestampMs) -> Result<(), LogError> {
        let mut producers = self.producers.lock();
        let from = {
            let mut snapshots = self.snapshots.lock();
            snapshots.delete_above(end)?;
            snapshots.load_latest(
                &mut producers,
                self.segments.first_base_offset(),
                end,
                now_ms,
                self.producer_id_expiration_ms,
            )?
        };
        let segments = self.segments.snapshot();
        replay(&segments, &mut producers, from, end, &Replayed::default())?;
        producers.on_high_watermark(self.high_watermark());
        self.note_first_unstable(&producers);
        Ok(())
    }
}
