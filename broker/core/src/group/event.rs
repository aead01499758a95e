//! What goes into a [`GroupShard`](super::GroupShard) and what comes out.

use bytes::Bytes;
use kafka_protocol::ResponseError as KafkaError;
use kafka_protocol::messages::offset_fetch_request::OffsetFetchRequestGroup;
use kafka_protocol::messages::offset_fetch_response::OffsetFetchResponseGroup;
use kafka_protocol::messages::{
    DeleteGroupsRequest, DeleteGroupsResponse, DescribeGroupsRequest, DescribeGroupsResponse,
    HeartbeatRequest, HeartbeatResponse, JoinGroupRequest, JoinGroupResponse, LeaveGroupRequest,
    LeaveGroupResponse, ListGroupsRequest, ListGroupsResponse, OffsetCommitRequest,
    OffsetCommitResponse, OffsetDeleteRequest, OffsetDeleteResponse, SyncGroupRequest,
    SyncGroupResponse,
};

/// Who sent a request, as DescribeGroups shows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientIdentity {
    /// The request header's client id; empty when it had none.
    pub client_id: String,
    /// The peer's address with Kafka's leading slash: `/127.0.0.1`.
    pub client_host: String,
}

/// One thing that happens to a shard.
#[expect(
    clippy::large_enum_variant,
    reason = "made once, handed over once, never kept"
)]
#[derive(Clone, Debug)]
pub enum GroupEvent {
    /// A client asks. Exactly one [`GroupEffect::Reply`] with this token follows, now or later.
    Request {
        token: u64,
        client: ClientIdentity,
        version: i16,
        request: GroupRequest,
    },
    /// The records of this append are below the high watermark.
    Committed { append_id: u64 },
    /// The records of this append are not in the log and will not be.
    AppendFailed { append_id: u64, error: KafkaError },
    /// These topics are gone: their committed offsets get tombstones.
    TopicsDeleted { topics: Vec<String> },
    /// Time has passed; send one at [`next_deadline`](super::GroupShard::next_deadline).
    Tick,
    /// The partition's leadership moved away: everyone who waits is told NOT_COORDINATOR and the state is dropped.
    Unload,
}

/// A request to the coordinator, for groups of this shard only: the server splits what spans several.
#[derive(Clone, Debug)]
pub enum GroupRequest {
    Join(JoinGroupRequest),
    Sync(SyncGroupRequest),
    Heartbeat(HeartbeatRequest),
    Leave(LeaveGroupRequest),
    /// Topics that do not exist were taken out before (their answer is UNKNOWN_TOPIC_OR_PARTITION).
    OffsetCommit(OffsetCommitRequest),
    /// One group in the shape of version 8+; the server converts older versions to it and back.
    OffsetFetch {
        group: OffsetFetchRequestGroup,
        require_stable: bool,
    },
    OffsetDelete(OffsetDeleteRequest),
    List(ListGroupsRequest),
    Describe(DescribeGroupsRequest),
    Delete(DeleteGroupsRequest),
}

/// The answer to the [`GroupRequest`] of the same name.
#[derive(Clone, Debug, PartialEq)]
pub enum GroupResponse {
    Join(JoinGroupResponse),
    Sync(SyncGroupResponse),
    Heartbeat(HeartbeatResponse),
    Leave(LeaveGroupResponse),
    OffsetCommit(OffsetCommitResponse),
    OffsetFetch(OffsetFetchResponseGroup),
    OffsetDelete(OffsetDeleteResponse),
    List(ListGroupsResponse),
    Describe(DescribeGroupsResponse),
    Delete(DeleteGroupsResponse),
}

/// One record for `__consumer_offsets`, in Kafka's formats. No value: a tombstone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CoordinatorRecord {
    pub key: Bytes,
    pub value: Option<Bytes>,
}

/// What the driver must do.
#[derive(Clone, Debug, PartialEq)]
pub enum GroupEffect {
    /// Send this answer.
    Reply { token: u64, response: GroupResponse },
    /// Append these records to the shard's partition as one batch and report with `append_id`: Committed once they are
    /// below the high watermark, or AppendFailed. Appends reach the log in the order of their effects.
    Append {
        append_id: u64,
        records: Vec<CoordinatorRecord>,
    },
}
