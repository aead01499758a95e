//! Finds positions in a segment: by offset, and by timestamp.

use std::os::unix::fs::FileExt;

use super::{BatchPosition, BatchScan, LogSegment, ScanError};
use crate::log::TimestampOffset;
use crate::log_error::{AtPath, StorageError};
use crate::offset_index::OffsetPosition;
use crate::record::{Batch, DecodeLimit, RecordIter};
use crate::types::{NO_TIMESTAMP, Offset, TimestampMs};

impl LogSegment {
    /// Walks headers from `position`, which must be a batch's, up to `end`. Damage that is known is passed over.
    pub fn scan(&self, position: u64, end: u64) -> Result<BatchScan, StorageError> {
        let skips = self.skips.read().clone();
        Ok(BatchScan::new(self.file()?, self.path(), position, end).skipping(skips))
    }

    /// The first batch that ends at or behind `offset`, among the bytes below `end`.
    pub fn find(&self, offset: Offset, end: u64) -> Result<Option<BatchPosition>, ScanError> {
        let from = self
            .offset_index
            .lookup(offset)
            .at("read the offset index of", self.offset_index.path())?;
        let mut scan = self.scan_from(from, end)?;
        while let Some(batch) = scan.next_batch()? {
            if batch.header.last_offset() >= offset {
                return Ok(Some(batch));
            }
        }
        Ok(None)
    }

    /// Walks headers from an index entry's position. When no batch begins there that the entry could mean, the index is
    /// damaged, and the walk begins at the segment's start: slow, and right.
    fn scan_from(&self, entry: OffsetPosition, end: u64) -> Result<BatchScan, StorageError> {
        let mut scan = self.scan(entry.position.min(end), end)?;
        if entry.position == 0 || entry.position >= end && end < self.size() {
            return Ok(scan);
        }
        match scan.next_batch() {
            Ok(Some(batch)) if batch.header.base_offset <= entry.offset => scan.rewind(&batch),
            Err(ScanError::Storage(e)) => return Err(e),
            _ => {
                tracing::error!(segment = %self.path().display(), ?entry, "its offset index is damaged, the log is searched");
                scan = self.scan(0, end)?;
            }
        }
        Ok(scan)
    }

    /// The first record at or behind `from` whose timestamp is at least `timestamp`, among the bytes below `end`.
    pub fn find_by_timestamp(
        &self,
        timestamp: TimestampMs,
        from: Offset,
        end: u64,
    ) -> Result<Option<TimestampOffset>, ScanError> {
        // Nothing before the entry's batch is newer than the entry, which is not newer than the target.
        let entry = self
            .time_index
            .lookup(timestamp)
            .at("read the time index of", self.time_index.path())?;
        let start = self
            .offset_index
            .lookup(entry.offset.max(from))
            .at("read the offset index of", self.offset_index.path())?;
        let mut scan = self.scan_from(start, end)?;
        while let Some(batch) = scan.next_batch()? {
            if scan.skipped_to().is_some_and(|skipped| skipped > from) {
                return Err(
                    scan.corrupt("the record may be among damaged ones before it".to_owned())
                );
            }
            if batch.header.max_timestamp < timestamp || batch.header.last_offset() < from {
                continue;
            }
            if let Some(found) = record_at_or_after(&scan, &batch, timestamp, from)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }
}

impl LogSegment {
    /// The first record with the largest timestamp among those at and behind `from`. Walks the headers from there on.
    pub fn newest_behind(&self, from: Offset) -> Result<Option<TimestampOffset>, ScanError> {
        let end = self.size();
        let Some(first) = self.find(from, end)? else {
            return Ok(None);
        };
        let mut scan = self.scan(first.position, end)?;
        let mut newest: Option<TimestampOffset> = None;
        let mut newest_batch: Option<BatchPosition> = None;
        while let Some(batch) = scan.next_batch()? {
            let max = batch.header.max_timestamp;
            let before = newest_batch.map(|batch| batch.header.max_timestamp);
            let before = before.or(newest.map(|found| found.timestamp));
            if max <= before.unwrap_or(NO_TIMESTAMP) {
                continue;
            }
            if batch.header.base_offset < from {
                // Its newest record may lie below.
                newest = newest_in(&scan, &batch, from)?;
            } else {
                newest_batch = Some(batch);
            }
        }
        match newest_batch {
            Some(batch) => record_at_or_after(&scan, &batch, batch.header.max_timestamp, from),
            None => Ok(newest),
        }
    }
}

/// Reads a batch and opens its records; `None` when they do not open.
fn open_records(scan: &BatchScan, at: &BatchPosition) -> Result<Option<RecordIter>, ScanError> {
    let mut bytes = vec![0; at.header.size()];
    scan.file()
        .read_exact_at(&mut bytes, at.position)
        .at("read", scan.path())?;
    let records =
        Batch::parse(bytes.into()).and_then(|batch| batch.records(DecodeLimit::default()));
    Ok(records.ok())
}

/// The first record with the largest timestamp among those of the batch at and behind `from`.
fn newest_in(
    scan: &BatchScan,
    at: &BatchPosition,
    from: Offset,
) -> Result<Option<TimestampOffset>, ScanError> {
    let Some(records) = open_records(scan, at)? else {
        return Ok(None);
    };
    let mut newest: Option<TimestampOffset> = None;
    for record in records.map_while(Result::ok) {
        if record.offset >= from && newest.is_none_or(|found| found.timestamp < record.timestamp) {
            newest = Some(TimestampOffset {
                offset: record.offset,
                timestamp: record.timestamp,
                leader_epoch: at.header.partition_leader_epoch,
            });
        }
    }
    Ok(newest)
}

fn record_at_or_after(
    scan: &BatchScan,
    at: &BatchPosition,
    timestamp: TimestampMs,
    from: Offset,
) -> Result<Option<TimestampOffset>, ScanError> {
    let found = |offset, timestamp| TimestampOffset {
        offset,
        timestamp,
        leader_epoch: at.header.partition_leader_epoch,
    };
    let whole_batch = || {
        // The records do not open. Broken compression is accepted where a topic does not ask for deep checks, so a
        // search must get past it: the batch itself is the best answer.
        found(at.header.base_offset.max(from), at.header.max_timestamp)
    };
    let Some(records) = open_records(scan, at)? else {
        return Ok(Some(whole_batch()));
    };
    for record in records {
        match record {
            Ok(record) if record.timestamp >= timestamp && record.offset >= from => {
                return Ok(Some(found(record.offset, record.timestamp)));
            }
            Ok(_) => {}
            Err(_) => return Ok(Some(whole_batch())),
        }
    }
    Ok(None)
}
