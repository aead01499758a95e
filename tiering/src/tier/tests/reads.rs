//! Reading history.

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_uploaded_and_deleted_locally_reads_back_byte_for_byte() {
    let world = World::new();
    let log = world.log(&[]);
    fill(&log, 100, 300);
    let end = log.active_segment_base_offset();
    assert!(log.segment_count() > 5);
    let expected = local_bytes(&log, 0, end);

    let tier = world.started();
    let partition = tier.lead(leader(&log, 1));
    wait_until_tiered(&partition).await;
    assert_eq!(log.log_start_offset(), 0);
    for max_bytes in [1, 5_000, 1 << 20] {
        let read = remote_bytes(&partition, 0, end, max_bytes).await;
        assert_eq!(read.expect("readable"), expected, "{max_bytes}");
    }
    let health = tier.health();
    assert!(health.is_healthy(), "{health:?}");
    assert_eq!(health.lag_bytes, 0);
    tier.shutdown().await;

    // Another broker, an empty cache, and a log that goes on.
    std::fs::remove_dir_all(world.cache_dir()).expect("removes");
    fill(&log, 30, 300);
    let tier = world.started();
    let partition = tier.lead(leader(&log, 2));
    wait_until_tiered(&partition).await;
    let read = remote_bytes(&partition, 0, end, 50_000).await;
    assert_eq!(read.expect("readable"), expected);
    tier.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn batches_that_span_chunks_and_segments_of_many_chunks_read_back() {
    let mut world = World::new();
    world.read_ahead_chunks_max = 4;
    let log = world.log(&[
        ("internal.segment.bytes", "5000000"),
        ("max.message.bytes", "3000000"),
    ]);
    fill(&log, 12, 180_000);
    fill(&log, 1, 600_000);
    fill(&log, 300, 5_000);
    let end = log.active_segment_base_offset();
    let expected = local_bytes(&log, 0, end);
    let tier = world.started();
    let partition = tier.lead(leader(&log, 1));
    wait_until_tiered(&partition).await;
    for max_bytes in [1, 300_000, 1 << 20, 50 << 20] {
        let read = remote_bytes(&partition, 0, end, max_bytes).await;
        assert_eq!(read.expect("readable"), expected, "{max_bytes}");
    }
    assert!(
        tier.metrics().read_ahead_chunks.get() > 0,
        "a sequential reader was read ahead"
    );
    tier.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_offset_can_be_read_and_none_outside() {
    let world = World::new();
    let log = world.log(&[]);
    fill(&log, 60, 500);
    let end = log.active_segment_base_offset();
    let tier = world.started();
    let partition = tier.lead(leader(&log, 1));
    wait_until_tiered(&partition).await;
    for offset in 0..end {
        let read = partition.read(offset, 1).await.expect("readable");
        let bytes = read.slices[0].read_to_bytes().expect("reads");
        let batch = Batch::parse(bytes).expect("a batch");
        assert!(batch.header.base_offset <= offset && offset <= batch.header.last_offset());
    }
    for offset in [-1, end, end + 100] {
        let refused = partition.read(offset, 1).await;
        assert!(
            matches!(refused, Err(RemoteReadError::OutOfRange { .. })),
            "{offset}: {refused:?}"
        );
    }
    tier.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn times_and_epochs_are_found_over_the_manifest() {
    let world = World::new();
    let log = world.log(&[]);
    log.assign_epoch(1).expect("assigned");
    fill(&log, 100, 300);
    let end = log.active_segment_base_offset();
    let tier = world.started();
    let partition = tier.lead(leader(&log, 1));
    wait_until_tiered(&partition).await;

    // Record timestamps are 1000 + base * 10 + index in the batch.
    for offset in [0, 1, 3, 4, 50, 101, end - 1] {
        let base = offset / 4 * 4;
        let timestamp = 1_000 + base * 10 + offset % 4;
        let found = partition
            .offset_for_timestamp(timestamp)
            .await
            .expect("readable");
        let found = found.expect("there is one");
        assert_eq!((found.offset, found.timestamp), (offset, timestamp));
        assert_eq!(found.leader_epoch, 1);
    }
    let early = partition.offset_for_timestamp(-1).await.expect("readable");
    assert_eq!(early.map(|found| found.offset), Some(0));
    let late = partition.offset_for_timestamp(i64::MAX).await;
    assert_eq!(late.expect("readable"), None);

    assert_eq!(
        partition.epoch_for_offset(5).await.expect("readable"),
        Some(1)
    );
    let end_of_epoch = partition.epoch_end_offset(1).await.expect("readable");
    assert_eq!(end_of_epoch, Some((1, end)));
    tier.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_readers_of_one_chunk_share_one_get() {
    let world = World::new();
    let log = world.log(&[]);
    fill(&log, 30, 300);
    let tier = world.started();
    let partition = tier.lead(leader(&log, 1));
    wait_until_tiered(&partition).await;

    let before = world.store.segment_gets.load(Ordering::SeqCst);
    let readers: Vec<_> = (0..32)
        .map(|_| {
            let partition = Arc::clone(&partition);
            tokio::spawn(async move { partition.read(0, 1_000).await.expect("readable").bytes })
        })
        .collect();
    for reader in readers {
        assert!(reader.await.expect("joins") > 0);
    }
    // One for the indexes, one for the chunk.
    let cold = world.store.segment_gets.load(Ordering::SeqCst) - before;
    assert_eq!(cold, 2);
    partition.read(4, 1_000).await.expect("readable");
    let warm = world.store.segment_gets.load(Ordering::SeqCst) - before - cold;
    assert_eq!(warm, 0);
    tier.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_cache_stays_below_its_limit_and_outlives_a_restart() {
    let mut world = World::new();
    world.cache_bytes_max = 60_000;
    let log = world.log(&[]);
    fill(&log, 200, 300);
    let end = log.active_segment_base_offset();
    let expected = local_bytes(&log, 0, end);
    let tier = world.started();
    let partition = tier.lead(leader(&log, 1));
    wait_until_tiered(&partition).await;
    for _ in 0..2 {
        let read = remote_bytes(&partition, 0, end, 3_000).await;
        assert_eq!(read.expect("readable"), expected);
        let on_disk: u64 = std::fs::read_dir(world.cache_dir())
            .expect("cache")
            .map(|file| file.expect("file").metadata().expect("metadata").len())
            .sum();
        assert!(on_disk <= 60_000, "{on_disk}");
        assert!(on_disk > 30_000, "{on_disk}");
    }
    tier.shutdown().await;

    let tier = world.started();
    let partition = tier.lead(leader(&log, 2));
    wait_for("the cache is scanned", || {
        tier.metrics().cache_bytes.get() > 0
    })
    .await;
    let read = remote_bytes(&partition, 0, end, 3_000).await;
    assert_eq!(read.expect("readable"), expected);
    assert!(tier.metrics().cache_hits.get() > 0);
    tier.shutdown().await;
}
