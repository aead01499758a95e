//! Says in the bucket which topic an id belongs to, so that the bucket alone can name its topics.
//!
//! JSON under `meta/{cluster id}/topics/{topic}/{topic id}`, so that people can read it:
//!
//! | field | type | |
//! |---|---|---|
//! | version | number | 1 |
//! | topic, topic_id | text | the id in Kafka's base64 |
//! | partitions | number | raised when partitions are added |
//! | created_ms | number | the writer's clock |
//! | deleted_ms | number | absent until the topic is deleted |
//!
//! Unknown fields are ignored, so that later versions can add some.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use strandline_log::{TimestampMs, TopicId, uuid_from_base64, uuid_to_base64};

use super::bytes_io::FormatError;

const VERSION: u16 = 1;
const WHAT: &str = "a topic marker";

/// A topic as the bucket knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicMarker {
    pub topic: String,
    pub topic_id: TopicId,
    pub partitions: i32,
    pub created_ms: TimestampMs,
    pub deleted_ms: Option<TimestampMs>,
}

#[derive(Serialize, Deserialize)]
struct Json {
    version: u16,
    topic: String,
    topic_id: String,
    partitions: i32,
    created_ms: TimestampMs,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    deleted_ms: Option<TimestampMs>,
}

impl TopicMarker {
    pub fn encode(&self) -> Bytes {
        let json = Json {
            version: VERSION,
            topic: self.topic.clone(),
            topic_id: uuid_to_base64(&self.topic_id),
            partitions: self.partitions,
            created_ms: self.created_ms,
            deleted_ms: self.deleted_ms,
        };
        let mut bytes =
            serde_json::to_vec_pretty(&json).expect("texts and numbers have a JSON form");
        bytes.push(b'\n');
        bytes.into()
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        let malformed = |why| FormatError::Malformed { what: WHAT, why };
        let json: Json =
            serde_json::from_slice(bytes).map_err(|_| malformed("it is not the JSON expected"))?;
        if json.version != VERSION {
            return Err(FormatError::Version {
                what: WHAT,
                version: json.version,
                known: VERSION,
            });
        }
        if json.partitions < 0 {
            return Err(malformed("its partition count is negative"));
        }
        Ok(Self {
            topic: json.topic,
            topic_id: uuid_from_base64(&json.topic_id)
                .ok_or_else(|| malformed("its topic id is no base64 UUID"))?,
            partitions: json.partitions,
            created_ms: json.created_ms,
            deleted_ms: json.deleted_ms,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn golden_bytes() {
        let marker = TopicMarker {
            topic: "flights".to_owned(),
            topic_id: TopicId::from_u128(1),
            partitions: 6,
            created_ms: 1_700_000_000_000,
            deleted_ms: None,
        };
        let golden = "{\n  \"version\": 1,\n  \"topic\": \"flights\",\n  \"topic_id\": \"AAAAAAAAAAAAAAAAAAAAAQ\",\n  \
                      \"partitions\": 6,\n  \"created_ms\": 1700000000000\n}\n";
        assert_eq!(marker.encode(), golden);
        let newer = golden.replace("\"version\": 1", "\"version\": 2");
        assert!(matches!(
            TopicMarker::decode(newer.as_bytes()),
            Err(FormatError::Version { version: 2, .. })
        ));
        let added = golden.replace("  \"topic\"", "  \"added\": [1],\n  \"topic\"");
        assert_eq!(TopicMarker::decode(added.as_bytes()), Ok(marker));
    }

    proptest! {
        #[test]
        fn round_trips(topic in "[a-zA-Z0-9._-]{1,249}", id: u128, partitions in 0..i32::MAX,
                       created_ms: i64, deleted_ms: Option<i64>) {
            let marker = TopicMarker {
                topic, topic_id: TopicId::from_u128(id), partitions, created_ms, deleted_ms,
            };
            prop_assert_eq!(TopicMarker::decode(&marker.encode()), Ok(marker));
        }

        #[test]
        fn garbage_never_panics(bytes: Vec<u8>) {
            let _ = TopicMarker::decode(&bytes);
        }
    }
}
