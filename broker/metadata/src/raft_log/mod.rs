//! The Raft log on disk: entries and votes in one file, written by one thread.
//!
//! 1. The log is one append-only file. Each write is one frame: numbered, checksummed, and synced before the next one is
//!    written. Votes, entries and truncations are records in frames, so their order on disk is their order in time.
//! 2. A purge writes what is left into a file of the next generation (temporary name, fsync, rename, fsync of the
//!    folder) and removes the old one. Snapshots come before purges, so the file stays small.
//! 3. Opening reads the whole file. A bad frame with no good one behind it is a torn write: it was never acknowledged
//!    and is cut off. A bad frame before a good one had been synced: that is damage and an error.
//! 4. The retained entries are also in memory, as bytes; readers never touch the disk.
//! 5. A failed write or fsync is never retried: the log refuses everything from then on.
//!
//! A lone voter's own vote and the entries without commands that openraft writes at an election wait in memory for the
//! next frame. Nobody else counts on them, and whatever is acknowledged to a client is synced after them in the same
//! file, so a crash can only undo an election from which nothing followed. That leaves one fsync to a start.

mod format;
mod store;
mod writer;

pub use store::RaftLog;
pub use writer::{file_names, remove, write_file_durably};

#[cfg(test)]
mod tests;
