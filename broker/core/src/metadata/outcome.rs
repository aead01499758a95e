//! What became of a command, for whoever proposed it.

use std::sync::Arc;

use kafka_protocol::ResponseError;
use strandline_log::{LeaderEpoch, TopicId};

use super::{BrokerId, ConfigResource, PartitionImage, ProducerIdBlock, TopicImage};

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CommandOutcome {
    /// The id and incarnation that the cluster has now; `fresh` when this command gave them.
    Cluster {
        cluster_id: Arc<str>,
        incarnation: u32,
        fresh: bool,
    },
    BrokerRegistered {
        broker_epoch: i64,
    },
    BrokerStarted {
        /// Partitions that the broker leads now, each under a new leader epoch.
        partitions_led: usize,
    },
    /// Of CreateTopics, DeleteTopics and CreatePartitions, in the command's order.
    Topics(Vec<TopicOutcome>),
    /// Of AlterConfigs, in the command's order.
    Configs(Vec<(ConfigResource, Result<(), MetadataError>)>),
    ProducerIds(ProducerIdBlock),
    /// Of ChangePartitions, in the command's order.
    Partitions(Vec<PartitionOutcome>),
    /// The command as a whole changed nothing.
    Refused(MetadataError),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicOutcome {
    pub topic_id: TopicId,
    /// The topic as it is now (of a deleted one, as it was).
    pub result: Result<Arc<TopicImage>, MetadataError>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionOutcome {
    pub topic_id: TopicId,
    pub partition: i32,
    pub result: Result<Arc<PartitionImage>, MetadataError>,
}

/// Why a command, or a part of it, was refused. Displays as the message that a client may see.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MetadataError {
    #[error("Topic '{0}' already exists.")]
    TopicAlreadyExists(Arc<str>),
    #[error("A topic with id {0} already exists.")]
    TopicIdInUse(TopicId),
    #[error("{0}")]
    InvalidTopic(String),
    #[error("{0}")]
    InvalidPartitions(String),
    #[error("{0}")]
    InvalidReplicationFactor(String),
    #[error("{0}")]
    InvalidReplicaAssignment(String),
    #[error("This server does not host this topic ID.")]
    UnknownTopicId,
    #[error("This server does not host this topic-partition.")]
    UnknownTopicOrPartition,
    #[error("The broker {0} is not registered.")]
    BrokerNotRegistered(BrokerId),
    #[error("The registration of broker {0} belongs to another process.")]
    StaleBrokerEpoch(BrokerId),
    #[error("The leader epoch is {current}, not {given}.")]
    FencedLeaderEpoch {
        given: LeaderEpoch,
        current: LeaderEpoch,
    },
    #[error("The partition epoch is {current}, not {given}.")]
    InvalidUpdateVersion { given: i32, current: i32 },
    #[error("{0}")]
    IneligibleReplica(String),
    #[error("{0}")]
    InvalidRequest(String),
    #[error("The cluster has no id yet.")]
    NotInitialized,
    #[error("The incarnation is {current}, which {given} does not raise.")]
    IncarnationNotRaised { given: u32, current: u32 },
    #[error("There are no producer ids left.")]
    ProducerIdsExhausted,
}

impl MetadataError {
    pub fn kafka_error(&self) -> ResponseError {
        match self {
            Self::TopicAlreadyExists(_) => ResponseError::TopicAlreadyExists,
            Self::TopicIdInUse(_) => ResponseError::InvalidRequest,
            Self::InvalidTopic(_) => ResponseError::InvalidTopicException,
            Self::InvalidPartitions(_) => ResponseError::InvalidPartitions,
            Self::InvalidReplicationFactor(_) => ResponseError::InvalidReplicationFactor,
            Self::InvalidReplicaAssignment(_) => ResponseError::InvalidReplicaAssignment,
            Self::UnknownTopicId => ResponseError::UnknownTopicId,
            Self::UnknownTopicOrPartition => ResponseError::UnknownTopicOrPartition,
            Self::BrokerNotRegistered(_) => ResponseError::BrokerIdNotRegistered,
            Self::StaleBrokerEpoch(_) => ResponseError::StaleBrokerEpoch,
            Self::FencedLeaderEpoch { .. } => ResponseError::FencedLeaderEpoch,
            Self::InvalidUpdateVersion { .. } => ResponseError::InvalidUpdateVersion,
            Self::IneligibleReplica(_) => ResponseError::IneligibleReplica,
            Self::InvalidRequest(_) => ResponseError::InvalidRequest,
            Self::NotInitialized
            | Self::IncarnationNotRaised { .. }
            | Self::ProducerIdsExhausted => ResponseError::UnknownServerError,
        }
    }
}
