use super::*;

fn topic_results(outcome: CommandOutcome) -> Vec<Result<Arc<TopicImage>, MetadataError>> {
    match outcome {
        CommandOutcome::Topics(topics) => topics.into_iter().map(|t| t.result).collect(),
        other => panic!("{other:?}"),
    }
}

fn refusal(applied: &Applied) -> &MetadataError {
    assert!(applied.delta.is_empty());
    match &applied.outcome {
        CommandOutcome::Refused(error) => error,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_cluster_gets_its_id_once() {
    let first = apply(&MetadataImage::default(), &init_cluster());
    assert!(first.delta.cluster_changed);
    let cluster_id: Arc<str> = "kFZ2nVQRRHOV2_jbq0AUQg".into();
    let outcome = |fresh| CommandOutcome::Cluster {
        cluster_id: cluster_id.clone(),
        incarnation: 1,
        fresh,
    };
    assert_eq!(first.outcome, outcome(true));

    let other = Command::InitCluster(InitCluster {
        cluster_id: "another".into(),
        incarnation: 7,
        features: [].into(),
    });
    let second = apply(&first.image, &other);
    assert_eq!(second.outcome, outcome(false));
    assert!(second.delta.is_empty());
    assert_eq!(second.image.cluster_id, cluster_id);
    assert_eq!(second.image.offset, 2);
}

#[test]
fn before_it_has_an_id_nothing_else_is_done() {
    let applied = apply(&MetadataImage::default(), &register(1, 0, None));
    assert_eq!(*refusal(&applied), MetadataError::NotInitialized);
    let nameless = Command::InitCluster(InitCluster {
        cluster_id: "".into(),
        incarnation: 1,
        features: [].into(),
    });
    let applied = apply(&MetadataImage::default(), &nameless);
    assert!(matches!(
        refusal(&applied),
        MetadataError::InvalidRequest(_)
    ));
}

#[test]
fn a_start_raises_every_epoch_that_the_broker_leads_in_one_command() {
    let image = cluster(&[(1, None), (2, None)]);
    let image = run(
        image,
        create(&[
            new_topic("a", 1, &[&[1, 2], &[2, 1], &[1, 2]]),
            new_topic("b", 2, &[&[2]]),
        ]),
    );
    let registered = apply(&image, &register(1, 9, None));
    assert_eq!(
        registered.outcome,
        CommandOutcome::BrokerRegistered { broker_epoch: 7 }
    );
    assert_eq!(registered.delta.brokers_changed, [1]);
    assert!(!registered.image.is_active(1));

    let stale = apply(&registered.image, &started(1, 0));
    assert_eq!(*refusal(&stale), MetadataError::StaleBrokerEpoch(1));
    let unknown = apply(&registered.image, &started(3, 0));
    assert_eq!(*refusal(&unknown), MetadataError::BrokerNotRegistered(3));

    let applied = apply(&registered.image, &started(1, 9));
    assert_eq!(
        applied.outcome,
        CommandOutcome::BrokerStarted { partitions_led: 2 }
    );
    assert!(applied.image.is_active(1));
    let changed: Vec<_> = applied
        .delta
        .partitions_changed
        .iter()
        .map(|p| (&*p.topic, p.partition))
        .collect();
    assert_eq!(changed, [("a", 0), ("a", 2)]);
    let epochs = |image: &MetadataImage, topic: &str| -> Vec<_> {
        let topic = image.topics.get(topic).expect("exists");
        topic
            .partitions
            .iter()
            .map(|p| (p.leader, p.leader_epoch, p.partition_epoch))
            .collect()
    };
    assert_eq!(
        epochs(&applied.image, "a"),
        [(1, 1, 1), (2, 0, 0), (1, 1, 1)]
    );
    assert_eq!(epochs(&applied.image, "b"), [(2, 0, 0)]);
    assert_eq!(
        epochs(&registered.image, "a"),
        [(1, 0, 0), (2, 0, 0), (1, 0, 0)],
        "old images stay"
    );
}

#[test]
fn a_start_leads_what_lacks_a_leader_where_it_is_in_sync() {
    let image = cluster(&[(1, None), (2, None)]);
    let image = run(image, create(&[new_topic("a", 1, &[&[1, 2], &[1, 2]])]));
    let change = |partition, isr: Option<Vec<BrokerId>>| PartitionChange {
        topic_id: Uuid::from_u128(1),
        partition,
        leader_epoch: 0,
        partition_epoch: 0,
        isr,
        leader: Some(NO_LEADER),
    };
    let image = run(
        image,
        Command::ChangePartitions(ChangePartitions {
            changes: vec![change(0, None), change(1, Some(vec![1]))],
        }),
    );
    let image = run(run(image, register(2, 5, None)), started(2, 5));
    let leaders: Vec<_> = [0, 1]
        .into_iter()
        .filter_map(|p| image.topics.partition("a", p))
        .map(|p| (p.leader, p.leader_epoch))
        .collect();
    assert_eq!(leaders, [(2, 2), (NO_LEADER, 1)]);
}

#[test]
fn topics_are_created_one_by_one_and_refused_as_kafka_refuses_them() {
    use MetadataError::*;
    let image = cluster(&[(1, None), (2, None)]);
    // Registered but not started: fenced.
    let image = run(image, register(3, 0, None));
    let applied = apply(
        &image,
        &create(&[
            new_topic("a.b", 1, &[&[1, 2], &[2, 1]]),
            new_topic("a.b", 2, &[&[1]]),
            new_topic("a_b", 3, &[&[1]]),
            new_topic("c", 1, &[&[1]]),
            new_topic("c", 0, &[&[1]]),
            new_topic("", 4, &[&[1]]),
            new_topic("..", 4, &[&[1]]),
            new_topic("a/b", 4, &[&[1]]),
            new_topic(&"x".repeat(250), 4, &[&[1]]),
            new_topic("c", 4, &[]),
            new_topic("c", 4, &[&[]]),
            new_topic("c", 4, &[&[1], &[1, 2]]),
            new_topic("c", 4, &[&[1, 1]]),
            new_topic("c", 4, &[&[4]]),
            new_topic("c", 4, &[&[3]]),
            new_topic("c", 4, &[&[3, 1]]),
        ]),
    );
    let results = topic_results(applied.outcome);
    let errors: Vec<_> = results.iter().map(|r| r.as_ref().err().cloned()).collect();
    assert_eq!(errors[0], None);
    assert_eq!(errors[1], Some(TopicAlreadyExists("a.b".into())));
    let collision = "Topic 'a_b' collides with existing topic: a.b";
    assert_eq!(errors[2], Some(InvalidTopic(collision.to_owned())));
    assert_eq!(errors[3], Some(TopicIdInUse(Uuid::from_u128(1))));
    assert_eq!(errors[4], Some(TopicIdInUse(Uuid::nil())));
    assert!(
        errors[5..9]
            .iter()
            .all(|e| matches!(e, Some(InvalidTopic(_))))
    );
    assert!(matches!(errors[9], Some(InvalidPartitions(_))));
    assert!(
        errors[10..15]
            .iter()
            .all(|e| matches!(e, Some(InvalidReplicaAssignment(_))))
    );
    assert_eq!(errors[15], None);

    let names: Vec<_> = applied
        .delta
        .topics_created
        .iter()
        .map(|t| &*t.name)
        .collect();
    assert_eq!(names, ["a.b", "c"]);
    let c = applied.image.topics.partition("c", 0).expect("created");
    assert_eq!(
        (c.leader, &*c.isr, &*c.replicas),
        (1, &[1][..], &[3, 1][..])
    );
    assert_eq!(applied.image.topics.partition_count(), 3);
    assert_eq!(applied.image.configs.topic("c")["retention.ms"], "-1");
    let by_id = applied
        .image
        .topics
        .get_by_id(&Uuid::from_u128(1))
        .expect("by id");
    assert_eq!(&*by_id.name, "a.b");
}

#[test]
fn a_deleted_topic_takes_its_configs_along_and_frees_its_name() {
    let image = run(
        cluster(&[(1, None)]),
        create(&[new_topic("a.b", 1, &[&[1]])]),
    );
    let delete = Command::DeleteTopics(DeleteTopics {
        topic_ids: vec![Uuid::from_u128(1), Uuid::from_u128(1), Uuid::from_u128(2)],
    });
    let applied = apply(&image, &delete);
    let results = topic_results(applied.outcome);
    assert_eq!(results[0].as_ref().map(|t| &*t.name), Ok("a.b"));
    assert_eq!(results[1], Err(MetadataError::UnknownTopicId));
    assert_eq!(results[2], Err(MetadataError::UnknownTopicId));
    assert_eq!(applied.delta.topics_deleted.len(), 1);
    assert!(applied.image.configs.is_empty() && applied.image.topics.is_empty());
    let image = run(applied.image, create(&[new_topic("a_b", 3, &[&[1]])]));
    assert_eq!(image.topics.len(), 1);
    assert!(image.configs.topic("a_b").contains_key("retention.ms"));
}

#[test]
fn partitions_are_added_only_to_what_the_planner_saw() {
    let image = run(cluster(&[(1, None)]), create(&[new_topic("a", 1, &[&[1]])]));
    let add = |count_before, assignments: &[&[BrokerId]]| {
        Command::CreatePartitions(CreatePartitions {
            topics: vec![NewPartitions {
                topic_id: Uuid::from_u128(1),
                count_before,
                assignments: assignments.iter().map(|a| a.to_vec()).collect(),
            }],
        })
    };
    for bad in [add(2, &[&[1]]), add(1, &[])] {
        let results = topic_results(apply(&image, &bad).outcome);
        assert!(matches!(
            results[0],
            Err(MetadataError::InvalidPartitions(_))
        ));
    }
    let results = topic_results(apply(&image, &add(1, &[&[2]])).outcome);
    assert!(matches!(
        results[0],
        Err(MetadataError::InvalidReplicaAssignment(_))
    ));

    let applied = apply(&image, &add(1, &[&[1], &[1]]));
    let added: Vec<_> = applied
        .delta
        .partitions_changed
        .iter()
        .map(|p| (p.partition, p.before.is_some()))
        .collect();
    assert_eq!(added, [(1, false), (2, false)]);
    assert_eq!(applied.image.topics.partition_count(), 3);
    let by_id = applied.image.topics.get_by_id(&Uuid::from_u128(1));
    assert_eq!(by_id.map(|t| t.partition_count()), Some(3));
    let again = topic_results(apply(&applied.image, &add(1, &[&[1]])).outcome);
    assert!(matches!(again[0], Err(MetadataError::InvalidPartitions(_))));
}

#[test]
fn configs_are_set_deleted_and_replaced() {
    let image = run(cluster(&[(1, None)]), create(&[new_topic("a", 1, &[&[1]])]));
    let topic = ConfigResource::Topic("a".into());
    let change = |resource: &ConfigResource, replace, set: &[&str], delete: &[&str]| ConfigChange {
        resource: resource.clone(),
        replace,
        set: set
            .iter()
            .map(|n| ((*n).to_owned(), "1".to_owned()))
            .collect(),
        delete: delete.iter().map(|n| (*n).to_owned()).collect(),
    };
    let alter = |changes: &[ConfigChange]| {
        Command::AlterConfigs(AlterConfigs {
            changes: changes.to_vec(),
        })
    };
    let keys = |image: &MetadataImage| image.configs.topic("a").keys().cloned().collect::<Vec<_>>();

    let applied = apply(
        &image,
        &alter(&[
            change(
                &topic,
                false,
                &["segment.bytes"],
                &["retention.ms", "not.there"],
            ),
            change(&ConfigResource::Topic("b".into()), false, &["x"], &[]),
            change(&ConfigResource::Broker(9), false, &["x"], &[]),
            change(&ConfigResource::Broker(1), false, &["x"], &[]),
            change(&ConfigResource::ClusterDefault, false, &["x"], &[]),
            change(&topic, false, &["segment.ms"], &[]),
        ]),
    );
    assert_eq!(keys(&applied.image), ["segment.bytes", "segment.ms"]);
    let CommandOutcome::Configs(results) = applied.outcome else {
        panic!("{:?}", applied.outcome)
    };
    let results: Vec<_> = results.into_iter().map(|(_, r)| r).collect();
    assert_eq!(
        results,
        [
            Ok(()),
            Err(MetadataError::UnknownTopicOrPartition),
            Err(MetadataError::BrokerNotRegistered(9)),
            Ok(()),
            Ok(()),
            Ok(()),
        ]
    );
    let changed = [
        topic.clone(),
        ConfigResource::Broker(1),
        ConfigResource::ClusterDefault,
    ];
    assert_eq!(applied.delta.configs_changed, changed);

    let same = apply(
        &applied.image,
        &alter(&[change(&topic, false, &["segment.ms"], &["x"])]),
    );
    assert!(same.delta.is_empty());
    let replaced = apply(
        &applied.image,
        &alter(&[change(&topic, true, &["retention.ms"], &[])]),
    );
    assert_eq!(keys(&replaced.image), ["retention.ms"]);
    let emptied = apply(&applied.image, &alter(&[change(&topic, true, &[], &[])]));
    assert!(emptied.image.configs.get(&topic).is_none());
}

#[test]
fn producer_ids_are_never_handed_out_twice() {
    let allocate =
        |broker_id, count| Command::AllocateProducerIds(AllocateProducerIds { broker_id, count });
    let mut image = cluster(&[(1, None)]);
    let block = |first, count| ProducerIdBlock {
        broker_id: 1,
        first,
        count,
    };
    for (count, first) in [(1000, 0), (5, 1000), (1, 1005)] {
        let applied = apply(&image, &allocate(1, count));
        assert_eq!(
            applied.outcome,
            CommandOutcome::ProducerIds(block(first, count))
        );
        assert_eq!(applied.delta.producer_ids, Some(block(first, count)));
        image = applied.image;
    }
    assert!(matches!(
        refusal(&apply(&image, &allocate(1, 0))),
        MetadataError::InvalidRequest(_)
    ));
    assert_eq!(
        *refusal(&apply(&image, &allocate(2, 1))),
        MetadataError::BrokerNotRegistered(2)
    );
    assert!(block(5, 2).contains(6) && !block(5, 2).contains(7) && !block(5, 2).contains(4));

    let raise = |incarnation, next_producer_id_min| {
        Command::RaiseIncarnation(RaiseIncarnation {
            incarnation,
            next_producer_id_min,
        })
    };
    let applied = apply(&image, &raise(1, 0));
    assert_eq!(
        *refusal(&applied),
        MetadataError::IncarnationNotRaised {
            given: 1,
            current: 1
        }
    );
    let image = run(image, raise(2, i64::MAX));
    assert_eq!((image.incarnation, image.next_producer_id), (2, i64::MAX));
    assert_eq!(
        *refusal(&apply(&image, &allocate(1, 1))),
        MetadataError::ProducerIdsExhausted
    );
}

#[test]
fn a_partition_changes_only_as_its_proposer_saw_it() {
    use MetadataError::*;
    let image = cluster(&[(1, None), (2, None)]);
    let image = run(image, register(3, 0, None));
    let image = run(image, create(&[new_topic("a", 1, &[&[1, 2, 3]])]));
    let change = |epochs: (i32, i32), isr: Option<&[BrokerId]>, leader| PartitionChange {
        topic_id: Uuid::from_u128(1),
        partition: 0,
        leader_epoch: epochs.0,
        partition_epoch: epochs.1,
        isr: isr.map(<[_]>::to_vec),
        leader,
    };
    let one = |image: &MetadataImage, change: &PartitionChange| {
        let command = Command::ChangePartitions(ChangePartitions {
            changes: vec![change.clone()],
        });
        let applied = apply(image, &command);
        let CommandOutcome::Partitions(mut outcomes) = applied.outcome else {
            panic!("{:?}", applied.outcome)
        };
        (applied.image, outcomes.remove(0).result)
    };
    let error = |change| one(&image, &change).1.expect_err("refused");
    assert_eq!(
        error(change((1, 0), None, None)),
        FencedLeaderEpoch {
            given: 1,
            current: 0
        }
    );
    assert_eq!(
        error(change((0, 1), None, None)),
        InvalidUpdateVersion {
            given: 1,
            current: 0
        }
    );
    for isr in [&[][..], &[1, 1], &[1, 4], &[2]] {
        assert!(
            matches!(error(change((0, 0), Some(isr), None)), InvalidRequest(_)),
            "{isr:?}"
        );
    }
    assert!(matches!(
        error(change((0, 0), Some(&[1, 2, 3]), None)),
        IneligibleReplica(_)
    ));
    assert!(matches!(
        error(change((0, 0), None, Some(3))),
        IneligibleReplica(_)
    ));
    assert!(matches!(
        error(change((0, 0), Some(&[1]), Some(2))),
        InvalidRequest(_)
    ));
    let elsewhere = PartitionChange {
        partition: -1,
        ..change((0, 0), None, None)
    };
    assert_eq!(error(elsewhere), UnknownTopicOrPartition);
    let elsewhere = PartitionChange {
        topic_id: Uuid::nil(),
        ..change((0, 0), None, None)
    };
    assert_eq!(error(elsewhere), UnknownTopicId);

    let (image, shrunk) = one(&image, &change((0, 0), Some(&[1]), None));
    let shrunk = shrunk.expect("changed");
    assert_eq!(
        (&*shrunk.isr, shrunk.leader_epoch, shrunk.partition_epoch),
        (&[1][..], 0, 1)
    );
    let (_, moved) = one(&image, &change((0, 1), Some(&[1, 2]), Some(2)));
    let moved = moved.expect("changed");
    assert_eq!(
        (moved.leader, moved.leader_epoch, moved.partition_epoch),
        (2, 1, 2)
    );
}

#[test]
fn a_thousand_partitions_change_in_one_command() {
    let assignments = vec![&[1][..]; 1000];
    let image = run(
        cluster(&[(1, None)]),
        create(&[new_topic("a", 1, &assignments)]),
    );
    let image = run(image, register(1, 1, None));
    let applied = apply(&image, &started(1, 1));
    assert_eq!(
        applied.outcome,
        CommandOutcome::BrokerStarted {
            partitions_led: 1000
        }
    );
    assert_eq!(applied.delta, {
        let mut delta = MetadataDelta::between(&image, &applied.image);
        delta.producer_ids = None;
        delta
    });
}
