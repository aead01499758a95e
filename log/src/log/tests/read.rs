use super::*;

#[test]
fn a_read_begins_at_the_batch_and_ends_at_the_bound() {
    let dir = tempfile::tempdir().expect("temp dir");
    let log = open(dir.path());
    append_all(&log, &[batch(3), batch(3), batch(3)]);
    let first = |from, bound| {
        let read = log.read(from, bound, 10_000, true).expect("reads");
        let batches = crate::record::split_batches(bytes_of(&read)).expect("whole batches");
        batches
            .iter()
            .map(|b| b.header.base_offset)
            .collect::<Vec<_>>()
    };
    assert_eq!(first(0, 9), [0, 3, 6]);
    assert_eq!(first(4, 9), [3, 6], "in the middle of a batch");
    assert_eq!(first(4, 6), [3]);
    assert_eq!(first(0, 3), [0]);
    assert_eq!(first(0, 5), [0], "a batch is not cut by the bound");
    assert_eq!(first(9, 9), [] as [i64; 0]);
    assert_eq!(first(6, 3), [] as [i64; 0]);
    // After a restart nothing is remembered, and the answers are the same.
    let (log, _) = reopen(log, true);
    for (from, bound, batches) in [(0, 9, 3), (4, 6, 1), (4, 9, 2)] {
        let read = log.read(from, bound, 10_000, true).expect("reads");
        assert_eq!(
            crate::record::split_batches(bytes_of(&read))
                .expect("whole")
                .len(),
            batches
        );
    }
}

#[test]
fn the_size_limit_cuts_but_the_first_batch_may_come_whole() {
    let dir = tempfile::tempdir().expect("temp dir");
    let log = open(dir.path());
    append_all(&log, &[batch(3), batch(3)]);
    let size = batch(3).batch.batch.size();
    let len = |max, min_one| log.read(0, 6, max, min_one).expect("reads").bytes;
    assert_eq!(len(size + 5, true), size + 5);
    assert_eq!(len(size + 5, false), size + 5);
    assert_eq!(len(size, false), size);
    assert_eq!(len(5, true), size);
    assert_eq!(len(5, false), 0);
    assert_eq!(len(0, true), size);
}

#[test]
fn offsets_outside_are_told_from_offsets_that_are_only_remote() {
    let dir = tempfile::tempdir().expect("temp dir");
    let tiered = LogConfig {
        remote_storage_enable: true,
        ..config()
    };
    let log = open_with(dir.path(), tiered, |_| ()).expect("opens").0;
    let batches: Vec<_> = (0..30).map(|_| batch(3)).collect();
    append_all(&log, &batches);
    let second = log.segments.snapshot()[1].base_offset();
    log.delete_local_segments_below(second).expect("deletes");
    assert_eq!(log.local_log_start_offset(), second);
    assert_eq!(log.log_start_offset(), 0);
    assert!(matches!(
        log.read(0, 90, 100, true),
        Err(ReadError::BelowLocal { local_start }) if local_start == second
    ));
    assert!(matches!(
        log.read(91, 91, 100, true),
        Err(ReadError::OutOfRange {
            offset: 91,
            log_start: 0,
            log_end: 90
        })
    ));
    log.increment_log_start_offset(2).expect("moves");
    assert!(matches!(
        log.read(1, 90, 100, true),
        Err(ReadError::OutOfRange { log_start: 2, .. })
    ));
    assert!(log.increment_log_start_offset(91).is_err(), "above the end");
    assert_eq!(
        log.local_log_start_offset(),
        second,
        "the tier has what is between"
    );
}

#[test]
fn a_reader_at_the_end_sees_nothing_behind_its_bound() {
    let dir = tempfile::tempdir().expect("temp dir");
    let big = LogConfig {
        segment_bytes: 1 << 20,
        ..config()
    };
    let log = open_with(dir.path(), big, |_| ()).expect("opens").0;
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for _ in 0..2_000 {
                let answers = log.append_as_leader(&[batch(2), batch(1)], 0, NOW);
                assert!(answers.iter().all(Result::is_ok));
                log.set_high_watermark(log.log_end_offset());
            }
        });
        let mut from = 0;
        while !writer.is_finished() || from < log.high_watermark() {
            let bound = log.high_watermark();
            let read = log.read(from, bound, 1 << 20, true).expect("reads");
            let batches = crate::record::split_batches(bytes_of(&read)).expect("whole batches");
            for batch in batches {
                assert_eq!(batch.header.base_offset, from);
                from = batch.header.next_offset();
            }
            assert!(from <= bound, "{from} is above {bound}");
        }
        assert_eq!(from, 6_000);
    });
}

#[test]
fn slices_stay_readable_after_their_segment_was_deleted() {
    let dir = tempfile::tempdir().expect("temp dir");
    let log = open(dir.path());
    append_all(&log, &(0..30).map(|_| batch(3)).collect::<Vec<_>>());
    let read = log.read(0, 90, 600, true).expect("reads");
    log.delete_local_segments_below(60).expect("deletes");
    log.purge(NOW);
    assert!(log.purge(NOW) == 0, "all gone at once: the delay is zero");
    assert_eq!(bytes_of(&read).len(), read.bytes);
    assert!(
        !file_names(dir.path())
            .iter()
            .any(|n| n.ends_with(".deleted"))
    );
}

#[test]
fn sealed_ranges_end_with_their_segment_and_are_synced() {
    let dir = tempfile::tempdir().expect("temp dir");
    let log = open(dir.path());
    append_all(&log, &(0..30).map(|_| batch(3)).collect::<Vec<_>>());
    let bases: Vec<_> = log
        .segments
        .snapshot()
        .iter()
        .map(|s| s.base_offset())
        .collect();
    assert_eq!(log.recovery_point(), 0);
    let range = log.sealed_range(3, 90).expect("looks").expect("is sealed");
    assert_eq!((range.start, range.end), (3, bases[1]));
    assert!(log.recovery_point() >= range.end);
    let bytes = range.slices[0].read_to_bytes().expect("reads");
    let batches = crate::record::split_batches(bytes).expect("whole batches");
    assert_eq!(batches[0].header.base_offset, 3);
    assert_eq!(
        batches.last().map(|b| b.header.next_offset()),
        Some(bases[1])
    );
    assert!(
        log.sealed_range(3, bases[1] - 1).expect("looks").is_none(),
        "not all committed"
    );
    let last = *bases.last().expect("has segments");
    assert!(log.sealed_range(last, 90).expect("looks").is_none());
    log.roll(NOW).expect("rolls");
    let range = log.sealed_range(last, 90).expect("looks");
    assert_eq!(range.map(|r| (r.start, r.end)), Some((last, 90)));
    assert!(log.sealed_range(90, 90).expect("looks").is_none());
}
