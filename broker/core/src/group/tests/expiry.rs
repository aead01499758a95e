use kafka_protocol::messages::{GroupId, OffsetCommitRequest};

use super::bench::{Bench, GROUP, config, join_request, str_bytes};
use crate::group::{GroupConfig, GroupRequest};

const RETENTION_MS: i64 = 1_000_000;
const CHECK_MS: i64 = 100_000;

fn bench() -> Bench {
    Bench::with(GroupConfig {
        offsets_retention_ms: RETENTION_MS,
        offsets_retention_check_interval_ms: CHECK_MS,
        ..config()
    })
}

#[test]
fn offsets_of_a_simple_group_expire_after_their_last_commit_and_the_group_with_them() {
    let mut b = bench();
    b.commit(9, "", -1, &[("t", 0, 5), ("t", 1, 5)]);
    b.pass(RETENTION_MS / 2);
    b.commit(9, "", -1, &[("t", 0, 6)]);
    b.pass(RETENTION_MS / 2 + CHECK_MS);
    assert_eq!(b.fetch(GROUP), vec![("t".to_owned(), 0, 6)]);
    assert_eq!(b.state(), "Empty");
    b.pass(RETENTION_MS / 2 + CHECK_MS);
    assert_eq!(b.fetch(GROUP), vec![]);
    assert_eq!(b.state(), "Dead");
    assert_eq!(b.replayed(config()).state(), "Dead");
}

#[test]
fn offsets_of_a_group_with_members_expire_when_it_has_been_empty_for_long() {
    let mut b = bench();
    let a = b.stable_single();
    b.commit(9, &a, 1, &[("t", 0, 5)]);
    for _ in 0..(2 * RETENTION_MS / 9_000) {
        b.pass(9_000);
        assert_eq!(b.heartbeat(&a, 1), 0);
    }
    assert_eq!(b.fetch(GROUP).len(), 1);
    b.leave(&a, None);
    b.pass(RETENTION_MS - 1);
    assert_eq!(b.fetch(GROUP).len(), 1);
    b.pass(CHECK_MS);
    assert_eq!(b.fetch(GROUP), vec![]);
    assert_eq!(b.state(), "Dead");
}

#[test]
fn unsubscribed_topics_of_a_stable_group_expire() {
    let mut b = bench();
    let a = b.stable_single();
    b.commit(9, &a, 1, &[("t", 0, 5), ("old", 0, 5)]);
    for _ in 0..((RETENTION_MS + CHECK_MS) / 9_000 + 1) {
        b.pass(9_000);
        assert_eq!(b.heartbeat(&a, 1), 0);
    }
    assert_eq!(b.fetch(GROUP), vec![("t".to_owned(), 0, 5)]);
    assert_eq!(b.state(), "Stable");
}

#[test]
fn a_retention_of_the_clients_own_holds() {
    let mut b = bench();
    let request = OffsetCommitRequest::default()
        .with_group_id(GroupId(str_bytes(GROUP)))
        .with_generation_id_or_member_epoch(-1)
        .with_retention_time_ms(CHECK_MS / 2)
        .with_topics(vec![
            kafka_protocol::messages::offset_commit_request::OffsetCommitRequestTopic::default()
                .with_name(kafka_protocol::messages::TopicName(str_bytes("t")))
                .with_partitions(vec![Default::default()]),
        ]);
    b.send(2, GroupRequest::OffsetCommit(request));
    assert_eq!(b.fetch(GROUP).len(), 1);
    assert_eq!(b.replayed(config()).fetch(GROUP).len(), 1);
    b.pass(CHECK_MS);
    assert_eq!(b.fetch(GROUP), vec![]);
}

#[test]
fn a_group_that_someone_is_about_to_join_stays() {
    let mut b = bench();
    b.pass(CHECK_MS - 1);
    let token = b.join(9, join_request("", None, &["range"]));
    let member = b.joined(token).member_id.to_string();
    b.pass(1);
    let token = b.join(9, join_request(&member, None, &["range"]));
    b.pass(1);
    assert_eq!(b.joined(token).error_code, 0);
}
