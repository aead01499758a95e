//! The partitions that this broker hosts, by name, and what makes and unmakes them.
//!
//! What always holds: a partition that is found here has an open log; its topic id is that of the metadata image that
//! it was made from. Making and unmaking happens in one place, the metadata driver, one change after the other.
//! What is not here: what to host (the image says it) and what to lead (the metadata driver compares).

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::RwLock;
use prometheus::{IntGauge, Registry};
use strandline_core::metadata::{BrokerId, MetadataImage, TopicImage};
use strandline_log::{Log, LogManager, TopicId, TopicPartition};
use strandline_wire::KafkaError;

use crate::background::Upkeep;
use crate::clock;
use crate::config::BrokerConfig;
use crate::log_metrics::LogMetrics;
use crate::partition::{AppendThreads, Partition, PartitionMetrics, PartitionParts, TopicMetrics};
use crate::topic_config;

/// What one partition may have queued before its producers' connections are told to wait.
const QUEUE_BYTES_MAX: usize = 32 << 20;
/// Threads that write the logs of one folder. More than two find nothing to do: a partition is drained by one.
const APPEND_THREADS_PER_DIR: usize = 2;
/// Syncs of one folder that run at the same time share the file system's commits.
const COMMIT_THREADS_PER_DIR: usize = 8;

struct HostedTopic {
    id: TopicId,
    metrics: TopicMetrics,
    /// By partition number; none where another broker has the replica.
    partitions: Vec<Option<Arc<Partition>>>,
}

/// The threads of one log folder.
#[derive(Clone)]
struct DirThreads {
    append: Arc<AppendThreads>,
    commit: Arc<AppendThreads>,
}

pub struct ReplicaManager {
    config: Arc<BrokerConfig>,
    logs: Arc<LogManager>,
    upkeep: Upkeep,
    threads: HashMap<PathBuf, DirThreads>,
    topics: RwLock<HashMap<Arc<str>, HostedTopic>>,
    metrics: PartitionMetrics,
    partition_count: IntGauge,
}

impl ReplicaManager {
    /// Starts the append threads. Hosts nothing yet.
    pub fn new(
        config: Arc<BrokerConfig>,
        logs: Arc<LogManager>,
        upkeep: Upkeep,
        registry: &Registry,
    ) -> anyhow::Result<Self> {
        let partition_count = IntGauge::new(
            "strandline_replica_manager_partition_count",
            "Partitions whose replica is on this broker.",
        )?;
        registry.register(Box::new(partition_count.clone()))?;
        let metrics = PartitionMetrics::register(registry)?;
        let log_metrics = LogMetrics::new(Arc::clone(&logs), Arc::clone(metrics.labels()))?;
        registry.register(Box::new(log_metrics))?;
        let mut threads = HashMap::new();
        for dir in logs.dirs() {
            let started = DirThreads {
                append: AppendThreads::start(&dir, APPEND_THREADS_PER_DIR)?,
                commit: AppendThreads::start_commits(&dir, COMMIT_THREADS_PER_DIR)?,
            };
            threads.insert(dir, started);
        }
        Ok(Self {
            config,
            logs,
            upkeep,
            threads,
            topics: RwLock::default(),
            metrics,
            partition_count,
        })
    }

    pub fn logs(&self) -> &Arc<LogManager> {
        &self.logs
    }

    pub fn node_id(&self) -> BrokerId {
        self.config.node_id
    }

    pub fn get(&self, topic: &str, partition: i32) -> Option<Arc<Partition>> {
        let index = usize::try_from(partition).ok()?;
        self.topics
            .read()
            .get(topic)?
            .partitions
            .get(index)?
            .clone()
    }

    /// The partition, or why a client does not find it here.
    pub fn resolve(
        &self,
        image: &MetadataImage,
        topic: &str,
        partition: i32,
    ) -> Result<Arc<Partition>, KafkaError> {
        match self.get(topic, partition) {
            Some(partition) => Ok(partition),
            None if image.topics.partition(topic, partition).is_none() => {
                Err(KafkaError::UnknownTopicOrPartition)
            }
            // Another broker's, or one whose log could not be opened.
            None => Err(KafkaError::NotLeaderOrFollower),
        }
    }

    /// Every hosted partition. For timers and shutdown: linear.
    pub fn all(&self) -> Vec<Arc<Partition>> {
        let topics = self.topics.read();
        topics
            .values()
            .flat_map(|topic| topic.partitions.iter().flatten().cloned())
            .collect()
    }

    pub fn of_topic(&self, topic: &str) -> Vec<Arc<Partition>> {
        let topics = self.topics.read();
        topics.get(topic).map_or_else(Vec::new, |topic| {
            topic.partitions.iter().flatten().cloned().collect()
        })
    }

    /// Opens or makes the log and hosts the partition. Does disk IO.
    pub(crate) fn host(
        &self,
        image: &MetadataImage,
        topic: &TopicImage,
        partition: i32,
    ) -> anyhow::Result<Arc<Partition>> {
        if let Some(hosted) = self.get(&topic.name, partition)
            && hosted.topic_id() == topic.id
        {
            return Ok(hosted);
        }
        let topic_partition = TopicPartition::new(Arc::clone(&topic.name), partition);
        let log = match self.logs.get(&topic_partition) {
            Some(log) if log.topic_id() == topic.id => log,
            found => {
                if found.is_some() {
                    // Of a topic of the same name that is gone.
                    self.logs.delete(&topic_partition)?;
                }
                let config = topic_config::log_config(&self.config, image, &topic.name);
                self.logs
                    .create(&topic_partition, topic.id, config, clock::now_ms())?
            }
        };
        let threads = self.threads_of(&log)?;
        let mut topics = self.topics.write();
        let hosted = topics
            .entry(Arc::clone(&topic.name))
            .or_insert_with(|| HostedTopic {
                id: topic.id,
                metrics: self.metrics.topic(&topic.name),
                partitions: Vec::new(),
            });
        if hosted.id != topic.id {
            hosted.id = topic.id;
            hosted.partitions.clear();
        }
        let made = Partition::new(PartitionParts {
            node_id: self.config.node_id,
            topic_partition,
            topic_id: topic.id,
            log,
            threads: threads.append,
            commits: threads.commit,
            upkeep: self.upkeep.clone(),
            metrics: hosted.metrics.clone(),
            queue_bytes_max: QUEUE_BYTES_MAX,
            lag_ms_max: self.config.i64("replica.lag.time.max.ms"),
        });
        let index = usize::try_from(partition)?;
        if hosted.partitions.len() <= index {
            hosted.partitions.resize(index + 1, None);
        }
        hosted.partitions[index] = Some(Arc::clone(&made));
        self.partition_count.inc();
        Ok(made)
    }

    fn threads_of(&self, log: &Log) -> anyhow::Result<DirThreads> {
        let dir = log.dir().parent().unwrap_or(Path::new("")).to_path_buf();
        self.threads
            .get(&dir)
            .cloned()
            .ok_or_else(|| anyhow::anyhow!("{} is not in a log folder", log.dir().display()))
    }

    /// Lets go of a deleted topic's partitions and deletes their logs. Does disk IO.
    pub(crate) fn unhost_topic(&self, topic: &TopicImage) -> Vec<Arc<Partition>> {
        let hosted = {
            let mut topics = self.topics.write();
            match topics.get(&topic.name) {
                Some(hosted) if hosted.id == topic.id => topics.remove(&topic.name),
                _ => None,
            }
        };
        let Some(hosted) = hosted else {
            return Vec::new();
        };
        self.metrics.forget(&topic.name);
        let partitions: Vec<Arc<Partition>> = hosted.partitions.into_iter().flatten().collect();
        for partition in &partitions {
            partition.close(KafkaError::UnknownTopicOrPartition);
            if let Err(error) = self.logs.delete(partition.topic_partition()) {
                tracing::error!(partition = %partition.topic_partition(), %error, "could not delete the log");
            }
            self.partition_count.dec();
        }
        partitions
    }

    /// New settings for one topic's logs.
    pub(crate) fn reconfigure(&self, image: &MetadataImage, topic: &str) -> Vec<Arc<Partition>> {
        let partitions = self.of_topic(topic);
        if !partitions.is_empty() {
            let config = topic_config::log_config(&self.config, image, topic);
            for partition in &partitions {
                partition.log().set_config(Arc::clone(&config));
                partition.on_config_changed();
                self.upkeep.reconsider(partition);
            }
        }
        partitions
    }

    pub(crate) fn topic_names(&self) -> Vec<Arc<str>> {
        self.topics.read().keys().cloned().collect()
    }

    /// Writes what is queued and ends the append threads. Blocks.
    pub(crate) fn stop_appends(&self) {
        for threads in self.threads.values() {
            threads.append.shutdown();
            threads.commit.shutdown();
        }
    }
}
