//! What is done for one partition when it has its turn: one round of
//!
//! 1. make the manifest and the log agree on the log start,
//! 2. upload at most one range and name it in the manifest,
//! 3. move the log start as total retention says: first in the manifest, then in the log,
//! 4. forget entries below the log start and queue their objects for removal,
//! 5. sweep the partition's objects, when it is time,
//! 6. drop local segments that local retention gives up and the manifest holds (I4).
//!
//! Each step leaves a state that the next round of any leader can go on from. The stop flag is read between steps.

use std::sync::Arc;

use strandline_log::{LogError, Offset};

use super::copy_plan::{self, CopyPlan, LogOffsets};
use super::retain::LocalBytes;
use super::schedule::{Next, backoff_ms};
use super::segment_upload::{self, PlannedUpload, UploadError};
use crate::bucket_reader::BucketError;
use crate::core::ProbeError;
use crate::format::object_key::SegmentName;
use crate::health::CopyState;
use crate::manifest::{
    Edit, Manifest, ManifestEntry, ManifestError, ManifestStoreError, ObjectRef,
};
use crate::remote_partition::{RemotePartition, SettleError};
use crate::store::Purpose;

#[derive(Debug, thiserror::Error)]
pub(crate) enum TaskError {
    #[error(transparent)]
    Probe(#[from] ProbeError),
    #[error(transparent)]
    Marker(#[from] BucketError),
    #[error(transparent)]
    Manifest(#[from] ManifestStoreError),
    #[error(transparent)]
    Upload(#[from] UploadError),
    #[error(transparent)]
    Log(#[from] LogError),
    #[error("what the partition's folder knows of the tier: {0}")]
    Settle(SettleError),
    #[error("a blocking task died: {0}")]
    Died(#[from] tokio::task::JoinError),
}

impl From<SettleError> for TaskError {
    fn from(error: SettleError) -> Self {
        match error {
            SettleError::Manifest(error) => Self::Manifest(error),
            SettleError::Log(error) => Self::Log(error),
            error => Self::Settle(error),
        }
    }
}

impl TaskError {
    fn is_fenced(&self) -> bool {
        matches!(self, Self::Manifest(error) if error.is_fenced())
    }
}

/// How a round ended.
struct Round {
    state: CopyState,
    /// There is more to do at once.
    more: bool,
}

/// What became of the upload step.
enum Copied {
    One(Arc<Manifest>),
    Nothing(CopyState),
}

impl RemotePartition {
    /// One turn. Never panics for what the world does; says when the next turn should be.
    pub(crate) async fn take_turn(&self) -> Next {
        let interval_ms = self.core.config.task_interval_ms;
        if !self.is_settled() {
            return Next::At(self.core.clock.now_ms().saturating_add(interval_ms));
        }
        let outcome = self.round().await;
        if let Err(error) = &outcome
            && !error.is_fenced()
            && !self.must_end()
        {
            self.retain_without_store().await;
        }
        let now_ms = self.core.clock.now_ms();
        let mut status = self.status.lock();
        match outcome {
            Ok(round) => {
                if round.state.is_trouble() && status.state != round.state {
                    tracing::warn!(partition = %self.leader.tp, state = round.state.as_str(), "the upload is stuck");
                }
                status.settled(round.state, now_ms);
                if round.more {
                    Next::Now
                } else {
                    Next::At(now_ms.saturating_add(interval_ms))
                }
            }
            Err(TaskError::Manifest(error)) if error.is_fenced() => {
                if status.state != CopyState::Fenced {
                    tracing::warn!(partition = %self.leader.tp, %error, "a newer leader uploads this partition");
                }
                status.settled(CopyState::Fenced, now_ms);
                status.last_error = Some(error.to_string());
                Next::NotBefore(now_ms.saturating_add(interval_ms))
            }
            Err(error) => {
                let topic = [&*self.leader.tp.topic];
                self.core
                    .metrics
                    .remote_copy_errors
                    .with_label_values(&topic)
                    .inc();
                status.failed(error.to_string(), now_ms);
                let config = &self.core.config;
                let wait_ms = backoff_ms(
                    status.failures,
                    config.retry_backoff_ms,
                    config.retry_backoff_ms_max,
                    config.retry_jitter,
                    self.core.random_fraction(),
                );
                tracing::warn!(
                    partition = %self.leader.tp, %error, failures = status.failures, retry_in_ms = wait_ms,
                    "the remote log's task failed; it is tried again"
                );
                let next_try_ms = now_ms.saturating_add(wait_ms);
                status.next_try_ms = Some(next_try_ms);
                Next::NotBefore(next_try_ms)
            }
        }
    }

    pub(crate) fn must_end(&self) -> bool {
        self.is_gone() || self.core.is_stopping()
    }

    async fn round(&self) -> Result<Round, TaskError> {
        let done = |state| Round { state, more: false };
        let config = self.log().config();
        let unwanted = self.is_unwanted();
        if !self.core.config.enabled || !(config.remote_storage_enable || unwanted) {
            self.show_lag(LocalBytes::default());
            return Ok(done(CopyState::Disabled));
        }
        self.core.probe().await?;
        let mut manifest = match self.manifests.cached() {
            Some(manifest) => Some(manifest),
            None => self.load_or_rebuild().await?,
        };
        if manifest.as_ref().is_some_and(|m| m.is_deleted()) {
            return Ok(done(CopyState::Deleted));
        }
        if let Some(known) = &manifest
            && known.fence > self.leader.fence
        {
            // Not ours any more: neither an upload nor a removal is.
            return Err(ManifestStoreError::Edit(ManifestError::Fenced {
                ours: self.leader.fence,
                current: known.fence,
            })
            .into());
        }
        if unwanted {
            if let Some(known) = manifest {
                let blank = self.give_up(known, None).await?;
                let blank = self.sweep_if_due(blank).await?;
                self.show_size(blank.bytes_total());
            }
            self.show_lag(LocalBytes::default());
            return Ok(done(CopyState::Disabled));
        }
        if let Some(known) = manifest {
            let known = self.give_up_if_due(known).await?;
            manifest = Some(self.agree_on_log_start(known).await?);
        }
        if self.must_end() {
            return Ok(done(CopyState::Pending));
        }
        let mut round = if config.remote_log_copy_disable {
            done(CopyState::CopyDisabled)
        } else {
            match self.copy_one(manifest.as_ref()).await? {
                Copied::One(after) => {
                    manifest = Some(after);
                    Round {
                        state: CopyState::Behind,
                        more: true,
                    }
                }
                Copied::Nothing(state) => done(state),
            }
        };
        if self.must_end() {
            return Ok(round);
        }
        if let Some(known) = manifest {
            let known = self.retain_total(known).await?;
            let known = self.forget_expired(known).await?;
            let known = self.sweep_if_due(known).await?;
            manifest = Some(self.scrub_if_due(known).await?);
        }
        if self.must_end() {
            return Ok(round);
        }
        let (after, lag) = self.retain_local(manifest, None).await?;
        manifest = after;
        round.more &= !self.must_end();
        self.show_lag(lag);
        if let Some(manifest) = &manifest {
            self.show_size(manifest.bytes_total());
        }
        Ok(round)
    }

    /// A root that is damaged is made again at once, one that is missing too, if this broker has ever seen it.
    async fn load_or_rebuild(&self) -> Result<Option<Arc<Manifest>>, TaskError> {
        let lost = match self.manifests.load().await {
            Ok(Some(manifest)) => return Ok(Some(manifest)),
            Ok(None) => self.manifests.is_lost(),
            Err(ManifestStoreError::Damaged { .. }) => true,
            Err(error) => return Err(error.into()),
        };
        // History below the local start is only there.
        let log = self.log();
        if !lost && log.log_start_offset() >= log.local_log_start_offset() {
            return Ok(None);
        }
        let start = log.log_start_offset();
        let tp = &self.leader.tp;
        self.core
            .ensure_marker(&tp.topic, self.leader.topic_id, tp.partition + 1)
            .await?;
        let fence = self.leader.fence;
        Ok(Some(self.manifests.claim_of(fence, start, start).await?))
    }

    /// The larger log start holds in both, as far as the log has come.
    async fn agree_on_log_start(
        &self,
        manifest: Arc<Manifest>,
    ) -> Result<Arc<Manifest>, TaskError> {
        let log = self.log();
        let (ours, theirs) = (log.log_start_offset(), manifest.start_offset());
        if theirs > ours && theirs <= log.high_watermark() {
            self.increment_log_start(theirs).await?;
        } else if ours > theirs {
            return self.advance_manifest_start(ours).await;
        }
        Ok(manifest)
    }

    pub(super) async fn advance_manifest_start(
        &self,
        offset: Offset,
    ) -> Result<Arc<Manifest>, TaskError> {
        self.intend_end(offset).await?;
        let edited = self.manifests.edit(self.leader.fence, |m| {
            Ok(if m.start_offset() < offset {
                vec![Edit::AdvanceLogStart { offset }]
            } else {
                Vec::new()
            })
        });
        Ok(edited.await?)
    }

    pub(super) async fn increment_log_start(&self, offset: Offset) -> Result<(), TaskError> {
        let log = Arc::clone(self.log());
        let moved = crate::blocking::run(move || log.increment_log_start_offset(offset)).await??;
        if moved {
            tracing::info!(partition = %self.leader.tp, log_start = offset, "the log start moved");
        }
        Ok(())
    }

    async fn copy_one(&self, manifest: Option<&Arc<Manifest>>) -> Result<Copied, TaskError> {
        let log = self.log();
        let end = manifest.map(|m| m.end_offset());
        let (from, below) = match copy_plan::plan(end, &LogOffsets::of(log)) {
            CopyPlan::Copy { from, below } => (from, below),
            CopyPlan::CaughtUp => return Ok(Copied::Nothing(CopyState::CaughtUp)),
            CopyPlan::AheadOfLog => return Ok(Copied::Nothing(CopyState::AheadOfLog)),
            CopyPlan::GapBeforeLocal => {
                let local_start = log.local_log_start_offset();
                if manifest.is_some_and(|m| m.entry_count() == 0) {
                    // Given up by a leader whose local log began earlier: no tier has what is missing, gaps or not.
                    self.increment_log_start(local_start).await?;
                    return Ok(Copied::One(self.advance_manifest_start(local_start).await?));
                }
                return Ok(Copied::Nothing(CopyState::GapBeforeLocal));
            }
            CopyPlan::FollowLogStart { log_start } => {
                return Ok(Copied::One(self.advance_manifest_start(log_start).await?));
            }
        };
        if log.active_segment_base_offset() <= from {
            return Ok(Copied::Nothing(CopyState::CaughtUp));
        }
        let fence = self.leader.fence;
        let now_ms = self.core.clock.now_ms();
        let planned = segment_upload::plan(log, &self.key, fence, from, below, now_ms).await?;
        let Some(planned) = planned else {
            return Ok(Copied::Nothing(CopyState::CaughtUp));
        };
        if self.must_end() {
            return Ok(Copied::Nothing(CopyState::Behind));
        }
        let tp = &self.leader.tp;
        self.core
            .ensure_marker(&tp.topic, self.leader.topic_id, tp.partition + 1)
            .await?;
        self.intend_end(planned.range.end).await?;
        let manifest = match manifest {
            Some(manifest) => Arc::clone(manifest),
            None => {
                let log_start = log.log_start_offset();
                self.manifests.claim_of(fence, from, log_start).await?
            }
        };
        if manifest.end_offset() != from {
            // It was lost, and made again.
            return Ok(Copied::One(manifest));
        }
        self.upload(&manifest, from, planned).await.map(Copied::One)
    }

    /// Puts the object, then names it: from then on, and not before, it is a part of the log.
    async fn upload(
        &self,
        manifest: &Manifest,
        from: Offset,
        planned: PlannedUpload,
    ) -> Result<Arc<Manifest>, TaskError> {
        let topic = [&*self.leader.tp.topic];
        let metrics = &self.core.metrics;
        let fence = self.leader.fence;
        let name = SegmentName {
            start: from,
            epoch: fence.leader_epoch,
            counter: manifest.generation,
            random: self.core.ids.random(),
        };
        let PlannedUpload { range, plan } = planned;
        let store = self.core.store.with_purpose(Purpose::Upload);
        metrics.remote_copy_requests.with_label_values(&topic).inc();
        segment_upload::put(&store, &self.key, &name, &plan, &self.core.pace()).await?;
        let entry = ManifestEntry {
            start: from,
            end: range.end,
            object: ObjectRef::Segment {
                counter: name.counter,
                random: name.random,
            },
            bytes: plan.object_bytes(),
            log_bytes: plan.footer().log_bytes,
            max_timestamp: plan.footer().max_timestamp,
            has_aborted: !plan.tail().indexes.aborted_txns.is_empty(),
            damaged: false,
            fence,
            footer_crc: plan.footer_crc(),
        };
        let epochs: Vec<_> = plan
            .tail()
            .indexes
            .leader_epochs
            .iter()
            .map(|entry| strandline_log::leader_epoch::EpochEntry {
                epoch: entry.epoch,
                start_offset: entry.start_offset,
            })
            .collect();
        let append = Edit::Append { entry, epochs };
        let edited = self
            .manifests
            .edit(fence, |_| Ok(vec![append.clone()]))
            .await;
        let after = edited.inspect_err(|error| self.drop_refused(error, &name))?;
        metrics
            .remote_copy_bytes
            .with_label_values(&topic)
            .inc_by(plan.footer().log_bytes);
        tracing::info!(
            partition = %self.leader.tp, start = from, end = range.end, bytes = plan.object_bytes(),
            "uploaded a range of the log"
        );
        Ok(after)
    }

    /// An object whose edit was refused for good can be removed. After any other failure it counts as referenced; a
    /// sweep finds it, if it is not.
    fn drop_refused(&self, error: &ManifestStoreError, name: &SegmentName) {
        let for_good = matches!(
            error,
            ManifestStoreError::Edit(
                ManifestError::Fenced { .. }
                    | ManifestError::Deleted
                    | ManifestError::BelowFloor { .. }
            )
        );
        if for_good || is_planted!(RemoveAfterUnknownOutcome) {
            self.remove_later(self.key.segment(name));
        }
        // Whatever was cached led to a refusal.
        self.manifests.forget();
    }
}
