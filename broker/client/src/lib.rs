//! Our own client of the Kafka protocol: followers, the CLI, the demo, tests and benches speak through it.
//!
//! Bottom up: a [`Connection`] pipelines requests to one broker; a [`Client`] knows the cluster and sends each request
//! where it belongs; [`Producer`], [`Consumer`] and [`Admin`] stand on it. The connection's generic
//! [`send`](Connection::send) takes any request of the protocol, so nothing is out of reach for tests.
//!
//! What always holds: every queue and wait is bounded; a request whose answer is overdue closes its connection, because
//! answers come in order; a retry of an idempotent producer carries the sequence of its first attempt.
//!
//! What it does not do: consumer groups, transactions and TLS are not here.

mod admin;
mod backoff;
mod client;
mod config;
mod connection;
mod consumer;
mod error;
mod metadata;
mod producer;

pub use admin::{
    Admin, ConfigEntry, ConfigResource, ConfigResourceType, ListedOffset, LogDir, NewTopic,
    OffsetSpec,
};
pub use client::Client;
pub use config::{ClientConfig, ConnectionConfig};
pub use connection::{ApiVersionTable, Connection, Reply};
pub use consumer::{
    Consumer, ConsumerConfig, FetchedPartition, IsolationLevel, OffsetReset, StartAt,
};
pub use error::{ClientError, ConnectionError};
pub use metadata::{Broker, Metadata, PartitionMetadata, TopicMetadata};
pub use producer::{
    Acks, Delivery, DeliveryError, Producer, ProducerConfig, RecordAck, partition_for_key,
};
