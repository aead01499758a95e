//! The topic in the bucket: its manifests, and its segments as a bounded stream of chunks.

use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use strandline_log::Offset;
use strandline_log::record::batches_of;
use strandline_tiering::BucketReader;
use strandline_tiering::bucket_reader::{BucketError, SegmentReadError, TopicInfo};
use strandline_tiering::manifest::{
    GapCause, Manifest, ManifestEntry, ManifestStore, ManifestStoreError,
};
use strandline_tiering::store::{Purpose, RemoteStore, StoreError, StoreMetrics, StoreUrl};
use tokio::sync::mpsc;

use crate::aborted::AbortedRanges;
use crate::plan::PartitionPlan;
use crate::request::ExportSource;

/// Chunks that wait for the encoder.
const CHUNKS_AHEAD: usize = 1;
const MANIFESTS_CONCURRENT: usize = 16;
/// Entries of a manifest taken at once.
const ENTRIES_MAX: usize = 64;

#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Bucket(#[from] BucketError),
    #[error("the manifest of partition {partition}: {source}")]
    Manifest {
        partition: i32,
        source: ManifestStoreError,
    },
    #[error("partition {partition}, offset {offset}: {source}")]
    Segment {
        partition: i32,
        offset: Offset,
        source: SegmentReadError,
    },
    #[error("nothing of a topic {topic} is in {url}; {known}")]
    NoSuchTopic {
        topic: String,
        url: String,
        known: String,
    },
    #[error("topic {topic} was deleted from its cluster, its records leave the store")]
    Deleted { topic: String },
}

/// A topic found in a bucket.
#[derive(Clone, Debug)]
pub struct Source {
    bucket: BucketReader,
    pub topic: TopicInfo,
    pub url: String,
}

/// What comes of a partition, in the order of offsets.
#[derive(Clone, Debug)]
pub enum SourceEvent {
    Chunk(Chunk),
    Gap(SourceGap),
}

/// Whole batches; their records at offsets in [from, to) count.
#[derive(Clone, Debug)]
pub struct Chunk {
    pub bytes: Bytes,
    pub from: Offset,
    pub to: Offset,
    pub aborted: Arc<AbortedRanges>,
}

/// Offsets that are in no object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceGap {
    pub start: Offset,
    pub end: Offset,
    pub cause: &'static str,
}

pub fn gap_cause(cause: GapCause) -> &'static str {
    match cause {
        GapCause::TieringOff => "tiering was off",
        GapCause::LossAccepted => "lost, as an operator accepted",
        GapCause::Expired => "expired",
    }
}

impl Source {
    pub async fn open(source: &ExportSource, topic: &str) -> Result<Self, SourceError> {
        let url: StoreUrl = source.url.parse()?;
        let store = RemoteStore::open(&url, &source.s3, StoreMetrics::unregistered())?;
        let bucket = BucketReader::new(
            store.with_purpose(Purpose::Export),
            source.cluster_id.clone(),
        );
        let url = url.to_string();
        if let Some(topic) = bucket.find_topic(topic).await? {
            return Ok(Self { bucket, topic, url });
        }
        let there = match bucket.list_topics().await {
            Ok(topics) => topics,
            Err(BucketError::Empty) => Vec::new(),
            Err(error) => return Err(error.into()),
        };
        if there.iter().any(|t| t.topic == topic) {
            return Err(SourceError::Deleted {
                topic: topic.to_owned(),
            });
        }
        let mut names: Vec<_> = there
            .into_iter()
            .filter(|t| t.deleted_ms.is_none())
            .map(|t| t.topic)
            .collect();
        names.dedup();
        Err(SourceError::NoSuchTopic {
            topic: topic.to_owned(),
            url,
            known: match names.len() {
                0 => "it holds no topics".to_owned(),
                _ => format!("it holds {}", names.join(", ")),
            },
        })
    }

    fn manifest_store(&self, partition: i32) -> ManifestStore {
        self.bucket
            .manifest_store(self.topic.partition_key(partition))
    }

    /// The manifests of all partitions of which something was tiered, in their order.
    pub async fn manifests(&self) -> Result<Vec<Arc<Manifest>>, SourceError> {
        let loaded: Vec<Option<Arc<Manifest>>> = stream::iter(0..self.topic.partitions)
            .map(|partition| async move {
                let manifest = self.manifest_store(partition).load().await;
                manifest.map_err(|source| SourceError::Manifest { partition, source })
            })
            .buffered(MANIFESTS_CONCURRENT)
            .try_collect()
            .await?;
        let manifests: Vec<_> = loaded.into_iter().flatten().collect();
        if manifests.iter().any(|manifest| manifest.is_deleted()) {
            return Err(SourceError::Deleted {
                topic: self.topic.topic.clone(),
            });
        }
        Ok(manifests)
    }

    /// Reads what a plan says. The chunks and gaps cover it without overlap, unless an error ends them.
    pub fn read(
        &self,
        plan: &PartitionPlan,
        manifest: Arc<Manifest>,
        chunk_bytes: u64,
    ) -> mpsc::Receiver<Result<SourceEvent, SourceError>> {
        let (events, receiver) = mpsc::channel(CHUNKS_AHEAD);
        let mut reader = PartitionReader {
            source: self.clone(),
            manifests: self.manifest_store(plan.partition),
            manifest,
            at: plan.start,
            end: plan.end,
            chunk_bytes,
            events,
        };
        tokio::spawn(async move {
            if let Err(Stopped::Failed(error)) = reader.run().await {
                // A receiver that is gone needs no error.
                let _ = reader.events.send(Err(error)).await;
            }
        });
        receiver
    }
}

enum Stopped {
    Failed(SourceError),
    /// Nobody wants more.
    Unwanted,
}

impl From<SourceError> for Stopped {
    fn from(error: SourceError) -> Self {
        Self::Failed(error)
    }
}

struct PartitionReader {
    source: Source,
    manifests: ManifestStore,
    manifest: Arc<Manifest>,
    at: Offset,
    end: Offset,
    chunk_bytes: u64,
    events: mpsc::Sender<Result<SourceEvent, SourceError>>,
}

impl PartitionReader {
    fn partition(&self) -> i32 {
        self.manifest.partition.partition
    }

    async fn run(&mut self) -> Result<(), Stopped> {
        self.skip_to(self.manifest.start_offset().min(self.end))
            .await?;
        while self.at < self.end {
            let entries = self
                .manifests
                .entries_from(&self.manifest, self.at, ENTRIES_MAX)
                .await
                .map_err(|source| SourceError::Manifest {
                    partition: self.partition(),
                    source,
                })?;
            if entries.is_empty() {
                self.skip_to(self.end).await?;
            }
            for entry in &entries {
                self.skip_to(entry.start.min(self.end)).await?;
                if self.at >= self.end {
                    break;
                }
                let Err(stopped) = self.read_entry(entry).await else {
                    continue;
                };
                match stopped {
                    Stopped::Failed(SourceError::Segment { source, offset, .. })
                        if source.is_loss() =>
                    {
                        self.reload(entry, offset, source).await?;
                        break;
                    }
                    stopped => return Err(stopped),
                }
            }
        }
        Ok(())
    }

    /// An object that is gone may have expired or been replaced since the manifest was read; else it is lost.
    async fn reload(
        &mut self,
        entry: &ManifestEntry,
        offset: Offset,
        source: SegmentReadError,
    ) -> Result<(), Stopped> {
        let partition = self.partition();
        let loaded = self.manifests.load().await;
        let loaded = loaded.map_err(|source| SourceError::Manifest { partition, source })?;
        let lost = SourceError::Segment {
            partition,
            offset,
            source,
        };
        let Some(manifest) = loaded.filter(|manifest| !manifest.is_deleted()) else {
            return Err(lost.into());
        };
        let now = self.manifests.entries_from(&manifest, offset, 1).await;
        let now = now.map_err(|source| SourceError::Manifest { partition, source })?;
        if manifest.start_offset() <= offset && now.first() == Some(entry) {
            return Err(lost.into());
        }
        self.manifest = manifest;
        self.skip_to(self.manifest.start_offset().min(self.end))
            .await
    }

    /// Reports everything before `to` as gaps.
    async fn skip_to(&mut self, to: Offset) -> Result<(), Stopped> {
        while self.at < to {
            let on_record = self.manifest.gap_at(self.at);
            let (end, cause) = match on_record {
                Some(gap) => (gap.end.min(to), gap_cause(gap.cause)),
                None => (to, gap_cause(GapCause::Expired)),
            };
            let gap = SourceGap {
                start: self.at,
                end,
                cause,
            };
            self.send(SourceEvent::Gap(gap)).await?;
            self.at = end;
        }
        Ok(())
    }

    async fn read_entry(&mut self, entry: &ManifestEntry) -> Result<(), Stopped> {
        let key = self.manifest.partition.clone();
        let failed = |offset| {
            let partition = key.partition;
            move |source| SourceError::Segment {
                partition,
                offset,
                source,
            }
        };
        let bucket = self.source.bucket.clone();
        let tail = bucket
            .segment_tail(&key, entry)
            .await
            .map_err(failed(self.at))?;
        let aborted = tail.indexes.aborted_in(self.at, entry.end);
        let aborted = Arc::new(AbortedRanges::new(&aborted));
        let entry_end = entry.end.min(self.end);
        let mut position = tail.indexes.position_for(self.at).position;
        while self.at < entry_end {
            let bytes = bucket
                .read_batches(&key, entry, &tail.footer, position, self.chunk_bytes)
                .await
                .map_err(failed(self.at))?;
            position += bytes.len() as u64;
            // Batches may have gaps between them: the last one's end is what is covered, the entry's at its end.
            let covered = if position >= tail.footer.log_bytes {
                entry_end
            } else {
                let last = batches_of(bytes.clone()).filter_map(Result::ok).last();
                last.map_or(self.at, |batch| batch.header.next_offset())
                    .min(entry_end)
            };
            if covered > self.at {
                let chunk = Chunk {
                    bytes,
                    from: self.at,
                    to: covered,
                    aborted: Arc::clone(&aborted),
                };
                self.send(SourceEvent::Chunk(chunk)).await?;
                self.at = covered;
            }
        }
        Ok(())
    }

    async fn send(&self, event: SourceEvent) -> Result<(), Stopped> {
        let sent = self.events.send(Ok(event)).await;
        sent.map_err(|_| Stopped::Unwanted)
    }
}
