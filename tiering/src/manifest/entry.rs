//! What a manifest is made of: entries for uploaded ranges, gaps between them, references to pages of older entries.

use std::ops::Range;

use strandline_log::{Offset, TimestampMs};

use crate::fence::Fence;
use crate::format::object_key::{PageName, PartitionKey, SegmentName};

/// Where a range's bytes are.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ObjectRef {
    /// An object of its own; its name follows from the entry's start and epoch and these.
    Segment { counter: u64, random: u64 },
    /// A part of an object that holds more than this range.
    Shared { key: String, position: u64 },
}

/// One uploaded range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManifestEntry {
    pub start: Offset,
    /// Exclusive.
    pub end: Offset,
    pub object: ObjectRef,
    /// Of the range in its object: log bytes, index section and footer.
    pub bytes: u64,
    pub log_bytes: u64,
    pub max_timestamp: TimestampMs,
    /// Whether any aborted transaction overlaps the range.
    pub has_aborted: bool,
    /// Reported as missing or damaged in the store.
    pub damaged: bool,
    /// Of the upload's writer.
    pub fence: Fence,
    /// The footer's own checksum, which covers the checksums of everything else.
    pub footer_crc: u32,
}

impl ManifestEntry {
    /// The object's key in the store.
    pub fn key(&self, partition: &PartitionKey) -> String {
        match &self.object {
            ObjectRef::Segment { counter, random } => partition.segment(&SegmentName {
                start: self.start,
                epoch: self.fence.leader_epoch,
                counter: *counter,
                random: *random,
            }),
            ObjectRef::Shared { key, .. } => key.clone(),
        }
    }

    /// Where the range starts in its object.
    pub fn position(&self) -> u64 {
        match &self.object {
            ObjectRef::Segment { .. } => 0,
            ObjectRef::Shared { position, .. } => *position,
        }
    }

    /// A range of the entry's log bytes, as a range of the object.
    pub fn object_range(&self, log: Range<u64>) -> Range<u64> {
        self.position() + log.start..self.position() + log.end
    }

    /// Index section and footer, as a range of the object.
    pub fn tail_range(&self) -> Range<u64> {
        self.object_range(self.log_bytes..self.bytes)
    }

    pub fn offsets(&self) -> Range<Offset> {
        self.start..self.end
    }
}

/// Why offsets are in no object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GapCause {
    /// Tiering was switched off while they were written.
    TieringOff,
    /// They were lost, and an operator accepted it.
    LossAccepted,
    /// They lay below the log start before they were uploaded.
    Expired,
}

impl GapCause {
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::TieringOff => 1,
            Self::LossAccepted => 2,
            Self::Expired => 3,
        }
    }

    pub(crate) fn from_code(code: u8) -> Option<Self> {
        [Self::TieringOff, Self::LossAccepted, Self::Expired]
            .into_iter()
            .find(|cause| cause.code() == code)
    }
}

/// Offsets that are in no object, on record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    pub start: Offset,
    /// Exclusive.
    pub end: Offset,
    pub cause: GapCause,
}

/// An immutable page of older entries, with what lookups need to know without reading it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageRef {
    pub generation: u64,
    pub random: u64,
    /// Of the first entry in the page, live or not; a part of the page's name.
    pub start: Offset,
    /// Exclusive.
    pub end: Offset,
    /// The start of the first entry that still belongs to the manifest; those before were removed.
    pub live_start: Offset,
    pub live_entries: u32,
    pub live_bytes: u64,
    /// Of all entries in the page.
    pub max_timestamp: TimestampMs,
    pub crc: u32,
}

impl PageRef {
    /// Of entries that were encoded. There is at least one.
    pub(super) fn of(
        entries: &[ManifestEntry],
        generation: u64,
        random: u64,
        bytes: &[u8],
    ) -> Self {
        let start = entries.first().map_or(0, |e| e.start);
        Self {
            generation,
            random,
            start,
            end: entries.last().map_or(0, |e| e.end),
            live_start: start,
            live_entries: entries.len() as u32,
            live_bytes: entries.iter().map(|e| e.bytes).sum(),
            max_timestamp: entries
                .iter()
                .map(|e| e.max_timestamp)
                .max()
                .unwrap_or(strandline_log::NO_TIMESTAMP),
            crc: super::pages::page_crc(bytes),
        }
    }

    pub fn name(&self) -> PageName {
        PageName {
            start: self.start,
            generation: self.generation,
            random: self.random,
        }
    }
}
