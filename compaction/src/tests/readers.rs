use super::*;
use strandline_log::{ScrubPoint, TierView};

/// Forty values of three keys in segments of about five batches.
fn filled(dir: &Path, changes: &[(&str, &str)]) -> Log {
    let log = open(dir, &config(changes), 0);
    for i in 0..40 {
        let pair = format!("{}={i:0>90}", ["a", "b", "c"][i % 3]);
        put(&log, &[&pair], Compression::None, NOW + i as i64);
    }
    log
}

#[test]
fn readers_go_on_undisturbed_over_a_swap() {
    let dir = tempfile::tempdir().expect("temp dir");
    let log = filled(dir.path(), &[]);
    let end = log.log_end_offset();
    let slices = log.read(3, end, 100_000, true).expect("reads").slices;
    let before: Vec<Bytes> = slices
        .iter()
        .map(|s| s.read_to_bytes().expect("reads"))
        .collect();
    let old = log.log_segments();
    let positions: Vec<_> = old
        .iter()
        .map(|s| {
            let found = s.find(s.base_offset() + 3, s.size()).expect("finds");
            (found.expect("is there").position, s.size())
        })
        .collect();
    // Several of them fit one from here on.
    let roomy = config(&[("internal.segment.bytes", "3000")]);
    log.set_config(Arc::new(roomy));
    clean(&log, None, NOW + 100).expect("cleans");
    assert!(log.segment_count() < old.len());
    for (slice, bytes) in slices.iter().zip(&before) {
        assert_eq!(slice.read_to_bytes().expect("reads"), *bytes);
    }
    // A reader that took the list before the swap and opens files only now finds what it expects. The cache holds two
    // files, so nothing but the pins keeps them.
    for (segment, (position, size)) in old.iter().zip(&positions) {
        let found = segment
            .find(segment.base_offset() + 3, *size)
            .expect("finds");
        assert_eq!(found.expect("is there").position, *position);
    }
    assert_eq!(
        log.purge(NOW),
        3 * (old.len() - 1),
        "the old files wait to be unlinked"
    );
    for (slice, bytes) in slices.iter().zip(&before) {
        assert_eq!(slice.read_to_bytes().expect("reads"), *bytes);
    }
}

#[test]
fn every_offset_can_be_read_after_a_cleaning() {
    let dir = tempfile::tempdir().expect("temp dir");
    let log = filled(dir.path(), &[]);
    let end = log.log_end_offset();
    clean(&log, None, NOW + 100).expect("cleans");
    for log in [log, open(dir.path(), &config(&[]), 0)] {
        let all = records(&log);
        for from in 0..end {
            let read = log.read(from, end, 1 << 20, true).expect("reads");
            let mut bytes = Vec::new();
            for slice in &read.slices {
                bytes.extend_from_slice(&slice.read_to_bytes().expect("reads"));
            }
            let found: Vec<Record> = records_of(bytes.into(), DecodeLimit::default())
                .map(|r| r.expect("reads"))
                .filter(|r| r.offset >= from)
                .collect();
            let expected: Vec<_> = all.iter().filter(|r| r.offset >= from).cloned().collect();
            assert_eq!(found, expected, "from {from}");
            let at = log
                .offset_for_timestamp(NOW + from)
                .expect("finds")
                .expect("is there");
            assert_eq!(at.offset, expected[0].offset);
        }
        assert_eq!(log.size_bytes() as usize, bytes_of(&log).len());
        assert_eq!(log.log_end_offset(), end);
        assert_eq!(log.log_start_offset(), 0);
    }
}

#[test]
fn many_empty_segments_in_a_row_hide_nothing_behind_them() {
    let dir = tempfile::tempdir().expect("temp dir");
    // Segments that may not be put together, because their indexes would not fit.
    let log = open(dir.path(), &config(&[("segment.index.bytes", "4")]), 0);
    for i in 0..60 {
        put(&log, &[&format!("a={i}")], Compression::None, NOW);
        log.roll(NOW).expect("rolls");
    }
    put(&log, &["b=1"], Compression::None, NOW);
    clean(&log, None, NOW).expect("cleans");
    assert_eq!(contents(&log), ["59:a=59", "60:b=1"]);
    let read = log
        .read(0, log.log_end_offset(), 1 << 20, true)
        .expect("reads");
    assert!(!read.is_empty(), "{} segments", log.segment_count());
}

#[test]
fn retention_may_delete_what_the_cleaner_is_at() {
    let changes = [
        ("cleanup.policy", "compact,delete"),
        ("retention.ms", "1000"),
        ("internal.segment.bytes", "300000"),
    ];
    // While the keys are read, and while segments are copied.
    for at_call in [12, 28] {
        let dir = tempfile::tempdir().expect("temp dir");
        let log = open(dir.path(), &config(&changes), 0);
        for i in 0..40 {
            let pair = format!("{}={i:0>60000}", ["a", "b", "c"][i % 3]);
            put(&log, &[&pair], Compression::None, NOW);
        }
        log.roll(NOW).expect("rolls");
        put(&log, &["z=1"], Compression::None, NOW + 5_000);
        let plan = plan(&log, None, NOW + 100);
        let mut calls = 0;
        let result = cleaner(100).clean(&log, &plan, NOW + 100, &mut |_| {
            calls += 1;
            if calls == at_call {
                let retention = log.plan_retention(NOW + 5_000, &TierView::default());
                log.apply_retention(&retention, NOW + 5_000)
                    .expect("deletes");
            }
            ControlFlow::Continue(())
        });
        assert!(calls >= at_call, "{calls} calls");
        assert!(matches!(result, Err(CleanError::Changed)), "{result:?}");
        for entry in std::fs::read_dir(dir.path()).expect("lists") {
            let name = entry.expect("lists").file_name();
            assert!(!name.to_string_lossy().ends_with(".cleaned"), "{name:?}");
        }
        for log in [log, open(dir.path(), &config(&changes), 0)] {
            assert_eq!(contents(&log), ["40:z=1"]);
            assert_eq!(log.log_start_offset(), 40);
        }
    }
}

#[test]
fn a_scrub_goes_on_over_a_swap_and_finds_no_damage() {
    for stop_at in [200, 500, 1_700] {
        let dir = tempfile::tempdir().expect("temp dir");
        let log = filled(dir.path(), &[]);
        log.flush().expect("flushes");
        let mut from = log
            .scrub(ScrubPoint::default(), stop_at)
            .expect("scrubs")
            .next
            .expect("there is more");
        // The segment that the scrub is in gets other bytes.
        put(&log, &["a=1", "b=1"], Compression::None, NOW + 200);
        log.roll(NOW).expect("rolls");
        clean(&log, None, NOW + 200).expect("cleans");
        loop {
            let scrubbed = log.scrub(from, 1_000).expect("scrubs");
            assert_eq!(scrubbed.damages, 0, "{:?}", log.damages());
            let Some(next) = scrubbed.next else { break };
            from = next;
        }
    }
}
