//! The `.snapshot` files of a partition's folder, each named by the offset up to which it knows: 20 digits.
//!
//! A file is written in place, not renamed: its CRC tells a torn one, which is removed when met. Loading falls back
//! on the one before, and the log is replayed from there.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use super::manager::ProducerStateManager;
use crate::checkpoint::StateFileError;
use crate::durable;
use crate::types::{Offset, TimestampMs};

const SUFFIX: &str = ".snapshot";

#[derive(Clone, Debug)]
pub struct ProducerSnapshots {
    dir: PathBuf,
    offsets: BTreeSet<Offset>,
}

impl ProducerSnapshots {
    /// Lists the folder's snapshots.
    pub fn open(dir: &Path) -> Result<Self, StateFileError> {
        let mut offsets = BTreeSet::new();
        for entry in fs::read_dir(dir).map_err(StateFileError::io(dir))? {
            let name = entry.map_err(StateFileError::io(dir))?.file_name();
            offsets.extend(name.to_str().and_then(Self::offset_of));
        }
        Ok(Self {
            dir: dir.to_owned(),
            offsets,
        })
    }

    /// The folder as it is already known: spares a second listing.
    pub fn with_offsets(dir: &Path, offsets: BTreeSet<Offset>) -> Self {
        Self {
            dir: dir.to_owned(),
            offsets,
        }
    }

    /// The offset in a snapshot's file name; `None` for other files.
    pub fn offset_of(file_name: &str) -> Option<Offset> {
        let digits = file_name.strip_suffix(SUFFIX)?;
        let right = digits.len() == 20 && digits.bytes().all(|b| b.is_ascii_digit());
        right.then(|| digits.parse().ok()).flatten()
    }

    pub fn path_of(&self, offset: Offset) -> PathBuf {
        self.dir.join(format!("{offset:020}{SUFFIX}"))
    }

    pub fn offsets(&self) -> &BTreeSet<Offset> {
        &self.offsets
    }

    pub fn latest(&self) -> Option<Offset> {
        self.offsets.last().copied()
    }

    /// Writes the manager's state, unless there is a snapshot at its end already. With `sync` the file is on disk on
    /// return, but for its name in the folder.
    pub fn take(
        &mut self,
        manager: &ProducerStateManager,
        sync: bool,
    ) -> Result<Option<Offset>, StateFileError> {
        let offset = manager.map_end_offset();
        if self.latest().is_some_and(|latest| latest >= offset) {
            return Ok(None);
        }
        self.write(offset, &manager.encode_snapshot(), sync)?;
        Ok(Some(offset))
    }

    /// Writes a snapshot that came from elsewhere, for example from the tier.
    pub fn write(
        &mut self,
        offset: Offset,
        bytes: &[u8],
        sync: bool,
    ) -> Result<(), StateFileError> {
        let path = self.path_of(offset);
        let mut file = File::create(&path).map_err(StateFileError::io(&path))?;
        file.write_all(bytes).map_err(StateFileError::io(&path))?;
        if sync {
            durable::sync_all(&file, &path).map_err(StateFileError::io(&path))?;
        }
        self.offsets.insert(offset);
        Ok(())
    }

    /// Puts a snapshot on disk that was taken without `sync`. None there is fine.
    pub fn flush(&self, offset: Offset) -> Result<(), StateFileError> {
        if !self.offsets.contains(&offset) {
            return Ok(());
        }
        let path = self.path_of(offset);
        File::open(&path)
            .and_then(|f| durable::sync_all(&f, &path))
            .map_err(StateFileError::io(&path))
    }

    /// The file's bytes, unchecked; `None` when there is none at that offset.
    pub fn read(&self, offset: Offset) -> Result<Option<Vec<u8>>, StateFileError> {
        let path = self.path_of(offset);
        match fs::read(&path) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
            Err(e) => Err(StateFileError::io(&path)(e)),
        }
    }

    /// Loads the newest readable snapshot in `[log_start, log_end]` and tells its offset: the log is to be replayed
    /// from there. Without one the manager is emptied, and the answer is `log_start`.
    pub fn load_latest(
        &mut self,
        manager: &mut ProducerStateManager,
        log_start: Offset,
        log_end: Offset,
        now_ms: TimestampMs,
        expiration_ms: i64,
    ) -> Result<Offset, StateFileError> {
        manager.truncate_fully_and_start_at(log_start);
        if log_start > log_end {
            return Ok(log_start);
        }
        let candidates: Vec<Offset> = self.offsets.range(log_start..=log_end).copied().collect();
        for offset in candidates.into_iter().rev() {
            let Some(bytes) = self.read(offset)? else {
                self.offsets.remove(&offset);
                continue;
            };
            match manager.load_snapshot(&bytes, offset, now_ms, expiration_ms) {
                Ok(()) => return Ok(offset),
                Err(error) => {
                    let file = self.path_of(offset);
                    tracing::warn!(file = %file.display(), %error, "removing a damaged producer snapshot");
                    self.delete(offset)?;
                }
            }
        }
        Ok(log_start)
    }

    /// None there is fine.
    pub fn delete(&mut self, offset: Offset) -> Result<(), StateFileError> {
        self.offsets.remove(&offset);
        let path = self.path_of(offset);
        match fs::remove_file(&path) {
            Err(e) if e.kind() != ErrorKind::NotFound => Err(StateFileError::io(&path)(e)),
            _ => Ok(()),
        }
    }

    fn delete_where(&mut self, gone: impl Fn(Offset) -> bool) -> Result<(), StateFileError> {
        let offsets: Vec<Offset> = self.offsets.iter().copied().filter(|o| gone(*o)).collect();
        offsets.into_iter().try_for_each(|o| self.delete(o))
    }

    /// The log was cut at `log_end`.
    pub fn delete_above(&mut self, log_end: Offset) -> Result<(), StateFileError> {
        self.delete_where(|offset| offset > log_end)
    }

    /// Segments below `offset` are gone.
    pub fn delete_below(&mut self, offset: Offset) -> Result<(), StateFileError> {
        self.delete_where(|o| o < offset)
    }

    pub fn delete_all(&mut self) -> Result<(), StateFileError> {
        self.delete_where(|_| true)
    }

    /// Keeps those at a segment's base, where a replay may begin, and the newest.
    pub fn delete_strays(
        &mut self,
        segment_base_offsets: &BTreeSet<Offset>,
    ) -> Result<(), StateFileError> {
        let latest = self.latest();
        self.delete_where(|o| Some(o) != latest && !segment_base_offsets.contains(&o))
    }
}
