//! Reading batches after a crash: from the recovery point on, each with its CRC, up to the first that is not whole.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use super::{Recovery, remove_segment};
use crate::log_error::{AtPath, LogError};
use crate::record::BatchHeader;
use crate::segment::{BatchPosition, BatchScan, LogSegment, ScanError};
use crate::types::Offset;

/// The CRC covers a batch from its attributes on.
const CRC_START: usize = 21;
/// A batch is read in pieces of this size, so that a lying length costs no memory.
const CRC_READ_LEN: usize = 256 * 1024;

impl Recovery<'_> {
    /// Checks the segments from the recovery point on and cuts the log where it is torn. Tells the base offset of the
    /// first segment that was read.
    pub(super) fn scan_segments(
        &mut self,
        segments: &mut Vec<LogSegment>,
    ) -> Result<Option<Offset>, LogError> {
        // A segment that ends exactly at the recovery point may have been sealed after the sync.
        let first = segments
            .partition_point(|s| s.base_offset() < self.open.recovery_point)
            .saturating_sub(1);
        let scanned_from = segments[first].base_offset();
        let mut i = first;
        while i < segments.len() {
            let torn = self.scan_segment(&segments[i])?;
            if torn && i + 1 < segments.len() {
                for dropped in segments.drain(i + 1..) {
                    tracing::warn!(segment = %dropped.path().display(), "dropped behind a torn segment");
                    self.report.dropped_segments += 1;
                    self.report.truncated_bytes += dropped.size();
                    remove_segment(&dropped)?;
                }
            }
            i += 1;
        }
        // Between segments there is no loss that could be seen: a cleaned segment may end early too.
        for pair in segments[first..].windows(2) {
            pair[0].set_next_offset(pair[1].base_offset());
        }
        Ok(Some(scanned_from))
    }

    /// Reads one segment from the recovery point on; true when its end was torn off.
    fn scan_segment(&mut self, segment: &LogSegment) -> Result<bool, LogError> {
        let recovery_point = self.open.recovery_point;
        let size = segment.size();
        let start = self.trusted_start(segment, recovery_point)?;
        self.report.scanned_segments += 1;
        let mut scan = segment.scan(start, size)?;
        let mut valid_end = start;
        let mut next_offset = segment.base_offset();
        let torn = loop {
            let batch = match scan.next_batch() {
                Ok(None) => break None,
                Ok(Some(batch)) => batch,
                Err(ScanError::Storage(e)) => return Err(e.into()),
                Err(corrupt) => break Some(corrupt),
            };
            let is_new = batch.header.base_offset >= recovery_point;
            if let Err(corrupt) = self.check_batch(segment, &scan, &batch, next_offset, is_new)? {
                break Some(corrupt);
            }
            // What the trusted part of the indexes holds already is not added again.
            if batch.position > start || start == 0 {
                self.index(segment, &batch)?;
            }
            self.note_epoch(&batch.header);
            valid_end = batch.end();
            next_offset = batch.header.next_offset();
            self.report.scanned_bytes += batch.header.size() as u64;
        };
        let is_torn = torn.is_some();
        if let Some(corrupt) = torn {
            if next_offset < recovery_point {
                // It was synced, so this is no torn write.
                return Err(corrupt.into());
            }
            tracing::warn!(
                segment = %segment.path().display(),
                position = valid_end,
                bytes = size - valid_end,
                reason = %corrupt,
                "cutting a torn end"
            );
            self.report.truncated_bytes += size - valid_end;
            let path = segment.path();
            File::options()
                .write(true)
                .open(&path)
                .and_then(|file| file.set_len(valid_end))
                .at("cut", &path)?;
            segment.set_size(valid_end);
        }
        segment.set_next_offset(next_offset);
        segment.seal()?;
        Ok(is_torn)
    }

    /// Where reading begins. Of the segment that holds the recovery point, the last index entry below it, when the
    /// indexes make sense; all entries behind it are dropped. Else the segment's start, with empty indexes.
    fn trusted_start(
        &mut self,
        segment: &LogSegment,
        recovery_point: Offset,
    ) -> Result<u64, LogError> {
        let path = segment.path();
        let offsets = segment.offset_index();
        let sane = segment.base_offset() < recovery_point
            && offsets.entries() > 0
            && offsets
                .is_sane(segment.size())
                .at("read the offset index of", &path)?
            && segment
                .time_index()
                .is_sane(Offset::MAX)
                .at("read the time index of", &path)?;
        if sane {
            offsets
                .truncate_to(recovery_point)
                .at("cut the offset index of", &path)?;
            if let Some(last) = offsets.last().at("read the offset index of", &path)? {
                let found = segment
                    .scan(last.position, segment.size())?
                    .next_batch()
                    .ok()
                    .flatten();
                if found.is_some_and(|batch| batch.header.last_offset() == last.offset) {
                    segment
                        .time_index()
                        .truncate_to(last.offset + 1)
                        .at("cut the time index of", &path)?;
                    return Ok(last.position);
                }
            }
        }
        if segment.size() > 0 {
            self.report.rebuilt_indexes += 1;
        }
        segment.clear_indexes().at("clear the indexes of", &path)?;
        Ok(0)
    }

    /// Checks a batch, with its CRC if it is above the recovery point.
    fn check_batch(
        &mut self,
        segment: &LogSegment,
        scan: &BatchScan,
        batch: &BatchPosition,
        next_offset: Offset,
        is_new: bool,
    ) -> Result<Result<(), ScanError>, LogError> {
        let corrupt = |reason: String| {
            Ok(Err(ScanError::Corrupt {
                path: scan.path().clone(),
                position: batch.position,
                reason,
            }))
        };
        if batch.header.base_offset < next_offset {
            return corrupt(format!(
                "base offset {} where {next_offset} or more is due",
                batch.header.base_offset
            ));
        }
        if !segment.offset_index().can_hold(batch.header.last_offset()) {
            return corrupt(format!(
                "offset {} does not belong to this segment",
                batch.header.last_offset()
            ));
        }
        if is_new {
            let computed = self.crc(scan.file(), batch).at("read", segment.path())?;
            if computed != batch.header.crc {
                return corrupt(format!(
                    "CRC-32C is {computed:#010x}, the batch says {:#010x}",
                    batch.header.crc
                ));
            }
        }
        Ok(Ok(()))
    }

    fn crc(&mut self, file: &File, batch: &BatchPosition) -> io::Result<u32> {
        let mut position = batch.position + CRC_START as u64;
        let mut crc = 0;
        while position < batch.end() {
            let len = (CRC_READ_LEN as u64).min(batch.end() - position) as usize;
            self.buffer.resize(len, 0);
            file.read_exact_at(&mut self.buffer, position)?;
            crc = crc32c::crc32c_append(crc, &self.buffer);
            position += len as u64;
        }
        Ok(crc)
    }

    fn note_epoch(&mut self, header: &BatchHeader) {
        let epoch = header.partition_leader_epoch;
        if epoch >= 0
            && self
                .epochs
                .latest_epoch()
                .is_none_or(|latest| latest < epoch)
        {
            self.epochs.assign(epoch, header.base_offset);
        }
    }
}
