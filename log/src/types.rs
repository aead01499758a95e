//! The names that every other module speaks: offsets, epochs, producers, partitions.
//!
//! Offsets, epochs and timestamps are plain integers, as on the wire and on disk; the aliases say which is meant.

use std::fmt;
use std::sync::Arc;

/// A record's position in a partition.
pub type Offset = i64;
/// The generation of a partition's leadership. Compares only within one incarnation of the cluster.
pub type LeaderEpoch = i32;
/// The identity of an idempotent or transactional producer; -1 when there is none.
pub type ProducerId = i64;
/// The generation of a producer id; -1 when there is none.
pub type ProducerEpoch = i16;
/// Milliseconds since the Unix epoch; -1 when there is none.
pub type TimestampMs = i64;
/// A topic's immutable id (KIP-516). Written in Kafka's URL-safe base64 where people read it.
pub type TopicId = uuid::Uuid;

pub const NO_PRODUCER_ID: ProducerId = -1;
pub const NO_PRODUCER_EPOCH: ProducerEpoch = -1;
pub const NO_SEQUENCE: i32 = -1;
pub const NO_TIMESTAMP: TimestampMs = -1;
pub const NO_LEADER_EPOCH: LeaderEpoch = -1;

/// A topic's name and a partition's number. Displays as Kafka names its folder: `topic-partition`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicPartition {
    pub topic: Arc<str>,
    pub partition: i32,
}

impl TopicPartition {
    pub fn new(topic: impl Into<Arc<str>>, partition: i32) -> Self {
        Self {
            topic: topic.into(),
            partition,
        }
    }

    /// Reads a folder's name back. The last dash separates the partition: topics may hold dashes.
    pub fn from_folder_name(name: &str) -> Option<Self> {
        let (topic, partition) = name.rsplit_once('-')?;
        let partition = partition.parse().ok().filter(|p| *p >= 0)?;
        (!topic.is_empty()).then(|| Self::new(topic, partition))
    }
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic, self.partition)
    }
}

const BASE64_URL: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// Kafka's text form of a UUID: 22 characters of unpadded URL-safe base64.
pub fn uuid_to_base64(id: &uuid::Uuid) -> String {
    let value = id.as_u128();
    // 128 bits are 21 full sextets and 2 bits, which end up in the high bits of the last character.
    let mut text = String::with_capacity(22);
    for sextet in 0..21 {
        let shift = 128 - 6 * (sextet + 1);
        text.push(BASE64_URL[((value >> shift) & 63) as usize] as char);
    }
    text.push(BASE64_URL[((value & 3) << 4) as usize] as char);
    text
}

/// The inverse of [`uuid_to_base64`]; `None` for anything that Kafka would not have written.
pub fn uuid_from_base64(text: &str) -> Option<uuid::Uuid> {
    if text.len() != 22 {
        return None;
    }
    let mut value: u128 = 0;
    for (i, byte) in text.bytes().enumerate() {
        let sextet = BASE64_URL.iter().position(|c| *c == byte)? as u128;
        if i < 21 {
            value = (value << 6) | sextet;
        } else if sextet & 15 == 0 {
            value = (value << 2) | (sextet >> 4);
        } else {
            return None;
        }
    }
    Some(uuid::Uuid::from_u128(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folder_names_round_trip_also_with_dashes() {
        for (name, topic, partition) in [("a-0", "a", 0), ("a-b-12", "a-b", 12)] {
            let tp = TopicPartition::from_folder_name(name).expect("parses");
            assert_eq!(tp, TopicPartition::new(topic, partition));
            assert_eq!(tp.to_string(), name);
        }
        for bad in ["a", "-1", "a-x", "a-"] {
            assert_eq!(TopicPartition::from_folder_name(bad), None, "{bad}");
        }
    }

    #[test]
    fn uuids_read_as_kafka_writes_them() {
        // Kafka's own reserved ids: Uuid.ONE_UUID and Uuid.ZERO_UUID.
        assert_eq!(
            uuid_to_base64(&uuid::Uuid::from_u128(1)),
            "AAAAAAAAAAAAAAAAAAAAAQ"
        );
        assert_eq!(uuid_to_base64(&uuid::Uuid::nil()), "AAAAAAAAAAAAAAAAAAAAAA");
        let id = uuid::Uuid::from_u128(0x0123_4567_89ab_cdef_fedc_ba98_7654_3210);
        assert_eq!(uuid_from_base64(&uuid_to_base64(&id)), Some(id));
        assert_eq!(uuid_from_base64("AAAAAAAAAAAAAAAAAAAAAB"), None);
        assert_eq!(uuid_from_base64("short"), None);
    }
}
