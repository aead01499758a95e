//! Uploads real batches to a folder and reads them back through the bucket alone.

use std::io::Write;
use std::sync::Arc;

use futures::stream;
use strandline_log::record::{BatchBuilder, BatchOptions, NewRecord, split_batches};
use strandline_log::{FileSlice, Offset, TopicId};

use super::*;
use crate::fence::Fence;
use crate::format::{SegmentMeta, SegmentObjectPlan, TopicMarker};
use crate::manifest::{Edit, ManifestEntry};
use crate::store::{FolderStore, StoreError, StoreMetrics};

const FENCE: Fence = Fence {
    incarnation: 1,
    leader_epoch: 3,
};

fn bucket() -> (RemoteStore, tempfile::TempDir) {
    let folder = tempfile::tempdir().expect("temp folder");
    let store = Arc::new(FolderStore::new(folder.path()));
    (
        RemoteStore::from_object_store(store, "", StoreMetrics::unregistered()),
        folder,
    )
}

fn key() -> PartitionKey {
    PartitionKey::new("cluster", TopicId::from_u128(42), 0)
}

fn log(from: Offset, batches: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    for i in 0..batches as i64 {
        let mut builder = BatchBuilder::new(BatchOptions {
            base_offset: from + i * 2,
            ..BatchOptions::default()
        });
        for _ in 0..2 {
            builder
                .append(NewRecord {
                    timestamp: 1_000 + i,
                    key: None,
                    value: Some(vec![7; 200].into()),
                    headers: Vec::new(),
                })
                .expect("small");
        }
        bytes.extend_from_slice(&builder.build());
    }
    bytes
}

/// Uploads and commits one object of `batches` batches at the manifest's end.
async fn upload(store: &RemoteStore, batches: usize) -> (ManifestEntry, Vec<u8>) {
    let ids = IdSource::from_seed([3; 32]);
    let manifests = ManifestStore::new(store, key(), ids.clone(), PageCache::default());
    let manifest = manifests.claim(FENCE, 0).await.expect("claims");
    let start = manifest.end_offset();
    let bytes = log(start, batches);
    let mut file = tempfile::tempfile().expect("temp file");
    file.write_all(&bytes).expect("writes");
    let slice = FileSlice {
        file: Arc::new(file),
        position: 0,
        len: bytes.len(),
    };
    let meta = SegmentMeta {
        chunk_bytes: 1_000,
        index_interval_bytes: 600,
        ..SegmentMeta::new(key(), start, start + batches as i64 * 2, FENCE)
    };
    let plan = SegmentObjectPlan::compute(vec![slice], meta).expect("sound");
    let entry = plan.entry(manifest.generation, ids.random());
    let body = stream::iter(plan.body().map(|p| p.map_err(std::io::Error::other)));
    let length = store
        .put_stream_if_absent(&entry.key(&key()), body, 0)
        .await
        .expect("uploads");
    assert_eq!(length, entry.bytes);
    let footer = verify_object(store, &key(), &entry)
        .await
        .expect("is there");
    assert_eq!(&footer, plan.footer());
    let edit = Edit::Append {
        entry: entry.clone(),
        epochs: Vec::new(),
    };
    manifests
        .edit(FENCE, |_| Ok(vec![edit.clone()]))
        .await
        .expect("commits");
    (entry, bytes)
}

#[tokio::test]
async fn what_was_uploaded_is_read_back_batch_by_batch() {
    let (store, _folder) = bucket();
    let uploads = [upload(&store, 10).await, upload(&store, 7).await];
    let reader = BucketReader::new(store, None);
    let manifest = reader.manifest(key()).await.expect("loads").expect("there");
    assert_eq!(manifest.end_offset(), 34);
    for (entry, bytes) in &uploads {
        let tail = reader.segment_tail(&key(), entry).await.expect("reads");
        for bytes_max in [1, 300, 1_000, 100_000] {
            let mut read = Vec::new();
            loop {
                let part = reader
                    .read_batches(&key(), entry, &tail.footer, read.len() as u64, bytes_max)
                    .await
                    .expect("reads");
                if part.is_empty() {
                    break;
                }
                assert!(part.len() as u64 <= bytes_max.max(600));
                split_batches(part.clone()).expect("whole batches");
                read.extend_from_slice(&part);
            }
            assert!(read == *bytes, "limit {bytes_max}");
        }
        for offset in entry.offsets() {
            let at = tail.indexes.position_for(offset).position;
            let found = position_of(&bytes[at as usize..], offset).expect("is behind it");
            let batch = split_batches(bytes[at as usize + found..].to_vec().into());
            let header = batch.expect("whole batches")[0].header;
            assert!(header.base_offset <= offset && offset <= header.last_offset());
        }
        assert_eq!(position_of(bytes, entry.end), None);
        let part = read_log_bytes(reader.store(), &key(), entry, &tail.footer, 1_500..2_100).await;
        assert_eq!(part.expect("reads"), bytes[1_500..2_100]);
    }
}

#[tokio::test]
async fn damage_is_told_and_never_handed_out() {
    let (store, folder) = bucket();
    let (entry, bytes) = upload(&store, 10).await;
    let path = folder.path().join(entry.key(&key()));
    let sound = std::fs::read(&path).expect("reads");
    let tail = read_segment_tail(&store, &key(), &entry)
        .await
        .expect("sound");
    let read =
        async || read_log_bytes(&store, &key(), &entry, &tail.footer, 0..bytes.len() as u64).await;
    let flipped = |at: usize| {
        let mut object = sound.clone();
        object[at] ^= 1;
        std::fs::write(&path, object).expect("writes");
    };
    flipped(bytes.len() / 2);
    let e = read().await.expect_err("a log byte");
    assert!(
        matches!(e, SegmentReadError::Damaged { .. }) && e.is_loss(),
        "{e}"
    );
    for at in [bytes.len() + 3, sound.len() - 20, sound.len() - 1] {
        flipped(at);
        let e = read_segment_tail(&store, &key(), &entry).await;
        assert!(e.expect_err("the tail").is_loss());
    }
    std::fs::write(&path, &sound[..sound.len() - 1]).expect("writes");
    let e = read_segment_tail(&store, &key(), &entry)
        .await
        .expect_err("cut");
    assert!(
        matches!(e, SegmentReadError::Store(StoreError::Short { .. })),
        "{e}"
    );
    let e = verify_object(&store, &key(), &entry)
        .await
        .expect_err("cut");
    assert!(e.is_loss(), "{e}");
    std::fs::write(&path, &sound).expect("writes");
    let other = ManifestEntry {
        end: entry.end + 1,
        ..entry.clone()
    };
    let e = verify_object(&store, &key(), &other)
        .await
        .expect_err("other");
    assert!(matches!(e, SegmentReadError::WrongObject { .. }), "{e}");
    std::fs::remove_file(&path).expect("removes");
    let e = read().await.expect_err("gone");
    assert!(e.is_loss(), "{e}");
}

#[tokio::test]
async fn topics_are_found_by_name_in_the_bucket_alone() {
    let (store, _folder) = bucket();
    let reader = BucketReader::new(store.clone(), None);
    assert_eq!(reader.find_topic("a").await.expect("lists"), None);
    let marker = |topic: &str, id: u128, partitions, created_ms| TopicMarker {
        topic: topic.to_owned(),
        topic_id: TopicId::from_u128(id),
        partitions,
        created_ms,
        deleted_ms: None,
    };
    let old = marker("a", 1, 2, 100);
    for m in [&old, &marker("a-b", 3, 1, 50), &marker("a", 2, 4, 200)] {
        m.ensure(&store, "c1").await.expect("writes");
    }
    let found = reader.find_topic("a").await.expect("lists").expect("there");
    assert_eq!((found.topic_id.as_u128(), found.partitions), (2, 4));
    // More partitions and the deletion stick, whatever comes later.
    let deleted = TopicMarker {
        partitions: 6,
        deleted_ms: Some(300),
        ..marker("a", 2, 4, 200)
    };
    deleted.ensure(&store, "c1").await.expect("writes");
    marker("a", 2, 4, 200)
        .ensure(&store, "c1")
        .await
        .expect("writes");
    let found = reader.find_topic("a").await.expect("lists").expect("there");
    assert_eq!(found.topic_id.as_u128(), 1);
    let topics = reader.list_topics().await.expect("lists");
    let seen: Vec<_> = topics
        .iter()
        .map(|t| {
            (
                t.topic.as_str(),
                t.topic_id.as_u128(),
                t.partitions,
                t.deleted_ms,
            )
        })
        .collect();
    assert_eq!(
        seen,
        [
            ("a", 2, 6, Some(300)),
            ("a", 1, 2, None),
            ("a-b", 3, 1, None)
        ]
    );

    old.ensure(&store, "c2").await.expect("writes");
    let e = reader
        .list_topics()
        .await
        .expect_err("ambiguous")
        .to_string();
    assert!(e.contains("c1, c2"), "{e}");
    let c2 = BucketReader::new(store, Some("c2".to_owned()));
    assert_eq!(c2.list_topics().await.expect("lists").len(), 1);
}
