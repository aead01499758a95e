//! `.snapshot`: Kafka's ProducerSnapshot, version 1.
//!
//! | at | field                    | type |                                              |
//! |----|--------------------------|------|----------------------------------------------|
//! |  0 | version                  | i16  | 1                                            |
//! |  2 | CRC-32C                  | u32  | of all that follows this field               |
//! |  6 | entries                  | i32  | count, then each:                            |
//! |  + | producer id              | i64  |                                              |
//! |  + | producer epoch           | i16  |                                              |
//! |  + | last sequence            | i32  | -1: no batch in this epoch                   |
//! |  + | last offset              | i64  | -1: no batch in this epoch                   |
//! |  + | offset delta             | i32  | of the last batch                            |
//! |  + | timestamp                | i64  | of the last append                           |
//! |  + | coordinator epoch        | i32  | -1: no marker                                |
//! |  + | current txn first offset | i64  | -1: none open                                |
//!
//! Of a producer's batches only the last is kept, as in Kafka: a retry of an older one after a restart is a gap.

use super::entry::{BatchMetadata, ProducerStateEntry};
use crate::types::{NO_SEQUENCE, Offset};

const VERSION: i16 = 1;
const CRC_AT: usize = 2;
const ENTRIES_AT: usize = 6;
const HEADER_LEN: usize = 10;
const ENTRY_LEN: usize = 46;
const NO_OFFSET: Offset = -1;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SnapshotError {
    #[error("the producer snapshot has {0} bytes, too few")]
    Truncated(usize),
    #[error("producer snapshot version {0}, expected {VERSION}")]
    Version(i16),
    #[error("the producer snapshot's CRC-32C is {computed:#010x}, it says {stored:#010x}")]
    Crc { stored: u32, computed: u32 },
    #[error("the producer snapshot says {count} entries, it has {bytes} bytes of them")]
    Count { count: i32, bytes: usize },
}

/// Entries are written in the order given.
pub fn encode<'a>(entries: impl ExactSizeIterator<Item = &'a ProducerStateEntry>) -> Vec<u8> {
    let mut out = Vec::with_capacity(HEADER_LEN + entries.len() * ENTRY_LEN);
    out.extend_from_slice(&VERSION.to_be_bytes());
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&(entries.len() as i32).to_be_bytes());
    for entry in entries {
        let last = entry.last_batch();
        out.extend_from_slice(&entry.producer_id.to_be_bytes());
        out.extend_from_slice(&entry.producer_epoch.to_be_bytes());
        out.extend_from_slice(&last.map_or(NO_SEQUENCE, |b| b.last_sequence).to_be_bytes());
        out.extend_from_slice(&last.map_or(NO_OFFSET, |b| b.last_offset).to_be_bytes());
        out.extend_from_slice(&last.map_or(0, |b| b.offset_delta).to_be_bytes());
        out.extend_from_slice(&entry.last_append_ms.to_be_bytes());
        out.extend_from_slice(&entry.coordinator_epoch.to_be_bytes());
        let first = entry.current_txn_first_offset.unwrap_or(NO_OFFSET);
        out.extend_from_slice(&first.to_be_bytes());
    }
    let crc = crc32c::crc32c(&out[ENTRIES_AT..]);
    out[CRC_AT..ENTRIES_AT].copy_from_slice(&crc.to_be_bytes());
    out
}

fn take<const N: usize>(bytes: &mut &[u8]) -> [u8; N] {
    let (head, rest) = bytes
        .split_first_chunk::<N>()
        .expect("the entry's length was checked");
    *bytes = rest;
    *head
}

pub fn decode(bytes: &[u8]) -> Result<Vec<ProducerStateEntry>, SnapshotError> {
    if bytes.len() < HEADER_LEN {
        return Err(SnapshotError::Truncated(bytes.len()));
    }
    let mut head = bytes;
    let version = i16::from_be_bytes(take(&mut head));
    if version != VERSION {
        return Err(SnapshotError::Version(version));
    }
    let stored = u32::from_be_bytes(take(&mut head));
    let computed = crc32c::crc32c(&bytes[ENTRIES_AT..]);
    if stored != computed {
        return Err(SnapshotError::Crc { stored, computed });
    }
    let count = i32::from_be_bytes(take(&mut head));
    if !usize::try_from(count).is_ok_and(|n| n.checked_mul(ENTRY_LEN) == Some(head.len())) {
        return Err(SnapshotError::Count {
            count,
            bytes: head.len(),
        });
    }
    Ok(head.chunks_exact(ENTRY_LEN).map(decode_entry).collect())
}

fn decode_entry(mut bytes: &[u8]) -> ProducerStateEntry {
    let bytes = &mut bytes;
    let mut entry = ProducerStateEntry::unknown(i64::from_be_bytes(take(bytes)));
    entry.producer_epoch = i16::from_be_bytes(take(bytes));
    let last_sequence = i32::from_be_bytes(take(bytes));
    let last_offset = i64::from_be_bytes(take(bytes));
    let offset_delta = i32::from_be_bytes(take(bytes));
    entry.last_append_ms = i64::from_be_bytes(take(bytes));
    entry.coordinator_epoch = i32::from_be_bytes(take(bytes));
    let first = i64::from_be_bytes(take(bytes));
    entry.current_txn_first_offset = (first >= 0).then_some(first);
    let timestamp = entry.last_append_ms;
    entry.with_batch((last_offset >= 0).then_some(BatchMetadata {
        last_sequence,
        last_offset,
        offset_delta,
        timestamp,
    }))
}
