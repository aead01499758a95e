//! What retention may drop: a pure function over what is known of the segments.
//!
//! A log without tiering loses whole segments that are expired or beyond the size limit, as long as all of them is
//! below the high watermark; its log start moves with them. A tiered log loses local segments only, by its local
//! limits, and only those entirely below what is uploaded (I4); its log start is moved by the tier. Nothing is read or
//! deleted here: `Log::apply_retention` carries a plan out.

#[cfg(test)]
mod tests;

use crate::log_config::LogConfig;
use crate::types::{NO_TIMESTAMP, Offset, TimestampMs};

/// What is known about one segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentMeta {
    pub base_offset: Offset,
    pub next_offset: Offset,
    pub size_bytes: u64,
    /// The largest record timestamp, -1 when no record has one.
    pub largest_timestamp: TimestampMs,
    pub last_modified_ms: TimestampMs,
}

impl SegmentMeta {
    /// What the segment's age is counted from.
    fn age_from_ms(&self) -> TimestampMs {
        if self.largest_timestamp > NO_TIMESTAMP {
            self.largest_timestamp
        } else {
            self.last_modified_ms
        }
    }
}

/// What the remote tier holds of a partition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TierView {
    /// Everything below is in a committed manifest. `None`: nothing is, or it is not known yet.
    pub uploaded_end: Option<Offset>,
}

/// The offsets that a log is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogView {
    pub log_start: Offset,
    pub high_watermark: Offset,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetentionReason {
    Time,
    Size,
    /// All of the segment is below the log start.
    LogStart,
}

/// What to do, in this order: roll, move the log start, drop the local segments below an offset.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RetentionPlan {
    /// The active segment is to go too, so a new one must be begun first.
    pub roll_active: bool,
    /// Where the log shall start. `None`: where it does, or where the tier says.
    pub log_start: Option<Offset>,
    /// Local segments that end at or below this are dropped.
    pub delete_below: Option<Offset>,
    /// Why, for each segment that goes.
    pub deleted: Vec<(Offset, RetentionReason)>,
}

impl RetentionPlan {
    pub fn is_empty(&self) -> bool {
        self.delete_below.is_none()
    }
}

/// Plans over `segments`, which are all of the log in order, the active one last.
pub fn plan(
    segments: &[SegmentMeta],
    log: LogView,
    config: &LogConfig,
    tier: &TierView,
    now_ms: TimestampMs,
) -> RetentionPlan {
    let tiered = config.remote_storage_enable;
    let (limit_ms, limit_bytes) = match (config.cleanup_policy.delete || tiered, tiered) {
        (false, _) => (-1, -1),
        (true, false) => (config.retention_ms, config.retention_bytes),
        (true, true) => (
            config.local_retention_ms_effective(),
            config.local_retention_bytes_effective(),
        ),
    };
    let local_bytes: u64 = segments.iter().map(|s| s.size_bytes).sum();
    let mut over_bytes = over_limit(local_bytes, limit_bytes);

    let mut plan = RetentionPlan::default();
    for (i, segment) in segments.iter().enumerate() {
        let active = i + 1 == segments.len();
        let below_start = segment.next_offset <= log.log_start && !active;
        // A sealed segment without records is what a cleaner has left: it goes like any other.
        let waits_for_records = active && segment.size_bytes == 0;
        let expired = limit_ms >= 0
            && !waits_for_records
            && now_ms.saturating_sub(segment.age_from_ms()) > limit_ms;
        let too_much = !waits_for_records && over_bytes > 0 && over_bytes >= segment.size_bytes;
        let reason = match (below_start, expired, too_much) {
            (true, _, _) => RetentionReason::LogStart,
            (_, true, _) => RetentionReason::Time,
            (_, _, true) => RetentionReason::Size,
            _ => break,
        };
        let allowed = below_start
            || if tiered {
                tier.uploaded_end
                    .is_some_and(|end| segment.next_offset <= end)
                    && !active
            } else {
                segment.next_offset <= log.high_watermark
            };
        if !allowed {
            break;
        }
        over_bytes = over_bytes.saturating_sub(segment.size_bytes);
        plan.roll_active |= active;
        plan.delete_below = Some(segment.next_offset);
        plan.deleted.push((segment.base_offset, reason));
    }
    if !tiered {
        plan.log_start = plan.delete_below.filter(|end| *end > log.log_start);
    }
    plan
}

/// When [`plan`] finds the first segment of a log that is not tiered expired. A tiered one's is the tier's to plan.
pub fn expires_at_ms(
    first: &SegmentMeta,
    is_active: bool,
    config: &LogConfig,
) -> Option<TimestampMs> {
    let expires = config.cleanup_policy.delete && !config.remote_storage_enable;
    let waits_for_records = is_active && first.size_bytes == 0;
    if !expires || waits_for_records || config.retention_ms < 0 {
        return None;
    }
    let expired_ms = first.age_from_ms().saturating_add(config.retention_ms);
    // Exactly as old as the limit is not too old.
    Some(expired_ms.saturating_add(1))
}

fn over_limit(bytes: u64, limit: i64) -> u64 {
    u64::try_from(limit).map_or(0, |limit| bytes.saturating_sub(limit))
}
