//! Brings a deleted topic back, as long as its objects are there (remote.log.delete.delay.ms).
//!
//! 1. A notice goes into the bucket: whatever happens from then on, the same command goes on, and a running broker (or
//!    the next that starts) makes the topic again, with its id.
//! 2. The note of the deletion goes: nobody removes anything of the topic any more.
//! 3. The tombstone goes from each root, and the mark from the topic's marker.
//!
//! The broker makes the topic under a raised incarnation, so that its leader outranks all that ever wrote it, and goes on
//! where the tier ends. What was only on local disks is gone, and so are the offsets that groups had committed.

use std::collections::BTreeMap;

use futures::TryStreamExt;
use serde::Serialize;
use strandline_log::{Offset, TimestampMs, TopicId, uuid_to_base64};

use crate::bucket_reader::BucketError;
use crate::format::object_key::{deleted_folder, deletion_note, topic_marker, undeleted_folder};
use crate::format::{PartitionKey, TopicMarker};
use crate::id_source::IdSource;
use crate::manifest::{Edit, ManifestStore, ManifestStoreError, PageCache};
use crate::store::{RemoteStore, StoreError};

#[derive(Debug, thiserror::Error)]
pub enum UndeleteError {
    #[error(transparent)]
    Bucket(#[from] BucketError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Manifest(#[from] ManifestStoreError),
    #[error(
        "objects of partition {partition} are removed already: the topic cannot come back as it was"
    )]
    TooLate { partition: i32 },
}

/// A deleted topic whose objects are still there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DeletedTopic {
    pub topic: String,
    pub topic_id: String,
    pub deleted_ms: Option<TimestampMs>,
    /// Start and end by partition.
    pub partitions: BTreeMap<i32, (Offset, Offset)>,
    #[serde(skip)]
    marker: TopicMarker,
}

/// The topics below a folder of notes.
async fn noted(store: &RemoteStore, folder: &str) -> Result<Vec<TopicMarker>, UndeleteError> {
    let mut found = Vec::new();
    let mut listing = store.list(folder, None);
    while let Some(object) = listing.try_next().await? {
        match store.get(&object.key).await {
            Ok((bytes, _)) => match TopicMarker::decode(&bytes) {
                Ok(marker) => found.push(marker),
                Err(error) => tracing::warn!(key = object.key, %error, "this names no topic"),
            },
            Err(StoreError::NotFound { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(found)
}

fn notice(cluster_id: &str, topic_id: &TopicId) -> String {
    format!(
        "{}/{}",
        undeleted_folder(cluster_id),
        uuid_to_base64(topic_id)
    )
}

/// Topics that were brought back, for a broker to make them.
pub async fn notices(
    store: &RemoteStore,
    cluster_id: &str,
) -> Result<Vec<TopicMarker>, UndeleteError> {
    noted(store, &undeleted_folder(cluster_id)).await
}

/// The topic is there.
pub async fn forget_notice(
    store: &RemoteStore,
    cluster_id: &str,
    topic_id: &TopicId,
) -> Result<(), UndeleteError> {
    Ok(store.delete(&notice(cluster_id, topic_id)).await?)
}

fn manifests(
    store: &RemoteStore,
    cluster_id: &str,
    ids: &IdSource,
    marker: &TopicMarker,
    partition: i32,
) -> ManifestStore {
    let key = PartitionKey::new(cluster_id, marker.topic_id, partition);
    ManifestStore::new(store, key, ids.clone(), PageCache::default())
}

/// Deleted topics of a name that can be brought back, also those with which that was begun.
pub async fn deleted_topics(
    store: &RemoteStore,
    cluster_id: &str,
    ids: &IdSource,
    topic: &str,
) -> Result<Vec<DeletedTopic>, UndeleteError> {
    let mut markers = noted(store, &deleted_folder(cluster_id)).await?;
    for begun in notices(store, cluster_id).await? {
        if markers.iter().all(|known| known.topic_id != begun.topic_id) {
            markers.push(begun);
        }
    }
    let mut found = Vec::new();
    for marker in markers.into_iter().filter(|marker| marker.topic == topic) {
        let mut partitions = BTreeMap::new();
        for partition in 0..marker.partitions {
            let root = manifests(store, cluster_id, ids, &marker, partition);
            if let Some(manifest) = root.load().await? {
                // A purge empties the root and leaves its end.
                if manifest.entry_count() == 0 && manifest.collection_floor == manifest.generation {
                    return Err(UndeleteError::TooLate { partition });
                }
                let (start, end) = (manifest.start_offset(), manifest.end_offset());
                partitions.insert(partition, (start, end));
            }
        }
        found.push(DeletedTopic {
            topic: marker.topic.clone(),
            topic_id: uuid_to_base64(&marker.topic_id),
            deleted_ms: marker.deleted_ms,
            partitions,
            marker,
        });
    }
    Ok(found)
}

/// Brings it back. May be done twice.
pub async fn undelete(
    store: &RemoteStore,
    cluster_id: &str,
    ids: &IdSource,
    deleted: &DeletedTopic,
) -> Result<(), UndeleteError> {
    let living = TopicMarker {
        deleted_ms: None,
        ..deleted.marker.clone()
    };
    let id = &living.topic_id;
    match store
        .put_if_absent(&notice(cluster_id, id), living.encode())
        .await
    {
        Ok(_) | Err(StoreError::Precondition { .. }) => {}
        Err(error) => return Err(error.into()),
    }
    store.delete(&deletion_note(cluster_id, id)).await?;
    for partition in 0..living.partitions {
        let root = manifests(store, cluster_id, ids, &living, partition);
        let Some(manifest) = root.load().await? else {
            continue;
        };
        root.edit(manifest.fence, |m| {
            Ok(match m.is_deleted() {
                true => vec![Edit::Undelete],
                false => Vec::new(),
            })
        })
        .await?;
    }
    let key = topic_marker(cluster_id, &living.topic, id);
    match store.get(&key).await {
        Ok((_, version)) => {
            store.put_if_match(&key, living.encode(), &version).await?;
        }
        Err(StoreError::NotFound { .. }) => {
            store.put_if_absent(&key, living.encode()).await?;
        }
        Err(error) => return Err(error.into()),
    }
    Ok(())
}
