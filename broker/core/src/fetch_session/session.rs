//! One client's session.

use super::key::{FetchPosition, SessionTopic};

/// A partition's place within its session. Stable until the client forgets the partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Slot(pub u32);

/// A partition to look at for the next answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    pub slot: Slot,
    pub topic: SessionTopic,
    pub partition: i32,
    pub position: FetchPosition,
}

/// What a look at a partition found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PartitionResult {
    pub error_code: i16,
    pub high_watermark: i64,
    pub log_start_offset: i64,
    pub records_len: usize,
    /// The answer carries a diverging epoch or a preferred replica.
    pub directive: bool,
}
