//! All logs of a broker. API first; bodies follow.
#![allow(unused_variables, clippy::todo)]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::log::{Log, RecoveryReport};
use crate::log_config::LogConfig;
use crate::log_error::{LogError, StorageError};
use crate::types::{TimestampMs, TopicId, TopicPartition};

#[derive(Clone, Debug)]
pub struct LogManagerConfig {
    pub dirs: Vec<PathBuf>,
    pub node_id: i32,
    pub cluster_id: String,
    /// Per directory.
    pub recovery_threads: usize,
    pub producer_id_expiration_ms: TimestampMs,
    /// Descriptors of sealed segments and indexes that stay open.
    pub open_files_max: usize,
}

#[derive(Debug, thiserror::Error)]
pub enum LogManagerError {
    #[error("another process uses {}", .0.display())]
    Locked(PathBuf),
    #[error("{} belongs to {found}, this is {expected}", dir.display())]
    WrongOwner {
        dir: PathBuf,
        found: String,
        expected: String,
    },
    #[error(transparent)]
    Storage(#[from] StorageError),
    #[error(transparent)]
    Log(#[from] LogError),
}

/// What loading found.
#[derive(Debug, Default)]
pub struct LoadReport {
    pub logs: Vec<(TopicPartition, RecoveryReport)>,
    /// These are offline: their error says why.
    pub failed: Vec<(TopicPartition, LogError)>,
    /// Partitions that nobody wants any more; they were set aside for deletion.
    pub strays: Vec<TopicPartition>,
}

#[derive(Debug)]
pub struct LogManager {}

impl LogManager {
    pub fn open(config: LogManagerConfig) -> Result<Self, LogManagerError> {
        todo!()
    }
    pub fn load_logs(
        &self,
        resolve: &(dyn Fn(&TopicPartition, TopicId) -> Option<Arc<LogConfig>> + Sync),
        now_ms: TimestampMs,
    ) -> Result<LoadReport, LogManagerError> {
        todo!()
    }
    pub fn get(&self, tp: &TopicPartition) -> Option<Arc<Log>> {
        todo!()
    }
    pub fn create(
        &self,
        tp: &TopicPartition,
        topic_id: TopicId,
        config: Arc<LogConfig>,
        now_ms: TimestampMs,
    ) -> Result<Arc<Log>, LogManagerError> {
        todo!()
    }
    pub fn delete(&self, tp: &TopicPartition) -> Result<bool, LogManagerError> {
        todo!()
    }
    pub fn purge(&self, now_ms: TimestampMs) -> usize {
        todo!()
    }
    pub fn logs(&self) -> Vec<Arc<Log>> {
        todo!()
    }
    pub fn flush_dirty(&self, now_ms: TimestampMs) {
        todo!()
    }
    pub fn checkpoint(&self) -> Result<(), LogManagerError> {
        todo!()
    }
    pub fn checkpoint_log_start_offsets(&self) -> Result<(), LogManagerError> {
        todo!()
    }
    pub fn dirs(&self) -> Vec<PathBuf> {
        todo!()
    }
    pub fn is_offline(&self, dir: &Path) -> bool {
        todo!()
    }
    pub fn shutdown_clean(&self) -> Result<(), LogManagerError> {
        todo!()
    }
}
