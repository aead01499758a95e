//! The state that a manifest root holds, and what always holds of it.

use strandline_log::leader_epoch::EpochEntry;
use strandline_log::{LeaderEpoch, Offset, TimestampMs};

use super::entry::{Gap, GapCause, ManifestEntry, PageRef};
use crate::fence::Fence;
use crate::format::object_key::{PageName, PartitionKey};
use crate::id_source::Nonce;

/// Entries that stay in the root before they are spilled into a page; also the size of a page.
pub const ENTRIES_INLINE_MAX: usize = 512;
/// Nonces of past edits in the root: an edit is recognised as its writer's own also behind later edits.
pub const NONCES_KEPT: usize = 8;

/// Which offsets are in which objects.
///
/// I5: pages, entries and gaps follow each other without overlap from the first entry to `end`, and all offsets in
/// [log_start, end) are in one of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    pub partition: PartitionKey,
    /// Of the last edit; none older succeeds any more (I6).
    pub fence: Fence,
    pub generation: u64,
    /// Of the last edits, newest first.
    pub nonces: Vec<Nonce>,
    /// Set once the topic is deleted: the tombstone.
    pub deleted_ms: Option<TimestampMs>,
    pub log_start: Offset,
    /// Where the next upload begins.
    pub end: Offset,
    /// Uploads begun at an older generation cannot commit.
    pub collection_floor: u64,
    pub epochs: Vec<EpochEntry>,
    pub gaps: Vec<Gap>,
    pub pages: Vec<PageRef>,
    pub entries: Vec<ManifestEntry>,
}

impl Manifest {
    /// The first root of a partition: nothing uploaded yet, the first upload begins at `start`.
    pub fn new(partition: PartitionKey, fence: Fence, start: Offset, nonce: Nonce) -> Self {
        Self {
            partition,
            fence,
            generation: 1,
            nonces: vec![nonce],
            deleted_ms: None,
            log_start: start,
            end: start,
            collection_floor: 0,
            epochs: Vec::new(),
            gaps: Vec::new(),
            pages: Vec::new(),
            entries: Vec::new(),
        }
    }

    pub fn start_offset(&self) -> Offset {
        self.log_start
    }

    /// Behind the last uploaded offset.
    pub fn end_offset(&self) -> Offset {
        self.end
    }

    /// Behind the last offset that is in an object; `None`: nothing is. A gap may lie between it and the end.
    pub fn entries_end(&self) -> Option<Offset> {
        let paged = self.pages.last().map(|page| page.end);
        self.entries.last().map(|entry| entry.end).or(paged)
    }

    pub fn is_deleted(&self) -> bool {
        self.deleted_ms.is_some()
    }

    /// The nonce of the last edit.
    pub fn nonce(&self) -> Nonce {
        self.nonces.first().copied().unwrap_or_default()
    }

    /// Of all entries that the manifest still names, also those that the log start has passed.
    pub fn bytes_total(&self) -> u64 {
        let pages = self.pages.iter().map(|p| p.live_bytes);
        let entries = self.entries.iter().map(|e| e.bytes);
        pages
            .chain(entries)
            .fold(0, |total, bytes| total.saturating_add(bytes))
    }

    pub fn entry_count(&self) -> u64 {
        let paged: u64 = self.pages.iter().map(|p| u64::from(p.live_entries)).sum();
        paged + self.entries.len() as u64
    }

    pub fn latest_epoch(&self) -> Option<LeaderEpoch> {
        self.epochs.last().map(|e| e.epoch)
    }

    /// The last epoch at or below `epoch` and where it ends, as Kafka's OffsetForLeaderEpoch answers; `None` for an
    /// epoch that the lineage does not reach on either side.
    pub fn epoch_end_offset(&self, epoch: LeaderEpoch) -> Option<(LeaderEpoch, Offset)> {
        let after = self.epochs.partition_point(|e| e.epoch <= epoch);
        let at = self.epochs.get(after.checked_sub(1)?)?;
        match self.epochs.get(after) {
            Some(next) => Some((at.epoch, next.start_offset)),
            None => (at.epoch == epoch).then_some((epoch, self.end)),
        }
    }

    /// The epoch in which an uploaded offset was written.
    pub fn epoch_for_offset(&self, offset: Offset) -> Option<LeaderEpoch> {
        if offset >= self.end {
            return None;
        }
        let after = self.epochs.partition_point(|e| e.start_offset <= offset);
        self.epochs
            .get(after.checked_sub(1)?)
            .map(|entry| entry.epoch)
    }

    /// The gap that holds an offset.
    pub fn gap_at(&self, offset: Offset) -> Option<&Gap> {
        self.gaps
            .iter()
            .find(|gap| gap.start <= offset && offset < gap.end)
    }

    /// Checks all that always holds; says what does not.
    pub fn check(&self) -> Result<(), &'static str> {
        if self.log_start < 0 || self.end < self.log_start {
            return Err("its log start and end are no range");
        }
        if self.nonces.is_empty() || self.nonces.len() > NONCES_KEPT {
            return Err("its count of nonces is out of range");
        }
        if self.collection_floor > self.generation {
            return Err("its collection floor lies in the future");
        }
        if !self
            .epochs
            .is_sorted_by(|a, b| a.epoch < b.epoch && a.start_offset <= b.start_offset)
        {
            return Err("its epochs do not rise");
        }
        if !self.gaps.is_sorted_by(|a, b| a.end <= b.start)
            || self.gaps.iter().any(|gap| gap.start >= gap.end)
        {
            return Err("its gaps do not rise");
        }
        if self
            .pages
            .iter()
            .any(|p| p.live_entries == 0 || p.live_start < p.start || p.live_start >= p.end)
        {
            return Err("a page is empty");
        }
        self.check_cover()
    }

    fn check_cover(&self) -> Result<(), &'static str> {
        let pages = self.pages.iter().map(|p| (p.live_start, p.end));
        let entries = self.entries.iter().map(|e| (e.start, e.end));
        let mut covered: Option<Offset> = None;
        for (start, end) in pages.chain(entries) {
            if start >= end {
                return Err("an entry holds no offsets");
            }
            // What lies before the first entry only matters from the log start on.
            let from = covered.unwrap_or(self.log_start);
            if covered.is_some() && start < from {
                return Err("its entries overlap");
            }
            if start > from && !self.is_gap(from, start) {
                return Err("there is a gap that is not on record");
            }
            covered = Some(end);
        }
        let from = covered.unwrap_or(self.log_start);
        if from > self.end {
            return Err("an entry lies behind its end");
        }
        if from < self.end && !self.is_gap(from, self.end) {
            return Err("there is a gap before its end that is not on record");
        }
        Ok(())
    }

    /// Whether gaps on record cover all of a range.
    fn is_gap(&self, start: Offset, end: Offset) -> bool {
        let mut at = start;
        for gap in &self.gaps {
            if gap.start <= at && at < gap.end {
                at = gap.end;
            }
        }
        at >= end
    }

    pub(super) fn record_gap(&mut self, start: Offset, end: Offset, cause: GapCause) {
        match self.gaps.last_mut() {
            Some(last) if last.end == start && last.cause == cause => last.end = end,
            _ => self.gaps.push(Gap { start, end, cause }),
        }
    }

    /// Moves the oldest inline entries into a page when there are too many. The page must be in the store before a
    /// root that names it.
    pub(super) fn spill(
        &mut self,
        entries_max: usize,
        random: u64,
    ) -> Option<(PageName, bytes::Bytes)> {
        let entries_max = entries_max.max(1);
        if self.entries.len() <= entries_max {
            return None;
        }
        let page_entries: Vec<_> = self.entries.drain(..entries_max).collect();
        let bytes = crate::format::manifest_page::encode(&page_entries);
        let page = PageRef::of(&page_entries, self.generation, random, &bytes);
        let name = page.name();
        self.pages.push(page);
        Some((name, bytes))
    }
}
