//! The names of a partition's files, as Kafka writes them: the base offset in twenty digits and a suffix.

use std::path::{Path, PathBuf};

use crate::types::Offset;

/// Appended to a name when the file is about to be removed.
pub const DELETED_SUFFIX: &str = ".deleted";

/// The files of one segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SegmentFile {
    Log,
    OffsetIndex,
    TimeIndex,
    TxnIndex,
    Snapshot,
}

impl SegmentFile {
    /// Everything that goes when a segment goes.
    pub const ALL: [Self; 5] = [
        Self::Log,
        Self::OffsetIndex,
        Self::TimeIndex,
        Self::TxnIndex,
        Self::Snapshot,
    ];

    pub fn suffix(self) -> &'static str {
        match self {
            Self::Log => ".log",
            Self::OffsetIndex => ".index",
            Self::TimeIndex => ".timeindex",
            Self::TxnIndex => ".txnindex",
            Self::Snapshot => ".snapshot",
        }
    }

    /// Reads a name back: `00000000000000000042.log` is the log at 42.
    pub fn parse(name: &str) -> Option<(Offset, Self)> {
        Self::ALL.into_iter().find_map(|kind| {
            let digits = name.strip_suffix(kind.suffix())?;
            let well_formed = digits.len() == 20 && digits.bytes().all(|b| b.is_ascii_digit());
            well_formed
                .then(|| digits.parse().ok())
                .flatten()
                .map(|offset| (offset, kind))
        })
    }
}

pub fn segment_file_name(base_offset: Offset, kind: SegmentFile) -> String {
    format!("{base_offset:020}{}", kind.suffix())
}

pub fn segment_path(dir: &Path, base_offset: Offset, kind: SegmentFile) -> PathBuf {
    dir.join(segment_file_name(base_offset, kind))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_kafkas() {
        assert_eq!(
            segment_file_name(42, SegmentFile::TimeIndex),
            "00000000000000000042.timeindex"
        );
        for kind in SegmentFile::ALL {
            let name = segment_file_name(i64::MAX, kind);
            assert_eq!(SegmentFile::parse(&name), Some((i64::MAX, kind)));
        }
        for other in [
            "leader-epoch-checkpoint",
            "42.log",
            "00000000000000000042.log.deleted",
            "0000000000000000004x.log",
        ] {
            assert_eq!(SegmentFile::parse(other), None, "{other}");
        }
    }
}
