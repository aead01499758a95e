//! The worker that uploads tails, and removes them when manifests have what they hold.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use strandline_log::record::{BATCH_HEADER_LEN, BatchHeader};
use strandline_log::{LogError, Offset, ReadError, TopicId};

use crate::bucket_reader::BucketError;
use crate::core::ProbeError;
use crate::format::EpochEntry;
use crate::format::object_key::{tail_object, tails_folder};
use crate::format::tail_object::{TailIndex, TailPart};
use crate::remote_partition::RemotePartition;
use crate::store::{Purpose, StoreError};
use crate::tails::Tails;
use crate::tier::Tier;

/// Of one partition in one object; the next one goes on behind it.
const PART_BYTES_MAX: usize = 4 << 20;
const OBJECT_BYTES_MAX: usize = 64 << 20;
/// Between two objects, so that a broker never sends more than one a second.
const INTERVAL_MS_MIN: i64 = 1_000;

#[derive(Debug, thiserror::Error)]
enum TailError {
    #[error(transparent)]
    Probe(#[from] ProbeError),
    #[error(transparent)]
    Marker(#[from] BucketError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the local log: {0}")]
    Log(#[from] LogError),
    #[error("the local log: {0}")]
    Read(#[from] ReadError),
    #[error("a blocking task died: {0}")]
    Died(#[from] tokio::task::JoinError),
}

/// An object that may be needed yet.
struct Kept {
    key: String,
    parts: Vec<(TopicId, i32, Offset)>,
}

struct Planned {
    partition: Arc<RemotePartition>,
    part: TailPart,
    bytes: Bytes,
}

pub(crate) async fn run(tier: Arc<Tier>) {
    let core = Arc::clone(tier.core());
    let interval_ms = core.config.tail_upload_ms;
    if interval_ms < 0 || !core.config.enabled {
        return;
    }
    let interval_ms = interval_ms.max(INTERVAL_MS_MIN);
    let stop = core.stop();
    let mut kept = None;
    // Where the last object's room ended.
    let mut turn = 0;
    while stop
        .sleep(Duration::from_millis(interval_ms.unsigned_abs()))
        .await
    {
        if let Err(error) = upload(&tier, &mut kept, &mut turn).await {
            core.metrics.tail_upload_errors.inc();
            tracing::warn!(%error, "the tails were not uploaded; it is tried again");
        }
    }
}

async fn upload(
    tier: &Tier,
    kept: &mut Option<Vec<Kept>>,
    turn: &mut usize,
) -> Result<(), TailError> {
    let core = tier.core();
    let mut partitions = tier.partitions();
    partitions.retain(|partition| partition.is_copied() && partition.is_settled());
    partitions.sort_by(|a, b| a.topic_partition().cmp(b.topic_partition()));
    let begin = *turn % partitions.len().max(1);
    partitions.rotate_left(begin);
    let mut planned = Vec::new();
    let mut total = 0;
    let mut looked = 0;
    for partition in &partitions {
        if total >= OBJECT_BYTES_MAX {
            break;
        }
        looked += 1;
        let (asked, room) = (Arc::clone(partition), OBJECT_BYTES_MAX - total);
        if !asked.has_tail() {
            continue;
        }
        let found = crate::blocking::run(move || plan(&asked, room.min(PART_BYTES_MAX))).await?;
        match found {
            Ok(Some((part, bytes))) => {
                total += bytes.len();
                planned.push(Planned {
                    partition: Arc::clone(partition),
                    part,
                    bytes,
                });
            }
            Ok(None) => {}
            Err(error) => {
                tracing::warn!(partition = %partition.topic_partition(), %error, "its tail is not uploaded");
            }
        }
    }
    *turn = begin + looked;
    if !planned.is_empty() {
        core.probe().await?;
        let key = put(tier, &planned).await?;
        let parts = planned.iter().map(|p| &p.part);
        let parts = parts.map(|p| (p.topic_id, p.partition, p.end)).collect();
        let known = kept_objects(tier, kept).await?;
        known.push(Kept { key, parts });
    }
    if core.is_probed() {
        remove_replaced(tier, kept).await?;
    }
    Ok(())
}

async fn put(tier: &Tier, planned: &[Planned]) -> Result<String, TailError> {
    let core = tier.core();
    let now_ms = tier.now_ms();
    for Planned { partition, .. } in planned {
        let tp = partition.topic_partition();
        core.ensure_marker(&tp.topic, partition.topic_id(), tp.partition + 1)
            .await?;
    }
    let index = TailIndex {
        cluster_id: core.cluster_id.clone(),
        created_ms: now_ms,
        parts: planned.iter().map(|p| p.part.clone()).collect(),
    };
    let mut object = BytesMut::new();
    for Planned { bytes, .. } in planned {
        object.extend_from_slice(bytes);
    }
    object.extend_from_slice(&index.encode());
    let key = tail_object(&core.cluster_id, now_ms, core.ids.random());
    let length = object.len() as u64;
    let store = core.store.with_purpose(Purpose::Tail);
    store.put_if_absent(&key, object.freeze()).await?;
    for Planned {
        partition, part, ..
    } in planned
    {
        partition.tail_end.fetch_max(part.end, Ordering::AcqRel);
    }
    core.metrics.tail_upload_bytes.inc_by(length);
    tracing::debug!(key, parts = planned.len(), bytes = length, "uploaded tails");
    Ok(key)
}

impl RemotePartition {
    /// From where on the bucket has nothing.
    fn tail_from(&self) -> Offset {
        let log = self.log();
        let named = match self.manifest() {
            Some(manifest) => manifest.end_offset(),
            None => log.log_start_offset().max(log.local_log_start_offset()),
        };
        named.max(self.tail_end.load(Ordering::Acquire))
    }

    fn has_tail(&self) -> bool {
        let log = self.log();
        self.tail_from() < log.high_watermark().min(log.last_stable_offset())
    }
}

/// Reads what goes up next of a partition: whole batches. Blocks.
fn plan(
    partition: &RemotePartition,
    bytes_max: usize,
) -> Result<Option<(TailPart, Bytes)>, TailError> {
    let log = partition.log();
    let from = partition.tail_from();
    let below = log.high_watermark().min(log.last_stable_offset());
    if from < log.local_log_start_offset() || from >= below {
        return Ok(None);
    }
    let read = log.read(from, below, bytes_max, true)?;
    let mut bytes = BytesMut::with_capacity(read.bytes);
    for slice in &read.slices {
        let part = slice.read_to_bytes();
        bytes.extend_from_slice(&part.map_err(|e| {
            LogError::from(strandline_log::StorageError::new("read", log.dir(), e))
        })?);
    }
    let bytes = bytes.freeze();
    let Some((whole, end)) = whole_batches(&bytes) else {
        return Ok(None);
    };
    let bytes = bytes.slice(..whole);
    let epochs = log.epoch_entries();
    let part = TailPart {
        topic_id: partition.topic_id(),
        partition: partition.topic_partition().partition,
        start: from,
        end,
        fence: partition.fence(),
        bytes: bytes.len() as u64,
        crc32c: crc32c::crc32c(&bytes),
        epochs: epochs
            .iter()
            .filter(|entry| entry.start_offset < end)
            .map(|entry| EpochEntry {
                epoch: entry.epoch,
                start_offset: entry.start_offset,
            })
            .collect(),
    };
    Ok(Some((part, bytes)))
}

/// How many bytes are whole batches, and the offset behind them.
pub(super) fn whole_batches(bytes: &[u8]) -> Option<(usize, Offset)> {
    let mut at = 0;
    let mut end = None;
    while bytes.len() - at >= BATCH_HEADER_LEN {
        let Ok(header) = BatchHeader::parse(&bytes[at..]) else {
            break;
        };
        if header.size() > bytes.len() - at {
            break;
        }
        at += header.size();
        end = Some(header.next_offset());
    }
    end.map(|end| (at, end))
}

/// The objects of this cluster that are there, listed once.
async fn kept_objects<'a>(
    tier: &Tier,
    kept: &'a mut Option<Vec<Kept>>,
) -> Result<&'a mut Vec<Kept>, TailError> {
    if kept.is_none() {
        let core = tier.core();
        let store = core.store.with_purpose(Purpose::Tail);
        let tails = Tails::list(&store, &tails_folder(&core.cluster_id)).await?;
        let found = tails.into_objects().into_iter().map(|(key, index)| Kept {
            key,
            parts: index
                .parts
                .iter()
                .map(|part| (part.topic_id, part.partition, part.end))
                .collect(),
        });
        *kept = Some(found.collect());
    }
    Ok(kept.get_or_insert_default())
}

/// Deletes the objects of which everything is in a manifest. What of another broker's partitions is in them stays.
async fn remove_replaced(tier: &Tier, kept: &mut Option<Vec<Kept>>) -> Result<(), TailError> {
    let core = tier.core();
    let store = core.store.with_purpose(Purpose::Tail);
    let named: std::collections::HashMap<(TopicId, i32), Offset> = tier
        .partitions()
        .iter()
        .filter_map(|partition| {
            let key = (partition.topic_id(), partition.topic_partition().partition);
            Some((key, partition.manifest()?.end_offset()))
        })
        .collect();
    let known = kept_objects(tier, kept).await?;
    let is_replaced = |object: &Kept| {
        object.parts.iter().all(|(topic_id, partition, end)| {
            let named = named.get(&(*topic_id, *partition));
            named.is_some_and(|named| named >= end)
        })
    };
    let (replaced, needed): (Vec<_>, Vec<_>) =
        std::mem::take(known).into_iter().partition(is_replaced);
    *known = needed;
    for object in replaced {
        if let Err(error) = store.delete(&object.key).await {
            known.push(object);
            return Err(error.into());
        }
    }
    Ok(())
}
