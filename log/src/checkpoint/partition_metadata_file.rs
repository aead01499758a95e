//! `partition.metadata`: which topic a partition's folder belongs to, so that a name used again is not confused.
//!
//! Two lines, the last without a line end, as Kafka writes them: `version: 0`, `topic_id: <base64>`.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::atomic_file::write_atomically;
use super::error::StateFileError;
use crate::types::{TopicId, uuid_from_base64, uuid_to_base64};

#[derive(Clone, Debug)]
pub struct PartitionMetadataFile {
    path: PathBuf,
}

impl PartitionMetadataFile {
    pub const NAME: &'static str = "partition.metadata";

    /// `dir`: the partition's folder.
    pub fn new(dir: &Path) -> Self {
        Self {
            path: dir.join(Self::NAME),
        }
    }

    /// The topic's id; `None` when there is no file.
    pub fn read(&self) -> Result<Option<TopicId>, StateFileError> {
        let bytes = match fs::read(&self.path) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(StateFileError::io(&self.path)(e)),
        };
        let malformed = |reason: String| StateFileError::malformed(&self.path, reason);
        let text = String::from_utf8(bytes).map_err(|_| malformed("it is not UTF-8".to_owned()))?;
        let mut version = None;
        let mut topic_id = None;
        for line in text.lines().filter(|l| !l.trim().is_empty()) {
            match line.split_once(':').map(|(k, v)| (k.trim(), v.trim())) {
                Some(("version", v)) => version = Some(v),
                Some(("topic_id", v)) => topic_id = Some(v),
                _ => return Err(malformed(format!("line \"{line}\""))),
            }
        }
        if version != Some("0") {
            return Err(malformed(format!("version {version:?}, expected 0")));
        }
        topic_id
            .and_then(uuid_from_base64)
            .filter(|id| !id.is_nil())
            .map(Some)
            .ok_or_else(|| malformed(format!("topic id {topic_id:?}")))
    }

    /// Replaces the file. With `sync` it is on disk on return.
    pub fn write(&self, topic_id: &TopicId, sync: bool) -> Result<(), StateFileError> {
        let text = format!("version: 0\ntopic_id: {}", uuid_to_base64(topic_id));
        write_atomically(&self.path, text.as_bytes(), sync)
    }
}
