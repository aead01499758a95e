//! Requests about the cluster and its metadata.

use kafka_protocol::messages::{
    describe_log_dirs_request, describe_topic_partitions_request, metadata_request,
};

use crate::guard::schema::{
    ALL, Schema, between, boolean, int8, int32, int32s, since, string, structs, structure, uuid,
};

pub(crate) static API_VERSIONS: Schema = Schema {
    name: "ApiVersionsRequest",
    flexible_since: 3,
    fields: &[
        string("ClientSoftwareName", since(3)),
        string("ClientSoftwareVersion", since(3)),
    ],
};

pub(crate) static METADATA: Schema = Schema {
    name: "MetadataRequest",
    flexible_since: 9,
    fields: &[
        structs::<metadata_request::MetadataRequestTopic>(
            "Topics",
            ALL,
            &[
                uuid("TopicId", since(10)),
                string("Name", ALL).nullable(since(10)),
            ],
        )
        .nullable(since(1)),
        boolean("AllowAutoTopicCreation", since(4)),
        boolean("IncludeClusterAuthorizedOperations", between(8, 10)),
        boolean("IncludeTopicAuthorizedOperations", since(8)),
    ],
};

pub(crate) static DESCRIBE_CLUSTER: Schema = Schema {
    name: "DescribeClusterRequest",
    flexible_since: 0,
    fields: &[
        boolean("IncludeClusterAuthorizedOperations", ALL),
        int8("EndpointType", since(1)),
        boolean("IncludeFencedBrokers", since(2)),
    ],
};

pub(crate) static DESCRIBE_TOPIC_PARTITIONS: Schema = Schema {
    name: "DescribeTopicPartitionsRequest",
    flexible_since: 0,
    fields: &[
        structs::<describe_topic_partitions_request::TopicRequest>(
            "Topics",
            ALL,
            &[string("Name", ALL)],
        ),
        int32("ResponsePartitionLimit", ALL),
        structure(
            "Cursor",
            ALL,
            &[string("TopicName", ALL), int32("PartitionIndex", ALL)],
        )
        .nullable(ALL),
    ],
};

pub(crate) static DESCRIBE_LOG_DIRS: Schema = Schema {
    name: "DescribeLogDirsRequest",
    flexible_since: 2,
    fields: &[
        structs::<describe_log_dirs_request::DescribableLogDirTopic>(
            "Topics",
            ALL,
            &[string("Topic", ALL), int32s("Partitions", ALL)],
        )
        .nullable(ALL),
    ],
};
