//! From sealed local segments to objects that a manifest names.

mod schedule;

pub use schedule::{Next, Schedule, Stay, backoff_ms};
