//! `.kafka_cleanshutdown`: the last stop flushed everything, so that the next start need not recover.
//!
//! JSON: `{"version":0,"brokerEpoch":-1}`. It is removed when the logs have been loaded: from then on a crash is
//! a crash. What counts is that the file exists; the epoch is a bonus that may be unreadable.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::atomic_file::{sync_dir, write_atomically};
use super::error::StateFileError;

#[derive(Clone, Debug)]
pub struct CleanShutdownFile {
    path: PathBuf,
}

impl CleanShutdownFile {
    pub const NAME: &'static str = ".kafka_cleanshutdown";

    /// `dir`: a log folder, above the partitions' folders.
    pub fn new(dir: &Path) -> Self {
        Self {
            path: dir.join(Self::NAME),
        }
    }

    pub fn exists(&self) -> bool {
        self.path.exists()
    }

    /// Marks the folder as cleanly left; on return the mark is on disk.
    pub fn write(&self, broker_epoch: i64) -> Result<(), StateFileError> {
        let text = format!("{{\"version\":0,\"brokerEpoch\":{broker_epoch}}}");
        write_atomically(&self.path, text.as_bytes(), true)
    }

    /// The broker epoch of the clean stop, where there is one.
    pub fn read(&self) -> Option<i64> {
        let text = fs::read_to_string(&self.path).ok()?;
        let content: serde_json::Value = serde_json::from_str(&text).ok()?;
        (content.get("version")?.as_i64()? == 0).then_some(())?;
        content.get("brokerEpoch")?.as_i64()
    }

    /// Removes the mark; on return its absence is on disk. None there is fine.
    pub fn delete(&self) -> Result<(), StateFileError> {
        match fs::remove_file(&self.path) {
            Ok(()) => self.path.parent().map_or(Ok(()), sync_dir),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(()),
            Err(e) => Err(StateFileError::io(&self.path)(e)),
        }
    }
}
