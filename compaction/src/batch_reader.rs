//! Streams the batches of a segment through one buffer, each whole and with its CRC checked.
//!
//! The buffer grows for a batch that does not fit, and shrinks again behind it. What is not a whole, right batch is an
//! error that names file and position: the cleaner never copies what it cannot vouch for.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;

use strandline_log::record::{BATCH_HEADER_LEN, BatchError, BatchHeader};
use strandline_log::segment::LogSegment;
use strandline_log::{LogError, Offset, StorageError};

/// The CRC covers a batch from its attributes on.
const CRC_START: usize = 21;

/// One batch in the reader's buffer.
#[derive(Debug)]
pub struct ReadBatch<'a> {
    pub header: BatchHeader,
    pub bytes: &'a [u8],
    pub position: u64,
}

#[derive(Debug)]
pub struct BatchReader {
    file: Arc<File>,
    path: PathBuf,
    /// Of the buffer's first byte in the file.
    position: u64,
    end: u64,
    buffer: Vec<u8>,
    buffer_len: usize,
    /// The next batch, and the end of what was read.
    at: usize,
    filled: usize,
    /// Batches must begin here or beyond.
    next_offset: Offset,
}

impl BatchReader {
    /// Reads from `position`, which must be a batch's, to the end of what is published.
    pub fn new(
        segment: &LogSegment,
        position: u64,
        buffer_len: usize,
    ) -> Result<Self, StorageError> {
        Ok(Self {
            file: segment.file()?,
            path: segment.path(),
            position,
            end: segment.size(),
            buffer: Vec::new(),
            buffer_len: buffer_len.max(BATCH_HEADER_LEN),
            at: 0,
            filled: 0,
            next_offset: segment.base_offset(),
        })
    }

    /// The next batch; `None` at the end.
    pub fn next_batch(&mut self) -> Result<Option<ReadBatch<'_>>, LogError> {
        if self.left() == 0 {
            return Ok(None);
        }
        if self.left() < BATCH_HEADER_LEN as u64 {
            return Err(self.corrupt(format!("{} bytes are no batch header", self.left())));
        }
        self.fill(BATCH_HEADER_LEN)?;
        let header = BatchHeader::parse(&self.buffer[self.at..self.filled])
            .map_err(|e| self.corrupt(e.to_string()))?;
        let size = header.size();
        if size as u64 > self.left() {
            return Err(self.corrupt(format!("a batch of {size} bytes, {} are left", self.left())));
        }
        if header.base_offset < self.next_offset || header.last_offset_delta < 0 {
            return Err(self.corrupt(format!(
                "base offset {} and last offset delta {} where {} or more is due",
                header.base_offset, header.last_offset_delta, self.next_offset
            )));
        }
        self.fill(size)?;
        let position = self.position + self.at as u64;
        let bytes = &self.buffer[self.at..self.at + size];
        let computed = crc32c::crc32c(&bytes[CRC_START..]);
        if computed != header.crc {
            let error = BatchError::Crc {
                stored: header.crc,
                computed,
            };
            return Err(self.corrupt(error.to_string()));
        }
        self.next_offset = header.next_offset();
        self.at += size;
        let bytes = &self.buffer[self.at - size..self.at];
        Ok(Some(ReadBatch {
            header,
            bytes,
            position,
        }))
    }

    fn left(&self) -> u64 {
        self.end - (self.position + self.at as u64)
    }

    /// Brings at least `len` bytes from the next batch on into the buffer; as many as it holds where they are there.
    fn fill(&mut self, len: usize) -> Result<(), LogError> {
        if self.filled - self.at >= len {
            return Ok(());
        }
        self.buffer.copy_within(self.at..self.filled, 0);
        self.position += self.at as u64;
        self.filled -= self.at;
        self.at = 0;
        let room = self.buffer_len.max(len);
        if self.buffer.len() != room {
            self.buffer.resize(room, 0);
            self.buffer.shrink_to(room);
        }
        let want = (room as u64).min(self.end - self.position) as usize;
        while self.filled < want {
            let at = self.position + self.filled as u64;
            match self.file.read_at(&mut self.buffer[self.filled..want], at) {
                Ok(0) => return Err(self.corrupt("the file ends".to_owned())),
                Ok(n) => self.filled += n,
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(e) => return Err(StorageError::new("read", &self.path, e).into()),
            }
        }
        Ok(())
    }

    /// An error about the batch that is next.
    pub fn corrupt(&self, reason: String) -> LogError {
        self.corrupt_at(self.position + self.at as u64, reason)
    }

    pub fn corrupt_at(&self, position: u64, reason: String) -> LogError {
        LogError::Corrupt {
            path: self.path.clone(),
            position,
            reason,
        }
    }
}
