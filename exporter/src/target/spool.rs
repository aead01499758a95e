//! Temporary files. Beside a local table they are named, so that they can be moved into place; elsewhere they have no
//! name, so that nothing is left of them however the process ends.

use std::fs::{File, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use tempfile::{Builder, NamedTempFile};

/// What a new file gets less the process's umask: a table is for others to read.
const MODE: u32 = 0o666;

/// Makes temporary files.
#[derive(Clone, Debug)]
pub struct Spool {
    dir: PathBuf,
    named: bool,
}

impl Spool {
    pub(super) fn named(dir: PathBuf) -> Self {
        Self { dir, named: true }
    }

    pub(super) fn anonymous(dir: PathBuf) -> Self {
        Self { dir, named: false }
    }

    pub fn create(&self) -> io::Result<SpoolFile> {
        if !self.named {
            return tempfile::tempfile_in(&self.dir).map(SpoolFile::Anonymous);
        }
        Builder::new()
            .prefix("spool-")
            .permissions(Permissions::from_mode(MODE))
            .tempfile_in(&self.dir)
            .map(SpoolFile::Named)
    }
}

/// A temporary file; dropping it removes it.
#[derive(Debug)]
pub enum SpoolFile {
    Named(NamedTempFile),
    Anonymous(File),
}

impl SpoolFile {
    fn inner(&self) -> &File {
        match self {
            Self::Named(file) => file.as_file(),
            Self::Anonymous(file) => file,
        }
    }

    /// Another handle to the same file, with the same position.
    pub fn file(&self) -> io::Result<File> {
        self.inner().try_clone()
    }

    pub fn bytes(&self) -> io::Result<u64> {
        Ok(self.inner().metadata()?.len())
    }
}
