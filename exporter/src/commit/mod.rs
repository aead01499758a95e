//! What makes a table: the commits.
//!
//! ```text
//! {table}/_strandline/commits/{number:020}.json   one entry each, created only if absent, numbered without a gap
//! {table}/data/partition={n}/part-{start:020}-{end:020}-{run:010}-{random:016x}.parquet
//! {table}/rejects/partition={n}/rejects-{start:020}-{end:020}-{run:010}-{random:016x}.ndjson
//! ```
//!
//! A reader that must be exact takes the union of `files` over all entries; it may keep what it read, since entries
//! never change. A glob over `data/` sees the same rows, except between a crash and the next run: then files that no
//! entry names may be there too.
//!
//! How a run stays exactly once (I8):
//! 1. It reads the last entry and creates the next one, a claim. Every earlier run expects that very number for its own
//!    next commit, so none of them can commit any more.
//! 2. If the last run did not end, it deletes files of earlier runs that no entry names. Names hold the run's number, so
//!    that a run never deletes what a later one wrote.
//! 3. It writes files, then creates the next entry with their names and the source offsets that they cover. Either both
//!    are there afterwards or neither is.

mod entry;
mod file_name;
mod log;

pub use entry::{
    Entry, EntryError, EntryKind, FileEntry, FileKind, GapEntry, OffsetRange, PartitionProgress,
    RunState, SourceTopic,
};
pub use file_name::TableFileName;
pub use log::{Commit, CommitError, CommitLog, Run};
