//! What a run tells: while it goes on, and at its end.

use serde::Serialize;
use strandline_log::Offset;

use crate::request::TableFormat;

/// How far a run has come. Reported after every chunk.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    pub partition: i32,
    /// Of the log bytes that this run reads. The total is an estimate where old entries lie in pages.
    pub log_bytes_done: u64,
    pub log_bytes_total: u64,
    pub records: u64,
    pub rejects: u64,
    pub files: u64,
    pub bytes_written: u64,
    pub commits: u64,
}

/// What a run did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ExportSummary {
    pub topic: String,
    pub topic_id: String,
    pub source: String,
    /// The table's folder, as a URL or a path.
    pub table: String,
    pub format: TableFormat,
    pub records: u64,
    pub rejects: u64,
    /// Records of aborted transactions, which no reader of committed records sees.
    pub aborted: u64,
    /// Of record batches, as they are stored.
    pub log_bytes: u64,
    pub bytes_written: u64,
    pub commits: u64,
    /// Files of crashed runs that this one deleted.
    pub swept_files: u64,
    pub partitions: Vec<PartitionSummary>,
    pub files: Vec<FileSummary>,
    pub gaps: Vec<GapSummary>,
    /// Opens the whole table in DuckDB.
    pub query: String,
}

impl ExportSummary {
    pub fn data_files(&self) -> impl Iterator<Item = &FileSummary> {
        self.files.iter().filter(|file| !file.rejects)
    }

    pub fn reject_files(&self) -> impl Iterator<Item = &FileSummary> {
        self.files.iter().filter(|file| file.rejects)
    }
}

/// One partition in this run: what it read, and where the table now ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PartitionSummary {
    pub partition: i32,
    /// The source offsets that this run added: [start, end).
    pub start: Offset,
    pub end: Offset,
    pub records: u64,
    pub rejects: u64,
}

/// A file that was committed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FileSummary {
    /// Relative to the table's folder.
    pub path: String,
    pub rejects: bool,
    pub records: u64,
    pub bytes: u64,
}

/// Offsets that could not be exported, because no object holds them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct GapSummary {
    pub partition: i32,
    pub start: Offset,
    pub end: Offset,
    pub cause: String,
}
