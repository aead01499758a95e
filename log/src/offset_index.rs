//! The `.index` file of a segment: from an offset to where in the log to look for it.
//!
//! | bytes | field                                                           |
//! |-------|-----------------------------------------------------------------|
//! | 0-3   | offset, relative to the segment's base, big-endian              |
//! | 4-7   | position of the batch whose last offset that is                 |
//!
//! Sparse: about one entry per `index.interval.bytes`. Offsets and positions rise strictly. The format has no version.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::file_cache::FileCache;
use crate::index_file::IndexFile;
use crate::segment_files::SegmentFile;
use crate::types::Offset;

pub const OFFSET_INDEX_ENTRY_LEN: usize = 8;

/// An offset, and the position of the batch that it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OffsetPosition {
    pub offset: Offset,
    pub position: u64,
}

#[derive(Debug)]
pub struct OffsetIndex {
    file: IndexFile<OFFSET_INDEX_ENTRY_LEN>,
}

impl OffsetIndex {
    pub fn create(dir: Arc<Path>, base_offset: Offset, files: Arc<FileCache>) -> io::Result<Self> {
        let file = IndexFile::create(dir, base_offset, SegmentFile::OffsetIndex, files)?;
        Ok(Self { file })
    }

    /// `None` when there is no file, or one that cannot be an index.
    pub fn open(
        dir: Arc<Path>,
        base_offset: Offset,
        files: Arc<FileCache>,
    ) -> io::Result<Option<Self>> {
        let file = IndexFile::open(dir, base_offset, SegmentFile::OffsetIndex, files)?;
        Ok(file.map(|file| Self { file }))
    }

    pub fn path(&self) -> PathBuf {
        self.file.path()
    }

    pub fn entries(&self) -> u32 {
        self.file.len()
    }

    pub fn is_full(&self, index_bytes_max: u32) -> bool {
        self.file.len() >= index_bytes_max / OFFSET_INDEX_ENTRY_LEN as u32
    }

    /// Whether the offset fits in an entry of this segment.
    pub fn can_hold(&self, offset: Offset) -> bool {
        offset
            .checked_sub(self.file.base_offset())
            .is_some_and(|relative| (0..=i64::from(i32::MAX)).contains(&relative))
    }

    /// Adds an entry behind all others. The caller has checked [`Self::can_hold`].
    pub fn append(&self, offset: Offset, position: u64) -> io::Result<()> {
        let relative = (offset - self.file.base_offset()) as u32;
        let mut entry = [0; OFFSET_INDEX_ENTRY_LEN];
        entry[..4].copy_from_slice(&relative.to_be_bytes());
        entry[4..].copy_from_slice(&(position as u32).to_be_bytes());
        self.file.append(entry)
    }

    /// The last entry at or below `offset`; the segment's start when there is none.
    pub fn lookup(&self, offset: Offset) -> io::Result<OffsetPosition> {
        let (_, entry) = self
            .file
            .partition_point(|entry| self.decode(entry).offset <= offset)?;
        Ok(entry.map_or_else(|| self.start(), |entry| self.decode(&entry)))
    }

    /// As [`Self::lookup`], and all entries behind that one. For recovery.
    pub(crate) fn split_at(
        &self,
        offset: Offset,
    ) -> io::Result<(Option<OffsetPosition>, Vec<OffsetPosition>)> {
        let (count, entry) = self
            .file
            .partition_point(|entry| self.decode(entry).offset <= offset)?;
        let behind = self.file.entries_from(count)?;
        Ok((
            entry.map(|entry| self.decode(&entry)),
            behind.iter().map(|entry| self.decode(entry)).collect(),
        ))
    }

    pub fn last(&self) -> io::Result<Option<OffsetPosition>> {
        Ok(self.file.last()?.map(|entry| self.decode(&entry)))
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

    /// Whether all entries rise and lie within a log of `log_bytes`. Reads them all.
    pub fn is_sane(&self, log_bytes: u64) -> io::Result<bool> {
        let entries = self.file.entries_from(0)?;
        let mut last: Option<OffsetPosition> = None;
        for entry in &entries {
            let entry = self.decode(entry);
            let rises = last
                .is_none_or(|last| entry.offset > last.offset && entry.position > last.position);
            if !rises || entry.position >= log_bytes {
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

    fn start(&self) -> OffsetPosition {
        OffsetPosition {
            offset: self.file.base_offset(),
            position: 0,
        }
    }

    fn decode(&self, entry: &[u8; OFFSET_INDEX_ENTRY_LEN]) -> OffsetPosition {
        let [o0, o1, o2, o3, p0, p1, p2, p3] = *entry;
        OffsetPosition {
            offset: self.file.base_offset() + i64::from(u32::from_be_bytes([o0, o1, o2, o3])),
            position: u64::from(u32::from_be_bytes([p0, p1, p2, p3])),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn index(dir: &Path, base: Offset) -> OffsetIndex {
        OffsetIndex::create(dir.into(), base, FileCache::new(4)).expect("creates")
    }

    #[test]
    fn the_bytes_are_kafkas() {
        let dir = tempfile::tempdir().expect("temp dir");
        let index = index(dir.path(), 1_000);
        index.append(1_004, 0).expect("appends");
        index.append(1_258, 4_100).expect("appends");
        index.seal().expect("seals");
        let bytes = std::fs::read(index.path()).expect("reads");
        assert_eq!(bytes, [0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 1, 2, 0, 0, 16, 4]);
    }

    #[test]
    fn an_offset_beyond_31_bits_does_not_fit() {
        let dir = tempfile::tempdir().expect("temp dir");
        let index = index(dir.path(), 10);
        assert!(index.can_hold(10));
        assert!(index.can_hold(10 + i64::from(i32::MAX)));
        assert!(!index.can_hold(11 + i64::from(i32::MAX)));
        assert!(!index.can_hold(9));
        assert!(index.is_full(0));
        assert!(!index.is_full(8));
    }

    #[test]
    fn entries_that_do_not_rise_are_not_sane() {
        let dir = tempfile::tempdir().expect("temp dir");
        let index = index(dir.path(), 0);
        index.append(5, 100).expect("appends");
        index.append(9, 200).expect("appends");
        assert!(index.is_sane(201).expect("reads"));
        assert!(!index.is_sane(200).expect("reads"), "beyond the log");
        index.append(0, 0).expect("appends");
        assert!(!index.is_sane(1_000).expect("reads"), "a zeroed page");
    }

    proptest! {
        #[test]
        fn a_lookup_is_the_last_entry_at_or_below(
            steps in prop::collection::vec((1_i64..50, 1_u64..5_000), 0..700),
            targets in prop::collection::vec(0_i64..40_000, 20),
            cut in 0_i64..40_000,
        ) {
            let dir = tempfile::tempdir().expect("temp dir");
            let index = index(dir.path(), 100);
            let mut model = Vec::new();
            let (mut offset, mut position) = (100, 0);
            for (offsets, bytes) in steps {
                index.append(offset, position).expect("appends");
                model.push(OffsetPosition { offset, position });
                offset += offsets;
                position += bytes;
            }
            let naive = |model: &[OffsetPosition], target| {
                model
                    .iter()
                    .rev()
                    .find(|e| e.offset <= target)
                    .copied()
                    .unwrap_or(OffsetPosition { offset: 100, position: 0 })
            };
            for target in &targets {
                prop_assert_eq!(index.lookup(*target).expect("looks up"), naive(&model, *target));
            }
            index.truncate_to(cut).expect("cuts");
            model.retain(|e| e.offset < cut);
            prop_assert_eq!(index.entries() as usize, model.len());
            prop_assert_eq!(index.last().expect("reads"), model.last().copied());
        }
    }
}
