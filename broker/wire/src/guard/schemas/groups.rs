//! Requests of the classic group protocol.

use kafka_protocol::messages::{join_group_request, leave_group_request, sync_group_request};

use crate::guard::schema::{
    ALL, Schema, between, boolean, bytes, int8, int32, since, string, strings, structs,
};

pub(crate) static FIND_COORDINATOR: Schema = Schema {
    name: "FindCoordinatorRequest",
    flexible_since: 3,
    fields: &[
        string("Key", between(0, 3)),
        int8("KeyType", since(1)),
        strings("CoordinatorKeys", since(4)),
    ],
};

pub(crate) static JOIN_GROUP: Schema = Schema {
    name: "JoinGroupRequest",
    flexible_since: 6,
    fields: &[
        string("GroupId", ALL),
        int32("SessionTimeoutMs", ALL),
        int32("RebalanceTimeoutMs", since(1)),
        string("MemberId", ALL),
        string("GroupInstanceId", since(5)).nullable(since(5)),
        string("ProtocolType", ALL),
        structs::<join_group_request::JoinGroupRequestProtocol>(
            "Protocols",
            ALL,
            &[string("Name", ALL), bytes("Metadata", ALL)],
        ),
        string("Reason", since(8)).nullable(since(8)),
    ],
};

pub(crate) static SYNC_GROUP: Schema = Schema {
    name: "SyncGroupRequest",
    flexible_since: 4,
    fields: &[
        string("GroupId", ALL),
        int32("GenerationId", ALL),
        string("MemberId", ALL),
        string("GroupInstanceId", since(3)).nullable(since(3)),
        string("ProtocolType", since(5)).nullable(since(5)),
        string("ProtocolName", since(5)).nullable(since(5)),
        structs::<sync_group_request::SyncGroupRequestAssignment>(
            "Assignments",
            ALL,
            &[string("MemberId", ALL), bytes("Assignment", ALL)],
        ),
    ],
};

pub(crate) static HEARTBEAT: Schema = Schema {
    name: "HeartbeatRequest",
    flexible_since: 4,
    fields: &[
        string("GroupId", ALL),
        int32("GenerationId", ALL),
        string("MemberId", ALL),
        string("GroupInstanceId", since(3)).nullable(since(3)),
    ],
};

pub(crate) static LEAVE_GROUP: Schema = Schema {
    name: "LeaveGroupRequest",
    flexible_since: 4,
    fields: &[
        string("GroupId", ALL),
        string("MemberId", between(0, 2)),
        structs::<leave_group_request::MemberIdentity>(
            "Members",
            since(3),
            &[
                string("MemberId", since(3)),
                string("GroupInstanceId", since(3)).nullable(since(3)),
                string("Reason", since(5)).nullable(since(5)),
            ],
        ),
    ],
};

pub(crate) static LIST_GROUPS: Schema = Schema {
    name: "ListGroupsRequest",
    flexible_since: 3,
    fields: &[
        strings("StatesFilter", since(4)),
        strings("TypesFilter", since(5)),
    ],
};

pub(crate) static DESCRIBE_GROUPS: Schema = Schema {
    name: "DescribeGroupsRequest",
    flexible_since: 5,
    fields: &[
        strings("Groups", ALL),
        boolean("IncludeAuthorizedOperations", since(3)),
    ],
};

pub(crate) static DELETE_GROUPS: Schema = Schema {
    name: "DeleteGroupsRequest",
    flexible_since: 2,
    fields: &[strings("GroupsNames", ALL)],
};
