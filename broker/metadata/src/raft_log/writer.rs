//! The thread that owns the log's file: it frames, writes, syncs and replaces it.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;

use openraft::storage::LogFlushed;
use tokio::sync::oneshot;

use super::format::{Contents, FRAME_HEADER_BYTES, HEADER_BYTES, put_frame, put_header, scan};
use crate::storage_error::MetadataStorageError;
use crate::type_config::TypeConfig;

/// Taken while the folder is in use, so that a second process is refused before it reads anything.
const LOCK_FILE: &str = ".lock";
const LOG_SUFFIX: &str = ".log";
const TEMPORARY_SUFFIX: &str = ".tmp";

pub enum Done {
    Append(LogFlushed<TypeConfig>),
    Reply(oneshot::Sender<Result<(), MetadataStorageError>>),
}

impl Done {
    fn complete(self, result: Result<(), MetadataStorageError>) {
        match self {
            Self::Append(callback) => callback.log_io_completed(result.map_err(io::Error::other)),
            // Whoever asked may have gone.
            Self::Reply(reply) => drop(reply.send(result)),
        }
    }
}

pub enum Operation {
    /// Records to add; without `sync` they may wait for the next write.
    Write {
        records: Vec<u8>,
        sync: bool,
        done: Done,
    },
    /// Replaces the file by one that begins with these records.
    Rewrite { records: Vec<u8>, done: Done },
    /// Syncs what waits and gives the folder free.
    Close { done: Done },
}

pub struct Writer {
    folder: PathBuf,
    path: PathBuf,
    file: File,
    generation: u64,
    next_frame: u64,
    /// Where the next frame goes. Read by others to decide when a snapshot is due.
    file_bytes: Arc<AtomicU64>,
    /// Records that wait for the next frame.
    waiting: Vec<u8>,
    /// Folders whose entries are not known to be on disk yet.
    unsynced_folders: Vec<PathBuf>,
    failed: bool,
    _lock: File,
}

impl Writer {
    /// Takes the folder, which is made if it is not there, and reads its log.
    pub fn open(folder: &Path) -> Result<(Self, Contents), MetadataStorageError> {
        fs::create_dir_all(folder).map_err(MetadataStorageError::io("create", folder))?;
        let lock = lock(&folder.join(LOCK_FILE))?;
        let newest = remove_all_but_newest(folder)?;
        let generation = newest.unwrap_or(1);
        let path = log_path(folder, generation);
        let found = match newest {
            Some(_) => {
                let bytes = fs::read(&path).map_err(MetadataStorageError::io("read", &path))?;
                let len = bytes.len();
                scan(&path, generation, &bytes.into())?.map(|scan| (scan, len))
            }
            None => None,
        };
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(MetadataStorageError::io("open", &path))?;
        let mut writer = Self {
            folder: folder.to_owned(),
            path,
            file,
            generation,
            next_frame: 0,
            file_bytes: Arc::new(AtomicU64::new(HEADER_BYTES as u64)),
            waiting: Vec::new(),
            unsynced_folders: Vec::new(),
            failed: false,
            _lock: lock,
        };
        let contents = match found {
            Some((scan, len)) => {
                if scan.good_bytes < len {
                    writer.cut_torn_tail(scan.good_bytes, len)?;
                }
                writer.next_frame = scan.next_frame;
                writer
                    .file_bytes
                    .store(scan.good_bytes as u64, Ordering::Relaxed);
                scan.contents
            }
            None => {
                writer.begin_first_file()?;
                Contents::default()
            }
        };
        Ok((writer, contents))
    }

    pub fn file_bytes(&self) -> Arc<AtomicU64> {
        self.file_bytes.clone()
    }

    /// Serves until it is told to close, or until nobody can tell it any more.
    pub fn run(mut self, operations: &mpsc::Receiver<Operation>) {
        for operation in operations {
            match operation {
                Operation::Write {
                    records,
                    sync,
                    done,
                } => {
                    self.waiting.extend_from_slice(&records);
                    let result = if sync {
                        self.guarded(Self::write_waiting)
                    } else {
                        self.check()
                    };
                    done.complete(result);
                }
                Operation::Rewrite { records, done } => {
                    let result = self.guarded(|writer| writer.rewrite(&records));
                    done.complete(result);
                }
                Operation::Close { done } => {
                    let result = self.guarded(Self::write_waiting);
                    drop(self);
                    done.complete(result);
                    return;
                }
            }
        }
    }

    fn check(&self) -> Result<(), MetadataStorageError> {
        if self.failed {
            Err(MetadataStorageError::Closed)
        } else {
            Ok(())
        }
    }

    fn guarded(
        &mut self,
        act: impl FnOnce(&mut Self) -> Result<(), MetadataStorageError>,
    ) -> Result<(), MetadataStorageError> {
        self.check()?;
        let result = act(self);
        if let Err(error) = &result {
            tracing::error!(%error, "the metadata log stops: a write failed");
            self.failed = true;
        }
        result
    }

    fn write_waiting(&mut self) -> Result<(), MetadataStorageError> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        let mut frame = Vec::with_capacity(FRAME_HEADER_BYTES + self.waiting.len());
        put_frame(&mut frame, self.next_frame, &self.waiting);
        let position = self.file_bytes.load(Ordering::Relaxed);
        self.file
            .write_all_at(&frame, position)
            .and_then(|()| self.file.sync_data())
            .map_err(MetadataStorageError::io("write", &self.path))?;
        while let Some(folder) = self.unsynced_folders.last() {
            sync_folder(folder)?;
            self.unsynced_folders.pop();
        }
        self.next_frame += 1;
        self.file_bytes
            .fetch_add(frame.len() as u64, Ordering::Relaxed);
        self.waiting.clear();
        Ok(())
    }

    fn rewrite(&mut self, records: &[u8]) -> Result<(), MetadataStorageError> {
        let generation = self.generation + 1;
        let path = log_path(&self.folder, generation);
        let mut bytes = Vec::with_capacity(HEADER_BYTES + FRAME_HEADER_BYTES + records.len());
        put_header(&mut bytes, generation);
        put_frame(&mut bytes, 0, records);
        let file = write_file_durably(&path, &bytes)?;
        fs::remove_file(&self.path).map_err(MetadataStorageError::io("remove", &self.path))?;
        self.file = file;
        self.path = path;
        self.generation = generation;
        self.next_frame = 1;
        self.file_bytes.store(bytes.len() as u64, Ordering::Relaxed);
        self.unsynced_folders.clear();
        // The records that waited are part of what was written.
        self.waiting.clear();
        Ok(())
    }

    fn begin_first_file(&mut self) -> Result<(), MetadataStorageError> {
        let mut header = Vec::new();
        put_header(&mut header, self.generation);
        self.file
            .set_len(0)
            .and_then(|()| self.file.write_all_at(&header, 0))
            .map_err(MetadataStorageError::io("write", &self.path))?;
        self.unsynced_folders
            .extend(self.folder.parent().map(Path::to_owned));
        self.unsynced_folders.push(self.folder.clone());
        Ok(())
    }

    fn cut_torn_tail(&self, good_bytes: usize, len: usize) -> Result<(), MetadataStorageError> {
        tracing::warn!(path = %self.path.display(), position = good_bytes, bytes = len - good_bytes,
            "cut off a torn write at the end of the metadata log");
        self.file
            .set_len(good_bytes as u64)
            .and_then(|()| self.file.sync_all())
            .map_err(MetadataStorageError::io("truncate", &self.path))
    }
}

/// Under its name only when it is whole: temporary name, fsync, rename, fsync of the folder.
pub fn write_file_durably(path: &Path, bytes: &[u8]) -> Result<File, MetadataStorageError> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(TEMPORARY_SUFFIX);
    let temporary = PathBuf::from(temporary);
    let write = || {
        let file = File::create(&temporary)?;
        file.write_all_at(bytes, 0)?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        Ok(file)
    };
    let file = write().map_err(MetadataStorageError::io("write", path))?;
    path.parent().map_or(Ok(()), sync_folder)?;
    Ok(file)
}

fn sync_folder(folder: &Path) -> Result<(), MetadataStorageError> {
    // A relative path of one part has an empty parent.
    let folder = if folder.as_os_str().is_empty() {
        Path::new(".")
    } else {
        folder
    };
    File::open(folder)
        .and_then(|f| f.sync_all())
        .map_err(MetadataStorageError::io("sync", folder))
}

fn lock(path: &Path) -> Result<File, MetadataStorageError> {
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)
        .map_err(MetadataStorageError::io("open", path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(MetadataStorageError::Locked {
            path: path.to_owned(),
        }),
        Err(TryLockError::Error(error)) => Err(MetadataStorageError::io("lock", path)(error)),
    }
}

fn log_path(folder: &Path, generation: u64) -> PathBuf {
    folder.join(format!("{generation:020}{LOG_SUFFIX}"))
}

/// The generation of the newest log, if any. Older ones and unfinished files are what a crash left behind.
fn remove_all_but_newest(folder: &Path) -> Result<Option<u64>, MetadataStorageError> {
    let mut generations = Vec::new();
    for name in file_names(folder)? {
        if name.ends_with(TEMPORARY_SUFFIX) {
            remove(&folder.join(name))?;
        } else if let Some(number) = name.strip_suffix(LOG_SUFFIX) {
            let path = folder.join(&name);
            let number = number.parse().map_err(|_| {
                MetadataStorageError::corrupt(&path, 0, "the name is not that of a metadata log")
            })?;
            generations.push(number);
        }
    }
    generations.sort_unstable();
    let newest = generations.pop();
    for old in generations {
        remove(&log_path(folder, old))?;
    }
    Ok(newest)
}

pub fn file_names(folder: &Path) -> Result<Vec<String>, MetadataStorageError> {
    let list = || {
        let names = fs::read_dir(folder)?.map(|entry| Ok(entry?.file_name().into_string()));
        names.collect::<io::Result<Vec<_>>>()
    };
    let names = list().map_err(MetadataStorageError::io("list", folder))?;
    Ok(names.into_iter().flatten().collect())
}

pub fn remove(path: &Path) -> Result<(), MetadataStorageError> {
    fs::remove_file(path).map_err(MetadataStorageError::io("remove", path))
}

/// For tests: what a log of these bytes reads as.
#[cfg(test)]
pub fn scan_bytes(bytes: Vec<u8>) -> Result<Option<super::format::Scan>, MetadataStorageError> {
    scan(Path::new("log"), 1, &bytes.into())
}
