//! Reads what lies in a bucket, without a broker and without writing: topics, manifests, verified bytes.
//!
//! Always holds: log bytes are handed out only after their chunks' CRCs were checked.

mod segments;
mod state;
mod topics;

use std::sync::Arc;

use crate::format::PartitionKey;
use crate::id_source::IdSource;
use crate::manifest::{Manifest, ManifestStore, ManifestStoreError, PageCache};
use crate::store::RemoteStore;

pub use segments::{
    SegmentReadError, position_of, read_log_bytes, read_object_tail, read_segment_tail,
    verify_object,
};
pub use state::{StateError, write_state};
pub use topics::{BucketError, TopicInfo};

/// A read-only view of a bucket.
#[derive(Clone, Debug)]
pub struct BucketReader {
    store: RemoteStore,
    cluster_id: Option<String>,
    pages: PageCache,
}

impl BucketReader {
    /// Without a cluster id the bucket must hold exactly one cluster when topics are looked up.
    pub fn new(store: RemoteStore, cluster_id: Option<String>) -> Self {
        Self {
            store,
            cluster_id,
            pages: PageCache::default(),
        }
    }

    pub fn store(&self) -> &RemoteStore {
        &self.store
    }

    /// The manifest of a partition, for lookups. Its edits must not be used here.
    pub fn manifest_store(&self, partition: PartitionKey) -> ManifestStore {
        // Reading draws no ids.
        let ids = IdSource::from_seed([0; 32]);
        ManifestStore::new(&self.store, partition, ids, self.pages.clone())
    }

    /// A partition's manifest; `None` when nothing was ever tiered.
    pub async fn manifest(
        &self,
        partition: PartitionKey,
    ) -> Result<Option<Arc<Manifest>>, ManifestStoreError> {
        self.manifest_store(partition).load().await
    }
}

#[cfg(test)]
mod tests;
