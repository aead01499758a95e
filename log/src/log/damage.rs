//! Damaged batches: found by a scrub, an upload, a cleaning, or by whoever reads the log, and remembered.
//!
//! Below the recovery point everything was synced, so a batch there that is not whole is no torn write: the disk lost it.
//! It is never skipped and never cut. Reads that begin in it fail with its file and position, reads before it end at it,
//! and all other offsets are served on. What is remembered is forgotten by a restart, and found again by the scrub.
//!
//! A hot read sends file bytes without looking at them, as Kafka does: the client's CRC check is what finds damage that
//! no scrub has met yet.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::Log;
use crate::file_cache::FileKey;
use crate::log_error::{AtPath, LogError};
use crate::segment::{BatchPosition, LogSegment, ScanError};
use crate::segments::floor;
use crate::types::Offset;

/// The CRC covers a batch from its attributes on.
const CRC_START: u64 = 21;
/// A batch is read in pieces of this size.
const READ_LEN: u64 = 256 * 1024;
/// More than this of one log are not remembered: its disk is gone.
const DAMAGES_MAX: usize = 1_000;

/// A stretch of the log that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The first offset that is lost.
    pub start: Offset,
    /// Reads are right again from here on.
    pub end: Offset,
    pub path: PathBuf,
    /// In the file, where the batch begins that is not whole.
    pub position: u64,
    pub reason: String,
}

impl Damage {
    pub(super) fn error(&self) -> LogError {
        LogError::Corrupt {
            path: self.path.clone(),
            position: self.position,
            reason: self.reason.clone(),
        }
    }
}

/// Where a scrub goes on: a position in the segment at a base offset.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ScrubPoint {
    pub segment_base: Offset,
    pub position: u64,
    /// Of the very segment that was read: a cleaner may have put another one in its place.
    file_key: Option<FileKey>,
}

/// What one step of a scrub has done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scrubbed {
    /// `None`: the log's synced, sealed part has been read to its end.
    pub next: Option<ScrubPoint>,
    pub bytes: u64,
    pub damages: usize,
}

impl Log {
    /// The damages that are known, by offset.
    pub fn damages(&self) -> Vec<Damage> {
        self.damages.lock().values().cloned().collect()
    }

    /// Remembers a damage, whoever found it. Tells whether it is new.
    pub fn note_damage(&self, damage: Damage) -> bool {
        let mut damages = self.damages.lock();
        if damages.len() >= DAMAGES_MAX || damages.contains_key(&damage.start) {
            return false;
        }
        tracing::error!(
            partition = %self.tp,
            file = %damage.path.display(),
            position = damage.position,
            start = damage.start,
            end = damage.end,
            reason = %damage.reason,
            "a damaged batch"
        );
        damages.insert(damage.start, damage);
        self.is_damaged.store(true, Ordering::Release);
        true
    }

    /// The first damage that ends behind `offset`.
    pub(super) fn damage_behind(&self, offset: Offset) -> Option<Damage> {
        if !self.is_damaged.load(Ordering::Acquire) {
            return None;
        }
        let damages = self.damages.lock();
        damages.values().find(|damage| damage.end > offset).cloned()
    }

    /// Forgets damages that are no part of the log any more.
    pub(super) fn forget_damages(&self) {
        if !self.is_damaged.load(Ordering::Acquire) {
            return;
        }
        let (start, end) = (self.local_log_start_offset(), self.log_end_offset());
        let mut damages = self.damages.lock();
        damages.retain(|_, damage| damage.end > start && damage.start < end);
        self.is_damaged
            .store(!damages.is_empty(), Ordering::Release);
    }

    /// Reads about `bytes_max` bytes of the sealed segments that are synced, from `from` on, and checks every header and
    /// CRC. The caller keeps the budget.
    pub fn scrub(&self, from: ScrubPoint, bytes_max: u64) -> Result<Scrubbed, LogError> {
        self.check_open()?;
        let segments = self.segments.snapshot();
        let sealed = &segments[..segments.len() - 1];
        let mut done = Scrubbed::default();
        // The segment may be gone meanwhile: then the one behind it comes.
        let first = sealed.partition_point(|s| s.base_offset() < from.segment_base);
        for segment in &sealed[first..] {
            if segment.next_offset() > self.recovery_point() {
                return Ok(done);
            }
            let mut position = match from.file_key == Some(segment.file_key()) {
                true => from.position,
                false => 0,
            };
            while position < segment.size() {
                if done.bytes >= bytes_max {
                    done.next = Some(ScrubPoint {
                        segment_base: segment.base_offset(),
                        position,
                        file_key: Some(segment.file_key()),
                    });
                    return Ok(done);
                }
                let (next, damage) = scrub_batch(segment, position)?;
                done.bytes += next - position;
                position = next;
                if let Some(damage) = damage
                    && self.still_holds(segment)
                {
                    done.damages += usize::from(self.note_damage(damage));
                }
            }
        }
        Ok(done)
    }

    /// Nobody cut, cleaned or dropped it while it was read.
    fn still_holds(&self, segment: &Arc<LogSegment>) -> bool {
        let segments = self.segments.snapshot();
        floor(&segments, segment.base_offset())
            .is_some_and(|at| Arc::ptr_eq(&segments[at], segment) && at + 1 < segments.len())
    }
}

/// Checks the batch at `position`; tells where the next one begins, and what is wrong.
fn scrub_batch(segment: &LogSegment, position: u64) -> Result<(u64, Option<Damage>), LogError> {
    let path = segment.path();
    let mut scan = segment.scan(position, segment.size())?;
    let batch = match scan.next_batch() {
        Ok(Some(batch)) => batch,
        Ok(None) => return Ok((segment.size(), None)),
        Err(ScanError::Storage(e)) => return Err(e.into()),
        Err(ScanError::Corrupt { reason, .. }) => {
            let (next, end) = resume_behind(segment, position)?;
            let damage = Damage {
                start: end_before(segment, position)?,
                end,
                path,
                position,
                reason,
            };
            return Ok((next, Some(damage)));
        }
    };
    let computed = crc_of(scan.file(), &batch).at("read", &path)?;
    let damage = (computed != batch.header.crc).then(|| Damage {
        start: batch.header.base_offset,
        end: batch.header.next_offset(),
        path,
        position,
        reason: format!(
            "CRC-32C is {computed:#010x}, the batch says {:#010x}",
            batch.header.crc
        ),
    });
    Ok((batch.end(), damage))
}

fn crc_of(file: &File, batch: &BatchPosition) -> io::Result<u32> {
    let mut position = batch.position + CRC_START;
    let mut buffer = vec![0; READ_LEN.min(batch.end() - position) as usize];
    let mut crc = 0;
    while position < batch.end() {
        let len = READ_LEN.min(batch.end() - position) as usize;
        file.read_exact_at(&mut buffer[..len], position)?;
        crc = crc32c::crc32c_append(crc, &buffer[..len]);
        position += len as u64;
    }
    Ok(crc)
}

/// Behind a header that makes no sense only the index knows where a batch begins: the first entry further on that
/// a batch confirms. Reads are right from that batch's last offset on, which is what the entry names.
fn resume_behind(segment: &LogSegment, position: u64) -> Result<(u64, Offset), LogError> {
    let path = segment.path();
    let (_, entries) = segment
        .offset_index()
        .split_at(segment.base_offset() - 1)
        .at("read the offset index of", &path)?;
    for entry in entries.iter().filter(|entry| entry.position > position) {
        let mut scan = segment.scan(entry.position, segment.size())?;
        if let Ok(Some(batch)) = scan.next_batch()
            && batch.header.last_offset() == entry.offset
        {
            return Ok((entry.position, entry.offset));
        }
    }
    Ok((segment.size(), segment.next_offset()))
}

/// The offset at which the batch at `position` should begin: where the one before it ends.
fn end_before(segment: &LogSegment, position: u64) -> Result<Offset, LogError> {
    let path = segment.path();
    let (_, entries) = segment
        .offset_index()
        .split_at(segment.base_offset() - 1)
        .at("read the offset index of", &path)?;
    let entry = entries.iter().rev().find(|entry| entry.position < position);
    let mut scan = segment.scan(entry.map_or(0, |entry| entry.position), position)?;
    let mut end = segment.base_offset();
    while let Ok(Some(batch)) = scan.next_batch() {
        end = batch.header.next_offset();
    }
    Ok(end)
}
