//! Kill -9 under load: nothing that was acknowledged with acks=all is lost, nothing is twice, each partition keeps its order.
//!
//! An idempotent producer numbers its records per partition. When all is done, offset and number must be the same
//! everywhere, in what was acknowledged and in what is read: one record lost, doubled or swapped would move them apart.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use rdkafka::client::ClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{CommitMode, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{DeliveryResult, Message};
use rdkafka::producer::{BaseRecord, Producer, ProducerContext, ThreadedProducer};
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{Offset, TopicPartitionList};
use strandline_tests::{Broker, BrokerOptions, Pattern, now_ms, timed, wait_until};

use crate::librdkafka;

const TOPIC: &str = "numbers";
const PARTITIONS: u64 = 4;
const VALUE_BYTES: usize = 200;
/// Between two kills so many records are acknowledged, or fewer.
const ACKNOWLEDGED_BETWEEN_KILLS_MAX: u64 = 30_000;
const QUEUED_MAX: i32 = 10_000;
const GROUP: &str = "committers";
const FLUSH_DEADLINE: Duration = Duration::from_secs(120);

/// What has been acknowledged so far.
#[derive(Default)]
struct Acknowledged {
    count: AtomicU64,
    /// The first thing that went wrong, if anything.
    failure: std::sync::Mutex<Option<String>>,
}

impl Acknowledged {
    fn fail(&self, what: String) {
        self.failure
            .lock()
            .expect("no test panics with the lock")
            .get_or_insert(what);
    }
}

#[derive(Clone)]
struct Deliveries(Arc<Acknowledged>);

impl ClientContext for Deliveries {}

impl ProducerContext for Deliveries {
    /// A record's number in its partition.
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, number: usize) {
        match result {
            Ok(message) if message.offset() == number as i64 => {
                self.0.count.fetch_add(1, Ordering::Relaxed);
            }
            Ok(message) => self.0.fail(format!(
                "record {number} of partition {} was acknowledged at offset {}",
                message.partition(),
                message.offset()
            )),
            Err((error, message)) => self.0.fail(format!(
                "record {number} of partition {}: {error}",
                message.partition()
            )),
        }
    }
}

fn value(number: usize) -> Vec<u8> {
    let mut value = number.to_string().into_bytes();
    value.push(b' ');
    value.resize(VALUE_BYTES, b'.');
    value
}

fn number_in(value: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(value).ok()?;
    text.split(' ').next()?.parse().ok()
}

/// Produces until told to stop; returns how many records went to each partition.
fn load(producer: &ThreadedProducer<Deliveries>, stop: &AtomicBool) -> Vec<usize> {
    let mut numbers = vec![0usize; PARTITIONS as usize];
    let mut turn = 0;
    while !stop.load(Ordering::Relaxed) {
        let partition = turn % PARTITIONS as usize;
        let number = numbers[partition];
        let value = value(number);
        let record: BaseRecord<'_, (), [u8], usize> = BaseRecord::with_opaque_to(TOPIC, number)
            .partition(partition as i32)
            .payload(&value);
        match producer.send(record) {
            Ok(()) => {
                numbers[partition] += 1;
                turn += 1;
            }
            // The producer's own thread makes room.
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), _)) => {
                wait_until("the queue has room", FLUSH_DEADLINE, || {
                    let queued = producer.in_flight_count();
                    let has_room = queued < QUEUED_MAX || stop.load(Ordering::Relaxed);
                    has_room.then_some(()).ok_or(format!("{queued} queued"))
                });
            }
            Err((error, _)) => panic!("{error}"),
        }
    }
    numbers
}

/// Commits ever larger offsets and notes the last that was acknowledged.
fn commit(bootstrap: &str, stop: &AtomicBool, acknowledged: &AtomicI64) {
    let consumer = librdkafka::consumer(bootstrap, GROUP);
    let mut offset = 0;
    while !stop.load(Ordering::Relaxed) {
        offset += 1;
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(TOPIC, 0, Offset::Offset(offset))
            .expect("an offset");
        match consumer.commit(&list, CommitMode::Sync) {
            Ok(()) => acknowledged.store(offset, Ordering::Relaxed),
            // The broker is away. Polling gives the client time to find it again.
            Err(_) => drop(consumer.poll(Duration::from_millis(50))),
        }
    }
}

#[test]
fn nothing_acknowledged_is_lost_or_doubled_when_the_broker_is_killed() {
    let long = std::env::var("TEST_STRANDLINE_LONG").is_ok_and(|value| value == "1");
    let kills = if long { 30 } else { 3 };
    let mut broker = Broker::start(BrokerOptions::default());
    let bootstrap = broker.bootstrap();
    // Small segments, so that kills also hit rolls.
    librdkafka::create_topic(
        &bootstrap,
        TOPIC,
        PARTITIONS as i32,
        &[("segment.bytes", "1048576")],
    );
    let acknowledged = Arc::new(Acknowledged::default());
    let producer: ThreadedProducer<Deliveries> = ClientConfig::new()
        .set("bootstrap.servers", &bootstrap)
        .set("enable.idempotence", "true")
        .set("acks", "all")
        .set("linger.ms", "2")
        .set("batch.num.messages", "200")
        .set("queue.buffering.max.messages", QUEUED_MAX.to_string())
        .set("message.timeout.ms", "300000")
        .set("reconnect.backoff.ms", "10")
        .set("reconnect.backoff.max.ms", "200")
        .create_with_context(Deliveries(Arc::clone(&acknowledged)))
        .expect("a producer");

    let stop = AtomicBool::new(false);
    let committed = AtomicI64::new(0);
    let mut pattern = Pattern::new(now_ms() as u64);
    let numbers = std::thread::scope(|scope| {
        let producing = scope.spawn(|| load(&producer, &stop));
        let committing = scope.spawn(|| commit(&bootstrap, &stop, &committed));
        for kill in 1..=kills {
            let before = acknowledged.count.load(Ordering::Relaxed);
            let wanted = before + 1 + pattern.below(ACKNOWLEDGED_BETWEEN_KILLS_MAX);
            wait_until("records are acknowledged", FLUSH_DEADLINE, || {
                let failure = acknowledged.failure.lock().expect("no test panics with it");
                assert!(failure.is_none(), "{failure:?}");
                let count = acknowledged.count.load(Ordering::Relaxed);
                if count >= wanted {
                    Ok(())
                } else {
                    Err(format!("{count} of {wanted}"))
                }
            });
            broker.kill();
            let ((), time) = timed(|| broker.restart());
            println!(
                "kill {kill}: {} records were acknowledged by then; ready again after {} ms",
                acknowledged.count.load(Ordering::Relaxed),
                time.as_millis()
            );
        }
        stop.store(true, Ordering::Relaxed);
        committing.join().expect("the committer ends");
        producing.join().expect("the producer ends")
    });
    producer.flush(FLUSH_DEADLINE).expect("all is delivered");
    let failure = acknowledged.failure.lock().expect("no test panics with it");
    assert!(failure.is_none(), "{failure:?}");
    drop(failure);
    let total: usize = numbers.iter().sum();
    assert_eq!(
        acknowledged.count.load(Ordering::Relaxed),
        total as u64,
        "acknowledgements"
    );
    read_back(&bootstrap, &numbers);
    let committed = committed.load(Ordering::Relaxed);
    let found = committed_offset(&bootstrap);
    assert!(found >= committed, "committed {committed}, found {found}");
    println!(
        "{kills} kills: {total} records acknowledged, each there once and in order; commits up to {found} kept"
    );
}

fn read_back(bootstrap: &str, numbers: &[usize]) {
    let total: usize = numbers.iter().sum();
    let mut next = vec![0i64; numbers.len()];
    let mut read = 0;
    let consumer = librdkafka::consumer_from(bootstrap, TOPIC, Offset::Beginning);
    librdkafka::poll_until(&consumer, &format!("{total} records"), |message| {
        let expected = &mut next[message.partition() as usize];
        assert_eq!(message.offset(), *expected, "offsets have no gaps");
        assert_eq!(
            message.payload().and_then(number_in),
            Some(*expected),
            "partition {}, offset {}",
            message.partition(),
            message.offset()
        );
        *expected += 1;
        read += 1;
        read == total
    });
    for (partition, count) in numbers.iter().enumerate() {
        let (low, high) = consumer
            .fetch_watermarks(TOPIC, partition as i32, librdkafka::DEADLINE)
            .expect("ListOffsets is answered");
        assert_eq!((low, high), (0, *count as i64), "partition {partition}");
    }
}

fn committed_offset(bootstrap: &str) -> i64 {
    let consumer = librdkafka::consumer(bootstrap, GROUP);
    let mut list = TopicPartitionList::new();
    list.add_partition(TOPIC, 0);
    let found = consumer
        .committed_offsets(list, librdkafka::DEADLINE)
        .expect("OffsetFetch is answered");
    found.elements()[0].offset().to_raw().unwrap_or(-1)
}
