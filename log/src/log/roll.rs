//! Sealing the active segment and beginning the next one.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::Log;
use crate::log_config::LogConfig;
use crate::log_error::LogError;
use crate::segment::LogSegment;
use crate::types::{Offset, TimestampMs};

impl Log {
    /// Begins a new segment at the log's end; an empty active segment stays. Tells the active segment's base.
    pub fn roll(&self, now_ms: TimestampMs) -> Result<Offset, LogError> {
        let _writer = self.writer.lock();
        self.check_open()?;
        self.roll_locked(now_ms)
    }

    /// Rolls when the active segment's first record was appended longer ago than `segment.ms`, so that also an idle
    /// log's records get sealed. By our clock: the records' own times may lie years back.
    pub fn maybe_roll(&self, now_ms: TimestampMs) -> Result<bool, LogError> {
        let config = self.config();
        let due = |active: &LogSegment| {
            active.size() > 0
                && active.age_ms(now_ms) > self.segment_ms(active.base_offset(), &config)
        };
        if !due(&self.segments.active()) {
            return Ok(false);
        }
        let _writer = self.writer.lock();
        self.check_open()?;
        if !due(&self.segments.active()) {
            return Ok(false);
        }
        self.roll_locked(now_ms)?;
        Ok(true)
    }

    /// When [`Self::maybe_roll`] will find the active segment old enough; `None` while it is empty.
    pub fn rolls_at_ms(&self) -> Option<TimestampMs> {
        let active = self.segments.active();
        let max_ms = self.segment_ms(active.base_offset(), &self.config());
        (active.size() > 0).then(|| {
            active
                .first_append_ms()
                .saturating_add(max_ms)
                .saturating_add(1)
        })
    }

    pub(super) fn roll_locked(&self, now_ms: TimestampMs) -> Result<Offset, LogError> {
        let active = self.segments.active();
        let end = self.log_end_offset();
        if active.size() == 0 && active.base_offset() == end {
            return Ok(end);
        }
        self.changed.store(true, Ordering::Release);
        active.seal()?;
        self.take_snapshot(false)?;
        let next = LogSegment::create(Arc::clone(&self.dir), end, Arc::clone(&self.files), now_ms)?;
        self.dir_dirty.store(true, Ordering::Release);
        active.set_next_offset(end);
        self.segments.push(Arc::new(next));
        self.tail.write().publish(end, end, 0);
        active.deactivate();
        self.note_change();
        self.health.unflushed().enter_sealed(&self.tp);
        tracing::debug!(partition = %self.tp, base_offset = end, "rolled a new segment");
        Ok(end)
    }

    /// `segment.ms` less the jitter of the segment at `base_offset`, which is spread by name and offset.
    pub(super) fn segment_ms(&self, base_offset: Offset, config: &LogConfig) -> TimestampMs {
        let segment_ms = config.segment_ms_max();
        let jitter_max = config.segment_jitter_ms.min(segment_ms);
        if jitter_max <= 0 {
            return segment_ms;
        }
        let mut seed = crc32c::crc32c(self.tp.topic.as_bytes());
        seed = crc32c::crc32c_append(seed, &self.tp.partition.to_be_bytes());
        seed = crc32c::crc32c_append(seed, &base_offset.to_be_bytes());
        segment_ms - i64::from(seed) % jitter_max
    }
}
