//! What the tier says about itself: per partition what blocks its upload and since when.
//!
//! The state of one partition is kept by its own task ([`UploadStatus`]) and copied out on demand; nothing here does IO.

use strandline_log::{Offset, TimestampMs, TopicPartition};

/// What a partition's upload is doing, or why it does nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum CopyState {
    /// Not looked at since this broker leads the partition.
    #[default]
    Pending,
    /// remote.storage.enable is off for the topic.
    Disabled,
    /// remote.log.copy.disable is on: what is in the store is read and expires, nothing is added.
    CopyDisabled,
    /// Everything that may be uploaded is in the store.
    CaughtUp,
    /// Sealed segments wait for their turn.
    Behind,
    /// The last try failed; it is tried again.
    Failing,
    /// A newer leader has claimed the manifest: this broker no longer uploads.
    Fenced,
    /// The manifest ends beyond the local log. Nothing is uploaded until the log has caught up.
    AheadOfLog,
    /// The local log starts beyond the manifest's end: offsets between them are in neither tier.
    GapBeforeLocal,
    /// The topic was deleted.
    Deleted,
}

impl CopyState {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Disabled => "disabled",
            Self::CopyDisabled => "copy_disabled",
            Self::CaughtUp => "caught_up",
            Self::Behind => "behind",
            Self::Failing => "failing",
            Self::Fenced => "fenced",
            Self::AheadOfLog => "ahead_of_log",
            Self::GapBeforeLocal => "gap_before_local",
            Self::Deleted => "deleted",
        }
    }

    /// Whether an operator should know.
    pub fn is_trouble(self) -> bool {
        matches!(
            self,
            Self::Failing | Self::Fenced | Self::AheadOfLog | Self::GapBeforeLocal
        )
    }
}

/// One partition's upload, as its task last saw it.
#[derive(Clone, Debug, Default)]
pub struct UploadStatus {
    pub state: CopyState,
    pub lag_bytes: u64,
    pub lag_segments: u64,
    /// When the oldest sealed segment that is not uploaded was written last.
    pub lag_since_ms: Option<TimestampMs>,
    /// What the manifest names.
    pub remote_bytes: u64,
    /// Objects that are missing or damaged in the store, without a copy here.
    pub damaged_objects: u64,
    /// Failures in a row.
    pub failures: u32,
    pub last_error: Option<String>,
    /// When the first of the failures in a row happened, or the trouble was first seen.
    pub trouble_since_ms: Option<TimestampMs>,
    /// When what failed is tried again.
    pub next_try_ms: Option<TimestampMs>,
    /// When everything that could be uploaded last was.
    pub caught_up_at_ms: Option<TimestampMs>,
}

impl UploadStatus {
    pub fn failed(&mut self, error: String, now_ms: TimestampMs) {
        self.state = CopyState::Failing;
        self.failures = self.failures.saturating_add(1);
        self.last_error = Some(error);
        self.trouble_since_ms.get_or_insert(now_ms);
    }

    /// How long the oldest sealed segment has waited for its upload.
    pub fn lag_ms(&self, now_ms: TimestampMs) -> i64 {
        self.lag_since_ms
            .map_or(0, |since| now_ms.saturating_sub(since).max(0))
    }

    /// Whether an operator should know: trouble, or an upload that does not come.
    pub fn is_overdue(&self, now_ms: TimestampMs, overdue_ms: i64) -> bool {
        self.state.is_trouble() || self.lag_ms(now_ms) > overdue_ms
    }

    /// A task came to its end. Trouble that persists keeps its beginning.
    pub fn settled(&mut self, state: CopyState, now_ms: TimestampMs) {
        self.failures = 0;
        self.next_try_ms = None;
        if state.is_trouble() {
            self.trouble_since_ms.get_or_insert(now_ms);
        } else {
            self.trouble_since_ms = None;
            self.last_error = None;
        }
        if state == CopyState::CaughtUp {
            self.caught_up_at_ms = Some(now_ms);
        }
        self.state = state;
    }
}

/// One line of a health report.
#[derive(Clone, Debug)]
pub struct PartitionHealth {
    pub tp: TopicPartition,
    pub status: UploadStatus,
    /// The manifest's end, where it is known.
    pub uploaded_end: Option<Offset>,
}

/// What one log folder's disk keeps only because it is not in the object store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiskPressure {
    /// Partitions whose upload is in trouble or overdue.
    pub overdue: usize,
    /// Committed, and not in the object store.
    pub waiting_bytes: u64,
}

/// The tier as /healthz shows it.
#[derive(Clone, Debug, Default)]
pub struct TierHealth {
    pub enabled: bool,
    /// Partitions whose upload is in trouble or overdue.
    pub troubled: Vec<PartitionHealth>,
    pub partitions: usize,
    pub lag_bytes: u64,
    pub lag_segments: u64,
    /// Of the oldest sealed segment that waits.
    pub lag_ms_max: i64,
    /// Why the store cannot be used for tiering, if the probe found a reason.
    pub store_error: Option<String>,
    pub workers_restarted: u64,
    /// Objects and deleted topics that are still to be removed from the store.
    pub removals_waiting: usize,
}

impl TierHealth {
    pub fn is_healthy(&self) -> bool {
        self.troubled.is_empty() && self.store_error.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trouble_is_dated_from_its_first_sight_and_forgotten_when_over() {
        let mut status = UploadStatus::default();
        status.failed("refused".to_owned(), 10);
        status.failed("refused again".to_owned(), 20);
        assert_eq!(
            (status.failures, status.trouble_since_ms),
            (2, Some(10)),
            "{status:?}"
        );
        status.settled(CopyState::AheadOfLog, 30);
        assert_eq!(status.trouble_since_ms, Some(10));
        status.settled(CopyState::CaughtUp, 40);
        assert_eq!(status.trouble_since_ms, None);
        assert_eq!(status.caught_up_at_ms, Some(40));
        assert!(status.last_error.is_none());
    }
}
