//! Where batches are whole again behind bytes that are none.
//!
//! 1. The offset index knows where batches begin: the first entry further on that a batch confirms is certain.
//! 2. Up to there, or to the segment's end when there is no such entry, the bytes are searched for a batch from which
//!    whole batches, each with its right CRC, go on exactly to that point. A record may hold a copy of a batch: that one
//!    is followed by the rest of the record, so it does not get there.
//! 3. Without either, nothing of the rest can be told.

use std::os::unix::fs::FileExt;

use super::{BatchPosition, LogSegment, ScanError, Skip};
use crate::log_error::{AtPath, LogError, StorageError};
use crate::record::{BATCH_HEADER_LEN, BatchHeader};
use crate::types::Offset;

/// So much is searched at a time.
const WINDOW_BYTES: usize = 1 << 20;
/// A batch's magic byte lies here, and is this.
const MAGIC_AT: usize = 16;
const MAGIC: u8 = 2;
/// Bytes that look like a header and begin no chain to the end are tried this often: each costs a read.
const CANDIDATES_MAX: usize = 1_000;

impl LogSegment {
    /// Remembers a stretch that walks are to pass over.
    pub(crate) fn note_skip(&self, skip: Skip) {
        let mut skips = self.skips.write();
        skips.retain(|known| known.position != skip.position);
        skips.push(skip);
        skips.sort_unstable_by_key(|skip| skip.position);
    }

    pub(super) fn skip_that_ends_at(&self, position: u64) -> Option<Skip> {
        let skips = self.skips.read();
        skips.iter().find(|skip| skip.resume == position).copied()
    }

    /// The bytes from `position` on are gone.
    pub(super) fn forget_skips_from(&self, position: u64) {
        self.skips.write().retain(|skip| skip.position < position);
    }

    /// The first whole batch behind `position`, where one with `next_offset` or a later one should begin and does not.
    pub(crate) fn resume_behind(
        &self,
        position: u64,
        next_offset: Offset,
    ) -> Result<Option<BatchPosition>, LogError> {
        let (_, entries) = self
            .offset_index()
            .split_at(self.base_offset() - 1)
            .at("read the offset index of", self.path())?;
        let mut certain = None;
        for entry in entries {
            if entry.position <= position || entry.position >= self.size() {
                continue;
            }
            let batch = match self.scan(entry.position, self.size())?.next_batch() {
                Err(ScanError::Storage(e)) => return Err(e.into()),
                batch => batch.ok().flatten(),
            };
            certain = batch.filter(|batch| {
                batch.position == entry.position
                    && batch.header.last_offset() == entry.offset
                    && batch.header.base_offset >= next_offset
            });
            if certain.is_some() {
                break;
            }
        }
        let until = certain.map_or(self.size(), |batch| batch.position);
        let sooner = self.search_batch(position + 1, until, next_offset)?;
        Ok(sooner.or(certain))
    }

    fn search_batch(
        &self,
        from: u64,
        end: u64,
        next_offset: Offset,
    ) -> Result<Option<BatchPosition>, StorageError> {
        let (path, file) = (self.path(), self.file()?);
        let mut window = Vec::new();
        let mut at = from;
        let mut candidates = 0;
        while at + BATCH_HEADER_LEN as u64 <= end {
            window.resize((WINDOW_BYTES as u64).min(end - at) as usize, 0);
            file.read_exact_at(&mut window, at).at("read", &path)?;
            let starts = window.len() - BATCH_HEADER_LEN + 1;
            for start in 0..starts {
                let bytes = &window[start..start + BATCH_HEADER_LEN];
                if bytes[MAGIC_AT] != MAGIC {
                    continue;
                }
                let Ok(header) = BatchHeader::parse(bytes) else {
                    continue;
                };
                let batch = BatchPosition {
                    position: at + start as u64,
                    header,
                };
                let fits = header.base_offset >= next_offset
                    && header.last_offset_delta >= 0
                    && batch.end() <= end
                    && self.offset_index().can_hold(header.last_offset());
                if !fits {
                    continue;
                }
                if self.goes_on_to(end, &batch)? {
                    return Ok(Some(batch));
                }
                candidates += 1;
                if candidates == CANDIDATES_MAX {
                    return Ok(None);
                }
            }
            at += starts as u64;
        }
        Ok(None)
    }

    fn goes_on_to(&self, end: u64, first: &BatchPosition) -> Result<bool, StorageError> {
        let mut scan = self.scan(first.position, end)?;
        let mut next_offset = first.header.base_offset;
        loop {
            match scan.next_batch() {
                Ok(None) => return Ok(true),
                Ok(Some(batch)) => {
                    if batch.header.base_offset < next_offset
                        || scan.crc_of(&batch)? != batch.header.crc
                    {
                        return Ok(false);
                    }
                    next_offset = batch.header.next_offset();
                }
                Err(ScanError::Storage(e)) => return Err(e),
                Err(ScanError::Corrupt { .. }) => return Ok(false),
            }
        }
    }

    /// The position of the batch that the last index entry at or below `position` names.
    pub(crate) fn batch_at_or_before(&self, position: u64) -> Result<u64, LogError> {
        let (_, entries) = self
            .offset_index()
            .split_at(self.base_offset() - 1)
            .at("read the offset index of", self.path())?;
        for entry in entries.iter().rev().filter(|e| e.position <= position) {
            let batch = self.scan(entry.position, self.size())?.next_batch();
            if let Ok(Some(batch)) = batch
                && batch.position == entry.position
                && batch.header.last_offset() == entry.offset
            {
                return Ok(entry.position);
            }
        }
        Ok(0)
    }

    /// Where the batch at `position` should begin: the offset at which the one before it ends.
    pub(crate) fn end_before(&self, position: u64) -> Result<Offset, LogError> {
        let (_, entries) = self
            .offset_index()
            .split_at(self.base_offset() - 1)
            .at("read the offset index of", self.path())?;
        let entry = entries.iter().rev().find(|entry| entry.position < position);
        let mut scan = self.scan(entry.map_or(0, |entry| entry.position), position)?;
        let mut end = self.base_offset();
        while let Ok(Some(batch)) = scan.next_batch() {
            end = batch.header.next_offset();
        }
        Ok(scan.skipped_to().map_or(end, |skipped| skipped.max(end)))
    }
}
