//! Requests that carry or locate records.

use kafka_protocol::messages::{
    delete_records_request, fetch_request, list_offsets_request, offset_for_leader_epoch_request,
    produce_request,
};

use crate::guard::schema::{
    ALL, Schema, between, int8, int16, int32, int32s, int64, records, since, string, structs,
    structure, uuid,
};

pub(crate) static PRODUCE: Schema = Schema {
    name: "ProduceRequest",
    flexible_since: 9,
    fields: &[
        string("TransactionalId", since(3)).nullable(since(3)),
        int16("Acks", ALL),
        int32("TimeoutMs", ALL),
        structs::<produce_request::TopicProduceData>(
            "TopicData",
            ALL,
            &[
                string("Name", between(0, 12)),
                uuid("TopicId", since(13)),
                structs::<produce_request::PartitionProduceData>(
                    "PartitionData",
                    ALL,
                    &[int32("Index", ALL), records("Records", ALL).nullable(ALL)],
                ),
            ],
        ),
    ],
};

pub(crate) static FETCH: Schema = Schema {
    name: "FetchRequest",
    flexible_since: 12,
    fields: &[
        string("ClusterId", since(12))
            .nullable(since(12))
            .tagged(0, since(12)),
        int32("ReplicaId", between(0, 14)),
        structure(
            "ReplicaState",
            since(15),
            &[
                int32("ReplicaId", since(15)),
                int64("ReplicaEpoch", since(15)),
            ],
        )
        .tagged(1, since(15)),
        int32("MaxWaitMs", ALL),
        int32("MinBytes", ALL),
        int32("MaxBytes", since(3)),
        int8("IsolationLevel", since(4)),
        int32("SessionId", since(7)),
        int32("SessionEpoch", since(7)),
        structs::<fetch_request::FetchTopic>(
            "Topics",
            ALL,
            &[
                string("Topic", between(0, 12)),
                uuid("TopicId", since(13)),
                structs::<fetch_request::FetchPartition>(
                    "Partitions",
                    ALL,
                    &[
                        int32("Partition", ALL),
                        int32("CurrentLeaderEpoch", since(9)),
                        int64("FetchOffset", ALL),
                        int32("LastFetchedEpoch", since(12)),
                        int64("LogStartOffset", since(5)),
                        int32("PartitionMaxBytes", ALL),
                        uuid("ReplicaDirectoryId", since(17)).tagged(0, since(17)),
                        int64("HighWatermark", since(18)).tagged(1, since(18)),
                    ],
                ),
            ],
        ),
        structs::<fetch_request::ForgottenTopic>(
            "ForgottenTopicsData",
            since(7),
            &[
                string("Topic", between(7, 12)),
                uuid("TopicId", since(13)),
                int32s("Partitions", since(7)),
            ],
        ),
        string("RackId", since(11)),
    ],
};

pub(crate) static LIST_OFFSETS: Schema = Schema {
    name: "ListOffsetsRequest",
    flexible_since: 6,
    fields: &[
        int32("ReplicaId", ALL),
        int8("IsolationLevel", since(2)),
        structs::<list_offsets_request::ListOffsetsTopic>(
            "Topics",
            ALL,
            &[
                string("Name", ALL),
                structs::<list_offsets_request::ListOffsetsPartition>(
                    "Partitions",
                    ALL,
                    &[
                        int32("PartitionIndex", ALL),
                        int32("CurrentLeaderEpoch", since(4)),
                        int64("Timestamp", ALL),
                    ],
                ),
            ],
        ),
        int32("TimeoutMs", since(10)),
    ],
};

pub(crate) static OFFSET_FOR_LEADER_EPOCH: Schema = Schema {
    name: "OffsetForLeaderEpochRequest",
    flexible_since: 4,
    fields: &[
        int32("ReplicaId", since(3)),
        structs::<offset_for_leader_epoch_request::OffsetForLeaderTopic>(
            "Topics",
            ALL,
            &[
                string("Topic", ALL),
                structs::<offset_for_leader_epoch_request::OffsetForLeaderPartition>(
                    "Partitions",
                    ALL,
                    &[
                        int32("Partition", ALL),
                        int32("CurrentLeaderEpoch", since(2)),
                        int32("LeaderEpoch", ALL),
                    ],
                ),
            ],
        ),
    ],
};

pub(crate) static DELETE_RECORDS: Schema = Schema {
    name: "DeleteRecordsRequest",
    flexible_since: 2,
    fields: &[
        structs::<delete_records_request::DeleteRecordsTopic>(
            "Topics",
            ALL,
            &[
                string("Name", ALL),
                structs::<delete_records_request::DeleteRecordsPartition>(
                    "Partitions",
                    ALL,
                    &[int32("PartitionIndex", ALL), int64("Offset", ALL)],
                ),
            ],
        ),
        int32("TimeoutMs", ALL),
    ],
};
