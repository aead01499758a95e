//! Cutting the end of the log off: what a follower does whose leader knows otherwise.
//!
//! The recovery point goes down with the log. The caller writes the checkpoints before it appends again, so that a
//! crash does not mistake new bytes for flushed ones.

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
        let _writer = self.writer.lock();
        let _taking_out = self.taking_out.lock();
        let _flushing = self.flushing.lock();
        self.check_open()?;
        if offset >= self.log_end_offset() {
            return Ok(());
        }
        if offset <= self.segments.first_base_offset() {
            return self.start_anew(offset.max(0), now_ms);
        }
        let segments = self.segments.snapshot();
        let Some(last) = floor(&segments, offset) else {
            return self.start_anew(offset, now_ms);
        };
        // A segment that would be empty is still a good active segment.
        let (kept, dropped) = segments.split_at(last + 1);
        self.segments.replace(kept.to_vec());
        for segment in dropped {
            self.remove_files_now(segment)?;
        }
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
        TransactionIndex::open(txn_index_path(active))?.truncate_to(end)?;
        {
            let mut epochs = self.epochs.lock();
            epochs.truncate_from_end(end);
            epochs.flush(true)?;
        }
        self.publish_cut(end, active);
        self.reload_producers(end, now_ms)
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

    fn start_anew(&self, offset: Offset, now_ms: TimestampMs) -> Result<(), LogError> {
        let old = self.segments.snapshot();
        for segment in old.iter() {
            self.remove_files_now(segment)?;
        }
        let active = Arc::new(LogSegment::create(
            Arc::clone(&self.dir),
            offset,
            Arc::clone(&self.files),
            now_ms,
        )?);
        self.dir_dirty.store(true, Ordering::Release);
        self.segments.replace(vec![Arc::clone(&active)]);
        {
            let mut epochs = self.epochs.lock();
            epochs.truncate_from_end(offset);
            epochs.flush(true)?;
        }
        self.snapshots.lock().delete_all()?;
        self.producers.lock().truncate_fully_and_start_at(offset);
        self.note_first_unstable(&self.producers.lock());
        self.log_start.store(offset, Ordering::Release);
        self.publish_cut(offset, &active);
        self.high_watermark.store(offset, Ordering::Release);
        Ok(())
    }

    fn publish_cut(&self, end: Offset, active: &LogSegment) {
        *self.tail.write() = super::tail::Tail::new(end, active.base_offset(), active.size());
        self.high_watermark.fetch_min(end, Ordering::AcqRel);
        self.recovery_point.fetch_min(end, Ordering::AcqRel);
        self.log_start.fetch_min(end, Ordering::AcqRel);
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
