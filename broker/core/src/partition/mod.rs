//! Partition leadership, pure: replicas, the in-sync set, the high watermark.
//!
//! What always holds: the high watermark never goes down within a leader's term and is never beyond the log end of any
//! member of the maximal ISR; a replica in a proposed expansion counts before the proposal is committed, one in a
//! proposed shrink counts until it is.
//!
//! What it does not do: it reads no log, proposes nothing to the metadata quorum and waits for nobody. It returns plans.

mod isr;
mod leader;
mod replica;

pub use isr::{IsrChange, IsrState};
pub use leader::{AckState, FollowerFetch, FollowerUpdate, LeaderSetup, PartitionLeader};
pub use replica::ReplicaState;
