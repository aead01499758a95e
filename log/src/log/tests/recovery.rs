use super::*;
use crate::segment_files::{SegmentFile, segment_path};

#[test]
fn a_clean_reopen_reads_no_batch_and_an_unclean_one_all_above_the_recovery_point() {
    let dir = tempfile::tempdir().expect("temp dir");
    let log = open(dir.path());
    append_all(&log, &(0..30).map(|_| batch(3)).collect::<Vec<_>>());
    let before = records(&log, 0);
    let (log, report) = reopen(log, true);
    assert_eq!((report.scanned_segments, report.rebuilt_indexes), (0, 0));
    assert_eq!(log.log_end_offset(), 90);
    assert_eq!(records(&log, 0), before);
    append_all(&log, &[batch(3)]);
    let (log, report) = reopen(log, false);
    assert!(report.scanned_segments <= 2, "{report:?}");
    assert_eq!(log.log_end_offset(), 93);
    assert_eq!(log.recovery_point(), 90);
    // Without a recovery point all is read.
    let dir = log.dir().to_owned();
    drop(log);
    let (log, report) = open_with(&dir, config(), |_| ()).expect("opens");
    assert_eq!(report.scanned_segments, log.segment_count());
    assert_eq!(report.scanned_bytes, log.size_bytes());
    assert_eq!(records(&log, 0).len(), 93);
}

#[test]
fn a_torn_tail_is_cut_wherever_it_is_torn() {
    let dir = tempfile::tempdir().expect("temp dir");
    let log = open(dir.path());
    append_all(&log, &[batch(2), batch(2), batch(3)]);
    let path = log_file(dir.path(), 0);
    drop(log);
    let whole = std::fs::read(&path).expect("reads");
    let last = batch(3).batch.batch.size();
    for cut in whole.len() - last..whole.len() {
        std::fs::write(&path, &whole[..cut]).expect("writes");
        let (log, report) = open_with(dir.path(), config(), |_| ()).expect("opens");
        assert_eq!(log.log_end_offset(), 4, "cut at {cut}");
        assert_eq!(report.truncated_bytes, (cut - (whole.len() - last)) as u64);
        assert_eq!(records(&log, 0).len(), 4);
        append_all(&log, &[batch(3)]);
        assert_eq!(records(&log, 0).len(), 7);
    }
    // Any flipped byte that the CRC covers, or that frames the batch, ends the log before it.
    for flip in whole.len() - last..whole.len() {
        let mut bytes = whole.clone();
        bytes[flip] ^= 0x55;
        std::fs::write(&path, &bytes).expect("writes");
        let (log, _) = open_with(dir.path(), config(), |_| ()).expect("opens");
        let in_batch = flip - (whole.len() - last);
        // The leader epoch and the base offset are outside of the CRC; an offset that only goes up may be right.
        if !(0..8).contains(&in_batch) && !(12..16).contains(&in_batch) {
            assert_eq!(log.log_end_offset(), 4, "flipped {in_batch}");
        }
    }
    // Zeroed pages after the end.
    let mut bytes = whole.clone();
    bytes.extend_from_slice(&[0; 5_000]);
    std::fs::write(&path, &bytes).expect("writes");
    let (log, _) = open_with(dir.path(), config(), |_| ()).expect("opens");
    assert_eq!(log.log_end_offset(), 7);
}

#[test]
fn segments_behind_a_torn_one_are_dropped() {
    let dir = tempfile::tempdir().expect("temp dir");
    let log = open(dir.path());
    append_all(&log, &(0..30).map(|_| batch(3)).collect::<Vec<_>>());
    let segments = log.segments.snapshot();
    let (second, third) = (segments[1].base_offset(), segments[2].base_offset());
    drop((segments, log));
    let path = log_file(dir.path(), second);
    let bytes = std::fs::read(&path).expect("reads");
    std::fs::write(&path, &bytes[..bytes.len() - 1]).expect("writes");
    let (log, report) = open_with(dir.path(), config(), |_| ()).expect("opens");
    assert!(report.dropped_segments > 0);
    assert!(log.log_end_offset() < third);
    assert_eq!(
        records(&log, 0).len() as i64,
        log.log_end_offset(),
        "nothing is missing in the middle"
    );
    append_all(&log, &[batch(3)]);
    let (log, _) = reopen(log, true);
    assert_eq!(records(&log, 0).len() as i64, log.log_end_offset());
}

#[test]
fn damage_below_the_recovery_point_is_known_and_nothing_is_cut() {
    let dir = tempfile::tempdir().expect("temp dir");
    let one_segment = LogConfig {
        segment_bytes: 1 << 20,
        ..config()
    };
    let log = open_with(dir.path(), one_segment.clone(), |_| ())
        .expect("opens")
        .0;
    append_all(&log, &(0..30).map(|_| batch(3)).collect::<Vec<_>>());
    log.flush().expect("flushes");
    drop(log);
    let path = log_file(dir.path(), 0);
    let size = std::fs::metadata(&path).expect("is there").len();
    let index = segment_path(dir.path(), 0, SegmentFile::OffsetIndex);
    std::fs::remove_file(&index).expect("removes");
    let mut bytes = std::fs::read(&path).expect("reads");
    bytes[500..600].fill(0xff);
    std::fs::write(&path, &bytes).expect("writes");
    let (log, _) =
        open_with(dir.path(), one_segment, |open| open.recovery_point = 90).expect("opens");
    let damages = log.damages();
    assert_eq!(damages.len(), 1, "{damages:?}");
    assert!(damages[0].position <= 500 && damages[0].resume >= 600);
    assert_eq!(log.log_end_offset(), 90);
    assert_eq!(std::fs::metadata(&path).expect("is there").len(), size);
}

#[test]
fn indexes_come_back_whatever_happened_to_them() {
    type Damage = fn(&Path);
    let damages: [(&str, Damage); 5] = [
        ("missing", |path| {
            std::fs::remove_file(path).expect("removes")
        }),
        ("empty", |path| std::fs::write(path, []).expect("writes")),
        ("odd", |path| {
            let mut bytes = std::fs::read(path).expect("reads");
            bytes.push(1);
            std::fs::write(path, bytes).expect("writes");
        }),
        ("zeroed", |path| {
            let len = std::fs::metadata(path).expect("is there").len();
            std::fs::write(path, vec![0; len as usize]).expect("writes");
        }),
        ("garbage", |path| {
            let len = std::fs::metadata(path).expect("is there").len();
            std::fs::write(path, vec![0xee; len as usize]).expect("writes");
        }),
    ];
    for kind in [SegmentFile::OffsetIndex, SegmentFile::TimeIndex] {
        for (name, damage) in damages {
            for recovery_point in [0, 50, 90] {
                let dir = tempfile::tempdir().expect("temp dir");
                let log = open(dir.path());
                append_all(&log, &(0..30).map(|_| batch(3)).collect::<Vec<_>>());
                let active = log.active_segment_base_offset();
                log.close(true).expect("closes");
                drop(log);
                damage(&segment_path(dir.path(), active, kind));
                let (log, _) = open_with(dir.path(), config(), |open| {
                    open.recovery_point = recovery_point;
                })
                .expect("opens");
                assert_eq!(records(&log, 0).len(), 90, "{kind:?} {name}");
                for from in 0..90 {
                    let read = log.read(from, 90, 10, true).expect("reads");
                    let first = Batch::parse(bytes_of(&read)).expect("whole");
                    assert!(
                        (first.header.base_offset..=first.header.last_offset()).contains(&from)
                    );
                }
                let newest = log.offset_for_max_timestamp().expect("looks");
                assert_eq!(newest.map(|n| n.timestamp), Some(NOW));
            }
        }
    }
}

#[test]
fn rebuilt_indexes_are_those_that_were_written() {
    let dir = tempfile::tempdir().expect("temp dir");
    let log = open(dir.path());
    for i in 0..60_i64 {
        append_all(
            &log,
            &[batch_of(&[i, i + 3, i - 5], BatchOptions::default())],
        );
    }
    log.close(true).expect("closes");
    drop(log);
    let indexes = || -> Vec<(String, Vec<u8>)> {
        file_names(dir.path())
            .into_iter()
            .filter(|n| n.ends_with("index"))
            .map(|n| (n.clone(), std::fs::read(dir.path().join(n)).expect("reads")))
            .collect()
    };
    let before = indexes();
    assert!(before.iter().any(|(_, bytes)| !bytes.is_empty()));
    for (name, _) in &before {
        std::fs::remove_file(dir.path().join(name)).expect("removes");
    }
    let (log, report) = open_with(dir.path(), config(), |_| ()).expect("opens");
    assert_eq!(report.rebuilt_indexes, log.segment_count());
    log.close(true).expect("closes");
    assert_eq!(indexes(), before);
}

#[test]
fn remains_of_deletions_and_orphans_go_at_the_start() {
    let dir = tempfile::tempdir().expect("temp dir");
    let log = open(dir.path());
    append_all(&log, &[batch(1)]);
    drop(log);
    for name in [
        "00000000000000000099.index",
        "00000000000000000000.log.deleted",
        "leader-epoch-checkpoint.tmp",
        "00000000000000000077.snapshot",
    ] {
        std::fs::write(dir.path().join(name), b"x").expect("writes");
    }
    std::fs::write(dir.path().join("leader-epoch-checkpoint"), b"").expect("writes");
    let log = open(dir.path());
    assert_eq!(log.log_end_offset(), 1);
    assert_eq!(log.latest_epoch(), Some(0), "read from the batches");
    assert_eq!(
        file_names(dir.path()),
        [
            "00000000000000000000.index",
            "00000000000000000000.log",
            "00000000000000000000.timeindex",
            "leader-epoch-checkpoint",
        ]
    );
}

#[test]
fn epochs_follow_the_log_at_both_ends() {
    let dir = tempfile::tempdir().expect("temp dir");
    let log = open(dir.path());
    for epoch in [1, 1, 4, 6] {
        log.assign_epoch(epoch).expect("assigns");
        for answer in log.append_as_leader(&[batch(5)], epoch, NOW) {
            answer.expect("appends");
        }
    }
    log.set_high_watermark(20);
    assert_eq!(log.epoch_end_offset(1), Some((1, 10)));
    assert_eq!(log.epoch_end_offset(5), Some((4, 15)));
    assert_eq!(log.epoch_end_offset(7), None);
    assert_eq!(log.epoch_for_offset(12), Some(4));
    log.truncate_to(15, NOW).expect("cuts");
    assert_eq!(log.latest_epoch(), Some(4));
    let (log, _) = reopen(log, false);
    assert_eq!(log.latest_epoch(), Some(4));
    assert_eq!(log.log_end_offset(), 15);
    log.set_high_watermark(15);
    log.increment_log_start_offset(11).expect("moves");
    assert_eq!(log.epoch_entries().len(), 1);
    assert_eq!(log.epoch_for_offset(11), Some(4));
}
