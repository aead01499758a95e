//! One partition's remote side, as its leader sees it: reads below the local start, and where the remote log begins and
//! ends. What uploads and expires it is its task, in the uploader.
//!
//! OutOfRange is said only of offsets outside of the whole log: what the manifest lacks although the log has it is trouble
//! in the tier, and consumers must not reset on it.

mod ahead;
mod error;
pub(crate) mod give_up;
mod settle;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use parking_lot::Mutex;
use strandline_log::txn_index::AbortedTxn;
use strandline_log::{
    FileSlice, LeaderEpoch, Log, Offset, TimestampMs, TimestampOffset, TopicId, TopicPartition,
};

use crate::cache::FetchError;
use crate::core::Core;
use crate::fence::Fence;
use crate::format::PartitionKey;
use crate::health::UploadStatus;
use crate::manifest::{Lookup, Manifest, ManifestEntry, ManifestStore, ManifestStoreError};
use crate::reader::{ReadAhead, SegmentRef};
use crate::scrub::ScrubTurn;

use self::error::ReadFailure;
pub use self::error::RemoteReadError;
pub use self::settle::{SettleError, Settled};

/// Gaps and entries without batches that one read steps over.
const STEPS_MAX: usize = 256;
/// Entries that are looked at together.
const ENTRIES_AT_A_TIME: usize = 64;

/// What a broker hands over when it begins to lead a partition.
#[derive(Clone)]
pub struct LeaderPartition {
    pub tp: TopicPartition,
    pub topic_id: TopicId,
    pub fence: Fence,
    pub log: Arc<Log>,
}

/// Whole batches from below the local start.
#[derive(Clone, Debug)]
pub struct RemoteRead {
    /// The first batch holds `first_offset`; none is cut short. None at all: only gaps follow in the remote log, and the
    /// reader goes on at `first_offset` in the local one.
    pub slices: Vec<FileSlice>,
    /// What was asked for, or the next offset that exists when that lies in a recorded gap.
    pub first_offset: Offset,
    /// No record in the slices is at or above this.
    pub end_bound: Offset,
    pub bytes: usize,
    /// The aborted transactions that overlap what was read, by first offset.
    pub aborted: Vec<AbortedTxn>,
}

/// The remote log of a partition that this broker leads. Outlives its resignation for those who hold it.
pub struct RemotePartition {
    pub(crate) core: Arc<Core>,
    pub(crate) leader: LeaderPartition,
    pub(crate) key: PartitionKey,
    pub(crate) manifests: Arc<ManifestStore>,
    pub(crate) status: Mutex<UploadStatus>,
    /// Resigned, replaced or deleted: nothing is uploaded or removed any more.
    pub(crate) gone: AtomicBool,
    /// The local log holds all that the manifest names: before that nothing is appended, uploaded or removed.
    settled: AtomicBool,
    /// Whether the partition's folder may hold a note that the remote log is given up. `None`: not looked at yet.
    is_noted: Mutex<Option<bool>>,
    /// The log has all that was ever committed, but was not compared with the manifest.
    assumed: AtomicBool,
    ahead: Mutex<ReadAhead>,
    pub(crate) sweep: Mutex<SweepTurn>,
    /// A log start that outlives a crash although the manifest may not know it.
    pub(crate) kept_start: AtomicI64,
    /// Behind what tail objects of this term hold.
    pub(crate) tail_end: AtomicI64,
    pub(crate) scrub: Mutex<ScrubTurn>,
}

/// When the partition's objects are listed next, and from which key on.
#[derive(Debug, Default)]
pub(crate) struct SweepTurn {
    pub due_ms: Option<TimestampMs>,
    pub after: Option<String>,
    /// How old an object must be, where that is less than remote.log.orphan.age.ms: something was given up.
    pub age_ms: Option<TimestampMs>,
}

impl RemotePartition {
    pub(crate) fn new(core: Arc<Core>, leader: LeaderPartition) -> Self {
        let key = PartitionKey::new(
            core.cluster_id.clone(),
            leader.topic_id,
            leader.tp.partition,
        );
        let manifests = ManifestStore::new(
            &core.store,
            key.clone(),
            core.ids.clone(),
            core.pages.clone(),
        );
        Self {
            core,
            leader,
            key,
            manifests: Arc::new(manifests),
            status: Mutex::default(),
            gone: AtomicBool::new(false),
            settled: AtomicBool::new(true),
            is_noted: Mutex::default(),
            assumed: AtomicBool::new(false),
            ahead: Mutex::default(),
            sweep: Mutex::default(),
            kept_start: AtomicI64::new(-1),
            tail_end: AtomicI64::new(-1),
            scrub: Mutex::default(),
        }
    }

    pub fn topic_partition(&self) -> &TopicPartition {
        &self.leader.tp
    }

    pub fn topic_id(&self) -> TopicId {
        self.leader.topic_id
    }

    pub fn fence(&self) -> Fence {
        self.leader.fence
    }

    pub fn log(&self) -> &Arc<Log> {
        &self.leader.log
    }

    pub fn status(&self) -> UploadStatus {
        self.status.lock().clone()
    }

    /// This broker no longer leads it, or leads a later epoch.
    pub fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Acquire)
    }

    pub(crate) fn is_settled(&self) -> bool {
        self.settled.load(Ordering::Acquire)
    }

    pub(crate) fn set_settled(&self, settled: bool) {
        self.settled.store(settled, Ordering::Release);
    }

    /// The manifest as it was seen last, unless the topic is deleted.
    pub fn manifest(&self) -> Option<Arc<Manifest>> {
        self.manifests.cached().filter(|m| !m.is_deleted())
    }

    /// The end of what is in the object store. `None`: nothing is, or the manifest was not read yet.
    pub fn uploaded_end(&self) -> Option<Offset> {
        self.manifest()?.entries_end()
    }

    /// Where the next upload begins: behind what is in the object store, and behind a gap that follows it.
    pub fn next_upload(&self) -> Option<Offset> {
        let manifest = self.manifest()?;
        manifest.entries_end().map(|_| manifest.end_offset())
    }

    /// [`uploaded_end`](Self::uploaded_end), but reads the manifest when it was not read yet; `None`: nothing is uploaded.
    pub async fn read_uploaded_end(&self) -> Result<Option<Offset>, RemoteReadError> {
        match self.manifests.current().await {
            Ok(_) => Ok(self.uploaded_end()),
            Err(ManifestStoreError::Absent) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Where the remote log starts. `None` as for [`uploaded_end`](Self::uploaded_end).
    pub fn remote_start(&self) -> Option<Offset> {
        self.manifest()
            .filter(|m| m.entry_count() > 0)
            .map(|m| m.start_offset())
    }

    /// Reads from the batch that holds `from`, about `max_bytes`, at least one batch.
    pub async fn read(
        &self,
        from: Offset,
        max_bytes: usize,
    ) -> Result<RemoteRead, RemoteReadError> {
        let topic = [&*self.leader.tp.topic];
        let metrics = &self.core.metrics;
        metrics
            .remote_fetch_requests
            .with_label_values(&topic)
            .inc();
        let mut read = self.read_once(from, max_bytes).await;
        if read.as_ref().is_err_and(ReadFailure::is_loss) {
            // Retention may have removed it since we saw the root, or somebody has mended it or accepted its loss.
            self.manifests.forget();
            read = self.read_once(from, max_bytes).await;
            if read.as_ref().is_err_and(ReadFailure::is_loss) {
                self.suspect(from);
            }
        }
        match read {
            Ok(read) => {
                metrics
                    .remote_fetch_bytes
                    .with_label_values(&topic)
                    .inc_by(read.bytes as u64);
                Ok(read)
            }
            Err(failure) => {
                let error = failure.into_error();
                if !matches!(error, RemoteReadError::OutOfRange { .. }) {
                    metrics.remote_fetch_errors.with_label_values(&topic).inc();
                }
                if let RemoteReadError::Corrupt(why) = &error {
                    tracing::error!(partition = %self.leader.tp, offset = from, why = %why, "the remote log is damaged");
                }
                Err(error)
            }
        }
    }

    async fn read_once(&self, from: Offset, max_bytes: usize) -> Result<RemoteRead, ReadFailure> {
        let manifest = self.current(from).await?;
        let mut offset = from;
        for _ in 0..STEPS_MAX {
            let entry = match self.manifests.entry_for(&manifest, offset).await? {
                Lookup::Entry(entry) => entry,
                Lookup::Gap(gap) => {
                    offset = gap.end;
                    continue;
                }
                Lookup::AtEnd { .. } if offset > from && self.is_local(offset) => {
                    return Ok(RemoteRead {
                        slices: Vec::new(),
                        first_offset: offset,
                        end_bound: offset,
                        bytes: 0,
                        aborted: Vec::new(),
                    });
                }
                Lookup::BelowStart { .. } | Lookup::AtEnd { .. } => {
                    return Err(self.not_there(offset, Some(&manifest)).into());
                }
            };
            let segment = SegmentRef::of(&entry, &self.key);
            let read = self.core.reader.read(&segment, offset, max_bytes).await?;
            let Some(read) = read else {
                offset = entry.end;
                continue;
            };
            let aborted = self
                .aborted(&entry, &segment, offset, read.end_bound)
                .await?;
            self.read_ahead(&manifest, &segment, &read).await;
            return Ok(RemoteRead {
                bytes: read.slices.iter().map(|slice| slice.len).sum(),
                slices: read.slices,
                first_offset: offset,
                end_bound: read.end_bound,
                aborted,
            });
        }
        Err(RemoteReadError::Unavailable("too many gaps in a row".into()).into())
    }

    async fn aborted(
        &self,
        entry: &ManifestEntry,
        segment: &SegmentRef,
        from: Offset,
        to: Offset,
    ) -> Result<Vec<AbortedTxn>, FetchError> {
        if !entry.has_aborted {
            return Ok(Vec::new());
        }
        let tail = self.core.reader.tail(segment).await?;
        let mut aborted: Vec<_> = tail
            .indexes
            .aborted_in(from, to)
            .iter()
            .map(|txn| AbortedTxn {
                producer_id: txn.producer_id,
                first_offset: txn.first_offset,
                last_offset: txn.last_offset,
                last_stable_offset: txn.last_stable_offset,
            })
            .collect();
        aborted.sort_by_key(|txn| txn.first_offset);
        Ok(aborted)
    }

    /// The first record at or after `timestamp`, by the order of offsets, if the remote log has one.
    pub async fn offset_for_timestamp(
        &self,
        timestamp: TimestampMs,
    ) -> Result<Option<TimestampOffset>, RemoteReadError> {
        let manifest = match self.manifests.current().await {
            Ok(manifest) => manifest,
            Err(ManifestStoreError::Absent) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let log_start = manifest.start_offset().max(self.log().log_start_offset());
        let first = self
            .manifests
            .entry_for_timestamp(&manifest, timestamp)
            .await?;
        let mut next = first.map(|entry| entry.start);
        while let Some(from) = next.take() {
            let entries = self
                .manifests
                .entries_from(&manifest, from, ENTRIES_AT_A_TIME)
                .await?;
            next = entries.last().map(|entry| entry.end);
            for entry in entries.iter().filter(|e| e.max_timestamp >= timestamp) {
                let segment = SegmentRef::of(entry, &self.key);
                let begin = entry.start.max(log_start);
                let found = self
                    .core
                    .reader
                    .find_timestamp(&segment, begin, timestamp)
                    .await?;
                if found.is_some() {
                    return Ok(found);
                }
            }
        }
        Ok(None)
    }

    /// The largest epoch at or below `epoch` and the offset where it ends, as OffsetForLeaderEpoch wants it, as far as
    /// the manifest's lineage knows.
    pub async fn epoch_end_offset(
        &self,
        epoch: LeaderEpoch,
    ) -> Result<Option<(LeaderEpoch, Offset)>, RemoteReadError> {
        match self.manifests.current().await {
            Ok(manifest) => Ok(manifest.epoch_end_offset(epoch)),
            Err(ManifestStoreError::Absent) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// The epoch that the record at `offset` was written in.
    pub async fn epoch_for_offset(
        &self,
        offset: Offset,
    ) -> Result<Option<LeaderEpoch>, RemoteReadError> {
        match self.manifests.current().await {
            Ok(manifest) => Ok(manifest.epoch_for_offset(offset)),
            Err(ManifestStoreError::Absent) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// The log start has moved (DeleteRecords): the manifest follows in the background.
    pub fn advance_log_start(&self, offset: Offset) {
        tracing::debug!(partition = %self.leader.tp, offset, "the manifest follows the log start");
        self.wake();
    }

    pub(crate) fn wake(&self) {
        self.core.schedule.lock().wake(&self.leader.tp);
        self.core.schedule_changed.notify_one();
    }

    async fn current(&self, offset: Offset) -> Result<Arc<Manifest>, RemoteReadError> {
        match self.manifests.current().await {
            Ok(manifest) if manifest.is_deleted() => Err(RemoteReadError::OutOfRange {
                offset,
                start: manifest.end_offset(),
                end: manifest.end_offset(),
            }),
            Ok(manifest) => Ok(manifest),
            Err(ManifestStoreError::Absent) => Err(self.not_there(offset, None)),
            Err(error) => Err(error.into()),
        }
    }

    fn is_local(&self, offset: Offset) -> bool {
        self.log().local_log_start_offset() <= offset
    }

    fn not_there(&self, offset: Offset, manifest: Option<&Manifest>) -> RemoteReadError {
        let (start, end) = manifest.map_or((0, 0), |m| (m.start_offset(), m.end_offset()));
        let log = self.log();
        let in_log = log.log_start_offset() <= offset && offset < log.local_log_start_offset();
        if in_log && offset >= end {
            return RemoteReadError::Unavailable(
                format!(
                    "offset {offset} is in neither tier: the manifest ends at {end}, the local log starts at {}",
                    log.local_log_start_offset()
                )
                .into(),
            );
        }
        RemoteReadError::OutOfRange { offset, start, end }
    }
}
