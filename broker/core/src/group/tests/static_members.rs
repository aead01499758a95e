use kafka_protocol::ResponseError as KafkaError;

use super::bench::{Bench, SESSION_MS, config, join_request};
use crate::group::GroupResponse;

/// A static leader "i1" and a static follower "i2", stable in generation 1.
fn static_pair(b: &mut Bench) -> (String, String) {
    let first = b.join(9, join_request("", Some("i1"), &["range"]));
    let second = b.join(9, join_request("", Some("i2"), &["range"]));
    b.pass(5);
    let (x, y) = (b.joined(first), b.joined(second));
    let (leader, follower) = if x.members.is_empty() { (y, x) } else { (x, y) };
    let (l, f) = (leader.member_id.to_string(), follower.member_id.to_string());
    let sync_f = b.sync(&f, 1, &[]);
    let sync_l = b.sync(&l, 1, &[(&l, "L"), (&f, "F")]);
    assert_eq!(b.synced(sync_l).assignment, "L");
    assert_eq!(b.synced(sync_f).assignment, "F");
    (l, f)
}

#[test]
fn a_static_member_needs_no_second_round_and_is_named_by_its_instance() {
    let mut b = Bench::new();
    let (leader, follower) = static_pair(&mut b);
    assert!(leader.starts_with("i1-") && follower.starts_with("i2-"));
}

#[test]
fn a_returning_follower_keeps_its_assignment_without_a_rebalance() {
    let mut b = Bench::new();
    let (leader, follower) = static_pair(&mut b);
    b.auto_commit = false;
    let back = b.join(9, join_request("", Some("i2"), &["range"]));
    assert!(b.is_waiting(back), "the new id is told when it is durable");
    b.commit_one();
    let joined = b.joined(back);
    assert_eq!(
        (
            joined.error_code,
            joined.generation_id,
            joined.skip_assignment
        ),
        (0, 1, false)
    );
    assert_eq!(joined.leader.as_str(), leader);
    let new_id = joined.member_id.to_string();
    assert_ne!(new_id, follower);
    let sync = b.sync(&new_id, 1, &[]);
    assert_eq!(b.synced(sync).assignment, "F");
    assert_eq!(b.state(), "Stable");
    assert_eq!(
        b.heartbeat(&follower, 1),
        KafkaError::UnknownMemberId.code()
    );
    // The replacement is in the log.
    let mut replayed = b.replayed(config());
    assert_eq!(replayed.heartbeat(&new_id, 1), 0);
    assert_eq!(
        replayed.heartbeat(&follower, 1),
        KafkaError::UnknownMemberId.code()
    );
}

#[test]
fn a_returning_leader_skips_the_assignment_or_is_told_that_the_old_id_leads() {
    for (version, skips) in [(9, true), (8, false)] {
        let mut b = Bench::new();
        let (leader, _) = static_pair(&mut b);
        let back = b.join(version, join_request("", Some("i1"), &["range"]));
        let joined = b.joined(back);
        assert_eq!(joined.skip_assignment, skips);
        assert_eq!(joined.members.len(), if skips { 2 } else { 0 });
        assert_eq!(joined.leader.as_str() == leader, !skips);
        assert_eq!(b.state(), "Stable");
    }
}

#[test]
fn a_replacement_that_is_not_written_is_taken_back() {
    let mut b = Bench::new();
    let (_, follower) = static_pair(&mut b);
    b.auto_commit = false;
    let back = b.join(9, join_request("", Some("i2"), &["range"]));
    b.fail_one(KafkaError::NotLeaderOrFollower);
    assert_eq!(b.joined(back).error_code, KafkaError::NotCoordinator.code());
    assert_eq!(b.heartbeat(&follower, 1), 0);
    let sync = b.sync(&follower, 1, &[]);
    assert_eq!(b.synced(sync).assignment, "F");
}

#[test]
fn a_changed_protocol_makes_a_rebalance() {
    let mut b = Bench::new();
    let first = b.join(9, join_request("", Some("i1"), &["range", "sticky"]));
    b.pass(1);
    let member = b.joined(first).member_id.to_string();
    let sync = b.sync(&member, 1, &[(&member, "A")]);
    b.synced(sync);
    let back = b.join(9, join_request("", Some("i1"), &["sticky", "range"]));
    let joined = b.joined(back);
    assert_eq!(
        (joined.generation_id, joined.protocol_name.as_deref()),
        (2, Some("sticky"))
    );
}

#[test]
fn an_old_incarnation_is_fenced() {
    let mut b = Bench::new();
    let (_, follower) = static_pair(&mut b);
    let back = b.join(9, join_request("", Some("i2"), &["range"]));
    b.joined(back);
    let old = b.join(9, join_request(&follower, Some("i2"), &["range"]));
    assert_eq!(
        b.joined(old).error_code,
        KafkaError::FencedInstanceId.code()
    );
    let stranger = b.join(9, join_request(&follower, Some("i9"), &["range"]));
    assert_eq!(
        b.joined(stranger).error_code,
        KafkaError::UnknownMemberId.code()
    );
}

#[test]
fn one_that_waits_is_fenced_when_another_takes_its_place() {
    let mut b = Bench::new();
    let (leader, follower) = static_pair(&mut b);
    let rejoin = b.join(9, join_request(&leader, Some("i1"), &["range"]));
    assert!(b.is_waiting(rejoin));
    let usurper = b.join(9, join_request("", Some("i1"), &["range"]));
    assert_eq!(
        b.joined(rejoin).error_code,
        KafkaError::FencedInstanceId.code()
    );
    let other = b.join(9, join_request(&follower, Some("i2"), &["range"]));
    assert_eq!(b.joined(usurper).generation_id, 2);
    assert_eq!(b.joined(other).generation_id, 2);
}

#[test]
fn a_replacement_while_the_assignment_is_awaited_begins_anew() {
    let mut b = Bench::new();
    let (leader, follower) = static_pair(&mut b);
    let x = b.join(9, join_request(&leader, Some("i1"), &["range"]));
    let y = b.join(9, join_request(&follower, Some("i2"), &["range"]));
    b.joined(x);
    b.joined(y);
    let waiting = b.sync(&follower, 2, &[]);
    let back = b.join(9, join_request("", Some("i2"), &["range"]));
    assert_eq!(
        b.synced(waiting).error_code,
        KafkaError::FencedInstanceId.code()
    );
    assert!(b.is_waiting(back));
    let again = b.join(9, join_request(&leader, Some("i1"), &["range"]));
    assert_eq!(b.joined(again).generation_id, 3);
    assert_eq!(b.joined(back).generation_id, 3);
}

#[test]
fn a_static_member_survives_a_rebalance_it_misses_but_not_its_session() {
    let mut b = Bench::new();
    let (leader, follower) = static_pair(&mut b);
    let token = b.join(9, join_request(&leader, Some("i1"), &["range"]));
    b.pass(i64::from(SESSION_MS) - 1);
    assert!(b.is_waiting(token));
    b.pass(1);
    assert_eq!(b.joined(token).members.len(), 1);
    assert_eq!(
        b.heartbeat(&follower, 2),
        KafkaError::UnknownMemberId.code()
    );
}

#[test]
fn an_administrator_removes_by_instance_id() {
    let mut b = Bench::new();
    let (_, follower) = static_pair(&mut b);
    for (instance, error) in [("i2", 0), ("i2", KafkaError::UnknownMemberId.code())] {
        let token = b.leave("", Some(instance));
        let GroupResponse::Leave(left) = b.reply(token) else {
            panic!("not a Leave");
        };
        assert_eq!(left.members[0].error_code, error);
        assert_eq!(left.members[0].group_instance_id.as_deref(), Some(instance));
    }
    assert_eq!(
        b.heartbeat(&follower, 1),
        KafkaError::UnknownMemberId.code()
    );
    assert_eq!(b.state(), "PreparingRebalance");
}
