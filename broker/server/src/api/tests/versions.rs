//! Every API answers in every version that it serves, when all is well and when it is not: a field that a version lacks
//! must not be set in it.

use bytes::Bytes;
use kafka_protocol::messages::alter_configs_request::AlterConfigsResource as ReplacedResource;
use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::delete_records_request::{
    DeleteRecordsPartition, DeleteRecordsTopic,
};
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_producers_request::TopicRequest as ProducersTopic;
use kafka_protocol::messages::describe_topic_partitions_request::TopicRequest;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::incremental_alter_configs_request::{
    AlterConfigsResource, AlterableConfig,
};
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use kafka_protocol::messages::offset_delete_request::{
    OffsetDeleteRequestPartition, OffsetDeleteRequestTopic,
};
use kafka_protocol::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopic,
};
use kafka_protocol::messages::offset_for_leader_epoch_request::{
    OffsetForLeaderPartition, OffsetForLeaderTopic,
};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::*;
use strandline_wire::{Api, Request};
use uuid::Uuid;

use super::harness::{Node, batch, body, frame_of};
use crate::api::ResponseBody;
use crate::api::text::{text, topic_name};

/// A request about topic `name` (with its id) or, if it does not exist, about nothing that does.
fn request(api: Api, version: i16, name: &str, id: Uuid) -> Request {
    let topic = topic_name(name);
    let group = GroupId(text("g"));
    let by_id = |since: i16| {
        if version >= since {
            (TopicName::default(), id)
        } else {
            (topic.clone(), Uuid::nil())
        }
    };
    match api {
        Api::Produce => {
            let (name, topic_id) = by_id(13);
            let data = PartitionProduceData::default().with_records(Some(batch(&["v"])));
            let topic = TopicProduceData::default()
                .with_name(name)
                .with_topic_id(topic_id)
                .with_partition_data(vec![data]);
            ProduceRequest::default()
                .with_acks(-1)
                .with_timeout_ms(5000)
                .with_topic_data(vec![topic])
                .into()
        }
        Api::Fetch => {
            let (name, topic_id) = by_id(13);
            let partition = FetchPartition::default()
                .with_partition_max_bytes(1 << 20)
                .with_current_leader_epoch(-1);
            let topic = FetchTopic::default()
                .with_topic(name)
                .with_topic_id(topic_id)
                .with_partitions(vec![partition]);
            FetchRequest::default()
                .with_replica_id(BrokerId(-1))
                .with_isolation_level(1)
                .with_session_epoch(-1)
                .with_max_bytes(1 << 20)
                .with_topics(vec![topic])
                .into()
        }
        Api::ListOffsets => {
            let partition = ListOffsetsPartition::default()
                .with_timestamp(-1)
                .with_current_leader_epoch(-1);
            let topic = ListOffsetsTopic::default()
                .with_name(topic)
                .with_partitions(vec![partition]);
            ListOffsetsRequest::default()
                .with_replica_id(BrokerId(-1))
                .with_topics(vec![topic])
                .into()
        }
        Api::Metadata => MetadataRequest::default()
            .with_topics(Some(vec![
                MetadataRequestTopic::default().with_name(Some(topic)),
            ]))
            .with_allow_auto_topic_creation(false)
            .with_include_topic_authorized_operations(true)
            .with_include_cluster_authorized_operations(true)
            .into(),
        Api::OffsetCommit => {
            let partition = OffsetCommitRequestPartition::default().with_committed_offset(1);
            let topic = OffsetCommitRequestTopic::default()
                .with_name(topic)
                .with_partitions(vec![partition]);
            OffsetCommitRequest::default()
                .with_group_id(group)
                .with_generation_id_or_member_epoch(-1)
                .with_topics(vec![topic])
                .into()
        }
        Api::OffsetFetch if version >= 8 => {
            let group = OffsetFetchRequestGroup::default()
                .with_group_id(group)
                .with_topics(None);
            OffsetFetchRequest::default()
                .with_groups(vec![group])
                .into()
        }
        Api::OffsetFetch => {
            let topic = OffsetFetchRequestTopic::default()
                .with_name(topic)
                .with_partition_indexes(vec![0]);
            OffsetFetchRequest::default()
                .with_group_id(group)
                .with_topics(Some(vec![topic]))
                .into()
        }
        // A name that is free stands for a transactional id, which is refused.
        Api::FindCoordinator => {
            let kind = i8::from(name != "t" && version >= 1);
            let request = FindCoordinatorRequest::default().with_key_type(kind);
            match version {
                4.. => request.with_coordinator_keys(vec![text("g")]).into(),
                _ => request.with_key(text("g")).into(),
            }
        }
        Api::JoinGroup => JoinGroupRequest::default()
            .with_group_id(GroupId(text(format!("join-{version}-{name}"))))
            .with_session_timeout_ms(if name == "t" { 10_000 } else { 1 })
            .with_rebalance_timeout_ms(10_000)
            .with_group_instance_id((version >= 5).then(|| text("instance")))
            .with_protocol_type(text("consumer"))
            .with_protocols(vec![
                JoinGroupRequestProtocol::default()
                    .with_name(text("range"))
                    .with_metadata(Bytes::from_static(b"\0\0\0\0\0\0\0\0\0\0")),
            ])
            .into(),
        Api::Heartbeat => HeartbeatRequest::default()
            .with_group_id(group)
            .with_member_id(text("m"))
            .into(),
        Api::LeaveGroup if version < 3 => LeaveGroupRequest::default()
            .with_group_id(group)
            .with_member_id(text("m"))
            .into(),
        Api::LeaveGroup => LeaveGroupRequest::default()
            .with_group_id(group)
            .with_members(vec![MemberIdentity::default().with_member_id(text("m"))])
            .into(),
        Api::SyncGroup => SyncGroupRequest::default()
            .with_group_id(group)
            .with_member_id(text("m"))
            .into(),
        Api::DescribeGroups => DescribeGroupsRequest::default()
            .with_groups(vec![group, GroupId(text("nobody"))])
            .with_include_authorized_operations(true)
            .into(),
        Api::ListGroups => ListGroupsRequest::default().into(),
        Api::ApiVersions => ApiVersionsRequest::default().into(),
        Api::CreateTopics => {
            let topic = CreatableTopic::default()
                .with_name(topic)
                .with_num_partitions(1)
                .with_replication_factor(1);
            CreateTopicsRequest::default()
                .with_topics(vec![topic])
                .with_validate_only(true)
                .into()
        }
        Api::DeleteTopics if version < 6 => DeleteTopicsRequest::default()
            .with_topic_names(vec![topic_name("free")])
            .into(),
        Api::DeleteTopics => DeleteTopicsRequest::default()
            .with_topics(vec![
                DeleteTopicState::default().with_name(Some(topic_name("free"))),
                DeleteTopicState::default()
                    .with_name(None)
                    .with_topic_id(Uuid::from_u128(5)),
            ])
            .into(),
        Api::DeleteRecords => {
            let topic = DeleteRecordsTopic::default()
                .with_name(topic)
                .with_partitions(vec![DeleteRecordsPartition::default().with_offset(0)]);
            DeleteRecordsRequest::default()
                .with_topics(vec![topic])
                .into()
        }
        Api::InitProducerId => {
            let transactional = (name != "t").then(|| TransactionalId(text("tx")));
            InitProducerIdRequest::default()
                .with_transactional_id(transactional)
                .with_producer_id(ProducerId(-1))
                .with_producer_epoch(-1)
                .into()
        }
        Api::OffsetForLeaderEpoch => {
            let partition = OffsetForLeaderPartition::default()
                .with_current_leader_epoch(-1)
                .with_leader_epoch(0);
            let topic = OffsetForLeaderTopic::default()
                .with_topic(topic)
                .with_partitions(vec![partition]);
            OffsetForLeaderEpochRequest::default()
                .with_replica_id(BrokerId(-1))
                .with_topics(vec![topic])
                .into()
        }
        Api::DescribeConfigs => {
            let resource = |kind, name: &str| {
                DescribeConfigsResource::default()
                    .with_resource_type(kind)
                    .with_resource_name(text(name))
                    .with_configuration_keys(None)
            };
            DescribeConfigsRequest::default()
                .with_resources(vec![
                    resource(2, name),
                    resource(4, "1"),
                    resource(4, ""),
                    resource(4, "9"),
                ])
                .with_include_synonyms(true)
                .with_include_documentation(true)
                .into()
        }
        Api::AlterConfigs => {
            let resource = ReplacedResource::default()
                .with_resource_type(2)
                .with_resource_name(text(name));
            AlterConfigsRequest::default()
                .with_resources(vec![resource])
                .into()
        }
        Api::IncrementalAlterConfigs => {
            let config = AlterableConfig::default()
                .with_name(text("retention.ms"))
                .with_value(Some(text("5000000")));
            let resource = AlterConfigsResource::default()
                .with_resource_type(2)
                .with_resource_name(text(name))
                .with_configs(vec![config]);
            IncrementalAlterConfigsRequest::default()
                .with_resources(vec![resource])
                .into()
        }
        Api::DescribeLogDirs => DescribeLogDirsRequest::default().with_topics(None).into(),
        Api::CreatePartitions => {
            let topic = CreatePartitionsTopic::default()
                .with_name(topic)
                .with_count(2)
                .with_assignments(None);
            CreatePartitionsRequest::default()
                .with_topics(vec![topic])
                .with_validate_only(true)
                .into()
        }
        Api::DeleteGroups => DeleteGroupsRequest::default()
            .with_groups_names(vec![GroupId(text("nobody"))])
            .into(),
        Api::OffsetDelete => {
            let topic = OffsetDeleteRequestTopic::default()
                .with_name(topic)
                .with_partitions(vec![OffsetDeleteRequestPartition::default()]);
            OffsetDeleteRequest::default()
                .with_group_id(group)
                .with_topics(vec![topic])
                .into()
        }
        Api::DescribeCluster => DescribeClusterRequest::default()
            .with_endpoint_type(if name == "t" { 1 } else { 2 })
            .with_include_cluster_authorized_operations(true)
            .into(),
        Api::DescribeProducers => {
            let topic = ProducersTopic::default()
                .with_name(topic)
                .with_partition_indexes(vec![0]);
            DescribeProducersRequest::default()
                .with_topics(vec![topic])
                .into()
        }
        Api::DescribeTopicPartitions => DescribeTopicPartitionsRequest::default()
            .with_topics(vec![TopicRequest::default().with_name(topic)])
            .with_response_partition_limit(10)
            .into(),
    }
}

async fn answers_in_every_version(node: &Node, name: &str, id: Uuid) {
    for api in Api::ALL {
        for version in api.served().iter() {
            let request = request(*api, version, name, id);
            let handled = node.apis.handle(node.context(version), request);
            let answer = body(handled).await;
            if let ResponseBody::Close(reason) = &answer {
                panic!("{api} version {version} about {name}: {reason}");
            }
            let frame = frame_of(answer).expect("an answer");
            let length = u32::from_be_bytes([frame[0], frame[1], frame[2], frame[3]]);
            assert_eq!(
                length as usize + 4,
                frame.len(),
                "{api} version {version} about {name}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_api_answers_in_every_version() {
    let dir = tempfile::tempdir().expect("a folder");
    let node = Node::start(dir.path(), &[]).await;
    node.create_topic("t", 1, &[]).await;
    let id = node.apis.metadata.image().topics.get("t").expect("made").id;
    // Nothing coordinates groups yet, then something does.
    answers_in_every_version(&node, "free", Uuid::from_u128(7)).await;
    answers_in_every_version(&node, "t", id).await;
    answers_in_every_version(&node, "free", Uuid::from_u128(7)).await;
    node.stop().await;
}
