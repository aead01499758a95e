use super::*;

const LAG_MS_MAX: i64 = 30_000;

fn leader(replicas: &[i32], isr: &[i32], min_insync_replicas: usize) -> PartitionLeader {
    let mut leader = PartitionLeader::new(LeaderSetup {
        node_id: 1,
        leader_epoch: 5,
        partition_epoch: 7,
        replicas: replicas.to_vec(),
        isr: isr.to_vec(),
        log_end_offset: 100,
        high_watermark: 90,
        lag_ms_max: LAG_MS_MAX,
        min_insync_replicas,
        now_ms: 0,
    });
    for id in replicas {
        leader.set_eligible(*id, Some(i64::from(*id) * 10));
    }
    leader
}

fn fetch(replica_id: i32, fetch_offset: Offset) -> FollowerFetch {
    FollowerFetch {
        replica_id,
        broker_epoch: i64::from(replica_id) * 10,
        fetch_offset,
        log_start_offset: 0,
    }
}

#[test]
fn a_single_replica_commits_at_once() {
    let mut alone = leader(&[1], &[1], 1);
    assert_eq!(alone.high_watermark(), 100);
    assert_eq!(alone.on_local_append(1, 110), Some(110));
    assert_eq!(alone.on_local_append(1, 110), None);
    assert_eq!(alone.ack_state(110), AckState::Done);
    assert_eq!(alone.ack_state(111), AckState::Waiting);
}

#[test]
fn acks_all_is_refused_when_too_few_are_in_sync_and_reading_goes_on() {
    let mut alone = leader(&[1], &[1], 2);
    assert_eq!(alone.check_min_isr(-1), Err(KafkaError::NotEnoughReplicas));
    assert_eq!(alone.check_min_isr(1), Ok(()));
    assert_eq!(alone.check_min_isr(0), Ok(()));
    assert_eq!(alone.on_local_append(1, 105), Some(105));
    assert_eq!(alone.ack_state(105), AckState::NotEnoughReplicasAfterAppend);
    assert_eq!(alone.set_min_insync_replicas(1, 1), None);
    assert_eq!(alone.check_min_isr(-1), Ok(()));
}

#[test]
fn the_high_watermark_is_the_smallest_end_of_the_isr() {
    let mut l = leader(&[1, 2, 3], &[1, 2, 3], 1);
    assert_eq!(l.high_watermark(), 90);
    l.on_local_append(1, 110);
    assert_eq!(
        l.on_follower_fetch(2, fetch(2, 105))
            .expect("a replica")
            .high_watermark,
        None
    );
    assert_eq!(
        l.on_follower_fetch(3, fetch(3, 103))
            .expect("a replica")
            .high_watermark,
        Some(103)
    );
    assert_eq!(
        l.on_follower_fetch(4, fetch(3, 110))
            .expect("a replica")
            .high_watermark,
        Some(105)
    );
    assert_eq!(
        l.on_follower_fetch(5, fetch(9, 1)),
        Err(KafkaError::UnknownLeaderEpoch)
    );
}

#[test]
fn a_lagging_follower_is_shrunk_away_and_then_no_longer_waited_for() {
    let mut l = leader(&[1, 2], &[1, 2], 1);
    l.on_follower_fetch(1_000, fetch(2, 100))
        .expect("a replica");
    l.on_local_append(2_000, 110);
    assert_eq!(l.plan_isr_shrink(31_000), None);
    let change = l.plan_isr_shrink(31_001).expect("lags");
    assert_eq!(
        change,
        IsrChange {
            isr: vec![1],
            leader_epoch: 5,
            partition_epoch: 7
        }
    );
    // In flight: still waited for, and nothing else is planned.
    assert_eq!(l.on_local_append(31_002, 111), None);
    assert_eq!(l.plan_isr_shrink(31_003), None);
    assert_eq!(l.on_isr_committed(31_004, &[1], 8), Some(111));
    // A late answer of an older epoch changes nothing.
    assert_eq!(l.on_isr_committed(31_005, &[1, 2], 8), None);
    assert_eq!(l.isr().committed().len(), 1);
}

#[test]
fn a_rejected_shrink_leaves_the_set_as_it_was() {
    let mut l = leader(&[1, 2], &[1, 2], 1);
    l.on_local_append(1, 110);
    l.plan_isr_shrink(LAG_MS_MAX + 1).expect("lags");
    l.on_isr_rejected();
    assert!(!l.isr().is_in_flight());
    assert!(l.isr().maximal_contains(2));
}

#[test]
fn a_follower_joins_when_it_reaches_the_high_watermark_of_this_term() {
    let mut l = leader(&[1, 2], &[1], 1);
    assert_eq!(l.high_watermark(), 100);
    l.on_local_append(1, 110);
    assert_eq!(
        l.on_follower_fetch(2, fetch(2, 99))
            .expect("a replica")
            .expand,
        None
    );
    let update = l.on_follower_fetch(3, fetch(2, 110)).expect("a replica");
    assert_eq!(update.expand.expect("caught up").isr, vec![1, 2]);
    // Not committed yet, but it counts: the high watermark waits for it.
    assert_eq!(l.on_local_append(4, 120), None);
    assert_eq!(l.on_isr_committed(5, &[1, 2], 8), None);
    assert_eq!(
        l.on_follower_fetch(6, fetch(2, 120))
            .expect("a replica")
            .high_watermark,
        Some(120)
    );
}

#[test]
fn a_follower_of_an_old_broker_epoch_or_a_fenced_broker_does_not_join() {
    for (epoch, eligible, joins) in [
        (20, Some(20), true),
        (19, Some(20), false),
        (-1, Some(20), true),
        (20, None, false),
    ] {
        let mut l = leader(&[1, 2], &[1], 1);
        l.set_eligible(2, eligible);
        let update = l
            .on_follower_fetch(
                3,
                FollowerFetch {
                    broker_epoch: epoch,
                    ..fetch(2, 100)
                },
            )
            .expect("a replica");
        assert_eq!(update.expand.is_some(), joins, "{epoch} {eligible:?}");
    }
}

#[test]
fn under_the_effective_minimum_the_high_watermark_stands_still() {
    let mut l = leader(&[1, 2], &[1], 2);
    let before = l.high_watermark();
    assert_eq!(l.on_local_append(1, 130), None);
    assert_eq!(l.high_watermark(), before);
    assert_eq!(l.on_isr_committed(2, &[1, 2], 8), None);
    assert_eq!(
        l.on_follower_fetch(3, fetch(2, 130))
            .expect("a replica")
            .high_watermark,
        Some(130)
    );
}

#[test]
fn having_reached_the_end_of_the_last_fetch_counts_as_caught_up_then() {
    let mut l = leader(&[1, 2], &[1, 2], 1);
    l.on_local_append(0, 1_000);
    l.on_follower_fetch(10_000, fetch(2, 500))
        .expect("a replica");
    l.on_local_append(10_001, 2_000);
    l.on_follower_fetch(20_000, fetch(2, 1_000))
        .expect("a replica");
    assert_eq!(l.follower(2).expect("kept").last_caught_up_ms(), 10_000);
    assert_eq!(l.plan_isr_shrink(40_000), None);
    assert!(l.plan_isr_shrink(40_001).is_some());
}

#[test]
fn the_low_watermark_is_the_smallest_log_start() {
    let mut l = leader(&[1, 2], &[1, 2], 1);
    l.on_follower_fetch(
        1,
        FollowerFetch {
            log_start_offset: 40,
            ..fetch(2, 100)
        },
    )
    .expect("a replica");
    assert_eq!(l.low_watermark(50), 40);
    l.set_eligible(2, None);
    assert_eq!(l.low_watermark(50), 50);
}
