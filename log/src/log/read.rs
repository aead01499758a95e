//! Reading: from an offset to slices of files. No record is touched.
//!
//! A fetch at the end of the log finds both its ends among the last appends' and costs no system call. Others search
//! the offset index and walk a few headers behind the entry.

use std::sync::Arc;

use super::{Log, LogRead, ReadError};
use crate::file_slice::FileSlice;
use crate::log_error::{LogError, StorageError};
use crate::segment::{LogSegment, ScanError};
use crate::segments::floor;
use crate::types::Offset;

/// One read hands out bytes of at most this many segments.
const SEGMENTS_MAX: usize = 16;
/// A segment that was deleted under the reader makes it begin anew, this often.
const TRIES_MAX: usize = 3;

impl Log {
    /// The batches from the one that holds `from`, up to `upper_bound`, which is a batch's end (the high watermark,
    /// the last stable offset or the log end). At most `max_bytes`, the last batch may be cut short; with
    /// `min_one_batch` the first one comes whole however large it is, without it nothing comes that is less than a
    /// batch.
    pub fn read(
        &self,
        from: Offset,
        upper_bound: Offset,
        max_bytes: usize,
        min_one_batch: bool,
    ) -> Result<LogRead, ReadError> {
        for _ in 1..TRIES_MAX {
            match self.read_once(from, upper_bound, max_bytes, min_one_batch) {
                Err(ReadError::Storage(LogError::Storage(e))) if e.is_not_found() => {}
                result => return result,
            }
        }
        self.read_once(from, upper_bound, max_bytes, min_one_batch)
    }

    fn read_once(
        &self,
        from: Offset,
        upper_bound: Offset,
        max_bytes: usize,
        min_one_batch: bool,
    ) -> Result<LogRead, ReadError> {
        let log_end = self.log_end_offset();
        let log_start = self.log_start_offset();
        if from < log_start || from > log_end {
            return Err(ReadError::OutOfRange {
                offset: from,
                log_start,
                log_end,
            });
        }
        let mut end_bound = upper_bound.min(log_end);
        let damage = self.damage_behind(from).filter(|d| d.start < end_bound);
        if let Some(damage) = &damage {
            if damage.start <= from {
                return Err(ReadError::Storage(damage.error()));
            }
            end_bound = damage.start;
        }
        let mut read = LogRead {
            slices: Vec::new(),
            first_offset: from,
            end_bound,
            bytes: 0,
            log_start_offset: log_start,
            log_end_offset: log_end,
        };
        let segments = self.segments.snapshot();
        let Some(first) = floor(&segments, from) else {
            return Err(ReadError::BelowLocal {
                local_start: segments[0].base_offset(),
            });
        };
        if from >= end_bound {
            return Ok(read);
        }
        let is_last = |i: usize| i + 1 == segments.len();
        let mut start_offset = from;
        for (i, segment) in segments.iter().enumerate().skip(first) {
            // Cleaned segments may hold nothing, and those are passed over, however many they are.
            if read.slices.len() == SEGMENTS_MAX
                || segment.base_offset() >= end_bound
                || read.bytes >= max_bytes && read.bytes > 0
            {
                break;
            }
            let end = match &damage {
                // Headers from here on may make no sense.
                Some(damage) if segment.next_offset() > damage.start => damage.position,
                _ => self.end_position(segment, end_bound, is_last(i))?,
            };
            let start = self.start_position(segment, start_offset, end)?;
            if let Some(start) = start.filter(|start| *start < end) {
                let left = max_bytes - read.bytes.min(max_bytes);
                let whole_first = read.bytes == 0;
                let len = self.slice_len(segment, start, end, left, whole_first, min_one_batch)?;
                if len == 0 {
                    break;
                }
                read.bytes += len;
                read.slices.push(FileSlice {
                    file: segment.file().map_err(storage)?,
                    position: start,
                    len,
                });
                if start + (len as u64) < end {
                    break;
                }
            }
            start_offset = start_offset.max(segment.next_offset());
        }
        Ok(read)
    }

    /// How many of the bytes in `[start, end)` are handed out.
    fn slice_len(
        &self,
        segment: &Arc<LogSegment>,
        start: u64,
        end: u64,
        max_bytes: usize,
        is_first: bool,
        min_one_batch: bool,
    ) -> Result<usize, ReadError> {
        let available = (end - start) as usize;
        if available <= max_bytes || !is_first {
            return Ok(available.min(max_bytes));
        }
        let mut scan = segment.scan(start, end).map_err(storage)?;
        let first = scan.next_batch().map_err(scan_error)?;
        let first_len = first.map_or(0, |batch| batch.header.size());
        Ok(match (first_len <= max_bytes, min_one_batch) {
            (true, _) => max_bytes,
            (false, true) => first_len,
            (false, false) => 0,
        })
    }

    /// Where `bound` begins in the segment: the end of what may be read of it.
    pub(super) fn end_position(
        &self,
        segment: &LogSegment,
        bound: Offset,
        is_last: bool,
    ) -> Result<u64, ReadError> {
        if let Some(position) = self.tail.read().position_of(bound, segment.base_offset()) {
            return Ok(position);
        }
        let size = segment.size();
        // Only of a segment that no append can touch any more do both numbers belong together.
        if !is_last && segment.next_offset() <= bound {
            return Ok(size);
        }
        let batch = segment.find(bound, size).map_err(scan_error)?;
        Ok(batch.map_or(size, |batch| batch.position))
    }

    /// The position of the batch that holds `offset`, or of the first behind it. `None`: the segment ends before.
    pub(super) fn start_position(
        &self,
        segment: &LogSegment,
        offset: Offset,
        end: u64,
    ) -> Result<Option<u64>, ReadError> {
        if offset <= segment.base_offset() {
            return Ok(Some(0));
        }
        if let Some(position) = self.tail.read().position_of(offset, segment.base_offset()) {
            return Ok(Some(position));
        }
        let batch = segment.find(offset, end).map_err(scan_error)?;
        Ok(batch.map(|batch| batch.position))
    }
}

pub(super) fn storage(e: StorageError) -> ReadError {
    ReadError::Storage(e.into())
}

pub(super) fn scan_error(e: ScanError) -> ReadError {
    ReadError::Storage(e.into())
}
