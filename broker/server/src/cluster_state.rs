//! Writes to the bucket what this cluster is beside its records, so that the bucket alone is enough to start again:
//! topics with ids and configs, group offsets, how far producer ids were handed out.
//!
//! Now and then, only what has changed, and only once something is tiered. Group offsets are written by the broker that
//! coordinates them. A cluster that was restored elsewhere is superseded: then nothing is written any more.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::messages::ListGroupsRequest;
use kafka_protocol::messages::offset_fetch_request::OffsetFetchRequestGroup;
use strandline_core::group::{ClientIdentity, GroupRequest, GroupResponse};
use strandline_core::metadata::MetadataImage;
use strandline_tiering::Tier;
use strandline_tiering::bucket_reader::StateError;
use strandline_tiering::format::object_key::{cluster_state, groups_state};
use strandline_tiering::format::{ClusterState, GroupOffset, GroupState, GroupsState, TopicState};

use crate::api::Apis;
use crate::clock;
use crate::group_driver::GroupDriver;
use crate::supervisor::StopFlag;

/// A version that knows every field that is asked for here.
const API_VERSION: i16 = 4;
/// A clean shutdown waits so long for the store at most.
const LAST_WRITE_PATIENCE: Duration = Duration::from_secs(5);

pub struct ClusterStateWriter {
    apis: Arc<Apis>,
    tier: Arc<Tier>,
    interval: Duration,
    /// What was written last, without its time.
    written: parking_lot::Mutex<Option<(ClusterState, GroupsState)>>,
}

impl ClusterStateWriter {
    pub fn new(apis: Arc<Apis>, tier: Arc<Tier>) -> Self {
        let interval_ms = apis.config.i64("remote.cluster.state.interval.ms");
        Self {
            apis,
            tier,
            interval: Duration::from_millis(u64::try_from(interval_ms).unwrap_or(1)),
            written: parking_lot::Mutex::default(),
        }
    }

    pub async fn run(self: Arc<Self>, mut stop: StopFlag) {
        while stop.sleep(self.interval).await {
            self.undelete().await;
            match self.write().await {
                Ok(()) => {}
                Err(error @ StateError::Superseded { .. }) => {
                    tracing::error!(%error, "this cluster's state is not written any more");
                    return;
                }
                Err(error) => {
                    tracing::warn!(%error, "the cluster's state was not written; it is tried again");
                }
            }
        }
    }

    /// Topics that somebody has brought back in the bucket are made again.
    async fn undelete(&self) {
        if !self.tier.config().enabled {
            return;
        }
        let topics = match self.tier.undeleted_topics().await {
            Ok(topics) => topics,
            Err(error) => {
                tracing::debug!(%error, "it cannot be told whether topics were brought back");
                return;
            }
        };
        for topic in topics {
            let image = self.apis.metadata.image();
            if image.topics.get_by_id(&topic.topic_id).is_some() {
                if let Err(error) = self.tier.forget_undeleted(topic.topic_id).await {
                    tracing::warn!(topic = topic.topic, %error, "the notice of a topic that was brought back stays");
                }
            } else if image.topics.get(&topic.topic).is_some() {
                tracing::warn!(
                    topic = topic.topic,
                    "a topic was brought back, but there is another one of its name: it waits until that is deleted"
                );
            } else {
                match self.apis.metadata.undelete(&topic).await {
                    Ok(_) => tracing::info!(topic = topic.topic, "a deleted topic is brought back"),
                    Err((code, why)) => {
                        tracing::warn!(
                            topic = topic.topic,
                            ?code,
                            why,
                            "a topic could not be brought back yet"
                        );
                    }
                }
            }
        }
    }

    /// At a clean shutdown, while the coordinators still answer.
    pub async fn write_last(&self) {
        match tokio::time::timeout(LAST_WRITE_PATIENCE, self.write()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "the cluster's state was not written"),
            Err(_) => tracing::warn!("the cluster's state was not written: the store is too slow"),
        }
    }

    async fn write(&self) -> Result<(), StateError> {
        if !self.tier.is_used() {
            return Ok(());
        }
        let image = self.apis.metadata.image();
        let incarnation = u64::from(image.incarnation);
        let cluster = cluster_of(&image);
        let groups = GroupsState::new(incarnation, 0, groups_of(&self.apis.groups).await);
        let known = self.written.lock().clone();
        let id = self.tier.cluster_id();
        let now_ms = clock::now_ms();
        if known.as_ref().is_none_or(|(_, known)| *known != groups) {
            let key = groups_state(id, self.apis.metadata.node_id());
            let mut state = groups.clone();
            state.written_ms = now_ms;
            self.put(&key, incarnation, state.encode()).await?;
        }
        if known.as_ref().is_none_or(|(known, _)| *known != cluster) {
            let mut state = cluster.clone();
            state.written_ms = now_ms;
            self.put(&cluster_state(id), incarnation, state.encode())
                .await?;
        }
        *self.written.lock() = Some((cluster, groups));
        Ok(())
    }

    async fn put(&self, key: &str, incarnation: u64, bytes: Bytes) -> Result<(), StateError> {
        self.tier.write_state(key, incarnation, bytes).await
    }
}

fn cluster_of(image: &MetadataImage) -> ClusterState {
    let mut topics: Vec<TopicState> = image
        .topics
        .iter()
        .map(|topic| TopicState {
            name: topic.name.to_string(),
            id: topic.id,
            partitions: topic.partition_count(),
            configs: image
                .configs
                .topic(&topic.name)
                .iter()
                .map(|(name, value)| (name.clone(), value.clone()))
                .collect(),
        })
        .collect();
    topics.sort_by(|a, b| a.name.cmp(&b.name));
    ClusterState::new(
        u64::from(image.incarnation),
        0,
        image.next_producer_id,
        topics,
    )
}

/// Every committed offset of every group that is coordinated here, in a stated order.
async fn groups_of(driver: &GroupDriver) -> Vec<GroupState> {
    let mut found = Vec::new();
    for shard in driver.shards() {
        let listed = driver
            .request(
                shard,
                ClientIdentity::default(),
                API_VERSION,
                GroupRequest::List(ListGroupsRequest::default()),
            )
            .await;
        let Some(GroupResponse::List(listed)) = listed else {
            continue;
        };
        for group in listed.groups {
            let request = GroupRequest::OffsetFetch {
                group: OffsetFetchRequestGroup::default()
                    .with_group_id(group.group_id.clone())
                    .with_topics(None)
                    .with_member_epoch(-1),
                require_stable: false,
            };
            let answer = driver
                .request(shard, ClientIdentity::default(), API_VERSION, request)
                .await;
            if let Some(GroupResponse::OffsetFetch(answer)) = answer
                && answer.error_code == 0
            {
                let mut offsets: Vec<GroupOffset> = answer
                    .topics
                    .iter()
                    .flat_map(|topic| {
                        topic.partitions.iter().map(|partition| GroupOffset {
                            topic: topic.name.to_string(),
                            partition: partition.partition_index,
                            offset: partition.committed_offset,
                            leader_epoch: partition.committed_leader_epoch,
                            metadata: partition
                                .metadata
                                .as_ref()
                                .map_or(String::new(), ToString::to_string),
                        })
                    })
                    .filter(|offset| offset.offset >= 0)
                    .collect();
                offsets.sort_by(|a, b| (&a.topic, a.partition).cmp(&(&b.topic, b.partition)));
                if !offsets.is_empty() {
                    found.push(GroupState {
                        group: group.group_id.to_string(),
                        offsets,
                    });
                }
            }
        }
    }
    found.sort_by(|a, b| a.group.cmp(&b.group));
    found
}
