//! Where each leader epoch of a partition began: Kafka's LeaderEpochFileCache and `leader-epoch-checkpoint`.
//!
//! The file: `0`, the count, then `epoch start_offset` lines. Epochs and start offsets both rise strictly.
//!
//! Changes happen in memory and mark the cache dirty; [`LeaderEpochFileCache::flush`] writes the file. A broker's
//! start raises the epochs of all its partitions, and an epoch without records need not be on disk yet: whoever
//! appends flushes first. What a crash loses above the recovery point comes back from the batches' headers.
//!
//! The cache is cut at the log start, never at the local start: the tier's records need their epochs.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::checkpoint::{StateFileError, parse_checkpoint, write_checkpoint};
use crate::types::{LeaderEpoch, Offset};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EpochEntry {
    pub epoch: LeaderEpoch,
    pub start_offset: Offset,
}

#[derive(Debug)]
pub struct LeaderEpochFileCache {
    path: PathBuf,
    /// Start offsets by epoch.
    epochs: BTreeMap<LeaderEpoch, Offset>,
    dirty: bool,
    /// What the file holds.
    written: Vec<EpochEntry>,
}

impl LeaderEpochFileCache {
    pub const NAME: &'static str = "leader-epoch-checkpoint";

    /// Reads the partition folder's checkpoint; without a file the cache is empty.
    pub fn open(dir: &Path) -> Result<Self, StateFileError> {
        let path = dir.join(Self::NAME);
        let entries = parse_checkpoint(&path, |words| {
            let [epoch, start_offset] = words else {
                return None;
            };
            Some(EpochEntry {
                epoch: epoch.parse().ok().filter(|e| *e >= 0)?,
                start_offset: start_offset.parse().ok().filter(|o| *o >= 0)?,
            })
        })?;
        let mut cache = Self::empty(dir);
        for entry in entries {
            cache.assign(entry.epoch, entry.start_offset);
        }
        cache.dirty = false;
        cache.written = cache.entries();
        Ok(cache)
    }

    /// A cache without entries; the file is not looked at.
    pub fn empty(dir: &Path) -> Self {
        Self {
            path: dir.join(Self::NAME),
            epochs: BTreeMap::new(),
            dirty: false,
            written: Vec::new(),
        }
    }

    /// Notes that `epoch` begins at `start_offset`. Entries that contradict it (a later or equal epoch, or one that
    /// begins there or beyond) give way. Tells whether anything changed.
    pub fn assign(&mut self, epoch: LeaderEpoch, start_offset: Offset) -> bool {
        if epoch < 0 || start_offset < 0 {
            return false;
        }
        if let Some(latest) = self.latest()
            && latest.epoch == epoch
            && latest.start_offset <= start_offset
        {
            return false;
        }
        self.epochs
            .retain(|e, start| *e < epoch && *start < start_offset);
        self.epochs.insert(epoch, start_offset);
        self.dirty = true;
        true
    }

    /// Replaces all entries, as a restore from the tier does.
    pub fn replace(&mut self, entries: &[EpochEntry]) {
        self.epochs.clear();
        for entry in entries {
            self.assign(entry.epoch, entry.start_offset);
        }
        self.dirty = true;
    }

    pub fn latest(&self) -> Option<EpochEntry> {
        self.epochs.last_key_value().map(entry)
    }

    pub fn latest_epoch(&self) -> Option<LeaderEpoch> {
        self.latest().map(|e| e.epoch)
    }

    pub fn earliest(&self) -> Option<EpochEntry> {
        self.epochs.first_key_value().map(entry)
    }

    /// All entries, oldest first.
    pub fn entries(&self) -> Vec<EpochEntry> {
        self.epochs.iter().map(entry).collect()
    }

    pub fn is_empty(&self) -> bool {
        self.epochs.is_empty()
    }

    /// The largest known epoch that is at most `requested`, and where it ends: OffsetForLeaderEpoch's answer.
    /// `None`: the epoch is not known here, in that it is newer than all.
    pub fn end_offset_for(
        &self,
        requested: LeaderEpoch,
        log_end_offset: Offset,
    ) -> Option<(LeaderEpoch, Offset)> {
        let latest = self.latest()?;
        if requested < 0 || requested > latest.epoch {
            return None;
        }
        if requested == latest.epoch {
            return Some((requested, log_end_offset));
        }
        let (_, next_start) = self.epochs.range(requested.saturating_add(1)..).next()?;
        // An epoch before all that is known ended where the known ones begin.
        let epoch = self
            .epochs
            .range(..=requested)
            .next_back()
            .map_or(requested, |(epoch, _)| *epoch);
        Some((epoch, *next_start))
    }

    /// The epoch that the record at `offset` was written in.
    pub fn epoch_for_offset(&self, offset: Offset) -> Option<LeaderEpoch> {
        self.epochs
            .iter()
            .rev()
            .find(|(_, start)| **start <= offset)
            .map(|(epoch, _)| *epoch)
    }

    /// Where `epoch` begins, if it is known.
    pub fn start_of(&self, epoch: LeaderEpoch) -> Option<Offset> {
        self.epochs.get(&epoch).copied()
    }

    /// The epoch before `epoch`.
    pub fn previous_epoch(&self, epoch: LeaderEpoch) -> Option<LeaderEpoch> {
        self.epochs.range(..epoch).next_back().map(|(e, _)| *e)
    }

    /// Drops the epochs that begin at or beyond `end_offset`: the log was cut there.
    pub fn truncate_from_end(&mut self, end_offset: Offset) {
        let before = self.epochs.len();
        self.epochs.retain(|_, start| *start < end_offset);
        self.dirty |= self.epochs.len() != before;
    }

    /// Drops the epochs that end at or below `start_offset`; the one that spans it begins there now.
    pub fn truncate_from_start(&mut self, start_offset: Offset) {
        let Some(spanning) = self.epoch_for_offset(start_offset) else {
            return;
        };
        let first = self.earliest();
        self.epochs.retain(|epoch, _| *epoch >= spanning);
        self.epochs.insert(spanning, start_offset);
        self.dirty |= self.earliest() != first;
    }

    pub fn clear(&mut self) {
        self.dirty |= !self.epochs.is_empty();
        self.epochs.clear();
    }

    /// The file is older than the cache.
    pub fn is_dirty(&self) -> bool {
        self.dirty
    }

    /// Writes the file if it is older than the cache. With `sync` it is on disk on return.
    pub fn flush(&mut self, sync: bool) -> Result<(), StateFileError> {
        if !self.dirty {
            return Ok(());
        }
        let lines = self
            .epochs
            .iter()
            .map(|(epoch, start)| format!("{epoch} {start}"));
        write_checkpoint(&self.path, lines, sync)?;
        self.dirty = false;
        self.written = self.entries();
        Ok(())
    }

    /// As [`Self::flush`], but does nothing when the file is right as far as epochs below `end_offset` go. Those that begin
    /// there have no record yet.
    pub fn flush_below(&mut self, end_offset: Offset, sync: bool) -> Result<(), StateFileError> {
        let is_below = |entry: &&EpochEntry| entry.start_offset < end_offset;
        let now = self.entries();
        let is_right = now
            .iter()
            .filter(is_below)
            .eq(self.written.iter().filter(is_below));
        if is_right { Ok(()) } else { self.flush(sync) }
    }
}

fn entry((epoch, start_offset): (&LeaderEpoch, &Offset)) -> EpochEntry {
    EpochEntry {
        epoch: *epoch,
        start_offset: *start_offset,
    }
}

#[cfg(test)]
mod tests;
