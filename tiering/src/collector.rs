//! Removes from the store what no manifest names any more: single objects, and deleted topics in these steps:
//!
//! 1. a note goes into the bucket: whatever dies from then on, the next start goes on (the journal covers the time before),
//! 2. the tombstone goes into each partition's root: from then on nobody can append to it or read it,
//! 3. the topic's marker says that it is deleted,
//! 4. after remote.log.delete.delay.ms the roots forget their entries, and all objects but the roots go,
//! 5. then the marker and the note go.
//!
//! A step that fails is tried again, ever less often; all may be done twice. A topic that was never tiered costs two GETs.

use std::sync::Arc;

use futures::TryStreamExt;
use strandline_log::TopicId;
use strandline_log::checkpoint::StateFileError;
use tokio::sync::Semaphore;

use crate::blocking;
use crate::bucket_reader::BucketError;
use crate::core::Core;
use crate::format::object_key::{deleted_folder, deletion_note, topic_marker};
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

/// What work that is of no one topic is counted under.
const NO_TOPIC: &str = "";

#[derive(Debug, thiserror::Error)]
enum CollectError {
    #[error(transparent)]
    Manifest(#[from] ManifestStoreError),
    #[error(transparent)]
    Marker(#[from] BucketError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Journal(#[from] StateFileError),
    #[error("a blocking task died: {0}")]
    Died(#[from] tokio::task::JoinError),
}

pub(crate) async fn run(core: Arc<Core>) {
    let stop = core.stop();
    let now_ms = core.clock.now_ms();
    let journal = Arc::clone(&core.journal);
    let noted = blocking::run(move || journal.read()).await;
    for (topic, topic_id, partitions) in noted.unwrap_or_default() {
        let hide = What::Topic {
            topic_id,
            partitions,
            again: false,
        };
        core.garbage
            .push(Removal::new(&topic.as_str().into(), hide), now_ms);
    }
    // Not at once: a start has other things to do.
    let fraction = core.random_fraction();
    let first_ms = (core.config.sweep_interval_ms as f64 * fraction) as i64;
    let notes = Removal::new(&NO_TOPIC.into(), What::Notes);
    core.garbage.push(notes, now_ms.saturating_add(first_ms));
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
    pub(crate) async fn remove(&self, mut removal: Removal) {
        let topic = [&*removal.topic];
        self.metrics
            .remote_delete_requests
            .with_label_values(&topic)
            .inc();
        let done = match &removal.what {
            What::Object { key } => self.remove_object(key).await,
            What::Topic {
                topic_id,
                partitions,
                again,
            } => {
                self.hide_topic(&removal, *topic_id, *partitions, *again)
                    .await
            }
            What::Purge {
                topic_id,
                partitions,
            } => self.purge_topic(&removal, *topic_id, *partitions).await,
            What::Notes => self.look_for_notes().await,
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

    /// From the note on, the bucket itself remembers that the topic is to be removed.
    async fn hide_topic(
        &self,
        removal: &Removal,
        topic_id: TopicId,
        partitions: i32,
        again: bool,
    ) -> Result<(), CollectError> {
        let store = self.store.with_purpose(Purpose::Retention);
        let now_ms = self.clock.now_ms();
        let marker =
            match TopicMarker::read(&store, &self.cluster_id, &removal.topic, topic_id).await? {
                Some(marker) => marker,
                // Nothing of it was ever tiered; an upload that was under way may still begin to.
                None if !again => {
                    let again = What::Topic {
                        topic_id,
                        partitions,
                        again: true,
                    };
                    let due_ms = now_ms.saturating_add(self.config.delete_delay_ms);
                    self.garbage
                        .push(Removal::new(&removal.topic, again), due_ms);
                    return Ok(());
                }
                None => {
                    self.forget_deletion(topic_id).await?;
                    return Ok(());
                }
            };
        let note = TopicMarker {
            partitions: marker.partitions.max(partitions),
            deleted_ms: Some(now_ms),
            ..marker
        };
        let note = note.note_deletion(&store, &self.cluster_id).await?;
        self.forget_deletion(topic_id).await?;
        for number in 0..note.partitions {
            let partition = PartitionKey::new(self.cluster_id.clone(), topic_id, number);
            let manifests = self.manifests_of(&partition);
            let Some(manifest) = manifests.load().await? else {
                continue;
            };
            if !manifest.is_deleted() {
                self.edit_deleted(&manifests, &manifest, Edit::Delete { now_ms })
                    .await?;
            }
        }
        note.ensure(&store, &self.cluster_id).await?;
        let purge = What::Purge {
            topic_id,
            partitions: note.partitions,
        };
        let due_ms = note
            .deleted_ms
            .unwrap_or(now_ms)
            .saturating_add(self.config.delete_delay_ms);
        self.garbage
            .push(Removal::new(&removal.topic, purge), due_ms);
        Ok(())
    }

    async fn forget_deletion(&self, topic_id: TopicId) -> Result<(), CollectError> {
        let journal = Arc::clone(&self.journal);
        blocking::run(move || journal.forget(topic_id)).await??;
        Ok(())
    }

    async fn purge_topic(
        &self,
        removal: &Removal,
        topic_id: TopicId,
        partitions: i32,
    ) -> Result<(), CollectError> {
        let store = self.store.with_purpose(Purpose::Retention);
        let note = deletion_note(&self.cluster_id, &topic_id);
        match store.head(&note).await {
            Ok(_) => {}
            // Somebody has brought the topic back, or purged it.
            Err(StoreError::NotFound { .. }) => return Ok(()),
            Err(e) => return Err(e.into()),
        }
        for number in 0..partitions {
            if number > 0 && store.head(&note).await.is_err_and(|error| error.is_lost()) {
                return Ok(());
            }
            let partition = PartitionKey::new(self.cluster_id.clone(), topic_id, number);
            self.purge_partition(&partition).await?;
        }
        store
            .delete(&topic_marker(&self.cluster_id, &removal.topic, &topic_id))
            .await?;
        store.delete(&note).await?;
        tracing::info!(topic = %removal.topic, "removed the objects of a deleted topic");
        Ok(())
    }

    async fn purge_partition(&self, partition: &PartitionKey) -> Result<(), CollectError> {
        let manifests = self.manifests_of(partition);
        let Some(mut manifest) = manifests.load().await? else {
            return Ok(());
        };
        let now_ms = self.clock.now_ms();
        if !manifest.is_deleted() {
            // Made by an upload that was under way when the topic was hidden.
            self.edit_deleted(&manifests, &manifest, Edit::Delete { now_ms })
                .await?;
            manifest = manifests.load().await?.unwrap_or(manifest);
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

    /// Topics that were hidden by a process that died before it could remove them.
    async fn look_for_notes(&self) -> Result<(), CollectError> {
        let now_ms = self.clock.now_ms();
        let again = Removal::new(&NO_TOPIC.into(), What::Notes);
        self.garbage
            .push(again, now_ms.saturating_add(self.config.sweep_interval_ms));
        if !self.config.enabled || !self.is_probed() {
            return Ok(());
        }
        let store = self.store.with_purpose(Purpose::Sweep);
        let folder = deleted_folder(&self.cluster_id);
        let mut notes = store.list(&folder, None);
        while let Some(object) = notes.try_next().await? {
            let note = match store.get(&object.key).await {
                Ok((bytes, _)) => TopicMarker::decode(&bytes),
                Err(StoreError::NotFound { .. }) => continue,
                Err(e) => return Err(e.into()),
            };
            let Ok(note) = note else {
                tracing::warn!(key = object.key, "this is no note of a deleted topic");
                continue;
            };
            let topic: Arc<str> = note.topic.as_str().into();
            let hide = What::Topic {
                topic_id: note.topic_id,
                partitions: note.partitions,
                again: true,
            };
            self.garbage.push(Removal::new(&topic, hide), now_ms);
        }
        Ok(())
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
