//! Deleting a partition: its folder gets a name that no partition has, and goes later.

use std::path::Path;

use super::{LogManager, LogManagerError};
use crate::log_error::AtPath;
use crate::types::{TimestampMs, TopicId, TopicPartition};

pub(super) const DELETE_SUFFIX: &str = "-delete";
pub(super) const STRAY_SUFFIX: &str = "-stray";

/// The longest name that file systems take.
const NAME_LEN_MAX: usize = 255;

impl LogManager {
    /// Takes the partition away; its files follow with [`Self::purge`]. False when there is no such log.
    pub fn delete(&self, tp: &TopicPartition) -> Result<bool, LogManagerError> {
        let mut logs = self.logs.write();
        let Some(log) = logs.get(tp) else {
            return self.delete_failed(tp);
        };
        let parent = log.parent_dir();
        let name = set_aside_name(&parent, tp, log.topic_id(), DELETE_SUFFIX);
        log.close(false)?;
        std::fs::rename(log.dir(), parent.join(name)).at("rename", log.dir())?;
        if let Some(dir) = self.dir(&parent) {
            dir.note_deleted(tp);
        }
        logs.remove(tp);
        Ok(true)
    }

    /// A log that could not be loaded may be deleted all the same.
    fn delete_failed(&self, tp: &TopicPartition) -> Result<bool, LogManagerError> {
        let mut failed = self.failed.write();
        let Some(log) = failed.get(tp) else {
            return Ok(false);
        };
        let parent = log.folder.parent().unwrap_or_else(|| Path::new("."));
        let name = set_aside_name(parent, tp, TopicId::nil(), DELETE_SUFFIX);
        match std::fs::rename(&log.folder, parent.join(name)) {
            Ok(()) => {}
            // Its directory is away. When it is back, the log is found to be nobody's.
            Err(_) if !log.folder.exists() => {}
            Err(e) => return Err(crate::StorageError::new("rename", &log.folder, e).into()),
        }
        if let Some(dir) = self.dir(parent) {
            dir.note_deleted(tp);
        }
        failed.remove(tp);
        Ok(true)
    }

    /// Removes what was deleted: folders of partitions, and segment files whose delay is over. Tells how many.
    pub fn purge(&self, now_ms: TimestampMs) -> usize {
        let mut purged = 0;
        for dir in self.dirs.iter().filter(|dir| !dir.is_offline()) {
            let Ok(entries) = std::fs::read_dir(dir.path()) else {
                continue;
            };
            for entry in entries.flatten() {
                let is_deleted = entry
                    .file_name()
                    .to_str()
                    .is_some_and(|name| name.ends_with(DELETE_SUFFIX));
                if !is_deleted {
                    continue;
                }
                let path = entry.path();
                match std::fs::remove_dir_all(&path).at("remove", &path) {
                    Ok(()) => purged += 1,
                    Err(error) => tracing::warn!(%error, "a deleted partition stays"),
                }
            }
        }
        purged
            + self
                .logs()
                .iter()
                .map(|log| log.purge(now_ms))
                .sum::<usize>()
    }
}

/// `topic-partition.<uuid>-delete`, as Kafka names it: the topic is cut where the name would be too long. The uuid is
/// the topic's; a name that is taken gets the next one.
pub(super) fn set_aside_name(
    parent: &Path,
    tp: &TopicPartition,
    topic_id: TopicId,
    suffix: &str,
) -> String {
    let mut id = topic_id.as_u128();
    loop {
        let tail = format!(".{}{suffix}", uuid::Uuid::from_u128(id).simple());
        let mut name = tp.to_string();
        name.truncate(NAME_LEN_MAX - tail.len());
        name.push_str(&tail);
        if !parent.join(&name).exists() {
            return name;
        }
        id = id.wrapping_add(1);
    }
}
