//! Walks the batch headers of a segment's file, without reading the records.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;

use crate::log_error::{LogError, StorageError};
use crate::record::{BATCH_HEADER_LEN, BatchHeader};

/// One read brings this much: several headers when batches are small, and little waste when they are large.
const READ_LEN: usize = 4096;

/// A batch's header and where the batch starts.
#[derive(Clone, Copy, Debug)]
pub struct BatchPosition {
    pub position: u64,
    pub header: BatchHeader,
}

impl BatchPosition {
    pub fn end(&self) -> u64 {
        self.position + self.header.size() as u64
    }
}

#[derive(Debug, thiserror::Error)]
pub enum ScanError {
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// What is at the position is not a whole batch.
    #[error("no valid batch at position {position}: {reason}")]
    Corrupt {
        path: PathBuf,
        position: u64,
        reason: String,
    },
}

impl From<ScanError> for LogError {
    fn from(e: ScanError) -> Self {
        match e {
            ScanError::Storage(e) => Self::Storage(e),
            ScanError::Corrupt {
                path,
                position,
                reason,
            } => Self::Corrupt {
                path,
                position,
                reason,
            },
        }
    }
}

/// Reads header after header up to `end`.
#[derive(Debug)]
pub struct BatchScan {
    file: Arc<File>,
    path: PathBuf,
    position: u64,
    end: u64,
    buffer: Vec<u8>,
    buffer_start: u64,
}

impl BatchScan {
    pub(crate) fn new(file: Arc<File>, path: PathBuf, position: u64, end: u64) -> Self {
        Self {
            file,
            path,
            position,
            end,
            buffer: Vec::new(),
            buffer_start: 0,
        }
    }

    /// The next batch is this one again.
    pub(super) fn rewind(&mut self, batch: &BatchPosition) {
        self.position = batch.position;
    }

    /// Where the next header is looked for.
    pub fn position(&self) -> u64 {
        self.position
    }

    pub fn path(&self) -> &PathBuf {
        &self.path
    }

    pub fn file(&self) -> &Arc<File> {
        &self.file
    }

    /// The next batch; `None` at the end. A batch that is not whole is an error, and stays one.
    pub fn next_batch(&mut self) -> Result<Option<BatchPosition>, ScanError> {
        if self.position >= self.end {
            return Ok(None);
        }
        let position = self.position;
        let left = self.end - position;
        if left < BATCH_HEADER_LEN as u64 {
            return Err(self.corrupt(format!("{left} bytes are no batch header")));
        }
        let bytes = self.header_bytes()?;
        let header = match BatchHeader::parse(bytes) {
            Ok(header) => header,
            Err(e) => return Err(self.corrupt(e.to_string())),
        };
        let size = header.size() as u64;
        if size > left {
            return Err(self.corrupt(format!("a batch of {size} bytes, {left} are left")));
        }
        if header.base_offset < 0 || header.last_offset_delta < 0 {
            return Err(self.corrupt("a negative offset".to_owned()));
        }
        self.position += size;
        Ok(Some(BatchPosition { position, header }))
    }

    fn header_bytes(&mut self) -> Result<&[u8], ScanError> {
        let inside = self.position >= self.buffer_start
            && self.position + BATCH_HEADER_LEN as u64
                <= self.buffer_start + self.buffer.len() as u64;
        if !inside {
            let want = (READ_LEN as u64).min(self.end - self.position) as usize;
            self.buffer.resize(want, 0);
            let mut got = 0;
            while got < BATCH_HEADER_LEN {
                match self
                    .file
                    .read_at(&mut self.buffer[got..], self.position + got as u64)
                {
                    Ok(0) => return Err(self.corrupt("the file ends".to_owned())),
                    Ok(n) => got += n,
                    Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                    Err(e) => return Err(StorageError::new("read", &self.path, e).into()),
                }
            }
            self.buffer.truncate(got);
            self.buffer_start = self.position;
        }
        let at = (self.position - self.buffer_start) as usize;
        Ok(&self.buffer[at..at + BATCH_HEADER_LEN])
    }

    pub(crate) fn corrupt(&self, reason: String) -> ScanError {
        ScanError::Corrupt {
            path: self.path.clone(),
            position: self.position,
            reason,
        }
    }
}
