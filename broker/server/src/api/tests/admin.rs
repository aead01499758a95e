use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::messages::delete_records_request::{
    DeleteRecordsPartition, DeleteRecordsTopic,
};
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::incremental_alter_configs_request::{
    AlterConfigsResource, AlterableConfig,
};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::{
    ApiVersionsRequest, ApiVersionsResponse, CreatePartitionsRequest, CreatePartitionsResponse,
    CreateTopicsRequest, CreateTopicsResponse, DeleteRecordsRequest, DeleteRecordsResponse,
    DeleteTopicsRequest, DeleteTopicsResponse, DescribeClusterRequest, DescribeClusterResponse,
    DescribeConfigsRequest, DescribeConfigsResponse, DescribeLogDirsRequest,
    DescribeLogDirsResponse, DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse,
    IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse, MetadataRequest,
    MetadataResponse,
};
use strandline_wire::{Api, KafkaError};

use super::harness::{CLUSTER_ID, Node, batch};
use crate::api::text::{text, topic_name};

fn wanted(name: &str) -> MetadataRequestTopic {
    MetadataRequestTopic::default().with_name(Some(topic_name(name)))
}

#[tokio::test(flavor = "multi_thread")]
async fn metadata_creates_topics_only_when_it_may() {
    let dir = tempfile::tempdir().expect("a folder");
    let node = Node::start(dir.path(), &["num.partitions=3"]).await;
    let ask = |topics, auto| {
        MetadataRequest::default()
            .with_topics(topics)
            .with_allow_auto_topic_creation(auto)
    };
    let none: MetadataResponse = node.ask(9, ask(Some(vec![]), true)).await;
    assert!(none.topics.is_empty());
    assert_eq!(none.cluster_id.expect("an id").as_str(), CLUSTER_ID);
    assert_eq!((none.brokers[0].node_id.0, none.brokers[0].port), (1, 9092));
    let missing: MetadataResponse = node
        .ask(9, ask(Some(vec![wanted("t"), wanted("a b")]), false))
        .await;
    let codes: Vec<i16> = missing
        .topics
        .iter()
        .map(|topic| topic.error_code)
        .collect();
    let expected = [
        KafkaError::UnknownTopicOrPartition.code(),
        KafkaError::InvalidTopicException.code(),
    ];
    assert_eq!(codes, expected);
    let made: MetadataResponse = node.ask(9, ask(Some(vec![wanted("t")]), true)).await;
    assert_eq!(
        (made.topics[0].error_code, made.topics[0].partitions.len()),
        (0, 3)
    );
    assert_eq!(made.topics[0].partitions[2].leader_id.0, 1);
    // Usable at once.
    assert_eq!(node.produce("t", 2, batch(&["a"]), -1).await.error_code, 0);
    let all: MetadataResponse = node.ask(12, ask(None, false)).await;
    assert_eq!(all.topics.len(), 1);
    let by_id = MetadataRequestTopic::default()
        .with_name(None)
        .with_topic_id(all.topics[0].topic_id);
    let found: MetadataResponse = node.ask(12, ask(Some(vec![by_id]), false)).await;
    assert_eq!(found.topics[0].name, Some(topic_name("t")));
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_version_of_metadata_and_api_versions_encodes() {
    let dir = tempfile::tempdir().expect("a folder");
    let node = Node::start(dir.path(), &[]).await;
    node.create_topic("t", 1, &[]).await;
    for version in Api::Metadata.served().iter() {
        let request = MetadataRequest::default()
            .with_topics(Some(vec![wanted("t"), wanted("none")]))
            .with_allow_auto_topic_creation(false);
        let request = if version < 4 {
            request.with_topics(Some(vec![wanted("t")]))
        } else {
            request
        };
        let response: MetadataResponse = node.ask(version, request).await;
        assert_eq!(response.topics[0].partitions.len(), 1, "version {version}");
    }
    for version in Api::ApiVersions.served().iter() {
        let response: ApiVersionsResponse = node.ask(version, ApiVersionsRequest::default()).await;
        assert_eq!(response.api_keys.len(), Api::ALL.len(), "version {version}");
    }
    for version in Api::DescribeCluster.served().iter() {
        let request = DescribeClusterRequest::default().with_endpoint_type(1);
        let response: DescribeClusterResponse = node.ask(version, request).await;
        assert_eq!(
            (response.error_code, response.brokers.len()),
            (0, 1),
            "version {version}"
        );
    }
    node.stop().await;
}

async fn create(node: &Node, version: i16, topic: CreatableTopic, validate_only: bool) -> i16 {
    let request = CreateTopicsRequest::default()
        .with_topics(vec![topic])
        .with_validate_only(validate_only);
    let response: CreateTopicsResponse = node.ask(version, request).await;
    response.topics[0].error_code
}

#[tokio::test(flavor = "multi_thread")]
async fn topics_are_checked_before_they_are_made() {
    let dir = tempfile::tempdir().expect("a folder");
    let node = Node::start(dir.path(), &[]).await;
    let topic = |name: &str, partitions, replicas| {
        CreatableTopic::default()
            .with_name(topic_name(name))
            .with_num_partitions(partitions)
            .with_replication_factor(replicas)
    };
    let config = |topic: CreatableTopic, configs: &[(&str, &str)]| {
        topic.with_configs(
            configs
                .iter()
                .map(|(name, value)| {
                    CreatableTopicConfig::default()
                        .with_name(text(*name))
                        .with_value(Some(text(*value)))
                })
                .collect(),
        )
    };
    assert_eq!(create(&node, 7, topic("fine", 1, 1), true).await, 0);
    assert!(
        node.apis.replicas.get("fine", 0).is_none(),
        "validate_only makes nothing"
    );
    let tiered = [
        ("remote.storage.enable", "true"),
        ("cleanup.policy", "compact"),
    ];
    for (topic, error) in [
        (topic("a/b", 1, 1), KafkaError::InvalidTopicException),
        (topic("t", 0, 1), KafkaError::InvalidPartitions),
        (topic("t", 1, 2), KafkaError::InvalidReplicationFactor),
        (
            config(topic("t", 1, 1), &[("no.such.config", "1")]),
            KafkaError::InvalidConfig,
        ),
        (
            config(topic("t", 1, 1), &[("segment.bytes", "x")]),
            KafkaError::InvalidConfig,
        ),
        (config(topic("t", 1, 1), &tiered), KafkaError::InvalidConfig),
    ] {
        assert_eq!(
            create(&node, 7, topic, false).await,
            error.code(),
            "{error}"
        );
    }
    for version in Api::CreateTopics.served().iter() {
        assert_eq!(
            create(&node, version, topic(&format!("v{version}"), 1, 1), false).await,
            0
        );
    }
    assert_eq!(
        create(&node, 7, topic("v7", 1, 1), false).await,
        KafkaError::TopicAlreadyExists.code()
    );
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn deleted_topics_are_gone_and_their_names_free() {
    let dir = tempfile::tempdir().expect("a folder");
    let node = Node::start(dir.path(), &[]).await;
    node.create_topic("t", 1, &[]).await;
    node.produce("t", 0, batch(&["old"]), -1).await;
    let delete = || {
        let state = DeleteTopicState::default().with_name(Some(topic_name("t")));
        DeleteTopicsRequest::default().with_topics(vec![state])
    };
    let deleted: DeleteTopicsResponse = node.ask(6, delete()).await;
    assert_eq!(deleted.responses[0].error_code, 0);
    let again: DeleteTopicsResponse = node.ask(6, delete()).await;
    assert_eq!(
        again.responses[0].error_code,
        KafkaError::UnknownTopicOrPartition.code()
    );
    let refused = node.produce("t", 0, batch(&["x"]), -1).await;
    assert_eq!(
        refused.error_code,
        KafkaError::UnknownTopicOrPartition.code()
    );
    node.create_topic("t", 1, &[]).await;
    assert_eq!(
        node.produce("t", 0, batch(&["new"]), -1).await.base_offset,
        0
    );
    node.stop().await;

    let node = Node::start(dir.path(), &[]).await;
    assert_eq!(
        node.produce("t", 0, batch(&["newer"]), -1)
            .await
            .base_offset,
        1
    );
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn partitions_are_added_and_paged_through() {
    let dir = tempfile::tempdir().expect("a folder");
    let node = Node::start(dir.path(), &[]).await;
    node.create_topic("t", 1, &[]).await;
    let more = |count| {
        let topic = CreatePartitionsTopic::default()
            .with_name(topic_name("t"))
            .with_count(count)
            .with_assignments(None);
        CreatePartitionsRequest::default().with_topics(vec![topic])
    };
    let grown: CreatePartitionsResponse = node.ask(3, more(5)).await;
    assert_eq!(grown.results[0].error_code, 0);
    assert_eq!(node.produce("t", 4, batch(&["a"]), -1).await.error_code, 0);
    let shrunk: CreatePartitionsResponse = node.ask(3, more(2)).await;
    assert_eq!(
        shrunk.results[0].error_code,
        KafkaError::InvalidPartitions.code()
    );
    let mut cursor = None;
    let mut seen = Vec::new();
    loop {
        let request = DescribeTopicPartitionsRequest::default()
            .with_response_partition_limit(2)
            .with_cursor(cursor.take());
        let page: DescribeTopicPartitionsResponse = node.ask(0, request).await;
        seen.extend(
            page.topics
                .iter()
                .flat_map(|topic| &topic.partitions)
                .map(|p| p.partition_index),
        );
        let Some(next) = page.next_cursor else { break };
        cursor = Some(
            kafka_protocol::messages::describe_topic_partitions_request::Cursor::default()
                .with_topic_name(next.topic_name)
                .with_partition_index(next.partition_index),
        );
    }
    assert_eq!(seen, [0, 1, 2, 3, 4]);
    node.stop().await;
}

async fn describe(node: &Node, kind: i8, name: &str, key: &str) -> (Option<String>, i8) {
    let resource = DescribeConfigsResource::default()
        .with_resource_type(kind)
        .with_resource_name(text(name))
        .with_configuration_keys(Some(vec![text(key)]));
    let request = DescribeConfigsRequest::default()
        .with_resources(vec![resource])
        .with_include_synonyms(true);
    let response: DescribeConfigsResponse = node.ask(4, request).await;
    assert_eq!(response.results[0].error_code, 0);
    let config = &response.results[0].configs[0];
    (
        config.value.as_ref().map(|value| value.to_string()),
        config.config_source,
    )
}

async fn alter(
    node: &Node,
    kind: i8,
    name: &str,
    operation: i8,
    key: &str,
    value: Option<&str>,
) -> i16 {
    let config = AlterableConfig::default()
        .with_name(text(key))
        .with_config_operation(operation)
        .with_value(value.map(text));
    let resource = AlterConfigsResource::default()
        .with_resource_type(kind)
        .with_resource_name(text(name))
        .with_configs(vec![config]);
    let request = IncrementalAlterConfigsRequest::default().with_resources(vec![resource]);
    let response: IncrementalAlterConfigsResponse = node.ask(1, request).await;
    response.responses[0].error_code
}

#[tokio::test(flavor = "multi_thread")]
async fn configs_are_described_with_their_sources_and_take_effect_when_altered() {
    let dir = tempfile::tempdir().expect("a folder");
    let node = Node::start(dir.path(), &["log.retention.ms=1000000"]).await;
    node.create_topic("t", 1, &[("max.message.bytes", "1000")])
        .await;
    assert_eq!(
        describe(&node, 2, "t", "max.message.bytes").await,
        (Some("1000".into()), 1)
    );
    assert_eq!(
        describe(&node, 2, "t", "segment.bytes").await,
        (Some("1073741824".into()), 5)
    );
    assert_eq!(
        describe(&node, 2, "t", "retention.ms").await,
        (Some("1000000".into()), 4)
    );
    assert_eq!(
        describe(&node, 4, "1", "log.retention.ms").await,
        (Some("1000000".into()), 4)
    );
    let value = "x".repeat(2000);
    let refused = node.produce("t", 0, batch(&[&value]), -1).await;
    assert_eq!(refused.error_code, KafkaError::MessageTooLarge.code());
    assert_eq!(
        alter(&node, 2, "t", 0, "max.message.bytes", Some("5000")).await,
        0
    );
    assert_eq!(
        node.produce("t", 0, batch(&[&value]), -1).await.error_code,
        0
    );
    assert_eq!(alter(&node, 2, "t", 1, "max.message.bytes", None).await, 0);
    assert_eq!(describe(&node, 2, "t", "max.message.bytes").await.1, 5);
    assert_eq!(
        alter(&node, 2, "t", 0, "bogus", Some("1")).await,
        KafkaError::InvalidConfig.code()
    );
    assert_eq!(
        alter(&node, 2, "none", 0, "segment.bytes", Some("1")).await,
        KafkaError::UnknownTopicOrPartition.code()
    );
    assert_eq!(
        alter(&node, 4, "1", 0, "node.id", Some("3")).await,
        KafkaError::InvalidConfig.code()
    );
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn records_are_deleted_up_to_an_offset_for_good() {
    let dir = tempfile::tempdir().expect("a folder");
    let node = Node::start(dir.path(), &[]).await;
    node.create_topic("t", 1, &[]).await;
    for _ in 0..5 {
        node.produce("t", 0, batch(&["a"]), -1).await;
    }
    let delete = |offset| {
        let partition = DeleteRecordsPartition::default()
            .with_partition_index(0)
            .with_offset(offset);
        let topic = DeleteRecordsTopic::default()
            .with_name(topic_name("t"))
            .with_partitions(vec![partition]);
        DeleteRecordsRequest::default().with_topics(vec![topic])
    };
    let deleted: DeleteRecordsResponse = node.ask(2, delete(3)).await;
    let answer = &deleted.topics[0].partitions[0];
    assert_eq!((answer.error_code, answer.low_watermark), (0, 3));
    let beyond: DeleteRecordsResponse = node.ask(2, delete(6)).await;
    assert_eq!(
        beyond.topics[0].partitions[0].error_code,
        KafkaError::OffsetOutOfRange.code()
    );
    node.stop().await;
    let node = Node::start(dir.path(), &[]).await;
    assert_eq!(
        node.apis
            .replicas
            .get("t", 0)
            .expect("hosted")
            .log()
            .log_start_offset(),
        3
    );
    let dirs: DescribeLogDirsResponse = node
        .ask(4, DescribeLogDirsRequest::default().with_topics(None))
        .await;
    assert_eq!(dirs.results[0].topics[0].name, topic_name("t"));
    assert!(dirs.results[0].total_bytes > 0);
    node.stop().await;
}
