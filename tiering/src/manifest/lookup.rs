//! Finds entries by offset and by time: in the root, else in one page.
//!
//! Time goes backwards in a log, so searches by time take the first match and never bisect.

use strandline_log::{Offset, TimestampMs};

use super::entry::{Gap, ManifestEntry, PageRef};
use super::state::Manifest;

/// What a manifest says of an offset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lookup {
    Entry(ManifestEntry),
    /// Go on at the gap's end.
    Gap(Gap),
    BelowStart {
        log_start: Offset,
    },
    /// Not uploaded yet.
    AtEnd {
        end: Offset,
    },
}

/// A lookup that may need a page first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Located<'a> {
    Done(Lookup),
    Page(&'a PageRef),
}

impl Manifest {
    pub(super) fn locate(&self, offset: Offset) -> Located<'_> {
        if offset < self.log_start {
            return Located::Done(Lookup::BelowStart {
                log_start: self.log_start,
            });
        }
        if offset >= self.end {
            return Located::Done(Lookup::AtEnd { end: self.end });
        }
        let page = self.pages.partition_point(|p| p.end <= offset);
        if let Some(page) = self.pages.get(page)
            && page.live_start <= offset
        {
            return Located::Page(page);
        }
        Located::Done(
            entry_at(&self.entries, offset)
                .map_or_else(|| self.gap_lookup(offset), |e| Lookup::Entry(e.clone())),
        )
    }

    /// The gap at an offset that no entry holds.
    pub(super) fn gap_lookup(&self, offset: Offset) -> Lookup {
        match self.gap_at(offset) {
            Some(gap) => Lookup::Gap(*gap),
            // `check` rules it out in the root; a page that disagrees with its root is damaged. Nothing can be read
            // there either way.
            None => Lookup::Gap(Gap {
                start: offset,
                end: offset + 1,
                cause: super::GapCause::LossAccepted,
            }),
        }
    }

    /// Pages that may hold entries from `offset` on, or reach a timestamp, in order.
    pub(super) fn pages_from(&self, offset: Offset) -> impl Iterator<Item = &PageRef> {
        self.pages.iter().filter(move |p| p.end > offset)
    }

    /// The first inline entry, from the log start on, that reaches a timestamp.
    pub(super) fn inline_entry_for_timestamp(
        &self,
        timestamp: TimestampMs,
    ) -> Option<&ManifestEntry> {
        first_reaching(&self.entries, self.log_start, timestamp)
    }
}

pub(super) fn entry_at(entries: &[ManifestEntry], offset: Offset) -> Option<&ManifestEntry> {
    let i = entries.partition_point(|e| e.end <= offset);
    entries.get(i).filter(|e| e.start <= offset)
}

pub(super) fn first_reaching(
    entries: &[ManifestEntry],
    from: Offset,
    timestamp: TimestampMs,
) -> Option<&ManifestEntry> {
    entries
        .iter()
        .find(|e| e.end > from && e.max_timestamp >= timestamp)
}
