//! What the protocol promises beyond reading and writing: orders, errors and refusals, seen from outside.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use rdkafka::client::ClientContext;
use rdkafka::consumer::{CommitMode, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext};
use rdkafka::{Offset, TopicPartitionList};
use strandline_tests::{Broker, BrokerOptions, TestRecord, now_ms, wait_until};

use crate::librdkafka;
use crate::strandline::{admin, block_on};

fn records(count: usize) -> Vec<TestRecord> {
    (0..count)
        .map(|index| TestRecord {
            timestamp: now_ms(),
            value: Some(index.to_string().into_bytes()),
            ..TestRecord::default()
        })
        .collect()
}

/// A request frame with a header of version 1.
fn frame(key: i16, version: i16, correlation: i32, body: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    frame.extend_from_slice(&key.to_be_bytes());
    frame.extend_from_slice(&version.to_be_bytes());
    frame.extend_from_slice(&correlation.to_be_bytes());
    frame.extend_from_slice(&(-1i16).to_be_bytes());
    frame.extend_from_slice(body);
    let mut framed = (frame.len() as u32).to_be_bytes().to_vec();
    framed.extend(frame);
    framed
}

fn answer(stream: &mut TcpStream) -> Vec<u8> {
    let mut length = [0; 4];
    stream.read_exact(&mut length).expect("an answer");
    let mut answer = vec![0; u32::from_be_bytes(length) as usize];
    stream.read_exact(&mut answer).expect("a whole answer");
    answer
}

#[test]
fn pipelined_requests_are_answered_in_order_and_unknown_api_versions_as_version_0() {
    const API_VERSIONS: i16 = 18;
    const METADATA: i16 = 3;
    const FETCH: i16 = 1;
    const UNSUPPORTED_VERSION: [u8; 2] = [0, 35];
    let broker = Broker::start(BrokerOptions::default());
    librdkafka::create_topic(&broker.bootstrap(), "idle", 1, &[]);
    let mut stream = TcpStream::connect(("127.0.0.1", broker.port())).expect("it listens");
    stream
        .set_read_timeout(Some(librdkafka::DEADLINE))
        .expect("a timeout can be set");
    // A fetch that waits 300 ms for data comes first: what follows is ready sooner and must wait for it.
    let mut fetch = Vec::new();
    fetch.extend_from_slice(&(-1i32).to_be_bytes()); // replica
    fetch.extend_from_slice(&300i32.to_be_bytes()); // max wait
    fetch.extend_from_slice(&1i32.to_be_bytes()); // min bytes
    fetch.extend_from_slice(&(1i32 << 20).to_be_bytes()); // max bytes
    fetch.push(0); // isolation level
    fetch.extend_from_slice(&1i32.to_be_bytes()); // one topic
    fetch.extend_from_slice(&[0, 4]);
    fetch.extend_from_slice(b"idle");
    fetch.extend_from_slice(&1i32.to_be_bytes()); // one partition
    fetch.extend_from_slice(&0i32.to_be_bytes());
    fetch.extend_from_slice(&0i64.to_be_bytes()); // offset
    fetch.extend_from_slice(&(1i32 << 20).to_be_bytes());
    let mut sent = frame(FETCH, 4, 100, &fetch);
    for correlation in 101..150 {
        sent.extend(frame(METADATA, 1, correlation, &0i32.to_be_bytes()));
    }
    sent.extend(frame(API_VERSIONS, 99, 150, &[]));
    stream.write_all(&sent).expect("they are read");
    let mut last = Vec::new();
    for correlation in 100i32..=150 {
        last = answer(&mut stream);
        assert_eq!(last[..4], correlation.to_be_bytes());
    }
    assert_eq!(last[4..6], UNSUPPORTED_VERSION);
    // The answer of version 0 says which versions of ApiVersions there are.
    let row = [0, 18, 0, 0, 0, 4];
    assert!(last[6..].windows(6).any(|window| window == row), "{last:?}");
}

/// Delivers one record and says how that went.
#[derive(Clone, Default)]
struct Outcome(std::sync::Arc<std::sync::Mutex<Option<Result<(), KafkaError>>>>);

impl ClientContext for Outcome {}

impl ProducerContext for Outcome {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        let result = result
            .as_ref()
            .map(|_| ())
            .map_err(|(error, _)| error.clone());
        *self.0.lock().expect("no test panics with it") = Some(result);
    }
}

fn deliver(bootstrap: &str, topic: &str, acks: &str) -> Result<(), KafkaError> {
    let outcome = Outcome::default();
    let producer: BaseProducer<Outcome> = librdkafka::config(bootstrap)
        .set("acks", acks)
        .set("message.timeout.ms", "3000")
        .set("retries", "0")
        .create_with_context(outcome.clone())
        .expect("a producer");
    let record: BaseRecord<'_, (), str> = BaseRecord::to(topic).payload("value");
    producer.send(record).map_err(|(error, _)| error)?;
    producer.flush(librdkafka::DEADLINE)?;
    let outcome = outcome.0.lock().expect("no test panics with it").take();
    outcome.expect("a delivery was reported")
}

#[test]
fn acks_and_min_insync_replicas_are_honoured() {
    let broker = Broker::start(BrokerOptions::default());
    let bootstrap = broker.bootstrap();
    librdkafka::create_topic(&bootstrap, "any", 1, &[]);
    librdkafka::create_topic(&bootstrap, "two", 1, &[("min.insync.replicas", "2")]);
    for acks in ["0", "1", "all"] {
        deliver(&bootstrap, "any", acks).unwrap_or_else(|error| panic!("acks={acks}: {error}"));
    }
    assert_eq!(librdkafka::consume(&bootstrap, "any", 3).len(), 3);
    deliver(&bootstrap, "two", "1").expect("acks=1 asks for no replica");
    let error = deliver(&bootstrap, "two", "all").expect_err("one replica is not two");
    assert_eq!(
        error.rdkafka_error_code(),
        Some(RDKafkaErrorCode::NotEnoughReplicas),
        "{error}"
    );
}

#[test]
fn a_transactional_producer_gets_a_fatal_error() {
    let broker = Broker::start(BrokerOptions::default());
    let producer: BaseProducer = librdkafka::config(&broker.bootstrap())
        .set("transactional.id", "not-yet")
        .set("transaction.timeout.ms", "5000")
        .create()
        .expect("a producer");
    let error = producer
        .init_transactions(Duration::from_secs(20))
        .expect_err("there are no transactions yet");
    let KafkaError::Transaction(error) = error else {
        panic!("{error}");
    };
    println!("transactions: {error}");
    assert!(error.is_fatal() || !error.is_retriable(), "{error}");
}

#[test]
fn only_offsets_outside_the_log_are_out_of_range() {
    let broker = Broker::start(BrokerOptions::default());
    let bootstrap = broker.bootstrap();
    librdkafka::create_topic(&bootstrap, "range", 1, &[]);
    librdkafka::produce(&bootstrap, "range", "none", &records(100));
    block_on(async {
        admin(&bootstrap)
            .delete_records("range", 0, 40)
            .await
            .expect("records are deleted");
    });
    let first = |offset: i64| {
        let consumer = librdkafka::consumer_from(&bootstrap, "range", Offset::Offset(offset));
        wait_until(
            "a record or an error",
            librdkafka::DEADLINE,
            || match consumer.poll(Duration::from_millis(100)) {
                None => Err("nothing".to_owned()),
                Some(Ok(message)) => Ok(Ok(rdkafka::Message::offset(&message))),
                Some(Err(error)) => Ok(Err(error.rdkafka_error_code())),
            },
        )
    };
    let out_of_range = Some(RDKafkaErrorCode::AutoOffsetReset);
    assert_eq!(first(39), Err(out_of_range), "below the log start");
    assert_eq!(first(40), Ok(40));
    assert_eq!(first(99), Ok(99));
    assert_eq!(first(101), Err(out_of_range), "past the end");
    // The end itself is in range: the next record comes.
    let consumer = librdkafka::consumer_from(&bootstrap, "range", Offset::Offset(100));
    assert!(consumer.poll(Duration::from_millis(200)).is_none());
    librdkafka::produce(&bootstrap, "range", "none", &records(1));
    librdkafka::poll_until(&consumer, "the next record", |message| {
        rdkafka::Message::offset(&message) == 100
    });
}

#[test]
fn a_deleted_topic_takes_its_group_offsets_along() {
    let broker = Broker::start(BrokerOptions::default());
    let bootstrap = broker.bootstrap();
    let committed = || {
        let consumer = librdkafka::consumer(&bootstrap, "leavers");
        let mut list = TopicPartitionList::new();
        list.add_partition("gone", 0);
        let found = consumer
            .committed_offsets(list, librdkafka::DEADLINE)
            .expect("OffsetFetch is answered");
        found.elements()[0].offset()
    };
    librdkafka::create_topic(&bootstrap, "gone", 1, &[]);
    librdkafka::produce(&bootstrap, "gone", "none", &records(10));
    let consumer = librdkafka::consumer(&bootstrap, "leavers");
    let mut list = TopicPartitionList::new();
    list.add_partition_offset("gone", 0, Offset::Offset(7))
        .expect("an offset");
    consumer.commit(&list, CommitMode::Sync).expect("a commit");
    assert_eq!(committed(), Offset::Offset(7));
    block_on(async {
        admin(&bootstrap)
            .delete_topic("gone")
            .await
            .expect("the topic is deleted");
    });
    wait_until("its folder is gone", librdkafka::DEADLINE, || match broker
        .data()
        .join("gone-0")
        .exists()
    {
        false => Ok(()),
        true => Err("it is there".to_owned()),
    });
    // One of the same name begins anew.
    librdkafka::create_topic(&bootstrap, "gone", 1, &[]);
    wait_until(
        "the commit is gone",
        librdkafka::DEADLINE,
        || match committed() {
            Offset::Invalid => Ok(()),
            other => Err(format!("{other:?}")),
        },
    );
    librdkafka::produce(&bootstrap, "gone", "none", &records(1));
    assert_eq!(librdkafka::consume(&bootstrap, "gone", 1)[0].offset, 0);
}
