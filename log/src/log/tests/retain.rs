use super::*;
use crate::retention::TierView;

#[test]
fn retention_by_size_deletes_moves_the_start_and_survives_a_restart() {
    let dir = tempfile::tempdir().expect("temp dir");
    let small = LogConfig {
        retention_bytes: 2_000,
        retention_ms: -1,
        ..config()
    };
    let log = open_with(dir.path(), small, |_| ()).expect("opens").0;
    append_all(&log, &(0..60).map(|_| batch(3)).collect::<Vec<_>>());
    let bytes = log.size_bytes();
    let plan = log.plan_retention(NOW, &TierView::default());
    let deleted = log.apply_retention(&plan, NOW).expect("deletes");
    assert!(deleted.segments > 0);
    assert_eq!(log.size_bytes(), bytes - deleted.bytes);
    assert!(log.size_bytes() >= 2_000 && log.size_bytes() < 3_000);
    let start = log.log_start_offset();
    assert_eq!(start, log.local_log_start_offset());
    assert!(matches!(
        log.read(start - 1, 180, 100, true),
        Err(ReadError::OutOfRange { .. })
    ));
    assert!(
        file_names(dir.path())
            .iter()
            .any(|n| n.ends_with(".deleted"))
    );
    let (log, _) = reopen(log, true);
    assert_eq!(log.log_start_offset(), start);
    assert!(
        !file_names(dir.path())
            .iter()
            .any(|n| n.ends_with(".deleted"))
    );
    assert!(log.plan_retention(NOW, &TierView::default()).is_empty());
}

#[test]
fn all_expired_leaves_an_empty_log_that_goes_on() {
    let dir = tempfile::tempdir().expect("temp dir");
    let log = open(dir.path());
    append_all(&log, &(0..20).map(|_| batch(3)).collect::<Vec<_>>());
    let later = NOW + 8 * 86_400_000;
    let plan = log.plan_retention(later, &TierView::default());
    log.apply_retention(&plan, later).expect("deletes");
    assert_eq!(log.segment_count(), 1);
    assert_eq!((log.log_start_offset(), log.log_end_offset()), (60, 60));
    assert_eq!(log.size_bytes(), 0);
    append_all(&log, &[batch(2)]);
    let (log, _) = reopen(log, false);
    assert_eq!((log.log_start_offset(), log.log_end_offset()), (60, 62));
    assert_eq!(records(&log, 60).len(), 2);
}

#[test]
fn a_tiered_log_keeps_its_start_when_local_segments_go() {
    let dir = tempfile::tempdir().expect("temp dir");
    let tiered = LogConfig {
        remote_storage_enable: true,
        local_retention_bytes: 0,
        ..config()
    };
    let log = open_with(dir.path(), tiered, |_| ()).expect("opens").0;
    log.assign_epoch(0).expect("assigns");
    append_all(&log, &(0..30).map(|_| batch(3)).collect::<Vec<_>>());
    assert!(log.plan_retention(NOW, &TierView::default()).is_empty());
    let uploaded = log.segments.snapshot()[2].base_offset();
    let view = TierView {
        uploaded_end: Some(uploaded),
    };
    let plan = log.plan_retention(NOW, &view);
    let deleted = log.apply_retention(&plan, NOW).expect("deletes");
    assert_eq!(deleted.segments, 2);
    assert_eq!(deleted.local_log_start_offset, uploaded);
    assert_eq!(log.log_start_offset(), 0);
    assert_eq!(
        log.epoch_entries()[0].start_offset,
        0,
        "not cut at the local start"
    );
    let (log, _) = reopen(log, false);
    assert_eq!(log.log_start_offset(), 0);
    assert_eq!(log.local_log_start_offset(), uploaded);
    assert_eq!(log.epoch_entries()[0].start_offset, 0);
}

#[test]
fn files_wait_for_their_delay() {
    let dir = tempfile::tempdir().expect("temp dir");
    let log = open(dir.path());
    log.set_config(shared(LogConfig {
        file_delete_delay_ms: 1_000,
        ..config()
    }));
    append_all(&log, &(0..30).map(|_| batch(3)).collect::<Vec<_>>());
    log.delete_local_segments_below(40).expect("deletes");
    assert_eq!(log.purge(NOW), 0);
    assert_eq!(log.purge(NOW + 999), 0);
    assert!(log.purge(NOW + 1_000) > 0);
    assert!(
        !file_names(dir.path())
            .iter()
            .any(|n| n.ends_with(".deleted"))
    );
}
