//! One log directory: its lock, its owner, its checkpoints, its health.

use std::collections::BTreeMap;
use std::collections::HashSet;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use rustix::fs::FlockOperation;

use super::{LogManagerConfig, LogManagerError};
use crate::checkpoint::{
    CleanShutdownFile, LOG_START_OFFSET_CHECKPOINT, MetaProperties, OffsetCheckpointFile,
    RECOVERY_POINT_CHECKPOINT, REPLICATION_OFFSET_CHECKPOINT, StateFileError,
};
use crate::dir_health::DirHealth;
use crate::log_error::{AtPath, StorageError};
use crate::types::{Offset, TopicPartition};

const LOCK_FILE: &str = ".lock";

/// The checkpoints that a directory has, in the order in which they are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Checkpoint {
    RecoveryPoint,
    LogStart,
    HighWatermark,
}

#[derive(Debug)]
pub(super) struct LogDir {
    path: PathBuf,
    health: Arc<DirHealth>,
    recovery_points: CheckpointFile,
    log_starts: CheckpointFile,
    high_watermarks: CheckpointFile,
    /// Held from when offsets are gathered until they are written, so that none goes back to an older value.
    pub checkpointing: Mutex<()>,
    /// Partitions that were deleted since the checkpoints were written.
    deleted: Mutex<HashSet<TopicPartition>>,
    /// Holds the lock until the process ends or this is dropped.
    _lock: File,
}

/// A checkpoint, which is written only when it says something new.
#[derive(Debug)]
struct CheckpointFile {
    file: OffsetCheckpointFile,
    /// What was written last; `None` when that is not known.
    written: Mutex<Option<BTreeMap<TopicPartition, Offset>>>,
}

impl LogDir {
    /// Creates the directory if need be, locks it, and checks whose it is.
    pub fn open(path: &Path, config: &LogManagerConfig) -> Result<Self, LogManagerError> {
        std::fs::create_dir_all(path).at("create", path)?;
        // One directory under two names would be two directories.
        let path = path.canonicalize().at("resolve", path)?;
        let lock = lock(&path)?;
        check_owner(&path, config)?;
        let checkpoint = |name| CheckpointFile {
            file: OffsetCheckpointFile::new(&path, name),
            written: Mutex::new(None),
        };
        Ok(Self {
            health: DirHealth::new(&path),
            recovery_points: checkpoint(RECOVERY_POINT_CHECKPOINT),
            log_starts: checkpoint(LOG_START_OFFSET_CHECKPOINT),
            high_watermarks: checkpoint(REPLICATION_OFFSET_CHECKPOINT),
            checkpointing: Mutex::default(),
            deleted: Mutex::default(),
            path,
            _lock: lock,
        })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn health(&self) -> &Arc<DirHealth> {
        &self.health
    }

    pub fn is_offline(&self) -> bool {
        self.health.is_offline()
    }

    /// Takes the directory offline: it cannot be read or written.
    pub fn fail(&self, error: &LogManagerError) {
        let cause = std::io::Error::other(error.to_string());
        let cause = StorageError::new("use", self.path(), cause);
        self.health.mark_offline(&cause);
    }

    pub fn clean_shutdown_file(&self) -> CleanShutdownFile {
        CleanShutdownFile::new(&self.path)
    }

    fn file(&self, checkpoint: Checkpoint) -> &CheckpointFile {
        match checkpoint {
            Checkpoint::RecoveryPoint => &self.recovery_points,
            Checkpoint::LogStart => &self.log_starts,
            Checkpoint::HighWatermark => &self.high_watermarks,
        }
    }

    /// The offsets as they were last written. A file that does not parse is as good as none: then more is recovered.
    pub fn read(
        &self,
        checkpoint: Checkpoint,
    ) -> Result<BTreeMap<TopicPartition, Offset>, StateFileError> {
        match self.file(checkpoint).file.read() {
            Err(error) if !error.is_io() => {
                tracing::warn!(%error, "going on without this checkpoint");
                Ok(BTreeMap::new())
            }
            offsets => offsets,
        }
    }

    pub fn write(
        &self,
        checkpoint: Checkpoint,
        offsets: BTreeMap<TopicPartition, Offset>,
    ) -> Result<(), StateFileError> {
        let file = self.file(checkpoint);
        let mut written = file.written.lock();
        if written.as_ref() == Some(&offsets) {
            return Ok(());
        }
        *written = None;
        file.file.write(&offsets)?;
        *written = Some(offsets);
        Ok(())
    }

    /// Whether it is known what the file says.
    pub fn is_known(&self, checkpoint: Checkpoint) -> bool {
        self.file(checkpoint).written.lock().is_some()
    }

    /// Writes what was written last with `changed` in it, where `None` stands for no line, and without what was deleted.
    /// When it is not known what the file says, all is written.
    pub fn update(
        &self,
        checkpoint: Checkpoint,
        changed: impl Iterator<Item = (TopicPartition, Option<Offset>)>,
        all: Option<BTreeMap<TopicPartition, Offset>>,
    ) -> Result<(), StateFileError> {
        let file = self.file(checkpoint);
        let mut written = file.written.lock();
        let Some(mut offsets) = written.take() else {
            drop(written);
            // Without the list: the next time.
            return all.map_or(Ok(()), |all| self.write(checkpoint, all));
        };
        let mut differs = false;
        for tp in self.deleted.lock().iter() {
            differs |= offsets.remove(tp).is_some();
        }
        for (tp, offset) in changed {
            let before = match offset {
                Some(offset) => offsets.insert(tp, offset),
                None => offsets.remove(&tp),
            };
            differs |= before != offset;
        }
        if differs {
            file.file.write(&offsets)?;
        }
        *written = Some(offsets);
        Ok(())
    }

    pub fn note_deleted(&self, tp: &TopicPartition) {
        self.deleted.lock().insert(tp.clone());
    }

    /// Whether the checkpoints on disk may name a deleted log of this name.
    pub fn forgets(&self, tp: &TopicPartition) -> bool {
        self.deleted.lock().contains(tp)
    }

    pub fn checkpoints_written(&self) {
        self.deleted.lock().clear();
    }
}

fn lock(dir: &Path) -> Result<File, LogManagerError> {
    let path = dir.join(LOCK_FILE);
    let file = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .at("open", &path)?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(LogManagerError::Locked(dir.to_owned())),
        Err(e) => Err(StorageError::new("lock", path, e.into()).into()),
    }
}

fn check_owner(dir: &Path, config: &LogManagerConfig) -> Result<(), LogManagerError> {
    let wrong = |what, found: String, expected: String| LogManagerError::WrongOwner {
        dir: dir.to_owned(),
        what,
        found,
        expected,
    };
    match MetaProperties::read(dir)? {
        None => {
            let properties = MetaProperties {
                cluster_id: config.cluster_id.clone(),
                node_id: config.node_id,
                directory_id: (config.new_directory_id)(),
            };
            properties.write(dir)?;
            Ok(())
        }
        Some(found) if found.cluster_id != config.cluster_id => Err(wrong(
            "cluster",
            found.cluster_id,
            config.cluster_id.clone(),
        )),
        Some(found) if found.node_id != config.node_id => Err(wrong(
            "node",
            found.node_id.to_string(),
            config.node_id.to_string(),
        )),
        Some(_) => Ok(()),
    }
}
