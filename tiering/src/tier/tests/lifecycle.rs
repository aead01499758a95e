//! Retention, DeleteRecords, deletion, and topics that are not or no longer tiered.

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn total_retention_by_size_counts_both_tiers_and_removes_objects() {
    let world = World::new();
    let log = world.log(&[("retention.bytes", "70000")]);
    fill(&log, 150, 300);
    let tier = world.started();
    let partition = tier.lead(leader(&log, 1));
    wait_for("history was cut", || log.log_start_offset() > 0).await;
    wait_until_tiered(&partition).await;
    let manifest = partition.manifest().expect("there");
    wait_for("the objects are gone", || {
        world.segment_files().len() as u64 == partition.manifest().expect("there").entry_count()
    })
    .await;
    assert_eq!(manifest.start_offset(), log.log_start_offset());
    let total = manifest.bytes_total() + log.size_bytes();
    assert!((54_000..90_000).contains(&total), "{total}");
    let refused = partition.read(0, 1_000).await;
    assert!(matches!(refused, Err(RemoteReadError::OutOfRange { .. })));
    partition
        .read(log.log_start_offset(), 1_000)
        .await
        .expect("readable");
    tier.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn total_retention_by_time_goes_by_record_timestamps() {
    let world = World::new();
    let log = world.log(&[
        ("retention.ms", "3600000"),
        ("local.retention.ms", "3600000"),
    ]);
    // The records are from 1970.
    fill(&log, 60, 300);
    let expired_end = log.active_segment_base_offset();
    let tier = world.started();
    let partition = tier.lead(leader(&log, 1));
    wait_for("all sealed segments expired", || {
        log.log_start_offset() == expired_end
    })
    .await;
    wait_for("the objects are gone", || world.segment_files().is_empty()).await;
    let manifest = partition.manifest().expect("there");
    manifest.check().expect("I5");
    assert_eq!(manifest.end_offset(), expired_end);
    tier.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn delete_records_moves_the_start_of_both_tiers() {
    let world = World::new();
    let log = world.log(&[]);
    fill(&log, 80, 300);
    let tier = world.started();
    let partition = tier.lead(leader(&log, 1));
    wait_until_tiered(&partition).await;
    let before = world.segment_files().len();
    // In the middle of a batch, in the middle of a segment.
    let start = log.active_segment_base_offset() / 2 + 1;
    log.increment_log_start_offset(start).expect("moves");
    partition.advance_log_start(start);
    wait_for("the manifest follows", || {
        partition.remote_start() == Some(start)
    })
    .await;
    wait_for("the objects below are gone", || {
        world.segment_files().len() < before
    })
    .await;
    let refused = partition.read(start - 1, 1_000).await;
    assert!(matches!(refused, Err(RemoteReadError::OutOfRange { .. })));
    partition.read(start, 1_000).await.expect("readable");
    let found = partition.offset_for_timestamp(0).await.expect("readable");
    assert_eq!(found.map(|found| found.offset), Some(start));
    tier.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deleted_topic_leaves_a_tombstone_and_a_mark() {
    let world = World::new();
    let log = world.log(&[]);
    fill(&log, 60, 300);
    let tier = world.started();
    let partition = tier.lead(leader(&log, 1));
    wait_until_tiered(&partition).await;
    assert!(!world.segment_files().is_empty());
    tier.delete_topic("flights", TOPIC_ID, 2);
    assert!(tier.partition(&tp()).is_none());
    wait_for("the objects are gone", || world.segment_files().is_empty()).await;
    let root = world.manifest().await.expect("a tombstone");
    assert!(root.is_deleted());

    let reader = BucketReader::new(world.remote_store(), Some(CLUSTER.to_owned()));
    let deadline = Instant::now() + DEADLINE;
    while reader
        .find_topic("flights")
        .await
        .expect("readable")
        .is_some()
    {
        assert!(Instant::now() < deadline, "the marker still lives");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    tier.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn topics_without_remote_storage_never_touch_the_store() {
    let world = World::new();
    let log = world.log(&[
        ("remote.storage.enable", "false"),
        ("local.retention.bytes", "-2"),
    ]);
    fill(&log, 30, 300);
    let segments = log.segment_count();
    let tier = world.started();
    let partition = tier.lead(leader(&log, 1));
    wait_for("it was looked at", || {
        partition.status().state == CopyState::Disabled
    })
    .await;
    assert!(!world.dir.path().join("store").exists());
    assert_eq!(log.segment_count(), segments);

    // Switched on later, everything goes up.
    let expected = local_bytes(&log, 0, log.active_segment_base_offset());
    log.set_config(log_config(&[]));
    wait_until_tiered(&partition).await;
    let end = log.active_segment_base_offset();
    let read = remote_bytes(&partition, 0, end, 1 << 20).await;
    assert_eq!(read.expect("readable"), expected);
    tier.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_that_is_old_when_tiering_begins_starts_at_its_log_start() {
    let world = World::new();
    let log = world.log(&[("remote.storage.enable", "false")]);
    fill(&log, 60, 300);
    let start = log.active_segment_base_offset() / 2 + 1;
    log.increment_log_start_offset(start).expect("moves");
    log.delete_local_segments_below(start).expect("deletes");
    log.set_config(log_config(&[]));
    let end = log.active_segment_base_offset();
    let tier = world.started();
    let partition = tier.lead(leader(&log, 1));
    wait_until_tiered(&partition).await;
    let manifest = world.manifest().await.expect("there");
    assert_eq!(manifest.start_offset(), log.log_start_offset());
    remote_bytes(&partition, log.log_start_offset(), end, 1 << 20)
        .await
        .expect("readable");
    tier.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_ends_below_its_manifest_is_reported_and_left_alone() {
    let world = World::new();
    let log = world.log(&[]);
    fill(&log, 60, 300);
    let tier = world.started();
    let partition = tier.lead(leader(&log, 1));
    wait_until_tiered(&partition).await;
    tier.shutdown().await;
    let end = partition.uploaded_end();
    drop(partition);
    drop(log);

    std::fs::remove_dir_all(world.dir.path().join("log")).expect("the disk is lost");
    let log = world.log(&[]);
    let tier = world.started();
    let partition = tier.lead(leader(&log, 2));
    wait_for("it is reported", || {
        partition.status().state == CopyState::AheadOfLog
    })
    .await;
    assert_eq!(tier.health().troubled.len(), 1);
    assert_eq!(partition.uploaded_end(), end);
    tier.shutdown().await;
}

#[tokio::test]
async fn a_start_touches_nothing() {
    let world = World::new();
    let mut config = world.tier().config().clone();
    config.url = world.dir.path().join("elsewhere").display().to_string();
    let tier = Tier::new(config, CLUSTER, &prometheus::Registry::new(), [9; 32]).expect("valid");
    assert!(!world.dir.path().join("elsewhere").exists());
    assert!(!world.cache_dir().exists());
    drop(tier);
}
