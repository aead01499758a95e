//! What a start knows of damage below the recovery point: what the folder says, and what it stumbles over itself.

use std::io;
use std::path::Path;
use std::sync::Arc;

use super::{Recovery, remove};
use crate::checkpoint::DamageFile;
use crate::durable;
use crate::log::{DAMAGES_MAX, Damage, OpenLog, headless, read_damages};
use crate::log_error::{AtPath, LogError};
use crate::segment::{LogSegment, ScanError};
use crate::segment_files::{SegmentFile, segment_path};
use crate::types::Offset;

/// The damages of one log.
#[derive(Default)]
pub(super) struct Known {
    pub damages: Vec<Damage>,
    /// The folder says something else.
    pub changed: bool,
    /// So many were found by this start.
    pub found: usize,
}

impl Known {
    /// Reads what the folder says, and looks again: what is whole again is damaged no more. Costs nothing where nothing
    /// is damaged.
    pub fn read(dir: &Arc<Path>, names: &[String], open: &OpenLog) -> Result<Self, LogError> {
        let mut known = Self::default();
        if !names.iter().any(|name| name == DamageFile::NAME) {
            return Ok(known);
        }
        for damage in read_damages(dir) {
            if still_damaged(dir, &damage, open)? {
                known.damages.push(damage);
            } else {
                known.changed = true;
                tracing::info!(file = %damage.path.display(), position = damage.position, "is whole again");
            }
        }
        // A file that did not parse says nothing.
        known.changed |= known.damages.is_empty();
        Ok(known)
    }

    /// Takes in what a try has stumbled over, if it is damage that can be passed over.
    pub fn note(
        &mut self,
        dir: &Arc<Path>,
        path: &Path,
        position: u64,
        reason: &str,
        open: &OpenLog,
    ) -> Result<bool, LogError> {
        let known = |d: &Damage| d.path == path && (d.position..d.resume).contains(&position);
        if self.damages.len() >= DAMAGES_MAX || self.damages.iter().any(known) {
            return Ok(false);
        }
        let Some(base) = base_of(path) else {
            return Ok(false);
        };
        let (segment, was_without) =
            LogSegment::open(Arc::clone(dir), base, Arc::clone(&open.files))?;
        for damage in self.damages.iter().filter(|d| d.segment_base == base) {
            segment.note_skip(damage.skip());
        }
        let next_base = super::listing::Listing::read(dir, &super::listing::names(dir)?)?
            .logs
            .range(base + 1..)
            .next()
            .copied();
        let end = next_base
            .unwrap_or(open.recovery_point)
            .max(segment.end_before(position)?);
        let damage = headless(&segment, position, end, reason.to_owned())?;
        if was_without {
            // Opening it has made empty ones, which the next try must not take for good.
            for kind in [SegmentFile::OffsetIndex, SegmentFile::TimeIndex] {
                remove(&segment_path(dir, base, kind))?;
            }
        }
        self.damages.push(damage);
        self.changed = true;
        self.found += 1;
        Ok(true)
    }

    /// Those that are part of the log.
    pub fn within(&self, start: Offset, end: Offset) -> Vec<Damage> {
        let is_within = |damage: &&Damage| damage.end > start && damage.start < end;
        self.damages.iter().filter(is_within).cloned().collect()
    }
}

fn base_of(path: &Path) -> Option<Offset> {
    match SegmentFile::parse(path.file_name()?.to_str()?)? {
        (base, SegmentFile::Log) => Some(base),
        _ => None,
    }
}

/// Whether there is still no whole batch with the right offset.
fn still_damaged(dir: &Arc<Path>, damage: &Damage, open: &OpenLog) -> Result<bool, LogError> {
    let size = match std::fs::metadata(&damage.path).at("look at", &damage.path) {
        Ok(metadata) => metadata.len(),
        Err(e) if e.is_not_found() => return Ok(false),
        Err(e) => return Err(e.into()),
    };
    if damage.position >= size {
        return Ok(false);
    }
    let base = damage.segment_base;
    let (segment, was_without) = LogSegment::open(Arc::clone(dir), base, Arc::clone(&open.files))?;
    if was_without {
        for kind in [SegmentFile::OffsetIndex, SegmentFile::TimeIndex] {
            remove(&segment_path(dir, base, kind))?;
        }
    }
    let mut scan = segment.scan(damage.position, size)?;
    // All of the stretch has to be right: it may have held many batches.
    loop {
        match scan.next_batch() {
            Ok(Some(batch)) => {
                let first = batch.position == damage.position;
                match scan.crc_of(&batch) {
                    Ok(crc) if crc != batch.header.crc => return Ok(true),
                    Ok(_) => {}
                    // Unreadable is as good as damaged.
                    Err(_) => return Ok(true),
                }
                if first && batch.header.base_offset != damage.start {
                    return Ok(true);
                }
                if batch.end() >= damage.resume {
                    return Ok(batch.end() > damage.resume);
                }
            }
            Ok(None) => return Ok(false),
            Err(ScanError::Corrupt { .. } | ScanError::Storage(_)) => return Ok(true),
        }
    }
}

impl Recovery<'_> {
    /// Seals a last segment that is damaged and begins one at the log's end: what is appended must not depend on bytes
    /// that nobody can walk.
    pub(super) fn begin_behind_damage(
        &mut self,
        segments: &mut Vec<LogSegment>,
        log_end: Offset,
    ) -> Result<(), LogError> {
        let Some(last) = segments.last() else {
            return Ok(());
        };
        let is_damaged = self
            .known
            .iter()
            .any(|damage| damage.segment_base == last.base_offset());
        if !is_damaged || log_end == last.base_offset() {
            return Ok(());
        }
        last.seal()?;
        last.sync_indexes()?;
        last.set_next_offset(log_end);
        last.deactivate();
        segments.push(self.create(log_end)?);
        durable::sync_dir(self.dir)
            .map_err(|e| io::Error::new(e.kind(), e))
            .at("sync", self.dir)?;
        Ok(())
    }
}
