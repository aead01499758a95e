//! In-sync replicas and leaders change: ChangePartitions, and how partitions are edited in bulk.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use strandline_log::TopicId;

use crate::metadata::command::*;
use crate::metadata::{
    BrokerId, CommandOutcome, MetadataDelta, MetadataError, MetadataImage, NO_LEADER,
    PartitionDelta, PartitionImage, PartitionOutcome, TopicImage,
};

pub(super) fn change_partitions(
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
pub(super) struct TopicEdits {
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

    pub(super) fn set(
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

    pub(super) fn finish(self, image: &mut MetadataImage) {
        for topic in self.topics.into_values() {
            image.topics.put(topic);
        }
    }
}

pub(super) fn partition_delta(
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
