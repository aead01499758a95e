//! The remote tier: segment objects, the partition manifest, upload, the read-through cache and remote retention.
//!
//! [`Tier`](tier::Tier) is what a broker holds; it starts the work and hands out one
//! [`RemotePartition`](remote_partition::RemotePartition) per partition that the broker leads.

pub mod cache;
pub mod config;
pub mod health;
pub mod metrics;
mod single_flight;
pub mod uploader;
