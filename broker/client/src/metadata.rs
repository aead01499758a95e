//! What the client knows of the cluster: a value, replaced as a whole.

use std::collections::BTreeMap;
use std::sync::Arc;

use kafka_protocol::messages::MetadataResponse;
use strandline_log::{LeaderEpoch, TopicId};
use strandline_wire::{KafkaError, error_from_code};

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Broker {
    pub node_id: i32,
    pub host: String,
    pub port: i32,
    pub rack: Option<String>,
}

impl Broker {
    pub fn address(&self) -> String {
        // An IPv6 address needs its brackets.
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PartitionMetadata {
    pub leader: Option<i32>,
    pub leader_epoch: LeaderEpoch,
    pub replicas: Vec<i32>,
    pub in_sync_replicas: Vec<i32>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TopicMetadata {
    pub topic_id: TopicId,
    pub is_internal: bool,
    pub partitions: BTreeMap<i32, PartitionMetadata>,
}

#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Metadata {
    pub cluster_id: Option<String>,
    pub controller_id: Option<i32>,
    pub brokers: BTreeMap<i32, Broker>,
    pub topics: BTreeMap<Arc<str>, Arc<TopicMetadata>>,
}

impl Metadata {
    pub fn partition(&self, topic: &str, partition: i32) -> Option<&PartitionMetadata> {
        self.topics.get(topic)?.partitions.get(&partition)
    }

    /// The broker that leads a partition, when it is known and there.
    pub fn leader(&self, topic: &str, partition: i32) -> Option<&Broker> {
        let leader = self.partition(topic, partition)?.leader?;
        self.brokers.get(&leader)
    }

    /// Takes an answer in: brokers are replaced, topics that it names are replaced or dropped. A topic's own error is
    /// returned with its name. With `all`, topics that it does not name are gone.
    pub(crate) fn merge(
        &mut self,
        response: &MetadataResponse,
        all: bool,
    ) -> Vec<(String, KafkaError)> {
        let brokers = response.brokers.iter().map(|broker| {
            let broker = Broker {
                node_id: broker.node_id.0,
                host: broker.host.to_string(),
                port: broker.port,
                rack: broker.rack.as_ref().map(|rack| rack.to_string()),
            };
            (broker.node_id, broker)
        });
        self.brokers = brokers.collect();
        self.controller_id = Some(response.controller_id.0).filter(|id| *id >= 0);
        if let Some(cluster_id) = &response.cluster_id {
            self.cluster_id = Some(cluster_id.to_string());
        }
        if all {
            self.topics.clear();
        }
        let mut errors = Vec::new();
        for topic in &response.topics {
            let Some(name) = &topic.name else { continue };
            if let Some(error) = error_from_code(topic.error_code) {
                self.topics.remove(name.0.as_str());
                errors.push((name.0.to_string(), error));
                continue;
            }
            let partitions = topic.partitions.iter().map(|partition| {
                let metadata = PartitionMetadata {
                    leader: Some(partition.leader_id.0).filter(|id| *id >= 0),
                    leader_epoch: partition.leader_epoch,
                    replicas: partition.replica_nodes.iter().map(|id| id.0).collect(),
                    in_sync_replicas: partition.isr_nodes.iter().map(|id| id.0).collect(),
                };
                (partition.partition_index, metadata)
            });
            let metadata = TopicMetadata {
                topic_id: topic.topic_id,
                is_internal: topic.is_internal,
                partitions: partitions.collect(),
            };
            self.topics
                .insert(Arc::from(name.0.as_str()), Arc::new(metadata));
        }
        errors
    }
}
