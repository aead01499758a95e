//! What can be wrong with the quorum's files.

use std::io;
use std::path::{Path, PathBuf};

use openraft::AnyError;
use strandline_core::metadata::FormatError;

#[derive(Debug, thiserror::Error)]
pub enum MetadataStorageError {
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        action: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    #[error("{} is damaged at byte {position}: {reason}", path.display())]
    Corrupt {
        path: PathBuf,
        position: u64,
        reason: String,
    },
    #[error("{} is in use by another process", path.display())]
    Locked { path: PathBuf },
    #[error("the metadata log begins after entry {purged}, but no snapshot in {} reaches it", path.display())]
    SnapshotMissing { path: PathBuf, purged: u64 },
    #[error("the log entry {index} cannot be applied: {source}")]
    Command { index: u64, source: FormatError },
    #[error("the metadata log was closed or failed before")]
    Closed,
}

impl MetadataStorageError {
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io {
            action,
            path,
            source,
        }
    }

    pub(crate) fn corrupt(path: &Path, position: usize, reason: impl ToString) -> Self {
        Self::Corrupt {
            path: path.to_owned(),
            position: position as u64,
            reason: reason.to_string(),
        }
    }

    pub(crate) fn to_any_error(&self) -> AnyError {
        AnyError::new(self)
    }
}
