//! Finds topics by their markers, and writes markers.

use futures::TryStreamExt;
use strandline_log::TopicId;

use super::BucketReader;
use crate::format::object_key::{
    PartitionKey, deletion_note, parse_topic_marker, topic_marker, topics_folder,
};
use crate::format::{FormatError, TopicMarker};
use crate::store::{RemoteStore, StoreError};

/// Times that a marker is read again when it changes under our hands.
const ATTEMPTS_MAX: usize = 8;

/// A topic in the bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicInfo {
    pub cluster_id: String,
    pub topic: String,
    pub topic_id: TopicId,
    pub partitions: i32,
    pub created_ms: i64,
    pub deleted_ms: Option<i64>,
}

impl TopicInfo {
    pub fn partition_key(&self, partition: i32) -> PartitionKey {
        PartitionKey::new(&*self.cluster_id, self.topic_id, partition)
    }
}

/// Why the bucket's topics cannot be told.
#[derive(Debug, thiserror::Error)]
pub enum BucketError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("{key} is damaged: {cause}")]
    Damaged { key: String, cause: FormatError },
    #[error("the store holds no tiered topics")]
    Empty,
    #[error("the store holds several clusters ({}); say which one", clusters.join(", "))]
    SeveralClusters { clusters: Vec<String> },
}

impl BucketReader {
    /// The clusters that have topics in the bucket.
    pub async fn list_clusters(&self) -> Result<Vec<String>, BucketError> {
        Ok(self.store.list_folders("meta").await?)
    }

    /// The cluster's id; the only one there is when none was given.
    pub async fn cluster(&self) -> Result<String, BucketError> {
        if let Some(id) = &self.cluster_id {
            return Ok(id.clone());
        }
        let mut clusters = self.list_clusters().await?;
        match clusters.len() {
            0 => Err(BucketError::Empty),
            1 => Ok(clusters.remove(0)),
            _ => Err(BucketError::SeveralClusters { clusters }),
        }
    }

    /// All topics, also deleted ones, by name; of one name the latest comes first.
    pub async fn list_topics(&self) -> Result<Vec<TopicInfo>, BucketError> {
        let cluster_id = self.cluster().await?;
        self.topics_below(&cluster_id, &topics_folder(&cluster_id))
            .await
    }

    /// The live topic of a name; when several ever were, the one created last.
    pub async fn find_topic(&self, name: &str) -> Result<Option<TopicInfo>, BucketError> {
        let cluster_id = match self.cluster().await {
            Ok(id) => id,
            Err(BucketError::Empty) => return Ok(None),
            Err(e) => return Err(e),
        };
        let folder = format!("{}/{name}", topics_folder(&cluster_id));
        let topics = self.topics_below(&cluster_id, &folder).await?;
        Ok(topics.into_iter().find(|t| t.deleted_ms.is_none()))
    }

    async fn topics_below(
        &self,
        cluster_id: &str,
        folder: &str,
    ) -> Result<Vec<TopicInfo>, BucketError> {
        let mut listing = self.store.list(folder, None);
        let mut topics = Vec::new();
        while let Some(info) = listing.try_next().await? {
            if parse_topic_marker(&info.key).is_none() {
                continue;
            }
            let (bytes, _) = match self.store.get(&info.key).await {
                Ok(got) => got,
                // Deleted since it was listed.
                Err(StoreError::NotFound { .. }) => continue,
                Err(e) => return Err(e.into()),
            };
            let marker = TopicMarker::decode(&bytes).map_err(|cause| BucketError::Damaged {
                key: info.key,
                cause,
            })?;
            topics.push(TopicInfo {
                cluster_id: cluster_id.to_owned(),
                topic: marker.topic,
                topic_id: marker.topic_id,
                partitions: marker.partitions,
                created_ms: marker.created_ms,
                deleted_ms: marker.deleted_ms,
            });
        }
        topics.sort_by(|a, b| (&a.topic, -a.created_ms).cmp(&(&b.topic, -b.created_ms)));
        Ok(topics)
    }
}

impl TopicMarker {
    /// The marker of a topic, if there is one.
    pub async fn read(
        store: &RemoteStore,
        cluster_id: &str,
        topic: &str,
        topic_id: TopicId,
    ) -> Result<Option<Self>, BucketError> {
        let key = topic_marker(cluster_id, topic, &topic_id);
        match store.get(&key).await {
            Ok((bytes, _)) => match Self::decode(&bytes) {
                Ok(marker) => Ok(Some(marker)),
                Err(cause) => Err(BucketError::Damaged { key, cause }),
            },
            Err(StoreError::NotFound { .. }) => Ok(None),
            Err(e) => Err(e.into()),
        }
    }

    /// Notes in the bucket that the topic is to be removed. The first note stands, and is returned.
    pub async fn note_deletion(
        self,
        store: &RemoteStore,
        cluster_id: &str,
    ) -> Result<Self, BucketError> {
        let key = deletion_note(cluster_id, &self.topic_id);
        match store.put_if_absent(&key, self.encode()).await {
            Ok(_) => return Ok(self),
            Err(StoreError::Precondition { .. }) => {}
            Err(e) => return Err(e.into()),
        }
        match store.get(&key).await {
            Ok((bytes, _)) => {
                Self::decode(&bytes).map_err(|cause| BucketError::Damaged { key, cause })
            }
            Err(e) => Err(e.into()),
        }
    }

    /// Writes the marker, or raises the partition count or the deletion mark of the one that is there.
    pub async fn ensure(&self, store: &RemoteStore, cluster_id: &str) -> Result<(), BucketError> {
        let key = topic_marker(cluster_id, &self.topic, &self.topic_id);
        for _ in 0..ATTEMPTS_MAX {
            match store.put_if_absent(&key, self.encode()).await {
                Ok(_) => return Ok(()),
                Err(StoreError::Precondition { .. }) => {}
                Err(e) => return Err(e.into()),
            }
            let (bytes, version) = match store.get(&key).await {
                Ok(got) => got,
                Err(StoreError::NotFound { .. }) => continue,
                Err(e) => return Err(e.into()),
            };
            let there = TopicMarker::decode(&bytes).map_err(|cause| BucketError::Damaged {
                key: key.clone(),
                cause,
            })?;
            let merged = TopicMarker {
                partitions: there.partitions.max(self.partitions),
                deleted_ms: there.deleted_ms.or(self.deleted_ms),
                ..there.clone()
            };
            if merged == there {
                return Ok(());
            }
            match store.put_if_match(&key, merged.encode(), &version).await {
                Ok(_) => return Ok(()),
                Err(StoreError::Precondition { .. }) => {}
                Err(e) => return Err(e.into()),
            }
        }
        Err(StoreError::Unavailable {
            key,
            cause: "it keeps changing".to_owned(),
        }
        .into())
    }
}
