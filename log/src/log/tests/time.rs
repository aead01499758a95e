use super::*;
use proptest::prelude::*;

/// Offset and time of each record.
type Model = Vec<(Offset, TimestampMs)>;

fn naive(model: &Model, timestamp: TimestampMs, from: Offset) -> Option<(Offset, TimestampMs)> {
    model
        .iter()
        .find(|(offset, t)| *t >= timestamp && *offset >= from)
        .copied()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn the_first_record_not_older_is_found(
        batches in prop::collection::vec((prop::collection::vec(0_i64..500, 1..6), 0_usize..5), 1..60),
        targets in prop::collection::vec(0_i64..520, 30),
        start in 0_usize..40,
    ) {
        let dir = tempfile::tempdir().expect("temp dir");
        let log = open(dir.path());
        let mut model = Model::new();
        for (timestamps, codec) in &batches {
            let codec = [
                Compression::None,
                Compression::Gzip,
                Compression::Snappy,
                Compression::Lz4,
                Compression::Zstd,
            ][*codec];
            for t in timestamps {
                model.push((model.len() as i64, *t));
            }
            append_all(&log, &[compressed(timestamps, codec)]);
        }
        let from = (start as i64).min(log.log_end_offset());
        log.increment_log_start_offset(from).expect("moves");
        for log in [&log, &reopen(open_copy(&log), false).0] {
            log.set_high_watermark(log.log_end_offset());
            log.increment_log_start_offset(from).expect("moves");
            for target in &targets {
                let found = log.offset_for_timestamp(*target).expect("looks");
                prop_assert_eq!(
                    found.map(|f| (f.offset, f.timestamp)),
                    naive(&model, *target, from)
                );
            }
            let newest = model.iter().map(|(_, t)| *t).max().expect("has records");
            let found = log.offset_for_max_timestamp().expect("looks");
            let expected = naive(&model, newest, 0).filter(|(offset, _)| *offset >= from);
            if expected.is_some() {
                prop_assert_eq!(found.map(|f| (f.offset, f.timestamp)), expected);
            }
        }
    }
}

/// The same log opened from its files, as after a crash.
fn open_copy(log: &Log) -> Log {
    open(log.dir())
}

#[test]
fn records_that_do_not_open_do_not_stop_a_search() {
    let dir = tempfile::tempdir().expect("temp dir");
    let log = open(dir.path());
    let mut bytes = compressed(&[100; 5], Compression::Zstd)
        .batch
        .batch
        .bytes
        .to_vec();
    let end = bytes.len();
    bytes[70..end].fill(0x11);
    let broken = Batch::parse(bytes.into()).expect("the header is whole");
    append_all(
        &log,
        &[
            batch_of(&[10], BatchOptions::default()),
            LeaderAppend {
                batch: ValidBatch { batch: broken },
            },
            batch_of(&[200], BatchOptions::default()),
        ],
    );
    let found = |t| {
        log.offset_for_timestamp(t)
            .expect("looks")
            .map(|f| f.offset)
    };
    assert_eq!(found(10), Some(0));
    assert_eq!(found(50), Some(1));
    assert_eq!(found(150), Some(6));
    assert_eq!(found(201), None);
}
