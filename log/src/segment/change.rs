//! What the log's writer and recovery do to a segment: take in batches, cut, and learn the indexes anew.

use std::io;
use std::sync::atomic::Ordering;

use super::LogSegment;
use crate::durable;
use crate::log_error::{AtPath, LogError};
use crate::record::BatchHeader;
use crate::time_index::MaxTimestamp;
use crate::types::{NO_TIMESTAMP, Offset, TimestampMs};

impl LogSegment {
    /// Takes in batches that were written behind each other at the published size: adds index entries, then publishes
    /// the new size and next offset. An index entry that cannot be written now stays in memory and is tried again.
    pub fn publish(&self, batches: &[BatchHeader], index_interval_bytes: u32, now_ms: TimestampMs) {
        let mut position = self.size();
        let mut next_offset = self.next_offset();
        {
            let mut state = self.state.lock();
            if position == 0 {
                state.first_append_ms = now_ms;
            }
            state.last_modified_ms = now_ms;
        }
        for header in batches {
            if let Err(error) = self.index_batch(header, position, index_interval_bytes) {
                tracing::warn!(segment = %self.path().display(), %error, "index entries wait for room on the disk");
            }
            position += header.size() as u64;
            next_offset = header.next_offset();
        }
        self.next_offset.store(next_offset, Ordering::Release);
        self.size.store(position, Ordering::Release);
    }

    /// Adds one batch at `position` to what is known of the segment.
    pub(crate) fn index_batch(
        &self,
        header: &BatchHeader,
        position: u64,
        index_interval_bytes: u32,
    ) -> io::Result<()> {
        let (due, max) = self.note_batch(header, position, index_interval_bytes)?;
        if due {
            let offset = self.offset_index.append(header.last_offset(), position);
            let time = self.time_index.maybe_append(max);
            offset.and(time)?;
        }
        Ok(())
    }

    /// Takes a batch's timestamps, and tells whether index entries are due before it, and the largest timestamp so far.
    pub(crate) fn note_batch(
        &self,
        header: &BatchHeader,
        position: u64,
        index_interval_bytes: u32,
    ) -> io::Result<(bool, MaxTimestamp)> {
        let before = match self.max_timestamp() {
            Ok(before) => before,
            Err(e) => return Err(io::Error::new(e.source.kind(), e)),
        };
        let mut state = self.state.lock();
        if position == 0 {
            state.first_timestamp = Some(header.max_timestamp);
        }
        // A batch that a cleaner has emptied has no record that could be found by time.
        let max = if header.records_count > 0 && header.max_timestamp > before.timestamp {
            MaxTimestamp {
                timestamp: header.max_timestamp,
                offset: header.last_offset(),
            }
        } else {
            before
        };
        state.max_timestamp = Some(max);
        let due = state.bytes_since_index_entry > u64::from(index_interval_bytes);
        if due {
            state.bytes_since_index_entry = 0;
        }
        state.bytes_since_index_entry += header.size() as u64;
        Ok((due, max))
    }

    /// The batches to come are indexed as if `max` were the largest timestamp so far.
    pub(crate) fn resume_indexes(&self, max: MaxTimestamp) {
        let mut state = self.state.lock();
        state.max_timestamp = Some(max);
        state.bytes_since_index_entry = 0;
    }

    /// Removes the batches from the one that holds `offset` on, for good: a power loss does not bring them back. The
    /// segment must be active.
    pub fn truncate_to(&self, offset: Offset) -> Result<(), LogError> {
        let path = self.path();
        let found = self.find(offset, self.size())?;
        let mut position = found.map_or(self.size(), |batch| batch.position);
        // Damage that only whoever was behind it could be told from goes too.
        while let Some(skip) = self.skip_that_ends_at(position).filter(|s| s.end > offset) {
            position = skip.position;
        }
        if position == self.size() {
            return Ok(());
        }
        let cut_from = found.map_or(offset, |batch| batch.header.base_offset.min(offset));
        self.offset_index
            .truncate_to(cut_from)
            .at("cut the offset index of", &path)?;
        self.time_index
            .truncate_to(cut_from)
            .at("cut the time index of", &path)?;
        self.next_offset.store(cut_from, Ordering::Release);
        self.size.store(position, Ordering::Release);
        self.synced_size.fetch_min(position, Ordering::AcqRel);
        self.indexes_synced.store(false, Ordering::Release);
        self.forget_skips_from(position);
        let file = self.file()?;
        file.set_len(position).at("cut", &path)?;
        durable::sync_data(&file, &path).at("sync", &path)?;
        self.reload_max_timestamp()?;
        let mut state = self.state.lock();
        state.bytes_since_index_entry = 0;
        if position == 0 {
            state.first_timestamp = None;
        }
        Ok(())
    }

    /// Sets the published size, when recovery has found where valid bytes end.
    pub(crate) fn set_size(&self, size: u64) {
        self.size.store(size, Ordering::Release);
    }

    /// Forgets the indexes, to build them again.
    pub(crate) fn clear_indexes(&self) -> io::Result<()> {
        self.offset_index.clear()?;
        self.time_index.clear()?;
        let mut state = self.state.lock();
        state.max_timestamp = Some(MaxTimestamp {
            timestamp: NO_TIMESTAMP,
            offset: self.base_offset,
        });
        state.bytes_since_index_entry = 0;
        Ok(())
    }

    /// The largest timestamp from the time index and the batches behind its last entry.
    pub(crate) fn reload_max_timestamp(&self) -> Result<(), LogError> {
        let path = self.path();
        let mut max = self.time_index.last().at("read the time index of", &path)?;
        let from = self
            .offset_index
            .lookup(max.offset)
            .at("read the offset index of", &path)?;
        let mut scan = self.scan(from.position, self.size())?;
        while let Some(batch) = scan.next_batch()? {
            if batch.header.records_count > 0 && batch.header.max_timestamp > max.timestamp {
                max = MaxTimestamp {
                    timestamp: batch.header.max_timestamp,
                    offset: batch.header.last_offset(),
                };
            }
        }
        self.state.lock().max_timestamp = Some(max);
        Ok(())
    }
}
