//! The index section of a segment object: where offsets and times lie, and what a reader must know beside the bytes.
//!
//! | section | kind | item |
//! |---|---|---|
//! | offset index | 1 | offset i64, position u64 |
//! | time index | 2 | largest timestamp before that offset's batch i64, offset i64 |
//! | aborted transactions | 3 | Kafka's .txnindex entry: version i16 = 0, producer id i64, first offset i64, last offset i64, last stable offset i64 |
//! | producer snapshot | 4 | Kafka's .snapshot file at the range's end, as it is |
//! | leader epochs | 5 | epoch i32, start offset i64 |
//!
//! Always holds: the first two have an item for the same batches, the first batch among them, in rising order.
//! Positions count from the start of the range's log bytes. Sections of unknown kinds are skipped.

use bytes::{BufMut, Bytes};
pub use strandline_log::leader_epoch::EpochEntry;
use strandline_log::txn_index::ABORTED_TXN_LEN;
pub use strandline_log::txn_index::AbortedTxn;
use strandline_log::{Offset, TimestampMs};

use super::bytes_io::{FormatError, Reader};

pub const OFFSET_INDEX: u16 = 1;
pub const TIME_INDEX: u16 = 2;
pub const ABORTED_TXNS: u16 = 3;
pub const PRODUCER_SNAPSHOT: u16 = 4;
pub const LEADER_EPOCHS: u16 = 5;

const INDEX_ITEM_LEN: usize = 16;
const EPOCH_ITEM_LEN: usize = 12;

/// A batch's base offset, and its position in the range's log bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OffsetPosition {
    pub offset: Offset,
    pub position: u64,
}

/// The decoded index section. The two large indexes stay encoded: lookups bisect the bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SegmentIndexes {
    pub(super) offset_index: Bytes,
    pub(super) time_index: Bytes,
    pub aborted_txns: Vec<AbortedTxn>,
    /// Empty when the range was uploaded without one.
    pub producer_snapshot: Bytes,
    pub leader_epochs: Vec<EpochEntry>,
}

impl SegmentIndexes {
    /// Where to start scanning for an offset: the last indexed batch at or below it, else the first batch.
    pub fn position_for(&self, offset: Offset) -> OffsetPosition {
        let after = partition_point(&self.offset_index, |base, _| base <= offset);
        self.batch_at(after.saturating_sub(1))
    }

    /// The first indexed position behind `position`: how far a scan from there must read at most to meet the batch.
    pub fn next_position_after(&self, position: u64) -> Option<u64> {
        let after = partition_point(&self.offset_index, |_, p| p as u64 <= position);
        (after < self.offset_index.len() / INDEX_ITEM_LEN).then(|| self.batch_at(after).position)
    }

    /// The last indexed batch that begins at or before a position: where a read of whole batches may end.
    pub fn batch_at_or_before(&self, position: u64) -> OffsetPosition {
        let after = partition_point(&self.offset_index, |_, p| p as u64 <= position);
        self.batch_at(after.saturating_sub(1))
    }

    /// Where to start scanning for the first batch whose timestamps reach `timestamp`: all before is older.
    pub fn position_for_timestamp(&self, timestamp: TimestampMs) -> OffsetPosition {
        let after = partition_point(&self.time_index, |max_before, _| max_before < timestamp);
        self.batch_at(after.saturating_sub(1))
    }

    /// Aborted transactions that touch [from, to).
    pub fn aborted_in(&self, from: Offset, to: Offset) -> Vec<AbortedTxn> {
        self.aborted_txns
            .iter()
            .filter(|txn| txn.first_offset < to && txn.last_offset >= from)
            .copied()
            .collect()
    }

    pub fn indexed_batches(&self) -> usize {
        self.offset_index.len() / INDEX_ITEM_LEN
    }

    /// What a cache should count for it.
    pub fn bytes(&self) -> usize {
        self.offset_index.len()
            + self.time_index.len()
            + self.producer_snapshot.len()
            + self.aborted_txns.len() * ABORTED_TXN_LEN
            + self.leader_epochs.len() * EPOCH_ITEM_LEN
    }

    fn batch_at(&self, i: usize) -> OffsetPosition {
        let (offset, position) = item(&self.offset_index, i);
        OffsetPosition {
            offset,
            position: position as u64,
        }
    }

    /// The sections that are there, in the order of their kinds.
    pub(super) fn encode(&self) -> Vec<(u16, Bytes)> {
        let mut aborted = Vec::with_capacity(self.aborted_txns.len() * ABORTED_TXN_LEN);
        for txn in &self.aborted_txns {
            aborted.extend_from_slice(&txn.encode());
        }
        let mut epochs = Vec::with_capacity(self.leader_epochs.len() * EPOCH_ITEM_LEN);
        for entry in &self.leader_epochs {
            epochs.put_i32(entry.epoch);
            epochs.put_i64(entry.start_offset);
        }
        let mut sections = vec![
            (OFFSET_INDEX, self.offset_index.clone()),
            (TIME_INDEX, self.time_index.clone()),
            (ABORTED_TXNS, aborted.into()),
            (PRODUCER_SNAPSHOT, self.producer_snapshot.clone()),
            (LEADER_EPOCHS, epochs.into()),
        ];
        sections.retain(|(_, bytes)| !bytes.is_empty());
        sections
    }

    /// Takes one section, already checked against its CRC.
    pub(super) fn decode_section(&mut self, kind: u16, bytes: Bytes) -> Result<(), FormatError> {
        let malformed = |what, why| FormatError::Malformed { what, why };
        match kind {
            OFFSET_INDEX | TIME_INDEX => {
                let what = if kind == OFFSET_INDEX {
                    "an offset index"
                } else {
                    "a time index"
                };
                if !bytes.len().is_multiple_of(INDEX_ITEM_LEN) {
                    return Err(malformed(what, "it ends within an item"));
                }
                let rising = (1..bytes.len() / INDEX_ITEM_LEN).all(|i| {
                    let (before, here) = (item(&bytes, i - 1), item(&bytes, i));
                    if kind == OFFSET_INDEX {
                        before.0 < here.0 && (before.1 as u64) < here.1 as u64
                    } else {
                        before.0 <= here.0 && before.1 < here.1
                    }
                });
                if !rising {
                    return Err(malformed(what, "its items do not rise"));
                }
                if kind == OFFSET_INDEX {
                    self.offset_index = bytes;
                } else {
                    self.time_index = bytes;
                }
            }
            ABORTED_TXNS => {
                let mut reader = Reader::new("an aborted transaction index", bytes);
                while reader.remaining() > 0 {
                    let item = reader.take(ABORTED_TXN_LEN)?;
                    let txn = AbortedTxn::decode(&item)
                        .map_err(|_| reader.malformed("an item has an unknown version"))?;
                    self.aborted_txns.push(txn);
                }
            }
            PRODUCER_SNAPSHOT => self.producer_snapshot = bytes,
            LEADER_EPOCHS => {
                let mut reader = Reader::new("a leader epoch section", bytes);
                while reader.remaining() > 0 {
                    self.leader_epochs.push(EpochEntry {
                        epoch: reader.i32()?,
                        start_offset: reader.i64()?,
                    });
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// What lookups rely on.
    pub(super) fn check(&self) -> Result<(), FormatError> {
        let batches = self.indexed_batches();
        let same = batches == self.time_index.len() / INDEX_ITEM_LEN
            && (0..batches).all(|i| item(&self.offset_index, i).0 == item(&self.time_index, i).1);
        if batches == 0 || !same || item(&self.offset_index, 0).1 != 0 {
            return Err(FormatError::Malformed {
                what: "an index section",
                why: "its offset and time indexes do not belong together",
            });
        }
        Ok(())
    }
}

/// Collects both indexes while batches pass by.
#[derive(Debug, Default)]
pub(super) struct IndexBuilder {
    offset_index: Vec<u8>,
    time_index: Vec<u8>,
    next_position: u64,
    max_timestamp: Option<TimestampMs>,
}

impl IndexBuilder {
    /// Batches must come in order; one item is made per `interval` bytes.
    pub(super) fn batch(
        &mut self,
        base_offset: Offset,
        position: u64,
        max_timestamp: TimestampMs,
        interval: u64,
    ) {
        if self.offset_index.is_empty() || position >= self.next_position {
            self.offset_index.put_i64(base_offset);
            self.offset_index.put_u64(position);
            self.time_index
                .put_i64(self.max_timestamp.unwrap_or(TimestampMs::MIN));
            self.time_index.put_i64(base_offset);
            self.next_position = position.saturating_add(interval.max(1));
        }
        self.max_timestamp = self.max_timestamp.max(Some(max_timestamp));
    }

    pub(super) fn finish(self) -> SegmentIndexes {
        SegmentIndexes {
            offset_index: self.offset_index.into(),
            time_index: self.time_index.into(),
            ..SegmentIndexes::default()
        }
    }
}

fn item(index: &[u8], i: usize) -> (i64, i64) {
    let half = |at: usize| {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&index[at..at + 8]);
        i64::from_be_bytes(bytes)
    };
    (half(i * INDEX_ITEM_LEN), half(i * INDEX_ITEM_LEN + 8))
}

/// How many items from the start satisfy a predicate that holds for a prefix of them.
fn partition_point(index: &[u8], holds: impl Fn(i64, i64) -> bool) -> usize {
    let (mut low, mut high) = (0, index.len() / INDEX_ITEM_LEN);
    while low < high {
        let middle = (low + high) / 2;
        let (a, b) = item(index, middle);
        if holds(a, b) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    low
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lookups_start_at_the_last_batch_that_cannot_be_skipped() {
        let mut builder = IndexBuilder::default();
        // Time goes backwards at offset 20; the interval of 100 skips the batch at position 150.
        for (base, position, max_timestamp) in [
            (5, 0, 1_000),
            (10, 100, 3_000),
            (15, 150, 2_000),
            (20, 250, 2_500),
            (30, 400, 4_000),
        ] {
            builder.batch(base, position, max_timestamp, 100);
        }
        let indexes = builder.finish();
        indexes.check().expect("consistent");
        assert_eq!(indexes.indexed_batches(), 4);
        for (offset, expected) in [
            (0, 0),
            (5, 0),
            (9, 0),
            (10, 100),
            (17, 100),
            (20, 250),
            (99, 400),
        ] {
            assert_eq!(
                indexes.position_for(offset).position,
                expected,
                "offset {offset}"
            );
        }
        for (timestamp, expected) in [
            (i64::MIN, 0),
            (1_000, 0),
            (1_001, 100),
            (3_000, 100),
            (3_001, 400),
            (9_000, 400),
        ] {
            assert_eq!(
                indexes.position_for_timestamp(timestamp).position,
                expected,
                "timestamp {timestamp}"
            );
        }
        assert_eq!(indexes.next_position_after(0), Some(100));
        assert_eq!(indexes.next_position_after(100), Some(250));
        assert_eq!(indexes.next_position_after(400), None);
    }

    #[test]
    fn aborted_transactions_overlap_by_their_whole_span() {
        let txn = |first_offset, last_offset| AbortedTxn {
            producer_id: 1,
            first_offset,
            last_offset,
            last_stable_offset: 0,
        };
        let indexes = SegmentIndexes {
            aborted_txns: vec![txn(0, 9), txn(5, 25), txn(30, 40)],
            ..SegmentIndexes::default()
        };
        assert_eq!(indexes.aborted_in(10, 30), vec![txn(5, 25)]);
        assert_eq!(indexes.aborted_in(25, 31), vec![txn(5, 25), txn(30, 40)]);
    }
}
