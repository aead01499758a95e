//! What an operator asks a bucket: how much is there, and is all of it whole. Reads only.

use futures::{StreamExt, TryStreamExt};
use serde::Serialize;
use strandline_log::Offset;

use crate::bucket_reader::{
    BucketReader, SegmentReadError, TopicInfo, read_log_bytes, read_segment_tail, verify_object,
};
use crate::format::segment_object::FooterRead;
use crate::format::{FormatError, PartitionKey, SegmentFooter, manifest_page, manifest_root};
use crate::manifest::{Gap, GapCause, Manifest, ManifestEntry, ManifestStoreError};
use crate::store::{RemoteStore, StoreError};

/// Objects that are looked at together.
const OBJECTS_AT_A_TIME: usize = 16;
/// Of an object that is looked at alone: nearly every footer fits.
const FOOTER_GUESS_BYTES: u64 = 64 << 10;
const FOOTER_BYTES_MAX: u64 = 16 << 20;
const ENTRIES_AT_A_TIME: usize = 512;
/// Log bytes that a deep check reads at once.
const DEEP_READ_BYTES: u64 = 8 << 20;

/// One partition as its manifest tells it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PartitionReport {
    pub topic: String,
    pub partition: i32,
    pub start: Offset,
    pub end: Offset,
    pub objects: u64,
    pub bytes: u64,
    pub pages: usize,
    pub generation: u64,
    pub incarnation: u64,
    pub leader_epoch: i32,
    pub collection_floor: u64,
    pub deleted: bool,
    pub gaps: Vec<GapReport>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct GapReport {
    pub start: Offset,
    pub end: Offset,
    pub cause: &'static str,
}

impl GapReport {
    fn of(gap: &Gap) -> Self {
        Self {
            start: gap.start,
            end: gap.end,
            cause: match gap.cause {
                GapCause::TieringOff => "tiering was off",
                GapCause::LossAccepted => "loss accepted",
                GapCause::Expired => "expired before it was uploaded",
            },
        }
    }
}

impl PartitionReport {
    fn of(topic: &str, manifest: &Manifest) -> Self {
        Self {
            topic: topic.to_owned(),
            partition: manifest.partition.partition,
            start: manifest.start_offset(),
            end: manifest.end_offset(),
            objects: manifest.entry_count(),
            bytes: manifest.bytes_total(),
            pages: manifest.pages.len(),
            generation: manifest.generation,
            incarnation: manifest.fence.incarnation,
            leader_epoch: manifest.fence.leader_epoch,
            collection_floor: manifest.collection_floor,
            deleted: manifest.is_deleted(),
            gaps: manifest.gaps.iter().map(GapReport::of).collect(),
        }
    }
}

/// One entry of a manifest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct EntryReport {
    pub start: Offset,
    pub end: Offset,
    pub key: String,
    pub bytes: u64,
    pub max_timestamp: i64,
    pub leader_epoch: i32,
    pub damaged: bool,
}

/// What is wrong, and what that means.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    pub topic: String,
    pub partition: i32,
    pub start: Offset,
    pub end: Offset,
    pub key: String,
    pub cause: String,
    pub consequence: String,
    /// The records cannot be read; else it is only not known.
    pub loss: bool,
}

impl BucketReader {
    /// The manifest of each partition of a topic that has one.
    pub async fn report(
        &self,
        topic: &TopicInfo,
    ) -> Result<Vec<PartitionReport>, ManifestStoreError> {
        let reports: Vec<Option<PartitionReport>> = futures::stream::iter(0..topic.partitions)
            .map(|partition| async move {
                let manifest = self.manifest(topic.partition_key(partition)).await?;
                Ok::<_, ManifestStoreError>(
                    manifest.map(|manifest| PartitionReport::of(&topic.topic, &manifest)),
                )
            })
            .buffered(OBJECTS_AT_A_TIME)
            .try_collect()
            .await?;
        Ok(reports.into_iter().flatten().collect())
    }

    /// All entries of a partition, oldest first.
    pub async fn entries(
        &self,
        partition: &PartitionKey,
    ) -> Result<Vec<ManifestEntry>, ManifestStoreError> {
        let manifests = self.manifest_store(partition.clone());
        let Some(manifest) = manifests.load().await? else {
            return Ok(Vec::new());
        };
        let mut all: Vec<ManifestEntry> = Vec::new();
        let mut from = 0;
        loop {
            let entries = manifests
                .entries_from(&manifest, from, ENTRIES_AT_A_TIME)
                .await?;
            let Some(last) = entries.last() else {
                return Ok(all);
            };
            from = last.end;
            all.extend(entries);
        }
    }

    pub async fn entry_reports(
        &self,
        partition: &PartitionKey,
    ) -> Result<Vec<EntryReport>, ManifestStoreError> {
        let entries = self.entries(partition).await?;
        Ok(entries
            .iter()
            .map(|entry| EntryReport {
                start: entry.start,
                end: entry.end,
                key: entry.key(partition),
                bytes: entry.bytes,
                max_timestamp: entry.max_timestamp,
                leader_epoch: entry.fence.leader_epoch,
                damaged: entry.damaged,
            })
            .collect())
    }

    /// Whether every object that the manifest names is there as it was uploaded: one GET each, or all bytes when `deep`.
    pub async fn verify(&self, topic: &TopicInfo, partition: i32, deep: bool) -> Vec<Problem> {
        let key = topic.partition_key(partition);
        let problem = |start, end, object: String, cause: String, loss| Problem {
            topic: topic.topic.clone(),
            partition,
            start,
            end,
            key: object,
            cause,
            consequence: if loss {
                format!("offsets {start} to {end} cannot be read from the store")
            } else {
                "nothing is known".to_owned()
            },
            loss,
        };
        let entries = match self.entries(&key).await {
            Ok(entries) => entries,
            Err(error) => {
                let loss = matches!(error, ManifestStoreError::Damaged { .. });
                return vec![problem(0, 0, key.manifest_root(), error.to_string(), loss)];
            }
        };
        let problem = &problem;
        let found: Vec<Option<Problem>> = futures::stream::iter(entries)
            .map(|entry| {
                let key = &key;
                async move {
                    let error = check_object(self.store(), key, &entry, deep).await.err()?;
                    let (object, cause) = (entry.key(key), error.to_string());
                    Some(problem(
                        entry.start,
                        entry.end,
                        object,
                        cause,
                        error.is_loss(),
                    ))
                }
            })
            .buffered(OBJECTS_AT_A_TIME)
            .collect()
            .await;
        found.into_iter().flatten().collect()
    }
}

/// Why an object cannot be told.
#[derive(Debug, thiserror::Error)]
pub enum InspectError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Format(#[from] FormatError),
    #[error("{key} is no segment, manifest root or page")]
    Unknown { key: String },
}

/// What one object says of itself.
pub async fn object(store: &RemoteStore, key: &str) -> Result<serde_json::Value, InspectError> {
    let entries = |entries: &[ManifestEntry]| -> Vec<serde_json::Value> {
        let shown = entries.iter().map(|entry| {
            serde_json::json!({
                "start": entry.start, "end": entry.end, "bytes": entry.bytes,
                "max_timestamp": entry.max_timestamp, "fence": entry.fence.to_string(),
                "damaged": entry.damaged,
            })
        });
        shown.collect()
    };
    if key.ends_with(".strand") {
        let (tail, length) = store.get_suffix(key, FOOTER_GUESS_BYTES).await?;
        let footer = match SegmentFooter::decode_suffix(&tail, length)? {
            FooterRead::Footer(footer) => footer,
            FooterRead::NeedsLast(more) => {
                let (tail, _) = store.get_suffix(key, more.min(FOOTER_BYTES_MAX)).await?;
                match SegmentFooter::decode_suffix(&tail, length)? {
                    FooterRead::Footer(footer) => footer,
                    FooterRead::NeedsLast(_) => {
                        return Err(InspectError::Unknown {
                            key: key.to_owned(),
                        });
                    }
                }
            }
        };
        let sections: Vec<_> = footer
            .sections
            .iter()
            .map(|section| format!("{section:?}"))
            .collect();
        return Ok(serde_json::json!({
            "kind": "segment object",
            "cluster": footer.partition.cluster_id,
            "topic_id": strandline_log::uuid_to_base64(&footer.partition.topic_id),
            "partition": footer.partition.partition,
            "start": footer.start,
            "end": footer.end,
            "max_timestamp": footer.max_timestamp,
            "fence": footer.fence.to_string(),
            "created_ms": footer.created_ms,
            "object_bytes": length,
            "log_bytes": footer.log_bytes,
            "chunk_bytes": footer.chunk_bytes,
            "chunks": footer.chunk_crcs.len(),
            "sections": sections,
        }));
    }
    let (bytes, _) = store.get(key).await?;
    if key.contains("/manifest/page-") {
        let all = manifest_page::decode(bytes)?;
        return Ok(serde_json::json!({ "kind": "manifest page", "entries": entries(&all) }));
    }
    if key.contains("/manifest/") {
        let manifest = manifest_root::decode(bytes)?;
        let report = PartitionReport::of("", &manifest);
        let pages: Vec<_> = manifest
            .pages
            .iter()
            .map(|page| format!("{}..{} {:?}", page.start, page.end, page.name()))
            .collect();
        return Ok(serde_json::json!({
            "kind": "manifest root",
            "start": report.start,
            "end": report.end,
            "objects": report.objects,
            "bytes": report.bytes,
            "generation": report.generation,
            "fence": manifest.fence.to_string(),
            "collection_floor": report.collection_floor,
            "deleted": report.deleted,
            "gaps": report.gaps,
            "pages": pages,
            "entries": entries(&manifest.entries),
        }));
    }
    Err(InspectError::Unknown {
        key: key.to_owned(),
    })
}

/// Whether an object is there and whole: its end, or every byte when `deep`.
pub(crate) async fn check_object(
    store: &RemoteStore,
    partition: &PartitionKey,
    entry: &ManifestEntry,
    deep: bool,
) -> Result<(), SegmentReadError> {
    let footer = verify_object(store, partition, entry).await?;
    if !deep {
        return Ok(());
    }
    read_segment_tail(store, partition, entry).await?;
    let mut at = 0;
    while at < footer.log_bytes {
        let to = (at + DEEP_READ_BYTES).min(footer.log_bytes);
        read_log_bytes(store, partition, entry, &footer, at..to).await?;
        at = to;
    }
    Ok(())
}
