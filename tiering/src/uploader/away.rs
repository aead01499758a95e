//! What of a partition's turn goes on when the store does not answer.
//!
//! - Total retention: what has expired goes, uploaded or not. The log start moves first, and outlives a crash before any
//!   file goes; the manifest follows when the store is back, with a recorded gap for what was never uploaded.
//! - Local retention of what the manifest is known to name (I4).
//!
//! The manifest is the one that was seen last; without one only local segments are judged. Nothing is asked of the store.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use strandline_log::retention::SegmentMeta;
use strandline_log::{Offset, TimestampMs};

use super::partition_task::TaskError;
use crate::manifest::Manifest;
use crate::remote_partition::RemotePartition;
use crate::retention::{self, RemoteSegment, TotalRetention};

impl RemotePartition {
    pub(super) async fn retain_without_store(&self) {
        if !self.log().config().remote_storage_enable {
            return;
        }
        let manifest = self.manifests.cached();
        let is_ours = |m: &Arc<Manifest>| !m.is_deleted() && m.fence <= self.leader.fence;
        if !manifest.as_ref().is_none_or(is_ours) {
            return;
        }
        if let Err(error) = self.expire_without_store(manifest).await {
            tracing::warn!(partition = %self.leader.tp, %error, "retention waits for the store");
        }
    }

    async fn expire_without_store(&self, manifest: Option<Arc<Manifest>>) -> Result<(), TaskError> {
        if self.core.keep_log_starts.get().is_some()
            && let Some(log_start) = self.expired(manifest.as_deref()).await?
        {
            self.increment_log_start(log_start).await?;
        }
        let log_start = self.log().log_start_offset();
        // That no manifest was seen does not mean that there is none.
        let mut kept = self.kept_start.load(Ordering::Acquire) >= log_start
            || manifest
                .as_ref()
                .is_some_and(|m| m.start_offset() >= log_start);
        if let Some(keep) = self.core.keep_log_starts.get()
            && !kept
        {
            let keep = Arc::clone(keep);
            match crate::blocking::run(move || keep()).await? {
                Ok(()) => {
                    self.kept_start.fetch_max(log_start, Ordering::AcqRel);
                    kept = true;
                }
                Err(error) => {
                    tracing::warn!(partition = %self.leader.tp, error, "the log start is not kept yet")
                }
            }
        }
        let (_, lag) = self.retain_local(manifest, Some(kept)).await?;
        self.show_lag(lag);
        Ok(())
    }

    /// Where the log should start by its total limits, as far as that is known.
    async fn expired(&self, manifest: Option<&Manifest>) -> Result<Option<Offset>, TaskError> {
        let limits = TotalRetention::of(&self.log().config());
        if limits.is_unlimited() {
            return Ok(None);
        }
        let log = Arc::clone(self.log());
        let metas = crate::blocking::run(move || log.segment_metas()).await??;
        let log = self.log();
        let now_ms = self.core.clock.now_ms();
        let view = View {
            log_start: log.log_start_offset(),
            high_watermark: log.high_watermark(),
        };
        Ok(plan(manifest, &metas, view, &limits, now_ms))
    }
}

#[derive(Clone, Copy)]
struct View {
    log_start: Offset,
    high_watermark: Offset,
}

/// Pure. Pages stand for one segment each: what is in them cannot be asked for.
fn plan(
    manifest: Option<&Manifest>,
    local: &[SegmentMeta],
    log: View,
    limits: &TotalRetention,
    now_ms: TimestampMs,
) -> Option<Offset> {
    let mut known = Vec::new();
    if let Some(manifest) = manifest {
        known.extend(manifest.pages.iter().map(|page| RemoteSegment {
            end: page.end,
            // Of a page that the log start cuts through nobody knows how much is left: nothing is assumed.
            log_bytes: if page.live_start >= log.log_start {
                page.live_bytes
            } else {
                0
            },
            max_timestamp: page.max_timestamp,
        }));
        known.extend(manifest.entries.iter().map(|entry| RemoteSegment {
            end: entry.end,
            log_bytes: entry.bytes,
            max_timestamp: entry.max_timestamp,
        }));
        known.retain(|segment| segment.end > log.log_start);
    }
    let from = manifest.map_or(log.log_start, |m| m.end_offset().max(log.log_start));
    let beyond = local.iter().filter(|meta| meta.next_offset > from);
    let bytes_total = known.iter().map(|s| s.log_bytes).sum::<u64>()
        + beyond.clone().map(|meta| meta.size_bytes).sum::<u64>();
    let sealed_below = local.last().map_or(0, |active| active.base_offset);
    let end_max = log.high_watermark.min(sealed_below);
    known.extend(
        beyond
            .filter(|meta| meta.next_offset <= end_max)
            .map(|meta| RemoteSegment {
                end: meta.next_offset,
                log_bytes: meta.size_bytes,
                max_timestamp: if meta.largest_timestamp >= 0 {
                    meta.largest_timestamp
                } else {
                    meta.last_modified_ms
                },
            }),
    );
    retention::plan(known, bytes_total, limits, now_ms)
        .filter(|start| *start > log.log_start && *start <= log.high_watermark)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fence::Fence;
    use crate::manifest::tests::manifest;
    use crate::manifest::{ManifestEntry, ObjectRef};

    fn segment(base_offset: Offset, timestamp: TimestampMs) -> SegmentMeta {
        SegmentMeta {
            base_offset,
            next_offset: base_offset + 100,
            size_bytes: 1_000,
            largest_timestamp: timestamp,
            last_modified_ms: timestamp,
        }
    }

    fn entry(start: Offset, max_timestamp: TimestampMs) -> ManifestEntry {
        ManifestEntry {
            start,
            end: start + 100,
            object: ObjectRef::Segment {
                counter: 1,
                random: 1,
            },
            bytes: 1_000,
            log_bytes: 900,
            max_timestamp,
            has_aborted: false,
            damaged: false,
            fence: Fence::new(1, 1),
            footer_crc: 0,
        }
    }

    #[test]
    fn what_expired_goes_in_both_tiers_but_nothing_that_is_young_or_active() {
        let mut tiered = manifest(0);
        tiered.entries = vec![entry(0, 10), entry(100, 20)];
        tiered.end = 200;
        // Of the second entry the local log still has a copy; the last segment is the active one.
        let local = [segment(100, 20), segment(200, 30), segment(300, 40)];
        let table = [
            // manifest, high watermark, retention.ms, retention.bytes, now, expected
            (true, 400, -1, -1, 9_000, None),
            (true, 400, 50, -1, 60, None),
            (true, 400, 50, -1, 61, Some(100)),
            (true, 400, 50, -1, 71, Some(200)),
            (true, 400, 50, -1, 9_000, Some(300)),
            (true, 250, 50, -1, 9_000, Some(200)),
            (true, 400, -1, 4_000, 0, None),
            (true, 400, -1, 3_000, 0, Some(100)),
            (true, 400, -1, 1_000, 0, Some(300)),
            // Not known what the bucket has: only what is here is counted.
            (false, 400, -1, 3_000, 0, None),
            (false, 400, -1, 2_000, 0, Some(200)),
            (false, 400, 50, -1, 9_000, Some(300)),
        ];
        for (known, high_watermark, retention_ms, retention_bytes, now_ms, expected) in table {
            let limits = TotalRetention {
                retention_ms,
                retention_bytes,
            };
            let log = View {
                log_start: 0,
                high_watermark,
            };
            let planned = plan(known.then_some(&tiered), &local, log, &limits, now_ms);
            assert_eq!(
                planned, expected,
                "{known} {high_watermark} {limits:?} {now_ms}"
            );
        }
    }
}
