//! The file operations under a [`FolderStore`](super::FolderStore): synchronous and durable.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path as FsPath, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use object_store::path::Path;
use object_store::{Error, ObjectMeta, PutMode, PutPayload, PutResult, Result};
use rustix::fs::{FlockOperation, flock};

/// Locks and temporary files live here; listings skip it.
pub(super) const PRIVATE_FOLDER: &str = ".strandline-store";
/// Keys share this many locks. More only helps many writers of one process at once.
const LOCKS: u32 = 64;
/// A writer that makes folders races with a deletion that removes empty ones.
const FOLDER_RACES_MAX: usize = 8;

static TEMP_COUNTER: AtomicU64 = AtomicU64::new(0);

#[derive(Debug)]
pub(super) struct Files {
    root: PathBuf,
    prepared: OnceLock<()>,
}

/// A temporary file. Its flock tells other processes that its writer lives; dropping it removes the name.
#[derive(Debug)]
pub(super) struct Temp {
    pub(super) file: File,
    path: PathBuf,
}

impl Drop for Temp {
    fn drop(&mut self) {
        // Gone already when it was renamed into place.
        let _ = fs::remove_file(&self.path);
    }
}

impl Files {
    pub(super) fn new(root: PathBuf) -> Self {
        Self {
            root,
            prepared: OnceLock::new(),
        }
    }

    pub(super) fn root(&self) -> &FsPath {
        &self.root
    }

    pub(super) fn path(&self, location: &Path) -> PathBuf {
        self.root.join(location.as_ref())
    }

    pub(super) fn put(
        &self,
        location: &Path,
        payload: &PutPayload,
        mode: &PutMode,
    ) -> Result<PutResult> {
        let fail = |e| map_error(location, e);
        let mut temp = self.temp().map_err(fail)?;
        let mut hasher = ring::digest::Context::new(&ring::digest::SHA256);
        for chunk in payload.iter() {
            hasher.update(chunk);
            temp.file.write_all(chunk).map_err(fail)?;
        }
        temp.file.sync_all().map_err(fail)?;
        let e_tag = Some(hex(hasher.finish().as_ref()));
        self.publish(location, &temp, mode)?;
        Ok(PutResult {
            e_tag,
            version: None,
            extensions: Default::default(),
        })
    }

    /// Gives a written and fsynced temporary file its name, if the mode's condition holds.
    pub(super) fn publish(&self, location: &Path, temp: &Temp, mode: &PutMode) -> Result<()> {
        let fail = |e| map_error(location, e);
        let path = self.path(location);
        let _lock = self.lock(location).map_err(fail)?;
        match mode {
            PutMode::Create => self
                .name(&path, |path| fs::hard_link(&temp.path, path))
                .map_err(|e| match e.kind() {
                    ErrorKind::AlreadyExists => Error::AlreadyExists {
                        path: location.to_string(),
                        source: e.into(),
                    },
                    _ => fail(e),
                })?,
            PutMode::Overwrite => self
                .name(&path, |path| fs::rename(&temp.path, path))
                .map_err(fail)?,
            PutMode::Update(expected) => {
                let current = match File::open(&path) {
                    Ok(file) => hash_file(file).map_err(fail)?,
                    Err(e) if e.kind() == ErrorKind::NotFound => {
                        return Err(precondition(location, "the object is gone"));
                    }
                    Err(e) => return Err(fail(e)),
                };
                if expected.e_tag.as_deref() != Some(current.as_str()) {
                    return Err(precondition(location, "the content differs"));
                }
                self.name(&path, |path| fs::rename(&temp.path, path))
                    .map_err(fail)?;
            }
        }
        Ok(())
    }

    pub(super) fn delete(&self, location: &Path) -> Result<()> {
        let fail = |e| map_error(location, e);
        let path = self.path(location);
        if !path.exists() {
            return Err(fail(ErrorKind::NotFound.into()));
        }
        let _lock = self.lock(location).map_err(fail)?;
        fs::remove_file(&path).map_err(fail)?;
        let mut folder = path.parent();
        while let Some(dir) = folder.filter(|dir| *dir != self.root && dir.starts_with(&self.root))
        {
            // Fails on a folder that holds anything: the end of the climb.
            if fs::remove_dir(dir).is_err() {
                break;
            }
            folder = dir.parent();
        }
        match folder.map(sync_folder) {
            Some(Err(e)) if e.kind() != ErrorKind::NotFound => Err(fail(e)),
            _ => Ok(()),
        }
    }

    pub(super) fn temp(&self) -> io::Result<Temp> {
        self.prepare()?;
        let folder = self.root.join(PRIVATE_FOLDER).join("tmp");
        loop {
            let n = TEMP_COUNTER.fetch_add(1, Ordering::Relaxed);
            let path = folder.join(format!("{}-{n}", std::process::id()));
            let file = match OpenOptions::new().write(true).create_new(true).open(&path) {
                Ok(file) => file,
                Err(e) if e.kind() == ErrorKind::AlreadyExists => continue,
                Err(e) => return Err(e),
            };
            flock(&file, FlockOperation::LockExclusive)?;
            // Another process may have taken the file for an abandoned one before it was locked.
            if file.metadata()?.nlink() > 0 {
                return Ok(Temp { file, path });
            }
        }
    }

    /// Once per handle: makes the folders and removes what dead writers left.
    fn prepare(&self) -> io::Result<()> {
        if self.prepared.get().is_some() {
            return Ok(());
        }
        let folder = self.root.join(PRIVATE_FOLDER).join("tmp");
        make_folders(&folder)?;
        for entry in fs::read_dir(&folder)? {
            let path = entry?.path();
            if let Ok(file) = File::open(&path)
                && flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok()
            {
                let _ = fs::remove_file(&path);
            }
        }
        let _ = self.prepared.set(());
        Ok(())
    }

    /// Held until dropped. Lock files are never removed: a lock on a removed file would exclude nobody.
    fn lock(&self, location: &Path) -> io::Result<File> {
        self.prepare()?;
        let slot = crc32c::crc32c(location.as_ref().as_bytes()) % LOCKS;
        let path = self
            .root
            .join(PRIVATE_FOLDER)
            .join(format!("lock-{slot:02}"));
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)?;
        flock(&file, FlockOperation::LockExclusive)?;
        Ok(file)
    }

    /// Links or renames into place, making the folder where it is missing, and makes the name durable.
    fn name(&self, path: &FsPath, link: impl Fn(&FsPath) -> io::Result<()>) -> io::Result<()> {
        let folder = path.parent().unwrap_or(&self.root);
        let mut races = 0;
        loop {
            match link(path) {
                Ok(()) => return sync_folder(folder),
                Err(e) if e.kind() == ErrorKind::NotFound && races < FOLDER_RACES_MAX => {
                    races += 1;
                    match make_folders(folder) {
                        // A parent was just removed because it was empty.
                        Err(e) if e.kind() == ErrorKind::NotFound => {}
                        made => made?,
                    }
                }
                Err(e) => return Err(e),
            }
        }
    }
}

/// Makes a folder and its parents, each name durable in its parent.
fn make_folders(folder: &FsPath) -> io::Result<()> {
    match fs::create_dir(folder) {
        Ok(()) => {}
        Err(e) if e.kind() == ErrorKind::AlreadyExists => return Ok(()),
        Err(e) if e.kind() == ErrorKind::NotFound => {
            let Some(parent) = folder.parent().filter(|p| !p.as_os_str().is_empty()) else {
                return Err(e);
            };
            make_folders(parent)?;
            match fs::create_dir(folder) {
                Err(e) if e.kind() == ErrorKind::AlreadyExists => return Ok(()),
                other => other?,
            }
        }
        Err(e) => return Err(e),
    }
    match folder.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => sync_folder(parent),
        _ => sync_folder(FsPath::new(".")),
    }
}

fn sync_folder(folder: &FsPath) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

pub(super) fn read_whole(file: &File, size: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(size as usize);
    let mut file = file;
    file.read_to_end(&mut bytes)?;
    Ok(bytes)
}

pub(super) fn content_hash(bytes: &[u8]) -> String {
    hex(ring::digest::digest(&ring::digest::SHA256, bytes).as_ref())
}

fn hash_file(mut file: File) -> io::Result<String> {
    let mut hasher = ring::digest::Context::new(&ring::digest::SHA256);
    let mut buffer = vec![0; 64 << 10];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hex(hasher.finish().as_ref())),
            n => hasher.update(&buffer[..n]),
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::new(), |mut text, b| {
        let _ = write!(text, "{b:02x}");
        text
    })
}

pub(super) fn object_meta(location: Path, metadata: &Metadata) -> ObjectMeta {
    ObjectMeta {
        location,
        last_modified: metadata
            .modified()
            .unwrap_or(std::time::SystemTime::UNIX_EPOCH)
            .into(),
        size: metadata.len(),
        // Tells versions apart for readers; a compare-and-swap takes content hashes alone.
        e_tag: Some(format!(
            "file-{:x}-{:x}-{:x}",
            metadata.ino(),
            metadata.mtime_nsec(),
            metadata.len()
        )),
        version: None,
    }
}

fn precondition(location: &Path, why: &'static str) -> Error {
    Error::Precondition {
        path: location.to_string(),
        source: why.into(),
    }
}

pub(super) fn map_error(location: &Path, error: io::Error) -> Error {
    let path = location.to_string();
    match error.kind() {
        ErrorKind::NotFound | ErrorKind::NotADirectory => Error::NotFound {
            path,
            source: error.into(),
        },
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => Error::PermissionDenied {
            path,
            source: error.into(),
        },
        _ => Error::Generic {
            store: "FolderStore",
            source: error.into(),
        },
    }
}
