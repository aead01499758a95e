//! librdkafka in this process: the suite's own hands, and one of the clients under test.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::{ClientContext, DefaultClientContext};
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, DeliveryResult, Header, Headers, Message, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext};
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{Offset, TopicPartitionList};
use strandline_tests::{ReadRecord, TestHeader, TestRecord, wait_until};

pub const DEADLINE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(100);

pub fn config(bootstrap: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", bootstrap);
    config
}

pub fn create_topic(bootstrap: &str, name: &str, partitions: i32, configs: &[(&str, &str)]) {
    let admin: AdminClient<DefaultClientContext> = config(bootstrap).create().expect("a client");
    let mut topic = NewTopic::new(name, partitions, TopicReplication::Fixed(1));
    for (name, value) in configs {
        topic = topic.set(name, value);
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let options = AdminOptions::new().request_timeout(Some(DEADLINE));
    let results = runtime
        .block_on(admin.create_topics([&topic], &options))
        .expect("CreateTopics is answered");
    for result in results {
        result.unwrap_or_else(|(topic, error)| panic!("creating {topic}: {error}"));
    }
}

/// Keeps the first delivery that failed.
#[derive(Clone, Default)]
struct Failures(Arc<Mutex<Option<String>>>);

impl ClientContext for Failures {}

impl ProducerContext for Failures {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if let Err((error, _)) = result {
            let mut first = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            first.get_or_insert_with(|| error.to_string());
        }
    }
}

/// Sends the records in order with an idempotent producer and waits for all acknowledgements.
pub fn produce(bootstrap: &str, topic: &str, codec: &str, records: &[TestRecord]) {
    let failures = Failures::default();
    let producer: BaseProducer<Failures> = config(bootstrap)
        .set("compression.codec", codec)
        .set("enable.idempotence", "true")
        .set("message.max.bytes", "8388608")
        .set("linger.ms", "5")
        .set("batch.num.messages", "100")
        .create_with_context(failures.clone())
        .expect("a producer");
    for record in records {
        send(&producer, topic, record);
    }
    producer.flush(DEADLINE).expect("all are acknowledged");
    let failure = failures.0.lock().unwrap_or_else(PoisonError::into_inner);
    assert!(failure.is_none(), "{topic}: {failure:?}");
}

/// Queues one record; waits while the queue is full.
fn send(producer: &BaseProducer<Failures>, topic: &str, record: &TestRecord) {
    let mut headers = OwnedHeaders::new();
    for TestHeader(key, value) in &record.headers {
        headers = headers.insert(Header {
            key,
            value: value.as_deref(),
        });
    }
    let mut message: BaseRecord<'_, [u8], [u8]> = BaseRecord::to(topic)
        .partition(record.partition)
        .timestamp(record.timestamp);
    message.key = record.key.as_deref();
    message.payload = record.value.as_deref();
    if !record.headers.is_empty() {
        message = message.headers(headers);
    }
    let mut queued = Some(message);
    wait_until("there is room in the queue", DEADLINE, || {
        let message = queued.take().expect("it is put back below");
        match producer.send(message) {
            Ok(()) => Ok(()),
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), message)) => {
                queued = Some(message);
                producer.poll(POLL);
                Err("the queue is full".to_owned())
            }
            Err((error, _)) => panic!("{topic}: {error}"),
        }
    });
}

pub fn consumer(bootstrap: &str, group: &str) -> BaseConsumer {
    config(bootstrap)
        .set("group.id", group)
        .set("auto.offset.reset", "error")
        .set("enable.auto.commit", "false")
        .set("fetch.wait.max.ms", "100")
        .create()
        .expect("a consumer")
}

/// The partitions of a topic, by their number.
pub fn partitions(consumer: &BaseConsumer, topic: &str) -> Vec<i32> {
    wait_until("the topic is known", DEADLINE, || {
        let metadata = consumer
            .fetch_metadata(Some(topic), DEADLINE)
            .map_err(|error| error.to_string())?;
        let topic = metadata.topics().first().ok_or("no topic")?;
        match topic.error() {
            Some(error) => Err(format!("{error:?}")),
            None => Ok(topic.partitions().iter().map(|one| one.id()).collect()),
        }
    })
}

/// A consumer of all partitions, from one offset.
pub fn consumer_from(bootstrap: &str, topic: &str, offset: Offset) -> BaseConsumer {
    let consumer = consumer(bootstrap, "unused");
    let mut list = TopicPartitionList::new();
    for partition in partitions(&consumer, topic) {
        list.add_partition_offset(topic, partition, offset)
            .expect("an offset");
    }
    consumer.assign(&list).expect("an assignment");
    consumer
}

/// Reads `count` records from the beginning of all partitions.
pub fn consume(bootstrap: &str, topic: &str, count: usize) -> Vec<ReadRecord> {
    let consumer = consumer_from(bootstrap, topic, Offset::Beginning);
    let mut records = Vec::with_capacity(count);
    poll_until(
        &consumer,
        &format!("{count} records of {topic}"),
        |message| {
            records.push(read_record(&message));
            records.len() >= count
        },
    );
    records
}

/// Polls and hands each message on until the closure says that it is enough. Panics when nothing comes for a minute.
pub fn poll_until(
    consumer: &BaseConsumer,
    what: &str,
    mut enough: impl FnMut(BorrowedMessage<'_>) -> bool,
) {
    let mut got = 0;
    loop {
        let message = wait_until(&format!("{what}, after {got}"), DEADLINE, || match consumer
            .poll(POLL)
        {
            Some(Ok(message)) => Ok(message),
            // Lost connections are tried again by the client.
            Some(Err(error)) if is_passing(&error) => Err(error.to_string()),
            Some(Err(error)) => panic!("{what}: {error}"),
            None => Err("nothing".to_owned()),
        });
        got += 1;
        if enough(message) {
            return;
        }
    }
}

/// Errors that the client reports and recovers from by itself.
pub fn is_passing(error: &KafkaError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(
            RDKafkaErrorCode::AllBrokersDown
                | RDKafkaErrorCode::BrokerTransportFailure
                | RDKafkaErrorCode::OperationTimedOut
                | RDKafkaErrorCode::RequestTimedOut
                | RDKafkaErrorCode::Resolve
        )
    )
}

fn read_record(message: &BorrowedMessage<'_>) -> ReadRecord {
    let headers = message.headers().map_or_else(Vec::new, |headers| {
        headers
            .iter()
            .map(|header| TestHeader(header.key.to_owned(), header.value.map(<[u8]>::to_vec)))
            .collect()
    });
    ReadRecord {
        topic: message.topic().to_owned(),
        offset: message.offset(),
        record: TestRecord {
            partition: message.partition(),
            timestamp: message.timestamp().to_millis().unwrap_or(-1),
            key: message.key().map(<[u8]>::to_vec),
            value: message.payload().map(<[u8]>::to_vec),
            headers,
        },
    }
}

/// Per partition the first offset at or after a timestamp, -1 for none.
pub fn offsets_for_time(bootstrap: &str, topic: &str, timestamp: i64) -> BTreeMap<i32, i64> {
    let consumer = consumer(bootstrap, "unused");
    let mut query = TopicPartitionList::new();
    for partition in partitions(&consumer, topic) {
        query
            .add_partition_offset(topic, partition, Offset::Offset(timestamp))
            .expect("an offset");
    }
    let found = consumer
        .offsets_for_times(query, DEADLINE)
        .expect("ListOffsets is answered");
    found
        .elements()
        .iter()
        .map(|element| {
            let offset = match element.offset() {
                Offset::Offset(offset) => offset,
                Offset::End => -1,
                other => panic!("{other:?}"),
            };
            (element.partition(), offset)
        })
        .collect()
}
