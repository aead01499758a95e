//! The names of a table's files, as [`super`] lays them out.

use std::fmt;
use std::str::FromStr;

use strandline_log::Offset;

use super::FileKind;

/// Names a file. Never used twice: run and random see to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableFileName {
    pub kind: FileKind,
    pub partition: i32,
    pub start: Offset,
    /// Exclusive.
    pub end: Offset,
    /// The number of the run's claim.
    pub run: u64,
    pub random: u64,
}

impl FileKind {
    pub const ALL: [Self; 2] = [Self::Data, Self::Rejects];

    /// The folder of all files of this kind, with a slash.
    pub fn folder(self) -> &'static str {
        match self {
            Self::Data => "data/",
            Self::Rejects => "rejects/",
        }
    }

    fn prefix(self) -> &'static str {
        match self {
            Self::Data => "part-",
            Self::Rejects => "rejects-",
        }
    }

    fn suffix(self) -> &'static str {
        match self {
            Self::Data => ".parquet",
            Self::Rejects => ".ndjson",
        }
    }
}

impl fmt::Display for TableFileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            kind,
            partition,
            start,
            end,
            run,
            random,
        } = self;
        write!(
            f,
            "{}partition={partition}/{}{start:020}-{end:020}-{run:010}-{random:016x}{}",
            kind.folder(),
            kind.prefix(),
            kind.suffix()
        )
    }
}

/// Only what `Display` writes is read: anything else in the folders is somebody else's.
impl FromStr for TableFileName {
    type Err = ();

    fn from_str(path: &str) -> Result<Self, ()> {
        let parse = || {
            let kind = FileKind::ALL
                .into_iter()
                .find(|kind| path.starts_with(kind.folder()))?;
            let (folder, name) = path.strip_prefix(kind.folder())?.split_once('/')?;
            let numbers = name
                .strip_prefix(kind.prefix())?
                .strip_suffix(kind.suffix())?;
            let mut numbers = numbers.split('-');
            Some(Self {
                kind,
                partition: folder.strip_prefix("partition=")?.parse().ok()?,
                start: numbers.next()?.parse().ok()?,
                end: numbers.next()?.parse().ok()?,
                run: numbers.next()?.parse().ok()?,
                random: u64::from_str_radix(numbers.next()?, 16).ok()?,
            })
        };
        parse().filter(|name| name.to_string() == path).ok_or(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn golden_names() {
        let mut name = TableFileName {
            kind: FileKind::Data,
            partition: 3,
            start: 5,
            end: 12_345,
            run: 7,
            random: 0xab,
        };
        let data = "data/partition=3/part-00000000000000000005-00000000000000012345-0000000007-00000000000000ab.parquet";
        assert_eq!(name.to_string(), data);
        name.kind = FileKind::Rejects;
        let rejects = data
            .replace("data/", "rejects/")
            .replace("part-0", "rejects-0")
            .replace("parquet", "ndjson");
        assert_eq!(name.to_string(), rejects);
        for other in [
            "data/partition=3/notes.parquet",
            "data/partition=3/part-5-12345-7-ab.parquet",
            "data/x.parquet",
            "_strandline/commits/1.json",
            "",
        ] {
            assert_eq!(other.parse::<TableFileName>(), Err(()), "{other}");
        }
    }

    proptest! {
        #[test]
        fn round_trips(data: bool, partition in 0..i32::MAX, start in 0..i64::MAX, end in 0..i64::MAX, run: u64, random: u64) {
            let kind = if data { FileKind::Data } else { FileKind::Rejects };
            let name = TableFileName { kind, partition, start, end, run, random };
            prop_assert_eq!(name.to_string().parse(), Ok(name));
        }

        #[test]
        fn garbage_never_panics(text: String) {
            let _ = text.parse::<TableFileName>();
        }
    }
}
