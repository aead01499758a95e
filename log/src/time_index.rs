//! The `.timeindex` file of a segment: from a timestamp to an offset before which nothing is newer.
//!
//! | bytes | field                                                                          |
//! |-------|--------------------------------------------------------------------------------|
//! | 0-7   | the largest timestamp so far, big-endian                                       |
//! | 8-11  | last offset of the batch that brought it, relative to the segment's base       |
//!
//! Both rise, the timestamp strictly: an entry is only added when time went forward. Records after an entry's offset
//! may be older than it. The format has no version.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::file_cache::FileCache;
use crate::index_file::IndexFile;
use crate::segment_files::SegmentFile;
use crate::types::{NO_TIMESTAMP, Offset, TimestampMs};

pub const TIME_INDEX_ENTRY_LEN: usize = 12;

/// A timestamp and the last offset of the batch that it belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MaxTimestamp {
    pub timestamp: TimestampMs,
    pub offset: Offset,
}

#[derive(Debug)]
pub struct TimeIndex {
    file: IndexFile<TIME_INDEX_ENTRY_LEN>,
}

impl TimeIndex {
    pub fn create(dir: Arc<Path>, base_offset: Offset, files: Arc<FileCache>) -> io::Result<Self> {
        let file = IndexFile::create(dir, base_offset, SegmentFile::TimeIndex, files)?;
        Ok(Self { file })
    }

    /// `None` when there is no file, or one that cannot be an index.
    pub fn open(
        dir: Arc<Path>,
        base_offset: Offset,
        files: Arc<FileCache>,
    ) -> io::Result<Option<Self>> {
        let file = IndexFile::open(dir, base_offset, SegmentFile::TimeIndex, files)?;
        Ok(file.map(|file| Self { file }))
    }

    pub fn path(&self) -> PathBuf {
        self.file.path()
    }

    pub fn entries(&self) -> u32 {
        self.file.len()
    }

    pub fn is_full(&self, index_bytes_max: u32) -> bool {
        // One entry is kept free for the one that is added when the segment is sealed.
        self.file.len() + 1 >= (index_bytes_max / TIME_INDEX_ENTRY_LEN as u32).max(2)
    }

    /// Adds the largest timestamp so far, if it is newer than the last entry's.
    pub fn maybe_append(&self, max: MaxTimestamp) -> io::Result<()> {
        let last = self.last()?;
        if max.timestamp <= last.timestamp || max.offset < last.offset {
            return Ok(());
        }
        let relative = (max.offset - self.file.base_offset()) as u32;
        let mut entry = [0; TIME_INDEX_ENTRY_LEN];
        entry[..8].copy_from_slice(&max.timestamp.to_be_bytes());
        entry[8..].copy_from_slice(&relative.to_be_bytes());
        self.file.append(entry)
    }

    /// The last entry at or before `timestamp`; no timestamp at the segment's base when there is none.
    pub fn lookup(&self, timestamp: TimestampMs) -> io::Result<MaxTimestamp> {
        let (_, entry) = self
            .file
            .partition_point(|entry| self.decode(entry).timestamp <= timestamp)?;
        Ok(entry.map_or_else(|| self.start(), |entry| self.decode(&entry)))
    }

    /// The last entry before `offset`, and all entries behind that one. For recovery.
    pub(crate) fn split_before(
        &self,
        offset: Offset,
    ) -> io::Result<(MaxTimestamp, Vec<MaxTimestamp>)> {
        let (count, entry) = self
            .file
            .partition_point(|entry| self.decode(entry).offset < offset)?;
        let behind = self.file.entries_from(count)?;
        Ok((
            entry.map_or_else(|| self.start(), |entry| self.decode(&entry)),
            behind.iter().map(|entry| self.decode(entry)).collect(),
        ))
    }

    /// The last entry; no timestamp at the segment's base when there is none.
    pub fn last(&self) -> io::Result<MaxTimestamp> {
        Ok(self
            .file
            .last()?
            .map_or_else(|| self.start(), |entry| self.decode(&entry)))
    }

    /// Drops the entries at and above `offset`.
    pub fn truncate_to(&self, offset: Offset) -> io::Result<()> {
        let (keep, _) = self
            .file
            .partition_point(|entry| self.decode(entry).offset < offset)?;
        self.file.truncate(keep)
    }

    pub fn clear(&self) -> io::Result<()> {
        self.file.truncate(0)
    }

    /// Whether all entries rise and lie below `next_offset`. Reads them all.
    pub fn is_sane(&self, next_offset: Offset) -> io::Result<bool> {
        let entries = self.file.entries_from(0)?;
        let mut last: Option<MaxTimestamp> = None;
        for entry in &entries {
            let entry = self.decode(entry);
            let rises = last
                .is_none_or(|last| entry.timestamp > last.timestamp && entry.offset > last.offset);
            if !rises || entry.offset >= next_offset {
                return Ok(false);
            }
            last = Some(entry);
        }
        Ok(true)
    }

    pub fn write_pending(&self) -> io::Result<()> {
        self.file.write_pending()
    }

    pub fn seal(&self) -> io::Result<()> {
        self.file.seal()
    }

    pub fn sync(&self) -> io::Result<()> {
        self.file.sync()
    }

    pub fn forget(&self) {
        self.file.forget();
    }

    /// Keeps the file open, before its name is given to another one.
    pub fn pin(&self) -> io::Result<()> {
        self.file.pin()
    }

    fn start(&self) -> MaxTimestamp {
        MaxTimestamp {
            timestamp: NO_TIMESTAMP,
            offset: self.file.base_offset(),
        }
    }

    fn decode(&self, entry: &[u8; TIME_INDEX_ENTRY_LEN]) -> MaxTimestamp {
        let [t0, t1, t2, t3, t4, t5, t6, t7, o0, o1, o2, o3] = *entry;
        MaxTimestamp {
            timestamp: i64::from_be_bytes([t0, t1, t2, t3, t4, t5, t6, t7]),
            offset: self.file.base_offset() + i64::from(u32::from_be_bytes([o0, o1, o2, o3])),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(timestamp: TimestampMs, offset: Offset) -> MaxTimestamp {
        MaxTimestamp { timestamp, offset }
    }

    #[test]
    fn only_newer_timestamps_are_added_and_the_bytes_are_kafkas() {
        let dir = tempfile::tempdir().expect("temp dir");
        let index = TimeIndex::create(dir.path().into(), 100, FileCache::new(4)).expect("creates");
        assert_eq!(index.last().expect("reads"), at(NO_TIMESTAMP, 100));
        for max in [at(5, 103), at(5, 110), at(4, 111), at(258, 120)] {
            index.maybe_append(max).expect("appends");
        }
        index.seal().expect("seals");
        let bytes = std::fs::read(index.path()).expect("reads");
        assert_eq!(
            bytes,
            [
                0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 1, 2, 0, 0, 0, 20
            ]
        );
        for (target, expected) in [
            (4, at(NO_TIMESTAMP, 100)),
            (5, at(5, 103)),
            (257, at(5, 103)),
            (258, at(258, 120)),
            (i64::MAX, at(258, 120)),
        ] {
            assert_eq!(index.lookup(target).expect("looks up"), expected);
        }
        assert!(index.is_sane(121).expect("reads"));
        assert!(!index.is_sane(120).expect("reads"));
        index.truncate_to(120).expect("cuts");
        assert_eq!(index.last().expect("reads"), at(5, 103));
    }
}
