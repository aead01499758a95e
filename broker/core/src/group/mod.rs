//! The group coordinator: consumer groups by the classic protocol, and their committed offsets.
//!
//! One [`GroupShard`] is the coordinator for all groups of one partition of `__consumer_offsets`. It is a pure state
//! machine: [`GroupShard::handle`] takes the time and an event and returns effects, the driver performs them.
//!
//! What always holds:
//! - Every request is answered exactly once.
//! - An answer that tells of a durable change is given only after the records of that change are committed.
//! - Replaying the partition's records into a fresh shard gives the committed state.
//!
//! What it does not do: it reads no clock, draws no ids (both are arguments), knows no topics beyond their names, and
//! splits no request over shards. Only the classic protocol is here, not KIP-848's.

mod admin;
mod append;
mod config;
mod context;
mod event;
mod expiration;
#[allow(clippy::module_inception)]
mod group;
mod heartbeat;
mod join;
mod leave;
mod limits;
mod member;
mod offset_commit;
mod offset_delete;
mod offset_fetch;
mod offsets;
mod rebalance;
pub mod record;
mod reply;
mod shard;
mod state;
mod static_member;
mod subscription;
mod sync;
mod timers;

pub use config::{GroupConfig, config_defs};
pub use event::{
    ClientIdentity, CoordinatorRecord, GroupEffect, GroupEvent, GroupRequest, GroupResponse,
};
pub use record::RecordError as ReplayError;
pub use shard::{GroupShard, MemberIdSource, partition_for_group};

#[cfg(test)]
mod tests;
