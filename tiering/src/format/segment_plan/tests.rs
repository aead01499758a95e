use std::fs::File;
use std::io::Write;
use std::sync::Arc;

use proptest::prelude::*;
use strandline_log::TopicId;
use strandline_log::record::{BatchBuilder, BatchOptions, NewRecord};

use super::*;

fn key() -> PartitionKey {
    PartitionKey::new("cluster", TopicId::from_u128(7), 0)
}

/// Batches of the given sizes in records, from offset 100 on, with one timestamp each.
fn log_bytes(batches: &[(usize, TimestampMs)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut base_offset = 100;
    for (records, timestamp) in batches {
        let mut builder = BatchBuilder::new(BatchOptions {
            base_offset,
            leader_epoch: 4,
            ..BatchOptions::default()
        });
        for i in 0..*records {
            builder
                .append(NewRecord {
                    timestamp: *timestamp,
                    key: None,
                    value: Some(vec![i as u8; 40 + i].into()),
                    headers: Vec::new(),
                })
                .expect("small");
        }
        bytes.extend_from_slice(&builder.build());
        base_offset += *records as i64;
    }
    bytes
}

/// The bytes in one file, as slices cut at `cuts`.
fn slices(bytes: &[u8], cuts: &[usize]) -> Vec<FileSlice> {
    let mut file = tempfile::tempfile().expect("temp file");
    file.write_all(b"before").expect("writes");
    file.write_all(bytes).expect("writes");
    let file: Arc<File> = Arc::new(file);
    let mut edges: Vec<usize> = cuts.iter().map(|c| c % (bytes.len() + 1)).collect();
    edges.extend([0, bytes.len()]);
    edges.sort_unstable();
    edges
        .windows(2)
        .map(|pair| FileSlice {
            file: Arc::clone(&file),
            position: 6 + pair[0] as u64,
            len: pair[1] - pair[0],
        })
        .collect()
}

fn meta(start: Offset, end: Offset) -> SegmentMeta {
    SegmentMeta {
        index_interval_bytes: 200,
        chunk_bytes: 128,
        ..SegmentMeta::new(key(), start, end, Fence::new(1, 4))
    }
}

fn body(plan: &SegmentObjectPlan) -> Vec<u8> {
    plan.body()
        .flat_map(|part| part.expect("unchanged").to_vec())
        .collect()
}

proptest! {
    #[test]
    fn the_object_is_the_log_and_a_tail_that_finds_every_batch(
        batches in prop::collection::vec((1..6usize, 0..1_000i64), 1..12),
        cuts in prop::collection::vec(any::<usize>(), 0..6),
        into_first: prop::sample::Index,
    ) {
        let log = log_bytes(&batches);
        let records: usize = batches.iter().map(|(n, _)| n).sum();
        let start = 100 + into_first.index(batches[0].0) as i64;
        let end = 100 + records as i64;
        let plan = SegmentObjectPlan::compute(slices(&log, &cuts), meta(start, end)).expect("sound");
        let object = body(&plan);
        prop_assert_eq!(object.len() as u64, plan.object_bytes());
        prop_assert_eq!(&object[..log.len()], &log[..]);
        let tail = SegmentTail::decode(&Bytes::copy_from_slice(&object[log.len()..]), log.len() as u64).expect("decodes");
        prop_assert_eq!(&tail, plan.tail());
        prop_assert_eq!(tail.footer.verify_chunks(0, &log), Ok(()));
        prop_assert_eq!(tail.footer.max_timestamp, batches.iter().map(|b| b.1).max().expect("some"));
        let entry = plan.entry(3, 9);
        prop_assert_eq!((entry.start, entry.end, entry.bytes), (start, end, object.len() as u64));
        prop_assert_eq!(entry.footer_crc, footer_crc(&object));

        // From each lookup's position a scan meets the batch that is looked for.
        let mut at = 0;
        while at < log.len() {
            let header = BatchHeader::parse(&log[at..]).expect("a batch");
            for offset in header.base_offset..=header.last_offset() {
                let found = tail.indexes.position_for(offset);
                prop_assert!(found.position <= at as u64 && found.offset <= header.base_offset);
                prop_assert!(tail.indexes.next_position_after(found.position).is_none_or(|p| p > at as u64));
            }
            at += header.size();
        }
        for wanted in [0, 500, 999] {
            let mut first = None;
            let mut at = 0;
            while at < log.len() && first.is_none() {
                let header = BatchHeader::parse(&log[at..]).expect("a batch");
                first = (header.max_timestamp >= wanted).then_some(at as u64);
                at += header.size();
            }
            if let Some(first) = first {
                prop_assert!(tail.indexes.position_for_timestamp(wanted).position <= first);
            }
        }
    }

    #[test]
    fn a_damaged_log_is_refused(
        batches in prop::collection::vec((1..4usize, 0..9i64), 1..5), at: prop::sample::Index, flip in 1..=255u8,
    ) {
        let mut log = log_bytes(&batches);
        let records: usize = batches.iter().map(|(n, _)| n).sum();
        let at = at.index(log.len());
        log[at] ^= flip;
        let result = SegmentObjectPlan::compute(slices(&log, &[]), meta(100, 100 + records as i64));
        // Offsets and the leader epoch are not under a batch's CRC; a changed epoch alone is not noticed here.
        let header_start = {
            let mut start = 0;
            let sound = log_bytes(&batches);
            while let Ok(header) = BatchHeader::parse(&sound[start..]) {
                if at < start + header.size() { break; }
                start += header.size();
            }
            start
        };
        if !(12..16).contains(&(at - header_start)) && at - header_start >= 8 {
            prop_assert!(result.is_err());
        }
    }
}

#[test]
fn ranges_that_the_bytes_do_not_hold_are_refused() {
    let log = log_bytes(&[(3, 1), (3, 2)]);
    for (start, end, fits) in [
        (100, 106, true),
        (102, 106, true),
        (99, 106, false),
        (103, 106, false),
        (100, 105, false),
    ] {
        let result = SegmentObjectPlan::compute(slices(&log, &[]), meta(start, end));
        assert_eq!(result.is_ok(), fits, "{start}..{end}: {:?}", result.err());
    }
    let cut = SegmentObjectPlan::compute(slices(&log[..log.len() - 1], &[]), meta(100, 106));
    assert!(matches!(cut, Err(PlanError::WrongRange { .. })));
    let none = SegmentObjectPlan::compute(Vec::new(), meta(100, 106));
    assert!(matches!(none, Err(PlanError::WrongRange { .. })));
}

#[test]
fn bytes_that_change_after_the_plan_are_not_sent() {
    let log = log_bytes(&[(5, 1), (5, 2)]);
    let mut file = tempfile::NamedTempFile::new().expect("temp file");
    file.write_all(&log).expect("writes");
    let slice = FileSlice {
        file: Arc::new(File::open(file.path()).expect("opens")),
        position: 0,
        len: log.len(),
    };
    let plan = SegmentObjectPlan::compute(vec![slice], meta(100, 110)).expect("sound");
    let mut changed = log.clone();
    changed[300] ^= 1;
    std::fs::write(file.path(), &changed).expect("writes");
    let failed = plan.body().find_map(Result::err).expect("noticed");
    assert!(
        matches!(failed, PlanError::Changed { position: 256 }),
        "{failed}"
    );
}
