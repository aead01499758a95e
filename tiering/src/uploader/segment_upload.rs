//! Makes one object of one range: plan, stream, verify. What fails here leaves nothing that anyone reads: only the
//! manifest makes an object part of the log.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use futures::Stream;
use strandline_log::{Log, LogError, Offset, SealedRange, TimestampMs};

use crate::fence::Fence;
use crate::format::object_key::SegmentName;
use crate::format::{
    AbortedTxn, EpochEntry, PartitionKey, PlanError, SegmentMeta, SegmentObjectPlan,
};
use crate::store::{PutObject, RemoteStore, StoreError};
use crate::uploader::Pace;

/// Where a store takes objects in parts. S3 takes at most 10,000; with this size that is beyond any segment.
const PART_BYTES: usize = 8 << 20;

#[derive(Debug, thiserror::Error)]
pub enum UploadError {
    #[error("the local log: {0}")]
    Log(#[from] LogError),
    #[error(transparent)]
    Plan(#[from] PlanError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("what the store keeps of {key} is not what was sent")]
    Unverified { key: String },
    #[error("a blocking task died: {0}")]
    Died(#[from] tokio::task::JoinError),
}

/// A range that is ready to be sent.
pub struct PlannedUpload {
    pub range: SealedRange,
    pub plan: SegmentObjectPlan,
}

/// Looks for the next sealed range and reads it once. `None`: nothing that is sealed and synced ends at or below `below`.
pub async fn plan(
    log: &Arc<Log>,
    partition: &PartitionKey,
    fence: Fence,
    from: Offset,
    below: Offset,
    now_ms: TimestampMs,
) -> Result<Option<PlannedUpload>, UploadError> {
    let (log, partition) = (Arc::clone(log), partition.clone());
    crate::blocking::run(move || {
        let Some(range) = log.sealed_range(from, below)? else {
            return Ok(None);
        };
        let mut meta = SegmentMeta::new(partition, from, range.end, fence);
        meta.created_ms = now_ms;
        meta.producer_snapshot = log.producer_snapshot_at(range.end)?;
        meta.aborted_txns = log
            .aborted_transactions(from, range.end)?
            .iter()
            .map(|txn| AbortedTxn {
                producer_id: txn.producer_id,
                first_offset: txn.first_offset,
                last_offset: txn.last_offset,
                last_stable_offset: txn.last_stable_offset,
            })
            .collect();
        meta.leader_epochs = epochs_before(&log, range.end);
        let planned = SegmentObjectPlan::compute(range.slices.clone(), meta);
        if let (Err(PlanError::DamagedBatch { position, .. }), Some(slice)) =
            (&planned, range.slices.first())
        {
            // Known to the log, it is answered as damaged from now on.
            log.examine_segment(range.segment_base_offset, slice.position + position)?;
        }
        let plan = planned?;
        Ok(Some(PlannedUpload { range, plan }))
    })
    .await?
}

/// The lineage of leader epochs up to an offset.
pub(crate) fn epochs_before(log: &Log, end: Offset) -> Vec<EpochEntry> {
    log.epoch_entries()
        .iter()
        .filter(|entry| entry.start_offset < end)
        .map(|entry| EpochEntry {
            epoch: entry.epoch,
            start_offset: entry.start_offset,
        })
        .collect()
}

/// Sends the object under a name never used before and checks what the store keeps.
pub async fn put(
    store: &RemoteStore,
    partition: &PartitionKey,
    name: &SegmentName,
    plan: &SegmentObjectPlan,
    pace: &Pace,
) -> Result<(), UploadError> {
    let key = partition.segment(name);
    let object = PutObject {
        length: plan.object_bytes(),
        crc32c: plan.object_crc32c(),
    };
    store
        .put_object_if_absent(&key, object, || body(plan, pace.clone()), PART_BYTES)
        .await?;
    // The chunks were checked as they were sent; the end, which holds their checksums, is read back.
    let tail_bytes = plan.object_bytes() - plan.footer().log_bytes;
    let (kept, length) = store.get_suffix(&key, tail_bytes).await?;
    if length != plan.object_bytes() || kept != *plan.tail_bytes() {
        return Err(UploadError::Unverified { key });
    }
    Ok(())
}

/// The object's bytes, read from disk on blocking threads as the store takes them and the rate limit lets them through.
fn body(
    plan: &SegmentObjectPlan,
    pace: Pace,
) -> impl Stream<Item = Result<Bytes, io::Error>> + Send + use<> {
    let chunks = Some((Box::new(plan.body()), pace));
    futures::stream::unfold(chunks, |state| async move {
        let (mut chunks, pace) = state?;
        let read = crate::blocking::run(move || {
            let next = chunks.next();
            (next, chunks)
        })
        .await;
        match read {
            Ok((next, chunks)) => {
                let next = next?.map_err(io::Error::other);
                if let Ok(bytes) = &next
                    && !pace.take(bytes.len() as u64).await
                {
                    let stopped = io::Error::other("the broker stops");
                    return Some((Err(stopped), None));
                }
                Some((next, Some((chunks, pace))))
            }
            Err(died) => Some((Err(io::Error::other(died)), None)),
        }
    })
}
