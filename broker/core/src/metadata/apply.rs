//! A command and an image give the next image, what changed, and the outcome.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use strandline_log::TopicId;

use super::command::*;
use super::{
    BrokerId, BrokerRegistration, CommandOutcome, ConfigResource, MetadataDelta, MetadataError,
    MetadataImage, NO_LEADER, PartitionDelta, PartitionImage, PartitionOutcome, ProducerIdBlock,
    TopicImage, TopicOutcome,
};

/// Kafka's longest topic name: with the partition's number it must fit a folder's name.
const TOPIC_NAME_BYTES_MAX: usize = 249;

#[derive(Clone, Debug)]
pub struct Applied {
    pub image: MetadataImage,
    pub delta: MetadataDelta,
    pub outcome: CommandOutcome,
}

/// Every command raises the image's offset by one, also one that is refused.
pub fn apply(image: &MetadataImage, command: &Command) -> Applied {
    let mut next = image.clone();
    next.offset += 1;
    let mut delta = MetadataDelta::default();
    let result = match command {
        Command::InitCluster(c) => init_cluster(&mut next, &mut delta, c),
        _ if !image.is_initialized() => Err(MetadataError::NotInitialized),
        Command::RegisterBroker(c) => register_broker(&mut next, &mut delta, c),
        Command::BrokerStarted(c) => broker_started(&mut next, &mut delta, c),
        Command::CreateTopics(c) => Ok(create_topics(&mut next, &mut delta, c)),
        Command::DeleteTopics(c) => Ok(delete_topics(&mut next, &mut delta, c)),
        Command::CreatePartitions(c) => Ok(create_partitions(&mut next, &mut delta, c)),
        Command::AlterConfigs(c) => Ok(alter_configs(&mut next, &mut delta, c)),
        Command::AllocateProducerIds(c) => allocate_producer_ids(&mut next, &mut delta, c),
        Command::ChangePartitions(c) => Ok(change_partitions(&mut next, &mut delta, c)),
        Command::RaiseIncarnation(c) => raise_incarnation(&mut next, &mut delta, c),
    };
    Applied {
        image: next,
        delta,
        outcome: result.unwrap_or_else(CommandOutcome::Refused),
    }
}

type Outcome = Result<CommandOutcome, MetadataError>;

fn init_cluster(
    image: &mut MetadataImage,
    delta: &mut MetadataDelta,
    command: &InitCluster,
) -> Outcome {
    let fresh = !image.is_initialized();
    if fresh {
        if command.cluster_id.is_empty() || command.incarnation == 0 {
            let text = "A cluster needs an id and an incarnation of at least 1.";
            return Err(MetadataError::InvalidRequest(text.into()));
        }
        image.cluster_id = command.cluster_id.clone();
        image.incarnation = command.incarnation;
        image.features = command
            .features
            .iter()
            .map(|(k, v)| (k.clone(), *v))
            .collect();
        delta.cluster_changed = true;
    }
    Ok(cluster_outcome(image, fresh))
}

fn raise_incarnation(
    image: &mut MetadataImage,
    delta: &mut MetadataDelta,
    command: &RaiseIncarnation,
) -> Outcome {
    if command.incarnation <= image.incarnation {
        return Err(MetadataError::IncarnationNotRaised {
            given: command.incarnation,
            current: image.incarnation,
        });
    }
    image.incarnation = command.incarnation;
    image.next_producer_id = image.next_producer_id.max(command.next_producer_id_min);
    delta.cluster_changed = true;
    Ok(cluster_outcome(image, false))
}

fn cluster_outcome(image: &MetadataImage, fresh: bool) -> CommandOutcome {
    CommandOutcome::Cluster {
        cluster_id: image.cluster_id.clone(),
        incarnation: image.incarnation,
        fresh,
    }
}

fn register_broker(
    image: &mut MetadataImage,
    delta: &mut MetadataDelta,
    command: &RegisterBroker,
) -> Outcome {
    if command.broker_id < 0 {
        let text = format!("{} is no broker id.", command.broker_id);
        return Err(MetadataError::InvalidRequest(text));
    }
    let broker_epoch = image.offset;
    let registration = BrokerRegistration {
        broker_id: command.broker_id,
        incarnation_id: command.incarnation_id,
        broker_epoch,
        endpoints: command.endpoints.clone(),
        rack: command.rack.clone(),
        fenced: true,
    };
    image
        .brokers
        .insert(command.broker_id, Arc::new(registration));
    delta.brokers_changed.push(command.broker_id);
    Ok(CommandOutcome::BrokerRegistered { broker_epoch })
}

fn broker_started(
    image: &mut MetadataImage,
    delta: &mut MetadataDelta,
    command: &BrokerStarted,
) -> Outcome {
    let id = command.broker_id;
    let broker = image
        .broker(id)
        .ok_or(MetadataError::BrokerNotRegistered(id))?;
    if broker.incarnation_id != command.incarnation_id {
        return Err(MetadataError::StaleBrokerEpoch(id));
    }
    if broker.fenced {
        let unfenced = BrokerRegistration {
            fenced: false,
            ..BrokerRegistration::clone(broker)
        };
        image.brokers.insert(id, Arc::new(unfenced));
        delta.brokers_changed.push(id);
    }
    let leads =
        |p: &PartitionImage| p.leader == id || (p.leader == NO_LEADER && p.isr.contains(&id));
    let mut topics = TopicEdits::default();
    for topic in image.topics.iter() {
        for (number, partition) in topic.partitions.iter().enumerate() {
            if leads(partition) {
                let after = PartitionImage {
                    leader: id,
                    leader_epoch: partition.leader_epoch.saturating_add(1),
                    partition_epoch: partition.partition_epoch.saturating_add(1),
                    ..PartitionImage::clone(partition)
                };
                topics.set(topic, number, after, delta);
            }
        }
    }
    topics.finish(image);
    Ok(CommandOutcome::BrokerStarted {
        partitions_led: delta.partitions_changed.len(),
    })
}

fn create_topics(
    image: &mut MetadataImage,
    delta: &mut MetadataDelta,
    command: &CreateTopics,
) -> CommandOutcome {
    let mut outcomes = Vec::with_capacity(command.topics.len());
    for new in &command.topics {
        let result = validate_new_topic(image, new).map(|()| {
            let topic = Arc::new(TopicImage {
                name: new.name.clone(),
                id: new.id,
                partitions: new
                    .assignments
                    .iter()
                    .map(|a| new_partition(image, a))
                    .collect(),
            });
            image.topics.put(topic.clone());
            let resource = ConfigResource::Topic(new.name.clone());
            image.configs.put(resource, new.configs.clone());
            delta.topics_created.push(topic.clone());
            topic
        });
        outcomes.push(TopicOutcome {
            topic_id: new.id,
            result,
        });
    }
    CommandOutcome::Topics(outcomes)
}

/// What `CreateTopics` would say to this topic now. For requests that only ask.
pub fn validate_new_topic(image: &MetadataImage, new: &NewTopic) -> Result<(), MetadataError> {
    validate_topic_name(&new.name)?;
    if image.topics.get(&new.name).is_some() {
        return Err(MetadataError::TopicAlreadyExists(new.name.clone()));
    }
    if let Some(other) = image.topics.colliding(&new.name) {
        let text = format!("Topic '{}' collides with existing topic: {other}", new.name);
        return Err(MetadataError::InvalidTopic(text));
    }
    if new.id.is_nil() || image.topics.get_by_id(&new.id).is_some() {
        return Err(MetadataError::TopicIdInUse(new.id));
    }
    if new.assignments.is_empty() {
        let text = "Number of partitions must be larger than 0.";
        return Err(MetadataError::InvalidPartitions(text.into()));
    }
    validate_assignments(image, &new.assignments, new.assignments[0].len())
}

/// Kafka's rules for a topic's name.
pub fn validate_topic_name(name: &str) -> Result<(), MetadataError> {
    let reason = if name.is_empty() {
        "the empty string is not allowed".to_owned()
    } else if name == "." || name == ".." {
        format!("'{name}' is not allowed")
    } else if name.len() > TOPIC_NAME_BYTES_MAX {
        format!(
            "the length of '{name}' is longer than the max allowed length {TOPIC_NAME_BYTES_MAX}"
        )
    } else if !name
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
    {
        format!(
            "'{name}' contains one or more characters other than ASCII alphanumerics, '.', '_' and '-'"
        )
    } else {
        return Ok(());
    };
    Err(MetadataError::InvalidTopic(format!(
        "Topic name is invalid: {reason}"
    )))
}

fn validate_assignments(
    image: &MetadataImage,
    assignments: &[Vec<BrokerId>],
    replicas: usize,
) -> Result<(), MetadataError> {
    let refuse = |text| Err(MetadataError::InvalidReplicaAssignment(text));
    for (partition, assignment) in assignments.iter().enumerate() {
        if assignment.is_empty() {
            return refuse(
                "The manual partition assignment includes an empty replica list.".to_owned(),
            );
        }
        if assignment.len() != replicas {
            return refuse(format!(
                "The manual partition assignment includes a partition with {} replica(s), but this is not consistent \
                 with previous partitions, which have {replicas} replica(s).",
                assignment.len()
            ));
        }
        let distinct: BTreeSet<_> = assignment.iter().collect();
        if distinct.len() != assignment.len() {
            return refuse(
                "The manual partition assignment includes a broker more than once.".to_owned(),
            );
        }
        if let Some(unknown) = assignment.iter().find(|id| image.broker(**id).is_none()) {
            return refuse(format!(
                "The manual partition assignment includes broker {unknown}, but no such broker is registered."
            ));
        }
        if !assignment.iter().any(|id| image.is_active(*id)) {
            return refuse(format!(
                "All brokers specified in the manual partition assignment for partition {partition} are fenced."
            ));
        }
    }
    Ok(())
}

/// Led by the first replica that is up; whoever is up is in sync with an empty log.
fn new_partition(image: &MetadataImage, assignment: &[BrokerId]) -> Arc<PartitionImage> {
    let isr: Arc<[BrokerId]> = assignment
        .iter()
        .copied()
        .filter(|id| image.is_active(*id))
        .collect();
    Arc::new(PartitionImage {
        replicas: assignment.into(),
        leader: isr.first().copied().unwrap_or(NO_LEADER),
        isr,
        leader_epoch: 0,
        partition_epoch: 0,
    })
}

fn delete_topics(
    image: &mut MetadataImage,
    delta: &mut MetadataDelta,
    command: &DeleteTopics,
) -> CommandOutcome {
    let mut outcomes = Vec::with_capacity(command.topic_ids.len());
    for topic_id in &command.topic_ids {
        let removed = image.topics.remove(topic_id);
        if let Some(topic) = &removed {
            image
                .configs
                .remove(&ConfigResource::Topic(topic.name.clone()));
            delta.topics_deleted.push(topic.clone());
        }
        outcomes.push(TopicOutcome {
            topic_id: *topic_id,
            result: removed.ok_or(MetadataError::UnknownTopicId),
        });
    }
    CommandOutcome::Topics(outcomes)
}

fn create_partitions(
    image: &mut MetadataImage,
    delta: &mut MetadataDelta,
    command: &CreatePartitions,
) -> CommandOutcome {
    let mut outcomes = Vec::with_capacity(command.topics.len());
    for new in &command.topics {
        let result = add_partitions(image, new).inspect(|topic| {
            let first = topic.partitions.len() - new.assignments.len();
            for (number, after) in topic.partitions.iter().enumerate().skip(first) {
                delta
                    .partitions_changed
                    .push(partition_delta(topic, number, None, after));
            }
        });
        outcomes.push(TopicOutcome {
            topic_id: new.topic_id,
            result,
        });
    }
    CommandOutcome::Topics(outcomes)
}

fn add_partitions(
    image: &mut MetadataImage,
    new: &NewPartitions,
) -> Result<Arc<TopicImage>, MetadataError> {
    let before = image
        .topics
        .get_by_id(&new.topic_id)
        .ok_or(MetadataError::UnknownTopicId)?;
    if before.partition_count() != new.count_before {
        let text = format!(
            "The topic has {} partition(s) by now, not {}.",
            before.partition_count(),
            new.count_before
        );
        return Err(MetadataError::InvalidPartitions(text));
    }
    if new.assignments.is_empty() {
        let text = format!(
            "Topic already has {} partition(s).",
            before.partition_count()
        );
        return Err(MetadataError::InvalidPartitions(text));
    }
    let replicas = before
        .partitions
        .first()
        .map_or(new.assignments[0].len(), |p| p.replicas.len());
    validate_assignments(image, &new.assignments, replicas)?;
    let mut topic = TopicImage::clone(before);
    topic
        .partitions
        .extend(new.assignments.iter().map(|a| new_partition(image, a)));
    let topic = Arc::new(topic);
    image.topics.put(topic.clone());
    Ok(topic)
}

fn alter_configs(
    image: &mut MetadataImage,
    delta: &mut MetadataDelta,
    command: &AlterConfigs,
) -> CommandOutcome {
    let mut outcomes = Vec::with_capacity(command.changes.len());
    for change in &command.changes {
        let result = alter_resource(image, change).map(|changed| {
            if changed && !delta.configs_changed.contains(&change.resource) {
                delta.configs_changed.push(change.resource.clone());
            }
        });
        outcomes.push((change.resource.clone(), result));
    }
    CommandOutcome::Configs(outcomes)
}

fn alter_resource(image: &mut MetadataImage, change: &ConfigChange) -> Result<bool, MetadataError> {
    match &change.resource {
        ConfigResource::Topic(name) if image.topics.get(name).is_none() => {
            return Err(MetadataError::UnknownTopicOrPartition);
        }
        ConfigResource::Broker(id) if image.broker(*id).is_none() => {
            return Err(MetadataError::BrokerNotRegistered(*id));
        }
        _ => {}
    }
    let before = image.configs.overrides(&change.resource);
    let mut values = if change.replace {
        BTreeMap::new()
    } else {
        BTreeMap::clone(&before)
    };
    values.retain(|name, _| !change.delete.contains(name));
    values.extend(change.set.iter().map(|(k, v)| (k.clone(), v.clone())));
    if values == *before {
        return Ok(false);
    }
    image.configs.put(change.resource.clone(), values);
    Ok(true)
}

fn allocate_producer_ids(
    image: &mut MetadataImage,
    delta: &mut MetadataDelta,
    command: &AllocateProducerIds,
) -> Outcome {
    if image.broker(command.broker_id).is_none() {
        return Err(MetadataError::BrokerNotRegistered(command.broker_id));
    }
    if command.count < 1 {
        let text = format!("{} is no number of producer ids.", command.count);
        return Err(MetadataError::InvalidRequest(text));
    }
    let block = ProducerIdBlock {
        broker_id: command.broker_id,
        first: image.next_producer_id,
        count: command.count,
    };
    image.next_producer_id = block
        .first
        .checked_add(i64::from(block.count))
        .ok_or(MetadataError::ProducerIdsExhausted)?;
    delta.producer_ids = Some(block);
    Ok(CommandOutcome::ProducerIds(block))
}

fn change_partitions(
    image: &mut MetadataImage,
    delta: &mut MetadataDelta,
    command: &ChangePartitions,
) -> CommandOutcome {
    let mut topics = TopicEdits::default();
    let mut outcomes = Vec::with_capacity(command.changes.len());
    for change in &command.changes {
        let result = topics.current(image, &change.topic_id).and_then(|topic| {
            let after = changed_partition(image, &topic, change)?;
            let number = usize::try_from(change.partition)
                .map_err(|_| MetadataError::UnknownTopicOrPartition)?;
            Ok(topics.set(&topic, number, after, delta))
        });
        outcomes.push(PartitionOutcome {
            topic_id: change.topic_id,
            partition: change.partition,
            result,
        });
    }
    topics.finish(image);
    CommandOutcome::Partitions(outcomes)
}

fn changed_partition(
    image: &MetadataImage,
    topic: &TopicImage,
    change: &PartitionChange,
) -> Result<PartitionImage, MetadataError> {
    let before = topic
        .partition(change.partition)
        .ok_or(MetadataError::UnknownTopicOrPartition)?;
    if change.leader_epoch != before.leader_epoch {
        return Err(MetadataError::FencedLeaderEpoch {
            given: change.leader_epoch,
            current: before.leader_epoch,
        });
    }
    if change.partition_epoch != before.partition_epoch {
        return Err(MetadataError::InvalidUpdateVersion {
            given: change.partition_epoch,
            current: before.partition_epoch,
        });
    }
    let mut after = PartitionImage::clone(before);
    after.partition_epoch = before.partition_epoch.saturating_add(1);
    if let Some(isr) = &change.isr {
        let distinct: BTreeSet<_> = isr.iter().collect();
        if isr.is_empty()
            || distinct.len() != isr.len()
            || !isr.iter().all(|id| before.replicas.contains(id))
        {
            let text = format!("{isr:?} are no in-sync replicas of {:?}.", before.replicas);
            return Err(MetadataError::InvalidRequest(text));
        }
        // Who is in sync already may stay while it is fenced: taking it out is somebody's explicit change.
        let joins = |id: &&BrokerId| !before.isr.contains(id) && !image.is_active(**id);
        if let Some(fenced) = isr.iter().find(joins) {
            let text = format!("Broker {fenced} is fenced and cannot become in-sync.");
            return Err(MetadataError::IneligibleReplica(text));
        }
        after.isr = isr.as_slice().into();
    }
    if let Some(leader) = change.leader {
        if leader != NO_LEADER && !image.is_active(leader) {
            let text = format!("Broker {leader} is fenced and cannot lead.");
            return Err(MetadataError::IneligibleReplica(text));
        }
        after.leader = leader;
        after.leader_epoch = before.leader_epoch.saturating_add(1);
    }
    if after.leader != NO_LEADER && !after.isr.contains(&after.leader) {
        let text = format!(
            "The leader {} is not among the in-sync replicas {:?}.",
            after.leader, after.isr
        );
        return Err(MetadataError::InvalidRequest(text));
    }
    Ok(after)
}

/// Collects changes of partitions, so that a thousand in one topic copy its list once.
#[derive(Default)]
struct TopicEdits {
    topics: BTreeMap<TopicId, Arc<TopicImage>>,
}

impl TopicEdits {
    fn current(
        &self,
        image: &MetadataImage,
        id: &TopicId,
    ) -> Result<Arc<TopicImage>, MetadataError> {
        let topic = self.topics.get(id).or_else(|| image.topics.get_by_id(id));
        topic.cloned().ok_or(MetadataError::UnknownTopicId)
    }

    fn set(
        &mut self,
        topic: &Arc<TopicImage>,
        number: usize,
        after: PartitionImage,
        delta: &mut MetadataDelta,
    ) -> Arc<PartitionImage> {
        let after = Arc::new(after);
        let edited = self.topics.entry(topic.id).or_insert_with(|| topic.clone());
        let before =
            std::mem::replace(&mut Arc::make_mut(edited).partitions[number], after.clone());
        delta
            .partitions_changed
            .push(partition_delta(topic, number, Some(before), &after));
        after
    }

    fn finish(self, image: &mut MetadataImage) {
        for topic in self.topics.into_values() {
            image.topics.put(topic);
        }
    }
}

fn partition_delta(
    topic: &TopicImage,
    number: usize,
    before: Option<Arc<PartitionImage>>,
    after: &Arc<PartitionImage>,
) -> PartitionDelta {
    PartitionDelta {
        topic: topic.name.clone(),
        topic_id: topic.id,
        partition: i32::try_from(number).unwrap_or(i32::MAX),
        before,
        after: after.clone(),
    }
}
