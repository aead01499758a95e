use super::*;
use crate::producer_state::ProducerError;

#[test]
fn offsets_are_assigned_in_order_and_all_queued_batches_are_answered() {
    let dir = tempfile::tempdir().expect("temp dir");
    let log = open(dir.path());
    let answers = log.append_as_leader(&[batch(3), batch(1), batch(2)], 5, NOW);
    let offsets: Vec<_> = answers
        .iter()
        .map(|a| a.as_ref().expect("appends"))
        .map(|a| (a.base_offset, a.last_offset, a.duplicate))
        .collect();
    assert_eq!(offsets, [(0, 2, false), (3, 3, false), (4, 5, false)]);
    assert_eq!(log.log_end_offset(), 6);
    assert_eq!(log.high_watermark(), 0, "the caller moves it");
    assert_eq!(log.latest_epoch(), Some(5));
    assert_eq!(log.epoch_end_offset(5), Some((5, 6)));
    let read = log.read(0, 6, 10_000, true).expect("reads");
    let batches = crate::record::split_batches(bytes_of(&read)).expect("whole batches");
    assert!(
        batches
            .iter()
            .all(|b| b.header.partition_leader_epoch == 5 && b.verify_crc().is_ok())
    );
}

#[test]
fn full_segments_are_rolled_also_within_one_call() {
    let dir = tempfile::tempdir().expect("temp dir");
    let log = open(dir.path());
    let batches: Vec<_> = (0..40).map(|_| batch(3)).collect();
    let answers = log.append_as_leader(&batches, 0, NOW);
    assert!(answers.iter().all(Result::is_ok));
    assert!(log.segment_count() > 3, "{}", log.segment_count());
    for name in file_names(dir.path()) {
        if name.ends_with(".log") {
            let len = std::fs::metadata(dir.path().join(&name))
                .expect("is there")
                .len();
            assert!(len <= 1_000, "{name}: {len}");
        }
    }
    let all: Vec<_> = records(&log, 0).iter().map(|(o, _)| *o).collect();
    assert_eq!(all, (0..120).collect::<Vec<_>>());
}

#[test]
fn many_batches_exceed_one_system_call() {
    let dir = tempfile::tempdir().expect("temp dir");
    let big = LogConfig {
        segment_bytes: 1 << 20,
        ..config()
    };
    let log = open_with(dir.path(), big, |_| ()).expect("opens").0;
    let batches: Vec<_> = (0..1_500).map(|_| batch(1)).collect();
    assert!(
        log.append_as_leader(&batches, 0, NOW)
            .iter()
            .all(Result::is_ok)
    );
    assert_eq!(records(&log, 0).len(), 1_500);
}

#[test]
fn a_batch_larger_than_a_segment_is_refused_alone() {
    let dir = tempfile::tempdir().expect("temp dir");
    let log = open(dir.path());
    let answers = log.append_as_leader(&[batch(1), batch(500), batch(1)], 0, NOW);
    assert!(answers[0].is_ok() && answers[2].is_ok());
    assert!(matches!(answers[1], Err(AppendError::BatchTooLarge { .. })));
    assert_eq!(log.log_end_offset(), 2);
}

#[test]
fn a_retry_is_answered_with_the_first_offsets_also_after_a_restart() {
    let dir = tempfile::tempdir().expect("temp dir");
    let mut log = open(dir.path());
    // The retry may even queue beside its original.
    let answers = log.append_as_leader(
        &[
            idempotent(9, 0, 2),
            idempotent(9, 0, 2),
            idempotent(9, 2, 1),
            idempotent(9, 7, 1),
        ],
        0,
        NOW,
    );
    assert_eq!(answers[0].as_ref().expect("appends").base_offset, 0);
    let retry = answers[1].as_ref().expect("is a duplicate");
    assert!(retry.duplicate);
    assert_eq!((retry.base_offset, retry.last_offset), (0, 1));
    assert_eq!(answers[2].as_ref().expect("appends").base_offset, 2);
    assert!(matches!(
        answers[3],
        Err(AppendError::Producer(
            ProducerError::OutOfOrderSequence { .. }
        ))
    ));
    for clean in [true, false] {
        log = reopen(log, clean).0;
        let answers = log.append_as_leader(&[idempotent(9, 2, 1)], 0, NOW);
        let retry = answers[0].as_ref().expect("is a duplicate");
        assert!(retry.duplicate, "clean {clean}");
        assert_eq!(retry.base_offset, 2);
        assert_eq!(log.log_end_offset(), 3);
    }
    assert_eq!(log.producers().len(), 1);
    let snapshot = log.producer_snapshot_at(2).expect("replays");
    let entries = crate::producer_state::snapshot::decode(&snapshot).expect("decodes");
    assert_eq!(entries.len(), 1);
    assert_eq!(entries[0].last_sequence(), 1);
}

#[test]
fn a_failed_write_leaves_no_trace_and_the_log_goes_on() {
    let dir = tempfile::tempdir().expect("temp dir");
    let log = open(dir.path());
    append_all(&log, &[idempotent(9, 0, 1)]);
    let size = log.size_bytes();
    // A descriptor that only reads makes every write fail.
    let active = log.segments.active();
    active.deactivate();
    active.forget_files();
    let answers = log.append_as_leader(&[idempotent(9, 1, 1), batch(1)], 0, NOW);
    assert!(
        answers
            .iter()
            .all(|a| matches!(a, Err(AppendError::Log(LogError::Storage(_)))))
    );
    assert_eq!(log.log_end_offset(), 1);
    assert_eq!(log.size_bytes(), size);
    active.activate().expect("opens");
    let answers = log.append_as_leader(&[idempotent(9, 1, 1)], 0, NOW);
    assert_eq!(answers[0].as_ref().expect("appends").base_offset, 1);
    assert_eq!(records(&log, 0).len(), 2);
}

#[test]
fn segment_ms_goes_by_record_time_on_append_and_by_the_clock_when_idle() {
    let dir = tempfile::tempdir().expect("temp dir");
    let timed = LogConfig {
        segment_ms: 1_000,
        ..config()
    };
    let log = open_with(dir.path(), timed, |_| ()).expect("opens").0;
    let at = |t| batch_of(&[t], BatchOptions::default());
    append_all(&log, &[at(5_000), at(6_000)]);
    assert_eq!(log.segment_count(), 1);
    append_all(&log, &[at(6_001)]);
    assert_eq!(log.segment_count(), 2);
    assert!(!log.maybe_roll(NOW + 1_000).expect("looks"));
    assert!(log.maybe_roll(NOW + 1_001).expect("rolls"));
    assert!(!log.maybe_roll(NOW + 9_000).expect("looks"), "empty");
    assert_eq!(log.active_segment_base_offset(), 3);
}

#[test]
fn flush_messages_syncs_before_the_answer() {
    let dir = tempfile::tempdir().expect("temp dir");
    let synced = LogConfig {
        flush_messages: 3,
        ..config()
    };
    let log = open_with(dir.path(), synced, |_| ()).expect("opens").0;
    append_all(&log, &[batch(2)]);
    assert_eq!(log.recovery_point(), 0);
    append_all(&log, &[batch(1)]);
    assert_eq!(log.recovery_point(), 3);
}

#[test]
fn an_offline_directory_and_a_closed_log_take_nothing() {
    let dir = tempfile::tempdir().expect("temp dir");
    let log = open(dir.path());
    append_all(&log, &[batch(2)]);
    log.close(false).expect("closes");
    let answers = log.append_as_leader(&[batch(1)], 0, NOW);
    assert!(matches!(
        answers[0],
        Err(AppendError::Log(LogError::Closed))
    ));
    assert_eq!(records(&log, 0).len(), 2, "reads go on");

    let log = open(dir.path());
    let cause = crate::log_error::StorageError::new("sync", "f", std::io::Error::other("broken"));
    log.health.mark_offline(&cause);
    let answers = log.append_as_leader(&[batch(1)], 0, NOW);
    assert!(matches!(
        answers[0],
        Err(AppendError::Log(LogError::Offline(_)))
    ));
    assert!(log.flush().is_err());
}
