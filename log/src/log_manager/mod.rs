//! All logs of a broker, over its log directories.
//!
//! A directory belongs to one process (`.lock`), one cluster and one node (`meta.properties`). A partition lives in one
//! folder of one directory. What happens on a timer is asked for by the caller: flushing, checkpoints, purging. A
//! directory whose sync failed is offline for good; its logs refuse to write, the others go on.

mod agenda;
mod checkpoints;
mod delete;
mod load;
mod log_dir;
#[cfg(test)]
mod tests;
mod upkeep;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::{Mutex, RwLock};

pub use load::LoadReport;

use crate::checkpoint::{PartitionMetadataFile, StateFileError};
use crate::file_cache::FileCache;
use crate::log::{Log, OpenLog};
use crate::log_config::LogConfig;
use crate::log_error::{AtPath, LogError, StorageError};
use crate::types::{TimestampMs, TopicId, TopicPartition};
use log_dir::LogDir;
use upkeep::Agendas;

#[derive(Clone, Debug)]
pub struct LogManagerConfig {
    pub dirs: Vec<PathBuf>,
    pub node_id: i32,
    pub cluster_id: String,
    /// Threads per directory that load and close logs.
    pub recovery_threads: usize,
    pub producer_id_expiration_ms: TimestampMs,
    /// Descriptors of sealed segments and indexes that stay open.
    pub open_files_max: usize,
    /// Draws the id of a directory that is used for the first time.
    pub new_directory_id: fn() -> uuid::Uuid,
}

#[derive(Debug, thiserror::Error)]
pub enum LogManagerError {
    #[error("another process uses {}", .0.display())]
    Locked(PathBuf),
    #[error("{} belongs to {what} {found}, this is {expected}", dir.display())]
    WrongOwner {
        dir: PathBuf,
        what: &'static str,
        found: String,
        expected: String,
    },
    #[error("no log directory is online")]
    NoDirOnline,
    #[error("partition {tp} is stored with topic id {found}, not {expected}")]
    WrongTopicId {
        tp: TopicPartition,
        found: String,
        expected: String,
    },
    #[error(transparent)]
    Storage(#[from] StorageError),
    #[error(transparent)]
    StateFile(#[from] StateFileError),
    #[error(transparent)]
    Log(#[from] LogError),
}

impl LogManagerError {
    /// The disk or the permissions are at fault, not whose the directory is.
    fn is_of_the_disk(&self) -> bool {
        match self {
            Self::Storage(_) => true,
            Self::StateFile(e) => e.is_io(),
            _ => false,
        }
    }
}

#[derive(Debug)]
pub struct LogManager {
    config: LogManagerConfig,
    dirs: Vec<LogDir>,
    /// Directories that could not be opened.
    unusable: Vec<PathBuf>,
    files: Arc<FileCache>,
    logs: RwLock<HashMap<TopicPartition, Arc<Log>>>,
    /// Logs that could not be loaded. Their folders are left as they are: nobody may begin anew in them.
    failed: RwLock<HashMap<TopicPartition, FailedLog>>,
    /// Folders of deleted partitions, under their last names.
    deleted_folders: Mutex<Vec<PathBuf>>,
    agendas: Mutex<Agendas>,
}

#[derive(Debug)]
struct FailedLog {
    folder: PathBuf,
    error: LogError,
}

impl LogManager {
    /// Takes possession of the log directories, creating those that are not there. No log is loaded yet. A directory
    /// whose disk fails stays away as long as another one works, as in Kafka; one that belongs to somebody else is an
    /// error always.
    pub fn open(config: LogManagerConfig) -> Result<Self, LogManagerError> {
        let mut dirs = Vec::with_capacity(config.dirs.len());
        let mut unusable = Vec::new();
        let mut first_error = None;
        for path in &config.dirs {
            match LogDir::open(path, &config) {
                Ok(dir) => dirs.push(dir),
                Err(error) if error.is_of_the_disk() => {
                    tracing::error!(dir = %path.display(), %error, "this log directory cannot be used");
                    unusable.push(path.clone());
                    first_error = first_error.or(Some(error));
                }
                Err(error) => return Err(error),
            }
        }
        if let (true, Some(error)) = (dirs.is_empty(), first_error) {
            return Err(error);
        }
        Ok(Self {
            files: FileCache::new(config.open_files_max),
            config,
            dirs,
            unusable,
            logs: RwLock::default(),
            failed: RwLock::default(),
            deleted_folders: Mutex::default(),
            agendas: Mutex::default(),
        })
    }

    pub fn get(&self, tp: &TopicPartition) -> Option<Arc<Log>> {
        self.logs.read().get(tp).cloned()
    }

    /// All logs, by topic and partition.
    pub fn logs(&self) -> Vec<Arc<Log>> {
        let mut logs: Vec<_> = self.logs.read().values().cloned().collect();
        logs.sort_unstable_by(|a, b| a.topic_partition().cmp(b.topic_partition()));
        logs
    }

    pub fn len(&self) -> usize {
        self.logs.read().len()
    }

    pub fn is_empty(&self) -> bool {
        self.logs.read().is_empty()
    }

    /// Whether a log that was not loaded may lie in a directory that is away: then nobody may begin anew elsewhere.
    pub fn is_a_dir_away(&self) -> bool {
        !self.unusable.is_empty() || self.dirs.iter().any(LogDir::is_offline)
    }

    /// The partition existed before and its log was not found: it is in the directory that is away, and stays offline.
    pub fn set_away(&self, tp: &TopicPartition) {
        if self.logs.read().contains_key(tp) {
            return;
        }
        let away = self.unusable.first().cloned();
        let offline = || {
            self.dirs
                .iter()
                .find(|dir| dir.is_offline())
                .map(|dir| dir.path().to_owned())
        };
        let Some(dir) = away.or_else(offline) else {
            return;
        };
        let failed = FailedLog {
            folder: dir.join(tp.to_string()),
            error: LogError::Offline(dir),
        };
        self.failed.write().entry(tp.clone()).or_insert(failed);
    }

    /// Directories that are configured and could not be opened at the start.
    pub fn unusable_dirs(&self) -> &[PathBuf] {
        &self.unusable
    }

    pub fn dirs(&self) -> Vec<PathBuf> {
        self.dirs.iter().map(|dir| dir.path().to_owned()).collect()
    }

    /// Why the partition's log could not be loaded.
    pub fn failure(&self, tp: &TopicPartition) -> Option<LogError> {
        self.failed
            .read()
            .get(tp)
            .map(|failed| failed.error.clone())
    }

    /// Whether the directory's sync failed, or it is none of ours.
    pub fn is_offline(&self, dir: &Path) -> bool {
        self.dir(dir).is_none_or(LogDir::is_offline)
    }

    /// The partition's log, creating it in the online directory that has the fewest logs.
    pub fn create(
        &self,
        tp: &TopicPartition,
        topic_id: TopicId,
        config: Arc<LogConfig>,
        now_ms: TimestampMs,
    ) -> Result<Arc<Log>, LogManagerError> {
        let mut logs = self.logs.write();
        if let Some(log) = logs.get(tp) {
            if log.topic_id() != topic_id {
                return Err(LogManagerError::WrongTopicId {
                    tp: tp.clone(),
                    found: crate::types::uuid_to_base64(&log.topic_id()),
                    expected: crate::types::uuid_to_base64(&topic_id),
                });
            }
            return Ok(Arc::clone(log));
        }
        if let Some(failed) = self.failed.read().get(tp) {
            return Err(failed.error.clone().into());
        }
        let dir = self.emptiest_dir(&logs)?;
        if dir.forgets(tp) {
            // Old checkpoints still name a deleted log: they would tell lies about the new one after a crash.
            self.checkpoint_dir(dir, logs.values())?;
        }
        let folder = dir.path().join(tp.to_string());
        std::fs::create_dir_all(&folder).at("create", &folder)?;
        PartitionMetadataFile::new(&folder).write(&topic_id, false)?;
        let open = OpenLog {
            producer_id_expiration_ms: self.config.producer_id_expiration_ms,
            files: Arc::clone(&self.files),
            health: Arc::clone(dir.health()),
            ..OpenLog::new(now_ms)
        };
        let (log, _) = Log::open(&folder, tp.clone(), topic_id, config, open)?;
        let log = Arc::new(log);
        logs.insert(tp.clone(), Arc::clone(&log));
        Ok(log)
    }

    fn emptiest_dir(
        &self,
        logs: &HashMap<TopicPartition, Arc<Log>>,
    ) -> Result<&LogDir, LogManagerError> {
        let online: Vec<&LogDir> = self.dirs.iter().filter(|dir| !dir.is_offline()).collect();
        if let [only] = online[..] {
            return Ok(only);
        }
        let mut counts = vec![0_usize; online.len()];
        for log in logs.values() {
            let dir = log.parent_dir();
            if let Some(i) = online.iter().position(|d| d.path() == dir) {
                counts[i] += 1;
            }
        }
        online
            .into_iter()
            .zip(counts)
            .min_by_key(|(_, count)| *count)
            .map(|(dir, _)| dir)
            .ok_or(LogManagerError::NoDirOnline)
    }

    fn dir(&self, path: &Path) -> Option<&LogDir> {
        let known = |path: &Path| self.dirs.iter().find(|dir| dir.path() == path);
        known(path).or_else(|| known(&path.canonicalize().ok()?))
    }
}
