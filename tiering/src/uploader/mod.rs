//! From sealed local segments to objects that a manifest names.
//!
//! [`Schedule`] says whose turn it is, [`copy_plan`] what a partition uploads next, [`segment_upload`] makes one object,
//! `partition_task` is all that is done in one turn,
//! `retain` the part of it that gives things up, `away` what of it goes on without the store, [`sweep`] finds what crashes have left behind.

mod away;
pub mod copy_plan;
mod copy_quota;
mod partition_task;
mod retain;
mod schedule;
pub mod segment_upload;
pub mod sweep;

pub(crate) use partition_task::TaskError;

pub use copy_quota::{CopyQuota, Pace};
pub use schedule::{Next, Schedule, Stay, backoff_ms};
