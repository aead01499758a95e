//! Damaged batches: found by a start, a scrub, an upload, a cleaning, or by whoever reads the log, and remembered.
//!
//! Below the recovery point everything was synced, so a batch there that is not whole is no torn write: the disk lost it.
//! It is never skipped and never cut. Reads that begin in it fail with its file and position, reads before it end at it,
//! and all other offsets are served on. What is known is kept in the partition's `damaged-batches`, until the segment
//! goes or a start finds the bytes right again: somebody put a good file back.
//!
//! A hot read sends file bytes without looking at them, as Kafka does: the client's CRC check is what finds damage that
//! no scrub has met yet.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::Log;
use crate::checkpoint::{DamageEntry, DamageFile};
use crate::file_cache::FileKey;
use crate::log_error::LogError;
use crate::segment::{LogSegment, ScanError, Skip};
use crate::segment_files::{SegmentFile, segment_path};
use crate::segments::floor;
use crate::types::Offset;

/// More than this of one log are not remembered: its disk is gone.
pub(crate) const DAMAGES_MAX: usize = 1_000;

/// A stretch of the log that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The first offset that is lost.
    pub start: Offset,
    /// Reads are right again from here on.
    pub end: Offset,
    pub path: PathBuf,
    pub segment_base: Offset,
    /// In the file, where the batch begins that is not whole.
    pub position: u64,
    /// In the file, where batches are whole again.
    pub resume: u64,
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

    pub(crate) fn skip(&self) -> Skip {
        Skip {
            position: self.position,
            resume: self.resume,
            end: self.end,
        }
    }

    fn entry(&self) -> DamageEntry {
        DamageEntry {
            start: self.start,
            end: self.end,
            segment_base: self.segment_base,
            position: self.position,
            resume: self.resume,
            reason: self.reason.clone(),
        }
    }
}

/// What the partition's folder says is damaged. A file that does not parse says nothing: a scrub finds it again.
pub(crate) fn read_damages(dir: &Path) -> Vec<Damage> {
    match DamageFile::new(dir).read() {
        Ok(entries) => entries
            .into_iter()
            .take(DAMAGES_MAX)
            .map(|e| Damage {
                start: e.start,
                end: e.end,
                path: segment_path(dir, e.segment_base, SegmentFile::Log),
                segment_base: e.segment_base,
                position: e.position,
                resume: e.resume,
                reason: e.reason,
            })
            .collect(),
        Err(error) => {
            tracing::warn!(%error, "going on without what was known to be damaged");
            Vec::new()
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

    /// How many stretches of the log are known to be damaged.
    pub fn damage_count(&self) -> usize {
        match self.is_damaged.load(Ordering::Acquire) {
            true => self.damages.lock().len(),
            false => 0,
        }
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
        self.skip_over(&damage);
        damages.insert(damage.start, damage);
        self.is_damaged.store(true, Ordering::Release);
        self.damages_changed.store(true, Ordering::Release);
        true
    }

    /// Walks of the segment pass over it from here on.
    fn skip_over(&self, damage: &Damage) {
        let segments = self.segments.snapshot();
        if let Some(at) = floor(&segments, damage.segment_base)
            && segments[at].base_offset() == damage.segment_base
        {
            segments[at].note_skip(damage.skip());
        }
    }

    /// Looks at what an upload, a cleaner or a reader of the segment file at `path` has stumbled over: from the last index
    /// entry before `position` on, each batch is checked. Tells whether something new is damaged.
    pub fn examine(&self, path: &Path, position: u64) -> Result<bool, LogError> {
        let name = path.file_name().and_then(|name| name.to_str());
        match name.and_then(SegmentFile::parse) {
            Some((base, SegmentFile::Log)) => self.examine_segment(base, position),
            _ => Ok(false),
        }
    }

    /// As [`Self::examine`], of the segment at `base`.
    pub fn examine_segment(&self, base: Offset, position: u64) -> Result<bool, LogError> {
        let segments = self.segments.snapshot();
        let Some(segment) = floor(&segments, base)
            .map(|at| &segments[at])
            .filter(|segment| segment.base_offset() == base)
        else {
            return Ok(false);
        };
        let mut at = segment.batch_at_or_before(position)?;
        let mut found = false;
        while at <= position && at < segment.size() {
            let (next, damage) = check_batch(segment, at)?;
            if let Some(damage) = damage
                && self.still_holds(segment)
            {
                found |= self.note_damage(damage);
            }
            at = next;
        }
        self.keep_damages();
        Ok(found)
    }

    /// Writes down what is known to be damaged, if that has changed. Blocks.
    pub(super) fn keep_damages(&self) {
        if !self.damages_changed.swap(false, Ordering::AcqRel) {
            return;
        }
        // One after the other, or an older list could come last.
        let damages = self.damages.lock();
        let entries: Vec<DamageEntry> = damages.values().map(Damage::entry).collect();
        if let Err(error) = DamageFile::new(&self.dir).write(&entries) {
            self.damages_changed.store(true, Ordering::Release);
            tracing::warn!(partition = %self.tp, %error, "what is damaged would not be known after a restart");
        }
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
        let before = damages.len();
        damages.retain(|_, damage| damage.end > start && damage.start < end);
        self.is_damaged
            .store(!damages.is_empty(), Ordering::Release);
        let changed = damages.len() < before;
        drop(damages);
        if changed {
            self.damages_changed.store(true, Ordering::Release);
            self.keep_damages();
        }
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
                break;
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
                    self.keep_damages();
                    return Ok(done);
                }
                let (next, damage) = check_batch(segment, position)?;
                done.bytes += next - position;
                position = next;
                if let Some(damage) = damage
                    && self.still_holds(segment)
                {
                    done.damages += usize::from(self.note_damage(damage));
                }
            }
        }
        self.keep_damages();
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
fn check_batch(segment: &LogSegment, position: u64) -> Result<(u64, Option<Damage>), LogError> {
    let path = segment.path();
    let mut scan = segment.scan(position, segment.size())?;
    let batch = match scan.next_batch() {
        Ok(Some(batch)) => batch,
        Ok(None) => return Ok((segment.size(), None)),
        Err(ScanError::Storage(e)) => return Err(e.into()),
        Err(ScanError::Corrupt { reason, .. }) => {
            let damage = headless(segment, position, segment.next_offset(), reason)?;
            return Ok((damage.resume, Some(damage)));
        }
    };
    let computed = scan.crc_of(&batch)?;
    let damage = (computed != batch.header.crc).then(|| Damage {
        start: batch.header.base_offset,
        end: batch.header.next_offset(),
        path,
        segment_base: segment.base_offset(),
        position: batch.position,
        resume: batch.end(),
        reason: format!(
            "CRC-32C is {computed:#010x}, the batch says {:#010x}",
            batch.header.crc
        ),
    });
    Ok((batch.end(), damage))
}

/// The damage that begins at `position`, where there is no header that makes sense. When nothing behind it can be read
/// either, all up to `segment_end` is lost.
pub(crate) fn headless(
    segment: &LogSegment,
    position: u64,
    segment_end: Offset,
    reason: String,
) -> Result<Damage, LogError> {
    let start = segment.end_before(position)?;
    let behind = segment.resume_behind(position, start)?;
    let end = behind.map_or(segment_end, |batch| batch.header.base_offset);
    Ok(Damage {
        start,
        // Where a compacted log has a hole, no offset may be lost; that something is, has to be known all the same.
        end: end.max(start + 1),
        path: segment.path(),
        segment_base: segment.base_offset(),
        position,
        resume: behind.map_or(segment.size(), |batch| batch.position),
        reason,
    })
}
