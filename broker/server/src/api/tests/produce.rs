use kafka_protocol::messages::{
    InitProducerIdRequest, InitProducerIdResponse, ProduceResponse, TransactionalId,
};
use strandline_log::record::BatchOptions;
use strandline_wire::{Api, KafkaError, Request};

use super::harness::{Node, batch, batch_with, body, decode, frame_of, produce_request};
use crate::api::text::text;
use crate::api::{Handled, ResponseBody};

#[tokio::test(flavor = "multi_thread")]
async fn batches_get_offsets_and_pipelined_ones_keep_their_order() {
    let dir = tempfile::tempdir().expect("a folder");
    let node = Node::start(dir.path(), &[]).await;
    node.create_topic("orders", 2, &[]).await;
    let first = node.produce("orders", 1, batch(&["a", "b"]), -1).await;
    assert_eq!((first.error_code, first.base_offset), (0, 0));

    // All are handed over before any answer is asked for, as a pipelining connection does.
    let handled: Vec<Handled> = (0..50)
        .map(|_| {
            let request = Request::from(produce_request("orders", 1, batch(&["x"]), -1));
            node.apis.handle(node.context(9), request)
        })
        .collect();
    for (n, handled) in handled.into_iter().enumerate() {
        let frame = frame_of(body(handled).await).expect("an answer");
        let response: ProduceResponse = decode(Api::Produce, 9, frame);
        let answer = &response.responses[0].partition_responses[0];
        assert_eq!((answer.error_code, answer.base_offset), (0, 2 + n as i64));
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_carry_kafkas_codes() {
    let dir = tempfile::tempdir().expect("a folder");
    let node = Node::start(dir.path(), &[]).await;
    node.create_topic("t", 1, &[]).await;
    node.create_topic("two", 1, &[("min.insync.replicas", "2")])
        .await;
    let transactional = BatchOptions {
        producer_id: 9,
        producer_epoch: 0,
        base_sequence: 0,
        is_transactional: true,
        ..BatchOptions::default()
    };
    let mut corrupt = batch(&["a"]).to_vec();
    if let Some(byte) = corrupt.last_mut() {
        *byte ^= 1;
    }
    let large = "x".repeat(2 << 20);
    let cases = [
        (
            "none",
            0,
            batch(&["a"]),
            -1,
            KafkaError::UnknownTopicOrPartition,
        ),
        (
            "t",
            7,
            batch(&["a"]),
            -1,
            KafkaError::UnknownTopicOrPartition,
        ),
        ("t", 0, batch(&["a"]), 2, KafkaError::InvalidRequiredAcks),
        ("t", 0, corrupt.into(), 1, KafkaError::CorruptMessage),
        ("t", 0, batch(&[&large]), 1, KafkaError::MessageTooLarge),
        ("two", 0, batch(&["a"]), -1, KafkaError::NotEnoughReplicas),
        (
            "t",
            0,
            batch_with(transactional, 0, &["a"]),
            -1,
            KafkaError::TransactionalIdAuthorizationFailed,
        ),
    ];
    for (topic, partition, batch, acks, error) in cases {
        let answer = node.produce(topic, partition, batch, acks).await;
        assert_eq!(
            answer.error_code,
            error.code(),
            "{topic}-{partition} acks {acks}"
        );
    }
    assert_eq!(node.produce("two", 0, batch(&["a"]), 1).await.error_code, 0);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_acks_silence_is_success_and_an_error_closes() {
    let dir = tempfile::tempdir().expect("a folder");
    let node = Node::start(dir.path(), &[]).await;
    node.create_topic("t", 1, &[]).await;
    let fine = node.apis.handle(
        node.context(9),
        produce_request("t", 0, batch(&["a"]), 0).into(),
    );
    assert!(matches!(body(fine).await, ResponseBody::None));
    let wrong = node.apis.handle(
        node.context(9),
        produce_request("none", 0, batch(&["a"]), 0).into(),
    );
    assert!(matches!(body(wrong).await, ResponseBody::Close(_)));
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_is_stored_once_also_across_a_restart() {
    let dir = tempfile::tempdir().expect("a folder");
    let node = Node::start(dir.path(), &[]).await;
    node.create_topic("t", 1, &[]).await;
    let given: InitProducerIdResponse = node
        .ask(
            4,
            InitProducerIdRequest::default()
                .with_transactional_id(None)
                .with_producer_id((-1).into())
                .with_producer_epoch(-1),
        )
        .await;
    assert_eq!(given.error_code, 0);
    let options = |sequence| BatchOptions {
        producer_id: given.producer_id.0,
        producer_epoch: given.producer_epoch,
        base_sequence: sequence,
        ..BatchOptions::default()
    };
    for round in 0..2 {
        let answer = node
            .produce("t", 0, batch_with(options(0), 5, &["a"]), -1)
            .await;
        assert_eq!(
            (answer.error_code, answer.base_offset),
            (0, 0),
            "round {round}"
        );
    }
    let gap = node
        .produce("t", 0, batch_with(options(3), 5, &["d"]), -1)
        .await;
    assert_eq!(gap.error_code, KafkaError::OutOfOrderSequenceNumber.code());
    node.stop().await;

    let node = Node::start(dir.path(), &[]).await;
    let again = node
        .produce("t", 0, batch_with(options(0), 5, &["a"]), -1)
        .await;
    assert_eq!((again.error_code, again.base_offset), (0, 0));
    let next = node
        .produce("t", 0, batch_with(options(1), 5, &["b"]), -1)
        .await;
    assert_eq!((next.error_code, next.base_offset), (0, 1));
    let other: InitProducerIdResponse = node
        .ask(
            4,
            InitProducerIdRequest::default()
                .with_transactional_id(None)
                .with_producer_id((-1).into())
                .with_producer_epoch(-1),
        )
        .await;
    assert!(
        other.producer_id.0 > given.producer_id.0,
        "ids are not given twice"
    );
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn transactional_producers_are_refused_for_good() {
    let dir = tempfile::tempdir().expect("a folder");
    let node = Node::start(dir.path(), &[]).await;
    let request = InitProducerIdRequest::default()
        .with_transactional_id(Some(TransactionalId(text("tx"))))
        .with_producer_id((-1).into())
        .with_producer_epoch(-1);
    let answer: InitProducerIdResponse = node.ask(4, request).await;
    assert_eq!(
        answer.error_code,
        KafkaError::TransactionalIdAuthorizationFailed.code()
    );
    node.stop().await;
}
