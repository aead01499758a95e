//! The metadata quorum: the Raft log whose commands make the metadata image, replicated, durable and bounded.
//!
//! Start here: [`MetadataQuorum`]. Callers propose commands, read the image, and subscribe to what changes. Raft itself
//! is openraft's, and this package is the only one that knows it; what the commands mean is `strandline_core::metadata`.
//!
//! What always holds:
//! - A proposal is answered after its entry is committed, on disk and applied: [`MetadataQuorum::image`] shows it then.
//! - Every subscriber sees every command's delta, in the order of the log, beginning at the image it was given.
//! - Files: `raft_log` (entries, votes), `snapshot` (images). Both are checksummed. What a crash can tear is cut off;
//!   any other damage is an error that names file and position, never a shorter history.
//! - Disk writes happen on a thread of their own.
//!
//! Today the quorum has one voter. Other nodes are `Unreachable` to it (`network`): nothing else here assumes it, except
//! that a lone voter's own votes and blank entries wait for the next fsync (`raft_log`).

mod entry_format;
mod network;
mod quorum;
mod raft_log;
mod snapshot;
mod state_machine;
mod storage_error;
mod type_config;
mod updates;

pub use quorum::{METADATA_FOLDER, MetadataQuorum, ProposeError, QuorumConfig, StartError};
pub use storage_error::MetadataStorageError;
pub use updates::{MetadataUpdate, MetadataUpdates};

#[cfg(test)]
mod tests;
