//! One entry of a table's commit log, as JSON, so that people and scripts can read it.
//!
//! | field | type | |
//! |---|---|---|
//! | version | number | 1; a reader refuses others |
//! | number | number | of the entry, from 1 without a gap; also its name |
//! | kind | text | `claim` begins a run, `commit` adds to the table |
//! | run | number | of the run's claim |
//! | nonce | text | of the run: tells its own retried write from another's |
//! | state | text | of the run behind this entry: `running`, `settling`, `ended` |
//! | created_ms | number | the writer's clock |
//! | source | object | cluster_id, topic, topic_id (Kafka's base64) |
//! | format | object | value: `raw` or `json`; key: `binary` or `string` |
//! | columns | array | of JSON fields so far: name, field, type (`null`, `boolean`, `int64`, `double`, `string`, `json`) |
//! | progress | array | all partitions so far: partition, start, end (exclusive), incarnation, leader_epoch |
//! | ranges | array | source offsets that this entry adds: partition, start, end (exclusive) |
//! | gaps | array | offsets within the ranges that no object holds: partition, start, end, cause |
//! | files | array | that this entry adds: path, kind (`data`, `rejects`), partition, start, end, records, bytes |
//! | records, rejects | number | that this entry adds |
//!
//! Format, columns and progress are of the whole table, so that the last entry alone says where to go on. `settling`: the
//! run ended, but it had taken over from one that may still be writing files; the next run looks for them once more.
//! Unknown fields are ignored, so that later versions can add some.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use strandline_log::{LeaderEpoch, Offset, TimestampMs};

use crate::request::TableFormat;
use crate::schema::Column;

const VERSION: u16 = 1;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EntryKind {
    Claim,
    Commit,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RunState {
    Running,
    Settling,
    Ended,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FileKind {
    Data,
    Rejects,
}

/// The topic that a table is of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceTopic {
    pub cluster_id: String,
    pub topic: String,
    pub topic_id: String,
}

/// What a table has of a partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionProgress {
    pub partition: i32,
    /// Where the export began.
    pub start: Offset,
    /// Where the next run goes on.
    pub end: Offset,
    pub incarnation: u64,
    /// Of the offset before the end, where it is known.
    pub leader_epoch: Option<LeaderEpoch>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OffsetRange {
    pub partition: i32,
    pub start: Offset,
    pub end: Offset,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GapEntry {
    pub partition: i32,
    pub start: Offset,
    pub end: Offset,
    pub cause: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileEntry {
    pub path: String,
    pub kind: FileKind,
    pub partition: i32,
    pub start: Offset,
    pub end: Offset,
    pub records: u64,
    pub bytes: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    pub(super) version: u16,
    pub number: u64,
    pub kind: EntryKind,
    pub run: u64,
    pub nonce: String,
    pub state: RunState,
    pub created_ms: TimestampMs,
    pub source: SourceTopic,
    pub format: TableFormat,
    pub columns: Vec<Column>,
    pub progress: Vec<PartitionProgress>,
    #[serde(default)]
    pub ranges: Vec<OffsetRange>,
    #[serde(default)]
    pub gaps: Vec<GapEntry>,
    #[serde(default)]
    pub files: Vec<FileEntry>,
    #[serde(default)]
    pub records: u64,
    #[serde(default)]
    pub rejects: u64,
}

#[derive(Debug, thiserror::Error)]
pub enum EntryError {
    #[error("it has version {0}, this program knows version {VERSION}")]
    Version(u16),
    #[error("it is not the JSON expected: {0}")]
    Json(#[from] serde_json::Error),
}

#[derive(Deserialize)]
struct Versioned {
    version: u16,
}

impl Entry {
    /// A claim of a new run: nothing is added yet.
    pub fn claim(
        number: u64,
        nonce: String,
        created_ms: TimestampMs,
        source: SourceTopic,
        format: TableFormat,
    ) -> Self {
        Self {
            version: VERSION,
            number,
            kind: EntryKind::Claim,
            run: number,
            nonce,
            state: RunState::Running,
            created_ms,
            source,
            format,
            columns: Vec::new(),
            progress: Vec::new(),
            ranges: Vec::new(),
            gaps: Vec::new(),
            files: Vec::new(),
            records: 0,
            rejects: 0,
        }
    }

    pub fn encode(&self) -> Bytes {
        let mut bytes =
            serde_json::to_vec_pretty(self).expect("texts and numbers have a JSON form");
        bytes.push(b'\n');
        bytes.into()
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, EntryError> {
        // First alone: another version may lack any other field.
        let Versioned { version } = serde_json::from_slice(bytes)?;
        if version != VERSION {
            return Err(EntryError::Version(version));
        }
        Ok(serde_json::from_slice(bytes)?)
    }

    /// Where the next run goes on with a partition.
    pub fn progress_of(&self, partition: i32) -> Option<&PartitionProgress> {
        self.progress.iter().find(|p| p.partition == partition)
    }
}

#[cfg(test)]
#[path = "entry_tests.rs"]
mod tests;
