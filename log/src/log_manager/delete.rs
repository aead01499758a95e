//! Deleting a partition: its folder gets a name that no partition has, and goes later.

use std::path::Path;

use super::{LogManager, LogManagerError};
use crate::log_error::AtPath;
use crate::types::{TopicId, TopicPartition};

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
        let aside = parent.join(name);
        std::fs::rename(log.dir(), &aside).at("rename", log.dir())?;
        self.deleted_folders.lock().push(aside);
        self.forget_upkeep(tp);
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
        let aside = parent.join(name);
        match std::fs::rename(&log.folder, &aside) {
            Ok(()) => self.deleted_folders.lock().push(aside),
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
