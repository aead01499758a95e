use kafka_protocol::ResponseError as KafkaError;
use kafka_protocol::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopics,
};
use kafka_protocol::messages::{GroupId, TopicName};

use super::bench::{Bench, GROUP, SESSION_MS, config, join_request, str_bytes};
use crate::group::{GroupConfig, GroupRequest, GroupResponse};

#[test]
fn a_commit_is_told_and_seen_once_it_is_durable() {
    let mut b = Bench::new();
    b.auto_commit = false;
    let token = b.commit(9, "", -1, &[("t", 0, 5), ("t", 1, 6), ("u", 0, 7)]);
    assert!(b.is_waiting(token));
    assert_eq!(b.fetch(GROUP), vec![]);
    b.commit_one();
    assert_eq!(b.commit_error(token), 0);
    let all = vec![
        ("t".to_owned(), 0, 5),
        ("t".to_owned(), 1, 6),
        ("u".to_owned(), 0, 7),
    ];
    assert_eq!(b.fetch(GROUP), all);
    assert_eq!(b.state(), "Empty", "offsets alone make a simple group");
    assert_eq!(b.replayed(config()).fetch(GROUP), all);
}

#[test]
fn partitions_without_an_offset_answer_minus_one() {
    let mut b = Bench::new();
    b.commit(9, "", -1, &[("t", 0, 5)]);
    let group = OffsetFetchRequestGroup::default()
        .with_group_id(GroupId(str_bytes(GROUP)))
        .with_topics(Some(vec![
            OffsetFetchRequestTopics::default()
                .with_name(TopicName(str_bytes("t")))
                .with_partition_indexes(vec![1, 0]),
        ]));
    let token = b.send(
        8,
        GroupRequest::OffsetFetch {
            group,
            require_stable: false,
        },
    );
    let GroupResponse::OffsetFetch(response) = b.reply(token) else {
        panic!("not an OffsetFetch");
    };
    let partitions = &response.topics[0].partitions;
    assert_eq!(
        (
            partitions[0].partition_index,
            partitions[0].committed_offset
        ),
        (1, -1)
    );
    assert_eq!(partitions[0].metadata.as_deref(), Some(""));
    assert_eq!(
        (
            partitions[1].committed_offset,
            partitions[1].committed_leader_epoch
        ),
        (5, 3)
    );
    assert_eq!(partitions[1].metadata.as_deref(), Some("m"));
}

#[test]
fn who_may_commit() {
    let mut b = Bench::new();
    let cases = [
        (9, 1, KafkaError::GroupIdNotFound),
        (8, 1, KafkaError::IllegalGeneration),
    ];
    for (version, generation, error) in cases {
        let token = b.commit(version, "m", generation, &[("t", 0, 1)]);
        assert_eq!(b.commit_error(token), error.code());
    }
    let (a, _) = b.stable_pair();
    let table = [
        (a.as_str(), 2, 0),
        (&a, 1, KafkaError::IllegalGeneration.code()),
        ("nobody", 2, KafkaError::UnknownMemberId.code()),
        ("", -1, KafkaError::UnknownMemberId.code()),
    ];
    for (member, generation, error) in table {
        let token = b.commit(9, member, generation, &[("t", 0, 1)]);
        assert_eq!(b.commit_error(token), error, "{member} {generation}");
    }
    // During a rebalance: yes while members return, no while the assignment is awaited.
    let again = b.join(9, join_request(&a, None, &["range"]));
    assert!(b.is_waiting(again));
    let token = b.commit(9, &a, 2, &[("t", 0, 2)]);
    assert_eq!(b.commit_error(token), 0);
    b.pass(i64::from(SESSION_MS));
    assert_eq!(b.joined(again).generation_id, 3);
    let token = b.commit(9, &a, 3, &[("t", 0, 3)]);
    assert_eq!(
        b.commit_error(token),
        KafkaError::RebalanceInProgress.code()
    );
}

#[test]
fn a_commit_keeps_the_session() {
    let mut b = Bench::new();
    let a = b.stable_single();
    for offset in 0..5 {
        b.pass(i64::from(SESSION_MS) - 1);
        let token = b.commit(9, &a, 1, &[("t", 0, offset)]);
        assert_eq!(b.commit_error(token), 0);
    }
}

#[test]
fn long_metadata_is_refused_alone() {
    let mut b = Bench::with(GroupConfig {
        offset_metadata_max_bytes: 0,
        ..config()
    });
    let token = b.commit(9, "", -1, &[("t", 0, 5)]);
    assert_eq!(
        b.commit_error(token),
        KafkaError::OffsetMetadataTooLarge.code()
    );
    assert!(b.log.is_empty());
}

#[test]
fn a_commit_that_is_not_written_says_so_and_changes_nothing() {
    let mut b = Bench::new();
    b.commit(9, "", -1, &[("t", 0, 5)]);
    b.auto_commit = false;
    for (error, told) in [
        (
            KafkaError::NotEnoughReplicas,
            KafkaError::CoordinatorNotAvailable,
        ),
        (
            KafkaError::RequestTimedOut,
            KafkaError::CoordinatorNotAvailable,
        ),
        (KafkaError::NotLeaderOrFollower, KafkaError::NotCoordinator),
        (KafkaError::KafkaStorageError, KafkaError::NotCoordinator),
        (KafkaError::MessageTooLarge, KafkaError::UnknownServerError),
    ] {
        let token = b.commit(9, "", -1, &[("t", 0, 6)]);
        b.fail_one(error);
        assert_eq!(b.commit_error(token), told.code());
    }
    assert_eq!(b.fetch(GROUP), vec![("t".to_owned(), 0, 5)]);
}
