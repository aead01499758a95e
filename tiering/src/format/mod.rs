//! What lies in the bucket, byte by byte. The tables for other programs are in docs/remote-format.md.
//!
//! Always holds: every format carries a version and checksums; decoding believes no length or count; an unknown
//! newer version is refused by name, never guessed. Nothing here does IO, except that a plan reads local log files.

mod bytes_io;
pub mod cluster_state;
pub mod manifest_page;
pub mod manifest_root;
pub mod object_key;
pub mod segment_index;
pub mod segment_object;
pub mod segment_plan;
pub mod tail_object;
pub mod topic_marker;

pub use bytes_io::FormatError;
pub use cluster_state::{ClusterState, GroupOffset, GroupState, GroupsState, TopicState};
pub use object_key::{PartitionKey, SegmentName};
pub use segment_index::{AbortedTxn, EpochEntry, OffsetPosition, SegmentIndexes};
pub use segment_object::{SegmentFooter, SegmentTail};
pub use segment_plan::{PlanError, SegmentMeta, SegmentObjectPlan};
pub use topic_marker::TopicMarker;
