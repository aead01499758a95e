//! Requests that create, grow and delete topics.

use kafka_protocol::messages::{
    create_partitions_request, create_topics_request, delete_topics_request,
};

use crate::guard::schema::{
    ALL, Schema, between, boolean, int16, int32, int32s, since, string, strings, structs, uuid,
};

pub(crate) static CREATE_TOPICS: Schema = Schema {
    name: "CreateTopicsRequest",
    flexible_since: 5,
    fields: &[
        structs::<create_topics_request::CreatableTopic>(
            "Topics",
            ALL,
            &[
                string("Name", ALL),
                int32("NumPartitions", ALL),
                int16("ReplicationFactor", ALL),
                structs::<create_topics_request::CreatableReplicaAssignment>(
                    "Assignments",
                    ALL,
                    &[int32("PartitionIndex", ALL), int32s("BrokerIds", ALL)],
                ),
                structs::<create_topics_request::CreatableTopicConfig>(
                    "Configs",
                    ALL,
                    &[string("Name", ALL), string("Value", ALL).nullable(ALL)],
                ),
            ],
        ),
        int32("timeoutMs", ALL),
        boolean("validateOnly", since(1)),
    ],
};

pub(crate) static DELETE_TOPICS: Schema = Schema {
    name: "DeleteTopicsRequest",
    flexible_since: 4,
    fields: &[
        structs::<delete_topics_request::DeleteTopicState>(
            "Topics",
            since(6),
            &[
                string("Name", since(6)).nullable(since(6)),
                uuid("TopicId", since(6)),
            ],
        ),
        strings("TopicNames", between(0, 5)),
        int32("TimeoutMs", ALL),
    ],
};

pub(crate) static CREATE_PARTITIONS: Schema = Schema {
    name: "CreatePartitionsRequest",
    flexible_since: 2,
    fields: &[
        structs::<create_partitions_request::CreatePartitionsTopic>(
            "Topics",
            ALL,
            &[
                string("Name", ALL),
                int32("Count", ALL),
                structs::<create_partitions_request::CreatePartitionsAssignment>(
                    "Assignments",
                    ALL,
                    &[int32s("BrokerIds", ALL)],
                )
                .nullable(ALL),
            ],
        ),
        int32("TimeoutMs", ALL),
        boolean("ValidateOnly", ALL),
    ],
};
