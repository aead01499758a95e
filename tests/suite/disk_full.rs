//! Disks that fill up and fail, made of small files that are mounted as disks of their own.
//!
//! A full disk: producers get a retriable error and wait, reads go on, and once there is room everything that was sent
//! is in the log, once and in order, without a restart. A disk that fails: its partitions stop, the other folder's go
//! on; a folder that cannot be used at all does not keep the broker from starting.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rdkafka::client::ClientContext;
use rdkafka::consumer::Consumer;
use rdkafka::message::{DeliveryResult, Message};
use rdkafka::producer::{BaseRecord, Producer, ProducerContext, ThreadedProducer};
use rdkafka::{Offset, TopicPartitionList};
use strandline_tests::{Broker, BrokerOptions, SmallDisk, http_get, metric, wait_until};

use crate::librdkafka;

const DISK_BYTES: u64 = 48 << 20;
const DEADLINE: Duration = Duration::from_secs(60);
pub const VALUE_BYTES: usize = 40_000;

#[derive(Clone, Default)]
pub struct Deliveries {
    pub delivered: Arc<AtomicUsize>,
    pub failed: Arc<AtomicUsize>,
}

impl ClientContext for Deliveries {}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        let counter = match result {
            Ok(_) => &self.delivered,
            Err(_) => &self.failed,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

pub fn producer(bootstrap: &str, timeout_ms: &str) -> (ThreadedProducer<Deliveries>, Deliveries) {
    let deliveries = Deliveries::default();
    let producer = librdkafka::config(bootstrap)
        .set("enable.idempotence", "true")
        .set("message.timeout.ms", timeout_ms)
        .set("retry.backoff.ms", "50")
        .set("retry.backoff.max.ms", "100")
        .set("linger.ms", "0")
        .create_with_context(deliveries.clone())
        .expect("a producer");
    (producer, deliveries)
}

pub fn send(producer: &ThreadedProducer<Deliveries>, topic: &str, partition: i32, number: usize) {
    let value = vec![number as u8; VALUE_BYTES];
    let key = number.to_string();
    let record = BaseRecord::to(topic)
        .partition(partition)
        .key(&key)
        .payload(&value);
    producer
        .send(record)
        .map_err(|(e, _)| e)
        .expect("is queued");
}

/// The numbers of all records of a partition, in order.
pub fn numbers(bootstrap: &str, topic: &str, partition: i32, count: usize) -> Vec<usize> {
    let consumer = librdkafka::consumer(bootstrap, "unused");
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, partition, Offset::Beginning)
        .expect("an offset");
    consumer.assign(&list).expect("an assignment");
    let mut numbers = Vec::with_capacity(count);
    let what = format!("{count} records of {topic}-{partition}");
    librdkafka::poll_until(&consumer, &what, |message| {
        let key = std::str::from_utf8(message.key().expect("has a key")).expect("is text");
        let number: usize = key.parse().expect("is a number");
        assert_eq!(
            message.payload().expect("has a value"),
            vec![number as u8; VALUE_BYTES]
        );
        numbers.push(number);
        numbers.len() >= count
    });
    numbers
}

fn storage_errors(broker: &Broker) -> f64 {
    metric(
        broker.http_port(),
        "strandline_request_errors_total",
        &["Produce", "KAFKA_STORAGE_ERROR"],
    )
}

#[test]
fn a_full_disk_stops_writes_until_there_is_room_and_nothing_else() {
    let disk = SmallDisk::new(DISK_BYTES);
    let logs = disk.path("logs");
    let metadata = tempfile::tempdir().expect("a temporary folder");
    let mut broker = Broker::start(BrokerOptions::with(&[
        &format!("log.dirs={}", logs.display()),
        &format!("metadata.log.dir={}", metadata.path().display()),
    ]));
    let bootstrap = broker.bootstrap();
    librdkafka::create_topic(&bootstrap, "t", 1, &[]);
    let (producer, deliveries) = producer(&bootstrap, "300000");
    for number in 0..10 {
        send(&producer, "t", 0, number);
    }
    producer.flush(DEADLINE).expect("all are acknowledged");
    disk.fill(1 << 20);
    // Four times the room that is left.
    for number in 10..110 {
        send(&producer, "t", 0, number);
    }
    wait_until("the disk is full", DEADLINE, || {
        match storage_errors(&broker) {
            0.0 => Err("no storage error yet".to_owned()),
            _ => Ok(()),
        }
    });
    let acknowledged = deliveries.delivered.load(Ordering::Relaxed);
    assert!((10..110).contains(&acknowledged), "{acknowledged}");
    assert_eq!(
        deliveries.failed.load(Ordering::Relaxed),
        0,
        "the error is retriable"
    );
    // Reads go on.
    let read = numbers(&bootstrap, "t", 0, acknowledged);
    assert_eq!(read[..acknowledged], (0..acknowledged).collect::<Vec<_>>());
    let (status, _) = http_get(broker.http_port(), "/healthz").expect("answers");
    assert_eq!(status, 200, "a full folder is not a failed one");

    disk.make_room();
    producer
        .flush(DEADLINE)
        .expect("all are acknowledged without a restart");
    assert_eq!(deliveries.delivered.load(Ordering::Relaxed), 110);
    let all: Vec<usize> = (0..110).collect();
    assert_eq!(numbers(&bootstrap, "t", 0, 110), all);
    broker.kill();
    broker.restart();
    assert_eq!(numbers(&bootstrap, "t", 0, 110), all, "after a crash too");
    broker.stop();
}

#[test]
fn a_failing_folder_takes_only_its_own_partitions_along() {
    let disk = SmallDisk::new(DISK_BYTES);
    let first = tempfile::tempdir().expect("a temporary folder");
    let second = disk.path("logs");
    let broker = Broker::start(BrokerOptions::with(&[&format!(
        "log.dirs={},{}",
        first.path().display(),
        second.display()
    )]));
    let bootstrap = broker.bootstrap();
    librdkafka::create_topic(&bootstrap, "t", 4, &[("flush.messages", "1")]);
    let on_the_disk: Vec<i32> = (0..4)
        .filter(|partition| second.join(format!("t-{partition}")).is_dir())
        .collect();
    assert_eq!(on_the_disk.len(), 2, "the folders share the partitions");
    let (producer, deliveries) = producer(&bootstrap, "5000");
    for partition in 0..4 {
        send(&producer, "t", partition, 1);
    }
    producer.flush(DEADLINE).expect("all are acknowledged");
    assert_eq!(deliveries.delivered.load(Ordering::Relaxed), 4);
    disk.fail();
    for partition in 0..4 {
        send(&producer, "t", partition, 2);
    }
    wait_until("each record is delivered or given up", DEADLINE, || {
        let delivered = deliveries.delivered.load(Ordering::Relaxed);
        let failed = deliveries.failed.load(Ordering::Relaxed);
        match (delivered, failed) {
            (6, 2) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });
    for partition in (0..4).filter(|partition| !on_the_disk.contains(partition)) {
        assert_eq!(numbers(&bootstrap, "t", partition, 2), [1, 2]);
    }
    wait_until("the folder is reported", DEADLINE, || {
        let (_, body) = http_get(broker.http_port(), "/healthz")?;
        match body.contains("offline") {
            true => Ok(()),
            false => Err(body),
        }
    });
}

#[test]
fn a_folder_that_cannot_be_used_does_not_keep_the_others_from_serving() {
    let first = tempfile::tempdir().expect("a temporary folder");
    let second = tempfile::tempdir().expect("a temporary folder");
    let dirs = |second: &Path| format!("log.dirs={},{}", first.path().display(), second.display());
    let mut broker = Broker::start(BrokerOptions::with(&[&dirs(second.path())]));
    let bootstrap = broker.bootstrap();
    librdkafka::create_topic(&bootstrap, "t", 4, &[]);
    let lost: Vec<i32> = (0..4)
        .filter(|partition| second.path().join(format!("t-{partition}")).is_dir())
        .collect();
    assert_eq!(lost.len(), 2, "the folders share the partitions");
    let (sender, _) = producer(&bootstrap, "30000");
    for partition in 0..4 {
        send(&sender, "t", partition, 1);
    }
    sender.flush(DEADLINE).expect("all are acknowledged");
    drop(sender);
    broker.stop();

    // A file where the folder was.
    let file = first.path().join("no-folder");
    std::fs::write(&file, b"x").expect("writes");
    broker.set_options(BrokerOptions::with(&[&dirs(&file.join("logs"))]));
    broker.restart();
    for partition in (0..4).filter(|partition| !lost.contains(partition)) {
        assert_eq!(numbers(&bootstrap, "t", partition, 1), [1]);
    }
    for partition in &lost {
        let folder = first.path().join(format!("t-{partition}"));
        assert!(!folder.exists(), "it must not begin anew elsewhere");
    }
    let (_, body) = http_get(broker.http_port(), "/healthz").expect("answers");
    assert!(body.contains("no-folder"), "{body}");
    broker.stop();

    broker.set_options(BrokerOptions::with(&[&dirs(second.path())]));
    broker.restart();
    for partition in 0..4 {
        assert_eq!(numbers(&bootstrap, "t", partition, 1), [1], "all are back");
    }
    broker.stop();
}
