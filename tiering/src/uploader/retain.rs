//! The part of a partition's turn that gives things up: history, objects, local segments. And the gauges that show it.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use strandline_log::retention::LogView;
use strandline_log::{LogError, Offset, TierView, TimestampMs};

use super::partition_task::TaskError;
use super::sweep;
use crate::garbage::{Removal, What};
use crate::manifest::{Edit, GapCause, Manifest, ObjectRef};
use crate::remote_partition::RemotePartition;
use crate::retention::{self, RemoteSegment, TotalRetention};
use crate::store::Purpose;

/// Entries that one turn looks at for retention, or forgets with one edit.
const ENTRIES_PER_TURN: usize = 256;

impl RemotePartition {
    pub(super) async fn retain_total(
        &self,
        manifest: Arc<Manifest>,
    ) -> Result<Arc<Manifest>, TaskError> {
        let limits = TotalRetention::of(&self.log().config());
        if limits.is_unlimited() || manifest.entry_count() == 0 {
            return Ok(manifest);
        }
        let entries = self
            .manifests
            .entries_from(&manifest, manifest.start_offset(), ENTRIES_PER_TURN)
            .await?;
        let bytes_total = if limits.retention_bytes >= 0 {
            let local = self.local_bytes_from(manifest.end_offset()).await?;
            self.manifests.retained_bytes(&manifest).await? + local.bytes
        } else {
            0
        };
        let segments = entries.iter().map(|entry| RemoteSegment {
            end: entry.end,
            log_bytes: entry.bytes,
            max_timestamp: entry.max_timestamp,
        });
        let now_ms = self.core.clock.now_ms();
        let Some(log_start) = retention::plan(segments, bytes_total, &limits, now_ms) else {
            return Ok(manifest);
        };
        let after = self.advance_manifest_start(log_start).await?;
        if log_start <= self.log().high_watermark() {
            self.increment_log_start(log_start).await?;
        }
        Ok(after)
    }

    /// The edit first: what is removed later is named by nobody.
    pub(super) async fn forget_expired(
        &self,
        mut manifest: Arc<Manifest>,
    ) -> Result<Arc<Manifest>, TaskError> {
        while !self.must_end() {
            let oldest_is_live = manifest.pages.is_empty()
                && manifest
                    .entries
                    .first()
                    .is_none_or(|entry| entry.end > manifest.start_offset());
            if oldest_is_live {
                break;
            }
            let Some(expired) = self
                .manifests
                .plan_remove_expired(&manifest, ENTRIES_PER_TURN)
                .await?
            else {
                break;
            };
            let edit = expired.edit.clone();
            let after = self
                .manifests
                .edit(self.leader.fence, |_| Ok(vec![edit.clone()]))
                .await?;
            for entry in &expired.entries {
                if matches!(entry.object, ObjectRef::Segment { .. }) {
                    self.remove_later(entry.key(&self.key));
                }
            }
            let kept = |name| after.pages.iter().any(|page| page.name() == name);
            for page in manifest.pages.iter().filter(|page| !kept(page.name())) {
                self.remove_later(self.key.manifest_page(&page.name()));
            }
            manifest = after;
        }
        Ok(manifest)
    }

    /// Now and then: what crashes, fenced leaders and failed edits have left behind is found and goes.
    pub(super) async fn sweep_if_due(
        &self,
        manifest: Arc<Manifest>,
    ) -> Result<Arc<Manifest>, TaskError> {
        let config = &self.core.config;
        let now_ms = self.core.clock.now_ms();
        let (after, age_ms) = {
            let mut turn = self.sweep.lock();
            // The first one comes some time after the start, so that not all partitions are swept at once.
            let due_ms = *turn.due_ms.get_or_insert_with(|| {
                let fraction = self.core.random_fraction();
                now_ms.saturating_add((config.sweep_interval_ms as f64 * fraction) as i64)
            });
            if now_ms < due_ms {
                return Ok(manifest);
            }
            // A sweep that fails comes again with the next interval.
            turn.due_ms = Some(now_ms.saturating_add(config.sweep_interval_ms));
            let age_ms = turn.age_ms.take().unwrap_or(config.orphan_age_ms);
            (turn.after.take(), age_ms)
        };
        let swept = sweep::sweep(
            &self.core.store.with_purpose(Purpose::Sweep),
            &self.manifests,
            Some(self.leader.fence),
            now_ms.saturating_sub(age_ms),
            after.as_deref(),
        )
        .await?;
        if !swept.garbage.is_empty() {
            let bytes: u64 = swept.garbage.iter().map(|object| object.bytes).sum();
            tracing::info!(
                partition = %self.leader.tp, objects = swept.garbage.len(), bytes,
                "found objects that nothing names; they are removed"
            );
        }
        for object in swept.garbage {
            self.remove_later(object.key);
        }
        if let Some(next) = swept.next {
            let mut turn = self.sweep.lock();
            turn.after = Some(next);
            turn.due_ms = Some(now_ms);
            turn.age_ms = Some(age_ms);
        }
        Ok(swept.manifest.unwrap_or(manifest))
    }

    pub(crate) fn remove_later(&self, key: String) {
        let removal = Removal::new(&self.leader.tp.topic, What::Object { key: key.clone() });
        let due_ms = self
            .core
            .clock
            .now_ms()
            .saturating_add(self.core.config.delete_delay_ms);
        if !self.core.garbage.push(removal, due_ms) {
            tracing::warn!(
                key,
                "too many objects wait for their removal; this one stays behind"
            );
        }
    }

    /// Drops what local retention gives up; returns what is sealed and not uploaded. While copying is off, the limits of
    /// both tiers together hold for the local one, also for what was not uploaded: the manifest records a gap first.
    /// `away`: the store does not answer, and whether the log start outlives a crash although the manifest may not know
    /// it; then only what surely is in the store goes, and what lies below that start.
    pub(super) async fn retain_local(
        &self,
        manifest: Option<Arc<Manifest>>,
        away: Option<bool>,
    ) -> Result<(Option<Arc<Manifest>>, LocalBytes), TaskError> {
        let log = Arc::clone(self.log());
        let now_ms = self.core.clock.now_ms();
        let mut config = (*log.config()).clone();
        let uploaded_end = manifest.as_ref().map(|m| m.end_offset());
        let copies = !config.remote_log_copy_disable;
        if !copies {
            // As far as both tiers' limits. By size the remote part goes first.
            let remote_lives = manifest
                .as_ref()
                .is_some_and(|m| m.entries_end().is_some_and(|end| end > m.start_offset()));
            config.local_retention_ms = -2;
            config.local_retention_bytes = if remote_lives { -1 } else { -2 };
        }
        let dropped_below = match copies {
            _ if is_planted!(DropBeforeUpload) => Some(Offset::MAX),
            _ if away.is_some() && !(copies && self.manifests.is_anchored()) => None,
            true => uploaded_end,
            false => Some(log.high_watermark()),
        };
        let plan = crate::blocking::run({
            let log = Arc::clone(&log);
            move || {
                let view = LogView {
                    log_start: log.log_start_offset(),
                    high_watermark: log.high_watermark(),
                };
                let tier = TierView {
                    uploaded_end: dropped_below,
                };
                let metas = log.segment_metas()?;
                Ok::<_, LogError>(strandline_log::retention::plan(
                    &metas, view, &config, &tier, now_ms,
                ))
            }
        });
        let plan = plan.await??;
        let manifest = match plan.delete_below {
            Some(below) if away.is_none() => self.before_local_drop(manifest, below).await?,
            _ => manifest,
        };
        // A crash may forget where the log starts, the manifest does not: what lies below goes only after it knows.
        let start_is_safe = away.unwrap_or_else(|| {
            manifest
                .as_ref()
                .is_none_or(|m| m.start_offset() >= log.log_start_offset())
        });
        let from = manifest.as_ref().map_or(0, |m| m.end_offset());
        // What the manifest said may have been taken back by whoever wrote it since.
        let is_named = is_planted!(DropBeforeUpload)
            || plan
                .delete_below
                .is_none_or(|below| below <= from.max(log.log_start_offset()));
        let lag = crate::blocking::run(move || {
            if start_is_safe && is_named && !plan.is_empty() {
                log.apply_retention(&plan, now_ms)?;
                // The files' delay begins now; without one they go at once.
                log.purge(now_ms);
            }
            sealed_bytes_from(&log, from)
        });
        let lag = lag.await??;
        Ok((manifest, lag))
    }

    /// The manifest answers for what goes (I4): by its entries, or by a gap.
    async fn before_local_drop(
        &self,
        manifest: Option<Arc<Manifest>>,
        below: Offset,
    ) -> Result<Option<Arc<Manifest>>, TaskError> {
        let fence = self.leader.fence;
        let log_start = self.log().log_start_offset();
        if below <= log_start || is_planted!(DropBeforeUpload) {
            return Ok(manifest);
        }
        let Some(known) = manifest else {
            // Nothing was ever uploaded, but a crash must not forget where the log starts.
            let tp = &self.leader.tp;
            self.core
                .ensure_marker(&tp.topic, self.leader.topic_id, tp.partition + 1)
                .await?;
            self.intend_end(below).await?;
            let made = self.manifests.claim_of(fence, below, log_start).await?;
            if made.start_offset() == below {
                self.increment_log_start(below).await?;
            }
            return Ok(Some(made));
        };
        if !self.log().config().remote_log_copy_disable || below <= known.end_offset() {
            return Ok(Some(self.manifests.anchor(fence).await?));
        }
        if known
            .entries_end()
            .is_none_or(|end| end <= known.start_offset())
        {
            // All that is remote has expired: the log just starts later.
            let after = self.advance_manifest_start(below).await?;
            self.increment_log_start(below).await?;
            return Ok(Some(after));
        }
        self.intend_end(below).await?;
        let gap = Edit::RecordGap {
            end: below,
            cause: GapCause::TieringOff,
        };
        let after = self
            .manifests
            .edit(fence, |m| {
                Ok(if m.end_offset() < below {
                    vec![gap.clone()]
                } else {
                    Vec::new()
                })
            })
            .await?;
        tracing::info!(
            partition = %self.leader.tp, start = known.end_offset(), end = below,
            "local records expire that were not uploaded, as copying is switched off: a gap is on record"
        );
        Ok(Some(after))
    }

    async fn local_bytes_from(&self, offset: Offset) -> Result<LocalBytes, TaskError> {
        let log = Arc::clone(self.log());
        let bytes = crate::blocking::run(move || {
            let active_base = log.active_segment_base_offset();
            let sealed = sealed_bytes_from(&log, offset)?;
            let active: u64 = log
                .segment_metas()?
                .iter()
                .filter(|meta| meta.base_offset >= active_base.max(offset))
                .map(|meta| meta.size_bytes)
                .sum();
            Ok::<_, LogError>(LocalBytes {
                bytes: sealed.bytes + active,
                ..sealed
            })
        });
        Ok(bytes.await??)
    }

    pub(super) fn show_lag(&self, lag: LocalBytes) {
        let topic = [&*self.leader.tp.topic];
        let mut status = self.status.lock();
        // A task that ends after the partition has left must not bring its share back.
        let LocalBytes {
            bytes,
            segments,
            oldest_ms,
        } = if self.is_gone() {
            LocalBytes::default()
        } else {
            lag
        };
        let metrics = &self.core.metrics;
        let moved = |before: u64, after: u64| after as i64 - before as i64;
        metrics
            .remote_copy_lag_bytes
            .with_label_values(&topic)
            .add(moved(status.lag_bytes, bytes));
        metrics
            .remote_copy_lag_segments
            .with_label_values(&topic)
            .add(moved(status.lag_segments, segments));
        status.lag_bytes = bytes;
        status.lag_segments = segments;
        status.lag_since_ms = oldest_ms;
    }

    pub(super) fn show_size(&self, bytes: u64) {
        let topic = [&*self.leader.tp.topic];
        let mut status = self.status.lock();
        let bytes = if self.is_gone() { 0 } else { bytes };
        self.core
            .metrics
            .remote_log_size_bytes
            .with_label_values(&topic)
            .add(bytes as i64 - status.remote_bytes as i64);
        status.remote_bytes = bytes;
    }

    /// This broker no longer leads it: its tasks end between steps and its share of the gauges goes.
    pub(crate) fn leave(&self) {
        self.gone.store(true, Ordering::Release);
        self.show_lag(LocalBytes::default());
        self.show_size(0);
        self.show_damage();
    }

    /// Objects that are lost, as a gauge over all partitions of the topic.
    pub(crate) fn show_damage(&self) {
        let topic = [&*self.leader.tp.topic];
        let count = self.damages().len() as i64;
        let count = if self.is_gone() { 0 } else { count };
        let mut status = self.status.lock();
        self.core
            .metrics
            .remote_damaged_objects
            .with_label_values(&topic)
            .add(count - status.damaged_objects as i64);
        status.damaged_objects = count as u64;
    }
}

#[derive(Clone, Copy, Default)]
pub(super) struct LocalBytes {
    pub bytes: u64,
    pub segments: u64,
    /// When the oldest of the segments was written last.
    pub oldest_ms: Option<TimestampMs>,
}

/// The sealed segments that reach beyond an offset. A segment that holds it counts with the share of its offsets.
fn sealed_bytes_from(log: &strandline_log::Log, offset: Offset) -> Result<LocalBytes, LogError> {
    let metas = log.segment_metas()?;
    let sealed = &metas[..metas.len().saturating_sub(1)];
    let mut found = LocalBytes::default();
    for meta in sealed
        .iter()
        .filter(|m| m.next_offset > offset && m.size_bytes > 0)
    {
        let offsets = (meta.next_offset - meta.base_offset).max(1);
        let beyond = meta.next_offset - offset.max(meta.base_offset);
        let share = u128::from(meta.size_bytes) * beyond as u128 / offsets as u128;
        found.bytes += share as u64;
        found.segments += 1;
        found.oldest_ms.get_or_insert(meta.last_modified_ms);
    }
    Ok(found)
}
