use kafka_protocol::ResponseError as KafkaError;

use super::bench::{Bench, GROUP, join_request};
use crate::group::GroupEvent;

#[test]
fn a_group_whose_first_record_is_lost_never_was() {
    let mut b = Bench::new();
    b.auto_commit = false;
    let token = b.join(3, join_request("", None, &["range"]));
    b.fail_one(KafkaError::NotEnoughReplicas);
    assert_eq!(
        b.joined(token).error_code,
        KafkaError::CoordinatorNotAvailable.code()
    );
    assert_eq!(b.shard.group_count(), 0);
    assert!(b.open.is_empty());
    // Its deadlines are gone with it.
    b.auto_commit = true;
    b.pass(10 * 60 * 1_000);
}

#[test]
fn an_assignment_that_is_not_written_sends_everyone_back_to_join() {
    let mut b = Bench::new();
    let (a, token) = b.join_dynamic("a");
    b.pass(1);
    b.joined(token);
    b.auto_commit = false;
    let sync = b.sync(&a, 1, &[(&a, "A")]);
    b.fail_one(KafkaError::RequestTimedOut);
    assert_eq!(
        b.synced(sync).error_code,
        KafkaError::CoordinatorNotAvailable.code()
    );
    assert_eq!(b.state(), "PreparingRebalance");
    let again = b.join(9, join_request(&a, None, &["range"]));
    assert_eq!(b.joined(again).generation_id, 2);
}

#[test]
fn an_unload_answers_everyone_and_then_nobody_is_served() {
    let mut b = Bench::new();
    let a = b.stable_single();
    let (_, joining) = b.join_dynamic("b");
    b.auto_commit = false;
    let committing = b.commit(9, &a, 1, &[("t", 0, 5)]);
    b.event(GroupEvent::Unload);
    assert_eq!(
        b.joined(joining).error_code,
        KafkaError::NotCoordinator.code()
    );
    assert_eq!(
        b.commit_error(committing),
        KafkaError::NotCoordinator.code()
    );
    assert!(b.open.is_empty());
    assert_eq!(b.heartbeat(&a, 1), KafkaError::NotCoordinator.code());
    let token = b.join(9, join_request("", None, &["range"]));
    assert_eq!(
        b.joined(token).error_code,
        KafkaError::NotCoordinator.code()
    );
    // What the log says afterwards is nobody's business here.
    b.commit_one();
    b.event(GroupEvent::TopicsDeleted {
        topics: vec!["t".to_owned()],
    });
    assert_eq!(b.shard.next_deadline(), None);
    assert!(b.in_flight.is_empty());
}

#[test]
fn an_unload_answers_those_who_wait_for_an_assignment() {
    let mut b = Bench::new();
    let (a, token) = b.join_dynamic("a");
    b.pass(1);
    b.joined(token);
    b.auto_commit = false;
    let sync = b.sync(&a, 1, &[(&a, "A")]);
    b.event(GroupEvent::Unload);
    assert_eq!(b.synced(sync).error_code, KafkaError::NotCoordinator.code());
}

#[test]
fn a_leave_that_empties_the_group_is_told_when_it_was_not_written() {
    let mut b = Bench::new();
    let a = b.stable_single();
    b.auto_commit = false;
    let token = b.leave(&a, None);
    b.fail_one(KafkaError::NotLeaderOrFollower);
    let crate::group::GroupResponse::Leave(left) = b.reply(token) else {
        panic!("not a Leave");
    };
    assert_eq!(left.error_code, KafkaError::NotCoordinator.code());
    assert_eq!(b.describe(GROUP).group_state.as_str(), "Empty");
}
