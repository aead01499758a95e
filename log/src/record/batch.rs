//! One batch as it lies in a log or a request: its header, and all its bytes.

use bytes::Bytes;

use super::batch_header::{ATTRIBUTES_AT, BATCH_HEADER_LEN, BatchHeader};
use super::compression::DecodeLimit;
use super::error::BatchError;
use super::iter::RecordIter;
use crate::types::{LeaderEpoch, Offset};

/// A batch whose bytes are exactly as many as its header says. The CRC is only checked on demand.
#[derive(Clone, Debug)]
pub struct Batch {
    pub header: BatchHeader,
    /// Header and records.
    pub bytes: Bytes,
}

impl Batch {
    /// Takes the first batch of `bytes`; what follows it is left out.
    pub fn parse(bytes: Bytes) -> Result<Self, BatchError> {
        let header = BatchHeader::parse(&bytes)?;
        let size = header.size();
        if bytes.len() < size {
            return Err(BatchError::Truncated {
                needed: size,
                available: bytes.len(),
            });
        }
        Ok(Self {
            header,
            bytes: bytes.slice(..size),
        })
    }

    pub fn size(&self) -> usize {
        self.bytes.len()
    }

    pub fn verify_crc(&self) -> Result<(), BatchError> {
        let computed = crc32c::crc32c(&self.bytes[ATTRIBUTES_AT..]);
        if computed == self.header.crc {
            return Ok(());
        }
        Err(BatchError::Crc {
            stored: self.header.crc,
            computed,
        })
    }

    /// The records' bytes as they are stored, perhaps compressed.
    pub fn payload(&self) -> Bytes {
        self.bytes.slice(BATCH_HEADER_LEN..)
    }

    /// Opens the records; a compressed batch is inflated at once, to at most `limit`.
    pub fn records(&self, limit: DecodeLimit) -> Result<RecordIter, BatchError> {
        let body = self
            .header
            .compression()?
            .decompress(&self.payload(), limit)?;
        RecordIter::new(self.header, body)
    }

    /// The header's bytes with the two fields that the leader assigns. The CRC stays right: it covers neither.
    pub fn patched_header(
        &self,
        base_offset: Offset,
        leader_epoch: LeaderEpoch,
    ) -> [u8; BATCH_HEADER_LEN] {
        let mut head = [0; BATCH_HEADER_LEN];
        head.copy_from_slice(&self.bytes[..BATCH_HEADER_LEN]);
        head[0..8].copy_from_slice(&base_offset.to_be_bytes());
        head[12..16].copy_from_slice(&leader_epoch.to_be_bytes());
        head
    }
}

/// Walks the batches of `bytes` one by one. Ends after the first error: what follows has no known start.
#[derive(Clone, Debug)]
pub struct BatchIter {
    rest: Bytes,
}

/// Iterates the batches of `bytes`; a torn last one is an error, see [`BatchIter::rest`].
pub fn batches_of(bytes: Bytes) -> BatchIter {
    BatchIter { rest: bytes }
}

impl BatchIter {
    /// What has not been yielded yet.
    pub fn rest(&self) -> &Bytes {
        &self.rest
    }
}

impl Iterator for BatchIter {
    type Item = Result<Batch, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let batch = Batch::parse(self.rest.clone());
        match &batch {
            Ok(batch) => self.rest = self.rest.slice(batch.size()..),
            Err(_) => self.rest = Bytes::new(),
        }
        Some(batch)
    }
}

/// All batches of `bytes`, which must end where the last batch ends.
pub fn split_batches(bytes: Bytes) -> Result<Vec<Batch>, BatchError> {
    batches_of(bytes).collect()
}
