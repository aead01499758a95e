//! One partition's log on local disk.
//!
//! API first; bodies follow.
#![allow(unused_variables, clippy::todo)]

mod types;

pub use types::*;

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use crate::log_config::LogConfig;
use crate::log_error::LogError;
use crate::retention::{RetentionPlan, TierView};
use crate::types::{LeaderEpoch, Offset, TimestampMs, TopicId, TopicPartition};

#[derive(Debug)]
pub struct Log {}

impl Log {
    pub fn open(
        dir: &Path,
        tp: TopicPartition,
        topic_id: TopicId,
        config: Arc<LogConfig>,
        open: OpenLog,
    ) -> Result<(Self, RecoveryReport), LogError> {
        todo!()
    }
    pub fn topic_partition(&self) -> &TopicPartition {
        todo!()
    }
    pub fn topic_id(&self) -> TopicId {
        todo!()
    }
    pub fn dir(&self) -> &Path {
        todo!()
    }
    pub fn config(&self) -> Arc<LogConfig> {
        todo!()
    }
    pub fn set_config(&self, config: Arc<LogConfig>) {
        todo!()
    }
    pub fn log_start_offset(&self) -> Offset {
        todo!()
    }
    pub fn local_log_start_offset(&self) -> Offset {
        todo!()
    }
    pub fn log_end_offset(&self) -> Offset {
        todo!()
    }
    pub fn high_watermark(&self) -> Offset {
        todo!()
    }
    pub fn last_stable_offset(&self) -> Offset {
        todo!()
    }
    pub fn first_unstable_offset(&self) -> Option<Offset> {
        todo!()
    }
    pub fn set_high_watermark(&self, offset: Offset) -> Offset {
        todo!()
    }
    pub fn append_as_leader(
        &self,
        batches: &[LeaderAppend],
        leader_epoch: LeaderEpoch,
        now_ms: TimestampMs,
    ) -> Vec<Result<AppendInfo, AppendError>> {
        todo!()
    }
    pub fn read(
        &self,
        from: Offset,
        upper_bound: Offset,
        max_bytes: usize,
        min_one_batch: bool,
    ) -> Result<LogRead, ReadError> {
        todo!()
    }
    pub fn offset_for_timestamp(
        &self,
        timestamp: TimestampMs,
    ) -> Result<Option<TimestampOffset>, LogError> {
        todo!()
    }
    pub fn offset_for_max_timestamp(&self) -> Result<Option<TimestampOffset>, LogError> {
        todo!()
    }
    pub fn assign_epoch(&self, epoch: LeaderEpoch) -> Result<(), LogError> {
        todo!()
    }
    pub fn latest_epoch(&self) -> Option<LeaderEpoch> {
        todo!()
    }
    pub fn epoch_end_offset(&self, epoch: LeaderEpoch) -> Option<(LeaderEpoch, Offset)> {
        todo!()
    }
    pub fn epoch_for_offset(&self, offset: Offset) -> Option<LeaderEpoch> {
        todo!()
    }
    pub fn truncate_to(&self, offset: Offset) -> Result<(), LogError> {
        todo!()
    }
    pub fn truncate_fully_and_start_at(&self, offset: Offset) -> Result<(), LogError> {
        todo!()
    }
    pub fn roll(&self, now_ms: TimestampMs) -> Result<Offset, LogError> {
        todo!()
    }
    pub fn maybe_roll(&self, now_ms: TimestampMs) -> Result<bool, LogError> {
        todo!()
    }
    pub fn flush(&self) -> Result<Offset, LogError> {
        todo!()
    }
    pub fn recovery_point(&self) -> Offset {
        todo!()
    }
    pub fn size_bytes(&self) -> u64 {
        todo!()
    }
    pub fn segment_count(&self) -> usize {
        todo!()
    }
    pub fn sealed_range(
        &self,
        from: Offset,
        below: Offset,
    ) -> Result<Option<SealedRange>, LogError> {
        todo!()
    }
    pub fn producer_snapshot_at(&self, end: Offset) -> Result<Bytes, LogError> {
        todo!()
    }
    pub fn plan_retention(&self, now_ms: TimestampMs, tier: &TierView) -> RetentionPlan {
        todo!()
    }
    pub fn apply_retention(
        &self,
        plan: &RetentionPlan,
        now_ms: TimestampMs,
    ) -> Result<DeletedSegments, LogError> {
        todo!()
    }
    pub fn increment_log_start_offset(&self, offset: Offset) -> Result<bool, LogError> {
        todo!()
    }
    pub fn delete_local_segments_below(&self, offset: Offset) -> Result<DeletedSegments, LogError> {
        todo!()
    }
    pub fn expire_producers(&self, now_ms: TimestampMs) -> usize {
        todo!()
    }
    pub fn purge(&self, now_ms: TimestampMs) -> usize {
        todo!()
    }
    pub fn close(&self, clean: bool) -> Result<(), LogError> {
        todo!()
    }
}
