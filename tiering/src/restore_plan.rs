//! What a bucket would bring back: a pure function over roots and state objects, and the reading of them.
//!
//! Only roots are read, never records: the time does not grow with the data. Nothing is written here.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::{StreamExt, TryStreamExt};
use serde::Serialize;
use strandline_log::{Offset, TimestampMs, TopicId, uuid_to_base64};

use crate::bucket_reader::{BucketError, BucketReader, TopicInfo};
use crate::fence::Fence;
use crate::format::{ClusterState, GroupOffset, GroupState, GroupsState, PartitionKey, TopicState};
use crate::manifest::{Manifest, ManifestStoreError};
use crate::tails::{PromoteError, Promoted, Tails};

/// Roots that are read at the same time.
const ROOTS_AT_A_TIME: usize = 32;
/// Producer ids are counted from the next multiple of this: whatever the former cluster handed out since it wrote its
/// state for the last time lies below.
const PRODUCER_ID_RANGE: i64 = 1 << 32;

#[derive(Debug, thiserror::Error)]
pub enum RestorePlanError {
    #[error(transparent)]
    Bucket(#[from] BucketError),
    #[error("the tails of unsealed segments: {0}")]
    Tails(#[from] PromoteError),
    #[error("the manifest of {topic}-{partition}: {error}; `strandline tier repair` may help")]
    Manifest {
        topic: String,
        partition: i32,
        error: ManifestStoreError,
    },
}

/// A partition that comes back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RestoredPartition {
    pub partition: i32,
    pub start: Offset,
    pub end: Offset,
    pub bytes: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RestoredTopic {
    pub name: String,
    #[serde(serialize_with = "base64")]
    pub id: TopicId,
    pub configs: BTreeMap<String, String>,
    pub partition_count: i32,
    /// Those with records in the bucket.
    pub partitions: Vec<RestoredPartition>,
}

/// A group's offset that lies outside of what comes back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Clamped {
    pub group: String,
    pub topic: String,
    pub partition: i32,
    pub from: Offset,
    pub to: Offset,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RestorePlan {
    pub cluster_id: String,
    /// The new one: every writer of an older incarnation is fenced by it.
    pub incarnation: u64,
    pub next_producer_id: i64,
    /// When the former cluster wrote its state last; `None`: it never did, topics come from their markers alone.
    pub state_written_ms: Option<TimestampMs>,
    pub topics: Vec<RestoredTopic>,
    pub groups: Vec<GroupState>,
    pub clamped: Vec<Clamped>,
    /// What the former cluster had and the bucket has not.
    pub missing: Vec<String>,
    /// What of it is in tails of unsealed segments.
    pub tails: Vec<Promoted>,
}

/// As the manifest will be when a restore has made objects of the tails.
fn with_tails(
    tails: &Tails,
    topic: &str,
    key: &PartitionKey,
    manifest: Option<Arc<Manifest>>,
) -> Option<(Arc<Manifest>, Option<Promoted>)> {
    let end = match &manifest {
        Some(manifest) if manifest.is_deleted() => return Some((Arc::clone(manifest), None)),
        Some(manifest) => manifest.end_offset(),
        None => tails.first_offset(key.topic_id, key.partition)?,
    };
    let promoted = tails.plan(topic, key.topic_id, key.partition, end);
    let mut manifest = manifest.unwrap_or_else(|| {
        let fence = Fence::new(0, 0);
        Arc::new(Manifest::new(key.clone(), fence, end, Default::default()))
    });
    if let Some(promoted) = &promoted {
        Arc::make_mut(&mut manifest).end = promoted.to;
    }
    Some((manifest, promoted))
}

fn base64<S: serde::Serializer>(id: &TopicId, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&uuid_to_base64(id))
}

impl RestorePlan {
    /// Reads what the bucket has of its cluster.
    pub async fn read(reader: &BucketReader) -> Result<Self, RestorePlanError> {
        let cluster_id = reader.cluster().await?;
        let state = reader.cluster_state().await?;
        let groups = reader.groups_states().await?;
        let markers = reader.list_topics().await?;
        let topics = topics_of(state.as_ref(), &markers);
        let keys: Vec<(String, PartitionKey)> = topics
            .iter()
            .flat_map(|topic| {
                let cluster_id = &cluster_id;
                (0..topic.partitions).map(move |partition| {
                    let key = PartitionKey::new(cluster_id.clone(), topic.id, partition);
                    (topic.name.clone(), key)
                })
            })
            .collect();
        let manifests: Vec<(PartitionKey, Option<Arc<Manifest>>)> =
            futures::stream::iter(keys.into_iter().map(|(topic, key)| async move {
                let manifest = reader.manifest(key.clone()).await.map_err(|error| {
                    RestorePlanError::Manifest {
                        topic,
                        partition: key.partition,
                        error,
                    }
                })?;
                Ok::<_, RestorePlanError>((key, manifest))
            }))
            .buffered(ROOTS_AT_A_TIME)
            .try_collect()
            .await?;
        let tails = reader.tails().await?;
        let mut promoted = Vec::new();
        let manifests = manifests
            .into_iter()
            .filter_map(|(key, manifest)| {
                let name = topics.iter().find(|topic| topic.id == key.topic_id);
                let name = name.map_or("", |topic| &topic.name);
                let (manifest, more) = with_tails(&tails, name, &key, manifest)?;
                promoted.extend(more);
                Some(((key.topic_id, key.partition), manifest))
            })
            .collect();
        let mut plan = Self::make(cluster_id, state, topics, groups, &manifests);
        plan.tails = promoted;
        Ok(plan)
    }

    fn make(
        cluster_id: String,
        state: Option<ClusterState>,
        topics: Vec<TopicState>,
        groups: Vec<GroupsState>,
        manifests: &BTreeMap<(TopicId, i32), Arc<Manifest>>,
    ) -> Self {
        let written = state.as_ref().map_or(0, |state| state.incarnation);
        let newest = manifests
            .values()
            .map(|manifest| manifest.fence.incarnation)
            .chain(groups.iter().map(|groups| groups.incarnation))
            .fold(written, u64::max);
        let next_producer_id = state.as_ref().map_or(0, |state| state.next_producer_id);
        let mut plan = Self {
            cluster_id,
            incarnation: newest + 1,
            next_producer_id: (next_producer_id / PRODUCER_ID_RANGE + 1)
                .saturating_mul(PRODUCER_ID_RANGE),
            state_written_ms: state.as_ref().map(|state| state.written_ms),
            topics: Vec::new(),
            groups: Vec::new(),
            clamped: Vec::new(),
            missing: Vec::new(),
            tails: Vec::new(),
        };
        if state.is_none() {
            plan.missing.push(
                "the topics' configs and the groups' offsets: no broker has written them".into(),
            );
        }
        for topic in topics {
            let partitions: Vec<RestoredPartition> = (0..topic.partitions)
                .filter_map(|partition| {
                    let manifest = manifests.get(&(topic.id, partition))?;
                    (!manifest.is_deleted()).then(|| RestoredPartition {
                        partition,
                        start: manifest.start_offset(),
                        end: manifest.end_offset(),
                        bytes: manifest.bytes_total(),
                    })
                })
                .collect();
            let tiered = topic
                .configs
                .get("remote.storage.enable")
                .is_some_and(|value| value == "true");
            if !tiered && !topic.name.starts_with("__") {
                plan.missing.push(format!(
                    "the records of {}: it is not tiered, and comes back empty",
                    topic.name
                ));
            }
            plan.topics.push(RestoredTopic {
                name: topic.name,
                id: topic.id,
                configs: topic.configs,
                partition_count: topic.partitions,
                partitions,
            });
        }
        plan.restore_groups(groups);
        plan
    }

    /// Each offset as its last writer left it, within what comes back.
    fn restore_groups(&mut self, mut states: Vec<GroupsState>) {
        states.sort_by_key(|state| (state.incarnation, state.written_ms));
        let mut offsets: BTreeMap<String, BTreeMap<(String, i32), GroupOffset>> = BTreeMap::new();
        for group in states.into_iter().flat_map(|state| state.groups) {
            let of_group = offsets.entry(group.group).or_default();
            for offset in group.offsets {
                of_group.insert((offset.topic.clone(), offset.partition), offset);
            }
        }
        for (group, of_group) in offsets {
            let mut kept = Vec::new();
            for (_, mut offset) in of_group {
                let Some(topic) = self.topics.iter().find(|t| t.name == offset.topic) else {
                    self.missing.push(format!(
                        "group {group}'s offset of {}-{}: the topic is not there",
                        offset.topic, offset.partition
                    ));
                    continue;
                };
                let restored = topic
                    .partitions
                    .iter()
                    .find(|p| p.partition == offset.partition);
                let (start, end) = restored.map_or((0, 0), |p| (p.start, p.end));
                let to = offset.offset.clamp(start, end);
                if to != offset.offset {
                    self.clamped.push(Clamped {
                        group: group.clone(),
                        topic: offset.topic.clone(),
                        partition: offset.partition,
                        from: offset.offset,
                        to,
                    });
                    offset.offset = to;
                    // The epoch belonged to a record that is not there.
                    offset.leader_epoch = -1;
                }
                kept.push(offset);
            }
            if !kept.is_empty() {
                self.groups.push(GroupState {
                    group,
                    offsets: kept,
                });
            }
        }
    }
}

/// The state's topics, and those that only have a marker because they were made since; never deleted ones.
fn topics_of(state: Option<&ClusterState>, markers: &[TopicInfo]) -> Vec<TopicState> {
    let by_id: BTreeMap<TopicId, &TopicInfo> = markers.iter().map(|m| (m.topic_id, m)).collect();
    let is_deleted = |id: &TopicId| by_id.get(id).is_some_and(|m| m.deleted_ms.is_some());
    let mut topics: Vec<TopicState> = state
        .map_or(&[][..], |state| &state.topics)
        .iter()
        .filter(|topic| !is_deleted(&topic.id))
        .map(|topic| TopicState {
            partitions: by_id
                .get(&topic.id)
                .map_or(topic.partitions, |m| m.partitions.max(topic.partitions)),
            ..topic.clone()
        })
        .collect();
    // Of one name the one that was made last comes first.
    for marker in markers.iter().filter(|m| m.deleted_ms.is_none()) {
        let known = topics
            .iter()
            .position(|t| t.name == marker.topic || t.id == marker.topic_id);
        let is_newer = |topic: &TopicState| {
            let written_ms = state.map_or(i64::MIN, |state| state.written_ms);
            topic.id != marker.topic_id && marker.created_ms > written_ms
        };
        let made = TopicState {
            name: marker.topic.clone(),
            id: marker.topic_id,
            partitions: marker.partitions,
            configs: BTreeMap::from([("remote.storage.enable".to_owned(), "true".to_owned())]),
        };
        match known {
            None => topics.push(made),
            // Deleted and made again since the state was written.
            Some(at) if is_newer(&topics[at]) => topics[at] = made,
            Some(_) => {}
        }
    }
    topics.sort_by(|a, b| a.name.cmp(&b.name));
    topics
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fence::Fence;

    fn topic(name: &str, id: u128) -> TopicState {
        TopicState {
            name: name.to_owned(),
            id: TopicId::from_u128(id),
            partitions: 1,
            configs: BTreeMap::from([("remote.storage.enable".to_owned(), "true".to_owned())]),
        }
    }

    fn marker(name: &str, id: u128, created_ms: i64, deleted_ms: Option<i64>) -> TopicInfo {
        TopicInfo {
            cluster_id: "c".to_owned(),
            topic: name.to_owned(),
            topic_id: TopicId::from_u128(id),
            partitions: 2,
            created_ms,
            deleted_ms,
        }
    }

    #[test]
    fn topics_come_from_the_state_and_from_newer_markers() {
        let topics = vec![topic("a", 1), topic("gone", 2), topic("again", 3)];
        let state = ClusterState::new(1, 100, 0, topics);
        let markers = [
            marker("a", 1, 10, None),
            marker("gone", 2, 10, Some(90)),
            marker("again", 4, 150, None),
            marker("new", 5, 120, None),
        ];
        let found: Vec<(String, u128, i32)> = topics_of(Some(&state), &markers)
            .into_iter()
            .map(|t| (t.name, t.id.as_u128(), t.partitions))
            .collect();
        let expected = [("a", 1, 2), ("again", 4, 2), ("new", 5, 2)];
        assert_eq!(
            found,
            expected.map(|(name, id, count)| (name.to_owned(), id, count))
        );
        assert_eq!(topics_of(None, &markers).len(), 3);
    }

    #[test]
    fn offsets_are_clamped_to_what_comes_back_and_listed() {
        let mut manifest = crate::manifest::tests::manifest(10);
        manifest.end = 50;
        manifest.fence = Fence::new(3, 7);
        let manifests = BTreeMap::from([((TopicId::from_u128(1), 0), Arc::new(manifest))]);
        let offset = |topic: &str, offset| GroupOffset {
            topic: topic.to_owned(),
            partition: 0,
            offset,
            leader_epoch: 4,
            metadata: String::new(),
        };
        let state = |written_ms, offsets: Vec<GroupOffset>| {
            let group = GroupState {
                group: "g".to_owned(),
                offsets,
            };
            GroupsState::new(1, written_ms, vec![group])
        };
        for (written, expected, clamped) in [(30, 30, 0), (60, 50, 1), (5, 10, 1)] {
            let plan = RestorePlan::make(
                "c".to_owned(),
                Some(ClusterState::new(1, 100, 3_000, Vec::new())),
                vec![topic("a", 1)],
                vec![
                    state(9, vec![offset("a", written), offset("other", 1)]),
                    state(8, vec![offset("a", 1_000)]),
                ],
                &manifests,
            );
            assert_eq!(plan.incarnation, 4);
            assert_eq!(plan.next_producer_id, PRODUCER_ID_RANGE);
            assert_eq!(plan.groups[0].offsets.len(), 1);
            assert_eq!(plan.groups[0].offsets[0].offset, expected);
            assert_eq!(plan.clamped.len(), clamped, "{:?}", plan.clamped);
            assert_eq!(plan.missing.len(), 1, "{:?}", plan.missing);
        }
    }
}
