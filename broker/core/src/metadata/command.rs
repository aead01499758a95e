//! The commands of the metadata log. Their bytes are in `command_format`, their meaning in `apply`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use strandline_log::{LeaderEpoch, ProducerId, TopicId};
use uuid::Uuid;

use super::{BrokerEndpoint, BrokerId, ConfigResource};

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    InitCluster(InitCluster),
    RegisterBroker(RegisterBroker),
    BrokerStarted(BrokerStarted),
    CreateTopics(CreateTopics),
    DeleteTopics(DeleteTopics),
    CreatePartitions(CreatePartitions),
    AlterConfigs(AlterConfigs),
    AllocateProducerIds(AllocateProducerIds),
    ChangePartitions(ChangePartitions),
    RaiseIncarnation(RaiseIncarnation),
}

/// Gives the cluster its id. Does nothing when it has one: the outcome says which.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InitCluster {
    pub cluster_id: Arc<str>,
    /// 1, unless this cluster is restored from a bucket.
    pub incarnation: u32,
    pub features: BTreeMap<Arc<str>, i16>,
}

/// A broker's process announces itself, fenced until it says [`BrokerStarted`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegisterBroker {
    pub broker_id: BrokerId,
    pub incarnation_id: Uuid,
    pub endpoints: Vec<BrokerEndpoint>,
    pub rack: Option<Arc<str>>,
}

/// The registered process begins to serve: it is unfenced, leads what it led and what only lacks a leader, each under a
/// new leader epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokerStarted {
    pub broker_id: BrokerId,
    pub incarnation_id: Uuid,
}

/// Each topic succeeds or fails alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreateTopics {
    pub topics: Vec<NewTopic>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewTopic {
    pub name: Arc<str>,
    pub id: TopicId,
    /// Replicas by partition, the preferred leader first.
    pub assignments: Vec<Vec<BrokerId>>,
    pub configs: BTreeMap<String, String>,
}

/// By id: a topic that was deleted and created again meanwhile stays.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeleteTopics {
    pub topic_ids: Vec<TopicId>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreatePartitions {
    pub topics: Vec<NewPartitions>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewPartitions {
    pub topic_id: TopicId,
    /// How many partitions the topic had when this was planned. When it has others by now, it is refused.
    pub count_before: i32,
    pub assignments: Vec<Vec<BrokerId>>,
}

/// Changes of one resource's overrides are made together; unknown topics are refused one by one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AlterConfigs {
    pub changes: Vec<ConfigChange>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigChange {
    pub resource: ConfigResource,
    /// Drops every override first: the old AlterConfigs API.
    pub replace: bool,
    pub set: BTreeMap<String, String>,
    pub delete: BTreeSet<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AllocateProducerIds {
    pub broker_id: BrokerId,
    pub count: i32,
}

/// New in-sync replicas or a new leader, each only if the partition is still as the proposer saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChangePartitions {
    pub changes: Vec<PartitionChange>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionChange {
    pub topic_id: TopicId,
    pub partition: i32,
    /// What the proposer saw.
    pub leader_epoch: LeaderEpoch,
    pub partition_epoch: i32,
    pub isr: Option<Vec<BrokerId>>,
    /// May be the same broker, or `NO_LEADER`: the leader epoch rises in any case.
    pub leader: Option<BrokerId>,
}

/// A restore: everything that the former cluster wrote is older from here on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RaiseIncarnation {
    pub incarnation: u32,
    /// No producer id below it is handed out again.
    pub next_producer_id_min: ProducerId,
}
