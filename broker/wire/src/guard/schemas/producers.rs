//! Requests about producers.

use kafka_protocol::messages::describe_producers_request;

use crate::guard::schema::{
    ALL, Schema, boolean, int16, int32, int32s, int64, since, string, structs,
};

pub(crate) static INIT_PRODUCER_ID: Schema = Schema {
    name: "InitProducerIdRequest",
    flexible_since: 2,
    fields: &[
        string("TransactionalId", ALL).nullable(ALL),
        int32("TransactionTimeoutMs", ALL),
        int64("ProducerId", since(3)),
        int16("ProducerEpoch", since(3)),
        boolean("Enable2Pc", since(6)),
        boolean("KeepPreparedTxn", since(6)),
    ],
};

pub(crate) static DESCRIBE_PRODUCERS: Schema = Schema {
    name: "DescribeProducersRequest",
    flexible_since: 0,
    fields: &[structs::<describe_producers_request::TopicRequest>(
        "Topics",
        ALL,
        &[string("Name", ALL), int32s("PartitionIndexes", ALL)],
    )],
};
