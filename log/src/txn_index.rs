//! `.txnindex`: the aborted transactions whose markers lie in a segment, in the order of their markers.
//!
//! | at | field              | type |                                               |
//! |----|--------------------|------|-----------------------------------------------|
//! |  0 | version            | i16  | 0                                             |
//! |  2 | producer id        | i64  |                                               |
//! | 10 | first offset       | i64  | the transaction's first record                |
//! | 18 | last offset        | i64  | its abort marker                              |
//! | 26 | last stable offset | i64  | after the marker: tells when to stop searching |
//!
//! The file exists only once there is an entry. A torn or unreadable end is an error of reading; recovery rebuilds
//! the file from the segment.

use std::fs::{self, File, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::checkpoint::StateFileError;
use crate::durable;
use crate::types::{Offset, ProducerId};

pub const ABORTED_TXN_LEN: usize = 34;
const VERSION: i16 = 0;
/// Entries read at a time.
const READ_ENTRIES: usize = 512;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AbortedTxn {
    pub producer_id: ProducerId,
    pub first_offset: Offset,
    pub last_offset: Offset,
    pub last_stable_offset: Offset,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AbortedTxnError {
    #[error("version {0} of an aborted transaction, expected {VERSION}")]
    Version(i16),
    #[error("an aborted transaction takes {ABORTED_TXN_LEN} bytes, there are {0}")]
    Length(usize),
}

impl AbortedTxn {
    pub fn encode(&self) -> [u8; ABORTED_TXN_LEN] {
        let mut out = [0; ABORTED_TXN_LEN];
        out[0..2].copy_from_slice(&VERSION.to_be_bytes());
        out[2..10].copy_from_slice(&self.producer_id.to_be_bytes());
        out[10..18].copy_from_slice(&self.first_offset.to_be_bytes());
        out[18..26].copy_from_slice(&self.last_offset.to_be_bytes());
        out[26..34].copy_from_slice(&self.last_stable_offset.to_be_bytes());
        out
    }

    /// Reads exactly one entry. Later versions only add fields, but none is known, so none is taken.
    pub fn decode(bytes: &[u8]) -> Result<Self, AbortedTxnError> {
        let bytes: &[u8; ABORTED_TXN_LEN] = bytes
            .try_into()
            .map_err(|_| AbortedTxnError::Length(bytes.len()))?;
        let version = i16::from_be_bytes([bytes[0], bytes[1]]);
        if version != VERSION {
            return Err(AbortedTxnError::Version(version));
        }
        let long = |at: usize| {
            let mut raw = [0; 8];
            raw.copy_from_slice(&bytes[at..at + 8]);
            i64::from_be_bytes(raw)
        };
        Ok(Self {
            producer_id: long(2),
            first_offset: long(10),
            last_offset: long(18),
            last_stable_offset: long(26),
        })
    }
}

/// What a search in one segment's index found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TxnIndexSearch {
    pub aborted: Vec<AbortedTxn>,
    /// No later segment can add one.
    pub is_complete: bool,
}

#[derive(Debug)]
pub struct TransactionIndex {
    path: PathBuf,
    file: Option<File>,
    len: u64,
    last_offset: Option<Offset>,
}

impl TransactionIndex {
    /// Opens the index at `path`, which need not exist. Bytes beyond the last whole entry are an error.
    pub fn open(path: PathBuf) -> Result<Self, StateFileError> {
        let mut index = Self {
            path,
            file: None,
            len: 0,
            last_offset: None,
        };
        match OpenOptions::new().read(true).write(true).open(&index.path) {
            Ok(file) => {
                index.len = file
                    .metadata()
                    .map_err(StateFileError::io(&index.path))?
                    .len();
                index.file = Some(file);
            }
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(index),
            Err(e) => return Err(StateFileError::io(&index.path)(e)),
        }
        if !index.len.is_multiple_of(ABORTED_TXN_LEN as u64) {
            let reason = format!(
                "its length {} is no multiple of {ABORTED_TXN_LEN}",
                index.len
            );
            return Err(StateFileError::malformed(&index.path, reason));
        }
        if index.len > 0 {
            let at = index.len - ABORTED_TXN_LEN as u64;
            index.last_offset = index.read_at(at, 1)?.last().map(|e| e.last_offset);
        }
        Ok(index)
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub fn size_bytes(&self) -> u64 {
        self.len
    }

    /// Adds an entry; its marker must lie beyond all before it.
    pub fn append(&mut self, entry: &AbortedTxn) -> Result<(), StateFileError> {
        if let Some(last) = self.last_offset
            && last >= entry.last_offset
        {
            let reason = format!(
                "the last offset {} of a new entry is not beyond {last}",
                entry.last_offset
            );
            return Err(StateFileError::malformed(&self.path, reason));
        }
        let file = match &self.file {
            Some(file) => file,
            None => {
                let file = OpenOptions::new()
                    .read(true)
                    .write(true)
                    .create(true)
                    .truncate(false)
                    .open(&self.path)
                    .map_err(StateFileError::io(&self.path))?;
                self.file.insert(file)
            }
        };
        file.write_all_at(&entry.encode(), self.len)
            .map_err(StateFileError::io(&self.path))?;
        self.len += ABORTED_TXN_LEN as u64;
        self.last_offset = Some(entry.last_offset);
        Ok(())
    }

    fn read_at(&self, at: u64, entries: usize) -> Result<Vec<AbortedTxn>, StateFileError> {
        let Some(file) = &self.file else {
            return Ok(Vec::new());
        };
        let mut bytes = vec![0; entries * ABORTED_TXN_LEN];
        file.read_exact_at(&mut bytes, at)
            .map_err(StateFileError::io(&self.path))?;
        bytes
            .chunks_exact(ABORTED_TXN_LEN)
            .map(AbortedTxn::decode)
            .collect::<Result<_, _>>()
            .map_err(|e| StateFileError::malformed(&self.path, e.to_string()))
    }

    /// Visits entries in order until `visit` answers false.
    fn scan(&self, mut visit: impl FnMut(u64, AbortedTxn) -> bool) -> Result<(), StateFileError> {
        let mut at = 0;
        while at < self.len {
            let left = (self.len - at) / ABORTED_TXN_LEN as u64;
            let count = left.min(READ_ENTRIES as u64) as usize;
            for entry in self.read_at(at, count)? {
                if !visit(at, entry) {
                    return Ok(());
                }
                at += ABORTED_TXN_LEN as u64;
            }
        }
        Ok(())
    }

    /// All entries.
    pub fn entries(&self) -> Result<Vec<AbortedTxn>, StateFileError> {
        let mut all = Vec::new();
        self.scan(|_, entry| {
            all.push(entry);
            true
        })?;
        Ok(all)
    }

    /// The aborted transactions that overlap `[fetch_offset, upper_bound)`.
    pub fn collect_aborted_txns(
        &self,
        fetch_offset: Offset,
        upper_bound: Offset,
    ) -> Result<TxnIndexSearch, StateFileError> {
        let mut search = TxnIndexSearch::default();
        self.scan(|_, entry| {
            if entry.last_offset >= fetch_offset && entry.first_offset < upper_bound {
                search.aborted.push(entry);
            }
            search.is_complete = entry.last_stable_offset >= upper_bound;
            !search.is_complete
        })?;
        Ok(search)
    }

    /// Drops the entries whose marker lies at or beyond `offset`.
    pub fn truncate_to(&mut self, offset: Offset) -> Result<(), StateFileError> {
        let mut keep = self.len;
        let mut last = None;
        self.scan(|at, entry| {
            if entry.last_offset >= offset {
                keep = at;
                return false;
            }
            last = Some(entry.last_offset);
            true
        })?;
        if keep < self.len {
            self.set_len(keep)?;
            self.last_offset = last;
        }
        Ok(())
    }

    /// Drops all entries, whatever they look like.
    pub fn reset(&mut self) -> Result<(), StateFileError> {
        self.set_len(0)?;
        self.last_offset = None;
        Ok(())
    }

    fn set_len(&mut self, len: u64) -> Result<(), StateFileError> {
        if let Some(file) = &self.file {
            file.set_len(len).map_err(StateFileError::io(&self.path))?;
        }
        self.len = len;
        Ok(())
    }

    /// An index whose markers lie before its segment is not that segment's.
    pub fn sanity_check(&self, segment_base_offset: Offset) -> Result<(), StateFileError> {
        let mut wrong = None;
        self.scan(|_, entry| {
            if entry.last_offset < segment_base_offset {
                wrong = Some(entry);
            }
            wrong.is_none()
        })?;
        wrong.map_or(Ok(()), |entry| {
            let reason = format!(
                "an entry's last offset {} lies before the segment's base {segment_base_offset}",
                entry.last_offset
            );
            Err(StateFileError::malformed(&self.path, reason))
        })
    }

    pub fn flush(&self) -> Result<(), StateFileError> {
        self.file.as_ref().map_or(Ok(()), |file| {
            durable::sync_all(file, &self.path).map_err(StateFileError::io(&self.path))
        })
    }

    /// Renames the file, if there is one. The folder is the caller's to sync.
    pub fn rename_to(&mut self, path: PathBuf) -> Result<(), StateFileError> {
        if self.file.is_some() {
            fs::rename(&self.path, &path).map_err(StateFileError::io(&self.path))?;
        }
        self.path = path;
        Ok(())
    }

    /// Closes and removes the file. None there is fine.
    pub fn delete(&mut self) -> Result<(), StateFileError> {
        self.file = None;
        self.len = 0;
        self.last_offset = None;
        match fs::remove_file(&self.path) {
            Err(e) if e.kind() != ErrorKind::NotFound => Err(StateFileError::io(&self.path)(e)),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
