//! What a local table needs beyond opendal: whole files only, synced with their folders, exclusive creation, a lock.

use std::fs::{self, File, TryLockError};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use super::{Spool, SpoolFile, TargetError};

/// Temporary files of the running export, which the lock's holder may delete.
pub const TMP: &str = "_strandline/tmp";
const LOCK: &str = "_strandline/lock";

/// A table's folder, locked while this lives.
#[derive(Debug)]
pub struct Folder {
    root: PathBuf,
    /// `None` where locks do not work.
    lock: Option<File>,
}

impl Folder {
    /// Creates the folder where it does not exist. A second exporter is refused.
    pub fn open(root: &Path) -> Result<Self, TargetError> {
        let tmp = root.join(TMP);
        create_folders(&tmp)?;
        let path = root.join(LOCK);
        let lock = File::options()
            .create(true)
            .append(true)
            .open(&path)
            .map_err(TargetError::io(&path))?;
        let lock = match lock.try_lock() {
            Ok(()) => Some(lock),
            Err(TryLockError::WouldBlock) => {
                return Err(TargetError::Busy {
                    path: root.to_owned(),
                });
            }
            // A network file system without locks: exclusive creation still decides the commits.
            Err(TryLockError::Error(error)) => {
                tracing::warn!(%error, path = %path.display(), "the table cannot be locked");
                None
            }
        };
        for entry in fs::read_dir(&tmp).map_err(TargetError::io(&tmp))? {
            let path = entry.map_err(TargetError::io(&tmp))?.path();
            fs::remove_file(&path).map_err(TargetError::io(path))?;
        }
        Ok(Self {
            root: root.to_owned(),
            lock,
        })
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    pub fn is_locked(&self) -> bool {
        self.lock.is_some()
    }

    pub fn spool(&self) -> Spool {
        Spool::named(self.root.join(TMP))
    }

    /// Moves a complete file to its place.
    pub fn put(&self, path: &str, spool: SpoolFile) -> Result<(), TargetError> {
        let place = self.root.join(path);
        let SpoolFile::Named(file) = spool else {
            unreachable!("a folder's own spool names its files")
        };
        file.as_file().sync_all().map_err(TargetError::io(&place))?;
        let parent = parent(&place);
        create_folders(parent)?;
        file.persist(&place)
            .map_err(|e| TargetError::io(&place)(e.error))?;
        sync_folder(parent)
    }

    /// Creates a file with this content, or fails when it exists. It is never there in part.
    pub fn create_new(&self, path: &str, bytes: &[u8]) -> Result<(), TargetError> {
        let place = self.root.join(path);
        let tmp = self.root.join(TMP);
        let SpoolFile::Named(mut file) = self.spool().create().map_err(TargetError::io(&tmp))?
        else {
            unreachable!("a folder's own spool names its files")
        };
        file.write_all(bytes)
            .and_then(|()| file.as_file().sync_all())
            .map_err(TargetError::io(&tmp))?;
        let parent = parent(&place);
        create_folders(parent)?;
        match fs::hard_link(file.path(), &place) {
            Ok(()) => {}
            Err(e) if e.kind() == ErrorKind::AlreadyExists => {
                return Err(TargetError::Exists {
                    path: path.to_owned(),
                });
            }
            // No hard links here: the lock alone keeps others out.
            Err(_) => match fs::exists(&place) {
                Ok(false) => {
                    file.persist(&place)
                        .map_err(|e| TargetError::io(&place)(e.error))?;
                }
                Ok(true) => {
                    return Err(TargetError::Exists {
                        path: path.to_owned(),
                    });
                }
                Err(e) => return Err(TargetError::io(&place)(e)),
            },
        }
        sync_folder(parent)
    }
}

fn parent(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new("."))
}

/// Like `create_dir_all`, and synced up to the first folder that was there.
fn create_folders(path: &Path) -> Result<(), TargetError> {
    if path.as_os_str().is_empty() || path.is_dir() {
        return Ok(());
    }
    let above = parent(path);
    create_folders(above)?;
    match fs::create_dir(path) {
        Ok(()) => {}
        Err(e) if e.kind() == ErrorKind::AlreadyExists => {}
        Err(e) => return Err(TargetError::io(path)(e)),
    }
    sync_folder(above)
}

fn sync_folder(path: &Path) -> Result<(), TargetError> {
    let path = if path.as_os_str().is_empty() {
        Path::new(".")
    } else {
        path
    };
    File::open(path)
        .and_then(|folder| folder.sync_all())
        .map_err(TargetError::io(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_appear_whole_once_and_under_one_lock() {
        let dir = tempfile::tempdir().expect("temp folder");
        let root = dir.path().join("lake/table");
        let folder = Folder::open(&root).expect("opens");
        assert!(matches!(Folder::open(&root), Err(TargetError::Busy { .. })));
        folder.create_new("a/1.json", b"one").expect("new");
        let again = folder.create_new("a/1.json", b"two").expect_err("there");
        assert!(matches!(again, TargetError::Exists { .. }), "{again}");
        assert_eq!(fs::read(root.join("a/1.json")).expect("reads"), b"one");
        let spool = folder.spool().create().expect("spools");
        spool
            .file()
            .expect("opens")
            .write_all(b"data")
            .expect("writes");
        folder.put("data/x", spool).expect("moves");
        assert_eq!(fs::read(root.join("data/x")).expect("reads"), b"data");
        assert_eq!(fs::read_dir(root.join(TMP)).expect("lists").count(), 0);
        fs::write(root.join(TMP).join("left"), b"by a crash").expect("writes");
        drop(folder);
        Folder::open(&root).expect("opens again");
        assert_eq!(fs::read_dir(root.join(TMP)).expect("lists").count(), 0);
    }
}
