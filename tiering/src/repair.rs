//! What an operator decides: that what is lost is lost.
//!
//! Only what was looked at and found missing or damaged becomes a gap; consumers go on behind it. A running leader
//! notices: its readers read the root again before they give up, and its next edit finds that the root has changed.

use strandline_log::Offset;

use crate::bucket_reader::{BucketReader, TopicInfo};
use crate::inspect::check_object;
use crate::manifest::{GapCause, ManifestEntry, ManifestStore, ManifestStoreError};
use crate::store::RemoteStore;

/// A range that is given up.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Loss {
    pub topic: String,
    pub partition: i32,
    pub start: Offset,
    pub end: Offset,
    pub key: String,
    pub cause: String,
}

/// Puts a gap in the place of an entry.
pub async fn accept_loss(
    manifests: &ManifestStore,
    entry: &ManifestEntry,
) -> Result<(), ManifestStoreError> {
    let manifest = manifests.load().await?.ok_or(ManifestStoreError::Absent)?;
    // It outranks every leader, as a deletion does: it goes under whatever fence the manifest has.
    manifests
        .replace(
            manifest.fence,
            std::slice::from_ref(entry),
            &[],
            Some(GapCause::LossAccepted),
        )
        .await?;
    Ok(())
}

impl BucketReader {
    /// Looks at every object of a partition, and gives up those that are lost; `deep`: reads every byte. With a dry run
    /// nothing is edited.
    pub async fn accept_losses(
        &self,
        store: &RemoteStore,
        manifests: &ManifestStore,
        topic: &TopicInfo,
        deep: bool,
        dry_run: bool,
    ) -> Result<Vec<Loss>, ManifestStoreError> {
        let partition = manifests.partition();
        let mut losses = Vec::new();
        for entry in self.entries(partition).await? {
            // Twice, because a connection may have damaged it.
            let mut found = check_object(store, partition, &entry, deep).await;
            if found.as_ref().is_err_and(|error| error.is_loss()) {
                found = check_object(store, partition, &entry, deep).await;
            }
            let Err(error) = found else { continue };
            if !error.is_loss() {
                return Err(ManifestStoreError::Damaged {
                    key: entry.key(partition),
                    cause: format!("it cannot be told whether it is lost: {error}"),
                });
            }
            if !dry_run {
                accept_loss(manifests, &entry).await?;
            }
            losses.push(Loss {
                topic: topic.topic.clone(),
                partition: partition.partition,
                start: entry.start,
                end: entry.end,
                key: entry.key(partition),
                cause: error.to_string(),
            });
        }
        Ok(losses)
    }
}
