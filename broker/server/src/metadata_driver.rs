//! Keeps this broker as the metadata image says: what it hosts, what it leads, how its logs are set.
//!
//! 1. At the start it loads the logs that the image knows, and hosts what it should.
//! 2. Then it takes one update after the other, in the log's order: deletes, creates, changes leaders and configs.
//! 3. After each it publishes the image's offset. Whoever proposed a change waits for that, so that a client that was
//!    told of a topic finds it.
//!
//! What always holds: updates are reconciled in order and none is left out. Disk work happens on a blocking thread.

use std::sync::{Arc, OnceLock, Weak};

use parking_lot::Mutex;
use strandline_core::metadata::{
    BrokerId, Command, CommandOutcome, ConfigResource, CreateTopics, MetadataDelta, MetadataImage,
    NewTopic, PartitionImage, RaiseIncarnation, TopicImage,
};
use strandline_log::{Log, TopicPartition};
use strandline_metadata::{MetadataQuorum, MetadataUpdates, ProposeError};
use strandline_tiering::format::TopicMarker;
use strandline_tiering::{RemotePartition, Settled, Tier};
use strandline_wire::KafkaError;
use tokio::sync::watch;

use crate::api::CONSUMER_OFFSETS_TOPIC;
use crate::config::BrokerConfig;
use crate::group_driver::GroupDriver;
use crate::partition::Partition;
use crate::replica_manager::ReplicaManager;
use crate::tier_driver::TierDriver;
use crate::{clock, errors, topic_config};

pub struct MetadataDriver {
    config: Arc<BrokerConfig>,
    quorum: Arc<MetadataQuorum>,
    replicas: Arc<ReplicaManager>,
    tier: TierDriver,
    groups: OnceLock<Arc<GroupDriver>>,
    reconciled: watch::Sender<i64>,
    /// Held by whoever makes this broker as an image says.
    reconciling: Mutex<()>,
    /// For work that outlives the update that began it.
    me: Weak<Self>,
}

impl MetadataDriver {
    pub fn new(
        config: Arc<BrokerConfig>,
        quorum: Arc<MetadataQuorum>,
        replicas: Arc<ReplicaManager>,
        tier: Arc<Tier>,
    ) -> Arc<Self> {
        Arc::new_cyclic(|me| Self {
            config,
            quorum,
            replicas,
            tier: TierDriver::new(tier),
            groups: OnceLock::new(),
            reconciled: watch::Sender::new(-1),
            reconciling: Mutex::new(()),
            me: Weak::clone(me),
        })
    }

    pub fn node_id(&self) -> BrokerId {
        self.config.node_id
    }

    pub fn image(&self) -> Arc<MetadataImage> {
        self.quorum.image()
    }

    /// The coordinators are told which partitions of their topic this broker leads.
    pub(crate) fn set_groups(&self, groups: Arc<GroupDriver>) {
        // Set once, at the start.
        let _ = self.groups.set(groups);
    }

    /// Proposes a change and waits until this broker has reconciled itself with it.
    pub async fn propose(&self, command: Command) -> Result<CommandOutcome, (KafkaError, String)> {
        let outcome = self.quorum.propose(command).await.map_err(propose_error)?;
        let offset = self.quorum.image().offset;
        let mut reconciled = self.reconciled.subscribe();
        match reconciled.wait_for(|reached| *reached >= offset).await {
            Ok(_) => Ok(outcome),
            Err(_) => Err((
                KafkaError::BrokerNotAvailable,
                "The broker is shutting down.".to_owned(),
            )),
        }
    }

    /// Loads the logs of what the image has on this broker. Blocks.
    pub(crate) fn load_logs(&self) -> anyhow::Result<()> {
        let image = self.image();
        let resolve = |tp: &TopicPartition, topic_id| {
            let topic = image
                .topics
                .get(&tp.topic)
                .filter(|topic| topic.id == topic_id)?;
            let partition = topic.partition(tp.partition)?;
            partition
                .replicas
                .contains(&self.config.node_id)
                .then(|| topic_config::log_config(&self.config, &image, &topic.name))
        };
        let report = self.replicas.logs().load_logs(&resolve, clock::now_ms())?;
        let logs = self.replicas.logs();
        if logs.is_a_dir_away() {
            for topic in image.topics.iter() {
                for (index, partition) in (0..).zip(&topic.partitions) {
                    if partition.replicas.contains(&self.config.node_id) {
                        logs.set_away(&TopicPartition::new(Arc::clone(&topic.name), index));
                    }
                }
            }
        }
        for (tp, error) in &report.failed {
            tracing::error!(partition = %tp, %error, "the log cannot be opened: the partition is offline");
        }
        for folder in &report.strays {
            tracing::warn!(folder = %folder.display(), "no topic has this log any more: set aside for deletion");
        }
        let recovered = report
            .logs
            .iter()
            .filter(|(_, report)| report.scanned_segments > 0)
            .count();
        tracing::info!(logs = report.logs.len(), recovered, "loaded the logs");
        Ok(())
    }

    /// Hosts and leads what `image` says. Blocks.
    fn host_all(&self, image: &MetadataImage) {
        let _one_at_a_time = self.reconciling.lock();
        for topic in image.topics.iter() {
            self.host_topic(image, topic);
        }
    }

    /// Takes updates until the quorum shuts down.
    pub(crate) async fn run(self: Arc<Self>, mut updates: MetadataUpdates) {
        let (driver, image) = (Arc::clone(&self), Arc::clone(&updates.image));
        let offset = image.offset;
        blocking(move || driver.host_all(&image)).await;
        self.reconciled.send_replace(offset);
        while let Some(update) = updates.recv().await {
            if !update.delta.is_empty() {
                let driver = Arc::clone(&self);
                let taken = Arc::clone(&update);
                blocking(move || driver.reconcile(&taken.delta, &taken.image)).await;
            }
            self.reconciled.send_replace(update.image.offset);
        }
    }

    /// Makes a topic again that somebody has brought back from the tier, with its id. The raised incarnation makes its
    /// leaders newer than all that ever wrote it. Nothing expires before somebody has looked at it.
    pub(crate) async fn undelete(
        &self,
        topic: &TopicMarker,
    ) -> Result<CommandOutcome, (KafkaError, String)> {
        self.tier.expect_history(topic.topic_id);
        let image = self.image();
        self.propose(Command::RaiseIncarnation(RaiseIncarnation {
            incarnation: image.incarnation.saturating_add(1),
            next_producer_id_min: image.next_producer_id,
        }))
        .await?;
        let configs = [
            ("remote.storage.enable", "true"),
            ("retention.ms", "-1"),
            ("retention.bytes", "-1"),
        ];
        let partitions = usize::try_from(topic.partitions).unwrap_or(0);
        let new = NewTopic {
            name: topic.topic.as_str().into(),
            id: topic.topic_id,
            assignments: vec![vec![self.config.node_id]; partitions],
            configs: configs
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect(),
        };
        self.propose(Command::CreateTopics(CreateTopics { topics: vec![new] }))
            .await
    }

    /// Waits until what `image` holds now is in place.
    pub(crate) async fn caught_up(&self) {
        let offset = self.quorum.image().offset;
        // An error means that the driver ended: the broker is going down.
        let _ = self
            .reconciled
            .subscribe()
            .wait_for(|reached| *reached >= offset)
            .await;
    }

    fn reconcile(&self, delta: &MetadataDelta, image: &MetadataImage) {
        let _one_at_a_time = self.reconciling.lock();
        for topic in &delta.topics_deleted {
            self.delete_topic(topic);
        }
        for topic in &delta.topics_created {
            self.host_topic(image, topic);
        }
        for change in &delta.partitions_changed {
            if let Some(topic) = image.topics.get_by_id(&change.topic_id) {
                self.host_partition(image, topic, change.partition, &change.after);
            }
        }
        for resource in &delta.configs_changed {
            match resource {
                ConfigResource::Topic(name) => self.reconfigure(image, name),
                ConfigResource::Broker(id) if *id != self.config.node_id => {}
                ConfigResource::Broker(_) | ConfigResource::ClusterDefault => {
                    for name in self.replicas.topic_names() {
                        self.reconfigure(image, &name);
                    }
                }
            }
        }
        if delta.cluster_changed {
            // A new incarnation is a new fence for all that is tiered.
            for partition in self.replicas.all() {
                if let Ok(epoch) = partition.check_leader(-1) {
                    self.tier.lead(&partition, image.incarnation, epoch);
                }
            }
        }
    }

    fn host_topic(&self, image: &MetadataImage, topic: &TopicImage) {
        for (index, partition) in (0..).zip(&topic.partitions) {
            self.host_partition(image, topic, index, partition);
        }
    }

    fn host_partition(
        &self,
        image: &MetadataImage,
        topic: &TopicImage,
        index: i32,
        wanted: &PartitionImage,
    ) {
        let node_id = self.config.node_id;
        if !wanted.replicas.contains(&node_id) {
            return;
        }
        let partition = match self.replicas.host(image, topic, index) {
            Ok(partition) => partition,
            Err(error) => {
                tracing::error!(topic = &*topic.name, partition = index, %error, "cannot host the partition");
                return;
            }
        };
        if wanted.leader == node_id {
            self.lead(image, &partition, wanted);
        } else {
            partition.become_follower(wanted.leader, wanted.leader_epoch);
            self.tier.resign(&partition);
            self.tell_groups(&partition, |groups, index| groups.resign(index));
        }
    }

    fn lead(&self, image: &MetadataImage, partition: &Arc<Partition>, wanted: &PartitionImage) {
        if let Some(remote) = self.tier.must_settle(partition, image.incarnation, wanted) {
            // Until then clients are told to come back.
            partition.become_follower(wanted.leader, wanted.leader_epoch);
            self.tell_groups(partition, |groups, index| groups.resign(index));
            let (driver, partition) = (Weak::clone(&self.me), Arc::clone(partition));
            let places = self.tier.settling();
            tokio::spawn(async move {
                let Some(settled) = TierDriver::settle(&remote, &places).await else {
                    return;
                };
                let Some(driver) = driver.upgrade() else {
                    return;
                };
                blocking(move || driver.lead_settled(&partition, &remote, settled)).await;
            });
            return;
        }
        let new_term = partition.become_leader(wanted);
        if partition.is_leader() {
            self.tier
                .lead(partition, image.incarnation, wanted.leader_epoch);
        }
        if new_term {
            self.tell_groups(partition, |groups, index| {
                groups.lead(index, Arc::clone(partition))
            });
        }
    }

    /// The log holds now what the tier does: it is led, if the term still runs.
    fn lead_settled(
        &self,
        partition: &Arc<Partition>,
        remote: &Arc<RemotePartition>,
        settled: Settled,
    ) {
        let _one_at_a_time = self.reconciling.lock();
        // A crash must not forget where a log begins that was cut.
        if matches!(settled, Settled::StartedAt(_))
            && let Err(error) = self.replicas.logs().checkpoint()
        {
            tracing::error!(%error, "could not write the checkpoints");
        }
        let image = self.image();
        let tp = partition.topic_partition();
        let wanted = image
            .topics
            .get(&tp.topic)
            .filter(|topic| topic.id == partition.topic_id())
            .and_then(|topic| topic.partition(tp.partition));
        if let Some(wanted) = wanted
            && wanted.leader == self.config.node_id
            && wanted.leader_epoch == remote.fence().leader_epoch
            && !remote.is_gone()
        {
            partition.set_remote(Some(Arc::clone(remote)));
            self.lead(&image, partition, wanted);
        }
    }

    fn tell_groups(&self, partition: &Partition, tell: impl FnOnce(&GroupDriver, i32)) {
        let tp = partition.topic_partition();
        if &*tp.topic == CONSUMER_OFFSETS_TOPIC
            && let Some(groups) = self.groups.get()
        {
            tell(groups, tp.partition);
        }
    }

    fn delete_topic(&self, topic: &TopicImage) {
        let mut tiered = false;
        for partition in self.replicas.unhost_topic(topic) {
            tiered |= may_be_tiered(partition.log());
            self.tell_groups(&partition, |groups, index| groups.resign(index));
            self.tier.tier().resign(partition.topic_partition());
        }
        if tiered {
            self.tier
                .tier()
                .delete_topic(&topic.name, topic.id, topic.partition_count());
        }
        if let Some(groups) = self.groups.get() {
            groups.topics_deleted(vec![topic.name.to_string()]);
        }
    }

    fn reconfigure(&self, image: &MetadataImage, topic: &str) {
        for partition in &self.replicas.reconfigure(image, topic) {
            if let Ok(epoch) = partition.check_leader(-1) {
                let was_tiered = partition.remote().is_some();
                self.tier.lead(partition, image.incarnation, epoch);
                // remote.log.delete.on.disable: what is only remote is given up, and hidden at once.
                if was_tiered && partition.remote().is_none() {
                    let log = partition.log();
                    if let Err(error) = log.increment_log_start_offset(log.local_log_start_offset())
                    {
                        tracing::error!(partition = %log.topic_partition(), %error, "the log start did not move");
                    }
                    partition.fetch_waiters.mark_all();
                }
            }
        }
    }
}

/// Settings may have changed since it was tiered: a start below the local one says that it was.
fn may_be_tiered(log: &Log) -> bool {
    let config = log.config();
    config.remote_storage_enable
        || config.remote_log_delete_on_disable
        || log.log_start_offset() < log.local_log_start_offset()
}

fn propose_error(error: ProposeError) -> (KafkaError, String) {
    (errors::propose_error(&error), error.to_string())
}

async fn blocking(work: impl FnOnce() + Send + 'static) {
    if tokio::task::spawn_blocking(work).await.is_err() {
        tracing::error!(
            "reconciling with the metadata failed by a bug; the broker may not be what the image says"
        );
    }
}
