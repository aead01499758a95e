//! One partition's remote side, as the leader sees it.

use std::sync::Arc;

use parking_lot::Mutex;
use strandline_log::txn_index::AbortedTxn;
use strandline_log::{
    FileSlice, LeaderEpoch, Log, Offset, TimestampMs, TimestampOffset, TopicId, TopicPartition,
};

use crate::fence::Fence;
use crate::health::UploadStatus;

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
    /// The first batch holds `first_offset`; none is cut short.
    pub slices: Vec<FileSlice>,
    /// What was asked for, or the next offset that exists when that lies in a recorded gap.
    pub first_offset: Offset,
    /// No record in the slices is at or above this.
    pub end_bound: Offset,
    pub bytes: usize,
    /// The aborted transactions that overlap what was read, by first offset.
    pub aborted: Vec<AbortedTxn>,
}

/// Why a remote read failed. All but `OutOfRange` say nothing about whether the offset exists.
#[derive(Clone, Debug, thiserror::Error)]
pub enum RemoteReadError {
    #[error("offset {offset} is outside of the remote log [{start}, {end})")]
    OutOfRange {
        offset: Offset,
        start: Offset,
        end: Offset,
    },
    /// It may work later: the store is away, or too many reads wait.
    #[error("the remote log cannot be read now: {0}")]
    Unavailable(Arc<str>),
    /// An object is missing or fails its checksum. Only a repair helps.
    #[error("the remote log is damaged: {0}")]
    Corrupt(Arc<str>),
}

impl RemoteReadError {
    pub fn is_retriable(&self) -> bool {
        matches!(self, Self::Unavailable(_))
    }
}

/// The remote log of a partition that this broker leads. Cheap to share; outlives its resignation for those who hold it.
pub struct RemotePartition {
    leader: LeaderPartition,
    status: Mutex<UploadStatus>,
}

impl RemotePartition {
    pub fn topic_partition(&self) -> &TopicPartition {
        &self.leader.tp
    }

    pub fn topic_id(&self) -> TopicId {
        self.leader.topic_id
    }

    pub fn fence(&self) -> Fence {
        self.leader.fence
    }

    pub fn status(&self) -> UploadStatus {
        self.status.lock().clone()
    }

    /// Everything below is in the object store. `None`: nothing is, or the manifest was not read yet.
    pub fn uploaded_end(&self) -> Option<Offset> {
        todo!()
    }

    /// Where the remote log starts. `None` as for [`uploaded_end`](Self::uploaded_end).
    pub fn remote_start(&self) -> Option<Offset> {
        todo!()
    }

    /// Reads from the batch that holds `from`, about `max_bytes`, at least one batch.
    pub async fn read(&self, from: Offset, max_bytes: usize) -> Result<RemoteRead, RemoteReadError> {
        let _ = (from, max_bytes);
        todo!()
    }

    /// The first record at or after `timestamp`, by the order of offsets, if the remote log has one.
    pub async fn offset_for_timestamp(
        &self,
        timestamp: TimestampMs,
    ) -> Result<Option<TimestampOffset>, RemoteReadError> {
        let _ = timestamp;
        todo!()
    }

    /// The largest epoch at or below `epoch` and the offset where it ends, as OffsetForLeaderEpoch wants it, as far as
    /// the manifest's lineage knows.
    pub async fn epoch_end_offset(
        &self,
        epoch: LeaderEpoch,
    ) -> Result<Option<(LeaderEpoch, Offset)>, RemoteReadError> {
        let _ = epoch;
        todo!()
    }

    /// The epoch that the record at `offset` was written in.
    pub async fn epoch_for_offset(
        &self,
        offset: Offset,
    ) -> Result<Option<LeaderEpoch>, RemoteReadError> {
        let _ = offset;
        todo!()
    }

    /// The log start has moved (DeleteRecords): the manifest follows in the background.
    pub fn advance_log_start(&self, offset: Offset) {
        let _ = offset;
    }
}
