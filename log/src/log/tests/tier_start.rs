use super::*;
use crate::leader_epoch::EpochEntry;

#[test]
fn a_log_that_lost_records_goes_on_where_the_tier_ends() {
    // What the tier would have: a log's epochs and producers at offset 12.
    let whole_dir = tempfile::tempdir().expect("temp dir");
    let whole = open(whole_dir.path());
    for (epoch, sequence) in [(3, 0), (5, 4), (5, 8)] {
        for answer in whole.append_as_leader(&[idempotent(77, sequence, 4)], epoch, NOW) {
            answer.expect("appends");
        }
    }
    let start = TierStart {
        log_start: 2,
        offset: 12,
        epochs: whole.epoch_entries(),
        producer_snapshot: whole.producer_snapshot_at(12).expect("told"),
    };
    let dir = tempfile::tempdir().expect("temp dir");
    let tiered = LogConfig {
        remote_storage_enable: true,
        ..config()
    };
    let log = open_with(dir.path(), tiered, |_| ()).expect("opens").0;
    append_all(&log, &[batch(3), batch(4)]);

    log.start_from_tier(&start, NOW).expect("starts");
    assert_eq!((log.log_start_offset(), log.log_end_offset()), (2, 12));
    assert_eq!(log.local_log_start_offset(), 12);
    assert_eq!(log.high_watermark(), 12);
    let entry = |epoch, start_offset| EpochEntry {
        epoch,
        start_offset,
    };
    assert_eq!(log.epoch_entries(), [entry(3, 2), entry(5, 4)]);
    // The last batch's retry is known, and the next one in sequence goes on (I9).
    let mut retry = log.append_as_leader(&[idempotent(77, 8, 4)], 6, NOW);
    let stored = retry.remove(0).expect("known");
    assert!(stored.duplicate);
    assert_eq!(stored.base_offset, 8);
    let mut next = log.append_as_leader(&[idempotent(77, 12, 2)], 6, NOW);
    assert_eq!(next.remove(0).expect("appends").base_offset, 12);

    for clean in [false, true] {
        let (log, _) = reopen_in(dir.path(), clean, 2);
        assert_eq!((log.log_start_offset(), log.log_end_offset()), (2, 14));
        let epochs = [entry(3, 2), entry(5, 4), entry(6, 12)];
        assert_eq!(log.epoch_entries(), epochs);
        let mut retry = log.append_as_leader(&[idempotent(77, 12, 2)], 6, NOW);
        assert!(retry.remove(0).expect("known").duplicate);
        log.close(true).expect("closes");
    }
}

fn reopen_in(dir: &Path, clean: bool, log_start: Offset) -> (Log, RecoveryReport) {
    let tiered = LogConfig {
        remote_storage_enable: true,
        ..config()
    };
    open_with(dir, tiered, |open| {
        open.clean_shutdown = clean;
        open.log_start_offset = log_start;
    })
    .expect("opens again")
}
