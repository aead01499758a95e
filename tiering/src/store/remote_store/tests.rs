//! What every store must do, held against a folder and object_store's in-memory store.

use futures::{TryStreamExt, stream};
use object_store::memory::InMemory;

use super::*;
use crate::id_source::IdSource;

fn stores() -> Vec<(RemoteStore, Option<tempfile::TempDir>)> {
    let folder = tempfile::tempdir().expect("temp folder");
    let url = StoreUrl::Folder(folder.path().join("made/lazily"));
    let metrics = StoreMetrics::unregistered;
    vec![
        (
            RemoteStore::open(&url, &S3Options::default(), metrics()).expect("opens"),
            Some(folder),
        ),
        (
            RemoteStore::from_object_store(Arc::new(InMemory::new()), "a/prefix", metrics()),
            None,
        ),
    ]
}

fn bytes(text: &'static str) -> Bytes {
    Bytes::from_static(text.as_bytes())
}

#[tokio::test]
async fn conditional_writes_are_refused_when_their_condition_fails() {
    for (store, _folder) in stores() {
        let first = store.put_if_absent("x/y", bytes("1")).await.expect("new");
        let taken = store.put_if_absent("x/y", bytes("2")).await;
        assert!(
            matches!(taken, Err(StoreError::Precondition { .. })),
            "{taken:?}"
        );
        let second = store
            .put_if_match("x/y", bytes("3"), &first)
            .await
            .expect("is the version");
        let late = store.put_if_match("x/y", bytes("4"), &first).await;
        assert!(
            matches!(late, Err(StoreError::Precondition { .. })),
            "{late:?}"
        );
        assert_eq!(
            store.get("x/y").await.expect("there"),
            (bytes("3"), second.clone())
        );
        store.delete("x/y").await.expect("deletes");
        store.delete("x/y").await.expect("is gone already");
        let gone = store.put_if_match("x/y", bytes("5"), &second).await;
        assert!(
            matches!(gone, Err(StoreError::Precondition { .. })),
            "{gone:?}"
        );
        assert!(matches!(
            store.get("x/y").await,
            Err(StoreError::NotFound { .. })
        ));
    }
}

#[tokio::test]
async fn the_probe_passes_and_leaves_nothing() {
    for (store, _folder) in stores() {
        let ids = IdSource::from_seed([1; 32]);
        store
            .probe_conditional_writes("cluster", &ids)
            .await
            .expect("both stores are honest");
        let left: Vec<_> = store.list("", None).try_collect().await.expect("lists");
        assert_eq!(left, []);
    }
}

#[tokio::test]
async fn ranges_are_exact_and_suffixes_tell_the_length() {
    for (store, _folder) in stores() {
        store
            .put_if_absent("k", bytes("0123456789"))
            .await
            .expect("new");
        assert_eq!(store.get_range("k", 2..5).await.expect("in range"), "234");
        assert_eq!(store.get_range("k", 5..5).await.expect("empty"), "");
        let short = store.get_range("k", 8..12).await;
        assert!(
            matches!(
                short,
                Err(StoreError::Short {
                    wanted: 4,
                    got: 2,
                    ..
                })
            ),
            "{short:?}"
        );
        let beyond = store.get_range("k", 11..13).await;
        assert!(
            matches!(
                beyond,
                Err(StoreError::Short {
                    wanted: 2,
                    got: 0,
                    ..
                })
            ),
            "{beyond:?}"
        );
        assert_eq!(
            store.get_suffix("k", 3).await.expect("suffix"),
            (bytes("789"), 10)
        );
        assert_eq!(
            store.get_suffix("k", 99).await.expect("all"),
            (bytes("0123456789"), 10)
        );
        let info = store.head("k").await.expect("there");
        assert_eq!((info.key.as_str(), info.bytes), ("k", 10));
    }
}

#[tokio::test]
async fn listings_come_in_key_order_and_go_on_after_a_key() {
    for (store, _folder) in stores() {
        let keys = ["p/a", "p/a-b/1", "p/a/1", "p/a/2", "p/b", "q/1"];
        for key in keys.iter().filter(|k| **k != "p/a") {
            store.put_if_absent(key, bytes("x")).await.expect("new");
        }
        let list = async |folder: &str, after: Option<&str>| -> Vec<String> {
            let found: Vec<_> = store
                .list(folder, after)
                .try_collect()
                .await
                .expect("lists");
            found.into_iter().map(|i| i.key).collect()
        };
        assert_eq!(list("p", None).await, ["p/a-b/1", "p/a/1", "p/a/2", "p/b"]);
        assert_eq!(list("p", Some("p/a/1")).await, ["p/a/2", "p/b"]);
        assert_eq!(list("p/a", None).await, ["p/a/1", "p/a/2"]);
        assert_eq!(list("nothing/here", None).await, [] as [&str; 0]);
        let mut folders = store.list_folders("p").await.expect("lists");
        folders.sort();
        assert_eq!(folders, ["a", "a-b"]);
    }
}

#[tokio::test]
async fn streams_become_one_put_or_parts_and_never_overwrite() {
    for (store, _folder) in stores() {
        let chunk = |i: u8| Ok(Bytes::from(vec![i; 1 << 20]));
        let small = stream::iter([chunk(1), chunk(2)]);
        let length = store
            .put_stream_if_absent("small", small, PART_BYTES_MIN)
            .await
            .expect("new");
        assert_eq!(length, 2 << 20);
        assert_eq!(store.metrics().requests(RequestClass::Part), 0);

        let large = || stream::iter((0..12).map(chunk));
        let length = store
            .put_stream_if_absent("large", large(), PART_BYTES_MIN)
            .await
            .expect("new");
        assert_eq!(length, 12 << 20);
        assert_eq!(store.metrics().requests(RequestClass::Part), 3);
        let (all, _) = store.get("large").await.expect("there");
        let expected: Vec<u8> = (0..12u8).flat_map(|i| vec![i; 1 << 20]).collect();
        assert!(all == expected, "the parts are in order");

        let taken = store
            .put_stream_if_absent("large", large(), PART_BYTES_MIN)
            .await;
        assert!(
            matches!(taken, Err(StoreError::Precondition { .. })),
            "{taken:?}"
        );
    }
}

#[tokio::test]
async fn a_stream_that_fails_leaves_no_object() {
    for (store, _folder) in stores() {
        let body = stream::iter((0..8).map(|i| match i {
            7 => Err(std::io::Error::other("the disk failed")),
            _ => Ok(Bytes::from(vec![0; 1 << 20])),
        }));
        let failed = store.put_stream_if_absent("k", body, PART_BYTES_MIN).await;
        let error = failed.expect_err("the body fails").to_string();
        assert!(error.contains("the disk failed"), "{error}");
        let left: Vec<_> = store.list("", None).try_collect().await.expect("lists");
        assert_eq!(left, []);
    }
}

#[tokio::test]
async fn bad_keys_are_refused() {
    for (store, _folder) in stores() {
        for key in ["a//b", "a/../b"] {
            let refused = store.put_if_absent(key, bytes("1")).await;
            assert!(
                matches!(refused, Err(StoreError::Invalid { .. })),
                "{key}: {refused:?}"
            );
        }
    }
}

#[tokio::test]
async fn a_body_that_must_not_be_asked_after_its_end_goes_up_in_parts() {
    const CHUNK_BYTES: usize = 4 << 20;
    for (store, _folder) in stores() {
        let body = stream::unfold(0u8, |chunk| async move {
            let bytes = Bytes::from(vec![chunk; CHUNK_BYTES]);
            (chunk < 3).then_some((Ok(bytes), chunk + 1))
        });
        let length = store.put_stream_if_absent("large", body, 0).await;
        assert_eq!(length.expect("goes up"), 3 * CHUNK_BYTES as u64);
        let (bytes, _) = store.get("large").await.expect("there");
        assert_eq!(bytes.len(), 3 * CHUNK_BYTES);
        assert!((0..3).all(|chunk| bytes[chunk * CHUNK_BYTES + 7] == chunk as u8));
    }
}
