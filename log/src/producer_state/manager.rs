//! All producers of one partition: Kafka's ProducerStateManager, without its files.
//!
//! Always: an entry's open transaction is in `ongoing`, and only such; `map_end_offset` is the offset up to which
//! batches have been taken. Batches are taken in offset order.

use std::collections::BTreeMap;

use super::appends::ProducerAppends;
use super::entry::{Check, ProducerError, ProducerStateEntry};
use super::snapshot::{self, SnapshotError};
use crate::record::{Batch, BatchError, BatchHeader, ControlRecordType, EndTxnMarker};
use crate::txn_index::AbortedTxn;
use crate::types::{Offset, ProducerId, TimestampMs};

/// A transaction that a marker has ended on this partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CompletedTxn {
    pub producer_id: ProducerId,
    pub first_offset: Offset,
    /// The marker.
    pub last_offset: Offset,
    pub is_aborted: bool,
    /// Where the last stable offset goes once the marker is committed.
    pub last_stable_offset: Offset,
}

impl CompletedTxn {
    /// The entry for the transaction index, if it was aborted.
    pub fn aborted(&self) -> Option<AbortedTxn> {
        self.is_aborted.then_some(AbortedTxn {
            producer_id: self.producer_id,
            first_offset: self.first_offset,
            last_offset: self.last_offset,
            last_stable_offset: self.last_stable_offset,
        })
    }
}

#[derive(Clone, Debug)]
pub struct ProducerStateManager {
    producers: BTreeMap<ProducerId, ProducerStateEntry>,
    /// First offsets of open transactions.
    ongoing: BTreeMap<Offset, ProducerId>,
    /// First offsets and markers of ended transactions whose marker is not below the high watermark yet.
    unreplicated: BTreeMap<Offset, Offset>,
    map_end_offset: Offset,
    /// No entry was appended to before this; spares scans that would expire nothing.
    oldest_append_ms: TimestampMs,
}

impl Default for ProducerStateManager {
    fn default() -> Self {
        Self::new(0)
    }
}

impl ProducerStateManager {
    /// Knows no producer; the first batch to come lies at `start_offset` or beyond.
    pub fn new(start_offset: Offset) -> Self {
        Self {
            producers: BTreeMap::new(),
            ongoing: BTreeMap::new(),
            unreplicated: BTreeMap::new(),
            map_end_offset: start_offset,
            oldest_append_ms: TimestampMs::MAX,
        }
    }

    /// Whether a client's data batch may be appended now. Without a producer id it always may.
    pub fn check(&self, header: &BatchHeader) -> Result<Check, ProducerError> {
        if !header.has_producer_id() {
            return Ok(Check::Append);
        }
        self.producers
            .get(&header.producer_id)
            .map_or(Ok(Check::Append), |entry| entry.check(header))
    }

    /// Whether a coordinator's marker may be appended now.
    pub fn check_marker(
        &self,
        header: &BatchHeader,
        marker: &EndTxnMarker,
    ) -> Result<(), ProducerError> {
        let Some(entry) = self.producers.get(&header.producer_id) else {
            return Ok(());
        };
        entry.check_epoch(header.producer_epoch)?;
        if marker.coordinator_epoch < entry.coordinator_epoch {
            return Err(ProducerError::TransactionCoordinatorFenced {
                producer_id: header.producer_id,
                epoch: marker.coordinator_epoch,
                current: entry.coordinator_epoch,
            });
        }
        Ok(())
    }

    /// Takes an appended data batch. `header` holds the offset that it was given. What is in the log is fact:
    /// nothing is checked.
    pub fn update(&mut self, header: &BatchHeader, append_ms: TimestampMs) {
        self.advance(header.next_offset());
        if !header.has_producer_id() || header.is_control() {
            return;
        }
        let entry = self.entry(header.producer_id);
        let open_before = entry.current_txn_first_offset;
        entry.append(header, append_ms);
        let open = entry.current_txn_first_offset;
        if let (None, Some(first)) = (open_before, open) {
            self.ongoing.insert(first, header.producer_id);
        }
        self.oldest_append_ms = self.oldest_append_ms.min(append_ms);
    }

    /// Takes an appended marker, whose offset is its batch's. Gives the transaction that it ended, if there was one.
    pub fn end_txn(
        &mut self,
        header: &BatchHeader,
        marker: &EndTxnMarker,
        append_ms: TimestampMs,
    ) -> Option<CompletedTxn> {
        self.advance(header.next_offset());
        let entry = self.entry(header.producer_id);
        entry.set_epoch(header.producer_epoch);
        entry.coordinator_epoch = marker.coordinator_epoch;
        entry.last_append_ms = append_ms;
        let first_offset = entry.current_txn_first_offset.take();
        self.oldest_append_ms = self.oldest_append_ms.min(append_ms);
        let first_offset = first_offset?;
        let last_offset = header.last_offset();
        self.ongoing.remove(&first_offset);
        self.unreplicated.insert(first_offset, last_offset);
        let last_stable_offset = self
            .first_ongoing()
            .unwrap_or_else(|| last_offset.saturating_add(1));
        Some(CompletedTxn {
            producer_id: header.producer_id,
            first_offset,
            last_offset,
            is_aborted: marker.control_type == ControlRecordType::Abort,
            last_stable_offset,
        })
    }

    /// Takes any appended batch: what recovery and followers call. Fails only when a control batch does not parse.
    pub fn update_batch(
        &mut self,
        batch: &Batch,
        append_ms: TimestampMs,
    ) -> Result<Option<CompletedTxn>, BatchError> {
        if batch.header.is_control()
            && batch.header.has_producer_id()
            && let Some(marker) = EndTxnMarker::of_batch(batch)?
        {
            return Ok(self.end_txn(&batch.header, &marker, append_ms));
        }
        self.update(&batch.header, append_ms);
        Ok(None)
    }

    /// Takes what a successful write has appended.
    pub fn commit(&mut self, appends: ProducerAppends) {
        for (header, append_ms) in appends.into_batches() {
            self.update(&header, append_ms);
        }
    }

    fn entry(&mut self, producer_id: ProducerId) -> &mut ProducerStateEntry {
        self.producers
            .entry(producer_id)
            .or_insert_with(|| ProducerStateEntry::unknown(producer_id))
    }

    fn advance(&mut self, end_offset: Offset) {
        self.map_end_offset = self.map_end_offset.max(end_offset);
    }

    /// Batches below this have been taken.
    pub fn map_end_offset(&self) -> Offset {
        self.map_end_offset
    }

    /// The log went on to `end_offset` without records of producers.
    pub fn set_map_end_offset(&mut self, end_offset: Offset) {
        self.map_end_offset = end_offset;
    }

    pub fn get(&self, producer_id: ProducerId) -> Option<&ProducerStateEntry> {
        self.producers.get(&producer_id)
    }

    /// All producers, by id.
    pub fn entries(&self) -> impl ExactSizeIterator<Item = &ProducerStateEntry> {
        self.producers.values()
    }

    pub fn len(&self) -> usize {
        self.producers.len()
    }

    pub fn is_empty(&self) -> bool {
        self.producers.is_empty()
    }

    fn first_ongoing(&self) -> Option<Offset> {
        self.ongoing.first_key_value().map(|(first, _)| *first)
    }

    /// The first offset of the earliest transaction that is open, or whose end is not committed.
    pub fn first_unstable_offset(&self) -> Option<Offset> {
        let unreplicated = self.unreplicated.first_key_value().map(|(first, _)| *first);
        match (self.first_ongoing(), unreplicated) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }

    /// Markers below the high watermark are committed.
    pub fn on_high_watermark(&mut self, high_watermark: Offset) {
        if !self.unreplicated.is_empty() {
            self.unreplicated.retain(|_, last| *last >= high_watermark);
        }
    }

    /// The log begins at `log_start_offset` now: ended transactions below it hold nothing back.
    pub fn on_log_start(&mut self, log_start_offset: Offset) {
        if !self.unreplicated.is_empty() {
            self.unreplicated
                .retain(|_, last| *last >= log_start_offset);
        }
        self.advance(log_start_offset);
    }

    /// No producer's last append is older; `None` when there is none.
    pub fn oldest_append_ms(&self) -> Option<TimestampMs> {
        (!self.producers.is_empty()).then_some(self.oldest_append_ms)
    }

    /// Forgets producers without an open transaction that appended nothing for `expiration_ms`; tells which.
    pub fn expire(&mut self, now_ms: TimestampMs, expiration_ms: i64) -> Vec<ProducerId> {
        if now_ms.saturating_sub(self.oldest_append_ms) < expiration_ms {
            return Vec::new();
        }
        let mut expired = Vec::new();
        let mut oldest = TimestampMs::MAX;
        self.producers.retain(|id, entry| {
            let gone = entry.is_expired(now_ms, expiration_ms);
            if gone {
                expired.push(*id);
            } else {
                oldest = oldest.min(entry.last_append_ms);
            }
            !gone
        });
        self.oldest_append_ms = oldest;
        expired
    }

    /// Forgets everything: the log begins anew at `start_offset`.
    pub fn truncate_fully_and_start_at(&mut self, start_offset: Offset) {
        *self = Self::new(start_offset);
    }

    /// The state as a `.snapshot` file holds it.
    pub fn encode_snapshot(&self) -> Vec<u8> {
        snapshot::encode(self.producers.values())
    }

    /// Replaces the state by that of a `.snapshot` file taken at `end_offset`, less what has expired since.
    /// On an error the state is as it was.
    pub fn load_snapshot(
        &mut self,
        bytes: &[u8],
        end_offset: Offset,
        now_ms: TimestampMs,
        expiration_ms: i64,
    ) -> Result<(), SnapshotError> {
        let mut loaded = Self::new(end_offset);
        for entry in snapshot::decode(bytes)? {
            if entry.is_expired(now_ms, expiration_ms) {
                continue;
            }
            if let Some(first) = entry.current_txn_first_offset {
                loaded.ongoing.insert(first, entry.producer_id);
            }
            loaded.oldest_append_ms = loaded.oldest_append_ms.min(entry.last_append_ms);
            loaded.producers.insert(entry.producer_id, entry);
        }
        *self = loaded;
        Ok(())
    }
}
