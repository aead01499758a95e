//! A partition's `damaged-batches`: what of its log is known to be lost, so that a start does not have to find it again.
//!
//! Kafka's checkpoint layout; a line is `start end segment position resume reason...`. The file is there only while
//! something is damaged. Kafka has none such and leaves files alone whose names it does not know.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::atomic_file::sync_dir;
use super::checkpoint_file::{parse_checkpoint, write_checkpoint};
use super::error::StateFileError;
use crate::types::Offset;

/// One stretch of a segment that holds no whole batches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DamageEntry {
    /// The first offset that is lost.
    pub start: Offset,
    /// Exclusive.
    pub end: Offset,
    pub segment_base: Offset,
    /// In the segment's log file.
    pub position: u64,
    /// Where batches are whole again.
    pub resume: u64,
    pub reason: String,
}

#[derive(Clone, Debug)]
pub struct DamageFile {
    path: PathBuf,
}

impl DamageFile {
    pub const NAME: &str = "damaged-batches";

    pub fn new(partition_dir: &Path) -> Self {
        Self {
            path: partition_dir.join(Self::NAME),
        }
    }

    /// None when there is no file.
    pub fn read(&self) -> Result<Vec<DamageEntry>, StateFileError> {
        parse_checkpoint(&self.path, |words| {
            let [start, end, segment_base, position, resume, reason @ ..] = words else {
                return None;
            };
            let offset = |word: &str| word.parse::<Offset>().ok().filter(|offset| *offset >= 0);
            let entry = DamageEntry {
                start: offset(start)?,
                end: offset(end)?,
                segment_base: offset(segment_base)?,
                position: position.parse().ok()?,
                resume: resume.parse().ok()?,
                reason: reason.join(" "),
            };
            (entry.start < entry.end && entry.position < entry.resume).then_some(entry)
        })
    }

    /// Replaces the file, or removes it when nothing is damaged; on return that is on disk.
    pub fn write(&self, entries: &[DamageEntry]) -> Result<(), StateFileError> {
        if entries.is_empty() {
            return match std::fs::remove_file(&self.path) {
                Err(e) if e.kind() == ErrorKind::NotFound => Ok(()),
                Err(e) => Err(StateFileError::io(&self.path)(e)),
                Ok(()) => sync_dir(self.path.parent().unwrap_or_else(|| Path::new("."))),
            };
        }
        let lines = entries.iter().map(|e| {
            let reason: Vec<&str> = e.reason.split_whitespace().collect();
            format!(
                "{} {} {} {} {} {}",
                e.start,
                e.end,
                e.segment_base,
                e.position,
                e.resume,
                reason.join(" ")
            )
        });
        write_checkpoint(&self.path, lines, true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn entry() -> impl Strategy<Value = DamageEntry> {
        let offset = 0..i64::MAX / 2;
        let words = proptest::collection::vec("[a-z0-9:,-]{1,9}", 0..6);
        (offset.clone(), 1..1_000_i64, offset, any::<u32>(), words).prop_map(
            |(start, len, segment_base, position, words)| DamageEntry {
                start,
                end: start + len,
                segment_base,
                position: position.into(),
                resume: u64::from(position) + 1,
                reason: words.join(" "),
            },
        )
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(entries in proptest::collection::vec(entry(), 0..5)) {
            let dir = tempfile::tempdir().expect("temp dir");
            let file = DamageFile::new(dir.path());
            file.write(&entries).expect("writes");
            prop_assert_eq!(file.read().expect("reads"), entries.clone());
            prop_assert_eq!(dir.path().join(DamageFile::NAME).exists(), !entries.is_empty());
        }
    }

    #[test]
    fn the_bytes_are_a_checkpoint() {
        let dir = tempfile::tempdir().expect("temp dir");
        let file = DamageFile::new(dir.path());
        let entry = DamageEntry {
            start: 5,
            end: 7,
            segment_base: 3,
            position: 140,
            resume: 300,
            reason: "no\nline".to_owned(),
        };
        file.write(&[entry]).expect("writes");
        let path = dir.path().join(DamageFile::NAME);
        let text = std::fs::read_to_string(&path).expect("reads");
        assert_eq!(text, "0\n1\n5 7 3 140 300 no line\n");
        for bad in [
            "0\n1\n7 5 3 140 300 x\n",
            "0\n1\n5 7 3 140\n",
            "0\n2\n",
            "\u{0}",
        ] {
            std::fs::write(&path, bad).expect("writes");
            assert!(file.read().is_err(), "{bad:?}");
        }
        file.write(&[]).expect("removes");
        assert!(!path.exists());
    }
}
