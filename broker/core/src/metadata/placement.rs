//! Where the replicas of new partitions go. The proposer plans, the command carries the plan.
//!
//! 1. Brokers that are up are put in one circle that alternates between racks.
//! 2. Partition n is led by the circle's broker at `seed + n`, so that leaders spread evenly.
//! 3. Its other replicas follow along the circle, from a distance that grows by one with each full turn, so that a
//!    failed broker's load spreads over all; racks that have none yet come first.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use super::{BrokerId, MetadataError, MetadataImage, TopicImage};

/// Plans partitions `first ..` of a topic over the brokers that are up. The seed is any number: it only spreads.
pub fn plan_placement(
    image: &MetadataImage,
    first: i32,
    partitions: i32,
    replication_factor: i16,
    seed: u64,
) -> Result<Vec<Vec<BrokerId>>, MetadataError> {
    let Some(partitions) = usize::try_from(partitions).ok().filter(|n| *n > 0) else {
        let text = "Number of partitions must be larger than 0.";
        return Err(MetadataError::InvalidPartitions(text.into()));
    };
    let Some(replicas) = usize::try_from(replication_factor).ok().filter(|n| *n > 0) else {
        let text = "Replication factor must be larger than 0.";
        return Err(MetadataError::InvalidReplicationFactor(text.into()));
    };
    let circle = rack_circle(image);
    if circle.len() < replicas {
        let text = format!(
            "Unable to replicate the partition {replicas} time(s): The target replication factor of {replicas} cannot \
             be reached because only {} broker(s) are registered.",
            circle.len()
        );
        return Err(MetadataError::InvalidReplicationFactor(text));
    }
    let racks: BTreeSet<_> = circle.iter().map(|(_, rack)| rack).collect();
    let start = (seed % circle.len() as u64) as usize;
    let turn = (seed / circle.len() as u64 % circle.len() as u64) as usize;
    let first = usize::try_from(first).unwrap_or(0);
    Ok((first..first + partitions)
        .map(|number| {
            let at = start + number;
            place(
                &circle,
                racks.len(),
                replicas,
                at % circle.len(),
                turn + at / circle.len(),
            )
        })
        .collect())
}

/// Plans what `topic` lacks to have `count` partitions, with the replication factor of those it has.
pub fn plan_new_partitions(
    image: &MetadataImage,
    topic: &TopicImage,
    count: i32,
    seed: u64,
) -> Result<Vec<Vec<BrokerId>>, MetadataError> {
    let current = topic.partition_count();
    if count <= current {
        let text = if count == current {
            format!("Topic already has {current} partition(s).")
        } else {
            format!(
                "The topic {} currently has {current} partition(s); {count} would not be an increase.",
                topic.name
            )
        };
        return Err(MetadataError::InvalidPartitions(text));
    }
    let replicas = topic.partitions.first().map_or(1, |p| p.replicas.len());
    plan_placement(
        image,
        current,
        count - current,
        i16::try_from(replicas).unwrap_or(i16::MAX),
        seed,
    )
}

type Rack = Option<Arc<str>>;

fn rack_circle(image: &MetadataImage) -> Vec<(BrokerId, Rack)> {
    let mut racks: BTreeMap<Rack, VecDeque<BrokerId>> = BTreeMap::new();
    for broker in image.active_brokers() {
        racks
            .entry(broker.rack.clone())
            .or_default()
            .push_back(broker.broker_id);
    }
    let mut circle = Vec::new();
    while !racks.is_empty() {
        racks.retain(|rack, brokers| {
            circle.extend(brokers.pop_front().map(|id| (id, rack.clone())));
            !brokers.is_empty()
        });
    }
    circle
}

fn place(
    circle: &[(BrokerId, Rack)],
    racks: usize,
    replicas: usize,
    leader: usize,
    turn: usize,
) -> Vec<BrokerId> {
    let mut chosen = vec![leader];
    let mut seen = BTreeSet::from([&circle[leader].1]);
    let others = circle.len() - 1;
    while chosen.len() < replicas {
        // The brokers after the leader, begun at another one in each turn.
        let mut candidates = (0..others).map(|i| (leader + 1 + (turn + i) % others) % circle.len());
        let fits = |at: &usize| {
            !chosen.contains(at) && (seen.len() == racks || !seen.contains(&circle[*at].1))
        };
        let Some(next) = candidates.find(fits) else {
            break;
        };
        chosen.push(next);
        seen.insert(&circle[next].1);
    }
    chosen.into_iter().map(|at| circle[at].0).collect()
}
