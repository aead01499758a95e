//! What the disk did to us: the errors that every operation of a log may end with.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::checkpoint::StateFileError;
use crate::types::Offset;

/// A failed system call, with the file and what was tried. Cheap to clone: one failure may answer many requests.
#[derive(Clone, Debug, thiserror::Error)]
#[error("cannot {action} {}: {source}", path.display())]
pub struct StorageError {
    pub action: &'static str,
    pub path: PathBuf,
    pub source: Arc<io::Error>,
}

impl StorageError {
    pub fn new(action: &'static str, path: impl Into<PathBuf>, source: io::Error) -> Self {
        Self {
            action,
            path: path.into(),
            source: Arc::new(source),
        }
    }

    /// The disk or the quota is full: worth another try once there is room.
    pub fn is_full(&self) -> bool {
        matches!(
            self.source.kind(),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
        )
    }

    /// Nothing is wrong with the disk: the file is gone, or this process is short of something.
    pub fn is_harmless(&self) -> bool {
        use rustix::io::Errno;
        let of_process = [Errno::MFILE, Errno::NFILE, Errno::NOMEM];
        self.is_not_found()
            || self
                .source
                .raw_os_error()
                .is_some_and(|code| of_process.iter().any(|e| e.raw_os_error() == code))
    }

    pub fn is_not_found(&self) -> bool {
        self.source.kind() == io::ErrorKind::NotFound
    }
}

/// Names the file in an `io::Result`.
pub(crate) trait AtPath<T> {
    fn at(self, action: &'static str, path: impl AsRef<Path>) -> Result<T, StorageError>;
}

impl<T> AtPath<T> for io::Result<T> {
    fn at(self, action: &'static str, path: impl AsRef<Path>) -> Result<T, StorageError> {
        self.map_err(|e| StorageError::new(action, path.as_ref(), e))
    }
}

#[derive(Clone, Debug, thiserror::Error)]
pub enum LogError {
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// Bytes below the recovery point, which were safe on disk, are not a valid batch any more.
    #[error("{} is damaged at position {position}: {reason}", path.display())]
    Corrupt {
        path: PathBuf,
        position: u64,
        reason: String,
    },
    #[error("offset {offset} is outside of [{log_start}, {log_end}]")]
    OutOfRange {
        offset: Offset,
        log_start: Offset,
        log_end: Offset,
    },
    /// The offset is below what is kept locally.
    #[error("offset {offset} is below the local start {local_start}")]
    BelowLocal { offset: Offset, local_start: Offset },
    #[error("log directory {} is offline after a failed sync", .0.display())]
    Offline(PathBuf),
    #[error("the log is closed")]
    Closed,
    /// A state file (producer snapshot, leader epochs, transaction index, checkpoint) does not parse.
    #[error("{} is malformed: {reason}", path.display())]
    StateFile { path: PathBuf, reason: String },
}

impl From<StateFileError> for LogError {
    fn from(e: StateFileError) -> Self {
        match e {
            StateFileError::Io { path, source } => {
                Self::Storage(StorageError::new("read or write", path, source))
            }
            StateFileError::Malformed { path, reason } => Self::StateFile { path, reason },
        }
    }
}
