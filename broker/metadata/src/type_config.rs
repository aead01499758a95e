//! openraft's types, chosen for us.

use std::fmt;
use std::io::Cursor;

use bytes::Bytes;
use openraft::BasicNode;
use strandline_core::metadata::CommandOutcome;

openraft::declare_raft_types!(
    pub TypeConfig:
        D = Proposal,
        R = Outcomes,
        NodeId = u64,
        Node = BasicNode,
        Entry = openraft::Entry<TypeConfig>,
        SnapshotData = Cursor<Vec<u8>>,
        AsyncRuntime = openraft::TokioRuntime,
);

pub type Entry = openraft::Entry<TypeConfig>;
pub type LogId = openraft::LogId<u64>;
pub type Vote = openraft::Vote<u64>;
pub type Membership = openraft::Membership<u64, BasicNode>;
pub type StoredMembership = openraft::StoredMembership<u64, BasicNode>;
pub type SnapshotMeta = openraft::SnapshotMeta<u64, BasicNode>;
pub type Snapshot = openraft::Snapshot<TypeConfig>;
pub type RaftStorageError = openraft::StorageError<u64>;
pub type Raft = openraft::Raft<TypeConfig>;

/// The commands of one entry, as they lie in the log (`entry_format`): what is applied is what was written.
#[derive(Clone, PartialEq, Eq)]
pub struct Proposal(pub Bytes);

impl fmt::Debug for Proposal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Proposal({} bytes)", self.0.len())
    }
}

/// One outcome for each command of the entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcomes(pub Vec<CommandOutcome>);
