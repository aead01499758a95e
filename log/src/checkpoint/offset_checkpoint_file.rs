//! One offset per partition of a log folder: `0`, the count, then `topic partition offset` lines.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::checkpoint_file::{parse_checkpoint, write_checkpoint};
use super::error::StateFileError;
use crate::types::{Offset, TopicPartition};

/// Everything below is on disk.
pub const RECOVERY_POINT_CHECKPOINT: &str = "recovery-point-offset-checkpoint";
pub const LOG_START_OFFSET_CHECKPOINT: &str = "log-start-offset-checkpoint";
/// Up to where each compacted log was cleaned.
pub const CLEANER_OFFSET_CHECKPOINT: &str = "cleaner-offset-checkpoint";
/// The high watermarks.
pub const REPLICATION_OFFSET_CHECKPOINT: &str = "replication-offset-checkpoint";

#[derive(Clone, Debug)]
pub struct OffsetCheckpointFile {
    path: PathBuf,
}

impl OffsetCheckpointFile {
    /// `name`: one of the constants beside this type.
    pub fn new(dir: &Path, name: &str) -> Self {
        Self {
            path: dir.join(name),
        }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// All offsets; none when there is no file yet.
    pub fn read(&self) -> Result<BTreeMap<TopicPartition, Offset>, StateFileError> {
        let entries = parse_checkpoint(&self.path, |words| {
            let [topic, partition, offset] = words else {
                return None;
            };
            let partition = partition.parse().ok().filter(|p| *p >= 0)?;
            let offset: Offset = offset.parse().ok().filter(|o| *o >= 0)?;
            Some((TopicPartition::new(*topic, partition), offset))
        })?;
        Ok(entries.into_iter().collect())
    }

    /// Replaces the file; on return it is on disk.
    pub fn write(&self, offsets: &BTreeMap<TopicPartition, Offset>) -> Result<(), StateFileError> {
        let lines = offsets
            .iter()
            .map(|(tp, offset)| format!("{} {} {offset}", tp.topic, tp.partition));
        write_checkpoint(&self.path, lines, true)
    }
}
