//! What a log must hold: every batch of its history, byte for byte, and what of it is promised.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::log::{LeaderAppend, Log};
use crate::record::{Batch, DecodeLimit, batches_of};
use crate::types::{LeaderEpoch, Offset, ProducerId, TimestampMs};

#[derive(Clone, Debug)]
pub struct ModelBatch {
    pub base: Offset,
    /// Exclusive.
    pub end: Offset,
    pub epoch: LeaderEpoch,
    pub bytes: Bytes,
}

/// A producer's last batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Producer {
    pub epoch: i16,
    pub last_sequence: i32,
    pub last_offset: Offset,
}

#[derive(Clone, Debug, Default)]
pub struct Model {
    /// All batches since the log was begun (or begun anew), also those that retention has taken.
    pub batches: Vec<ModelBatch>,
    /// Where the batches begin.
    pub origin: Offset,
    /// Where the log starts now.
    pub log_start: Offset,
    /// Promised: the log does not start below.
    pub log_start_safe: Offset,
    /// Promised: nothing below is lost.
    pub flushed: Offset,
    /// Every epoch that was assigned and where.
    pub epochs: BTreeMap<LeaderEpoch, Offset>,
    /// A crash within this change may also leave the empty log that begins there.
    pub or_anew_at: Option<Offset>,
}

impl Model {
    pub fn end(&self) -> Offset {
        self.batches.last().map_or(self.origin, |b| b.end)
    }

    pub fn append(&mut self, append: &LeaderAppend, epoch: LeaderEpoch) {
        let base = self.end();
        let batch = &append.batch.batch;
        let mut bytes = batch.patched_header(base, epoch).to_vec();
        bytes.extend_from_slice(&batch.bytes[crate::record::BATCH_HEADER_LEN..]);
        let end = base + i64::from(batch.header.last_offset_delta) + 1;
        self.note_epoch(epoch);
        self.batches.push(ModelBatch {
            base,
            end,
            epoch,
            bytes: bytes.into(),
        });
    }

    pub fn note_epoch(&mut self, epoch: LeaderEpoch) {
        let end = self.end();
        if self
            .epochs
            .last_key_value()
            .is_none_or(|(latest, _)| *latest < epoch)
        {
            self.epochs.insert(epoch, end);
        }
    }

    /// Drops the batches from the one that holds `offset` on.
    pub fn cut(&mut self, offset: Offset) {
        self.batches.retain(|b| b.end <= offset);
        let end = self.end();
        self.epochs.retain(|_, start| *start < end);
        self.flushed = self.flushed.min(end);
        self.log_start = self.log_start.min(end);
        self.log_start_safe = self.log_start_safe.min(end);
    }

    /// The last batches of all producers.
    pub fn producers(&self) -> BTreeMap<ProducerId, Producer> {
        let mut producers = BTreeMap::new();
        for batch in &self.batches {
            let header = Batch::parse(batch.bytes.clone())
                .expect("is a batch")
                .header;
            if header.has_producer_id() {
                producers.insert(
                    header.producer_id,
                    Producer {
                        epoch: header.producer_epoch,
                        last_sequence: header.last_sequence(),
                        last_offset: header.last_offset(),
                    },
                );
            }
        }
        producers
    }

    /// Holds a log that was opened after a crash against what may be left, and takes over what is. Tells how many batches
    /// were read and how many are lost.
    pub fn take_over(&mut self, log: &Log) -> (u64, u64) {
        let end = log.log_end_offset();
        let start = log.log_start_offset();
        let is_boundary =
            |model: &Self| end == model.origin || model.batches.iter().any(|b| b.end == end);
        let anew = self.or_anew_at.take().is_some();
        if start == end && self.flushed == 0 {
            // Also the folder's name may be lost.
            self.log_start_safe = 0;
        }
        if start == end
            && (anew || !is_boundary(self) && (self.flushed == 0 || end <= self.log_start))
        {
            // Everything was dropped, or the log start is beyond all that is left.
            assert!(
                end >= self.flushed,
                "flushed up to {}, the log is empty at {end}",
                self.flushed
            );
            self.begin_anew(end);
        }
        assert!(
            end >= self.flushed,
            "flushed up to {}, the log ends at {end}",
            self.flushed
        );
        assert!(
            end <= self.end(),
            "the log ends at {end}, written was up to {}",
            self.end()
        );
        assert!(is_boundary(self), "the log ends at {end}, within a batch");
        assert!(
            start >= self.log_start_safe,
            "the log starts at {start}, it had started at {}",
            self.log_start_safe
        );
        assert!(
            start <= self.log_start.max(self.origin),
            "the log starts at {start}, at most {} is right",
            self.log_start
        );

        // What retention had taken may be back, in part.
        let must_be_there = self.log_start;
        let before = self.batches.len();
        self.cut(end);
        let lost = before - self.batches.len();
        self.log_start = start;
        self.log_start_safe = self.log_start_safe.min(start);
        let read = self.verify_from(log, must_be_there.min(end));
        self.flushed = log.recovery_point().min(end);
        (read, lost as u64)
    }

    pub fn begin_anew(&mut self, offset: Offset) {
        self.batches.clear();
        self.origin = offset;
        self.log_start = offset;
        self.log_start_safe = 0;
        self.flushed = 0;
        self.epochs.retain(|_, start| *start < offset);
    }

    /// Holds a log that nothing has happened to against the model. Tells how many batches were read.
    pub fn verify(&self, log: &Log) -> u64 {
        assert_eq!(log.log_end_offset(), self.end(), "log end");
        assert_eq!(log.log_start_offset(), self.log_start, "log start");
        self.verify_from(log, self.log_start)
    }

    /// Below `complete_from`, batches may be missing.
    fn verify_from(&self, log: &Log, complete_from: Offset) -> u64 {
        let found = read_all(log);
        let mut expected = self.batches.iter().peekable();
        for batch in &found {
            let base = batch.header.base_offset;
            while let Some(missing) = expected.next_if(|b| b.base < base) {
                assert!(
                    missing.end <= complete_from || missing.end <= log.local_log_start_offset(),
                    "the batch at {} is missing, {complete_from} and beyond must be there",
                    missing.base
                );
            }
            let right = expected
                .next()
                .unwrap_or_else(|| panic!("a batch at {base} that was never written"));
            assert_eq!(
                right.base, base,
                "a batch at {base} that was never written there"
            );
            assert_eq!(right.bytes, batch.bytes, "other bytes at {base}");
        }
        if let Some(missing) = expected.find(|b| b.end > complete_from) {
            panic!("the batch at {} is missing", missing.base);
        }
        self.verify_producers(log);
        self.verify_epochs(log);
        verify_searches(log, &found);
        found.len() as u64
    }

    fn verify_producers(&self, log: &Log) {
        let known: BTreeMap<_, _> = log
            .producers()
            .into_iter()
            .map(|p| {
                let last = p.last_batch().copied();
                (
                    p.producer_id,
                    (
                        p.producer_epoch,
                        last.map(|b| (b.last_sequence, b.last_offset)),
                    ),
                )
            })
            .collect();
        let expected = self.producers();
        for (id, producer) in &expected {
            match known.get(id) {
                Some(found) => assert_eq!(
                    *found,
                    (
                        producer.epoch,
                        Some((producer.last_sequence, producer.last_offset))
                    ),
                    "producer {id}"
                ),
                None => assert!(
                    producer.last_offset < log.local_log_start_offset(),
                    "producer {id} is forgotten, its last batch ends at {}",
                    producer.last_offset
                ),
            }
        }
        for id in known.keys() {
            assert!(expected.contains_key(id), "producer {id} never wrote");
        }
    }

    fn verify_epochs(&self, log: &Log) {
        let entries = log.epoch_entries();
        for entry in &entries {
            let assigned = self.epochs.get(&entry.epoch).copied();
            let log_start = log.log_start_offset();
            assert!(
                assigned.is_some_and(|at| (at..=at.max(log_start)).contains(&entry.start_offset)),
                "epoch {entry:?}, assigned was {assigned:?}, the log starts at {}",
                log.log_start_offset()
            );
        }
        for batch in self
            .batches
            .iter()
            .filter(|b| b.base >= log.local_log_start_offset())
        {
            assert_eq!(
                log.epoch_for_offset(batch.base),
                Some(batch.epoch),
                "epoch at {}",
                batch.base
            );
        }
    }
}

/// All batches from the log start to its end, read in small pieces.
fn read_all(log: &Log) -> Vec<Batch> {
    let (mut from, end) = (log.log_start_offset(), log.log_end_offset());
    let mut all: Vec<Batch> = Vec::new();
    while from < end {
        let read = log
            .read(from, end, 1_000, true)
            .unwrap_or_else(|e| panic!("reading at {from}: {e}"));
        assert!(!read.is_empty(), "nothing at {from}, the log ends at {end}");
        let mut bytes = Vec::new();
        for slice in &read.slices {
            bytes.extend_from_slice(&slice.read_to_bytes().expect("reads"));
        }
        let before = from;
        for batch in batches_of(bytes.into()).map_while(Result::ok) {
            batch.verify_crc().expect("is whole");
            from = batch.header.next_offset();
            all.push(batch);
        }
        assert!(from > before, "no whole batch at {from}");
    }
    all
}

/// Searches by offset and time find what a walk finds.
fn verify_searches(log: &Log, batches: &[Batch]) {
    let start = log.log_start_offset();
    for batch in batches.iter().rev().take(20) {
        for offset in [batch.header.base_offset, batch.header.last_offset()] {
            let read = log
                .read(offset.max(start), log.log_end_offset(), 1, true)
                .expect("reads");
            let bytes = read.slices[0].read_to_bytes().expect("reads");
            let found = Batch::parse(bytes).expect("is whole").header;
            assert_eq!(
                found.base_offset, batch.header.base_offset,
                "reading at {offset}"
            );
        }
    }
    let records: Vec<(Offset, TimestampMs)> = batches
        .iter()
        .flat_map(|b| b.records(DecodeLimit::default()).expect("opens"))
        .map(|r| r.expect("is whole"))
        .map(|r| (r.offset, r.timestamp))
        .filter(|(offset, _)| *offset >= start)
        .collect();
    let times = records.iter().map(|(_, t)| *t);
    let (low, high) = (times.clone().min().unwrap_or(0), times.max().unwrap_or(0));
    for i in 0..8 {
        let time = low + (high - low + 2) * i / 7;
        let expected = records.iter().find(|(_, t)| *t >= time).map(|(o, _)| *o);
        let found = log
            .offset_for_timestamp(time)
            .expect("searches")
            .map(|f| f.offset);
        assert_eq!(found, expected, "the first record at or after {time}");
    }
    let newest = records
        .iter()
        .max_by_key(|(offset, t)| (*t, -offset))
        .map(|(o, _)| *o);
    let found = log
        .offset_for_max_timestamp()
        .expect("searches")
        .map(|f| f.offset);
    assert_eq!(found, newest, "the newest record");
}
