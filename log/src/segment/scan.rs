//! Walks the batch headers of a segment's file, without reading the records.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;

use crate::log_error::{LogError, StorageError};
use crate::record::{BATCH_HEADER_LEN, BatchHeader};
use crate::types::Offset;

/// The CRC covers a batch from its attributes on.
const CRC_START: u64 = 21;
/// A batch is read in pieces of this size, so that a lying length costs no memory.
const CRC_READ_LEN: u64 = 256 * 1024;
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

/// A stretch that is known to hold no whole batches, and is passed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Skip {
    pub position: u64,
    /// Where it goes on.
    pub resume: u64,
    /// The first offset there.
    pub end: Offset,
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
    /// In the order of their positions.
    skips: Vec<Skip>,
    skipped_to: Option<Offset>,
    skipped_position: u64,
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
            skips: Vec::new(),
            skipped_to: None,
            skipped_position: 0,
        }
    }

    /// Passes over these.
    pub(super) fn skipping(mut self, skips: Vec<Skip>) -> Self {
        self.skips = skips;
        self
    }

    /// The offset behind the last damage that was passed over.
    pub(crate) fn skipped_to(&self) -> Option<Offset> {
        self.skipped_to
    }

    /// Where that damage ends; 0 when there was none.
    pub(crate) fn skipped_position(&self) -> u64 {
        self.skipped_position
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

    fn skip(&mut self) {
        // They follow each other: one may end where the next begins.
        for skip in &self.skips {
            if (skip.position..skip.resume).contains(&self.position) {
                self.position = skip.resume;
                self.skipped_to = Some(skip.end);
                self.skipped_position = skip.resume;
            }
        }
    }

    /// The next batch; `None` at the end. A batch that is not whole is an error, and stays one, unless it is known.
    pub fn next_batch(&mut self) -> Result<Option<BatchPosition>, ScanError> {
        if !self.skips.is_empty() {
            self.skip();
        }
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

    /// The checksum that the batch's bytes have.
    pub(crate) fn crc_of(&self, batch: &BatchPosition) -> Result<u32, StorageError> {
        let mut position = batch.position + CRC_START;
        let mut buffer = vec![0; CRC_READ_LEN.min(batch.end() - position) as usize];
        let mut crc = 0;
        while position < batch.end() {
            let len = CRC_READ_LEN.min(batch.end() - position) as usize;
            self.file
                .read_exact_at(&mut buffer[..len], position)
                .map_err(|e| StorageError::new("read", &self.path, e))?;
            crc = crc32c::crc32c_append(crc, &buffer[..len]);
            position += len as u64;
        }
        Ok(crc)
    }

    pub(crate) fn corrupt(&self, reason: String) -> ScanError {
        ScanError::Corrupt {
            path: self.path.clone(),
            position: self.position,
            reason,
        }
    }
}
