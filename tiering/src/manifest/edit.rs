//! Edits of a manifest, and the checks that they pass before anything is written.

use strandline_log::leader_epoch::EpochEntry;
use strandline_log::{LeaderEpoch, Offset, TimestampMs};

use super::entry::{Gap, GapCause, ManifestEntry, ObjectRef, PageRef};
use super::state::{Manifest, NONCES_KEPT};
use crate::fence::Fence;
use crate::format::object_key::PageName;
use crate::id_source::Nonce;

/// One change. Several may be applied together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Edit {
    /// Nothing but the fence: from then on no older one succeeds.
    Claim,
    /// Names an uploaded object; it begins exactly at the end. `epochs` are those of the range.
    Append {
        entry: ManifestEntry,
        epochs: Vec<EpochEntry>,
    },
    /// Puts offsets on record that are in no object, from the end to `end`.
    RecordGap { end: Offset, cause: GapCause },
    /// Hides everything below. Never goes back. Beyond the end, what was not uploaded counts as expired.
    AdvanceLogStart { offset: Offset },
    /// Forgets entries that end at or below `below`, which the log start must have passed. When the cut goes through
    /// a page, `cut` says where; see `ManifestStore::plan_remove_expired`.
    RemoveExpired { below: Offset, cut: Option<PageCut> },
    /// Uploads begun before this edit can no longer commit: then unreferenced objects of theirs may be deleted.
    RaiseFloor,
    /// Forgets everything of a live topic: the remote log was given up, and the next upload begins at `start`. Uploads
    /// begun before can no longer commit; what nobody names any more is garbage. The one edit that may set the end back:
    /// whoever drops local records on the word of a manifest first makes sure that none is under way, see
    /// `ManifestStore::anchor`.
    GiveUp { start: Offset },
    /// Other entries for the same offsets: of objects that were uploaded again, or made out of several.
    Replace(Replacement),
    /// The tombstone. Nothing can be appended any more; what is there stays named.
    Delete { now_ms: TimestampMs },
    /// Takes the tombstone away: the topic is brought back with all that is still named.
    Undelete,
    /// Forgets everything of a deleted topic: then its objects may be deleted.
    Purge,
}

/// What stands for a range of offsets from now on. The range begins and ends with entries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replacement {
    pub start: Offset,
    pub end: Offset,
    /// In order, within the range. What they leave out becomes a gap of this cause.
    pub entries: Vec<ManifestEntry>,
    pub gap: Option<GapCause>,
    /// Where the entries are in a page: that page, and the one that takes its place; `None`: nothing is left of it. The
    /// new one must be in the store.
    pub page: Option<(PageName, Option<PageRef>)>,
}

/// Where live entries begin in the page that a removal cuts through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageCut {
    /// Of the page.
    pub page_start: Offset,
    pub live_start: Offset,
    pub live_entries: u32,
    pub live_bytes: u64,
}

/// Why an edit is refused. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    #[error("fenced: the manifest belongs to {current}, this writer has {ours}")]
    Fenced { ours: Fence, current: Fence },
    #[error("the topic is deleted")]
    Deleted,
    #[error("the topic is not deleted")]
    NotDeleted,
    #[error("an entry starts at {start}, the manifest ends at {end}")]
    NotAtEnd { start: Offset, end: Offset },
    #[error("an entry from {start} to {end} holds no offsets or its byte ranges are wrong")]
    BadEntry { start: Offset, end: Offset },
    #[error("the upload began at generation {counter}, below the collection floor {floor}")]
    BelowFloor { counter: u64, floor: u64 },
    #[error("epoch {epoch} comes after epoch {latest}")]
    EpochBackwards {
        epoch: LeaderEpoch,
        latest: LeaderEpoch,
    },
    #[error("offset {below} is not below the log start {log_start}")]
    NotExpired { below: Offset, log_start: Offset },
    #[error("the entries from {start} to {end} are not those that were to be replaced")]
    NotThere { start: Offset, end: Offset },
    #[error("a removal cuts through a page without saying where, or no longer fits the page")]
    PageCut,
    /// Our bug, caught before it was written.
    #[error("the edit would break the manifest: {0}")]
    Broken(&'static str),
    /// The caller decided against its edit.
    #[error("{0}")]
    Refused(String),
}

impl Manifest {
    /// The manifest after edits under a fence. Generation and nonce are the next ones; the caller gives the nonce.
    pub fn apply(&self, fence: Fence, edits: &[Edit], nonce: Nonce) -> Result<Self, ManifestError> {
        if fence < self.fence && !is_planted!(IgnoreFence) {
            return Err(ManifestError::Fenced {
                ours: fence,
                current: self.fence,
            });
        }
        let mut next = self.clone();
        next.fence = fence;
        next.generation += 1;
        next.nonces.insert(0, nonce);
        next.nonces.truncate(NONCES_KEPT);
        for edit in edits {
            next.apply_one(edit)?;
        }
        next.check().map_err(ManifestError::Broken)?;
        Ok(next)
    }

    fn apply_one(&mut self, edit: &Edit) -> Result<(), ManifestError> {
        match edit {
            Edit::Claim => Ok(()),
            Edit::Append { entry, epochs } => self.append(entry, epochs),
            Edit::RecordGap { end, cause } => {
                self.check_alive()?;
                if *end <= self.end {
                    return Err(ManifestError::NotAtEnd {
                        start: *end,
                        end: self.end,
                    });
                }
                self.record_gap(self.end, *end, *cause);
                self.end = *end;
                Ok(())
            }
            Edit::AdvanceLogStart { offset } => {
                self.check_alive()?;
                self.log_start = self.log_start.max(*offset);
                if self.log_start > self.end {
                    self.record_gap(self.end, self.log_start, GapCause::Expired);
                    self.end = self.log_start;
                }
                Ok(())
            }
            Edit::RemoveExpired { below, cut } => self.remove_expired(*below, *cut),
            Edit::RaiseFloor => {
                self.collection_floor = self.generation;
                Ok(())
            }
            Edit::Replace(replacement) => self.replace(replacement),
            Edit::GiveUp { start } => {
                self.check_alive()?;
                self.log_start = *start;
                self.end = *start;
                self.collection_floor = self.generation;
                self.epochs.clear();
                self.gaps.clear();
                self.pages.clear();
                self.entries.clear();
                Ok(())
            }
            Edit::Delete { now_ms } => {
                self.deleted_ms.get_or_insert(*now_ms);
                Ok(())
            }
            Edit::Undelete => {
                self.deleted_ms = None;
                Ok(())
            }
            Edit::Purge => {
                if !self.is_deleted() {
                    return Err(ManifestError::NotDeleted);
                }
                self.log_start = self.end;
                self.collection_floor = self.generation;
                self.epochs.clear();
                self.gaps.clear();
                self.pages.clear();
                self.entries.clear();
                Ok(())
            }
        }
    }

    fn append(
        &mut self,
        entry: &ManifestEntry,
        epochs: &[EpochEntry],
    ) -> Result<(), ManifestError> {
        self.check_alive()?;
        if entry.start != self.end {
            return Err(ManifestError::NotAtEnd {
                start: entry.start,
                end: self.end,
            });
        }
        let bad_bytes = entry.log_bytes == 0
            || entry.log_bytes >= entry.bytes
            || entry.position().checked_add(entry.bytes).is_none();
        if entry.end <= entry.start || bad_bytes {
            return Err(ManifestError::BadEntry {
                start: entry.start,
                end: entry.end,
            });
        }
        if entry.fence > self.fence {
            return Err(ManifestError::Fenced {
                ours: self.fence,
                current: entry.fence,
            });
        }
        if let ObjectRef::Segment { counter, .. } = entry.object
            && counter < self.collection_floor
        {
            return Err(ManifestError::BelowFloor {
                counter,
                floor: self.collection_floor,
            });
        }
        for epoch in epochs {
            match self.epochs.last() {
                // The epoch of the entry before goes on, or an older one that the caller listed too.
                Some(last) if epoch.epoch <= last.epoch => {
                    if epoch.start_offset >= entry.start && epoch.epoch < last.epoch {
                        return Err(ManifestError::EpochBackwards {
                            epoch: epoch.epoch,
                            latest: last.epoch,
                        });
                    }
                }
                // Later epochs belong to later entries.
                _ if epoch.start_offset >= entry.end => {}
                _ => self.epochs.push(*epoch),
            }
        }
        self.end = entry.end;
        self.entries.push(entry.clone());
        Ok(())
    }

    fn remove_expired(&mut self, below: Offset, cut: Option<PageCut>) -> Result<(), ManifestError> {
        // What a deleted topic named may go in steps, whatever its log start.
        if below > self.log_start && !self.is_deleted() {
            return Err(ManifestError::NotExpired {
                below,
                log_start: self.log_start,
            });
        }
        self.pages.retain(|page| page.end > below);
        if let Some(page) = self.pages.first_mut()
            && page.live_start < below
        {
            let fits = cut.is_some_and(|cut| {
                cut.page_start == page.start
                    && cut.live_start >= page.live_start
                    && cut.live_start < page.end
                    && cut.live_entries > 0
                    && cut.live_entries <= page.live_entries
                    && cut.live_bytes <= page.live_bytes
            });
            let Some(cut) = cut.filter(|_| fits) else {
                return Err(ManifestError::PageCut);
            };
            page.live_start = cut.live_start;
            page.live_entries = cut.live_entries;
            page.live_bytes = cut.live_bytes;
        }
        if self.is_deleted() {
            self.log_start = self.log_start.max(below.min(self.end));
        }
        self.entries.retain(|entry| entry.end > below);
        let kept_from = self
            .pages
            .first()
            .map(|p| p.live_start)
            .or_else(|| self.entries.first().map(|e| e.start))
            .unwrap_or(self.end)
            .min(self.log_start);
        self.gaps.retain(|gap| gap.end > kept_from);
        // The epoch that holds the first kept offset stays.
        let first = self
            .epochs
            .partition_point(|e| e.start_offset <= kept_from)
            .saturating_sub(1);
        self.epochs.drain(..first);
        Ok(())
    }

    fn replace(&mut self, with: &Replacement) -> Result<(), ManifestError> {
        self.check_alive()?;
        let not_there = ManifestError::NotThere {
            start: with.start,
            end: with.end,
        };
        for entry in &with.entries {
            if entry.fence > self.fence {
                return Err(ManifestError::Fenced {
                    ours: self.fence,
                    current: entry.fence,
                });
            }
        }
        match &with.page {
            Some((name, page)) => {
                let Some(at) = self.pages.iter().position(|p| p.name() == *name) else {
                    return Err(not_there);
                };
                if let Some(page) = page
                    && page.generation <= self.collection_floor
                {
                    return Err(ManifestError::BelowFloor {
                        counter: page.generation,
                        floor: self.collection_floor,
                    });
                }
                self.pages.splice(at..=at, page.clone());
            }
            None => {
                let inside = |e: &ManifestEntry| with.start <= e.start && e.end <= with.end;
                let first = self.entries.partition_point(|e| e.start < with.start);
                let count = self.entries[first..]
                    .iter()
                    .take_while(|e| inside(e))
                    .count();
                let old = &self.entries[first..first + count];
                let ends = (old.first().map(|e| e.start), old.last().map(|e| e.end));
                if ends != (Some(with.start), Some(with.end)) {
                    return Err(not_there);
                }
                for entry in &with.entries {
                    // What is named already may stay, whatever the floor.
                    if let ObjectRef::Segment { counter, .. } = entry.object
                        && counter < self.collection_floor
                        && old.iter().all(|e| e.object != entry.object)
                    {
                        return Err(ManifestError::BelowFloor {
                            counter,
                            floor: self.collection_floor,
                        });
                    }
                }
                self.entries
                    .splice(first..first + count, with.entries.iter().cloned());
            }
        }
        let Some(cause) = with.gap else { return Ok(()) };
        let mut at = with.start;
        for entry in &with.entries {
            self.insert_gap(at, entry.start, cause);
            at = entry.end;
        }
        self.insert_gap(at, with.end, cause);
        Ok(())
    }

    /// Keeps gaps in order; neighbours of one cause become one.
    fn insert_gap(&mut self, start: Offset, end: Offset, cause: GapCause) {
        if start >= end {
            return;
        }
        let at = self.gaps.partition_point(|gap| gap.start < start);
        self.gaps.insert(at, Gap { start, end, cause });
        self.gaps.dedup_by(|next, gap| {
            let joins = gap.end == next.start && gap.cause == next.cause;
            if joins {
                gap.end = next.end;
            }
            joins
        });
    }

    fn check_alive(&self) -> Result<(), ManifestError> {
        if self.is_deleted() {
            return Err(ManifestError::Deleted);
        }
        Ok(())
    }
}
