use std::time::Duration;

use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::{
    BrokerId, FetchRequest, FetchResponse, ListOffsetsRequest, ListOffsetsResponse,
};
use strandline_log::record::{BatchOptions, DecodeLimit, records_of};
use strandline_wire::KafkaError;

use super::harness::{Node, batch, batch_with, decode_fetch, eventually};
use crate::api::text::topic_name;
use crate::clock;

fn request(partitions: &[(&str, i32, i64)]) -> FetchRequest {
    let topics = partitions
        .iter()
        .map(|(topic, partition, offset)| {
            let partition = FetchPartition::default()
                .with_partition(*partition)
                .with_fetch_offset(*offset)
                .with_partition_max_bytes(1 << 20);
            FetchTopic::default()
                .with_topic(topic_name(topic))
                .with_partitions(vec![partition])
        })
        .collect();
    FetchRequest::default()
        .with_replica_id(BrokerId(-1))
        .with_max_wait_ms(0)
        .with_min_bytes(1)
        .with_max_bytes(50 << 20)
        .with_session_id(0)
        .with_session_epoch(-1)
        .with_topics(topics)
}

async fn fetch(node: &Node, request: FetchRequest) -> FetchResponse {
    let frame = node.frame(11, request.into()).await.expect("an answer");
    decode_fetch(11, frame)
}

fn values(response: &FetchResponse) -> Vec<(i64, String)> {
    let partitions = response
        .responses
        .iter()
        .flat_map(|topic| &topic.partitions);
    partitions
        .filter_map(|partition| partition.records.clone())
        .flat_map(|bytes| records_of(bytes, DecodeLimit::default()).collect::<Vec<_>>())
        .map(|record| {
            let record = record.expect("a whole record");
            let value = record.value.unwrap_or_default();
            (record.offset, String::from_utf8_lossy(&value).into_owned())
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_produced_is_fetched_from_any_offset() {
    let dir = tempfile::tempdir().expect("a folder");
    let node = Node::start(dir.path(), &[]).await;
    node.create_topic("t", 1, &[]).await;
    for value in ["a", "b", "c"] {
        node.produce("t", 0, batch(&[value]), -1).await;
    }
    let all = fetch(&node, request(&[("t", 0, 0)])).await;
    assert_eq!(
        values(&all),
        [(0, "a".into()), (1, "b".into()), (2, "c".into())]
    );
    assert_eq!(all.responses[0].partitions[0].high_watermark, 3);
    let tail = fetch(&node, request(&[("t", 0, 2)])).await;
    assert_eq!(values(&tail), [(2, "c".into())]);
    let end = fetch(&node, request(&[("t", 0, 3)])).await;
    assert_eq!(end.responses[0].partitions[0].error_code, 0);
    assert!(values(&end).is_empty());
    let beyond = fetch(&node, request(&[("t", 0, 4)])).await;
    assert_eq!(
        beyond.responses[0].partitions[0].error_code,
        KafkaError::OffsetOutOfRange.code()
    );
    let unknown = fetch(&node, request(&[("none", 0, 0)])).await;
    assert_eq!(
        unknown.responses[0].partitions[0].error_code,
        KafkaError::UnknownTopicOrPartition.code()
    );
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn large_answers_go_out_as_slices_and_a_restart_changes_nothing() {
    let dir = tempfile::tempdir().expect("a folder");
    let node = Node::start(dir.path(), &[]).await;
    node.create_topic("t", 1, &[("segment.bytes", "1048576")])
        .await;
    let value = "v".repeat(100_000);
    for _ in 0..30 {
        node.produce("t", 0, batch(&[&value]), 1).await;
    }
    node.stop().await;
    let node = Node::start(dir.path(), &[]).await;
    let mut next = 0;
    while next < 30 {
        let response = fetch(&node, request(&[("t", 0, next)])).await;
        let found = values_whole(&response);
        assert!(!found.is_empty(), "stuck at {next}");
        for (offset, length) in found {
            assert_eq!((offset, length), (next, value.len()));
            next += 1;
        }
    }
    node.stop().await;
}

/// Offsets and lengths of the whole batches: the last one may be cut short.
fn values_whole(response: &FetchResponse) -> Vec<(i64, usize)> {
    let bytes = response.responses[0].partitions[0]
        .records
        .clone()
        .unwrap_or_default();
    strandline_log::record::batches_of(bytes)
        .map_while(Result::ok)
        .flat_map(|batch| records_of(batch.bytes, DecodeLimit::default()).collect::<Vec<_>>())
        .map(|record| {
            let record = record.expect("a whole record");
            (record.offset, record.value.map_or(0, |value| value.len()))
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_poll_ends_with_the_append_that_it_waits_for() {
    let dir = tempfile::tempdir().expect("a folder");
    let node = Node::start(dir.path(), &[]).await;
    node.create_topic("t", 1, &[]).await;
    node.create_topic("other", 1, &[]).await;
    let begun = clock::now();
    let waiting = fetch(
        &node,
        request(&[("other", 0, 0), ("t", 0, 0)]).with_max_wait_ms(30_000),
    );
    let producing = async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        node.produce("t", 0, batch(&["late"]), -1).await
    };
    let (response, _) = tokio::join!(waiting, producing);
    assert_eq!(values(&response), [(0, "late".into())]);
    assert!(
        begun.elapsed() < Duration::from_secs(10),
        "the append woke it"
    );
    let begun = clock::now();
    let empty = fetch(&node, request(&[("t", 0, 1)]).with_max_wait_ms(100)).await;
    assert!(values(&empty).is_empty());
    assert!(begun.elapsed() >= Duration::from_millis(100));
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_answers_only_what_changed() {
    let dir = tempfile::tempdir().expect("a folder");
    let node = Node::start(dir.path(), &[]).await;
    node.create_topic("a", 1, &[]).await;
    node.create_topic("b", 1, &[]).await;
    let full = fetch(
        &node,
        request(&[("a", 0, 0), ("b", 0, 0)]).with_session_epoch(0),
    )
    .await;
    assert_eq!(full.error_code, 0);
    assert_ne!(full.session_id, 0);
    assert_eq!(full.responses.len(), 2);
    let next = |epoch| {
        request(&[])
            .with_session_id(full.session_id)
            .with_session_epoch(epoch)
            .with_max_wait_ms(5_000)
    };
    let producing = async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        node.produce("b", 0, batch(&["x"]), -1).await
    };
    let (changed, _) = tokio::join!(fetch(&node, next(1)), producing);
    assert_eq!(changed.responses.len(), 1);
    assert_eq!(changed.responses[0].topic, topic_name("b"));
    assert_eq!(values(&changed), [(0, "x".into())]);
    let stale = fetch(&node, next(1)).await;
    assert_eq!(
        stale.error_code,
        KafkaError::InvalidFetchSessionEpoch.code()
    );
    let unknown = fetch(
        &node,
        next(2).with_session_id(full.session_id.wrapping_add(8).max(1)),
    )
    .await;
    assert_eq!(
        unknown.error_code,
        KafkaError::FetchSessionIdNotFound.code()
    );
    node.stop().await;
}

async fn list(node: &Node, version: i16, timestamp: i64) -> (i16, i64, i64) {
    let partition = ListOffsetsPartition::default()
        .with_partition_index(0)
        .with_current_leader_epoch(-1)
        .with_timestamp(timestamp);
    let topic = ListOffsetsTopic::default()
        .with_name(topic_name("t"))
        .with_partitions(vec![partition]);
    let request = ListOffsetsRequest::default()
        .with_replica_id(BrokerId(-1))
        .with_topics(vec![topic]);
    let response: ListOffsetsResponse = node.ask(version, request).await;
    let found = &response.topics[0].partitions[0];
    (found.error_code, found.offset, found.timestamp)
}

#[tokio::test(flavor = "multi_thread")]
async fn offsets_are_listed_by_time_and_by_name() {
    let dir = tempfile::tempdir().expect("a folder");
    let node = Node::start(dir.path(), &[]).await;
    node.create_topic("t", 1, &[]).await;
    for (n, timestamp) in [100, 300, 200].into_iter().enumerate() {
        let answer = node
            .produce(
                "t",
                0,
                batch_with(BatchOptions::default(), timestamp, &["v"]),
                -1,
            )
            .await;
        assert_eq!(answer.base_offset, n as i64);
    }
    for (version, timestamp, expected) in [
        (5, -1, (0, 3, -1)),
        (5, -2, (0, 0, -1)),
        (5, 0, (0, 0, 100)),
        (5, 150, (0, 1, 300)),
        (5, 301, (0, -1, -1)),
        (7, -3, (0, 1, 300)),
        (8, -4, (0, 0, -1)),
        (9, -5, (0, -1, -1)),
        (11, -6, (0, -1, -1)),
        (6, -3, (KafkaError::UnsupportedVersion.code(), -1, -1)),
    ] {
        assert_eq!(
            list(&node, version, timestamp).await,
            expected,
            "v{version} {timestamp}"
        );
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn old_offsets_are_read_back_from_the_remote_tier() {
    let dir = tempfile::tempdir().expect("a folder");
    let node = Node::start(dir.path(), &[]).await;
    let configs = [
        ("segment.bytes", "1048576"),
        ("remote.storage.enable", "true"),
        ("local.retention.bytes", "1"),
        ("retention.ms", "-1"),
    ];
    node.create_topic("t", 1, &configs).await;
    let value = "v".repeat(100_000);
    // The largest timestamp stands where only the remote tier has it.
    let ahead = clock::now_ms() + 600_000;
    for n in 0..40 {
        let batch = match n {
            3 => batch_with(BatchOptions::default(), ahead, &[&value]),
            _ => batch(&[&value]),
        };
        let answer = node.produce("t", 0, batch, -1).await;
        assert_eq!(answer.error_code, 0);
    }
    let partition = node.apis.replicas.get("t", 0).expect("hosted");
    eventually("sealed segments are remote only", || {
        partition.log().local_log_start_offset() >= 30
    })
    .await;
    assert_eq!(partition.log().log_start_offset(), 0);
    let local_start = partition.log().local_log_start_offset();
    let mut next = 0;
    while next < 40 {
        let response = fetch(&node, request(&[("t", 0, next)]).with_max_wait_ms(5_000)).await;
        assert_eq!(response.responses[0].partitions[0].error_code, 0);
        let found = values_whole(&response);
        assert!(!found.is_empty(), "stuck at {next}");
        for (offset, length) in found {
            assert_eq!((offset, length), (next, value.len()));
            next += 1;
        }
    }
    assert_eq!(list(&node, 5, -2).await, (0, 0, -1));
    assert_eq!(list(&node, 8, -4).await, (0, local_start, -1));
    assert_eq!(list(&node, 9, -5).await, (0, local_start - 1, -1));
    assert_eq!(list(&node, 11, -6).await, (0, local_start, -1));
    assert_eq!(list(&node, 5, 0).await.1, 0);
    assert_eq!(list(&node, 7, -3).await, (0, 3, ahead));
    node.stop().await;
}
