//! Builds a batch from records: what clients of ours send, and what the broker writes by itself.
//!
//! Records are encoded as they come and compressed at the end. Records count, deltas, timestamps and CRC always
//! agree with what was appended. Does not split: the caller watches [`BatchBuilder::size_estimate`].

use bytes::Bytes;

use super::attributes::{Attributes, TimestampType};
use super::batch_header::{ATTRIBUTES_AT, BATCH_HEADER_LEN, BatchHeader, LOG_OVERHEAD, MAGIC_V2};
use super::compression::Compression;
use super::record::{self, RecordHeader};
use crate::types::{
    LeaderEpoch, NO_LEADER_EPOCH, NO_PRODUCER_EPOCH, NO_PRODUCER_ID, NO_SEQUENCE, NO_TIMESTAMP,
    Offset, ProducerEpoch, ProducerId, TimestampMs,
};

/// What a batch says about all its records. The default: one for a leader to take, without a producer id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchOptions {
    pub compression: Compression,
    /// On the codec's own scale; `None`: its default.
    pub compression_level: Option<i32>,
    pub timestamp_type: TimestampType,
    pub producer_id: ProducerId,
    pub producer_epoch: ProducerEpoch,
    pub base_sequence: i32,
    pub is_transactional: bool,
    pub is_control: bool,
    pub base_offset: Offset,
    pub leader_epoch: LeaderEpoch,
}

impl Default for BatchOptions {
    fn default() -> Self {
        Self {
            compression: Compression::None,
            compression_level: None,
            timestamp_type: TimestampType::CreateTime,
            producer_id: NO_PRODUCER_ID,
            producer_epoch: NO_PRODUCER_EPOCH,
            base_sequence: NO_SEQUENCE,
            is_transactional: false,
            is_control: false,
            base_offset: 0,
            leader_epoch: NO_LEADER_EPOCH,
        }
    }
}

/// A record that has no offset yet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewRecord {
    pub timestamp: TimestampMs,
    pub key: Option<Bytes>,
    pub value: Option<Bytes>,
    pub headers: Vec<RecordHeader>,
}

impl NewRecord {
    /// The bytes that it holds, without framing.
    pub fn payload_bytes(&self) -> usize {
        let headers: usize = self
            .headers
            .iter()
            .map(|h| h.key.len() + h.value.as_ref().map_or(0, Bytes::len))
            .sum();
        self.key.as_ref().map_or(0, Bytes::len)
            + self.value.as_ref().map_or(0, Bytes::len)
            + headers
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BuildError {
    #[error("the batch would exceed {max} bytes")]
    TooLarge { max: usize },
    #[error("offset {offset} is not after the batch's last one")]
    Offset { offset: Offset },
}

/// So that no length in a batch comes near 31 bits, whatever compression adds.
const BATCH_BYTES_MAX: usize = 1 << 30;
/// More than the varints of one record's framing take.
const RECORD_OVERHEAD_MAX: usize = 40;
const HEADER_OVERHEAD_MAX: usize = 10;

#[derive(Clone, Debug)]
pub struct BatchBuilder {
    options: BatchOptions,
    records: Vec<u8>,
    count: i32,
    last_offset_delta: i32,
    base_timestamp: TimestampMs,
    max_timestamp: TimestampMs,
}

impl BatchBuilder {
    pub fn new(options: BatchOptions) -> Self {
        Self {
            options,
            records: Vec::new(),
            count: 0,
            last_offset_delta: -1,
            base_timestamp: NO_TIMESTAMP,
            max_timestamp: NO_TIMESTAMP,
        }
    }

    /// Adds a record at the next offset. On an error the batch is as it was.
    pub fn append(&mut self, record: NewRecord) -> Result<(), BuildError> {
        self.add(&record, self.last_offset_delta.saturating_add(1))
    }

    /// Adds a record at an offset beyond the last one, as compaction leaves them.
    pub fn append_at(&mut self, offset: Offset, record: NewRecord) -> Result<(), BuildError> {
        let delta = offset
            .checked_sub(self.options.base_offset)
            .and_then(|d| i32::try_from(d).ok())
            .filter(|d| *d > self.last_offset_delta)
            .ok_or(BuildError::Offset { offset })?;
        self.add(&record, delta)
    }

    fn add(&mut self, record: &NewRecord, offset_delta: i32) -> Result<(), BuildError> {
        let most = record
            .payload_bytes()
            .saturating_add(RECORD_OVERHEAD_MAX)
            .saturating_add(record.headers.len().saturating_mul(HEADER_OVERHEAD_MAX));
        if most > BATCH_BYTES_MAX - BATCH_HEADER_LEN - self.records.len().min(BATCH_BYTES_MAX / 2) {
            return Err(BuildError::TooLarge {
                max: BATCH_BYTES_MAX,
            });
        }
        if self.count == 0 {
            self.base_timestamp = record.timestamp;
        }
        // Wrapping on both sides gives every timestamp back.
        let timestamp_delta = record.timestamp.wrapping_sub(self.base_timestamp);
        record::encode(&mut self.records, record, timestamp_delta, offset_delta);
        self.max_timestamp = self.max_timestamp.max(record.timestamp);
        self.last_offset_delta = offset_delta;
        self.count += 1;
        Ok(())
    }

    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub fn records_count(&self) -> i32 {
        self.count
    }

    /// The batch's size without compression.
    pub fn size_estimate(&self) -> usize {
        BATCH_HEADER_LEN + self.records.len()
    }

    /// The finished batch. An empty builder gives a batch without records.
    pub fn build(self) -> Bytes {
        let options = self.options;
        let payload = match options.compression {
            Compression::None => self.records,
            codec => codec.compress(&self.records, options.compression_level),
        };
        assemble(
            BatchHeader {
                base_offset: options.base_offset,
                batch_length: 0,
                partition_leader_epoch: options.leader_epoch,
                magic: MAGIC_V2,
                crc: 0,
                attributes: Attributes::default()
                    .with_compression_id(options.compression.id())
                    .with_timestamp_type(options.timestamp_type)
                    .with_transactional(options.is_transactional)
                    .with_control(options.is_control),
                last_offset_delta: self.last_offset_delta.max(0),
                base_timestamp: self.base_timestamp,
                max_timestamp: self.max_timestamp,
                producer_id: options.producer_id,
                producer_epoch: options.producer_epoch,
                base_sequence: options.base_sequence,
                records_count: self.count,
            },
            &payload,
        )
    }
}

/// Joins header and payload; length and CRC are computed.
pub fn assemble(mut header: BatchHeader, payload: &[u8]) -> Bytes {
    header.batch_length = (BATCH_HEADER_LEN - LOG_OVERHEAD + payload.len()) as i32;
    let mut bytes = vec![0; BATCH_HEADER_LEN + payload.len()];
    bytes[BATCH_HEADER_LEN..].copy_from_slice(payload);
    seal(&mut header, &mut bytes);
    Bytes::from(bytes)
}

/// As [`assemble`], in place: the payload lies in `bytes` behind room for a header. Gives the header that is there then.
pub fn assemble_in_place(mut header: BatchHeader, bytes: &mut [u8]) -> BatchHeader {
    header.batch_length = (bytes.len() - LOG_OVERHEAD) as i32;
    seal(&mut header, bytes);
    header
}

/// Writes the header over `bytes` with the CRC that they then have.
pub(super) fn seal(header: &mut BatchHeader, bytes: &mut [u8]) {
    header.encode(bytes);
    header.crc = crc32c::crc32c(&bytes[ATTRIBUTES_AT..]);
    header.encode(bytes);
}
