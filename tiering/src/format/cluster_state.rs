//! What a cluster is beside its records, so that the bucket alone is enough to start again: topics with ids and configs,
//! group offsets, how far producer ids were handed out.
//!
//! JSON, so that people can read it. `meta/{cluster id}/state/cluster`:
//!
//! | field | type | |
//! |---|---|---|
//! | version | number | 1 |
//! | incarnation | number | of the writer; one of an older incarnation never replaces a newer one's |
//! | written_ms | number | the writer's clock |
//! | next_producer_id | number | none below was left to hand out |
//! | topics | list | name, id (Kafka's base64), partitions, configs (the overrides) |
//!
//! `meta/{cluster id}/state/groups-{node id}`, one per broker:
//!
//! | field | type | |
//! |---|---|---|
//! | version, incarnation, written_ms | | as above |
//! | groups | list | group, and its offsets: topic, partition, offset, leader_epoch (-1: unknown), metadata |
//!
//! Unknown fields are ignored, so that later versions can add some.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use strandline_log::{LeaderEpoch, Offset, TimestampMs, TopicId, uuid_from_base64, uuid_to_base64};

use super::bytes_io::FormatError;

const VERSION: u16 = 1;
const WHAT: &str = "a cluster's state";

/// `meta/{cluster id}/state/cluster`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterState {
    version: u16,
    pub incarnation: u64,
    pub written_ms: TimestampMs,
    pub next_producer_id: i64,
    pub topics: Vec<TopicState>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopicState {
    pub name: String,
    #[serde(with = "base64_id")]
    pub id: TopicId,
    pub partitions: i32,
    #[serde(default)]
    pub configs: BTreeMap<String, String>,
}

/// `meta/{cluster id}/state/groups-{node id}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupsState {
    version: u16,
    pub incarnation: u64,
    pub written_ms: TimestampMs,
    pub groups: Vec<GroupState>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupState {
    pub group: String,
    pub offsets: Vec<GroupOffset>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupOffset {
    pub topic: String,
    pub partition: i32,
    pub offset: Offset,
    #[serde(default = "no_epoch")]
    pub leader_epoch: LeaderEpoch,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub metadata: String,
}

fn no_epoch() -> LeaderEpoch {
    -1
}

impl ClusterState {
    pub fn new(
        incarnation: u64,
        written_ms: TimestampMs,
        next_producer_id: i64,
        topics: Vec<TopicState>,
    ) -> Self {
        Self {
            version: VERSION,
            incarnation,
            written_ms,
            next_producer_id,
            topics,
        }
    }

    pub fn encode(&self) -> Bytes {
        encode(self)
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        decode(bytes)
    }
}

impl GroupsState {
    pub fn new(incarnation: u64, written_ms: TimestampMs, groups: Vec<GroupState>) -> Self {
        Self {
            version: VERSION,
            incarnation,
            written_ms,
            groups,
        }
    }

    pub fn encode(&self) -> Bytes {
        encode(self)
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        decode(bytes)
    }
}

/// What every state object says first.
#[derive(Deserialize)]
pub(crate) struct StateHead {
    version: u16,
    pub incarnation: u64,
}

impl StateHead {
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        let malformed = |_| FormatError::Malformed {
            what: WHAT,
            why: "it is not the JSON expected",
        };
        let head: Self = serde_json::from_slice(bytes).map_err(malformed)?;
        if head.version != VERSION {
            return Err(FormatError::Version {
                what: WHAT,
                version: head.version,
                known: VERSION,
            });
        }
        Ok(head)
    }
}

fn encode(state: &impl Serialize) -> Bytes {
    let mut bytes = serde_json::to_vec(state).expect("texts and numbers have a JSON form");
    bytes.push(b'\n');
    bytes.into()
}

fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, FormatError> {
    StateHead::decode(bytes)?;
    serde_json::from_slice(bytes).map_err(|_| FormatError::Malformed {
        what: WHAT,
        why: "a field is missing or of another type",
    })
}

mod base64_id {
    use serde::de::Error;
    use serde::{Deserializer, Serializer};

    use super::*;

    pub fn serialize<S: Serializer>(id: &TopicId, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&uuid_to_base64(id))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<TopicId, D::Error> {
        let text = String::deserialize(deserializer)?;
        uuid_from_base64(&text).ok_or_else(|| D::Error::custom("it is no base64 UUID"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cluster() -> ClusterState {
        let topic = TopicState {
            name: "flights".to_owned(),
            id: TopicId::from_u128(1),
            partitions: 6,
            configs: BTreeMap::from([("retention.ms".to_owned(), "-1".to_owned())]),
        };
        ClusterState::new(2, 1_700_000_000_000, 3000, vec![topic])
    }

    #[test]
    fn golden_bytes() {
        let golden = "{\"version\":1,\"incarnation\":2,\"written_ms\":1700000000000,\"next_producer_id\":3000,\
                      \"topics\":[{\"name\":\"flights\",\"id\":\"AAAAAAAAAAAAAAAAAAAAAQ\",\"partitions\":6,\
                      \"configs\":{\"retention.ms\":\"-1\"}}]}\n";
        assert_eq!(cluster().encode(), golden);
        assert_eq!(ClusterState::decode(golden.as_bytes()), Ok(cluster()));
        let offset = GroupOffset {
            topic: "flights".to_owned(),
            partition: 3,
            offset: 42,
            leader_epoch: -1,
            metadata: String::new(),
        };
        let group = GroupState {
            group: "readers".to_owned(),
            offsets: vec![offset],
        };
        let groups = GroupsState::new(2, 5, vec![group]);
        let golden = "{\"version\":1,\"incarnation\":2,\"written_ms\":5,\"groups\":[{\"group\":\"readers\",\
                      \"offsets\":[{\"topic\":\"flights\",\"partition\":3,\"offset\":42,\"leader_epoch\":-1}]}]}\n";
        assert_eq!(groups.encode(), golden);
        assert_eq!(GroupsState::decode(golden.as_bytes()), Ok(groups));
    }

    #[test]
    fn newer_versions_are_refused_by_name_and_garbage_by_its_kind() {
        let text = String::from_utf8(cluster().encode().to_vec()).expect("text");
        let newer = text.replace("\"version\":1", "\"version\":2");
        assert!(matches!(
            ClusterState::decode(newer.as_bytes()),
            Err(FormatError::Version { version: 2, .. })
        ));
        for garbage in ["", "{}", "{\"version\":1,\"incarnation\":2}", "[1]"] {
            assert!(
                ClusterState::decode(garbage.as_bytes()).is_err(),
                "{garbage}"
            );
        }
        let added = text.replace("\"topics\"", "\"added\":[1],\"topics\"");
        assert_eq!(ClusterState::decode(added.as_bytes()), Ok(cluster()));
    }
}
