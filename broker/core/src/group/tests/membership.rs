use kafka_protocol::ResponseError as KafkaError;

use super::bench::{Bench, REBALANCE_MS, SESSION_MS, config, join_request};
use crate::group::{GroupConfig, GroupRequest, GroupResponse};

#[test]
fn a_single_member_joins_syncs_and_heartbeats() {
    let mut b = Bench::new();
    let (member, token) = b.join_dynamic("app");
    assert!(member.starts_with("app-"));
    b.pass(1);
    let joined = b.joined(token);
    assert_eq!((joined.error_code, joined.generation_id), (0, 1));
    assert_eq!(joined.leader.as_str(), member);
    assert_eq!(joined.protocol_name.as_deref(), Some("range"));
    assert_eq!(joined.protocol_type.as_deref(), Some("consumer"));
    assert_eq!(joined.members.len(), 1);
    assert_eq!(b.state(), "CompletingRebalance");
    assert_eq!(b.heartbeat(&member, 1), 0);
    let token = b.sync(&member, 1, &[(&member, "A")]);
    let synced = b.synced(token);
    assert_eq!((synced.error_code, &synced.assignment[..]), (0, &b"A"[..]));
    assert_eq!(b.state(), "Stable");
    assert_eq!(b.heartbeat(&member, 1), 0);
    assert_eq!(
        b.heartbeat(&member, 2),
        KafkaError::IllegalGeneration.code()
    );
    assert_eq!(b.heartbeat("nobody", 1), KafkaError::UnknownMemberId.code());
}

#[test]
fn the_sync_answer_waits_for_the_commit() {
    let mut b = Bench::new();
    let (member, token) = b.join_dynamic("a");
    b.pass(1);
    b.joined(token);
    b.auto_commit = false;
    let token = b.sync(&member, 1, &[(&member, "A")]);
    assert!(b.is_waiting(token));
    // The leader repeats itself: the first request is superseded, nothing is written twice.
    let again = b.sync(&member, 1, &[(&member, "other")]);
    assert_eq!(
        b.synced(token).error_code,
        KafkaError::RebalanceInProgress.code()
    );
    assert_eq!(b.in_flight.len(), 1);
    b.commit_one();
    assert_eq!(b.synced(again).assignment, "A");
}

#[test]
fn the_first_rebalance_waits_for_more_members() {
    let mut b = Bench::with(GroupConfig {
        initial_rebalance_delay_ms: 3_000,
        ..config()
    });
    let (_, first) = b.join_dynamic("a");
    b.pass(2_000);
    let (_, second) = b.join_dynamic("b");
    assert!(b.is_waiting(first) && b.is_waiting(second));
    b.pass(3_999);
    assert!(b.is_waiting(first), "a newcomer prolongs the delay");
    b.pass(1);
    assert_eq!(b.joined(first).members.len(), 2);
    assert_eq!(b.joined(second).generation_id, 1);
}

#[test]
fn newcomers_prolong_the_first_rebalance_only_up_to_its_timeout() {
    let mut b = Bench::with(GroupConfig {
        initial_rebalance_delay_ms: 3_000,
        ..config()
    });
    let mut request = join_request("", None, &["range"]);
    request.rebalance_timeout_ms = 7_000;
    let first = b.join(3, request.clone());
    for _ in 0..6 {
        b.pass(1_000);
        b.join(3, request.clone());
    }
    b.pass(999);
    assert!(b.is_waiting(first));
    b.pass(1);
    assert!(!b.is_waiting(first));
    assert_eq!(b.joined(first).members.len(), 7);
}

#[test]
fn a_second_member_causes_a_rebalance_that_heartbeats_tell() {
    let mut b = Bench::new();
    let a = b.stable_single();
    let (second, token) = b.join_dynamic("b");
    assert_eq!(b.state(), "PreparingRebalance");
    assert_eq!(b.heartbeat(&a, 1), KafkaError::RebalanceInProgress.code());
    let again = b.join(9, join_request(&a, None, &["range"]));
    let joined = b.joined(again);
    assert_eq!((joined.generation_id, joined.members.len()), (2, 2));
    let follower = b.joined(token);
    assert_eq!((follower.generation_id, follower.members.len()), (2, 0));
    assert_eq!(follower.leader.as_str(), a);
    assert_eq!(follower.member_id.as_str(), second);
}

#[test]
fn a_member_that_does_not_rejoin_in_time_is_dropped_and_another_leads() {
    let mut b = Bench::new();
    let a = b.stable_single();
    let (second, token) = b.join_dynamic("b");
    for _ in 0..(REBALANCE_MS / 5_000) - 1 {
        b.pass(5_000);
        assert_eq!(b.heartbeat(&a, 1), KafkaError::RebalanceInProgress.code());
    }
    assert!(b.is_waiting(token));
    b.pass(5_000);
    let joined = b.joined(token);
    assert_eq!(
        (joined.error_code, joined.leader.as_str()),
        (0, second.as_str())
    );
    assert_eq!(b.heartbeat(&a, 1), KafkaError::UnknownMemberId.code());
}

#[test]
fn a_silent_member_is_dropped_when_its_session_ends() {
    let mut b = Bench::new();
    let (a, c) = b.stable_pair();
    b.pass(i64::from(SESSION_MS) - 1);
    assert_eq!(b.heartbeat(&a, 2), 0);
    b.pass(1);
    assert_eq!(b.heartbeat(&a, 2), KafkaError::RebalanceInProgress.code());
    assert_eq!(b.heartbeat(&c, 2), KafkaError::UnknownMemberId.code());
}

#[test]
fn everyone_gone_the_group_is_empty_in_a_new_generation() {
    let mut b = Bench::new();
    let a = b.stable_single();
    b.auto_commit = false;
    let token = b.leave(&a, None);
    assert!(b.is_waiting(token), "the answer waits for the record");
    b.commit_one();
    let GroupResponse::Leave(left) = b.reply(token) else {
        panic!("not a Leave");
    };
    assert_eq!((left.error_code, left.members[0].error_code), (0, 0));
    assert_eq!(b.state(), "Empty");
    assert_eq!(b.heartbeat(&a, 1), KafkaError::UnknownMemberId.code());
    assert_eq!(b.describe("g").protocol_type.as_str(), "consumer");
}

#[test]
fn members_that_do_not_sync_are_dropped() {
    let mut b = Bench::new();
    let a = b.stable_single();
    let (second, token) = b.join_dynamic("b");
    let again = b.join(9, join_request(&a, None, &["range"]));
    assert_eq!(b.joined(again).generation_id, 2);
    b.joined(token);
    let sync = b.sync(&a, 2, &[(&a, "A"), (&second, "B")]);
    assert_eq!(b.synced(sync).error_code, 0);
    // Both live, but only one asked for its assignment.
    for _ in 0..(REBALANCE_MS / 5_000) {
        b.pass(5_000);
        b.heartbeat(&a, 2);
        b.heartbeat(&second, 2);
    }
    assert_eq!(b.heartbeat(&second, 2), KafkaError::UnknownMemberId.code());
    assert_eq!(b.heartbeat(&a, 2), KafkaError::RebalanceInProgress.code());
}

#[test]
fn a_rebalance_while_the_assignment_is_awaited_sends_syncers_back_to_join() {
    let mut b = Bench::new();
    let a = b.stable_single();
    let (second, token) = b.join_dynamic("b");
    let again = b.join(9, join_request(&a, None, &["range"]));
    b.joined(again);
    b.joined(token);
    let sync = b.sync(&second, 2, &[]);
    assert!(b.is_waiting(sync));
    let (_, third) = b.join_dynamic("c");
    assert_eq!(
        b.synced(sync).error_code,
        KafkaError::RebalanceInProgress.code()
    );
    assert!(b.is_waiting(third));
    let late = b.sync(&a, 2, &[]);
    assert_eq!(
        b.synced(late).error_code,
        KafkaError::RebalanceInProgress.code()
    );
}

#[test]
fn an_assignment_that_commits_after_the_next_rebalance_began_is_nobodys() {
    let mut b = Bench::new();
    let a = b.stable_single();
    let again = b.join(9, join_request(&a, None, &["range"]));
    assert_eq!(b.joined(again).generation_id, 2);
    b.auto_commit = false;
    let sync = b.sync(&a, 2, &[(&a, "A")]);
    let (_, third) = b.join_dynamic("c");
    assert_eq!(
        b.synced(sync).error_code,
        KafkaError::RebalanceInProgress.code()
    );
    b.commit_one();
    assert_eq!(b.state(), "PreparingRebalance");
    assert!(b.is_waiting(third));
}

#[test]
fn only_the_leader_or_a_change_begins_a_rebalance_by_joining_again() {
    let mut b = Bench::new();
    let (a, c) = b.stable_pair();
    let same = b.join(9, join_request(&c, None, &["range"]));
    let joined = b.joined(same);
    assert_eq!((joined.error_code, joined.generation_id), (0, 2));
    assert_eq!(b.state(), "Stable");
    let changed = b.join(9, join_request(&c, None, &["range", "roundrobin"]));
    assert!(b.is_waiting(changed));
    let leader = b.join(9, join_request(&a, None, &["range"]));
    assert_eq!(b.joined(leader).generation_id, 3);
    assert_eq!(b.joined(changed).protocol_name.as_deref(), Some("range"));
}

#[test]
fn the_protocol_is_the_common_one_with_most_votes() {
    let mut b = Bench::new();
    let mut tokens = Vec::new();
    for protocols in [&["x", "y", "z"][..], &["y", "x"], &["y", "x", "w"]] {
        tokens.push(b.join(3, join_request("", None, protocols)));
    }
    b.pass(5);
    for token in tokens {
        assert_eq!(b.joined(token).protocol_name.as_deref(), Some("y"));
    }
    let none = b.join(3, join_request("", None, &["w"]));
    assert_eq!(
        b.joined(none).error_code,
        KafkaError::InconsistentGroupProtocol.code()
    );
    let mut other = join_request("", None, &["y"]);
    other.protocol_type = super::bench::str_bytes("connect");
    let other = b.join(3, other);
    assert_eq!(
        b.joined(other).error_code,
        KafkaError::InconsistentGroupProtocol.code()
    );
}

#[test]
fn a_group_of_full_size_takes_nobody() {
    let mut b = Bench::with(GroupConfig {
        max_size: 1,
        ..config()
    });
    let a = b.stable_single();
    let token = b.join(9, join_request("", None, &["range"]));
    assert_eq!(
        b.joined(token).error_code,
        KafkaError::GroupMaxSizeReached.code()
    );
    let again = b.join(9, join_request(&a, None, &["range"]));
    assert_eq!(b.joined(again).error_code, 0);
}

#[test]
fn refusals() {
    let mut b = Bench::new();
    let cases: Vec<(JoinEdit, KafkaError)> = vec![
        (
            |r| r.session_timeout_ms = 5_999,
            KafkaError::InvalidSessionTimeout,
        ),
        (
            |r| r.session_timeout_ms = 1_800_001,
            KafkaError::InvalidSessionTimeout,
        ),
        (
            |r| r.group_id = Default::default(),
            KafkaError::InvalidGroupId,
        ),
        (
            |r| r.member_id = "stranger".into(),
            KafkaError::UnknownMemberId,
        ),
        (
            |r| r.protocols.clear(),
            KafkaError::InconsistentGroupProtocol,
        ),
        (
            |r| r.protocol_type = Default::default(),
            KafkaError::InconsistentGroupProtocol,
        ),
        (
            |r| r.group_instance_id = Some("x".repeat(40_000).into()),
            KafkaError::InvalidRequest,
        ),
    ];
    for (edit, error) in cases {
        let mut request = join_request("", None, &["range"]);
        edit(&mut request);
        let token = b.join(9, request);
        assert_eq!(b.joined(token).error_code, error.code(), "{error:?}");
    }
    assert!(b.log.is_empty(), "a refused request makes no group");
    let token = b.sync("a", 1, &[]);
    assert_eq!(
        b.synced(token).error_code,
        KafkaError::UnknownMemberId.code()
    );
}

type JoinEdit = fn(&mut kafka_protocol::messages::JoinGroupRequest);

#[test]
fn a_sync_with_the_wrong_protocol_or_generation_is_refused() {
    let mut b = Bench::new();
    let a = b.stable_single();
    let token = b.sync(&a, 2, &[]);
    assert_eq!(
        b.synced(token).error_code,
        KafkaError::IllegalGeneration.code()
    );
    for (protocol_type, protocol_name) in [
        (Some("connect"), Some("range")),
        (Some("consumer"), Some("x")),
        (None, None),
    ] {
        let request = kafka_protocol::messages::SyncGroupRequest::default()
            .with_group_id(kafka_protocol::messages::GroupId("g".into()))
            .with_generation_id(1)
            .with_member_id(super::bench::str_bytes(&a))
            .with_protocol_type(protocol_type.map(super::bench::str_bytes))
            .with_protocol_name(protocol_name.map(super::bench::str_bytes));
        let token = b.send(5, GroupRequest::Sync(request));
        assert_eq!(
            b.synced(token).error_code,
            KafkaError::InconsistentGroupProtocol.code()
        );
    }
}

#[test]
fn a_member_that_never_returns_with_its_id_does_not_block_the_group() {
    let mut b = Bench::new();
    let a = b.stable_single();
    let token = b.join(9, join_request("", None, &["range"]));
    assert_eq!(
        b.joined(token).error_code,
        KafkaError::MemberIdRequired.code()
    );
    // The leader rejoins: the rebalance waits for the pending member, until its session would have ended.
    let again = b.join(9, join_request(&a, None, &["range"]));
    assert!(b.is_waiting(again));
    b.pass(i64::from(SESSION_MS));
    assert_eq!(b.joined(again).generation_id, 2);
}

#[test]
fn a_repeated_join_supersedes_the_waiting_one() {
    let mut b = Bench::new();
    let a = b.stable_single();
    let (second, first_try) = b.join_dynamic("b");
    let second_try = b.join(9, join_request(&second, None, &["range"]));
    assert_eq!(
        b.joined(first_try).error_code,
        KafkaError::RebalanceInProgress.code()
    );
    let again = b.join(9, join_request(&a, None, &["range"]));
    assert_eq!(b.joined(again).members.len(), 2);
    assert_eq!(b.joined(second_try).error_code, 0);
}

#[test]
fn version_0_has_one_timeout_and_an_old_leave_one_error() {
    let mut b = Bench::new();
    let mut request = join_request("", None, &["range"]);
    request.rebalance_timeout_ms = -1;
    let token = b.join(0, request);
    b.pass(1);
    let member = b.joined(token).member_id.to_string();
    let request = kafka_protocol::messages::LeaveGroupRequest::default()
        .with_group_id(kafka_protocol::messages::GroupId("g".into()))
        .with_member_id(super::bench::str_bytes(&member));
    for error in [0, KafkaError::UnknownMemberId.code()] {
        let token = b.send(1, GroupRequest::Leave(request.clone()));
        let GroupResponse::Leave(response) = b.reply(token) else {
            panic!("not a Leave");
        };
        assert_eq!((response.error_code, response.members.len()), (error, 0));
    }
}
