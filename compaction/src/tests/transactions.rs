//! Transactions, from segment files as a broker with a transaction coordinator would leave them.

use strandline_log::record::{ControlRecordType, EndTxnMarker};
use strandline_log::segment_files::{SegmentFile, segment_path};

use super::*;

const PRODUCER: i64 = 4_000;

struct Writer {
    bytes: Vec<u8>,
    next: Offset,
    sequence: i32,
}

impl Writer {
    fn data(&mut self, pairs: &[(&str, &str)]) {
        let records: Vec<_> = pairs
            .iter()
            .map(|(key, value)| record(key, (*value != "-").then_some(*value), NOW))
            .collect();
        let options = BatchOptions {
            producer_id: PRODUCER,
            producer_epoch: 0,
            base_sequence: self.sequence,
            is_transactional: true,
            base_offset: self.next,
            leader_epoch: 0,
            ..BatchOptions::default()
        };
        self.bytes.extend_from_slice(&batch(&records, options));
        self.next += records.len() as i64;
        self.sequence += records.len() as i32;
    }

    fn end(&mut self, control_type: ControlRecordType) {
        let marker = EndTxnMarker {
            control_type,
            coordinator_epoch: 0,
        };
        self.bytes
            .extend_from_slice(&marker.to_batch(PRODUCER, 0, self.next, 0, NOW));
        self.next += 1;
    }

    /// Ends the segment and begins another.
    fn roll(&mut self, dir: &Path, base: Offset) -> Offset {
        let path = segment_path(dir, base, SegmentFile::Log);
        std::fs::write(path, std::mem::take(&mut self.bytes)).expect("writes");
        self.next
    }
}

/// What a read_committed reader gets: records but those of aborted transactions.
fn committed(log: &Log) -> Vec<String> {
    let aborted = log
        .aborted_transactions(0, log.log_end_offset())
        .expect("reads");
    records(log)
        .iter()
        .filter(|r| {
            !aborted
                .iter()
                .any(|txn| (txn.first_offset..=txn.last_offset).contains(&r.offset))
        })
        .map(|r| format!("{}", r.offset))
        .collect()
}

#[test]
fn aborted_records_go_at_once_and_markers_once_nothing_of_theirs_is_left() {
    let dir = tempfile::tempdir().expect("temp dir");
    let mut writer = Writer {
        bytes: Vec::new(),
        next: 0,
        sequence: 0,
    };
    // A transaction that spans two segments, aborted; then a committed one, and a later value of both keys.
    writer.data(&[("a", "1"), ("b", "1")]); // 0, 1
    writer.end(ControlRecordType::Commit); // 2
    writer.data(&[("a", "aborted")]); // 3
    let second = writer.roll(dir.path(), 0);
    writer.data(&[("c", "aborted")]); // 4
    writer.end(ControlRecordType::Abort); // 5
    writer.data(&[("b", "2")]); // 6
    writer.end(ControlRecordType::Commit); // 7
    let third = writer.roll(dir.path(), second);
    writer.data(&[("d", "1")]); // 8
    writer.end(ControlRecordType::Commit); // 9
    writer.roll(dir.path(), third);
    // Segments that may not be put together, so that the transaction spans groups too.
    for changes in [&[][..], &[("segment.index.bytes", "4")]] {
        let copy = tempfile::tempdir().expect("temp dir");
        for entry in std::fs::read_dir(dir.path()).expect("lists") {
            let entry = entry.expect("lists");
            std::fs::copy(entry.path(), copy.path().join(entry.file_name())).expect("copies");
        }
        let log = open(copy.path(), &config(changes), 0);
        assert_eq!(committed(&log), ["0", "1", "6", "8"]);
        let offsets = |log: &Log| -> Vec<(Offset, i32)> {
            let headers = headers(log);
            headers
                .iter()
                .map(|h| (h.base_offset, h.records_count))
                .collect()
        };
        clean(&log, None, NOW).expect("cleans");
        // `a` keeps its committed value though an aborted one came later.
        assert_eq!(contents(&log), ["0:a=1", "6:b=2", "8:d=1"]);
        assert_eq!(committed(&log), ["0", "6", "8"]);
        assert_eq!(
            offsets(&log),
            [(0, 1), (2, 1), (5, 1), (6, 1), (7, 1), (8, 1), (9, 1)],
            "all markers stay"
        );
        assert_eq!(log.aborted_transactions(0, 10).expect("reads").len(), 1);

        // Nothing of the aborted transaction is left: its marker gets a horizon, and goes when that is over.
        clean(&log, None, NOW + 1_000).expect("cleans");
        let horizons: Vec<_> = headers(&log)
            .iter()
            .filter(|h| h.attributes.has_delete_horizon())
            .map(|h| (h.base_offset, h.base_timestamp, h.is_control()))
            .collect();
        assert_eq!(horizons, [(5, NOW + 11_000, true)]);
        let log = crash(log);
        clean(&log, None, NOW + 11_000).expect("cleans");
        assert_eq!(
            offsets(&log),
            [(0, 1), (2, 1), (6, 1), (7, 1), (8, 1), (9, 1)]
        );
        assert_eq!(contents(&log), ["0:a=1", "6:b=2", "8:d=1"]);
    }
}

#[test]
fn nothing_at_or_above_the_last_stable_offset_is_touched() {
    let dir = tempfile::tempdir().expect("temp dir");
    let mut writer = Writer {
        bytes: Vec::new(),
        next: 0,
        sequence: 0,
    };
    writer.data(&[("a", "1")]);
    writer.data(&[("a", "2")]);
    writer.end(ControlRecordType::Commit); // 2
    let second = writer.roll(dir.path(), 0);
    writer.data(&[("a", "open")]); // 3
    writer.data(&[("a", "open too")]); // 4
    let third = writer.roll(dir.path(), second);
    writer.data(&[("b", "open")]); // 5
    writer.roll(dir.path(), third);
    let log = open(dir.path(), &config(&[]), 0);
    assert_eq!(log.last_stable_offset(), 3);
    assert_eq!(plan(&log, None, NOW).first_uncleanable, 3);
    clean(&log, None, NOW).expect("cleans");
    assert_eq!(
        contents(&log),
        ["1:a=2", "3:a=open", "4:a=open too", "5:b=open"]
    );
}
