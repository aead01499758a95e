//! One member of a classic group.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;

use super::record::MemberMetadata;

/// A request that waits for its answer, and the version that the answer must fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waiter {
    pub token: u64,
    pub version: i16,
}

/// A protocol that a member can speak, with what it says in it (its subscription).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberProtocol {
    pub name: Arc<str>,
    pub metadata: Bytes,
}

/// Copies what the member sent: a slice would hold the whole request frame for as long as the member lives.
pub fn member_protocols(protocols: &[JoinGroupRequestProtocol]) -> Vec<MemberProtocol> {
    protocols
        .iter()
        .map(|protocol| MemberProtocol {
            name: Arc::from(protocol.name.as_str()),
            metadata: Bytes::copy_from_slice(&protocol.metadata),
        })
        .collect()
}

#[derive(Clone, Debug)]
pub struct Member {
    pub id: Arc<str>,
    pub instance_id: Option<Arc<str>>,
    pub client_id: Arc<str>,
    pub client_host: Arc<str>,
    pub rebalance_timeout_ms: i32,
    pub session_timeout_ms: i32,
    /// In the member's order of preference.
    pub protocols: Vec<MemberProtocol>,
    pub assignment: Bytes,
    /// Its JoinGroup waits for the rebalance.
    pub awaiting_join: Option<Waiter>,
    /// Its SyncGroup waits for the assignment.
    pub awaiting_sync: Option<Waiter>,
    /// It has joined but was never told its id.
    pub is_new: bool,
}

impl Member {
    pub fn metadata(&self, protocol: &str) -> Bytes {
        self.protocols
            .iter()
            .find(|p| &*p.name == protocol)
            .map(|p| p.metadata.clone())
            .unwrap_or_default()
    }

    /// The member's first choice among `candidates`.
    pub fn vote(&self, candidates: &BTreeSet<Arc<str>>) -> Option<Arc<str>> {
        self.protocols
            .iter()
            .map(|p| &p.name)
            .find(|name| candidates.contains(*name))
            .cloned()
    }

    pub fn matches(&self, protocols: &[MemberProtocol]) -> bool {
        self.protocols == protocols
    }

    pub fn is_static(&self) -> bool {
        self.instance_id.is_some()
    }

    /// Whether a session that ran out is no fault: a member that waits for us cannot send heartbeats. A new one is
    /// expired even so, since its client may be gone.
    pub fn has_satisfied_heartbeat(&self) -> bool {
        !self.is_new && (self.awaiting_join.is_some() || self.awaiting_sync.is_some())
    }

    pub fn from_record(record: MemberMetadata, protocol: &str) -> Self {
        Self {
            id: record.member_id.into(),
            instance_id: record.group_instance_id.map(Arc::from),
            client_id: record.client_id.into(),
            client_host: record.client_host.into(),
            rebalance_timeout_ms: match record.rebalance_timeout_ms {
                -1 => record.session_timeout_ms,
                timeout => timeout,
            },
            session_timeout_ms: record.session_timeout_ms,
            protocols: vec![MemberProtocol {
                name: protocol.into(),
                metadata: record.subscription,
            }],
            assignment: record.assignment,
            awaiting_join: None,
            awaiting_sync: None,
            is_new: false,
        }
    }

    pub fn to_record(&self, protocol: &str, assignment: Bytes) -> MemberMetadata {
        MemberMetadata {
            member_id: self.id.to_string(),
            group_instance_id: self.instance_id.as_deref().map(str::to_owned),
            client_id: self.client_id.to_string(),
            client_host: self.client_host.to_string(),
            rebalance_timeout_ms: self.rebalance_timeout_ms,
            session_timeout_ms: self.session_timeout_ms,
            subscription: self.metadata(protocol),
            assignment,
        }
    }
}
