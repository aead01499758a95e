//! Sequences, epochs, transactions and expiry by tables; the snapshot against Kafka's bytes.

use std::collections::BTreeSet;
use std::fs;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::snapshot::{decode, encode};
use super::*;
use crate::record::{
    Attributes, Batch, BatchHeader, ControlRecordType, EndTxnMarker, MAGIC_V2, increment_sequence,
};
use crate::types::{Offset, ProducerEpoch, ProducerId};

const P: ProducerId = 7;

fn batch(epoch: ProducerEpoch, sequence: i32, count: i32, base_offset: Offset) -> BatchHeader {
    BatchHeader {
        base_offset,
        batch_length: 100,
        partition_leader_epoch: 0,
        magic: MAGIC_V2,
        crc: 0,
        attributes: Attributes::default(),
        last_offset_delta: count - 1,
        base_timestamp: 0,
        max_timestamp: 0,
        producer_id: P,
        producer_epoch: epoch,
        base_sequence: sequence,
        records_count: count,
    }
}

fn transactional(mut header: BatchHeader) -> BatchHeader {
    header.attributes = header.attributes.with_transactional(true);
    header
}

/// A manager that took these batches: epoch, first sequence, count.
fn manager(batches: &[(ProducerEpoch, i32, i32)]) -> ProducerStateManager {
    let mut manager = ProducerStateManager::new(0);
    for (epoch, sequence, count) in batches {
        let at = manager.map_end_offset();
        manager.update(&batch(*epoch, *sequence, *count, at), 1000);
    }
    manager
}

#[derive(Debug, PartialEq)]
enum Answer {
    Append,
    Duplicate(Offset, Offset),
    Gap,
    Fenced,
}

fn answer(check: Result<Check, ProducerError>) -> Answer {
    match check {
        Ok(Check::Append) => Answer::Append,
        Ok(Check::Duplicate(b)) => Answer::Duplicate(b.base_offset(), b.last_offset),
        Err(ProducerError::OutOfOrderSequence { .. }) => Answer::Gap,
        Err(ProducerError::InvalidProducerEpoch { .. }) => Answer::Fenced,
        Err(other) => panic!("{other}"),
    }
}

#[test]
fn sequences_are_held_as_kafka_holds_them() {
    use Answer::{Append, Duplicate, Fenced, Gap};
    type Batches<'a> = &'a [(ProducerEpoch, i32, i32)];
    let six: Batches<'_> = &[
        (0, 0, 2),
        (0, 2, 2),
        (0, 4, 2),
        (0, 6, 2),
        (0, 8, 2),
        (0, 10, 2),
    ];
    let table: &[(Batches<'_>, (ProducerEpoch, i32, i32), Answer)] = &[
        // Unknown: anything goes.
        (&[], (0, 0, 1), Append),
        (&[], (5, 1234, 3), Append),
        // Known: the next one, and nothing else.
        (&[(0, 10, 3)], (0, 13, 1), Append),
        (&[(0, 10, 3)], (0, 14, 1), Gap),
        (&[(0, 10, 3)], (0, 12, 1), Gap),
        (&[(0, 10, 3)], (0, 0, 1), Gap),
        // The very same batch is a duplicate, another length is not.
        (&[(0, 10, 3)], (0, 10, 3), Duplicate(0, 2)),
        (&[(0, 10, 3)], (0, 10, 2), Gap),
        // Five are remembered, the sixth is forgotten.
        (six, (0, 10, 2), Duplicate(10, 11)),
        (six, (0, 2, 2), Duplicate(2, 3)),
        (six, (0, 0, 2), Gap),
        // Around the end of 31 bits.
        (&[(0, i32::MAX, 1)], (0, 0, 1), Append),
        (&[(0, i32::MAX - 1, 4)], (0, 2, 1), Append),
        (
            &[(0, i32::MAX - 1, 4)],
            (0, i32::MAX - 1, 4),
            Duplicate(0, 3),
        ),
        (&[(0, i32::MAX, 1)], (0, 1, 1), Gap),
        // Epochs: a new one begins at 0, an old one is fenced.
        (&[(1, 10, 3)], (2, 0, 1), Append),
        (&[(1, 10, 3)], (2, 13, 1), Gap),
        (&[(1, 10, 3)], (0, 13, 1), Fenced),
        (&[(1, 10, 3)], (0, 10, 3), Fenced),
        // A batch of the old epoch is no duplicate in the new one.
        (&[(1, 0, 3), (2, 0, 3)], (2, 3, 1), Append),
        (&[(1, 0, 3), (2, 0, 1)], (2, 0, 3), Gap),
    ];
    for (before, (epoch, sequence, count), expected) in table {
        let header = batch(*epoch, *sequence, *count, 0);
        let manager = manager(before);
        assert_eq!(
            answer(manager.check(&header)),
            *expected,
            "{before:?} then {epoch} {sequence} {count}"
        );
        // The overlay of a write says the same.
        let mut appends = ProducerAppends::new();
        let empty = ProducerStateManager::new(0);
        let mut at = 0;
        for (epoch, sequence, count) in *before {
            appends.add(&empty, &batch(*epoch, *sequence, *count, at), 1000);
            at += i64::from(*count);
        }
        assert_eq!(answer(appends.check(&empty, &header)), *expected);
        let mut committed = empty;
        committed.commit(appends);
        assert_eq!(committed.entries().next(), manager.entries().next());
        assert_eq!(committed.map_end_offset(), at);
    }
}

#[test]
fn batches_without_a_producer_only_move_the_end() {
    let mut manager = ProducerStateManager::new(5);
    let mut header = batch(-1, -1, 3, 5);
    header.producer_id = -1;
    assert_eq!(manager.check(&header), Ok(Check::Append));
    manager.update(&header, 1);
    assert!(manager.is_empty());
    assert_eq!(manager.map_end_offset(), 8);
}

#[test]
fn a_write_that_failed_leaves_no_trace() {
    let manager = manager(&[(0, 0, 1)]);
    let mut appends = ProducerAppends::new();
    appends.add(&manager, &batch(0, 1, 1, 1), 1000);
    assert_eq!(
        answer(appends.check(&manager, &batch(0, 2, 1, 2))),
        Answer::Append
    );
    drop(appends);
    assert_eq!(answer(manager.check(&batch(0, 2, 1, 2))), Answer::Gap);
    assert_eq!(answer(manager.check(&batch(0, 1, 1, 1))), Answer::Append);
}

#[test]
fn expiry_goes_by_append_time_and_spares_open_transactions() {
    const NONE: [ProducerId; 0] = [];
    let mut manager = ProducerStateManager::new(0);
    for (id, append_ms) in [(1, 1000), (2, 2000), (3, 1000)] {
        let mut header = batch(0, 0, 1, id);
        header.producer_id = id;
        // A record's timestamp, however odd, has no say.
        header.max_timestamp = i64::MAX;
        if id == 3 {
            header = transactional(header);
        }
        manager.update(&header, append_ms);
    }
    assert_eq!(manager.expire(1999, 1000), NONE);
    assert_eq!(manager.expire(2000, 1000), [1]);
    assert_eq!(manager.expire(2000, 1000), NONE);
    assert_eq!(manager.expire(3000, 1000), [2]);
    assert_eq!(manager.expire(i64::MAX, 1000), NONE, "3 has a transaction");
    assert_eq!(manager.len(), 1);
}

#[test]
fn transactions_hold_the_first_unstable_offset() {
    let mut manager = ProducerStateManager::new(0);
    let with = |id: ProducerId, mut header: BatchHeader| {
        header.producer_id = id;
        header
    };
    assert_eq!(manager.first_unstable_offset(), None);
    manager.update(&with(1, transactional(batch(0, 0, 2, 0))), 1);
    manager.update(&with(2, transactional(batch(0, 0, 2, 2))), 1);
    manager.update(&with(1, transactional(batch(0, 2, 1, 4))), 1);
    assert_eq!(manager.first_unstable_offset(), Some(0));
    // A plain write amid a transaction is refused.
    assert_eq!(
        manager.check(&with(1, batch(0, 3, 1, 5))),
        Err(ProducerError::InvalidTxnState { producer_id: 1 })
    );
    let marker = |control_type, coordinator_epoch| EndTxnMarker {
        control_type,
        coordinator_epoch,
    };
    let end = |id, at| with(id, transactional(batch(0, -1, 1, at)));
    let abort = marker(ControlRecordType::Abort, 3);
    let done = manager.end_txn(&end(1, 5), &abort, 2).expect("was open");
    let expected = CompletedTxn {
        producer_id: 1,
        first_offset: 0,
        last_offset: 5,
        is_aborted: true,
        last_stable_offset: 2,
    };
    assert_eq!(done, expected);
    assert_eq!(done.aborted().expect("aborted").last_stable_offset, 2);
    // It holds until its marker is committed.
    assert_eq!(manager.first_unstable_offset(), Some(0));
    manager.on_high_watermark(5);
    assert_eq!(manager.first_unstable_offset(), Some(0));
    manager.on_high_watermark(6);
    assert_eq!(manager.first_unstable_offset(), Some(2));
    let commit = marker(ControlRecordType::Commit, 4);
    let done = manager.end_txn(&end(2, 6), &commit, 2).expect("was open");
    assert_eq!((done.last_stable_offset, done.aborted()), (7, None));
    assert_eq!(manager.end_txn(&end(2, 7), &commit, 2), None, "not again");
    manager.on_high_watermark(8);
    assert_eq!(manager.first_unstable_offset(), None);
    assert_eq!(manager.map_end_offset(), 8);
    // Zombies of coordinator and producer.
    assert!(matches!(
        manager.check_marker(&end(2, 8), &abort),
        Err(ProducerError::TransactionCoordinatorFenced { .. })
    ));
    let mut old = end(2, 8);
    old.producer_epoch = -1;
    assert!(matches!(
        manager.check_marker(&old, &commit),
        Err(ProducerError::InvalidProducerEpoch { .. })
    ));
    // A marker that raises the epoch makes the producer begin anew.
    let mut raise = end(2, 8);
    raise.producer_epoch = 1;
    manager.end_txn(&raise, &commit, 3);
    assert_eq!(
        answer(manager.check(&with(2, batch(1, 0, 1, 9)))),
        Answer::Append
    );
    assert_eq!(
        answer(manager.check(&with(2, batch(1, 2, 1, 9)))),
        Answer::Gap
    );
}

#[test]
fn recovery_takes_markers_and_data_alike() {
    let mut manager = ProducerStateManager::new(0);
    manager.update(&transactional(batch(0, 0, 3, 0)), 1);
    let marker = EndTxnMarker {
        control_type: ControlRecordType::Commit,
        coordinator_epoch: 2,
    };
    let bytes = marker.to_batch(P, 0, 3, 0, 55);
    let marker = Batch::parse(bytes).expect("a batch");
    let done = manager.update_batch(&marker, 9).expect("parses");
    assert_eq!(done.map(|d| d.first_offset), Some(0));
    let entry = manager.get(P).expect("known");
    assert_eq!((entry.coordinator_epoch, entry.last_append_ms), (2, 9));
    assert_eq!(entry.current_txn_first_offset, None);
}

/// Kafka 4.3.1: producer 7001 with a batch and a transaction, 7002 with neither.
const KAFKA_SNAPSHOT: &[u8] = b"\x00\x01\x31\xff\xd5\x59\x00\x00\x00\x02\
    \x00\x00\x00\x00\x00\x00\x1b\x59\x00\x03\x00\x00\x00\x2a\x00\x00\x00\x00\x00\x00\x00\x66\
    \x00\x00\x00\x02\x00\x00\x01\x8b\xcf\xe5\x68\x00\x00\x00\x00\x0c\x00\x00\x00\x00\x00\x00\x00\x5a\
    \x00\x00\x00\x00\x00\x00\x1b\x5a\x00\x00\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\
    \x00\x00\x00\x00\x00\x00\x01\x8b\xcf\xe5\x68\x01\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff";

#[test]
fn snapshots_are_kafkas_byte_for_byte() {
    let entries = decode(KAFKA_SNAPSHOT).expect("Kafka wrote it");
    assert_eq!(encode(entries.iter()), KAFKA_SNAPSHOT);
    assert_eq!(entries[0].producer_id, 7001);
    assert_eq!(entries[0].producer_epoch, 3);
    assert_eq!(entries[0].coordinator_epoch, 12);
    assert_eq!(entries[0].last_append_ms, 1_700_000_000_000);
    assert_eq!(entries[0].current_txn_first_offset, Some(90));
    let last = entries[0].last_batch().expect("one batch");
    assert_eq!((last.first_sequence(), last.last_sequence), (40, 42));
    assert_eq!((last.base_offset(), last.last_offset), (100, 102));
    assert_eq!(entries[1].last_batch(), None);
    let mut manager = ProducerStateManager::new(0);
    manager
        .load_snapshot(KAFKA_SNAPSHOT, 103, 1_700_000_000_005, 1000)
        .expect("loads");
    assert_eq!(manager.encode_snapshot(), KAFKA_SNAPSHOT);
    assert_eq!(manager.first_unstable_offset(), Some(90));
    assert_eq!(manager.map_end_offset(), 103);
    // Later, the idle one has expired and the open transaction stays.
    manager
        .load_snapshot(KAFKA_SNAPSHOT, 103, 1_800_000_000_000, 1000)
        .expect("loads");
    assert_eq!(manager.len(), 1);
}

#[test]
fn damaged_snapshots_are_refused_and_change_nothing() {
    let mut manager = manager(&[(0, 0, 1)]);
    let before = manager.encode_snapshot();
    let mut version = KAFKA_SNAPSHOT.to_vec();
    version[1] = 2;
    let mut flipped = KAFKA_SNAPSHOT.to_vec();
    flipped[20] ^= 1;
    let mut count = KAFKA_SNAPSHOT.to_vec();
    count[6..10].copy_from_slice(&i32::MAX.to_be_bytes());
    let crc = crc32c::crc32c(&count[6..]);
    count[2..6].copy_from_slice(&crc.to_be_bytes());
    for bad in [
        &b""[..],
        &KAFKA_SNAPSHOT[..9],
        &KAFKA_SNAPSHOT[..101],
        &version,
        &flipped,
        &count,
    ] {
        assert!(manager.load_snapshot(bad, 9, 0, 1).is_err());
        assert_eq!(manager.encode_snapshot(), before);
    }
    assert!(matches!(decode(&count), Err(SnapshotError::Count { .. })));
}

#[test]
fn snapshot_files_are_named_found_and_fallen_back_on() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut files = ProducerSnapshots::open(dir.path()).expect("lists");
    let mut manager = manager(&[(0, 0, 3)]);
    assert_eq!(files.take(&manager, true).expect("writes"), Some(3));
    assert_eq!(files.take(&manager, true).expect("is there"), None);
    manager.update(&batch(0, 3, 2, 3), 1000);
    assert_eq!(files.take(&manager, false).expect("writes"), Some(5));
    files.flush(5).expect("syncs");
    assert!(dir.path().join("00000000000000000003.snapshot").exists());
    fs::write(dir.path().join("5.snapshot"), "no").expect("writes");
    let mut files = ProducerSnapshots::open(dir.path()).expect("lists");
    assert_eq!(*files.offsets(), BTreeSet::from([3, 5]));

    let mut loaded = ProducerStateManager::new(0);
    let load = |files: &mut ProducerSnapshots, m: &mut ProducerStateManager, end| {
        files.load_latest(m, 0, end, 1000, 10_000).expect("reads")
    };
    assert_eq!(load(&mut files, &mut loaded, 9), 5);
    assert_eq!(answer(loaded.check(&batch(0, 5, 1, 5))), Answer::Append);
    assert_eq!(load(&mut files, &mut loaded, 4), 3, "the log ends before 5");
    assert_eq!(answer(loaded.check(&batch(0, 3, 1, 3))), Answer::Append);

    // A torn file: it goes, and the one before serves.
    fs::write(files.path_of(5), [0; 7]).expect("writes");
    assert_eq!(load(&mut files, &mut loaded, 9), 3);
    assert!(!files.path_of(5).exists());
    files.delete_above(2).expect("deletes");
    assert_eq!(load(&mut files, &mut loaded, 9), 0);
    assert!(loaded.is_empty());
    assert!(!files.path_of(3).exists());
}

#[test]
fn snapshots_go_with_their_segments() {
    let dir = tempfile::tempdir().expect("a folder");
    let filled = || {
        let mut files = ProducerSnapshots::open(dir.path()).expect("lists");
        for offset in [1, 5, 8, 9] {
            files.write(offset, KAFKA_SNAPSHOT, false).expect("writes");
        }
        files
    };
    let mut files = filled();
    files
        .delete_strays(&BTreeSet::from([0, 5]))
        .expect("deletes");
    assert_eq!(*files.offsets(), BTreeSet::from([5, 9]));
    let mut files = filled();
    files.delete_below(8).expect("deletes");
    assert_eq!(*files.offsets(), BTreeSet::from([8, 9]));
    files.delete_all().expect("deletes");
    assert_eq!(fs::read_dir(dir.path()).expect("lists").count(), 0);
}

proptest! {
    #[test]
    fn an_idempotent_client_is_stored_once_however_it_retries(
        counts in vec(1..20i32, 1..30),
        retries in vec(0..BATCHES_KEPT, 30),
        start in option::of(0..5i32),
    ) {
        let mut manager = ProducerStateManager::new(0);
        let mut sequence = start.map_or(0, |s| i32::MAX - s);
        let mut sent: Vec<BatchHeader> = Vec::new();
        for (count, back) in counts.into_iter().zip(retries) {
            let header = batch(0, sequence, count, manager.map_end_offset());
            prop_assert_eq!(manager.check(&header), Ok(Check::Append));
            manager.update(&header, 1);
            sent.push(header);
            sequence = increment_sequence(sequence, count);
            if let Some(again) = sent.iter().rev().nth(back) {
                prop_assert_eq!(
                    answer(manager.check(again)),
                    Answer::Duplicate(again.base_offset, again.last_offset())
                );
            }
            let gap = batch(0, increment_sequence(sequence, 1), 1, 0);
            prop_assert_eq!(answer(manager.check(&gap)), Answer::Gap);
        }
    }

    #[test]
    fn snapshots_round_trip(
        producers in vec((any::<i64>(), any::<i16>(), option::of((0..=i32::MAX, 0..i64::MAX, any::<i32>())),
            any::<i64>(), any::<i32>(), option::of(0..i64::MAX)), 0..20),
    ) {
        let entries: Vec<_> = producers
            .into_iter()
            .map(|(id, epoch, last, append_ms, coordinator_epoch, first)| {
                let mut entry = ProducerStateEntry::unknown(id);
                entry.producer_epoch = epoch;
                entry.last_append_ms = append_ms;
                entry.coordinator_epoch = coordinator_epoch;
                entry.current_txn_first_offset = first;
                entry.with_batch(last.map(|(last_sequence, last_offset, offset_delta)| {
                    BatchMetadata { last_sequence, last_offset, offset_delta, timestamp: append_ms }
                }))
            })
            .collect();
        prop_assert_eq!(decode(&encode(entries.iter())), Ok(entries));
    }

    #[test]
    fn mutated_snapshots_never_panic(
        changes in vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in any::<prop::sample::Index>(),
        fix_crc: bool,
    ) {
        let mut bytes = KAFKA_SNAPSHOT.to_vec();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if fix_crc {
            let crc = crc32c::crc32c(&bytes[6..]);
            bytes[2..6].copy_from_slice(&crc.to_be_bytes());
        }
        let mut manager = ProducerStateManager::new(0);
        if manager.load_snapshot(&bytes, 10, 0, i64::MAX).is_ok() {
            for entry in manager.entries() {
                let _ = entry.check(&batch(0, i32::MAX, i32::MAX, i64::MAX));
                for kept in entry.batches() {
                    let _ = (kept.first_sequence(), kept.base_offset());
                }
            }
            let _ = manager.expire(i64::MAX, 0);
        }
        bytes.truncate(cut.index(bytes.len()));
        let _ = decode(&bytes);
    }
}
