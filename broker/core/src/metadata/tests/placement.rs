use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

#[test]
fn one_broker_gets_everything_and_no_second_replica() {
    let image = cluster(&[(7, None)]);
    assert_eq!(
        plan_placement(&image, 0, 3, 1, 5),
        Ok(vec![vec![7], vec![7], vec![7]])
    );
    for (partitions, replicas) in [(3, 2), (3, 0), (3, -1)] {
        let refused = plan_placement(&image, 0, partitions, replicas, 0);
        assert!(matches!(
            refused,
            Err(MetadataError::InvalidReplicationFactor(_))
        ));
    }
    for partitions in [0, -1] {
        let refused = plan_placement(&image, 0, partitions, 1, 0);
        assert!(matches!(refused, Err(MetadataError::InvalidPartitions(_))));
    }
}

#[test]
fn fenced_brokers_get_nothing() {
    let image = run(cluster(&[(1, None)]), register(2, 0, None));
    assert_eq!(
        plan_placement(&image, 0, 2, 1, 0),
        Ok(vec![vec![1], vec![1]])
    );
    assert!(plan_placement(&image, 0, 2, 2, 0).is_err());
}

#[test]
fn more_partitions_go_on_where_the_topic_ended() {
    let image = cluster(&[(1, None), (2, None), (3, None)]);
    let all = plan_placement(&image, 0, 6, 2, 1).expect("planned");
    let first: Vec<&[BrokerId]> = all[..2].iter().map(Vec::as_slice).collect();
    let image = run(image, create(&[new_topic("a", 1, &first)]));
    let topic = image.topics.get("a").expect("created");
    assert_eq!(
        plan_new_partitions(&image, topic, 6, 1).expect("planned"),
        all[2..]
    );
    for count in [2, 1] {
        let refused = plan_new_partitions(&image, topic, count, 1);
        assert!(matches!(refused, Err(MetadataError::InvalidPartitions(_))));
    }
}

proptest! {
    #[test]
    fn replicas_are_distinct_over_racks_and_leaders_are_even(
        racks in proptest::collection::vec(0u8..4, 1..9),
        partitions in 1i32..40,
        replicas in 1usize..6,
        seed in any::<u64>(),
    ) {
        let names = ["a", "b", "c", "d"];
        let brokers: Vec<_> = (0..).zip(&racks).map(|(id, r)| (id, Some(names[usize::from(*r)]))).collect();
        let image = cluster(&brokers);
        prop_assume!(replicas <= brokers.len());
        let plan = plan_placement(&image, 0, partitions, i16::try_from(replicas)?, seed)?;
        prop_assert_eq!(plan.len(), usize::try_from(partitions)?);
        let rack_of: BTreeMap<_, _> = brokers.iter().copied().collect();
        let rack_count = racks.iter().collect::<BTreeSet<_>>().len();
        let mut led = BTreeMap::new();
        for assignment in &plan {
            prop_assert_eq!(assignment.iter().collect::<BTreeSet<_>>().len(), replicas);
            let used: BTreeSet<_> = assignment.iter().map(|id| rack_of[id]).collect();
            prop_assert_eq!(used.len(), rack_count.min(replicas));
            *led.entry(assignment[0]).or_insert(0usize) += 1;
        }
        let fair = plan.len() / brokers.len();
        prop_assert!(led.values().all(|n| *n <= fair + 1));
        let created = create(&[new_topic("t", 1, &plan.iter().map(Vec::as_slice).collect::<Vec<_>>())]);
        prop_assert_eq!(apply(&image, &created).delta.topics_created.len(), 1);
    }
}
