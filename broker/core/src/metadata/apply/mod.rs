//! A command and an image give the next image, what changed, and the outcome.
//!
//! Here are the cluster, its brokers and producer ids; topics, partitions and configs have files of their own.

mod configs;
mod partitions;
mod topics;

use std::sync::Arc;

pub use topics::{validate_new_topic, validate_topic_name};

use super::command::*;
use super::{
    BrokerRegistration, CommandOutcome, MetadataDelta, MetadataError, MetadataImage, NO_LEADER,
    PartitionImage, ProducerIdBlock,
};
use configs::alter_configs;
use partitions::{TopicEdits, change_partitions};
pub use topics::first_leader_epoch;
use topics::{create_partitions, create_topics, delete_topics};

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
