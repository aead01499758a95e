use proptest::prelude::*;

use super::*;
use crate::request::{KeyFormat, ValueFormat};
use crate::schema::ColumnType;

fn sample() -> Entry {
    let source = SourceTopic {
        cluster_id: "cluster".to_owned(),
        topic: "flights".to_owned(),
        topic_id: "AAAAAAAAAAAAAAAAAAAAAQ".to_owned(),
    };
    let format = TableFormat {
        value: ValueFormat::Json,
        key: KeyFormat::String,
    };
    Entry {
        kind: EntryKind::Commit,
        run: 1,
        state: RunState::Ended,
        columns: vec![Column {
            name: "value_key".to_owned(),
            field: "key".to_owned(),
            column_type: ColumnType::Int64,
        }],
        progress: vec![PartitionProgress {
            partition: 0,
            start: 5,
            end: 10,
            incarnation: 1,
            leader_epoch: Some(3),
        }],
        ranges: vec![OffsetRange {
            partition: 0,
            start: 5,
            end: 10,
        }],
        gaps: vec![GapEntry {
            partition: 0,
            start: 5,
            end: 6,
            cause: "expired".to_owned(),
        }],
        files: vec![FileEntry {
            path: "data/partition=0/x.parquet".to_owned(),
            kind: FileKind::Data,
            partition: 0,
            start: 6,
            end: 10,
            records: 4,
            bytes: 1_000,
        }],
        records: 4,
        ..Entry::claim(2, "00ff".to_owned(), 1_700_000_000_000, source, format)
    }
}

#[test]
fn golden_bytes() {
    let golden = r#"{
  "version": 1,
  "number": 2,
  "kind": "commit",
  "run": 1,
  "nonce": "00ff",
  "state": "ended",
  "created_ms": 1700000000000,
  "source": {
    "cluster_id": "cluster",
    "topic": "flights",
    "topic_id": "AAAAAAAAAAAAAAAAAAAAAQ"
  },
  "format": {
    "value": "json",
    "key": "string"
  },
  "columns": [
    {
      "name": "value_key",
      "field": "key",
      "type": "int64"
    }
  ],
  "progress": [
    {
      "partition": 0,
      "start": 5,
      "end": 10,
      "incarnation": 1,
      "leader_epoch": 3
    }
  ],
  "ranges": [
    {
      "partition": 0,
      "start": 5,
      "end": 10
    }
  ],
  "gaps": [
    {
      "partition": 0,
      "start": 5,
      "end": 6,
      "cause": "expired"
    }
  ],
  "files": [
    {
      "path": "data/partition=0/x.parquet",
      "kind": "data",
      "partition": 0,
      "start": 6,
      "end": 10,
      "records": 4,
      "bytes": 1000
    }
  ],
  "records": 4,
  "rejects": 0
}
"#;
    assert_eq!(sample().encode(), golden);
    assert_eq!(Entry::decode(golden.as_bytes()).expect("decodes"), sample());
    let added = golden.replace("  \"run\"", "  \"later\": [1],\n  \"run\"");
    assert_eq!(Entry::decode(added.as_bytes()).expect("decodes"), sample());
    assert!(matches!(
        Entry::decode(b"{\"version\": 2}"),
        Err(EntryError::Version(2))
    ));
}

proptest! {
    #[test]
    fn round_trips(number: u64, run: u64, nonce: String, created_ms: i64, start: i64, end: i64, epoch: Option<i32>,
                   records: u64, field: String) {
        let mut entry = sample();
        entry.number = number;
        entry.run = run;
        entry.nonce = nonce;
        entry.created_ms = created_ms;
        entry.records = records;
        entry.columns[0].field = field;
        entry.progress[0] = PartitionProgress { partition: 7, start, end, incarnation: number, leader_epoch: epoch };
        entry.gaps[0].end = end;
        prop_assert_eq!(Entry::decode(&entry.encode()).expect("decodes"), entry);
    }

    #[test]
    fn garbage_never_panics(bytes: Vec<u8>) {
        let _ = Entry::decode(&bytes);
    }
}
