//! Records on their way into the log, and what happens when they are committed or fail.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use kafka_protocol::ResponseError as KafkaError;

use super::event::GroupResponse;
use super::group::Group;
use super::member::{MemberProtocol, Waiter};
use super::offsets::OffsetChange;

/// Why a group's metadata record was written.
#[derive(Debug)]
pub enum GroupChange {
    /// The group began to exist. Failing, it is gone, and those who joined it are told.
    Created { group: Arc<str> },
    /// The last member left. Nobody waits; should the record be lost, the old generation's members will time out.
    Emptied { group: Arc<str> },
    /// The leader's assignment of a generation.
    Assigned {
        group: Arc<str>,
        generation: i32,
        assignments: BTreeMap<Arc<str>, Bytes>,
    },
    /// A static member came back under a new id, without a rebalance.
    Replaced(Box<Replacement>),
    /// The group was deleted. Failing, it is back.
    Deleted { group: Box<Group> },
}

/// How to finish, or to take back, the replacement of a static member.
#[derive(Debug)]
pub struct Replacement {
    pub group: Arc<str>,
    pub instance_id: Arc<str>,
    pub old_id: Arc<str>,
    pub new_id: Arc<str>,
    pub old_protocols: Vec<MemberProtocol>,
    pub old_rebalance_timeout_ms: i32,
    pub old_session_timeout_ms: i32,
    pub leader_before: Option<Arc<str>>,
    pub waiter: Waiter,
}

/// One append that is not yet known to be committed.
#[derive(Debug, Default)]
pub struct PendingAppend {
    pub offsets: Vec<OffsetChange>,
    pub groups: Vec<GroupChange>,
    /// Answers that wait for the commit.
    pub replies: Vec<(u64, GroupResponse)>,
}

/// The answer to a coordinator's client when its records could not be written, as Kafka maps it.
pub fn append_error(error: KafkaError) -> KafkaError {
    match error {
        KafkaError::UnknownTopicOrPartition
        | KafkaError::NotEnoughReplicas
        | KafkaError::NotEnoughReplicasAfterAppend
        | KafkaError::RequestTimedOut => KafkaError::CoordinatorNotAvailable,
        KafkaError::NotLeaderOrFollower | KafkaError::KafkaStorageError => {
            KafkaError::NotCoordinator
        }
        KafkaError::MessageTooLarge
        | KafkaError::RecordListTooLarge
        | KafkaError::InvalidFetchSize => KafkaError::UnknownServerError,
        other => other,
    }
}
