//! Whether a log directory can still be trusted.
//!
//! After a failed fsync the kernel may have dropped the dirty pages and marked them clean: a second fsync would lie.
//! So one failure takes the directory offline, for good, and nobody writes into it again.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::changes::Changes;
use crate::log_error::{LogError, StorageError};
use crate::unflushed::Unflushed;

#[derive(Debug)]
pub struct DirHealth {
    dir: PathBuf,
    offline: AtomicBool,
    unflushed: Unflushed,
    changes: Changes,
}

impl DirHealth {
    pub fn new(dir: impl Into<PathBuf>) -> Arc<Self> {
        Arc::new(Self {
            dir: dir.into(),
            offline: AtomicBool::new(false),
            unflushed: Unflushed::default(),
            changes: Changes::default(),
        })
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// What of its logs is not synced.
    pub fn unflushed(&self) -> &Unflushed {
        &self.unflushed
    }

    /// Which of its logs have changed.
    pub(crate) fn changes(&self) -> &Changes {
        &self.changes
    }

    pub fn is_offline(&self) -> bool {
        self.offline.load(Ordering::Acquire)
    }

    pub fn mark_offline(&self, cause: &StorageError) {
        if !self.offline.swap(true, Ordering::AcqRel) {
            tracing::error!(dir = %self.dir.display(), error = %cause, "log directory goes offline");
        }
    }

    pub fn check(&self) -> Result<(), LogError> {
        if self.is_offline() {
            return Err(LogError::Offline(self.dir.clone()));
        }
        Ok(())
    }
}
