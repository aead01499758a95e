//! The broker's server: listeners, the Kafka APIs, and the drivers that perform what the state machines decide.
//!
//! Start at [`Broker`]: it puts everything together. A request goes `net` -> `api` -> `partition`, `group_driver` or
//! `metadata_driver`, and back. Decisions are in `strandline-core`; files in `strandline-log`; the object store in
//! `strandline-tiering`. What is here holds sockets, threads, clocks and random sources, and joins the rest.
//!
//! What always holds: no thread that serves clients waits for an object store or reads from a disk, and a disk that takes
//! writes slowly is left to the append threads; every queue, buffer and retry has a limit.

pub mod api;
pub mod background;
mod broker;
pub mod cleaner_driver;
pub mod clock;
mod cluster_state;
pub mod cold_reads;
pub mod config;
pub mod errors;
pub mod flusher;
pub mod group_driver;
pub mod http;
pub mod ids;
mod log_metrics;
pub mod metadata_driver;
pub mod net;
mod outage_guard;
pub mod partition;
pub mod producer_ids;
pub mod replica_manager;
pub mod restore;
pub mod scrubber;
pub mod supervisor;
pub mod threads;
pub mod tier_driver;
pub mod time_histogram;
pub mod topic_config;

pub use broker::{Broker, hostname, runtime};
