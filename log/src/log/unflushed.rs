//! What this log tells its directory about bytes that are not synced.

use std::sync::atomic::Ordering;

use super::Log;
use crate::log_config::LogConfig;
use crate::segment::LogSegment;
use crate::types::{NO_TIMESTAMP, TimestampMs};

impl Log {
    /// Bytes that a power loss may take.
    pub fn unflushed_bytes(&self) -> u64 {
        self.unflushed_bytes.load(Ordering::Relaxed)
    }

    /// `bytes` were appended.
    pub(super) fn note_unflushed(&self, bytes: u64, config: &LogConfig, now_ms: TimestampMs) {
        self.unflushed_bytes.fetch_add(bytes, Ordering::Relaxed);
        let unflushed = self.health.unflushed();
        unflushed.add(bytes);
        if !self.is_entered.swap(true, Ordering::AcqRel) {
            unflushed.enter(&self.tp);
        }
        self.note_deadline(config, now_ms);
    }

    pub(super) fn note_deadline(&self, config: &LogConfig, since_ms: TimestampMs) {
        // At 0 nothing waits: the flush comes with the append.
        let has_deadline = config.flush_ms > 0 && config.flush_ms < TimestampMs::MAX;
        if has_deadline && !self.has_deadline.swap(true, Ordering::AcqRel) {
            let at_ms = since_ms.saturating_add(config.flush_ms);
            self.health.unflushed().enter_deadline(&self.tp, at_ms);
        }
    }

    /// `bytes` of it were synced, or are gone.
    pub(super) fn note_flushed(&self, bytes: u64) {
        let fewer = |now: u64| Some(now.saturating_sub(bytes));
        // It always has a next value.
        let _ = self
            .unflushed_bytes
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, fewer);
        self.health.unflushed().subtract(bytes);
    }

    /// Counts anew after segments were cut or dropped. Nobody appends or flushes meanwhile.
    pub(super) fn recount_unflushed(&self) {
        let counted = self
            .segments
            .snapshot()
            .iter()
            .map(|segment| segment.unsynced_bytes())
            .sum();
        let before = self.unflushed_bytes.swap(counted, Ordering::Relaxed);
        self.health.unflushed().subtract(before);
        self.health.unflushed().add(counted);
        if counted > 0 && !self.is_entered.swap(true, Ordering::AcqRel) {
            self.health.unflushed().enter(&self.tp);
        }
    }

    /// Leaves the directory's list when nothing waits any more. Tells whether something does.
    pub(crate) fn stays_dirty(&self) -> bool {
        if self.unflushed_bytes() > 0 {
            return true;
        }
        self.is_entered.store(false, Ordering::Release);
        self.health.unflushed().leave(&self.tp);
        // An append that came between found the mark still set.
        if self.unflushed_bytes() > 0 && !self.is_entered.swap(true, Ordering::AcqRel) {
            self.health.unflushed().enter(&self.tp);
        }
        self.unflushed_bytes() > 0
    }

    /// The deadline that was entered is over: flushes, or enters the next one when younger records wait.
    pub(crate) fn on_deadline(&self, now_ms: TimestampMs) -> Result<(), crate::LogError> {
        self.has_deadline.store(false, Ordering::Release);
        if self.flush_is_due(now_ms) {
            self.flush()?;
        }
        let since = self.unflushed_since_ms.load(Ordering::Acquire);
        if since > NO_TIMESTAMP {
            self.note_deadline(&self.config(), since);
        }
        Ok(())
    }

    /// Asks the kernel to begin writing what is not synced, so that a sync soon after finds little to do.
    pub(crate) fn start_writeback(&self) {
        for segment in self.segments.snapshot().iter().rev() {
            if segment.unsynced_bytes() == 0 {
                break;
            }
            segment.start_writeback();
        }
    }
}

impl LogSegment {
    /// Bytes that no sync has covered.
    pub(crate) fn unsynced_bytes(&self) -> u64 {
        self.size().saturating_sub(self.synced_bytes())
    }
}
