//! What to upload next: a pure function over the offsets of both tiers.
//!
//! The next range begins exactly at the manifest's end, in mid-segment if need be, and lies below the high watermark and
//! the last stable offset. What lies below the log start is never uploaded; what is in neither tier is reported and stops
//! the upload, because skipping it is a decision for an operator.

use strandline_log::{Log, Offset};

/// The offsets that a local log is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogOffsets {
    pub log_start: Offset,
    pub local_start: Offset,
    pub end: Offset,
    pub high_watermark: Offset,
    pub last_stable: Offset,
}

impl LogOffsets {
    pub fn of(log: &Log) -> Self {
        Self {
            log_start: log.log_start_offset(),
            local_start: log.local_log_start_offset(),
            end: log.log_end_offset(),
            high_watermark: log.high_watermark(),
            last_stable: log.last_stable_offset(),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CopyPlan {
    /// Upload sealed segments from `from` on that end at or below `below`.
    Copy { from: Offset, below: Offset },
    /// Nothing is safe to upload beyond the manifest's end.
    CaughtUp,
    /// The manifest must first follow the log start, which lies beyond its end.
    FollowLogStart { log_start: Offset },
    /// The log ends below the manifest: it has lost records that the store still has.
    AheadOfLog,
    /// Offsets between the manifest's end and the local start are in neither tier.
    GapBeforeLocal,
}

/// `manifest_end` is `None` before the first upload.
pub fn plan(manifest_end: Option<Offset>, log: &LogOffsets) -> CopyPlan {
    let from = match manifest_end {
        Some(end) if end > log.end => return CopyPlan::AheadOfLog,
        Some(end) if end < log.log_start => {
            return CopyPlan::FollowLogStart {
                log_start: log.log_start,
            };
        }
        Some(end) if end < log.local_start => return CopyPlan::GapBeforeLocal,
        Some(end) => end,
        None => log.log_start.max(log.local_start),
    };
    let below = if is_planted!(UploadAboveHighWatermark) {
        log.end
    } else {
        log.high_watermark.min(log.last_stable)
    };
    if from < below {
        CopyPlan::Copy { from, below }
    } else {
        CopyPlan::CaughtUp
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_range_begins_at_the_manifests_end() {
        let log = LogOffsets {
            log_start: 100,
            local_start: 200,
            end: 500,
            high_watermark: 450,
            last_stable: 400,
        };
        let copy = |from| CopyPlan::Copy { from, below: 400 };
        let table = [
            (None, copy(200)),
            (Some(200), copy(200)),
            (Some(399), copy(399)),
            (Some(400), CopyPlan::CaughtUp),
            (Some(500), CopyPlan::CaughtUp),
            (Some(501), CopyPlan::AheadOfLog),
            (Some(199), CopyPlan::GapBeforeLocal),
            (Some(100), CopyPlan::GapBeforeLocal),
            (Some(99), CopyPlan::FollowLogStart { log_start: 100 }),
        ];
        for (manifest_end, expected) in table {
            assert_eq!(plan(manifest_end, &log), expected, "{manifest_end:?}");
        }
        let unstable = LogOffsets {
            high_watermark: 300,
            ..log
        };
        assert_eq!(
            plan(None, &unstable),
            CopyPlan::Copy {
                from: 200,
                below: 300
            }
        );
    }
}
