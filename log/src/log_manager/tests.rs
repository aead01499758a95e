use std::path::Path;

use super::*;
use crate::log::LeaderAppend;
use crate::record::{Batch, BatchBuilder, BatchOptions, NewRecord, ValidBatch};
use crate::retention::TierView;
use crate::types::Offset;

const NOW: TimestampMs = 1_700_000_000_000;

fn config(dirs: &[&Path]) -> LogManagerConfig {
    LogManagerConfig {
        dirs: dirs.iter().map(|d| (*d).to_owned()).collect(),
        node_id: 1,
        cluster_id: "test-cluster".to_owned(),
        recovery_threads: 2,
        producer_id_expiration_ms: 86_400_000,
        open_files_max: 64,
        new_directory_id: || uuid::Uuid::from_u128(11),
    }
}

fn log_config() -> Arc<LogConfig> {
    LogConfig {
        segment_bytes: 500,
        ..LogConfig::default()
    }
    .into_shared()
}

fn tp(partition: i32) -> TopicPartition {
    TopicPartition::new("a-topic", partition)
}

fn id() -> TopicId {
    TopicId::from_u128(42)
}

fn manager(dir: &Path) -> LogManager {
    LogManager::open(config(&[dir])).expect("opens")
}

/// Opens the directory and loads everything that has the right topic id.
fn load(dir: &Path) -> (LogManager, LoadReport) {
    let manager = manager(dir);
    let report = manager
        .load_logs(&|_, topic_id| (topic_id == id()).then(log_config), NOW)
        .expect("loads");
    (manager, report)
}

fn append(log: &Log, batches: usize) {
    append_at(log, batches, NOW);
}

fn append_at(log: &Log, batches: usize, timestamp: TimestampMs) {
    let mut builder = BatchBuilder::new(BatchOptions::default());
    builder
        .append(NewRecord {
            timestamp,
            key: None,
            value: Some("value".into()),
            headers: Vec::new(),
        })
        .expect("fits");
    let batch = Batch::parse(builder.build()).expect("parses");
    let append = LeaderAppend {
        batch: ValidBatch { batch },
    };
    for answer in log.append_as_leader(&vec![append; batches], 0, NOW) {
        answer.expect("appends");
    }
    log.set_high_watermark(log.log_end_offset());
}

fn end_of(manager: &LogManager, partition: i32) -> Offset {
    manager
        .get(&tp(partition))
        .expect("is there")
        .log_end_offset()
}

#[test]
fn a_directory_serves_one_process() {
    let dir = tempfile::tempdir().expect("temp dir");
    let first = manager(dir.path());
    let second = LogManager::open(config(&[dir.path()])).expect_err("is taken");
    let path = dir.path().canonicalize().expect("resolves");
    assert_eq!(
        second.to_string(),
        format!("another process uses {}", path.display())
    );
    drop(first);
    manager(dir.path());
}

#[test]
fn a_directory_belongs_to_one_node_of_one_cluster() {
    let dir = tempfile::tempdir().expect("temp dir");
    drop(manager(dir.path()));
    let other = LogManagerConfig {
        cluster_id: "other".to_owned(),
        ..config(&[dir.path()])
    };
    let error = LogManager::open(other).expect_err("is another's");
    assert!(
        error
            .to_string()
            .contains("belongs to cluster test-cluster")
    );
    let other = LogManagerConfig {
        node_id: 2,
        ..config(&[dir.path()])
    };
    let error = LogManager::open(other).expect_err("is another's");
    assert!(error.to_string().contains("belongs to node 1"));
}

#[test]
fn logs_come_back_after_a_clean_stop_without_a_scan() {
    let dir = tempfile::tempdir().expect("temp dir");
    let (manager, report) = load(dir.path());
    assert!(report.logs.is_empty());
    for partition in 0..5 {
        let log = manager
            .create(&tp(partition), id(), log_config(), NOW)
            .expect("creates");
        append(&log, 10 + partition as usize);
    }
    manager.shutdown_clean().expect("stops");
    drop(manager);
    assert!(dir.path().join(".kafka_cleanshutdown").exists());

    let (manager, report) = load(dir.path());
    assert!(!dir.path().join(".kafka_cleanshutdown").exists());
    assert_eq!(report.logs.len(), 5);
    assert!(report.logs.iter().all(|(_, r)| r.scanned_segments == 0));
    for partition in 0..5 {
        let log = manager.get(&tp(partition)).expect("is there");
        let end = 10 + i64::from(partition);
        assert_eq!(log.log_end_offset(), end);
        assert_eq!(log.high_watermark(), end, "from the checkpoint");
        assert_eq!(log.recovery_point(), end);
    }
    drop(manager);

    // Nobody said goodbye, so the next start recovers from the recovery points.
    let (manager, report) = load(dir.path());
    assert!(report.failed.is_empty());
    assert!(report.logs.iter().all(|(_, r)| r.scanned_segments > 0));
    assert_eq!(end_of(&manager, 4), 14);
}

#[test]
fn checkpoints_keep_what_a_crash_must_not_take() {
    let dir = tempfile::tempdir().expect("temp dir");
    let (manager, _) = load(dir.path());
    let log = manager
        .create(&tp(0), id(), log_config(), NOW)
        .expect("creates");
    append(&log, 30);
    assert!(log.has_unflushed_sealed());
    manager.flush_dirty(dir.path(), NOW);
    assert!(!log.has_unflushed_sealed());
    let flushed = log.recovery_point();
    assert!(flushed > 0 && flushed < 30);
    log.increment_log_start_offset(2).expect("moves");
    manager.checkpoint().expect("writes");
    drop((log, manager));

    let (manager, report) = load(dir.path());
    let log = manager.get(&tp(0)).expect("is there");
    assert_eq!(log.log_start_offset(), 2);
    assert_eq!(log.high_watermark(), 30);
    assert_eq!(log.recovery_point(), flushed);
    assert!(report.logs[0].1.scanned_segments < log.segment_count());
}

#[test]
fn flush_ms_counts_from_the_oldest_unsynced_record() {
    let dir = tempfile::tempdir().expect("temp dir");
    let (manager, _) = load(dir.path());
    let timed = LogConfig {
        flush_ms: 100,
        ..LogConfig::default()
    };
    let log = manager
        .create(&tp(0), id(), timed.into_shared(), NOW)
        .expect("creates");
    append(&log, 1);
    manager.flush_dirty(dir.path(), NOW + 99);
    assert_eq!(log.recovery_point(), 0);
    manager.flush_dirty(dir.path(), NOW + 100);
    assert_eq!(log.recovery_point(), 1);
    assert!(!log.flush_is_due(NOW + 1_000));
}

#[test]
fn a_deleted_partition_goes_and_its_name_may_be_used_again() {
    let dir = tempfile::tempdir().expect("temp dir");
    let (manager, _) = load(dir.path());
    let log = manager
        .create(&tp(0), id(), log_config(), NOW)
        .expect("creates");
    append(&log, 50);
    log.flush().expect("flushes");
    manager.checkpoint().expect("writes");
    assert!(manager.delete(&tp(0)).expect("deletes"));
    assert!(!manager.delete(&tp(0)).expect("is gone"));
    assert!(manager.get(&tp(0)).is_none());
    let names = || -> Vec<String> {
        std::fs::read_dir(dir.path())
            .expect("lists")
            .filter_map(|e| e.expect("lists").file_name().into_string().ok())
            .filter(|n| n.starts_with("a-topic"))
            .collect()
    };
    assert_eq!(
        names(),
        ["a-topic-0.0000000000000000000000000000002a-delete"]
    );
    let log = manager
        .create(&tp(0), id(), log_config(), NOW)
        .expect("creates");
    append(&log, 3);
    manager.delete(&tp(0)).expect("deletes");
    assert_eq!(manager.purge(NOW), 2);
    assert!(names().is_empty());

    // After a crash the new log must not be held against the old one's checkpoints.
    let log = manager
        .create(&tp(0), id(), log_config(), NOW)
        .expect("creates");
    append(&log, 3);
    let path = log_path(&log);
    drop((log, manager));
    let bytes = std::fs::read(&path).expect("reads");
    std::fs::write(&path, &bytes[..bytes.len() - 1]).expect("writes");
    let (manager, report) = load(dir.path());
    assert!(report.failed.is_empty(), "{report:?}");
    assert_eq!(end_of(&manager, 0), 2);
}

#[test]
fn folders_that_nobody_wants_are_set_aside_and_others_left_alone() {
    let dir = tempfile::tempdir().expect("temp dir");
    let (manager, _) = load(dir.path());
    let stranger = TopicId::from_u128(77);
    manager
        .create(&tp(1), stranger, log_config(), NOW)
        .expect("creates");
    drop(manager);
    for folder in ["remote-0", "__cluster_metadata-0", "plain", "old.x-delete"] {
        std::fs::create_dir(dir.path().join(folder)).expect("creates");
    }
    let (manager, report) = load(dir.path());
    assert!(manager.is_empty());
    assert_eq!(report.strays.len(), 1);
    assert!(report.strays[0].exists());
    assert!(report.strays[0].to_string_lossy().ends_with("-stray"));
    for (folder, there) in [
        ("remote-0", true),
        ("__cluster_metadata-0", true),
        ("plain", true),
        ("old.x-delete", false),
        ("a-topic-1", false),
    ] {
        assert_eq!(dir.path().join(folder).exists(), there, "{folder}");
    }
    // The next start has nothing to complain about.
    drop(manager);
    let (_, report) = load(dir.path());
    assert!(report.strays.is_empty() && report.failed.is_empty());
}

#[test]
fn a_log_that_does_not_load_is_not_begun_anew() {
    let dir = tempfile::tempdir().expect("temp dir");
    let (manager, _) = load(dir.path());
    for partition in [0, 1] {
        let log = manager
            .create(&tp(partition), id(), log_config(), NOW)
            .expect("creates");
        append(&log, 4);
    }
    let path = log_path(&manager.get(&tp(0)).expect("is there"));
    for log in manager.logs() {
        log.flush().expect("flushes");
    }
    manager.checkpoint().expect("writes");
    drop(manager);
    // Nothing that a start could make good: a file that it needs cannot be read.
    let epochs = path.with_file_name("leader-epoch-checkpoint");
    std::fs::remove_file(&epochs).expect("removes");
    std::fs::create_dir(&epochs).expect("creates");

    let (manager, report) = load(dir.path());
    assert_eq!(report.failed.len(), 1);
    assert_eq!(end_of(&manager, 1), 4, "the other one serves");
    assert!(matches!(
        manager.failure(&tp(0)),
        Some(LogError::Storage(_))
    ));
    assert!(matches!(
        manager.create(&tp(0), id(), log_config(), NOW),
        Err(LogManagerError::Log(LogError::Storage(_)))
    ));
    assert!(manager.delete(&tp(0)).expect("deletes"));
    manager
        .create(&tp(0), id(), log_config(), NOW)
        .expect("begins anew");
}

#[test]
fn new_logs_go_where_the_fewest_are_and_never_into_an_offline_directory() {
    let (a, b) = (
        tempfile::tempdir().expect("temp dir"),
        tempfile::tempdir().expect("temp dir"),
    );
    let manager = LogManager::open(config(&[a.path(), b.path()])).expect("opens");
    for partition in 0..4 {
        manager
            .create(&tp(partition), id(), log_config(), NOW)
            .expect("creates");
    }
    let count = |dir: &Path| {
        let dir = dir.canonicalize().expect("resolves");
        manager
            .logs()
            .iter()
            .filter(|log| log.parent_dir() == dir)
            .count()
    };
    assert_eq!((count(a.path()), count(b.path())), (2, 2));
    assert!(!manager.is_offline(a.path()));
    let cause = StorageError::new("sync", a.path(), std::io::Error::other("broken"));
    manager.dirs[0].health().mark_offline(&cause);
    assert!(manager.is_offline(a.path()));
    for partition in 4..7 {
        manager
            .create(&tp(partition), id(), log_config(), NOW)
            .expect("creates");
    }
    assert_eq!((count(a.path()), count(b.path())), (2, 5));
    manager.shutdown_clean().expect("stops");
    assert!(!a.path().join(".kafka_cleanshutdown").exists());
    assert!(b.path().join(".kafka_cleanshutdown").exists());
}

fn log_path(log: &Log) -> PathBuf {
    crate::segment_files::segment_path(
        log.dir(),
        log.active_segment_base_offset(),
        crate::segment_files::SegmentFile::Log,
    )
}

#[test]
fn a_flush_that_meets_a_deletion_does_not_take_the_directory_offline() {
    let dir = tempfile::tempdir().expect("temp dir");
    let (manager, _) = load(dir.path());
    let log = manager
        .create(&tp(0), id(), log_config(), NOW)
        .expect("creates");
    append(&log, 50);
    manager.delete(&tp(0)).expect("deletes");
    assert!(log.flush().is_err(), "its sealed files are gone");
    assert!(!manager.is_offline(dir.path()));
}

/// Prints how long a start takes. The folder is in memory and syncs are not done: what counts is our own work and the
/// number of system calls.
#[test]
#[allow(clippy::disallowed_methods)] // It is about time.
fn a_thousand_logs_are_loaded_fast_after_a_stop_and_after_a_crash() {
    const LOGS: i32 = 1_000;
    let shm = Path::new("/dev/shm");
    let dir = if shm.is_dir() {
        tempfile::tempdir_in(shm)
    } else {
        tempfile::tempdir()
    };
    let dir = dir.expect("temp dir");
    let root = dir.path().canonicalize().expect("resolves");
    let _watch = crate::durable::watch::watch(&root, Arc::new(|_| Ok(())));
    let (first, _) = load(&root);
    for partition in 0..LOGS {
        let config = LogConfig::default().into_shared();
        let log = first
            .create(&tp(partition), id(), config, NOW)
            .expect("creates");
        for i in 0..40 {
            append_at(&log, 50, NOW + i);
        }
        if partition % 2 == 0 {
            log.roll(NOW).expect("rolls");
            for i in 0..40 {
                append_at(&log, 50, NOW + 100 + i);
            }
        }
        log.flush_with_indexes().expect("flushes");
        append_at(&log, 10, NOW + 200);
    }
    first.checkpoint().expect("writes");
    drop(first);
    for clean in [false, true, true] {
        let manager = manager(&root);
        let begun = std::time::Instant::now();
        let report = manager
            .load_logs(&|_, _| Some(log_config()), NOW)
            .expect("loads");
        println!(
            "clean {clean}: {} logs in {:?}",
            report.logs.len(),
            begun.elapsed()
        );
        assert_eq!(report.logs.len(), LOGS as usize);
        let scanned: u64 = report.logs.iter().map(|(_, r)| r.scanned_bytes).sum();
        let all: u64 = manager.logs().iter().map(|log| log.size_bytes()).sum();
        // Ten batches of each were not synced, of hundreds.
        assert!(
            if clean {
                scanned == 0
            } else {
                scanned < all / 8
            },
            "{scanned} of {all} bytes"
        );
        manager.shutdown_clean().expect("stops");
    }
}

/// With many logs of which nobody appends to, timers look at none; each change costs a look at that one log.
#[test]
fn idle_logs_cost_the_timers_nothing() {
    let dir = tempfile::tempdir().expect("temp dir");
    let manager = manager(dir.path());
    let settings = LogConfig {
        segment_bytes: 500,
        retention_ms: 10_000,
        file_delete_delay_ms: 1_000,
        ..LogConfig::default()
    }
    .into_shared();
    const LOGS: i32 = 300;
    for partition in 0..LOGS {
        let log = manager
            .create(&tp(partition), id(), Arc::clone(&settings), NOW)
            .expect("creates");
        if partition < 20 {
            append_at(&log, 3, NOW + i64::from(partition));
        }
    }
    let looks = |now_ms| {
        let retained = manager.due_for_retention(now_ms);
        for log in &retained {
            let plan = log.plan_retention(now_ms, &TierView::default());
            log.apply_retention(&plan, now_ms).expect("deletes");
            manager.retained(log, true, now_ms);
        }
        let checkpointed = manager.checkpoint().expect("writes");
        let expired = manager.expire_producers(now_ms);
        let (_, purged) = manager.purge_counted(now_ms);
        [retained.len(), checkpointed, expired, purged]
    };
    assert_eq!(looks(NOW + 100), [LOGS as usize; 4], "all are new");
    for tick in 1..100 {
        assert_eq!(looks(NOW + 100 + tick * 10), [0; 4]);
    }
    append_at(&manager.get(&tp(7)).expect("is there"), 1, NOW + 2_000);
    assert_eq!(looks(NOW + 2_000), [1; 4]);
    assert_eq!(looks(NOW + 2_001), [0; 4]);
    // What expires is seen when it does, and its files are seen again when they are to go.
    let at = |retained, others| [retained, others, others, others];
    assert_eq!(looks(NOW + 10_000), [0; 4], "exactly as old as the limit");
    assert_eq!(looks(NOW + 10_001), at(1, 1), "the first log's segment");
    assert_eq!(
        looks(NOW + 10_002),
        at(2, 1),
        "the next one's, and what the first has become"
    );
    let size = |n| manager.get(&tp(n)).expect("is there").size_bytes();
    assert_eq!((size(0), size(1)), (0, 0));
    assert!(size(2) > 0);
    let names = || std::fs::read_dir(dir.path().join("a-topic-0")).expect("lists");
    let deleted = || {
        names()
            .filter(|entry| {
                let name = entry.as_ref().expect("lists").file_name();
                name.to_string_lossy().ends_with(".deleted")
            })
            .count()
    };
    assert!(deleted() > 0);
    looks(NOW + 11_500);
    assert_eq!(deleted(), 0, "the delay is over");
    // Settings are a change too.
    looks(NOW + 11_501);
    looks(NOW + 11_502);
    let log = manager.get(&tp(200)).expect("is there");
    log.set_config(Arc::clone(&settings));
    assert_eq!(looks(NOW + 11_503), [1; 4]);
    assert_eq!(looks(NOW + 11_504), [0; 4]);
}

/// The checkpoints on disk say the same as if all had been gathered anew.
#[test]
fn checkpoints_of_what_changed_are_whole() {
    let dir = tempfile::tempdir().expect("temp dir");
    let manager = manager(dir.path());
    let create = |n| {
        manager
            .create(&tp(n), id(), log_config(), NOW)
            .expect("creates")
    };
    let logs: Vec<_> = (0..5).map(create).collect();
    let points = || {
        let file = crate::checkpoint::OffsetCheckpointFile::new(
            dir.path(),
            crate::checkpoint::RECOVERY_POINT_CHECKPOINT,
        );
        let read = file.read().expect("reads");
        read.into_iter()
            .map(|(tp, offset)| (tp.partition, offset))
            .collect::<Vec<_>>()
    };
    manager.checkpoint().expect("writes");
    assert_eq!(points(), [(0, 0), (1, 0), (2, 0), (3, 0), (4, 0)]);
    append(&logs[3], 2);
    logs[3].flush().expect("flushes");
    manager.delete(&tp(1)).expect("deletes");
    assert_eq!(manager.checkpoint().expect("writes"), 1);
    assert_eq!(points(), [(0, 0), (2, 0), (3, 2), (4, 0)]);
    create(1);
    append(&logs[0], 1);
    logs[0].flush().expect("flushes");
    manager.checkpoint().expect("writes");
    assert_eq!(points(), [(0, 1), (1, 0), (2, 0), (3, 2), (4, 0)]);
}
