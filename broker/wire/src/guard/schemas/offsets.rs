//! Requests about committed offsets.

use kafka_protocol::messages::{
    offset_commit_request, offset_delete_request, offset_fetch_request,
};

use crate::guard::schema::{
    ALL, NEVER, Schema, between, boolean, int32, int32s, int64, since, string, structs, uuid,
};

pub(crate) static OFFSET_COMMIT: Schema = Schema {
    name: "OffsetCommitRequest",
    flexible_since: 8,
    fields: &[
        string("GroupId", ALL),
        int32("GenerationIdOrMemberEpoch", since(1)),
        string("MemberId", since(1)),
        string("GroupInstanceId", since(7)).nullable(since(7)),
        int64("RetentionTimeMs", between(2, 4)),
        structs::<offset_commit_request::OffsetCommitRequestTopic>(
            "Topics",
            ALL,
            &[
                string("Name", between(0, 9)),
                uuid("TopicId", since(10)),
                structs::<offset_commit_request::OffsetCommitRequestPartition>(
                    "Partitions",
                    ALL,
                    &[
                        int32("PartitionIndex", ALL),
                        int64("CommittedOffset", ALL),
                        int32("CommittedLeaderEpoch", since(6)),
                        string("CommittedMetadata", ALL).nullable(ALL),
                    ],
                ),
            ],
        ),
    ],
};

pub(crate) static OFFSET_FETCH: Schema = Schema {
    name: "OffsetFetchRequest",
    flexible_since: 6,
    fields: &[
        string("GroupId", between(0, 7)),
        structs::<offset_fetch_request::OffsetFetchRequestTopic>(
            "Topics",
            between(0, 7),
            &[
                string("Name", between(0, 7)),
                int32s("PartitionIndexes", between(0, 7)),
            ],
        )
        .nullable(between(2, 7)),
        structs::<offset_fetch_request::OffsetFetchRequestGroup>(
            "Groups",
            since(8),
            &[
                string("GroupId", since(8)),
                string("MemberId", since(9)).nullable(since(9)),
                int32("MemberEpoch", since(9)),
                structs::<offset_fetch_request::OffsetFetchRequestTopics>(
                    "Topics",
                    since(8),
                    &[
                        string("Name", between(8, 9)),
                        uuid("TopicId", since(10)),
                        int32s("PartitionIndexes", since(8)),
                    ],
                )
                .nullable(since(8)),
            ],
        ),
        boolean("RequireStable", since(7)),
    ],
};

pub(crate) static OFFSET_DELETE: Schema = Schema {
    name: "OffsetDeleteRequest",
    flexible_since: NEVER,
    fields: &[
        string("GroupId", ALL),
        structs::<offset_delete_request::OffsetDeleteRequestTopic>(
            "Topics",
            ALL,
            &[
                string("Name", ALL),
                structs::<offset_delete_request::OffsetDeleteRequestPartition>(
                    "Partitions",
                    ALL,
                    &[int32("PartitionIndex", ALL)],
                ),
            ],
        ),
    ],
};
