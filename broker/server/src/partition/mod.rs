//! One replica on this broker: its log, its leadership, and those who wait for either.
//!
//! An append travels: `Partition::append` -> queue -> an append thread of the log's folder drains the queue into one
//! `append_deferred` -> (a sync, where the topic asks for it, on a commit thread) -> the leader's high watermark ->
//! waiting fetches and producers.
//!
//! What always holds: one log has one appender at a time; the answers of one partition's appends come in their order;
//! nobody is told of a record before the high watermark covers it (acks=1 asks for no more than the local log).
//! What is not here: the decisions (they are `strandline_core::partition`'s) and everything about requests.

mod append_queue;
mod append_replies;
mod append_threads;
mod commit_queue;
mod commit_waiters;
mod fetch_waiters;
mod metrics;
#[allow(clippy::module_inception)]
mod partition;
mod schedule;
mod topic_labels;
mod write_pace;

pub use append_queue::PendingAppend;
pub use append_replies::{AppendReplies, AppendReply};
pub use append_threads::AppendThreads;
pub use fetch_waiters::{FetchWaiter, FetchWaiters};
pub use metrics::{PartitionMetrics, TopicMetrics};
pub use partition::{Leadership, Partition, PartitionParts, Stalled};
pub use schedule::Schedule;
pub use topic_labels::TopicLabels;
use write_pace::WritePace;

use std::time::Instant;

use strandline_log::{AppendError, Offset, TimestampMs};
use strandline_wire::KafkaError;

use crate::errors;

/// What must hold before an append is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequiredAcks {
    /// The leader's log holds it.
    Leader,
    /// The high watermark covers it.
    All,
}

impl RequiredAcks {
    /// As on the wire.
    pub fn code(self) -> i16 {
        match self {
            Self::Leader => 1,
            Self::All => -1,
        }
    }
}

/// Where a batch ended up. Of a duplicate, where its original did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    pub base_offset: Offset,
    pub last_offset: Offset,
    /// -1 unless the topic uses LogAppendTime.
    pub log_append_time_ms: TimestampMs,
    pub log_start_offset: Offset,
    /// When the log had it: what comes after is waiting for replicas.
    pub appended_at: Instant,
}

/// Why a batch was not appended, or not as safely as was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppendFailure {
    pub error: KafkaError,
    pub message: Option<String>,
}

impl AppendFailure {
    pub fn of(error: KafkaError) -> Self {
        Self {
            error,
            message: None,
        }
    }
}

impl From<&AppendError> for AppendFailure {
    fn from(error: &AppendError) -> Self {
        Self {
            error: errors::append_error(error),
            message: Some(error.to_string()),
        }
    }
}

pub type AppendOutcome = Result<Appended, AppendFailure>;
