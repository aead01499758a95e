//! What happens when the store, the cache or another leader misbehaves.

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_is_away_delays_uploads_and_all_heals_by_itself() {
    let world = World::new();
    let log = world.log(&[]);
    fill(&log, 50, 300);
    let end = log.active_segment_base_offset();
    let expected = local_bytes(&log, 0, end);
    world.store.down.store(true, Ordering::SeqCst);
    let tier = world.started();
    let partition = tier.lead(leader(&log, 1));
    wait_for("several tries failed", || partition.status().failures >= 3).await;
    let health = tier.health();
    assert_eq!(health.troubled.len(), 1);
    assert!(health.store_error.is_some());
    assert_eq!(log.local_log_start_offset(), 0, "nothing is dropped (I4)");
    // What is there serves on.
    assert_eq!(local_bytes(&log, 0, end), expected);
    fill(&log, 10, 300);

    world.store.down.store(false, Ordering::SeqCst);
    wait_until_tiered(&partition).await;
    assert!(tier.health().is_healthy(), "{:?}", tier.health());

    // Remote reads fail with a retriable error, then heal too.
    world.store.down.store(true, Ordering::SeqCst);
    let refused = partition.read(0, 1_000).await.expect_err("away");
    assert!(refused.is_retriable(), "{refused}");
    world.store.down.store(false, Ordering::SeqCst);
    let read = remote_bytes(&partition, 0, end, 1 << 20).await;
    assert_eq!(read.expect("readable"), expected);
    tier.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_object_without_its_manifest_edit_is_not_there() {
    let world = World::new();
    let log = world.log(&[]);
    fill(&log, 50, 300);
    let end = log.active_segment_base_offset();
    let expected = local_bytes(&log, 0, end);
    world.store.no_roots.store(true, Ordering::SeqCst);
    let tier = world.started();
    let partition = tier.lead(leader(&log, 1));
    wait_for("the first edits failed", || {
        partition.status().failures >= 3
    })
    .await;
    assert_eq!(world.manifest().await, None);
    assert_eq!(partition.uploaded_end(), None);
    assert_eq!(log.local_log_start_offset(), 0);
    tier.shutdown().await;

    // The root exists from here on; then it cannot be changed.
    world.store.no_roots.store(false, Ordering::SeqCst);
    let tier = world.started();
    let partition = tier.lead(leader(&log, 2));
    wait_until_tiered(&partition).await;
    world.store.no_roots.store(true, Ordering::SeqCst);
    let named = world.manifest().await.expect("there");
    fill(&log, 50, 300);
    let puts = world.store.segment_puts.load(Ordering::SeqCst);
    let local_start = log.local_log_start_offset();
    wait_for("objects were put in vain", || {
        world.store.segment_puts.load(Ordering::SeqCst) > puts + 2
    })
    .await;
    assert_eq!(world.manifest().await.as_ref(), Some(&named));
    assert_eq!(log.local_log_start_offset(), local_start);
    tier.shutdown().await;

    world.store.no_roots.store(false, Ordering::SeqCst);
    let tier = world.started();
    let partition = tier.lead(leader(&log, 3));
    wait_until_tiered(&partition).await;
    let read = remote_bytes(&partition, 0, end, 1 << 20).await;
    assert_eq!(read.expect("readable"), expected);
    tier.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_edit_whose_answer_was_lost_counts_once() {
    let world = World::new();
    let log = world.log(&[]);
    fill(&log, 100, 300);
    let end = log.active_segment_base_offset();
    let expected = local_bytes(&log, 0, end);
    world.store.lost_answers.store(6, Ordering::SeqCst);
    let tier = world.started();
    let partition = tier.lead(leader(&log, 1));
    wait_until_tiered(&partition).await;
    let manifest = world.manifest().await.expect("there");
    manifest.check().expect("I5");
    assert_eq!(manifest.end_offset(), end);
    let read = remote_bytes(&partition, 0, end, 1 << 20).await;
    assert_eq!(read.expect("readable"), expected);
    tier.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fenced_leader_commits_nothing() {
    let world = World::new();
    let log = world.log(&[]);
    fill(&log, 30, 300);
    let zombie = world.started();
    let old = zombie.lead(leader(&log, 1));
    wait_until_tiered(&old).await;

    let successor = world.started();
    let new = successor.lead(leader(&log, 2));
    fill(&log, 60, 300);
    zombie.resign(&tp());
    wait_until_tiered(&new).await;
    let named = world.manifest().await.expect("there");
    assert_eq!(named.fence, Fence::new(1, 2));

    // It wakes up and believes that it still leads.
    fill(&log, 30, 300);
    successor.resign(&tp());
    let old = zombie.lead(leader(&log, 1));
    wait_for("the zombie is fenced", || {
        old.status().state == CopyState::Fenced
    })
    .await;
    let after = world.manifest().await.expect("there");
    assert_eq!(after.end_offset(), named.end_offset());
    assert_eq!(after.fence, Fence::new(1, 2));
    assert_eq!(zombie.health().troubled.len(), 1);
    zombie.shutdown().await;
    successor.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_chunk_in_the_cache_is_fetched_again() {
    let world = World::new();
    let log = world.log(&[]);
    fill(&log, 50, 300);
    let end = log.active_segment_base_offset();
    let expected = local_bytes(&log, 0, end);
    let tier = world.started();
    let partition = tier.lead(leader(&log, 1));
    wait_until_tiered(&partition).await;
    remote_bytes(&partition, 0, end, 1 << 20)
        .await
        .expect("readable");
    tier.shutdown().await;

    for file in std::fs::read_dir(world.cache_dir()).expect("cache") {
        let path = file.expect("file").path();
        let mut bytes = std::fs::read(&path).expect("reads");
        let middle = bytes.len() / 2;
        bytes[middle] ^= 0x40;
        std::fs::write(&path, bytes).expect("writes");
    }
    let tier = world.started();
    let partition = tier.lead(leader(&log, 2));
    wait_for("the cache is scanned", || {
        tier.metrics().cache_bytes.get() > 0
    })
    .await;
    let read = remote_bytes(&partition, 0, end, 1 << 20).await;
    assert_eq!(read.expect("readable"), expected);
    assert!(tier.metrics().cache_corrupt.get() > 0);
    tier.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_or_missing_object_is_said_to_be_corrupt() {
    let world = World::new();
    let log = world.log(&[]);
    fill(&log, 60, 300);
    let tier = world.started();
    let partition = tier.lead(leader(&log, 1));
    wait_until_tiered(&partition).await;
    let entries = world.manifest().await.expect("there").entries.clone();
    let files = world.segment_files();
    assert_eq!(files.len(), entries.len());

    let mut bytes = std::fs::read(&files[0]).expect("reads");
    bytes[200] ^= 1;
    std::fs::write(&files[0], bytes).expect("writes");
    let refused = partition.read(entries[0].start, 1_000).await;
    assert!(
        matches!(refused, Err(RemoteReadError::Corrupt(_))),
        "{refused:?}"
    );

    let whole = std::fs::read(&files[1]).expect("reads");
    std::fs::write(&files[1], &whole[..whole.len() / 2]).expect("writes");
    let refused = partition.read(entries[1].start, 1_000).await;
    assert!(refused.is_err(), "{refused:?}");

    std::fs::remove_file(&files[2]).expect("removes");
    let refused = partition.read(entries[2].start, 1_000).await;
    assert!(
        matches!(refused, Err(RemoteReadError::Corrupt(_))),
        "{refused:?}"
    );
    // The others are as readable as ever.
    partition
        .read(entries[3].start, 1_000)
        .await
        .expect("readable");
    tier.shutdown().await;
}
