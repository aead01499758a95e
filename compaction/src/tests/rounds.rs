use super::*;
use crate::cleaner_manager::LogCleanerManager;

fn fill(log: &Log, rounds: usize) {
    for i in 0..rounds {
        let value = format!("{i:0>60}");
        let pairs = ["a", "b", "c"].map(|key| format!("{key}={value}"));
        let pairs: Vec<&str> = pairs.iter().map(String::as_str).collect();
        put(log, &pairs, Compression::None, NOW + i as i64);
    }
}

#[test]
fn the_last_value_of_every_key_stays_at_its_offset() {
    for compression in Compression::ALL {
        let dir = tempfile::tempdir().expect("temp dir");
        let log = open(dir.path(), &config(&[]), 0);
        put(&log, &["a=1", "b=1", "c=1"], compression, NOW);
        put(&log, &["a=2", "d=1"], compression, NOW + 5);
        log.roll(NOW).expect("rolls");
        put(&log, &["b=2"], compression, NOW + 9);
        log.roll(NOW).expect("rolls");
        put(&log, &["c=2"], compression, NOW + 10);
        let cleaned = clean(&log, None, NOW + 10).expect("cleans");
        assert_eq!(cleaned.end_offset, 6);
        // The active segment's value of c is not known to the round.
        assert_eq!(
            contents(&log),
            ["2:c=1", "3:a=2", "4:d=1", "5:b=2", "6:c=2"]
        );
        assert_eq!(log.segment_count(), 2, "two became one");
        let headers = headers(&log);
        let codecs: Vec<_> = headers
            .iter()
            .map(|h| h.compression().expect("known"))
            .collect();
        assert!(codecs.iter().all(|codec| *codec == compression));
        assert_eq!((headers[0].base_offset, headers[0].last_offset()), (0, 2));
        assert_eq!(headers[0].max_timestamp, NOW);
        assert_eq!(records(&log)[0].timestamp, NOW);
        // A second round finds nothing to do and writes nothing.
        let plan = plan(&log, Some(6), NOW + 10);
        assert_eq!((plan.cleanable_bytes, plan.is_due()), (0, false));
        let again = clean(&log, None, NOW + 10).expect("cleans");
        assert_eq!(again.stats.bytes_written, 0);
    }
}

#[test]
fn tombstones_go_when_their_horizon_is_over() {
    let dir = tempfile::tempdir().expect("temp dir");
    let log = open(dir.path(), &config(&[]), 0);
    put(&log, &["a=1", "b=1"], Compression::Zstd, NOW);
    put(&log, &["a=-", "c=1"], Compression::Zstd, NOW + 1);
    log.roll(NOW).expect("rolls");
    put(&log, &["x=1"], Compression::None, NOW + 2);
    clean(&log, None, NOW + 1_000).expect("cleans");
    assert_eq!(contents(&log), ["1:b=1", "2:a=-", "3:c=1", "4:x=1"]);
    let header = headers(&log)[1];
    assert!(header.attributes.has_delete_horizon());
    assert_eq!(
        header.base_timestamp,
        NOW + 11_000,
        "delete.retention.ms is 10 s"
    );
    assert_eq!(header.max_timestamp, NOW + 1);
    assert!(records(&log)[1..3].iter().all(|r| r.timestamp == NOW + 1));
    // Its time has not come, and the horizon does not move.
    clean(&log, None, NOW + 10_999).expect("cleans");
    assert_eq!(contents(&log)[1], "2:a=-");
    assert_eq!(headers(&log)[1].base_timestamp, NOW + 11_000);
    let log = crash(log);
    clean(&log, None, NOW + 11_000).expect("cleans");
    assert_eq!(contents(&log), ["1:b=1", "3:c=1", "4:x=1"]);
    let header = headers(&log)[1];
    assert!(header.attributes.has_delete_horizon());
    assert_eq!(records(&log)[1].timestamp, NOW + 1);
}

#[test]
fn keys_that_outgrow_the_map_take_several_rounds() {
    let dir = tempfile::tempdir().expect("temp dir");
    let log = open(dir.path(), &config(&[]), 0);
    let keys = 40;
    for round in 0..3 {
        for key in 0..keys {
            let pair = format!("key-{key}={round:0>30}");
            put(&log, &[&pair], Compression::None, NOW);
        }
    }
    log.roll(NOW).expect("rolls");
    let small = cleaner(13);
    let (mut checkpoint, mut rounds) = (0, 0);
    let end = log.active_segment_base_offset();
    while checkpoint < end {
        let plan = plan(&log, Some(checkpoint), NOW);
        let cleaned = small
            .clean(&log, &plan, NOW, &mut |_| ControlFlow::Continue(()))
            .expect("cleans");
        assert!(cleaned.end_offset > checkpoint, "a round gets on");
        checkpoint = cleaned.end_offset;
        rounds += 1;
    }
    assert!(rounds >= 3 * keys / 13, "{rounds} rounds");
    assert_eq!(records(&log).len(), keys, "{:?}", contents(&log));
    assert!(records(&log).iter().all(|r| r.offset >= 2 * keys as i64));
}

#[test]
fn a_producers_last_batch_and_the_end_of_the_round_are_kept_though_empty() {
    let dir = tempfile::tempdir().expect("temp dir");
    let log = open(dir.path(), &config(&[]), 0);
    let options = |producer_id, base_sequence| BatchOptions {
        producer_id,
        producer_epoch: 3,
        base_sequence,
        ..BatchOptions::default()
    };
    append(&log, &[record("a", Some("1"), NOW)], options(7, 0), NOW);
    append(&log, &[record("a", Some("2"), NOW)], options(7, 1), NOW);
    append(&log, &[record("a", Some("3"), NOW)], options(8, 0), NOW);
    append(
        &log,
        &[record("a", Some("4"), NOW)],
        BatchOptions::default(),
        NOW,
    );
    append(
        &log,
        &[record("b", Some("1"), NOW)],
        BatchOptions::default(),
        NOW,
    );
    log.roll(NOW).expect("rolls");
    put(&log, &["a=5", "b=2"], Compression::None, NOW);
    log.roll(NOW).expect("rolls");
    put(&log, &["c=1"], Compression::None, NOW);
    clean(&log, None, NOW).expect("cleans");
    let found: Vec<_> = headers(&log)
        .iter()
        .map(|h| (h.base_offset, h.records_count, h.producer_id))
        .collect();
    // Of producer 7 only the last batch; 8's too; those without a producer are gone.
    assert_eq!(found, [(1, 0, 7), (2, 0, 8), (5, 2, -1), (7, 1, -1)]);
    let kept = headers(&log)[0];
    assert_eq!((kept.last_sequence(), kept.producer_epoch), (1, 3));
    // After a crash that needs the log to know its producers.
    let recovered = open(dir.path(), &config(&[]), 0);
    let sequences: Vec<_> = recovered
        .producers()
        .iter()
        .map(|p| (p.producer_id, p.last_sequence()))
        .collect();
    assert_eq!(sequences, [(7, 1), (8, 0)]);

    // A round that leaves nothing at its end keeps a header there.
    let dir = tempfile::tempdir().expect("temp dir");
    let log = open(dir.path(), &config(&[]), 0);
    put(&log, &["a=-"], Compression::None, NOW);
    log.roll(NOW).expect("rolls");
    put(&log, &["b=1"], Compression::None, NOW);
    clean(&log, None, NOW).expect("cleans");
    clean(&log, None, NOW + 10_000).expect("cleans");
    assert_eq!(contents(&log), ["1:b=1"]);
    assert_eq!(
        (headers(&log)[0].base_offset, headers(&log)[0].records_count),
        (0, 0)
    );
}

#[test]
fn a_damaged_log_is_set_aside_and_the_others_are_cleaned() {
    let (good_dir, bad_dir) = (
        tempfile::tempdir().expect("temp dir"),
        tempfile::tempdir().expect("temp dir"),
    );
    let open_as = |dir: &Path, name: &str| {
        let (log, _) = Log::open(
            dir,
            TopicPartition::new(name, 0),
            TopicId::from_u128(7),
            Arc::new(config(&[])),
            OpenLog::new(NOW),
        )
        .expect("opens");
        fill(&log, 40);
        Arc::new(log)
    };
    let logs = [
        open_as(good_dir.path(), "good"),
        open_as(bad_dir.path(), "bad"),
    ];
    let segments = logs[1].log_segments();
    let path = segments[1].path();
    let mut bytes = std::fs::read(&path).expect("reads");
    let at = bytes.len() / 2;
    bytes[at] ^= 1;
    std::fs::write(&path, bytes).expect("writes");
    let before = bytes_of(&logs[1]);

    let manager = LogCleanerManager::new(&[]);
    let mut outcomes = Vec::new();
    while let Some(grabbed) = manager.grab_filthiest(&logs, NOW + 100) {
        let name = grabbed.log.topic_partition().topic.to_string();
        match cleaner(100).clean(&grabbed.log, &grabbed.plan, NOW + 100, &mut |_| {
            ControlFlow::Continue(())
        }) {
            Ok(cleaned) => {
                manager.done(&grabbed.log, cleaned.end_offset);
                outcomes.push((name, true));
            }
            Err(CleanError::Log(error)) => {
                let text = error.to_string();
                assert!(text.contains(&path.display().to_string()), "{text}");
                assert!(text.contains("position"), "{text}");
                manager.set_aside(&grabbed.log);
                outcomes.push((name, false));
            }
            Err(other) => panic!("{other}"),
        }
    }
    outcomes.sort();
    assert_eq!(
        outcomes,
        [("bad".to_owned(), false), ("good".to_owned(), true)]
    );
    assert_eq!(bytes_of(&logs[1]), before, "nothing was touched");
    let names: Vec<_> = std::fs::read_dir(bad_dir.path())
        .expect("lists")
        .map(|e| e.expect("lists").file_name().into_string().expect("text"))
        .collect();
    assert!(!names.iter().any(|n| n.ends_with(".cleaned")), "{names:?}");
    let seen = manager.seen();
    assert_eq!(seen.uncleanable_partitions, 1);
    assert_eq!(seen.uncleanable_bytes, logs[1].size_bytes());
    assert!(manager.grab_filthiest(&logs, NOW + 100).is_none());
    // A topic of the same name that is another one is not held to account.
    assert!(manager.grab_filthiest(&logs[..1], NOW + 100).is_none());
    assert!(manager.grab_filthiest(&logs[1..], NOW + 100).is_some());
}

#[test]
fn a_log_that_is_postponed_lets_others_go_first() {
    let dirs = [0, 1].map(|_| tempfile::tempdir().expect("temp dir"));
    let logs: Vec<_> = dirs
        .iter()
        .zip(["a", "b"])
        .map(|(dir, name)| {
            let tp = TopicPartition::new(name, 0);
            let id = TopicId::from_u128(7);
            let config = Arc::new(config(&[]));
            let (log, _) = Log::open(dir.path(), tp, id, config, OpenLog::new(NOW)).expect("opens");
            fill(&log, 40);
            Arc::new(log)
        })
        .collect();
    let manager = LogCleanerManager::new(&[]);
    let first = manager.grab_filthiest(&logs, NOW).expect("is due");
    manager.postpone(&first.log, NOW + 60_000);
    let second = manager.grab_filthiest(&logs, NOW + 1).expect("is due");
    assert!(!Arc::ptr_eq(&first.log, &second.log));
    manager.done(&second.log, second.plan.first_uncleanable);
    assert!(manager.grab_filthiest(&logs, NOW + 59_999).is_none());
    assert!(manager.grab_filthiest(&logs, NOW + 60_000).is_some());
}

#[test]
fn checkpoints_survive_and_wrong_ones_begin_anew() {
    let parent = tempfile::tempdir().expect("temp dir");
    let parent_path = parent.path().to_owned();
    let open = OpenLog {
        health: strandline_log::dir_health::DirHealth::new(&parent_path),
        ..OpenLog::new(NOW)
    };
    let (log, _) = Log::open(
        &parent_path.join("t-0"),
        TopicPartition::new("t", 0),
        TopicId::from_u128(7),
        Arc::new(config(&[])),
        open,
    )
    .expect("opens");
    fill(&log, 40);
    let logs = [Arc::new(log)];
    let dirs = [parent_path.clone()];
    let manager = LogCleanerManager::new(&dirs);
    let grabbed = manager.grab_filthiest(&logs, NOW).expect("is due");
    assert!(
        manager.grab_filthiest(&logs, NOW).is_none(),
        "one at a time"
    );
    let cleaned = cleaner(100)
        .clean(&grabbed.log, &grabbed.plan, NOW, &mut |_| {
            ControlFlow::Continue(())
        })
        .expect("cleans");
    manager.done(&grabbed.log, cleaned.end_offset);
    let text = std::fs::read_to_string(parent_path.join("cleaner-offset-checkpoint"));
    assert_eq!(
        text.expect("reads"),
        format!("0\n1\nt 0 {}\n", cleaned.end_offset)
    );

    let again = LogCleanerManager::new(&dirs);
    let tp = TopicPartition::new("t", 0);
    assert!(again.grab_filthiest(&logs, NOW).is_none());
    assert_eq!(again.checkpoint(&tp), Some(cleaned.end_offset));
    std::fs::write(
        parent_path.join("cleaner-offset-checkpoint"),
        "0\n1\nt 0 999999\n",
    )
    .expect("writes");
    let wrong = LogCleanerManager::new(&dirs);
    wrong.grab_filthiest(&logs, NOW);
    assert_eq!(wrong.checkpoint(&tp), Some(0));
    std::fs::write(parent_path.join("cleaner-offset-checkpoint"), "rubbish").expect("writes");
    assert_eq!(LogCleanerManager::new(&dirs).checkpoint(&tp), None);
}

#[test]
fn a_round_stops_when_it_is_told_to_and_leaves_nothing() {
    let dir = tempfile::tempdir().expect("temp dir");
    let log = open(
        dir.path(),
        &config(&[("internal.segment.bytes", "4000000")]),
        0,
    );
    let value = "v".repeat(100_000);
    for i in 0..30 {
        put(
            &log,
            &[&format!("k{}={value}", i % 3)],
            Compression::None,
            NOW,
        );
    }
    log.roll(NOW).expect("rolls");
    let before = bytes_of(&log);
    let plan = plan(&log, None, NOW);
    // The map takes the first calls; the copy the others.
    for stop_after in [0, 5, 12] {
        let mut calls = 0;
        let stopped = cleaner(100).clean(&log, &plan, NOW, &mut |bytes| {
            assert!(bytes > 0);
            calls += 1;
            if calls > stop_after {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        });
        assert!(matches!(stopped, Err(CleanError::Stopped)), "{stopped:?}");
        assert_eq!(bytes_of(&log), before);
        let left = std::fs::read_dir(dir.path())
            .expect("lists")
            .filter(|entry| {
                let name = entry.as_ref().expect("lists").file_name();
                name.to_string_lossy().ends_with(".cleaned")
            });
        assert_eq!(left.count(), 0, "stopped after {stop_after}");
    }
}
