//! The 61 bytes before a batch's records.
//!
//! | at | field                  | type |                                             |
//! |----|------------------------|------|---------------------------------------------|
//! |  0 | base offset            | i64  | set by the leader, not covered by the CRC   |
//! |  8 | batch length           | i32  | of what follows this field                  |
//! | 12 | partition leader epoch | i32  | set by the leader, not covered by the CRC   |
//! | 16 | magic                  | i8   | 2                                           |
//! | 17 | CRC-32C                | u32  | of all that follows this field              |
//! | 21 | attributes             | i16  |                                             |
//! | 23 | last offset delta      | i32  | the last record's, also after compaction    |
//! | 27 | base timestamp         | i64  | or the delete horizon                       |
//! | 35 | max timestamp          | i64  |                                             |
//! | 43 | producer id            | i64  | -1: none                                    |
//! | 51 | producer epoch         | i16  |                                             |
//! | 53 | base sequence          | i32  |                                             |
//! | 57 | records count          | i32  |                                             |
//!
//! A parsed header has magic 2 and a length that covers itself. Nothing else is promised: counts, deltas and
//! offsets are as they came, so arithmetic on them saturates.

use super::attributes::{Attributes, TimestampType};
use super::compression::Compression;
use super::error::BatchError;
use crate::types::{
    LeaderEpoch, NO_PRODUCER_ID, NO_SEQUENCE, Offset, ProducerEpoch, ProducerId, TimestampMs,
};

/// Base offset and length field, which the length does not count.
pub const LOG_OVERHEAD: usize = 12;
pub const BATCH_HEADER_LEN: usize = 61;
pub const MAGIC_V2: i8 = 2;

pub(super) const MAGIC_AT: usize = 16;
pub(super) const CRC_AT: usize = 17;
/// From here on the CRC covers.
pub(super) const ATTRIBUTES_AT: usize = 21;
pub(super) const MIN_BATCH_LENGTH: i32 = (BATCH_HEADER_LEN - LOG_OVERHEAD) as i32;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BatchHeader {
    pub base_offset: Offset,
    pub batch_length: i32,
    pub partition_leader_epoch: LeaderEpoch,
    pub magic: i8,
    pub crc: u32,
    pub attributes: Attributes,
    pub last_offset_delta: i32,
    pub base_timestamp: TimestampMs,
    pub max_timestamp: TimestampMs,
    pub producer_id: ProducerId,
    pub producer_epoch: ProducerEpoch,
    pub base_sequence: i32,
    pub records_count: i32,
}

fn array<const N: usize>(head: &[u8; BATCH_HEADER_LEN], at: usize) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&head[at..at + N]);
    out
}

impl BatchHeader {
    /// Reads the header at the front of `bytes`, which may hold more or less than the whole batch.
    pub fn parse(bytes: &[u8]) -> Result<Self, BatchError> {
        // Older formats are shorter than our header: say what is wrong before asking for more bytes.
        if let Some(&magic) = bytes.get(MAGIC_AT)
            && magic as i8 != MAGIC_V2
        {
            return Err(BatchError::Magic(magic as i8));
        }
        let Some(head) = bytes.first_chunk::<BATCH_HEADER_LEN>() else {
            return Err(BatchError::Truncated {
                needed: BATCH_HEADER_LEN,
                available: bytes.len(),
            });
        };
        let header = Self {
            base_offset: i64::from_be_bytes(array(head, 0)),
            batch_length: i32::from_be_bytes(array(head, 8)),
            partition_leader_epoch: i32::from_be_bytes(array(head, 12)),
            magic: MAGIC_V2,
            crc: u32::from_be_bytes(array(head, CRC_AT)),
            attributes: Attributes(i16::from_be_bytes(array(head, ATTRIBUTES_AT))),
            last_offset_delta: i32::from_be_bytes(array(head, 23)),
            base_timestamp: i64::from_be_bytes(array(head, 27)),
            max_timestamp: i64::from_be_bytes(array(head, 35)),
            producer_id: i64::from_be_bytes(array(head, 43)),
            producer_epoch: i16::from_be_bytes(array(head, 51)),
            base_sequence: i32::from_be_bytes(array(head, 53)),
            records_count: i32::from_be_bytes(array(head, 57)),
        };
        if header.batch_length < MIN_BATCH_LENGTH {
            return Err(BatchError::Length(header.batch_length));
        }
        Ok(header)
    }

    /// Writes the header over the front of `out`.
    ///
    /// # Panics
    /// When `out` is shorter than [`BATCH_HEADER_LEN`]: a bug of the caller.
    pub fn encode(&self, out: &mut [u8]) {
        let out = &mut out[..BATCH_HEADER_LEN];
        out[0..8].copy_from_slice(&self.base_offset.to_be_bytes());
        out[8..12].copy_from_slice(&self.batch_length.to_be_bytes());
        out[12..16].copy_from_slice(&self.partition_leader_epoch.to_be_bytes());
        out[MAGIC_AT] = self.magic as u8;
        out[17..21].copy_from_slice(&self.crc.to_be_bytes());
        out[21..23].copy_from_slice(&self.attributes.0.to_be_bytes());
        out[23..27].copy_from_slice(&self.last_offset_delta.to_be_bytes());
        out[27..35].copy_from_slice(&self.base_timestamp.to_be_bytes());
        out[35..43].copy_from_slice(&self.max_timestamp.to_be_bytes());
        out[43..51].copy_from_slice(&self.producer_id.to_be_bytes());
        out[51..53].copy_from_slice(&self.producer_epoch.to_be_bytes());
        out[53..57].copy_from_slice(&self.base_sequence.to_be_bytes());
        out[57..61].copy_from_slice(&self.records_count.to_be_bytes());
    }

    /// The whole batch in bytes, header included.
    pub fn size(&self) -> usize {
        LOG_OVERHEAD + self.batch_length.max(MIN_BATCH_LENGTH) as usize
    }

    pub fn last_offset(&self) -> Offset {
        self.base_offset
            .saturating_add(i64::from(self.last_offset_delta))
    }

    pub fn next_offset(&self) -> Offset {
        self.last_offset().saturating_add(1)
    }

    pub fn compression(&self) -> Result<Compression, BatchError> {
        let id = self.attributes.compression_id();
        Compression::from_id(id).ok_or(BatchError::UnknownCompression(id))
    }

    pub fn timestamp_type(&self) -> TimestampType {
        self.attributes.timestamp_type()
    }

    pub fn is_transactional(&self) -> bool {
        self.attributes.is_transactional()
    }

    pub fn is_control(&self) -> bool {
        self.attributes.is_control()
    }

    pub fn has_producer_id(&self) -> bool {
        self.producer_id > NO_PRODUCER_ID
    }

    /// The sequence of the last record, or [`NO_SEQUENCE`].
    pub fn last_sequence(&self) -> i32 {
        if self.base_sequence < 0 || self.last_offset_delta < 0 {
            return NO_SEQUENCE;
        }
        increment_sequence(self.base_sequence, self.last_offset_delta)
    }
}

/// The sequence `by` records later. Sequences are 31 bits wide and wrap to 0.
pub fn increment_sequence(sequence: i32, by: i32) -> i32 {
    ((i64::from(sequence) + i64::from(by)) & i64::from(i32::MAX)) as i32
}

/// The sequence `by` records earlier.
pub fn decrement_sequence(sequence: i32, by: i32) -> i32 {
    ((i64::from(sequence) - i64::from(by)) & i64::from(i32::MAX)) as i32
}
