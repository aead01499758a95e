use bytes::Bytes;
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use kafka_protocol::messages::offset_fetch_request::OffsetFetchRequestGroup;
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::messages::{
    DescribeGroupsRequest, DescribeGroupsResponse, FindCoordinatorRequest, FindCoordinatorResponse,
    GroupId, JoinGroupRequest, JoinGroupResponse, ListGroupsRequest, ListGroupsResponse,
    OffsetCommitRequest, OffsetCommitResponse, OffsetFetchRequest, OffsetFetchResponse,
    SyncGroupRequest, SyncGroupResponse,
};
use strandline_wire::KafkaError;

use super::harness::Node;
use crate::api::text::{text, topic_name};

fn group() -> GroupId {
    GroupId(text("g"))
}

async fn find(node: &Node) {
    loop {
        let found: FindCoordinatorResponse = node
            .ask(
                4,
                FindCoordinatorRequest::default().with_coordinator_keys(vec![text("g")]),
            )
            .await;
        let found = &found.coordinators[0];
        assert_eq!(
            (found.error_code, found.node_id.0, found.port),
            (0, 1, 9092)
        );
        // Loading is a matter of milliseconds, but it is one.
        let answer = committed(node).await;
        if answer.0 != KafkaError::CoordinatorLoadInProgress.code() {
            return;
        }
        tokio::task::yield_now().await;
    }
}

async fn committed(node: &Node) -> (i16, Vec<(i32, i64)>) {
    let request = OffsetFetchRequest::default().with_groups(vec![
        OffsetFetchRequestGroup::default()
            .with_group_id(group())
            .with_topics(None),
    ]);
    let response: OffsetFetchResponse = node.ask(8, request).await;
    let answer = &response.groups[0];
    let offsets = answer
        .topics
        .iter()
        .flat_map(|topic| &topic.partitions)
        .map(|partition| (partition.partition_index, partition.committed_offset))
        .collect();
    (answer.error_code, offsets)
}

async fn commit(node: &Node, topic: &str, partition: i32, offset: i64) -> i16 {
    let partition = OffsetCommitRequestPartition::default()
        .with_partition_index(partition)
        .with_committed_offset(offset);
    let topic = OffsetCommitRequestTopic::default()
        .with_name(topic_name(topic))
        .with_partitions(vec![partition]);
    let request = OffsetCommitRequest::default()
        .with_group_id(group())
        .with_generation_id_or_member_epoch(-1)
        .with_topics(vec![topic]);
    let response: OffsetCommitResponse = node.ask(8, request).await;
    response.topics[0].partitions[0].error_code
}

#[tokio::test(flavor = "multi_thread")]
async fn committed_offsets_survive_a_restart_and_go_with_their_topic() {
    let dir = tempfile::tempdir().expect("a folder");
    let node = Node::start(dir.path(), &[]).await;
    node.create_topic("t", 2, &[]).await;
    find(&node).await;
    assert_eq!(commit(&node, "t", 1, 42).await, 0);
    assert_eq!(
        commit(&node, "none", 0, 1).await,
        KafkaError::UnknownTopicOrPartition.code()
    );
    assert_eq!(committed(&node).await, (0, vec![(1, 42)]));
    node.stop().await;

    let node = Node::start(dir.path(), &[]).await;
    find(&node).await;
    assert_eq!(committed(&node).await, (0, vec![(1, 42)]));
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_joins_syncs_and_is_described() {
    let dir = tempfile::tempdir().expect("a folder");
    let node = Node::start(dir.path(), &[]).await;
    find(&node).await;
    let protocol = JoinGroupRequestProtocol::default()
        .with_name(text("range"))
        .with_metadata(Bytes::from_static(b"\0\x01\0\0\0\0\0\0\0\0"));
    let join = |member: &str| {
        JoinGroupRequest::default()
            .with_group_id(group())
            .with_session_timeout_ms(10_000)
            .with_rebalance_timeout_ms(10_000)
            .with_member_id(text(member))
            .with_protocol_type(text("consumer"))
            .with_protocols(vec![protocol.clone()])
    };
    let first: JoinGroupResponse = node.ask(5, join("")).await;
    assert_eq!(first.error_code, KafkaError::MemberIdRequired.code());
    let joined: JoinGroupResponse = node.ask(5, join(&first.member_id)).await;
    assert_eq!((joined.error_code, joined.generation_id), (0, 1));
    assert_eq!(joined.leader, joined.member_id);
    let assignment = SyncGroupRequestAssignment::default()
        .with_member_id(joined.member_id.clone())
        .with_assignment(Bytes::from_static(b"mine"));
    let sync = SyncGroupRequest::default()
        .with_group_id(group())
        .with_generation_id(1)
        .with_member_id(joined.member_id.clone())
        .with_assignments(vec![assignment]);
    let synced: SyncGroupResponse = node.ask(3, sync).await;
    assert_eq!(
        (synced.error_code, &synced.assignment[..]),
        (0, &b"mine"[..])
    );
    let described: DescribeGroupsResponse = node
        .ask(
            5,
            DescribeGroupsRequest::default().with_groups(vec![group(), GroupId(text("nobody"))]),
        )
        .await;
    assert_eq!(described.groups.len(), 2);
    assert_eq!(described.groups[0].group_state.as_str(), "Stable");
    assert_eq!(
        described.groups[0].members[0].client_host.as_str(),
        "/127.0.0.1"
    );
    assert_eq!(described.groups[1].group_state.as_str(), "Dead");
    let listed: ListGroupsResponse = node.ask(4, ListGroupsRequest::default()).await;
    assert_eq!(listed.groups.len(), 1);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_coordinates_before_the_topic_is_there() {
    let dir = tempfile::tempdir().expect("a folder");
    let node = Node::start(dir.path(), &[]).await;
    assert_eq!(committed(&node).await.0, KafkaError::NotCoordinator.code());
    node.stop().await;
}
