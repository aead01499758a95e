//! What a lost object can be made from again.

use std::sync::Arc;

use strandline_log::{FileSlice, Log};

use crate::fence::Fence;
use crate::format::{AbortedTxn, PartitionKey, SegmentMeta, SegmentObjectPlan, SegmentTail};
use crate::manifest::ManifestEntry;
use crate::uploader::segment_upload::{UploadError, epochs_before};

/// From the local log, if it still holds the entry's very range. What the log no longer knows of the producers of that
/// time is taken from the old object's end, if that is readable. Blocks.
pub(super) fn from_log(
    log: &Arc<Log>,
    partition: &PartitionKey,
    fence: Fence,
    entry: &ManifestEntry,
    tail: Option<&SegmentTail>,
    now_ms: i64,
) -> Result<Option<SegmentObjectPlan>, UploadError> {
    let holds = log.local_log_start_offset() <= entry.start
        && log.log_start_offset() <= entry.start
        && entry.end <= log.high_watermark();
    if !holds {
        return Ok(None);
    }
    let mut slices = Vec::new();
    let mut at = entry.start;
    while at < entry.end {
        // Whole batches: the bound is the end of one.
        let Ok(read) = log.read(at, entry.end, i32::MAX as usize, true) else {
            return Ok(None);
        };
        if read.is_empty() || read.end_bound <= at {
            return Ok(None);
        }
        at = read.end_bound;
        slices.extend(read.slices);
    }
    let mut meta = SegmentMeta::new(partition.clone(), entry.start, entry.end, fence);
    meta.created_ms = now_ms;
    meta.producer_snapshot = match tail {
        Some(tail) => tail.indexes.producer_snapshot.clone(),
        None => log.producer_snapshot_at(entry.end)?,
    };
    meta.aborted_txns = log
        .aborted_transactions(entry.start, entry.end)?
        .iter()
        .map(|txn| AbortedTxn {
            producer_id: txn.producer_id,
            first_offset: txn.first_offset,
            last_offset: txn.last_offset,
            last_stable_offset: txn.last_stable_offset,
        })
        .collect();
    meta.leader_epochs = epochs_before(log, entry.end);
    Ok(Some(SegmentObjectPlan::compute(slices, meta)?))
}

/// From chunks that a reader has left in the cache: they must be the bytes that the old object's end promises. Blocks.
pub(super) fn from_chunks(
    slices: Vec<FileSlice>,
    partition: &PartitionKey,
    fence: Fence,
    tail: &SegmentTail,
    now_ms: i64,
) -> Result<Option<SegmentObjectPlan>, UploadError> {
    let footer = &tail.footer;
    let mut meta = SegmentMeta::new(partition.clone(), footer.start, footer.end, fence);
    meta.created_ms = now_ms;
    meta.chunk_bytes = footer.chunk_bytes;
    meta.producer_snapshot = tail.indexes.producer_snapshot.clone();
    meta.aborted_txns.clone_from(&tail.indexes.aborted_txns);
    meta.leader_epochs.clone_from(&tail.indexes.leader_epochs);
    let plan = SegmentObjectPlan::compute(slices, meta)?;
    let same = plan.footer().chunk_crcs == footer.chunk_crcs;
    Ok(same.then_some(plan))
}
