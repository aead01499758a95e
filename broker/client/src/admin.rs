//! What administrators do: topics, configs, offsets, log folders.
//!
//! One call names one thing and fails with that thing's error; retriable errors are retried within
//! `default_api_timeout`. `create_topic` may so meet its own earlier attempt and report that the topic exists.

use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::create_topics_request::{
    CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig,
};
use kafka_protocol::messages::delete_records_request::{
    DeleteRecordsPartition, DeleteRecordsTopic,
};
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::incremental_alter_configs_request::{
    AlterConfigsResource, AlterableConfig,
};
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::{
    BrokerId, CreatePartitionsRequest, CreateTopicsRequest, DeleteRecordsRequest,
    DeleteTopicsRequest, DescribeConfigsRequest, DescribeLogDirsRequest,
    IncrementalAlterConfigsRequest, ListOffsetsRequest,
};
use kafka_protocol::protocol::StrBytes;
use strandline_log::{LeaderEpoch, Offset, TimestampMs, TopicId, TopicPartition};

use crate::client::topic_name;
use crate::{Client, ClientError, IsolationLevel, Metadata};

/// A topic to be created. The defaults are the cluster's.
#[derive(Clone, Debug)]
pub struct NewTopic {
    pub name: String,
    /// -1: the cluster's default.
    pub partitions: i32,
    /// -1: the cluster's default.
    pub replication_factor: i16,
    /// Replicas by partition; when given, the two counts above must be -1.
    pub assignments: Vec<Vec<i32>>,
    pub configs: Vec<(String, String)>,
}

impl NewTopic {
    pub fn new(name: impl Into<String>, partitions: i32) -> Self {
        Self {
            name: name.into(),
            partitions,
            replication_factor: -1,
            assignments: Vec::new(),
            configs: Vec::new(),
        }
    }

    pub fn config(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.configs.push((name.into(), value.into()));
        self
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ConfigResourceType {
    Topic,
    Broker,
}

impl ConfigResourceType {
    fn code(self) -> i8 {
        match self {
            ConfigResourceType::Topic => 2,
            ConfigResourceType::Broker => 4,
        }
    }
}

/// What configs belong to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConfigResource {
    pub resource_type: ConfigResourceType,
    /// A topic's name, or a broker's id (empty for all brokers).
    pub name: String,
}

impl ConfigResource {
    pub fn topic(name: impl Into<String>) -> Self {
        Self {
            resource_type: ConfigResourceType::Topic,
            name: name.into(),
        }
    }

    pub fn broker(node_id: i32) -> Self {
        Self {
            resource_type: ConfigResourceType::Broker,
            name: node_id.to_string(),
        }
    }
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConfigEntry {
    pub name: String,
    pub value: Option<String>,
    pub is_read_only: bool,
    pub is_sensitive: bool,
    /// Kafka's `ConfigSource`: 1 is a topic's own, 5 a default.
    pub source: i8,
}

/// Which offset of a partition is asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OffsetSpec {
    Timestamp(TimestampMs),
    Latest,
    Earliest,
    MaxTimestamp,
    EarliestLocal,
    LatestTiered,
    EarliestPendingUpload,
}

impl OffsetSpec {
    pub fn timestamp(self) -> TimestampMs {
        match self {
            OffsetSpec::Timestamp(timestamp) => timestamp,
            OffsetSpec::Latest => -1,
            OffsetSpec::Earliest => -2,
            OffsetSpec::MaxTimestamp => -3,
            OffsetSpec::EarliestLocal => -4,
            OffsetSpec::LatestTiered => -5,
            OffsetSpec::EarliestPendingUpload => -6,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ListedOffset {
    pub offset: Offset,
    pub timestamp: TimestampMs,
    pub leader_epoch: LeaderEpoch,
}

/// A log folder of a broker.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LogDir {
    pub path: String,
    /// -1 where the broker does not say.
    pub total_bytes: i64,
    pub usable_bytes: i64,
    /// Partitions with their size on disk.
    pub partitions: Vec<(TopicPartition, i64)>,
}

#[derive(Clone, Debug)]
pub struct Admin {
    client: Client,
}

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

impl Admin {
    pub fn new(client: Client) -> Admin {
        Admin { client }
    }

    pub fn client(&self) -> &Client {
        &self.client
    }

    fn timeout_ms(&self) -> i32 {
        let timeout = self.client.config().connection.request_timeout;
        i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX)
    }

    /// The whole cluster's metadata, fresh.
    pub async fn describe_cluster(&self) -> Result<Metadata, ClientError> {
        self.client
            .retry("the cluster's metadata", || async {
                self.client.refresh_metadata(None).await
            })
            .await?;
        Ok(Metadata::clone(&self.client.metadata()))
    }

    pub async fn create_topic(&self, topic: &NewTopic) -> Result<TopicId, ClientError> {
        let what = format!("creating topic {}", topic.name);
        let configs = topic.configs.iter().map(|(name, value)| {
            CreatableTopicConfig::default()
                .with_name(text(name))
                .with_value(Some(text(value)))
        });
        let assignments = topic
            .assignments
            .iter()
            .enumerate()
            .map(|(index, replicas)| {
                CreatableReplicaAssignment::default()
                    .with_partition_index(index as i32)
                    .with_broker_ids(replicas.iter().map(|id| BrokerId(*id)).collect())
            });
        let creatable = CreatableTopic::default()
            .with_name(topic_name(&topic.name))
            .with_num_partitions(topic.partitions)
            .with_replication_factor(topic.replication_factor)
            .with_assignments(assignments.collect())
            .with_configs(configs.collect());
        let request = CreateTopicsRequest::default()
            .with_topics(vec![creatable])
            .with_timeout_ms(self.timeout_ms());
        let id = self
            .client
            .retry(&what, || async {
                let response = self.client.send_to_controller(&request).await?;
                let result = response
                    .topics
                    .first()
                    .ok_or_else(|| ClientError::Missing { what: what.clone() })?;
                ClientError::check(result.error_code, result.error_message.as_deref(), || {
                    what.clone()
                })?;
                Ok(result.topic_id)
            })
            .await?;
        self.client.invalidate(&topic.name);
        Ok(id)
    }

    pub async fn delete_topic(&self, topic: &str) -> Result<(), ClientError> {
        let what = format!("deleting topic {topic}");
        let request = DeleteTopicsRequest::default()
            .with_topic_names(vec![topic_name(topic)])
            .with_timeout_ms(self.timeout_ms());
        self.client
            .retry(&what, || async {
                let connection = self.client.any_connection().await?;
                // From version 6 on topics are named in another field.
                let version = connection.version_of::<DeleteTopicsRequest>()?.min(5);
                let response = connection.send_version(version, &request).await?;
                let result = response
                    .responses
                    .first()
                    .ok_or_else(|| ClientError::Missing { what: what.clone() })?;
                // A topic that is not there will not be there later.
                match ClientError::check(result.error_code, result.error_message.as_deref(), || {
                    what.clone()
                }) {
                    Err(error) if error.kafka_error() == Some(UNKNOWN_TOPIC) => Ok(Err(error)),
                    result => result.map(Ok),
                }
            })
            .await??;
        self.client.invalidate(topic);
        Ok(())
    }

    /// Grows a topic to `count` partitions.
    pub async fn create_partitions(&self, topic: &str, count: i32) -> Result<(), ClientError> {
        let what = format!("growing topic {topic}");
        let grown = CreatePartitionsTopic::default()
            .with_name(topic_name(topic))
            .with_count(count)
            .with_assignments(None);
        let request = CreatePartitionsRequest::default()
            .with_topics(vec![grown])
            .with_timeout_ms(self.timeout_ms());
        self.client
            .retry(&what, || async {
                let response = self.client.send_to_controller(&request).await?;
                let result = response
                    .results
                    .first()
                    .ok_or_else(|| ClientError::Missing { what: what.clone() })?;
                ClientError::check(result.error_code, result.error_message.as_deref(), || {
                    what.clone()
                })
            })
            .await?;
        self.client.invalidate(topic);
        Ok(())
    }

    pub async fn describe_configs(
        &self,
        resource: &ConfigResource,
    ) -> Result<Vec<ConfigEntry>, ClientError> {
        let what = format!("configs of {}", resource.name);
        let described = DescribeConfigsResource::default()
            .with_resource_type(resource.resource_type.code())
            .with_resource_name(text(&resource.name))
            .with_configuration_keys(None);
        let request = DescribeConfigsRequest::default().with_resources(vec![described]);
        self.client
            .retry(&what, || async {
                let response = self.client.send_to_any(&request).await?;
                let result = response
                    .results
                    .first()
                    .ok_or_else(|| ClientError::Missing { what: what.clone() })?;
                ClientError::check(result.error_code, result.error_message.as_deref(), || {
                    what.clone()
                })?;
                let entries = result.configs.iter().map(|config| ConfigEntry {
                    name: config.name.to_string(),
                    value: config.value.as_ref().map(|value| value.to_string()),
                    is_read_only: config.read_only,
                    is_sensitive: config.is_sensitive,
                    source: config.config_source,
                });
                Ok(entries.collect())
            })
            .await
    }

    /// Sets configs, or gives them back to their defaults with `None`; others stay as they are.
    pub async fn alter_configs(
        &self,
        resource: &ConfigResource,
        changes: &[(&str, Option<&str>)],
    ) -> Result<(), ClientError> {
        const SET: i8 = 0;
        const DELETE: i8 = 1;
        let what = format!("altering configs of {}", resource.name);
        let configs = changes.iter().map(|(name, value)| {
            AlterableConfig::default()
                .with_name(text(name))
                .with_config_operation(if value.is_some() { SET } else { DELETE })
                .with_value(value.map(text))
        });
        let altered = AlterConfigsResource::default()
            .with_resource_type(resource.resource_type.code())
            .with_resource_name(text(&resource.name))
            .with_configs(configs.collect());
        let request = IncrementalAlterConfigsRequest::default().with_resources(vec![altered]);
        self.client
            .retry(&what, || async {
                let response = self.client.send_to_controller(&request).await?;
                let result = response
                    .responses
                    .first()
                    .ok_or_else(|| ClientError::Missing { what: what.clone() })?;
                ClientError::check(result.error_code, result.error_message.as_deref(), || {
                    what.clone()
                })
            })
            .await
    }

    /// An offset of a partition; `None` when there is none, such as after the last timestamp.
    pub async fn list_offset(
        &self,
        topic: &str,
        partition: i32,
        spec: OffsetSpec,
        isolation_level: IsolationLevel,
    ) -> Result<Option<ListedOffset>, ClientError> {
        let what = format!("offsets of {topic}-{partition}");
        let wanted = ListOffsetsPartition::default()
            .with_partition_index(partition)
            .with_current_leader_epoch(-1)
            .with_timestamp(spec.timestamp());
        let wanted = ListOffsetsTopic::default()
            .with_name(topic_name(topic))
            .with_partitions(vec![wanted]);
        let request = ListOffsetsRequest::default()
            .with_replica_id(BrokerId(-1))
            .with_isolation_level(isolation_level.code())
            .with_timeout_ms(self.timeout_ms())
            .with_topics(vec![wanted]);
        self.client
            .retry(&what, || async {
                let leader = self.client.leader(topic, partition).await?;
                let response = self.client.send_to(leader, &request).await?;
                let result = response
                    .topics
                    .first()
                    .and_then(|topic| topic.partitions.first());
                let result = result.ok_or_else(|| ClientError::Missing { what: what.clone() })?;
                ClientError::check(result.error_code, None, || what.clone())?;
                let (offset, timestamp, leader_epoch) =
                    (result.offset, result.timestamp, result.leader_epoch);
                Ok((offset >= 0).then_some(ListedOffset {
                    offset,
                    timestamp,
                    leader_epoch,
                }))
            })
            .await
    }

    /// Deletes the records before an offset (-1: before the high watermark) and returns the new log start.
    pub async fn delete_records(
        &self,
        topic: &str,
        partition: i32,
        before: Offset,
    ) -> Result<Offset, ClientError> {
        let what = format!("deleting records of {topic}-{partition}");
        let wanted = DeleteRecordsPartition::default()
            .with_partition_index(partition)
            .with_offset(before);
        let wanted = DeleteRecordsTopic::default()
            .with_name(topic_name(topic))
            .with_partitions(vec![wanted]);
        let request = DeleteRecordsRequest::default()
            .with_topics(vec![wanted])
            .with_timeout_ms(self.timeout_ms());
        self.client
            .retry(&what, || async {
                let leader = self.client.leader(topic, partition).await?;
                let response = self.client.send_to(leader, &request).await?;
                let result = response
                    .topics
                    .first()
                    .and_then(|topic| topic.partitions.first());
                let result = result.ok_or_else(|| ClientError::Missing { what: what.clone() })?;
                ClientError::check(result.error_code, None, || what.clone())?;
                Ok(result.low_watermark)
            })
            .await
    }

    /// The log folders of a broker with all their partitions.
    pub async fn describe_log_dirs(&self, node_id: i32) -> Result<Vec<LogDir>, ClientError> {
        let what = format!("log folders of broker {node_id}");
        let request = DescribeLogDirsRequest::default().with_topics(None);
        self.client
            .retry(&what, || async {
                let response = self.client.send_to(node_id, &request).await?;
                ClientError::check(response.error_code, None, || what.clone())?;
                let mut dirs = Vec::new();
                for dir in &response.results {
                    ClientError::check(dir.error_code, None, || {
                        format!("{what}: {}", dir.log_dir)
                    })?;
                    let partitions = dir.topics.iter().flat_map(|topic| {
                        topic.partitions.iter().map(|partition| {
                            let name = TopicPartition::new(
                                topic.name.0.as_str(),
                                partition.partition_index,
                            );
                            (name, partition.partition_size)
                        })
                    });
                    dirs.push(LogDir {
                        path: dir.log_dir.to_string(),
                        total_bytes: dir.total_bytes,
                        usable_bytes: dir.usable_bytes,
                        partitions: partitions.collect(),
                    });
                }
                Ok(dirs)
            })
            .await
    }
}

const UNKNOWN_TOPIC: strandline_wire::KafkaError =
    strandline_wire::KafkaError::UnknownTopicOrPartition;
