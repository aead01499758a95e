//! One table per request, in the order and with the names of Kafka's own message schemas.
//!
//! The integration test `kafka_messages` holds them against the JSON files inside the kafka-clients jar.

pub(crate) mod cluster;
pub(crate) mod configs;
pub(crate) mod groups;
pub(crate) mod offsets;
pub(crate) mod producers;
pub(crate) mod records;
pub(crate) mod topics;
