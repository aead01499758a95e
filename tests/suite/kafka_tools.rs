//! Kafka's own tools: its dump tool reads our folders, its admin tools work against the broker.

mod admin;
mod dump;
