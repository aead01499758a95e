//! Topics come, go and grow: CreateTopics, DeleteTopics, CreatePartitions.

use std::collections::BTreeSet;
use std::sync::Arc;

use strandline_log::LeaderEpoch;

use super::partitions::partition_delta;
use crate::metadata::command::*;
use crate::metadata::{
    BrokerId, CommandOutcome, ConfigResource, MetadataDelta, MetadataError, MetadataImage,
    NO_LEADER, PartitionImage, TopicImage, TopicOutcome,
};

/// Kafka's longest topic name: with the partition's number it must fit a folder's name.
const TOPIC_NAME_BYTES_MAX: usize = 249;
/// A million terms of one partition within one incarnation: a leader per second for eleven days.
const EPOCH_RANGE_BITS: u32 = 20;

pub(super) fn create_topics(
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

/// The epoch of a partition's first leader. A restored cluster begins in a range of its own, beyond all that the former
/// one can have used: epochs of one partition must rise through all incarnations.
pub fn first_leader_epoch(incarnation: u32) -> LeaderEpoch {
    let range = incarnation
        .saturating_sub(1)
        .min(LeaderEpoch::MAX as u32 >> EPOCH_RANGE_BITS);
    LeaderEpoch::try_from(range << EPOCH_RANGE_BITS).unwrap_or(LeaderEpoch::MAX)
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
        leader_epoch: first_leader_epoch(image.incarnation),
        partition_epoch: 0,
    })
}

pub(super) fn delete_topics(
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

pub(super) fn create_partitions(
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
