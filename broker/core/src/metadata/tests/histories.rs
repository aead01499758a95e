//! Random histories: what holds for every sequence of commands.

use std::collections::BTreeSet;

use proptest::collection::{btree_map, btree_set, vec};
use proptest::option;
use proptest::prelude::*;

use super::*;

/// Few names and ids, so that commands meet.
pub fn any_command() -> BoxedStrategy<Command> {
    let broker = || 0i32..4;
    let topic_id = || (1u128..6).prop_map(Uuid::from_u128);
    let process = || (0u128..2).prop_map(Uuid::from_u128);
    let name = || {
        prop_oneof![
            Just(Arc::from("a.b")),
            Just(Arc::from("a_b")),
            Just(Arc::from("c")),
            Just(Arc::from("d")),
            Just(Arc::from("/")),
        ]
    };
    let key = || prop_oneof![Just("k1".to_owned()), Just("k2".to_owned())];
    let assignments = move || vec(vec(broker(), 0..3), 0..4);
    let single = move || vec(broker().prop_map(|b| vec![b]), 1..4);
    let resource = move || {
        prop_oneof![
            4 => name().prop_map(ConfigResource::Topic),
            1 => broker().prop_map(ConfigResource::Broker),
            1 => Just(ConfigResource::ClusterDefault),
        ]
    };
    let new_topic = (
        name(),
        topic_id(),
        prop_oneof![assignments(), single()],
        btree_map(key(), key(), 0..2),
    )
        .prop_map(|(name, id, assignments, configs)| NewTopic {
            name,
            id,
            assignments,
            configs,
        });
    let change = (
        resource(),
        any::<bool>(),
        btree_map(key(), key(), 0..3),
        btree_set(key(), 0..2),
    )
        .prop_map(|(resource, replace, set, delete)| ConfigChange {
            resource,
            replace,
            set,
            delete,
        });
    let new_partitions =
        (topic_id(), 0i32..4, single()).prop_map(|(topic_id, count_before, assignments)| {
            NewPartitions {
                topic_id,
                count_before,
                assignments,
            }
        });
    let partition = (
        topic_id(),
        -1i32..4,
        0i32..3,
        0i32..3,
        option::of(vec(broker(), 0..3)),
        option::of(-1i32..4),
    )
        .prop_map(
            |(topic_id, partition, leader_epoch, partition_epoch, isr, leader)| PartitionChange {
                topic_id,
                partition,
                leader_epoch,
                partition_epoch,
                isr,
                leader,
            },
        );
    prop_oneof![
        1 => (1u32..3).prop_map(|incarnation| Command::InitCluster(InitCluster {
            cluster_id: "id".into(), incarnation, features: [("f".into(), 1)].into(),
        })),
        4 => (broker(), process(), option::of(name())).prop_map(|(broker_id, incarnation_id, rack)| {
            let Command::RegisterBroker(command) = register(broker_id, 0, None) else { unreachable!() };
            Command::RegisterBroker(RegisterBroker { incarnation_id, rack, ..command })
        }),
        4 => (broker(), process()).prop_map(|(broker_id, incarnation_id)| {
            Command::BrokerStarted(BrokerStarted { broker_id, incarnation_id })
        }),
        6 => vec(new_topic, 0..4).prop_map(|topics| Command::CreateTopics(CreateTopics { topics })),
        2 => vec(topic_id(), 0..3).prop_map(|topic_ids| Command::DeleteTopics(DeleteTopics { topic_ids })),
        3 => vec(new_partitions, 0..3).prop_map(|topics| Command::CreatePartitions(CreatePartitions { topics })),
        3 => vec(change, 0..4).prop_map(|changes| Command::AlterConfigs(AlterConfigs { changes })),
        2 => (broker(), -1i32..2000).prop_map(|(broker_id, count)| {
            Command::AllocateProducerIds(AllocateProducerIds { broker_id, count })
        }),
        4 => vec(partition, 0..6).prop_map(|changes| Command::ChangePartitions(ChangePartitions { changes })),
        1 => (0u32..5, 0i64..9999).prop_map(|(incarnation, next_producer_id_min)| {
            Command::RaiseIncarnation(RaiseIncarnation { incarnation, next_producer_id_min })
        }),
    ]
    .boxed()
}

/// Brokers are up in most histories, or little would happen in them.
fn histories() -> impl Strategy<Value = Vec<Command>> {
    let up = vec![
        init_cluster(),
        register(0, 0, None),
        started(0, 0),
        register(1, 0, None),
        started(1, 0),
    ];
    (
        prop_oneof![3 => Just(up), 1 => Just(Vec::new())],
        vec(any_command(), 0..60),
    )
        .prop_map(|(up, tail)| up.into_iter().chain(tail).collect())
}

fn check_image(image: &MetadataImage) {
    let mut partitions = 0;
    for topic in image.topics.iter() {
        assert_eq!(image.topics.get_by_id(&topic.id), Some(topic));
        assert!(
            image
                .topics
                .colliding(&topic.name)
                .is_none_or(|other| *other == topic.name)
        );
        partitions += topic.partitions.len();
        for p in &topic.partitions {
            let isr: BTreeSet<_> = p.isr.iter().collect();
            assert!(!isr.is_empty() && isr.len() == p.isr.len());
            assert!(p.isr.iter().all(|id| p.replicas.contains(id)));
            assert!(p.leader == NO_LEADER || p.isr.contains(&p.leader));
        }
    }
    assert_eq!(image.topics.partition_count(), partitions);
    for (resource, values) in image.configs.iter() {
        assert!(!values.is_empty());
        if let ConfigResource::Topic(name) = resource {
            assert!(
                image.topics.get(name).is_some(),
                "configs of a topic that is gone"
            );
        }
    }
}

/// The command's delta, in the order and form of `MetadataDelta::between`.
fn normalized(
    delta: &MetadataDelta,
    before: &MetadataImage,
    after: &MetadataImage,
) -> MetadataDelta {
    let mut delta = delta.clone();
    delta.producer_ids = None;
    delta.topics_created.sort_by(|a, b| a.name.cmp(&b.name));
    delta.topics_deleted.sort_by(|a, b| a.name.cmp(&b.name));
    delta.configs_changed.sort();
    // Changed and changed back within one command.
    delta
        .configs_changed
        .retain(|r| before.configs.get(r) != after.configs.get(r));
    let mut partitions: Vec<PartitionDelta> = Vec::new();
    let mut changed = delta.partitions_changed;
    changed.sort_by(|a, b| (&a.topic, a.partition).cmp(&(&b.topic, b.partition)));
    for next in changed {
        match partitions.last_mut() {
            Some(last) if (&last.topic, last.partition) == (&next.topic, next.partition) => {
                assert_eq!(Some(&last.after), next.before.as_ref());
                last.after = next.after;
            }
            _ => partitions.push(next),
        }
    }
    delta.partitions_changed = partitions;
    delta
}

proptest! {
    #[test]
    fn a_snapshot_and_its_tail_are_as_good_as_the_whole_log(history in histories(), at in any::<prop::sample::Index>()) {
        let at = at.index(history.len() + 1);
        let mut whole = MetadataImage::default();
        let mut from_snapshot = None;
        for (i, command) in history.iter().enumerate() {
            if i == at {
                from_snapshot = Some(decode_image(&encode_image(&whole))?);
                prop_assert_eq!(from_snapshot.as_ref(), Some(&whole));
            }
            let applied = apply(&whole, command);
            prop_assert_eq!(applied.image.offset, whole.offset + 1);
            if let Some(image) = &mut from_snapshot {
                let again = apply(image, &decode_command(&encode_command(command)?)?);
                prop_assert_eq!(&again.delta, &applied.delta);
                prop_assert_eq!(&again.outcome, &applied.outcome);
                *image = again.image;
            }
            whole = applied.image;
        }
        if let Some(image) = from_snapshot {
            prop_assert_eq!(encode_image(&image), encode_image(&whole));
        }
    }

    #[test]
    fn a_delta_is_the_difference_of_the_images(history in histories()) {
        let mut image = MetadataImage::default();
        for command in &history {
            let applied = apply(&image, command);
            let difference = MetadataDelta::between(&image, &applied.image);
            prop_assert_eq!(normalized(&applied.delta, &image, &applied.image), difference, "{:?}", command);
            image = applied.image;
            check_image(&image);
        }
    }
}
