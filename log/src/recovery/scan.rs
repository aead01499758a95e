//! Reading batches after a crash: from the recovery point on, each with its CRC, up to the first that is not whole.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use super::{Recovery, remove_segment};
use crate::durable;
use crate::log_error::{AtPath, LogError};
use crate::offset_index::OffsetPosition;
use crate::record::BatchHeader;
use crate::segment::{BatchPosition, BatchScan, LogSegment, ScanError};
use crate::time_index::MaxTimestamp;
use crate::types::{NO_LEADER_EPOCH, Offset};

/// The CRC covers a batch from its attributes on.
const CRC_START: usize = 21;
/// A batch is read in pieces of this size, so that a lying length costs no memory.
const CRC_READ_LEN: usize = 256 * 1024;

/// What a segment's files say that was not lost, as far as it is known before the batches are read.
#[derive(Default)]
struct Trusted {
    /// The position from which batches are read.
    start: u64,
    /// Index entries behind it, which the batches have to confirm.
    offsets: VecDeque<OffsetPosition>,
    times: VecDeque<MaxTimestamp>,
    /// Entries were thrown away, so those that took their place are to be synced.
    rebuilt: bool,
}

impl Trusted {
    /// The batches end before these entries.
    fn drop_rest(&mut self, segment: &LogSegment) -> io::Result<()> {
        if let Some(entry) = self.offsets.pop_front() {
            segment.offset_index().truncate_to(entry.offset)?;
        }
        if let Some(entry) = self.times.pop_front() {
            segment.time_index().truncate_to(entry.offset)?;
        }
        Ok(())
    }
}

impl Recovery<'_> {
    /// Checks the segments from the recovery point on and cuts the log where it is torn. Tells the base offset of the
    /// first segment that was read.
    pub(super) fn scan_segments(
        &mut self,
        segments: &mut Vec<LogSegment>,
    ) -> Result<Option<Offset>, LogError> {
        let recovery_point = self.open.recovery_point;
        // A segment that ends exactly at the recovery point may have been sealed after the sync.
        let first = segments
            .partition_point(|s| s.base_offset() < recovery_point)
            .saturating_sub(1);
        for synced in &segments[..first] {
            synced.mark_synced();
        }
        let scanned_from = segments[first].base_offset();
        let mut i = first;
        while i < segments.len() {
            let mut torn = self.scan_segment(&segments[i])?;
            if let Some(next) = segments.get(i + 1)
                && !self.config.cleanup_policy.compact
                && next.base_offset() > recovery_point
                && next.base_offset() != segments[i].next_offset()
            {
                // A cleaned segment may end early. Of other logs, a file's name or bytes are lost.
                tracing::warn!(
                    segment = %next.path().display(),
                    expected = segments[i].next_offset(),
                    "does not continue the segment before it"
                );
                torn = true;
            }
            if torn && i + 1 < segments.len() {
                self.drop_segments(segments, i + 1)?;
            }
            i += 1;
        }
        // Below the recovery point there is no gap that could be told from a cleaned segment's early end.
        for pair in segments[first..].windows(2) {
            pair[0].set_next_offset(pair[1].base_offset());
        }
        let end = segments.last().map_or(0, LogSegment::next_offset);
        if end < recovery_point {
            tracing::error!(
                dir = %self.dir.display(),
                end,
                recovery_point,
                "the log ends below its recovery point: it was cut without a checkpoint, or synced records are lost"
            );
        }
        Ok(Some(scanned_from))
    }

    /// Removes the segments behind a torn one, the last one first and each for good: whatever stops us leaves no hole.
    fn drop_segments(
        &mut self,
        segments: &mut Vec<LogSegment>,
        from: usize,
    ) -> Result<(), LogError> {
        for dropped in segments.drain(from..).rev() {
            tracing::warn!(segment = %dropped.path().display(), "dropped behind a torn segment");
            self.report.dropped_segments += 1;
            self.report.truncated_bytes += dropped.size();
            remove_segment(&dropped)?;
            durable::sync_dir(self.dir).at("sync", self.dir)?;
        }
        Ok(())
    }

    /// Reads one segment from the recovery point on; true when its end was torn off.
    fn scan_segment(&mut self, segment: &LogSegment) -> Result<bool, LogError> {
        let recovery_point = self.open.recovery_point;
        let size = segment.size();
        let mut trusted = self.trusted_start(segment, recovery_point)?;
        let start = trusted.start;
        self.report.scanned_segments += 1;
        let mut scan = segment.scan(start, size)?;
        let mut valid_end = start;
        let mut next_offset = segment.base_offset();
        let mut epoch = NO_LEADER_EPOCH;
        let torn = loop {
            let batch = scan.next_batch();
            // What is damaged below the recovery point takes its offsets along.
            next_offset = next_offset.max(scan.skipped_to().unwrap_or(next_offset));
            valid_end = valid_end.max(scan.skipped_position());
            let batch = match batch {
                Ok(None) => break None,
                Ok(Some(batch)) => batch,
                Err(ScanError::Storage(e)) => return Err(e.into()),
                Err(corrupt) => break Some(corrupt),
            };
            let is_new = batch.header.base_offset >= recovery_point;
            if !is_new {
                segment.set_synced_bytes(batch.end());
            }
            if is_new && batch.header.partition_leader_epoch < epoch {
                // Epochs only rise: these bytes are left of a log that was cut.
                break Some(scan.corrupt(format!(
                    "leader epoch {} after {epoch}",
                    batch.header.partition_leader_epoch
                )));
            }
            if let Err(corrupt) = self.check_batch(segment, &scan, &batch, next_offset, is_new)? {
                break Some(corrupt);
            }
            self.index_or_compare(segment, &batch, &mut trusted)
                .at("index", segment.path())?;
            self.note_epoch(&batch.header);
            epoch = epoch.max(batch.header.partition_leader_epoch);
            valid_end = batch.end();
            next_offset = batch.header.next_offset();
            self.report.scanned_bytes += batch.header.size() as u64;
        };
        trusted
            .drop_rest(segment)
            .at("cut the indexes of", segment.path())?;
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
            // For good: a power loss must not bring the torn bytes back behind what is appended next.
            let path = segment.path();
            File::options()
                .write(true)
                .open(&path)
                .and_then(|file| {
                    file.set_len(valid_end)?;
                    durable::sync_data(&file, &path)
                })
                .at("cut", &path)?;
            segment.set_size(valid_end);
        }
        segment.set_next_offset(next_offset);
        segment.seal()?;
        if trusted.rebuilt {
            segment.sync_indexes()?;
        }
        Ok(is_torn)
    }

    /// Where reading begins: in the segment that holds the recovery point, from where both its indexes have entries
    /// below it, when they make sense; else at the segment's start, with empty indexes.
    fn trusted_start(
        &mut self,
        segment: &LogSegment,
        recovery_point: Offset,
    ) -> Result<Trusted, LogError> {
        let path = segment.path();
        let (offsets, times) = (segment.offset_index(), segment.time_index());
        let sane = !self.without_indexes.contains(&segment.base_offset())
            && offsets
                .is_sane(segment.size())
                .at("read the offset index of", &path)?
            && times
                .is_sane(Offset::MAX)
                .at("read the time index of", &path)?;
        if sane {
            // Entries of the active segment's indexes are written but not synced, so one index may have lost more of
            // its end than the other.
            let (max, times) = times
                .split_before(recovery_point)
                .at("read the time index of", &path)?;
            let (entry, offsets) = offsets
                .split_at(max.offset.min(recovery_point - 1))
                .at("read the offset index of", &path)?;
            let start = match entry {
                None => Some(0),
                Some(entry) => segment
                    .scan(entry.position, segment.size())?
                    .next_batch()
                    .ok()
                    .flatten()
                    .filter(|batch| batch.header.last_offset() == entry.offset)
                    .map(|batch| batch.position),
            };
            if let Some(start) = start {
                segment.resume_indexes(max);
                return Ok(Trusted {
                    start,
                    offsets: offsets.into(),
                    times: times.into(),
                    rebuilt: false,
                });
            }
        }
        tracing::warn!(segment = %path.display(), "rebuilding its indexes");
        self.report.rebuilt_indexes += 1;
        segment.clear_indexes().at("clear the indexes of", &path)?;
        Ok(Trusted {
            rebuilt: true,
            ..Trusted::default()
        })
    }

    /// Holds the entries that are there against a batch, drops those that are wrong, and adds what is missing.
    fn index_or_compare(
        &mut self,
        segment: &LogSegment,
        batch: &BatchPosition,
        trusted: &mut Trusted,
    ) -> io::Result<()> {
        let interval = self.config.index_interval_bytes;
        let (due, max) = segment.note_batch(&batch.header, batch.position, interval)?;
        let last_offset = batch.header.last_offset();
        match trusted.offsets.front() {
            Some(entry) if entry.offset == last_offset && entry.position == batch.position => {
                trusted.offsets.pop_front();
            }
            Some(entry) if entry.offset <= last_offset => {
                segment.offset_index().truncate_to(entry.offset)?;
                trusted.offsets.clear();
                trusted.rebuilt = true;
                self.report.rebuilt_indexes += 1;
            }
            Some(_) => {}
            None if due => segment.offset_index().append(last_offset, batch.position)?,
            None => {}
        }
        match trusted.times.front() {
            Some(entry) if *entry == max => {
                trusted.times.pop_front();
            }
            Some(entry) if entry.offset <= last_offset => {
                segment.time_index().truncate_to(entry.offset)?;
                trusted.times.clear();
                trusted.rebuilt = true;
                self.report.rebuilt_indexes += 1;
            }
            Some(_) => {}
            None if due => segment.time_index().maybe_append(max)?,
            None => {}
        }
        Ok(())
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
        let (epoch, offset) = (header.partition_leader_epoch, header.base_offset);
        // What the checkpoint says of later offsets may be of records that are gone, or of a log start that a crash took
        // back: what is in the log is right.
        if epoch >= 0
            && self
                .epochs
                .start_of(epoch)
                .is_none_or(|start| start > offset)
        {
            self.epochs.assign(epoch, offset);
        }
    }
}
