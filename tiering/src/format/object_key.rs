//! The names of objects. Spelled out in docs/remote-format.md.
//!
//! ```text
//! {spread}/{cluster id}/{topic id}/{partition}/segment/{start:020}-{epoch:010}-{counter:010}-{random:016x}.strand
//! {spread}/{cluster id}/{topic id}/{partition}/manifest/root
//! {spread}/{cluster id}/{topic id}/{partition}/manifest/page-{start:020}-{generation:010}-{random:016x}
//! {spread}/{cluster id}/{topic id}/{partition}/manifest/retired/{generation:020}-{nonce:032x}
//! meta/{cluster id}/topics/{topic}/{topic id}
//! meta/{cluster id}/deleted/{topic id}
//! meta/{cluster id}/undeleted/{topic id}
//! meta/{cluster id}/state/cluster
//! meta/{cluster id}/state/groups-{node id}
//! ```
//!
//! `spread` is 4 hex digits hashed from topic id and partition: load spreads over the key space while one partition
//! stays one listing. Topic ids are in Kafka's base64, so deleting and recreating a topic never mixes data.
//! `counter` is the manifest's generation when the upload began: collection compares it with its floor.
//! Segment, page and retired names hold a random or a nonce and are never reused.

use std::fmt;
use std::str::FromStr;

use strandline_log::{LeaderEpoch, Offset, TopicId, uuid_from_base64, uuid_to_base64};

use crate::id_source::Nonce;

/// Names a partition's place in the bucket.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PartitionKey {
    pub cluster_id: String,
    pub topic_id: TopicId,
    pub partition: i32,
}

impl PartitionKey {
    pub fn new(cluster_id: impl Into<String>, topic_id: TopicId, partition: i32) -> Self {
        Self {
            cluster_id: cluster_id.into(),
            topic_id,
            partition,
        }
    }

    /// The low 16 bits of the CRC-32C of topic id and partition.
    fn spread(&self) -> u16 {
        let crc = crc32c::crc32c(self.topic_id.as_bytes());
        crc32c::crc32c_append(crc, &self.partition.to_be_bytes()) as u16
    }

    /// The folder of all that the partition owns.
    pub fn folder(&self) -> String {
        format!(
            "{:04x}/{}/{}/{}",
            self.spread(),
            self.cluster_id,
            uuid_to_base64(&self.topic_id),
            self.partition
        )
    }

    pub fn segment_folder(&self) -> String {
        format!("{}/segment", self.folder())
    }

    pub fn segment(&self, name: &SegmentName) -> String {
        format!("{}/segment/{name}", self.folder())
    }

    pub fn manifest_folder(&self) -> String {
        format!("{}/manifest", self.folder())
    }

    pub fn manifest_root(&self) -> String {
        format!("{}/manifest/root", self.folder())
    }

    pub fn manifest_page(&self, name: &PageName) -> String {
        format!("{}/manifest/{name}", self.folder())
    }

    pub fn retired_root(&self, generation: u64, nonce: &Nonce) -> String {
        format!(
            "{}/manifest/retired/{generation:020}-{:032x}",
            self.folder(),
            u128::from_be_bytes(*nonce)
        )
    }
}

/// Where a cluster's topic markers lie.
pub fn topics_folder(cluster_id: &str) -> String {
    format!("meta/{cluster_id}/topics")
}

pub fn topic_marker(cluster_id: &str, topic: &str, topic_id: &TopicId) -> String {
    format!(
        "{}/{topic}/{}",
        topics_folder(cluster_id),
        uuid_to_base64(topic_id)
    )
}

/// Where the deleted topics are whose objects are still to be removed.
pub fn deleted_folder(cluster_id: &str) -> String {
    format!("meta/{cluster_id}/deleted")
}

/// Where the topics are that were brought back, until a broker has made them again.
pub fn undeleted_folder(cluster_id: &str) -> String {
    format!("meta/{cluster_id}/undeleted")
}

/// Where a cluster's state is, beside its records.
pub fn state_folder(cluster_id: &str) -> String {
    format!("meta/{cluster_id}/state")
}

pub fn cluster_state(cluster_id: &str) -> String {
    format!("{}/cluster", state_folder(cluster_id))
}

pub fn groups_state(cluster_id: &str, node_id: i32) -> String {
    format!("{}/groups-{node_id}", state_folder(cluster_id))
}

/// Where the tails of unsealed segments are.
pub fn tails_folder(cluster_id: &str) -> String {
    format!("meta/{cluster_id}/tails")
}

pub fn tail_object(cluster_id: &str, created_ms: i64, random: u64) -> String {
    format!(
        "{}/{created_ms:020}-{random:016x}",
        tails_folder(cluster_id)
    )
}

pub fn deletion_note(cluster_id: &str, topic_id: &TopicId) -> String {
    format!(
        "{}/{}",
        deleted_folder(cluster_id),
        uuid_to_base64(topic_id)
    )
}

/// The last part of a segment object's key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SegmentName {
    pub start: Offset,
    pub epoch: LeaderEpoch,
    /// The manifest's generation when the upload began.
    pub counter: u64,
    pub random: u64,
}

impl fmt::Display for SegmentName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:020}-{:010}-{:010}-{:016x}.strand",
            self.start, self.epoch, self.counter, self.random
        )
    }
}

impl FromStr for SegmentName {
    type Err = NotAName;

    /// Takes the bare name, or a whole key.
    fn from_str(text: &str) -> Result<Self, NotAName> {
        let name = text.rsplit('/').next().unwrap_or(text);
        let parse = || {
            let mut parts = name.strip_suffix(".strand")?.split('-');
            let parsed = Self {
                start: parts.next()?.parse().ok()?,
                epoch: parts.next()?.parse().ok()?,
                counter: parts.next()?.parse().ok()?,
                random: u64::from_str_radix(parts.next()?, 16).ok()?,
            };
            // Only what we would have written: no signs, no missing zeros.
            (parts.next().is_none() && parsed.to_string() == name).then_some(parsed)
        };
        parse().ok_or(NotAName)
    }
}

/// The last part of a manifest page's key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PageName {
    pub start: Offset,
    pub generation: u64,
    pub random: u64,
}

impl fmt::Display for PageName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "page-{:020}-{:010}-{:016x}",
            self.start, self.generation, self.random
        )
    }
}

impl FromStr for PageName {
    type Err = NotAName;

    fn from_str(name: &str) -> Result<Self, NotAName> {
        let parse = || {
            let mut parts = name.strip_prefix("page-")?.split('-');
            let parsed = Self {
                start: parts.next()?.parse().ok()?,
                generation: parts.next()?.parse().ok()?,
                random: u64::from_str_radix(parts.next()?, 16).ok()?,
            };
            (parts.next().is_none() && parsed.to_string() == name).then_some(parsed)
        };
        parse().ok_or(NotAName)
    }
}

/// What an object in a partition's folder is, by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ObjectName {
    Segment(SegmentName),
    Root,
    Page(PageName),
    RetiredRoot { generation: u64 },
}

impl ObjectName {
    /// Of a key relative to the partition's folder; `None` when it is none of ours.
    pub fn parse(below: &str) -> Option<Self> {
        if below == "manifest/root" {
            return Some(Self::Root);
        }
        if let Some(name) = below.strip_prefix("segment/") {
            return name.parse().ok().map(Self::Segment);
        }
        let name = below.strip_prefix("manifest/")?;
        let Some(retired) = name.strip_prefix("retired/") else {
            return name.parse().ok().map(Self::Page);
        };
        let (generation, nonce) = retired.split_once('-')?;
        let ours = generation.len() == 20 && nonce.len() == 32;
        let generation = generation.parse().ok().filter(|_| ours)?;
        Some(Self::RetiredRoot { generation })
    }
}

/// A listing may hold objects that are not ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not the name of a segment object")]
pub struct NotAName;

/// Reads topic and id out of a marker's key.
pub fn parse_topic_marker(key: &str) -> Option<(String, TopicId)> {
    let mut parts = key.rsplit('/');
    let id = uuid_from_base64(parts.next()?)?;
    let topic = parts.next()?;
    (parts.next()? == "topics").then(|| (topic.to_owned(), id))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn key() -> PartitionKey {
        let id = TopicId::from_u128(0x0123_4567_89ab_cdef_fedc_ba98_7654_3210);
        PartitionKey::new("cluster-A", id, 7)
    }

    #[test]
    fn keys_are_stable() {
        let name = SegmentName {
            start: 1234,
            epoch: 5,
            counter: 6,
            random: 0xabc,
        };
        let folder = "9a3e/cluster-A/ASNFZ4mrze_-3LqYdlQyEA/7";
        assert_eq!(key().folder(), folder);
        assert_eq!(
            key().segment(&name),
            format!(
                "{folder}/segment/00000000000000001234-0000000005-0000000006-0000000000000abc.strand"
            )
        );
        assert_eq!(key().manifest_root(), format!("{folder}/manifest/root"));
        let page = PageName {
            start: 9,
            generation: 10,
            random: 11,
        };
        assert_eq!(
            key().manifest_page(&page),
            format!("{folder}/manifest/page-00000000000000000009-0000000010-000000000000000b")
        );
        assert_eq!(
            key().retired_root(3, &[1; 16]),
            format!(
                "{folder}/manifest/retired/00000000000000000003-01010101010101010101010101010101"
            )
        );
        let marker = topic_marker("cluster-A", "a.b", &key().topic_id);
        assert_eq!(marker, "meta/cluster-A/topics/a.b/ASNFZ4mrze_-3LqYdlQyEA");
        assert_eq!(
            parse_topic_marker(&marker),
            Some(("a.b".to_owned(), key().topic_id))
        );
    }

    #[test]
    fn partitions_of_a_topic_spread() {
        let spreads: std::collections::BTreeSet<u16> = (0..100)
            .map(|partition| PartitionKey { partition, ..key() }.spread())
            .collect();
        assert!(spreads.len() > 90, "{}", spreads.len());
    }

    proptest! {
        #[test]
        fn segment_names_round_trip_and_sort_by_offset(
            start in 0..i64::MAX, epoch in 0..i32::MAX, counter: u64, random: u64, later in 1..i64::MAX,
        ) {
            let name = SegmentName { start, epoch, counter, random };
            prop_assert_eq!(name.to_string().parse(), Ok(name));
            prop_assert_eq!(key().segment(&name).parse(), Ok(name));
            if let Some(start) = start.checked_add(later) {
                let after = SegmentName { start, ..name };
                prop_assert!(after.to_string() > name.to_string());
            }
        }

        #[test]
        fn other_names_are_refused(text in "\\PC{0,80}") {
            if let Ok(name) = text.parse::<SegmentName>() {
                prop_assert!(text.ends_with(&name.to_string()));
            }
        }
    }
}
