use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;

const LEN: u32 = 1_000;

fn metrics() -> CacheMetrics {
    CacheMetrics::from(&TierMetrics::new(&prometheus::Registry::new()).expect("registers"))
}

fn cache(dir: &Path, bytes_max: u64) -> Arc<ChunkCache> {
    Arc::new(ChunkCache::new(dir.to_owned(), bytes_max, metrics()))
}

fn id(n: u64) -> ChunkId {
    ChunkId {
        object: Arc::from("bucket/topic/object"),
        position: n * u64::from(LEN),
        len: LEN,
    }
}

fn content(n: u64) -> Bytes {
    Bytes::from(vec![n as u8; LEN as usize])
}

fn fetched(bytes: Bytes) -> Fetched {
    Fetched {
        bytes,
        permit: None,
    }
}

/// Reads chunk `n` and says how many fetches that took.
async fn read(cache: &Arc<ChunkCache>, n: u64) -> usize {
    let fetches = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&fetches);
    let file = cache
        .get(
            &id(n),
            move |bytes| bytes == &content(n)[..],
            move || {
                counted.fetch_add(1, Ordering::SeqCst);
                async move { Ok(fetched(content(n))) }
            },
        )
        .await
        .expect("readable");
    let mut bytes = vec![0; LEN as usize];
    file.read_exact_at(&mut bytes, 0).expect("reads");
    assert_eq!(bytes, content(n));
    fetches.load(Ordering::SeqCst)
}

fn bytes_on_disk(dir: &Path) -> u64 {
    fs::read_dir(dir)
        .expect("dir")
        .map(|entry| entry.expect("entry").metadata().expect("metadata").len())
        .sum()
}

#[tokio::test]
async fn a_chunk_is_fetched_once_also_over_a_restart() {
    let dir = tempfile::tempdir().expect("dir");
    let first = cache(dir.path(), 10_000);
    assert_eq!(read(&first, 1).await, 1);
    assert_eq!(read(&first, 1).await, 0);
    drop(first);

    let second = cache(dir.path(), 10_000);
    assert_eq!(second.scan().expect("scans"), 1);
    assert_eq!(read(&second, 1).await, 0);
    assert_eq!(second.metrics.misses.get(), 0);
}

#[tokio::test]
async fn the_limit_holds_on_disk_and_after_a_restart_with_a_lower_one() {
    let dir = tempfile::tempdir().expect("dir");
    let roomy = cache(dir.path(), 10_000);
    for n in 0..100 {
        read(&roomy, n % 37).await;
        assert!(bytes_on_disk(dir.path()) <= 10_000);
        assert!(roomy.bytes() <= 10_000);
    }
    drop(roomy);
    let narrow = cache(dir.path(), 3_000);
    assert_eq!(narrow.scan().expect("scans"), 10);
    assert_eq!(bytes_on_disk(dir.path()), 3_000);
}

#[tokio::test]
async fn a_corrupt_chunk_of_an_earlier_run_is_fetched_again() {
    let dir = tempfile::tempdir().expect("dir");
    read(&cache(dir.path(), 10_000), 1).await;
    let path = dir.path().join(id(1).file_name());
    let mut bytes = fs::read(&path).expect("reads");
    bytes[500] ^= 1;
    fs::write(&path, bytes).expect("writes");

    let next = cache(dir.path(), 10_000);
    next.scan().expect("scans");
    assert_eq!(read(&next, 1).await, 1);
    assert_eq!(next.metrics.corrupt.get(), 1);
    assert_eq!(read(&next, 1).await, 0);
}

#[tokio::test]
async fn the_folder_may_go_at_any_time() {
    let dir = tempfile::tempdir().expect("dir");
    let path = dir.path().join("cache");
    let cache = cache(&path, 10_000);
    read(&cache, 1).await;
    read(&cache, 2).await;
    // What is not open must be noticed as gone.
    cache.state.lock().open.clear();
    fs::remove_dir_all(&path).expect("removes");
    assert_eq!(read(&cache, 1).await, 1);
    assert_eq!(read(&cache, 2).await, 1);
    assert_eq!(cache.bytes(), 2_000);
}

#[tokio::test]
async fn concurrent_readers_share_one_fetch() {
    let dir = tempfile::tempdir().expect("dir");
    let cache = cache(dir.path(), 10_000);
    let readers: Vec<_> = (0..32)
        .map(|_| {
            let cache = Arc::clone(&cache);
            tokio::spawn(async move { read(&cache, 1).await })
        })
        .collect();
    let mut fetches = 0;
    for reader in readers {
        fetches += reader.await.expect("joins");
    }
    assert_eq!(fetches, 1);
}

#[tokio::test]
async fn what_fails_its_checksum_is_neither_served_nor_kept() {
    let dir = tempfile::tempdir().expect("dir");
    let cache = cache(dir.path(), 10_000);
    let refused = cache
        .get(&id(1), |_| false, || async { Ok(fetched(content(1))) })
        .await;
    assert!(matches!(refused, Err(FetchError::Corrupt(_))));
    let short = cache
        .get(
            &id(1),
            |_| true,
            || async { Ok(fetched(content(1).slice(1..))) },
        )
        .await;
    assert!(matches!(short, Err(FetchError::Corrupt(_))));
    assert_eq!(cache.bytes(), 0);
    assert_eq!(bytes_on_disk(dir.path()), 0);
}

#[tokio::test]
async fn others_files_stay_and_unfinished_ones_go() {
    let dir = tempfile::tempdir().expect("dir");
    fs::write(dir.path().join("notes.txt"), "keep").expect("writes");
    fs::write(dir.path().join("x+0+5.chunk.tmp"), "hal").expect("writes");
    fs::write(dir.path().join("x+0+5.chunk"), "too long").expect("writes");
    let cache = cache(dir.path(), 10_000);
    assert_eq!(cache.scan().expect("scans"), 0);
    let names: Vec<_> = fs::read_dir(dir.path())
        .expect("dir")
        .map(|entry| entry.expect("entry").file_name())
        .collect();
    assert_eq!(names, ["notes.txt"]);
}
