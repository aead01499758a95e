//! The remote tier: segment objects, the partition manifest, upload, the read-through cache and remote retention.
//!
//! [`Tier`](tier::Tier) is what a broker holds; it starts the work and hands out one
//! [`RemotePartition`](remote_partition::RemotePartition) per partition that the broker leads.

/// Whether a test has planted this bug here; never outside of tests.
macro_rules! is_planted {
    ($plant:ident) => {{
        #[cfg(test)]
        let planted = crate::simulation::is_planted(crate::simulation::Plant::$plant);
        #[cfg(not(test))]
        let planted = false;
        planted
    }};
}

mod blocking;
pub mod bucket_reader;
pub mod cache;
pub mod clock;
mod collector;
pub mod config;
mod core;
mod deletion_journal;
pub mod exposure;
pub mod fence;
pub mod format;
mod garbage;
pub mod health;
pub mod id_source;
pub mod inspect;
pub mod manifest;
pub mod metrics;
pub mod reader;
pub mod remote_partition;
pub mod repair;
pub mod restore_plan;
pub mod retention;
mod scrub;
#[cfg(test)]
mod simulation;
mod single_flight;
pub mod store;
mod supervise;
pub mod tails;
pub mod tier;
pub mod undelete;
pub mod uploader;

pub use bucket_reader::BucketReader;
pub use config::TierConfig;
pub use fence::Fence;
pub use id_source::IdSource;
pub use remote_partition::{
    LeaderPartition, RemotePartition, RemoteRead, RemoteReadError, SettleError, Settled,
};
pub use tier::{Tier, TierError};
