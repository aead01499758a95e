use kafka_protocol::ResponseError as KafkaError;
use kafka_protocol::messages::offset_delete_request::{
    OffsetDeleteRequestPartition, OffsetDeleteRequestTopic,
};
use kafka_protocol::messages::{
    DeleteGroupsRequest, GroupId, ListGroupsRequest, OffsetDeleteRequest, TopicName,
};

use super::bench::{Bench, GROUP, config, join_request, str_bytes};
use crate::group::{GroupEvent, GroupRequest, GroupResponse};

fn delete_groups(b: &mut Bench, groups: &[&str]) -> u64 {
    let names = groups.iter().map(|id| GroupId(str_bytes(id))).collect();
    b.send(
        2,
        GroupRequest::Delete(DeleteGroupsRequest::default().with_groups_names(names)),
    )
}

fn delete_results(b: &mut Bench, token: u64) -> Vec<i16> {
    let GroupResponse::Delete(response) = b.reply(token) else {
        panic!("not a DeleteGroups");
    };
    response.results.iter().map(|r| r.error_code).collect()
}

fn delete_offset(b: &mut Bench, topic: &str) -> (i16, i16) {
    let request = OffsetDeleteRequest::default()
        .with_group_id(GroupId(str_bytes(GROUP)))
        .with_topics(vec![
            OffsetDeleteRequestTopic::default()
                .with_name(TopicName(str_bytes(topic)))
                .with_partitions(vec![
                    OffsetDeleteRequestPartition::default().with_partition_index(0),
                ]),
        ]);
    let token = b.send(0, GroupRequest::OffsetDelete(request));
    let GroupResponse::OffsetDelete(response) = b.reply(token) else {
        panic!("not an OffsetDelete");
    };
    let partition = response
        .topics
        .first()
        .map_or(0, |t| t.partitions[0].error_code);
    (response.error_code, partition)
}

fn listed(b: &mut Bench, states: &[&str], types: &[&str]) -> Vec<(String, String)> {
    let request = ListGroupsRequest::default()
        .with_states_filter(states.iter().map(|s| str_bytes(s)).collect())
        .with_types_filter(types.iter().map(|s| str_bytes(s)).collect());
    let token = b.send(5, GroupRequest::List(request));
    let GroupResponse::List(response) = b.reply(token) else {
        panic!("not a ListGroups");
    };
    response
        .groups
        .iter()
        .map(|g| (g.group_id.to_string(), g.group_state.to_string()))
        .collect()
}

#[test]
fn only_an_empty_group_is_deleted() {
    let mut b = Bench::new();
    let a = b.stable_single();
    b.commit(9, &a, 1, &[("t", 0, 5)]);
    let token = delete_groups(&mut b, &[GROUP, "other"]);
    assert_eq!(
        delete_results(&mut b, token),
        [
            KafkaError::NonEmptyGroup.code(),
            KafkaError::GroupIdNotFound.code()
        ]
    );
    b.leave(&a, None);
    b.auto_commit = false;
    let token = delete_groups(&mut b, &[GROUP]);
    assert!(b.is_waiting(token));
    b.commit_one();
    assert_eq!(delete_results(&mut b, token), [0]);
    assert_eq!(b.fetch(GROUP), vec![]);
    let gone = b.describe(GROUP);
    assert_eq!(
        (gone.group_state.as_str(), gone.error_code),
        ("Dead", KafkaError::GroupIdNotFound.code())
    );
    let mut replayed = b.replayed(config());
    assert_eq!(replayed.fetch(GROUP), vec![]);
    assert_eq!(listed(&mut replayed, &[], &[]), vec![]);
}

#[test]
fn a_deletion_that_is_not_written_leaves_everything() {
    let mut b = Bench::new();
    b.commit(9, "", -1, &[("t", 0, 5)]);
    b.auto_commit = false;
    let token = delete_groups(&mut b, &[GROUP]);
    b.fail_one(KafkaError::NotEnoughReplicas);
    assert_eq!(
        delete_results(&mut b, token),
        [KafkaError::CoordinatorNotAvailable.code()]
    );
    assert_eq!(b.fetch(GROUP), vec![("t".to_owned(), 0, 5)]);
    assert_eq!(b.state(), "Empty");
}

#[test]
fn a_deletion_takes_commits_that_are_on_their_way_but_not_what_comes_later() {
    let mut b = Bench::new();
    b.commit(9, "", -1, &[("t", 0, 1)]);
    b.auto_commit = false;
    b.commit(9, "", -1, &[("t", 1, 2)]);
    let token = delete_groups(&mut b, &[GROUP]);
    b.join(9, join_request("", None, &["range"]));
    b.commit(9, "", -1, &[("t", 2, 3)]);
    while !b.in_flight.is_empty() {
        b.commit_one();
    }
    assert_eq!(delete_results(&mut b, token), [0]);
    assert_eq!(b.fetch(GROUP), vec![("t".to_owned(), 2, 3)]);
    assert_eq!(b.state(), "Empty");
    assert_eq!(
        b.replayed(config()).fetch(GROUP),
        vec![("t".to_owned(), 2, 3)]
    );
}

#[test]
fn offsets_of_subscribed_topics_are_not_deleted() {
    let mut b = Bench::new();
    assert_eq!(
        delete_offset(&mut b, "t"),
        (KafkaError::GroupIdNotFound.code(), 0)
    );
    let a = b.stable_single();
    b.commit(9, &a, 1, &[("t", 0, 5), ("u", 0, 6)]);
    assert_eq!(
        delete_offset(&mut b, "t"),
        (0, KafkaError::GroupSubscribedToTopic.code())
    );
    assert_eq!(delete_offset(&mut b, "u"), (0, 0));
    assert_eq!(b.fetch(GROUP), vec![("t".to_owned(), 0, 5)]);
    b.leave(&a, None);
    assert_eq!(delete_offset(&mut b, "t"), (0, 0));
    assert_eq!(b.fetch(GROUP), vec![]);
    assert_eq!(b.replayed(config()).fetch(GROUP), vec![]);
}

#[test]
fn a_deleted_topics_offsets_are_gone_everywhere() {
    let mut b = Bench::new();
    b.commit(9, "", -1, &[("t", 0, 5), ("t", 1, 6), ("t2", 0, 7)]);
    b.event(GroupEvent::TopicsDeleted {
        topics: vec!["t".to_owned(), "never".to_owned()],
    });
    assert_eq!(b.fetch(GROUP), vec![("t2".to_owned(), 0, 7)]);
    assert_eq!(
        b.replayed(config()).fetch(GROUP),
        vec![("t2".to_owned(), 0, 7)]
    );
}

#[test]
fn lists_filter_by_state_and_type() {
    let mut b = Bench::new();
    b.stable_single();
    let stable = vec![(GROUP.to_owned(), "Stable".to_owned())];
    assert_eq!(listed(&mut b, &[], &[]), stable);
    assert_eq!(listed(&mut b, &["stable"], &["classic"]), stable);
    assert_eq!(listed(&mut b, &["Empty"], &[]), vec![]);
    assert_eq!(listed(&mut b, &[], &["consumer"]), vec![]);
}

#[test]
fn a_description_shows_members_and_when_stable_their_assignment() {
    let mut b = Bench::new();
    let (a, c) = b.stable_pair();
    let described = b.describe(GROUP);
    assert_eq!(described.protocol_data.as_str(), "range");
    let ids: Vec<&str> = described
        .members
        .iter()
        .map(|m| m.member_id.as_str())
        .collect();
    assert_eq!(ids, [a.as_str(), c.as_str()]);
    assert_eq!(described.members[1].member_assignment, "B");
    assert_eq!(described.members[0].client_id.as_str(), "a");
    assert_eq!(described.members[0].client_host.as_str(), "/127.0.0.1");
    b.join(9, join_request(&a, None, &["range"]));
    let described = b.describe(GROUP);
    assert_eq!(described.group_state.as_str(), "PreparingRebalance");
    assert!(
        described.members[0].member_assignment.is_empty() && described.protocol_data.is_empty()
    );
}
