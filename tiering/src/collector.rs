//! Removes from the store what no manifest names any more: single objects, and deleted topics in these steps:
//!
//! 1. the tombstone goes into the partition's root: from then on nobody can append to it or read it,
//! 2. the topic's marker says that it is deleted,
//! 3. after remote.log.delete.delay.ms the root forgets its entries, and all objects of the partition but the root go.
//!
//! A step that fails is tried again, ever less often. A partition that was never tiered costs one GET.

use std::sync::Arc;

use futures::TryStreamExt;
use strandline_log::TopicId;
use tokio::sync::Semaphore;

use crate::bucket_reader::BucketError;
use crate::core::Core;
use crate::format::{PartitionKey, TopicMarker};
use crate::garbage::{Removal, What};
use crate::manifest::{Edit, Manifest, ManifestStore, ManifestStoreError};
use crate::store::{Purpose, StoreError};
use crate::tier::until;
use crate::uploader::backoff_ms;

/// Objects removed at the same time for one partition.
const DELETES_AT_A_TIME: usize = 8;
/// Retries go on for about a day, then the objects are left to a repair.
const FAILURES_MAX: u32 = 2_000;

#[derive(Debug, thiserror::Error)]
enum CollectError {
    #[error(transparent)]
    Manifest(#[from] ManifestStoreError),
    #[error(transparent)]
    Marker(#[from] BucketError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

pub(crate) async fn run(core: Arc<Core>) {
    let stop = core.stop();
    let deleters = Arc::new(Semaphore::new(core.config.deleters_max));
    while !stop.is_set() {
        let permit = tokio::select! {
            permit = Arc::clone(&deleters).acquire_owned() => permit,
            () = stop.wait() => break,
        };
        let Ok(permit) = permit else { break };
        let now_ms = core.clock.now_ms();
        match core.garbage.pop(now_ms) {
            Ok(removal) => {
                let core = Arc::clone(&core);
                tokio::spawn(async move {
                    core.remove(removal).await;
                    drop(permit);
                });
            }
            Err(due_ms) => {
                drop(permit);
                tokio::select! {
                    () = core.garbage.changed() => {}
                    () = tokio::time::sleep(until(due_ms, now_ms)) => {}
                    () = stop.wait() => {}
                }
            }
        }
    }
    // What was begun is finished.
    let all = u32::try_from(core.config.deleters_max).unwrap_or(u32::MAX);
    let _all = deleters.acquire_many(all).await;
}

impl Core {
    async fn remove(&self, mut removal: Removal) {
        let topic = [&*removal.topic];
        self.metrics
            .remote_delete_requests
            .with_label_values(&topic)
            .inc();
        let done = match &removal.what {
            What::Object { key } => self.remove_object(key).await,
            What::Tombstone { partition } => self.bury(&removal, partition).await,
            What::Segments { partition } => self.remove_partition(partition).await,
            What::Marker {
                topic_id,
                partitions,
            } => {
                self.mark_deleted(&removal.topic, *topic_id, *partitions)
                    .await
            }
        };
        let Err(error) = done else { return };
        self.metrics
            .remote_delete_errors
            .with_label_values(&topic)
            .inc();
        removal.failures += 1;
        if removal.failures > FAILURES_MAX {
            tracing::error!(topic = %removal.topic, what = ?removal.what, %error, "a removal is given up; its objects stay behind");
            return;
        }
        let wait_ms = backoff_ms(
            removal.failures,
            self.config.retry_backoff_ms,
            self.config.retry_backoff_ms_max,
            self.config.retry_jitter,
            self.random_fraction(),
        );
        tracing::warn!(topic = %removal.topic, what = ?removal.what, %error, retry_in_ms = wait_ms, "a removal failed; it is tried again");
        self.garbage
            .push(removal, self.clock.now_ms().saturating_add(wait_ms));
    }

    async fn remove_object(&self, key: &str) -> Result<(), CollectError> {
        Ok(self
            .store
            .with_purpose(Purpose::Retention)
            .delete(key)
            .await?)
    }

    async fn bury(&self, removal: &Removal, partition: &PartitionKey) -> Result<(), CollectError> {
        let manifests = self.manifests_of(partition);
        let Some(manifest) = manifests.load().await? else {
            return Ok(());
        };
        let now_ms = self.clock.now_ms();
        if !manifest.is_deleted() {
            self.edit_deleted(&manifests, &manifest, Edit::Delete { now_ms })
                .await?;
        }
        let marker = What::Marker {
            topic_id: partition.topic_id,
            partitions: partition.partition + 1,
        };
        self.garbage
            .push(Removal::new(&removal.topic, marker), now_ms);
        let segments = What::Segments {
            partition: partition.clone(),
        };
        self.garbage.push(
            Removal::new(&removal.topic, segments),
            now_ms.saturating_add(self.config.delete_delay_ms),
        );
        Ok(())
    }

    async fn remove_partition(&self, partition: &PartitionKey) -> Result<(), CollectError> {
        let manifests = self.manifests_of(partition);
        let Some(manifest) = manifests.load().await? else {
            return Ok(());
        };
        // Someone may have brought the topic back meanwhile.
        if !manifest.is_deleted() {
            return Ok(());
        }
        self.edit_deleted(&manifests, &manifest, Edit::Purge)
            .await?;
        let store = self.store.with_purpose(Purpose::Retention);
        let root = partition.manifest_root();
        let listing = store.list(&partition.folder(), None);
        listing
            .try_filter(|object| futures::future::ready(object.key != root))
            .try_for_each_concurrent(DELETES_AT_A_TIME, |object| {
                let store = &store;
                async move { store.delete(&object.key).await }
            })
            .await?;
        Ok(())
    }

    async fn mark_deleted(
        &self,
        topic: &str,
        topic_id: TopicId,
        partitions: i32,
    ) -> Result<(), CollectError> {
        let now_ms = self.clock.now_ms();
        let marker = TopicMarker {
            topic: topic.to_owned(),
            topic_id,
            partitions,
            created_ms: now_ms,
            deleted_ms: Some(now_ms),
        };
        let store = self.store.with_purpose(Purpose::Retention);
        Ok(marker.ensure(&store, &self.cluster_id).await?)
    }

    /// Deletion outranks every leader: it goes under whatever fence the manifest has.
    async fn edit_deleted(
        &self,
        manifests: &ManifestStore,
        manifest: &Manifest,
        edit: Edit,
    ) -> Result<(), CollectError> {
        manifests
            .edit(manifest.fence, |_| Ok(vec![edit.clone()]))
            .await?;
        Ok(())
    }

    fn manifests_of(&self, partition: &PartitionKey) -> ManifestStore {
        ManifestStore::new(
            &self.store,
            partition.clone(),
            self.ids.clone(),
            self.pages.clone(),
        )
    }
}
