//! The index against Kafka's bytes and its search rules.

use proptest::prelude::*;

use super::*;

fn txn(producer_id: ProducerId, first: Offset, last: Offset, stable: Offset) -> AbortedTxn {
    AbortedTxn {
        producer_id,
        first_offset: first,
        last_offset: last,
        last_stable_offset: stable,
    }
}

fn index(dir: &Path, entries: &[AbortedTxn]) -> TransactionIndex {
    let mut index = TransactionIndex::open(dir.join("0.txnindex")).expect("opens");
    for entry in entries {
        index.append(entry).expect("appends");
    }
    index
}

#[test]
fn golden_bytes() {
    // As Kafka 4.3.1's AbortedTxn(7001, 10, 20, 21).
    let golden = b"\x00\x00\x00\x00\x00\x00\x00\x00\x1b\x59\x00\x00\x00\x00\x00\x00\x00\x0a\
                   \x00\x00\x00\x00\x00\x00\x00\x14\x00\x00\x00\x00\x00\x00\x00\x15";
    let entry = txn(7001, 10, 20, 21);
    assert_eq!(entry.encode(), *golden);
    assert_eq!(AbortedTxn::decode(golden), Ok(entry));
    assert_eq!(
        AbortedTxn::decode(&golden[..33]),
        Err(AbortedTxnError::Length(33))
    );
    let mut later = *golden;
    later[1] = 1;
    assert_eq!(AbortedTxn::decode(&later), Err(AbortedTxnError::Version(1)));
}

#[test]
fn there_is_no_file_without_an_entry() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut index = index(dir.path(), &[]);
    assert!(index.is_empty() && !index.path().exists());
    index.flush().expect("nothing to do");
    index.truncate_to(0).expect("nothing to do");
    index
        .rename_to(dir.path().join("1.txnindex"))
        .expect("no file");
    index.append(&txn(1, 0, 1, 2)).expect("appends");
    assert_eq!(index.path(), dir.path().join("1.txnindex"));
    assert_eq!(index.size_bytes(), 34);
    index.delete().expect("deletes");
    index.delete().expect("again");
    assert!(!index.path().exists());
}

#[test]
fn searches_take_what_overlaps_and_know_when_to_stop() {
    let dir = tempfile::tempdir().expect("a folder");
    let all = [txn(1, 0, 10, 5), txn(2, 5, 20, 8), txn(3, 30, 40, 41)];
    let index = index(dir.path(), &all);
    let table: [(Offset, Offset, &[AbortedTxn], bool); 5] = [
        (0, 5, &all[..1], true),
        (0, 6, &all[..2], true),
        (11, 31, &all[1..], true),
        (41, 50, &[], false),
        (0, 100, &all, false),
    ];
    for (from, to, aborted, is_complete) in table {
        let search = index.collect_aborted_txns(from, to).expect("reads");
        assert_eq!(search.aborted, aborted, "{from}..{to}");
        assert_eq!(search.is_complete, is_complete, "{from}..{to}");
    }
    index.sanity_check(10).expect("all markers lie beyond");
    assert!(index.sanity_check(11).is_err());
}

#[test]
fn truncation_goes_by_markers_and_appends_go_on() {
    let dir = tempfile::tempdir().expect("a folder");
    let all = [txn(1, 0, 10, 11), txn(2, 5, 20, 21), txn(3, 30, 40, 41)];
    let mut index = index(dir.path(), &all);
    assert!(index.append(&txn(4, 0, 40, 41)).is_err());
    index.truncate_to(41).expect("cuts nothing");
    assert_eq!(index.entries().expect("reads"), all);
    index.truncate_to(20).expect("cuts two");
    assert_eq!(index.entries().expect("reads"), all[..1]);
    index.append(&txn(5, 12, 13, 14)).expect("goes on");
    drop(index);
    let mut index = TransactionIndex::open(dir.path().join("0.txnindex")).expect("opens");
    assert_eq!(index.entries().expect("reads")[1].producer_id, 5);
    assert!(
        index.append(&txn(6, 0, 13, 14)).is_err(),
        "the last is known"
    );
    index.reset().expect("empties");
    index.append(&txn(6, 0, 1, 2)).expect("from the start");
}

#[test]
fn torn_and_foreign_files_are_refused() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("0.txnindex");
    fs::write(&path, [0; 35]).expect("writes");
    assert!(TransactionIndex::open(path.clone()).is_err());
    fs::write(&path, [1; 34]).expect("writes");
    assert!(TransactionIndex::open(path).is_err());
}

proptest! {
    #[test]
    fn entries_round_trip(a: i64, b: i64, c: i64, d: i64) {
        let entry = txn(a, b, c, d);
        prop_assert_eq!(AbortedTxn::decode(&entry.encode()), Ok(entry));
    }

    #[test]
    fn more_entries_than_one_read_stay_in_order(count in 0..1200i64) {
        let dir = tempfile::tempdir().expect("a folder");
        let all: Vec<_> = (0..count).map(|i| txn(i, i, i + 1, i + 2)).collect();
        let index = index(dir.path(), &all);
        prop_assert_eq!(index.entries().expect("reads"), all);
    }
}
