//! What the log knows of producers and transactions.

use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use super::Log;
use crate::log_error::{AtPath, LogError};
use crate::producer_state::{ProducerStateEntry, ProducerStateManager};
use crate::record::Batch;
use crate::segment::{BatchPosition, BatchScan, LogSegment, ScanError};
use crate::segment_files::{SegmentFile, segment_path};
use crate::txn_index::{AbortedTxn, TransactionIndex};
use crate::types::{Offset, ProducerId, TimestampMs};

impl Log {
    /// The producers that appended lately, by id: DescribeProducers' answer.
    pub fn producers(&self) -> Vec<ProducerStateEntry> {
        self.producers.lock().entries().cloned().collect()
    }

    /// Forgets producers that appended nothing for long; tells which.
    pub fn expire_producers(&self, now_ms: TimestampMs) -> Vec<ProducerId> {
        self.producers
            .lock()
            .expire(now_ms, self.producer_id_expiration_ms)
    }

    /// When [`Self::expire_producers`] may have one to forget, if none appends before.
    pub(crate) fn producers_expire_at_ms(&self) -> Option<TimestampMs> {
        let oldest_ms = self.producers.lock().oldest_append_ms()?;
        Some(oldest_ms.saturating_add(self.producer_id_expiration_ms))
    }

    /// The aborted transactions that overlap `[start, end)`, as far as local segments know them.
    pub fn aborted_transactions(
        &self,
        start: Offset,
        end: Offset,
    ) -> Result<Vec<AbortedTxn>, LogError> {
        loop {
            let segments = self.segments.snapshot();
            let aborted = self.aborted_transactions_of(&segments, start, end)?;
            // A segment that was replaced meanwhile took its entries along to another one.
            if Arc::ptr_eq(&segments, &self.segments.snapshot()) {
                return Ok(aborted);
            }
        }
    }

    fn aborted_transactions_of(
        &self,
        segments: &[Arc<LogSegment>],
        start: Offset,
        end: Offset,
    ) -> Result<Vec<AbortedTxn>, LogError> {
        let mut aborted: Vec<AbortedTxn> = Vec::new();
        let first = crate::segments::floor(segments, start).unwrap_or(0);
        // A marker may lie in any later segment: each index tells when no more can come.
        for segment in &segments[first..] {
            let path = segment_path(&self.dir, segment.base_offset(), SegmentFile::TxnIndex);
            let search = TransactionIndex::open(path)?.collect_aborted_txns(start, end)?;
            aborted.extend(search.aborted);
            if search.is_complete {
                break;
            }
        }
        // During a swap the files of two segments may tell of the same transaction, which has one marker.
        aborted.sort_by_key(|txn| txn.last_offset);
        aborted.dedup_by_key(|txn| txn.last_offset);
        Ok(aborted)
    }

    /// The producers' state as it was at `end`, in the format of `.snapshot` files. Read from the snapshot at `end`, or
    /// replayed from the newest before it.
    pub fn producer_snapshot_at(&self, end: Offset) -> Result<Bytes, LogError> {
        let log_end = self.log_end_offset();
        if end > log_end {
            return Err(LogError::OutOfRange {
                offset: end,
                log_start: self.log_start_offset(),
                log_end,
            });
        }
        let mut producers = ProducerStateManager::default();
        // Nothing expires here: what the snapshot is for may be read much later.
        let from = self.snapshots.lock().load_latest(
            &mut producers,
            self.segments.first_base_offset(),
            end,
            0,
            TimestampMs::MAX,
        )?;
        let segments = self.segments.snapshot();
        replay(&segments, &mut producers, from, end, &Replayed::default())?;
        Ok(producers.encode_snapshot().into())
    }

    /// Writes a snapshot at the log's end, unless there is one.
    pub(super) fn take_snapshot(&self, sync: bool) -> Result<(), LogError> {
        let end = self.log_end_offset();
        let bytes = {
            let mut producers = self.producers.lock();
            if producers.map_end_offset() < end {
                producers.set_map_end_offset(end);
            }
            producers.encode_snapshot()
        };
        let mut snapshots = self.snapshots.lock();
        if snapshots.latest() != Some(end) {
            snapshots.write(end, &bytes, sync)?;
        } else if sync {
            snapshots.flush(end)?;
        }
        Ok(())
    }
}

/// What a replay is to do besides the producers' state.
#[derive(Debug, Default)]
pub(crate) struct Replayed {
    /// Segments from here on get their transaction index written anew; the caller has removed the old ones.
    pub txn_indexes_from: Option<Offset>,
}

/// Brings the producers' state from `from` to `end` by the batches of the log. Only headers are read, but for markers.
/// The log does not hold when they were appended: each counts as young as its file.
pub(crate) fn replay(
    segments: &[Arc<LogSegment>],
    producers: &mut ProducerStateManager,
    from: Offset,
    end: Offset,
    replayed: &Replayed,
) -> Result<(), LogError> {
    let first = crate::segments::floor(segments, from).unwrap_or(0);
    for segment in &segments[first..] {
        if segment.base_offset() >= end {
            break;
        }
        let size = segment.size();
        let append_ms = segment.last_modified_ms();
        let start = match segment.base_offset() < from {
            true => match segment.find(from, size)? {
                Some(batch) => batch.position,
                None => continue,
            },
            false => 0,
        };
        let mut txn_index = None;
        let mut scan = segment.scan(start, size)?;
        while let Some(batch) = scan.next_batch()? {
            if batch.header.base_offset >= end {
                break;
            }
            if !batch.header.has_producer_id() {
                continue;
            }
            if !batch.header.is_control() {
                producers.update(&batch.header, append_ms);
                continue;
            }
            let marker = read_batch(&scan, &batch)?;
            let completed = producers
                .update_batch(&marker, append_ms)
                .map_err(|e| corrupt(&scan, &batch, e.to_string()))?;
            let rebuild = replayed
                .txn_indexes_from
                .is_some_and(|from| segment.base_offset() >= from);
            if let Some(aborted) = completed.and_then(|c| c.aborted())
                && rebuild
            {
                let index = match &mut txn_index {
                    Some(index) => index,
                    None => txn_index.insert(TransactionIndex::open(txn_index_path(segment))?),
                };
                index.append(&aborted)?;
            }
        }
    }
    producers.set_map_end_offset(end.max(producers.map_end_offset()));
    Ok(())
}

pub(crate) fn txn_index_path(segment: &LogSegment) -> std::path::PathBuf {
    let path = segment.path();
    let dir = path.parent().unwrap_or_else(|| Path::new("."));
    segment_path(dir, segment.base_offset(), SegmentFile::TxnIndex)
}

fn read_batch(scan: &BatchScan, at: &BatchPosition) -> Result<Batch, LogError> {
    let mut bytes = vec![0; at.header.size()];
    scan.file()
        .read_exact_at(&mut bytes, at.position)
        .at("read", scan.path())?;
    Batch::parse(bytes.into()).map_err(|e| corrupt(scan, at, e.to_string()).into())
}

fn corrupt(scan: &BatchScan, at: &BatchPosition, reason: String) -> ScanError {
    ScanError::Corrupt {
        path: scan.path().clone(),
        position: at.position,
        reason,
    }
}
