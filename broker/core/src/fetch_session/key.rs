//! How a session names partitions and what a client asked of each.

use std::sync::Arc;

use uuid::Uuid;

/// A topic as the request's version names it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SessionTopic {
    /// Versions up to 12.
    Name(Arc<str>),
    /// Version 13 and later.
    Id(Uuid),
}

/// Where and how much to read of one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FetchPosition {
    pub fetch_offset: i64,
    pub current_leader_epoch: i32,
    pub last_fetched_epoch: i32,
    /// A follower's log start; -1 from consumers.
    pub log_start_offset: i64,
    pub max_bytes: i32,
}

/// One partition of a fetch request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WantedPartition {
    pub topic: SessionTopic,
    pub partition: i32,
    pub position: FetchPosition,
}
