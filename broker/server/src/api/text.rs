//! Between our names and the codecs' types.

use kafka_protocol::messages::TopicName;
use kafka_protocol::protocol::StrBytes;

pub fn text(value: impl Into<String>) -> StrBytes {
    StrBytes::from_string(value.into())
}

pub fn topic_name(name: &str) -> TopicName {
    TopicName(text(name))
}
