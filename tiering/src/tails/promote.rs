//! What a restore makes of tails: for each partition one segment object, named in its manifest.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::Arc;

use bytes::Bytes;
use futures::TryStreamExt;
use serde::Serialize;
use strandline_log::producer_state::ProducerStateManager;
use strandline_log::record::{BATCH_HEADER_LEN, BatchHeader};
use strandline_log::{FileSlice, Offset, TimestampMs, TopicId};

use crate::bucket_reader::{BucketError, BucketReader, SegmentReadError, read_segment_tail};
use crate::fence::Fence;
use crate::format::object_key::{SegmentName, tails_folder};
use crate::format::tail_object::{TailIndex, TailPart, TailRead};
use crate::format::{FormatError, PartitionKey, PlanError, SegmentMeta, SegmentObjectPlan};
use crate::id_source::IdSource;
use crate::manifest::{Edit, Manifest, ManifestStore, ManifestStoreError, PageCache};
use crate::store::{Purpose, PutObject, RemoteStore, StoreError};

/// Nearly every index fits.
const INDEX_GUESS_BYTES: u64 = 64 << 10;
const PART_BYTES: usize = 8 << 20;

#[derive(Debug, thiserror::Error)]
pub enum PromoteError {
    #[error(transparent)]
    Bucket(#[from] BucketError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Manifest(#[from] ManifestStoreError),
    #[error(transparent)]
    Segment(#[from] SegmentReadError),
    #[error(transparent)]
    Plan(#[from] PlanError),
    #[error("a temporary file: {0}")]
    File(#[from] std::io::Error),
}

/// A partition whose manifest gets more from tails.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Promoted {
    pub topic: String,
    pub partition: i32,
    pub from: Offset,
    pub to: Offset,
    pub bytes: u64,
}

/// The tail objects of a cluster, by their keys.
#[derive(Default)]
pub struct Tails(BTreeMap<String, TailIndex>);

/// A part and where it lies.
#[derive(Clone, Debug)]
struct Found<'a> {
    key: &'a str,
    position: u64,
    part: &'a TailPart,
}

impl Tails {
    /// Reads the index of each. One that is damaged is told and passed over: what it held is lost, no more.
    pub async fn list(store: &RemoteStore, folder: &str) -> Result<Self, StoreError> {
        let mut tails = BTreeMap::new();
        let mut listing = store.list(folder, None);
        while let Some(object) = listing.try_next().await? {
            match read_index(store, &object.key).await {
                Ok(index) => {
                    tails.insert(object.key, index);
                }
                Err(IndexError::Store(StoreError::NotFound { .. })) => {}
                Err(IndexError::Store(error)) => return Err(error),
                Err(IndexError::Format(error)) => {
                    tracing::error!(key = object.key, %error, "a tail object is damaged");
                }
            }
        }
        Ok(Self(tails))
    }

    pub(crate) fn into_objects(self) -> Vec<(String, TailIndex)> {
        self.0.into_iter().collect()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The parts that go on at `end`, one after the other, all of one term: the newest that can.
    fn chain(&self, topic_id: TopicId, partition: i32, end: Offset) -> Vec<Found<'_>> {
        let mut terms: BTreeMap<Fence, Vec<Found<'_>>> = BTreeMap::new();
        for (key, index) in &self.0 {
            for (position, part) in index.positions() {
                if part.topic_id == topic_id && part.partition == partition && part.end > end {
                    let found = Found {
                        key,
                        position,
                        part,
                    };
                    terms.entry(part.fence).or_default().push(found);
                }
            }
        }
        for mut parts in terms.into_values().rev() {
            parts.sort_by_key(|found| (found.part.start, found.part.end));
            let mut at = end;
            let mut chain = Vec::new();
            for found in parts {
                if found.part.start <= at && at < found.part.end {
                    at = found.part.end;
                    chain.push(found);
                }
            }
            if !chain.is_empty() {
                return chain;
            }
        }
        Vec::new()
    }

    /// What a restore would add; nothing is written.
    pub fn plan(
        &self,
        topic: &str,
        topic_id: TopicId,
        partition: i32,
        end: Offset,
    ) -> Option<Promoted> {
        let chain = self.chain(topic_id, partition, end);
        Some(Promoted {
            topic: topic.to_owned(),
            partition,
            from: end,
            to: chain.last()?.part.end,
            bytes: chain.iter().map(|found| found.part.bytes).sum(),
        })
    }

    /// Where a partition begins of which only tails are there.
    pub fn first_offset(&self, topic_id: TopicId, partition: i32) -> Option<Offset> {
        let parts = self.0.values().flat_map(|index| &index.parts);
        parts
            .filter(|part| part.topic_id == topic_id && part.partition == partition)
            .map(|part| part.start)
            .min()
    }

    /// Makes segment objects of all tails and names them, under a new incarnation. Then the tails go.
    pub async fn promote(
        self,
        reader: &BucketReader,
        ids: &IdSource,
        now_ms: TimestampMs,
    ) -> Result<Vec<Promoted>, PromoteError> {
        let mut all = Vec::new();
        if self.is_empty() {
            return Ok(all);
        }
        let topics = reader.list_topics().await?;
        for topic in topics.iter().filter(|topic| topic.deleted_ms.is_none()) {
            for partition in 0..topic.partitions {
                let key = topic.partition_key(partition);
                let promoted = self
                    .promote_one(reader, &topic.topic, key, ids, now_ms)
                    .await?;
                all.extend(promoted);
            }
        }
        for key in self.0.keys() {
            reader
                .store()
                .with_purpose(Purpose::Tail)
                .delete(key)
                .await?;
        }
        Ok(all)
    }

    async fn promote_one(
        &self,
        reader: &BucketReader,
        topic: &str,
        key: PartitionKey,
        ids: &IdSource,
        now_ms: TimestampMs,
    ) -> Result<Option<Promoted>, PromoteError> {
        let store = reader.store().with_purpose(Purpose::Tail);
        let manifests = ManifestStore::new(&store, key.clone(), ids.clone(), PageCache::default());
        let known = manifests.load().await?;
        let begin = match &known {
            Some(manifest) if manifest.is_deleted() => return Ok(None),
            Some(manifest) => manifest.end_offset(),
            None => match self.first_offset(key.topic_id, key.partition) {
                Some(first) => first,
                None => return Ok(None),
            },
        };
        let chain = self.chain(key.topic_id, key.partition, begin);
        let Some(last) = chain.last().map(|found| found.part) else {
            return Ok(None);
        };
        // Above every term of the former cluster; the restore raises it once more.
        let incarnation = known.as_ref().map_or(0, |m| m.fence.incarnation);
        let fence = Fence::new(
            incarnation.max(last.fence.incarnation) + 1,
            last.fence.leader_epoch,
        );
        let manifest = manifests.claim(fence, begin).await?;
        let mut producers = self.producers_at(&store, &key, &manifest, now_ms).await?;
        let mut file = tempfile_of(&store, &chain, begin, &mut producers, now_ms).await?;
        file.flush()?;
        let bytes = file.metadata()?.len();
        let slice = FileSlice {
            file: Arc::new(file),
            position: 0,
            len: usize::try_from(bytes).unwrap_or(usize::MAX),
        };
        let mut meta = SegmentMeta::new(key.clone(), begin, last.end, fence);
        meta.created_ms = now_ms;
        meta.leader_epochs = last.epochs.clone();
        meta.producer_snapshot = producers.encode_snapshot().into();
        let plan = SegmentObjectPlan::compute(vec![slice], meta)?;
        let name = SegmentName {
            start: begin,
            epoch: fence.leader_epoch,
            counter: manifest.generation,
            random: ids.random(),
        };
        let object = PutObject {
            length: plan.object_bytes(),
            crc32c: plan.object_crc32c(),
        };
        let body = || {
            let chunks = plan.body().map(|c| c.map_err(std::io::Error::other));
            futures::stream::iter(chunks)
        };
        store
            .put_object_if_absent(&key.segment(&name), object, body, PART_BYTES)
            .await?;
        let epochs = last
            .epochs
            .iter()
            .map(|entry| strandline_log::leader_epoch::EpochEntry {
                epoch: entry.epoch,
                start_offset: entry.start_offset,
            });
        let append = Edit::Append {
            entry: plan.entry(name.counter, name.random),
            epochs: epochs.collect(),
        };
        manifests.edit(fence, |_| Ok(vec![append.clone()])).await?;
        Ok(Some(Promoted {
            topic: topic.to_owned(),
            partition: key.partition,
            from: begin,
            to: last.end,
            bytes,
        }))
    }

    /// The producers' state at the manifest's end.
    async fn producers_at(
        &self,
        store: &RemoteStore,
        key: &PartitionKey,
        manifest: &Manifest,
        now_ms: TimestampMs,
    ) -> Result<ProducerStateManager, PromoteError> {
        let mut producers = ProducerStateManager::new(manifest.end_offset());
        let Some(last) = manifest.entries.last() else {
            return Ok(producers);
        };
        let tail = read_segment_tail(store, key, last).await?;
        let snapshot = &tail.indexes.producer_snapshot;
        if !snapshot.is_empty()
            && let Err(error) =
                producers.load_snapshot(snapshot, manifest.end_offset(), now_ms, TimestampMs::MAX)
        {
            tracing::error!(%error, "the producers' state is lost: a retry may be stored twice");
        }
        Ok(producers)
    }
}

/// The chain's batches from `begin` on, in a file that goes with its handle.
async fn tempfile_of(
    store: &RemoteStore,
    chain: &[Found<'_>],
    begin: Offset,
    producers: &mut ProducerStateManager,
    now_ms: TimestampMs,
) -> Result<std::fs::File, PromoteError> {
    let mut file = unnamed_file()?;
    let mut at = begin;
    for found in chain {
        let range = found.position..found.position + found.part.bytes;
        let bytes: Bytes = store.get_range(found.key, range).await?;
        if crc32c::crc32c(&bytes) != found.part.crc32c {
            let cause = FormatError::Checksum {
                what: "a tail object",
            };
            let key = found.key.to_owned();
            return Err(SegmentReadError::Damaged { key, cause }.into());
        }
        let mut position = 0;
        while bytes.len() - position >= BATCH_HEADER_LEN {
            let header = BatchHeader::parse(&bytes[position..])
                .map_err(|e| std::io::Error::other(e.to_string()))?;
            let size = header.size();
            if size > bytes.len() - position {
                break;
            }
            // Two parts may hold the same batch where the manifest's end lay within the first.
            if header.next_offset() > at {
                file.write_all(&bytes[position..position + size])?;
                at = header.next_offset();
                if header.has_producer_id() && !header.is_control() {
                    producers.update(&header, now_ms);
                }
            }
            position += size;
        }
    }
    producers.set_map_end_offset(at);
    Ok(file)
}

fn unnamed_file() -> std::io::Result<std::fs::File> {
    use rustix::fs::{Mode, OFlags};
    let file = rustix::fs::open(
        std::env::temp_dir(),
        OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC,
        Mode::RUSR | Mode::WUSR,
    )?;
    Ok(file.into())
}

enum IndexError {
    Store(StoreError),
    Format(FormatError),
}

impl From<StoreError> for IndexError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

async fn read_index(store: &RemoteStore, key: &str) -> Result<TailIndex, IndexError> {
    let mut last = INDEX_GUESS_BYTES;
    loop {
        let (bytes, length) = store.get_suffix(key, last).await?;
        match TailIndex::decode_suffix(&bytes, length).map_err(IndexError::Format)? {
            TailRead::Index(index) => return Ok(index),
            TailRead::NeedsLast(more) if more > last => last = more,
            TailRead::NeedsLast(_) => {
                return Err(IndexError::Format(FormatError::Truncated {
                    what: "a tail object",
                }));
            }
        }
    }
}

impl BucketReader {
    /// The tails of this bucket's cluster.
    pub async fn tails(&self) -> Result<Tails, PromoteError> {
        let store = self.store().with_purpose(Purpose::Tail);
        Ok(Tails::list(&store, &tails_folder(&self.cluster().await?)).await?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(start: Offset, end: Offset, epoch: i32) -> TailPart {
        TailPart {
            topic_id: TopicId::from_u128(1),
            partition: 0,
            start,
            end,
            fence: Fence::new(1, epoch),
            bytes: 10,
            crc32c: 0,
            epochs: Vec::new(),
        }
    }

    #[test]
    fn a_chain_is_of_the_newest_term_that_goes_on_at_the_manifests_end() {
        let tails = |parts: &[(Offset, Offset, i32)]| {
            Tails(
                parts
                    .iter()
                    .enumerate()
                    .map(|(i, (start, end, epoch))| {
                        let index = TailIndex {
                            cluster_id: "c".to_owned(),
                            created_ms: 0,
                            parts: vec![part(*start, *end, *epoch)],
                        };
                        (format!("{i}"), index)
                    })
                    .collect(),
            )
        };
        type Case = (&'static [(Offset, Offset, i32)], Option<Offset>);
        let table: &[Case] = &[
            (&[], None),
            (&[(100, 150, 1), (150, 180, 1)], Some(180)),
            // What is between is missing: it ends there.
            (&[(100, 150, 1), (160, 180, 1)], Some(150)),
            (&[(110, 150, 1)], None),
            (&[(50, 100, 1)], None),
            // The manifest's end lies within the first part.
            (&[(80, 120, 1), (120, 130, 1)], Some(130)),
            // A later term wrote other records; an older one may reach further, and does not count.
            (&[(100, 200, 1), (100, 120, 2)], Some(120)),
            // The later term's first part is not there: the older one is better than nothing.
            (&[(100, 200, 1), (130, 140, 2)], Some(200)),
        ];
        for (parts, expected) in table {
            let planned = tails(parts).plan("t", TopicId::from_u128(1), 0, 100);
            assert_eq!(planned.map(|p| p.to), *expected, "{parts:?}");
        }
    }
}
