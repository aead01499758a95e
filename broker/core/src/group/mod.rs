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

mod config;
mod event;
mod shard;

pub use config::{GroupConfig, config_defs};
pub use event::{
    ClientIdentity, CoordinatorRecord, GroupEffect, GroupEvent, GroupRequest, GroupResponse,
};
pub use shard::{GroupShard, MemberIdSource, ReplayError, partition_for_group};
