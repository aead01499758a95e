//! The demo's folder. One that an earlier demo left is replaced; a folder of anyone else is never touched.
//!
//! The marker file tells them apart. It is locked while a demo runs, and outlives a replacement that is cut short.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

const MARKER: &str = ".strandline-demo";
const MARKER_TEXT: &str =
    "Made by strandline demo, which replaces this folder when it runs again.\n";
const DATA: &str = "data";
const STORE: &str = "store";
const PARQUET: &str = "parquet";
const PROPERTIES: &str = "server.properties";

pub struct DemoFolder {
    /// As given, for people.
    shown: PathBuf,
    absolute: PathBuf,
    _lock: File,
}

/// What the object store holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoreUsage {
    pub segments: u64,
    pub segment_bytes: u64,
    pub others: u64,
    pub other_bytes: u64,
}

impl DemoFolder {
    /// A folder without anything of an earlier demo.
    pub fn prepare(dir: &Path) -> anyhow::Result<Self> {
        let marker = dir.join(MARKER);
        let shown = dir.display();
        match fs::read_dir(dir) {
            Ok(mut entries) => {
                if entries.next().is_some() && !marker.is_file() {
                    bail!(
                        "{shown} exists and was not made by a demo ({MARKER} is not in it): move it away, or choose another folder with --dir"
                    );
                }
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                fs::create_dir_all(dir).with_context(|| format!("cannot create {shown}"))?;
            }
            Err(error) => return Err(error).with_context(|| format!("cannot read {shown}")),
        }
        let lock = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&marker)
            .with_context(|| format!("cannot open {}", marker.display()))?;
        lock_file(&lock, dir)?;
        fs::write(&marker, MARKER_TEXT)
            .with_context(|| format!("cannot write {}", marker.display()))?;
        refuse_while_served(dir)?;
        // By name: what somebody else put beside them stays.
        for name in [DATA, STORE, PARQUET] {
            match fs::remove_dir_all(dir.join(name)) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(error)
                        .with_context(|| format!("cannot delete {}", dir.join(name).display()));
                }
                _ => {}
            }
        }
        let absolute = fs::canonicalize(dir).with_context(|| format!("cannot resolve {shown}"))?;
        Ok(Self {
            shown: dir.to_owned(),
            absolute,
            _lock: lock,
        })
    }

    pub fn absolute(&self) -> &Path {
        &self.absolute
    }

    pub fn data(&self) -> PathBuf {
        self.shown.join(DATA)
    }

    pub fn store(&self) -> PathBuf {
        self.shown.join(STORE)
    }

    pub fn parquet(&self) -> PathBuf {
        self.shown.join(PARQUET)
    }

    pub fn properties(&self) -> PathBuf {
        self.shown.join(PROPERTIES)
    }

    /// Where the broker writes: independent of the working folder.
    pub fn absolute_data(&self) -> PathBuf {
        self.absolute.join(DATA)
    }

    pub fn absolute_store(&self) -> PathBuf {
        self.absolute.join(STORE)
    }

    /// Files that vanish meanwhile are not counted.
    pub fn store_usage(&self) -> StoreUsage {
        let mut usage = StoreUsage::default();
        visit(&self.absolute_store(), &mut |path, bytes| {
            if path
                .extension()
                .is_some_and(|extension| extension == "strand")
            {
                usage.segments += 1;
                usage.segment_bytes += bytes;
            } else {
                usage.others += 1;
                usage.other_bytes += bytes;
            }
        });
        usage
    }

    /// The bytes of a topic's local segments.
    pub fn log_bytes(&self, topic: &str) -> u64 {
        let mut total = 0;
        visit(&self.absolute_data(), &mut |path, bytes| {
            let of_topic = path
                .parent()
                .and_then(Path::file_name)
                .and_then(|name| name.to_str()?.rsplit_once('-'))
                .is_some_and(|(name, _)| name == topic);
            let is_log = path
                .file_name()
                .and_then(|name| name.to_str())
                .is_some_and(|name| name.ends_with(".log") || name.ends_with(".log.deleted"));
            if of_topic && is_log {
                total += bytes;
            }
        });
        total
    }
}

fn lock_file(file: &File, dir: &Path) -> anyhow::Result<()> {
    match file.try_lock() {
        Ok(()) => Ok(()),
        Err(TryLockError::WouldBlock) => bail!(
            "another demo or broker runs in {}: end it, or choose another folder with --dir",
            dir.display()
        ),
        Err(TryLockError::Error(error)) => {
            Err(error).with_context(|| format!("cannot lock {}", dir.display()))
        }
    }
}

/// `strandline start` on a demo's data holds its lock.
fn refuse_while_served(dir: &Path) -> anyhow::Result<()> {
    match File::options()
        .write(true)
        .open(dir.join(DATA).join(".lock"))
    {
        Ok(lock) => lock_file(&lock, dir),
        Err(_) => Ok(()),
    }
}

fn visit(dir: &Path, found: &mut impl FnMut(&Path, u64)) {
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = fs::read_dir(&folder) else {
            continue;
        };
        for entry in entries.flatten() {
            match entry.metadata() {
                Ok(metadata) if metadata.is_dir() => folders.push(entry.path()),
                Ok(metadata) => found(&entry.path(), metadata.len()),
                Err(_) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_demos_own_folder_is_replaced() {
        let temporary = tempfile::tempdir().unwrap();
        let dir = temporary.path().join("demo");
        let first = DemoFolder::prepare(&dir).unwrap();
        fs::create_dir_all(first.data()).unwrap();
        fs::write(first.data().join("old"), "x").unwrap();
        fs::write(dir.join("mine.txt"), "x").unwrap();
        assert!(DemoFolder::prepare(&dir).is_err(), "it is in use");
        drop(first);
        let second = DemoFolder::prepare(&dir).unwrap();
        assert!(!second.data().exists());
        assert!(dir.join("mine.txt").exists());

        let foreign = temporary.path().join("foreign");
        fs::create_dir_all(foreign.join(DATA)).unwrap();
        assert!(DemoFolder::prepare(&foreign).is_err());
        assert!(foreign.join(DATA).exists());
    }

    #[test]
    fn usage_is_told_by_kind() {
        let temporary = tempfile::tempdir().unwrap();
        let folder = DemoFolder::prepare(&temporary.path().join("demo")).unwrap();
        let segments = folder.store().join("00ff/c/t/0/segment");
        fs::create_dir_all(&segments).unwrap();
        fs::write(segments.join("0.strand"), [0; 10]).unwrap();
        fs::write(folder.store().join("root"), [0; 3]).unwrap();
        let usage = StoreUsage {
            segments: 1,
            segment_bytes: 10,
            others: 1,
            other_bytes: 3,
        };
        assert_eq!(folder.store_usage(), usage);
        for (name, size) in [("t-1-0", 5), ("t-1", 7)] {
            fs::create_dir_all(folder.data().join(name)).unwrap();
            fs::write(folder.data().join(name).join("0.log"), vec![0; size]).unwrap();
        }
        fs::write(folder.data().join("t-1/0.log.deleted"), [0; 2]).unwrap();
        assert_eq!(folder.log_bytes("t"), 9);
    }
}
