//! Several writers of one manifest, lost answers, late requests.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use futures::stream::BoxStream;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use parking_lot::Mutex;

use super::*;
use crate::format::manifest_root;

fn append_at_end(m: &Manifest) -> std::result::Result<Vec<Edit>, ManifestError> {
    Ok(vec![append(m.end_offset(), m.end_offset() + 1)])
}

#[test]
fn edits_of_many_threads_all_land_once() {
    const THREADS: u8 = 4;
    const EDITS: i64 = 10;
    let (store, _folder) = folder_store();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("runtime");
    runtime.block_on(async {
        let claimed = manifest_store(&store, 99).claim(Fence::new(1, 0), 0).await;
        claimed.expect("creates");
        let writers: Vec<_> = (0..THREADS)
            .map(|seed| {
                let manifests = manifest_store(&store, seed);
                tokio::spawn(async move {
                    let mut done = 0;
                    while done < EDITS {
                        match manifests.edit(Fence::new(1, 0), append_at_end).await {
                            Ok(_) => done += 1,
                            Err(ManifestStoreError::Contended) => {}
                            Err(e) => panic!("{e}"),
                        }
                    }
                })
            })
            .collect();
        for writer in writers {
            writer.await.expect("no panic");
        }
        let m = manifest_store(&store, 98).load().await.expect("loads");
        let m = m.expect("there");
        assert_eq!(m.end_offset(), i64::from(THREADS) * EDITS);
        assert_eq!(m.generation, 1 + u64::from(THREADS) * EDITS as u64);
    });
}

#[tokio::test]
async fn of_two_leaders_the_older_is_fenced_even_with_a_cached_root() {
    let (store, _folder) = folder_store();
    let (old, new) = (manifest_store(&store, 1), manifest_store(&store, 2));
    let (old_fence, new_fence) = (Fence::new(1, 4), Fence::new(1, 5));
    old.claim(old_fence, 0).await.expect("creates");
    old.edit(old_fence, append_at_end).await.expect("leads");
    let m = new.claim(new_fence, 0).await.expect("takes over");
    assert_eq!((m.end_offset(), m.fence), (1, new_fence));
    let e = old
        .edit(old_fence, append_at_end)
        .await
        .expect_err("fenced");
    assert!(e.is_fenced(), "{e}");
    new.edit(new_fence, append_at_end).await.expect("leads");
    // Claiming again costs no edit.
    let again = new.claim(new_fence, 0).await.expect("holds it");
    assert_eq!(again.generation, 4);
    let e = old.claim(old_fence, 0).await.expect_err("fenced");
    assert!(e.is_fenced(), "{e}");
}

#[tokio::test]
async fn an_absent_or_foreign_or_damaged_root_is_told_apart() {
    let (store, _folder) = folder_store();
    let manifests = manifest_store(&store, 1);
    assert!(manifests.load().await.expect("loads").is_none());
    let absent = manifests.edit(Fence::new(1, 0), append_at_end).await;
    assert!(matches!(absent, Err(ManifestStoreError::Absent)));

    let other = PartitionKey {
        partition: 9,
        ..key()
    };
    let foreign = Manifest::new(other, Fence::new(1, 0), 0, [1; 16]);
    let version = store
        .put_if_absent(&key().manifest_root(), manifest_root::encode(&foreign))
        .await
        .expect("new");
    let e = manifests.load().await.expect_err("foreign").to_string();
    assert!(e.contains("another partition"), "{e}");
    store
        .put_if_match(&key().manifest_root(), b"junk"[..].into(), &version)
        .await
        .expect("writes");
    let damaged = manifests.claim(Fence::new(1, 0), 0).await;
    assert!(matches!(damaged, Err(ManifestStoreError::Damaged { .. })));
}

/// What happens to the next writes.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    None,
    /// It is done, and the answer is lost.
    AnswerLost,
    /// It is done, then done again by a retry: the caller sees that its own write lost.
    RetriedByItself,
    /// It never arrives.
    Lost,
    /// It is done only when the next write arrives.
    Late,
}

#[derive(Debug)]
struct Faulty {
    inner: InMemory,
    faults: Mutex<Vec<Fault>>,
    late: Mutex<Vec<(Path, PutPayload, PutOptions)>>,
    puts: AtomicUsize,
}

impl Faulty {
    fn new(faults: &[Fault]) -> Arc<Self> {
        let mut faults = faults.to_vec();
        faults.reverse();
        Arc::new(Self {
            inner: InMemory::new(),
            faults: Mutex::new(faults),
            late: Mutex::default(),
            puts: AtomicUsize::new(0),
        })
    }
}

fn timeout() -> object_store::Error {
    object_store::Error::Generic {
        store: "Faulty",
        source: "timeout".into(),
    }
}

impl std::fmt::Display for Faulty {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Faulty")
    }
}

#[async_trait]
impl ObjectStore for Faulty {
    async fn put_opts(&self, l: &Path, body: PutPayload, opts: PutOptions) -> Result<PutResult> {
        self.puts.fetch_add(1, Ordering::Relaxed);
        let late = std::mem::take(&mut *self.late.lock());
        for (location, body, opts) in late {
            let _ = self.inner.put_opts(&location, body, opts).await;
        }
        let fault = self.faults.lock().pop().unwrap_or(Fault::None);
        match fault {
            Fault::None => self.inner.put_opts(l, body, opts).await,
            Fault::AnswerLost => {
                self.inner.put_opts(l, body, opts).await?;
                Err(timeout())
            }
            Fault::RetriedByItself => {
                self.inner.put_opts(l, body.clone(), opts.clone()).await?;
                self.inner.put_opts(l, body, opts).await
            }
            Fault::Lost => Err(timeout()),
            Fault::Late => {
                self.late.lock().push((l.clone(), body, opts));
                Err(timeout())
            }
        }
    }

    async fn put_multipart_opts(
        &self,
        l: &Path,
        opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(l, opts).await
    }

    async fn get_opts(&self, l: &Path, options: GetOptions) -> Result<GetResult> {
        self.inner.get_opts(l, options).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}

fn faulty_manifests(faults: &[Fault]) -> (ManifestStore, RemoteStore) {
    let store =
        RemoteStore::from_object_store(Faulty::new(faults), "", StoreMetrics::unregistered());
    (manifest_store(&store, 1), store)
}

#[tokio::test]
async fn nonces_decide_after_lost_answers() {
    use Fault::{AnswerLost, Late, Lost, None, RetriedByItself};
    let fence = Fence::new(1, 0);
    for faults in [
        &[None, AnswerLost][..],
        &[None, RetriedByItself],
        &[None, Lost],
        &[None, Lost, Lost],
        &[None, Late],
        &[None, Lost, AnswerLost],
        &[None, Late, AnswerLost],
        &[None, Late, Late],
        // The creation suffers likewise.
        &[AnswerLost],
        &[RetriedByItself],
    ] {
        let (manifests, _) = faulty_manifests(faults);
        manifests.claim(fence, 0).await.expect("creates");
        let mut asked = 0;
        let m = manifests
            .edit(fence, |m| {
                asked += 1;
                append_at_end(m)
            })
            .await
            .unwrap_or_else(|e| panic!("{faults:?}: {e}"));
        assert_eq!((m.end_offset(), m.generation), (1, 2), "{faults:?}");
        let stored = manifests.load().await.expect("loads").expect("there");
        assert_eq!(stored, m, "{faults:?}");
    }
}

#[tokio::test]
async fn a_store_that_stays_away_is_told_and_the_late_edit_is_found_later() {
    use Fault::{Late, Lost, None};
    let fence = Fence::new(1, 0);
    let (manifests, _) = faulty_manifests(&[None, Lost, Lost, Late]);
    manifests.claim(fence, 0).await.expect("creates");
    let e = manifests
        .edit(fence, append_at_end)
        .await
        .expect_err("unavailable");
    assert!(e.is_retriable(), "{e}");
    // The late write lands before the next edit: it builds on it instead of repeating it.
    let m = manifests.edit(fence, append_at_end).await.expect("heals");
    assert_eq!((m.end_offset(), m.generation), (2, 3));
}

#[tokio::test]
async fn an_own_edit_is_recognised_behind_edits_of_others() {
    let fence = Fence::new(1, 0);
    let (store, _folder) = folder_store();
    let mine = manifest_store(&store, 1);
    mine.claim(fence, 0).await.expect("creates");
    let m = mine.edit(fence, append_at_end).await.expect("edits");
    let nonce = m.nonce();
    let other = manifest_store(&store, 2);
    for _ in 0..NONCES_KEPT - 1 {
        other.edit(fence, append_at_end).await.expect("edits");
    }
    let m = other.current().await.expect("there");
    assert!(m.nonces.contains(&nonce));
}

#[tokio::test]
async fn an_edit_writes_a_bounded_amount_whatever_the_history() {
    const ENTRIES: i64 = 100_000;
    let fence = Fence::new(1, 0);
    let (_, store) = faulty_manifests(&[]);
    let ids = IdSource::from_seed([5; 32]);
    // The root as 100,000 edits would have left it: pages spilled, but not written.
    let mut m = manifest(0);
    for start in 0..ENTRIES {
        m.entries.push(ManifestEntry {
            bytes: (1 << 30) + 12_345,
            log_bytes: 1 << 30,
            max_timestamp: 1_700_000_000_000 + start,
            object: ObjectRef::Segment {
                counter: start as u64,
                random: ids.random(),
            },
            ..entry(start * 1_000_000, (start + 1) * 1_000_000)
        });
        m.generation += 1;
        let _ = m.spill(ENTRIES_INLINE_MAX, ids.random());
    }
    m.end = ENTRIES * 1_000_000;
    assert_eq!(m.check(), Ok(()));
    let version = store
        .put_if_absent(&key().manifest_root(), manifest_root::encode(&m))
        .await;
    version.expect("new");
    let manifests = ManifestStore::new(&store, key(), ids, PageCache::default());
    let mut largest = 0;
    for _ in 0..ENTRIES_INLINE_MAX + 2 {
        let before = manifests.current().await.expect("there").pages.len();
        let m = manifests
            .edit(fence, |m| {
                let object = ObjectRef::Segment {
                    counter: m.generation,
                    random: 7 << 60,
                };
                let entry = ManifestEntry {
                    bytes: (1 << 30) + 12_345,
                    log_bytes: 1 << 30,
                    max_timestamp: 1_800_000_000_000,
                    object,
                    ..entry(m.end, m.end + 1_000_000)
                };
                Ok(vec![Edit::Append {
                    entry,
                    epochs: Vec::new(),
                }])
            })
            .await
            .expect("edits");
        let mut written = manifest_root::encode(&m).len();
        if m.pages.len() > before {
            let page = m.pages.last().expect("one");
            let (bytes, _) = store
                .get(&key().manifest_page(&page.name()))
                .await
                .expect("there");
            written += bytes.len();
        }
        largest = largest.max(written);
    }
    assert!(largest < 64 << 10, "{largest} bytes");
}
