//! The tier: what is sealed moves to the store and is read back from there, from a folder and from MinIO alike.

use std::path::Path;
use std::time::Duration;

use rdkafka::Offset;
use rdkafka::message::Message;
use strandline_client::{ConfigResource, OffsetSpec};
use strandline_tests::{
    Broker, BrokerOptions, Driver, DriverLine, DriverScript, Minio, Pattern, ReadRecord,
    TestRecord, kafka_tool, local_segments, metric, now_ms, wait_until, wait_until_tiered,
};

use crate::librdkafka;
use crate::strandline::{admin, block_on, list_offset};

const TOPIC: &str = "history";
const PARTITIONS: i32 = 2;
const RECORDS: usize = 6000;
const VALUE_BYTES: usize = 1000;
const STEP_MS: i64 = 1000;
const BUCKET: &str = "tier";

/// Looked at often, so that tests need not wait.
const QUICK: &[&str] = &[
    "log.retention.check.interval.ms=100",
    "remote.log.manager.task.interval.ms=100",
    "remote.log.manager.task.retry.backoff.max.ms=500",
];

const TIERED: &[(&str, &str)] = &[
    ("remote.storage.enable", "true"),
    ("internal.segment.bytes", "131072"),
    ("local.retention.ms", "1"),
    ("retention.ms", "-1"),
    ("file.delete.delay.ms", "0"),
];

fn options(store: &[String], environment: Vec<(String, String)>) -> BrokerOptions {
    let mut options = BrokerOptions::with(QUICK);
    options.configs.extend_from_slice(store);
    options.environment = environment;
    options
}

fn records(count: usize) -> Vec<TestRecord> {
    let mut pattern = Pattern::new(11);
    let first_ms = now_ms() - 86_400_000;
    (0..count)
        .map(|index| TestRecord {
            partition: index as i32 % PARTITIONS,
            timestamp: first_ms + index as i64 * STEP_MS,
            key: Some(index.to_string().into_bytes()),
            value: Some(pattern.bytes(VALUE_BYTES)),
            headers: Vec::new(),
        })
        .collect()
}

/// Reads everything and compares it with what was written.
fn check_all(bootstrap: &str, written: &[TestRecord]) {
    compare(
        librdkafka::consume(bootstrap, TOPIC, written.len()),
        written,
    );
}

fn compare(read: Vec<ReadRecord>, written: &[TestRecord]) {
    assert_eq!(read.len(), written.len());
    for partition in 0..PARTITIONS {
        let of_partition = |record: &&TestRecord| record.partition == partition;
        let read = read.iter().filter(|read| of_partition(&&read.record));
        let written = written.iter().filter(of_partition);
        for (offset, (read, written)) in read.zip(written).enumerate() {
            assert_eq!(read.offset, offset as i64, "partition {partition}");
            assert!(read.record == *written, "{partition}, offset {offset}");
        }
    }
}

fn check_offsets(bootstrap: &str, data: &Path) {
    for partition in 0..PARTITIONS {
        let offset =
            |spec| list_offset(bootstrap, TOPIC, partition, spec).map(|listed| listed.offset);
        let local_start = local_segments(data, TOPIC, partition)[0];
        assert_eq!(offset(OffsetSpec::Earliest), Some(0));
        let end = (RECORDS / PARTITIONS as usize) as i64;
        assert_eq!(offset(OffsetSpec::Latest), Some(end));
        assert_eq!(offset(OffsetSpec::EarliestLocal), Some(local_start));
        assert_eq!(offset(OffsetSpec::LatestTiered), Some(local_start - 1));
        assert_eq!(offset(OffsetSpec::EarliestPendingUpload), Some(local_start));
        // The newest record is the largest timestamp.
        assert_eq!(offset(OffsetSpec::MaxTimestamp), Some(end - 1));
    }
}

/// Kafka's tool sees the same tiers.
fn check_offset_tool(bootstrap: &str, data: &Path) {
    for (time, behind) in [
        ("earliest-local", 0),
        ("latest-tiered", 1),
        ("earliest-pending-upload", 0),
    ] {
        let class = "org.apache.kafka.tools.GetOffsetShell";
        let arguments = [
            "--bootstrap-server",
            bootstrap,
            "--topic",
            TOPIC,
            "--time",
            time,
        ];
        let shown = kafka_tool(class, &arguments).expect_success(time).stdout;
        for partition in 0..PARTITIONS {
            let offset = local_segments(data, TOPIC, partition)[0] - behind;
            let line = format!("{TOPIC}:{partition}:{offset}");
            assert!(
                shown.lines().any(|shown| shown == line),
                "no {line} in {shown}"
            );
        }
    }
}

fn check_seek(bootstrap: &str, written: &[TestRecord]) {
    let first_ms = written[0].timestamp;
    // Before all, into history, between two records, the last, past the last.
    for step in [-1, 100, 1001, 2500, RECORDS as i64 - 1, RECORDS as i64 + 10] {
        for before in [0, STEP_MS / 2] {
            let timestamp = first_ms + step * STEP_MS - before;
            let found = librdkafka::offsets_for_time(bootstrap, TOPIC, timestamp);
            for partition in 0..PARTITIONS {
                let expected = written
                    .iter()
                    .filter(|record| record.partition == partition)
                    .position(|record| record.timestamp >= timestamp)
                    .map_or(-1, |at| at as i64);
                assert_eq!(found[&partition], expected, "step {step} less {before} ms");
            }
        }
    }
}

/// The whole way, on any store.
fn round_trip(name: &str, options: BrokerOptions) -> (Broker, Vec<TestRecord>) {
    let mut broker = Broker::start(options);
    let bootstrap = broker.bootstrap();
    librdkafka::create_topic(&bootstrap, TOPIC, PARTITIONS, TIERED);
    let written = records(RECORDS);
    librdkafka::produce(&bootstrap, TOPIC, "lz4", &written);
    wait_until_tiered(&broker, TOPIC, PARTITIONS);
    check_offsets(&bootstrap, &broker.data());
    check_offset_tool(&bootstrap, &broker.data());
    check_all(&bootstrap, &written);
    check_seek(&bootstrap, &written);
    let fetched = metric(
        broker.http_port(),
        "strandline_remote_fetch_bytes_total",
        &[],
    );
    assert!(fetched > 0.0, "nothing was counted as read from the store");

    // A clean restart, and a crash, each with an empty cache.
    for clean in [true, false] {
        if clean {
            broker.stop();
        } else {
            broker.kill();
        }
        let cache = broker.data().join("remote-cache");
        std::fs::remove_dir_all(&cache)
            .unwrap_or_else(|error| panic!("the cache {}: {error}", cache.display()));
        broker.restart();
        check_offsets(&bootstrap, &broker.data());
        check_all(&bootstrap, &written);
        check_seek(&bootstrap, &written);
    }
    // Kafka's own consumer too.
    let script = DriverScript::new().consume(TOPIC, written.len());
    let read = Driver::Java.run(&bootstrap, &script);
    let read = read
        .into_iter()
        .filter_map(|line| match line {
            DriverLine::Record(record) => Some(record),
            _ => None,
        })
        .collect();
    compare(read, &written);
    println!(
        "{name}: {RECORDS} records of {PARTITIONS} partitions left the local disk and were read back, \
         after a clean restart and after a kill with an empty cache too"
    );
    (broker, written)
}

#[test]
fn every_offset_is_readable_from_a_folder() {
    // The embedded default, and a folder by its URL.
    drop(round_trip("embedded folder", options(&[], Vec::new())));
    let folder = tempfile::tempdir().expect("a temporary folder");
    let store = folder.path().join("store");
    let url = format!("remote.storage.url=file://{}", store.display());
    drop(round_trip("file URL", options(&[url], Vec::new())));
}

/// Bytes of all files below a folder.
fn stored_bytes(folder: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return 0;
    };
    entries
        .filter_map(|entry| {
            let entry = entry.ok()?;
            // A file may go while it is looked at.
            let metadata = entry.metadata().ok()?;
            Some(match metadata.is_dir() {
                true => stored_bytes(&entry.path()),
                false => metadata.len(),
            })
        })
        .sum()
}

#[test]
fn expired_and_deleted_history_leaves_the_store() {
    let mut options = options(&[], Vec::new());
    options
        .configs
        .push("remote.log.delete.delay.ms=0".to_owned());
    let broker = Broker::start(options);
    let bootstrap = broker.bootstrap();
    let store = broker.data().join("remote-storage");
    librdkafka::create_topic(&bootstrap, TOPIC, PARTITIONS, TIERED);
    let written = records(RECORDS);
    librdkafka::produce(&bootstrap, TOPIC, "none", &written);
    let active = wait_until_tiered(&broker, TOPIC, PARTITIONS);
    let full = stored_bytes(&store);
    assert!(full > (RECORDS * VALUE_BYTES / 2) as u64, "{full}");

    // The records are a day old: all that is sealed expires.
    block_on(async {
        let topic = ConfigResource::topic(TOPIC);
        let changes = [("retention.ms", Some("3600000"))];
        let altered = admin(&bootstrap).alter_configs(&topic, &changes).await;
        altered.expect("the topic's configs are altered");
    });
    for (partition, active) in (0..PARTITIONS).zip(active) {
        wait_until("history has expired", librdkafka::DEADLINE, || {
            let earliest = list_offset(&bootstrap, TOPIC, partition, OffsetSpec::Earliest);
            match earliest.map(|listed| listed.offset) {
                Some(offset) if offset >= active => Ok(()),
                other => Err(format!("{other:?}, {active} is due")),
            }
        });
    }
    let wait_for_less_than = |what: &str, bytes: u64| {
        wait_until(what, librdkafka::DEADLINE, || match stored_bytes(&store) {
            stored if stored < bytes => Ok(stored),
            stored => Err(format!("{stored} bytes of {full} are stored")),
        })
    };
    let expired = wait_for_less_than("expired objects are deleted", full / 10);
    block_on(async {
        let deleted = admin(&bootstrap).delete_topic(TOPIC).await;
        deleted.expect("the topic is deleted");
    });
    let deleted = wait_for_less_than("the topic's objects are deleted", 16 << 10);
    println!(
        "the store held {full} bytes, {expired} after retention, {deleted} after the topic's deletion"
    );
}

#[test]
fn every_offset_is_readable_from_minio_and_hot_data_does_not_need_it() {
    let mut minio = Minio::start();
    minio.create_bucket(BUCKET);
    let configs = minio.configs(BUCKET);
    let (mut broker, written) = round_trip("MinIO", options(&configs, minio.environment()));
    let bootstrap = broker.bootstrap();
    let stored = minio.boto3(&format!(
        "pages = s3.get_paginator('list_objects_v2').paginate(Bucket='{BUCKET}')\n\
         objects = [o for page in pages for o in page.get('Contents', [])]\n\
         print(len(objects), sum(o['Size'] for o in objects))"
    ));
    println!("MinIO holds (objects, bytes): {}", stored.trim());

    // The store goes away. A restart and hot data need it not; history waits, without an error that moves a consumer.
    minio.kill();
    broker.stop();
    std::fs::remove_dir_all(broker.data().join("remote-cache")).expect("the cache was there");
    broker.restart();
    librdkafka::create_topic(&bootstrap, "hot", 1, TIERED);
    let hot: Vec<TestRecord> = written
        .iter()
        .take(500)
        .map(|record| TestRecord {
            partition: 0,
            ..record.clone()
        })
        .collect();
    librdkafka::produce(&bootstrap, "hot", "none", &hot);
    let read = librdkafka::consume(&bootstrap, "hot", hot.len());
    assert!(read.iter().map(|read| &read.record).eq(&hot), "hot data");

    let historian = librdkafka::consumer_from(&bootstrap, TOPIC, Offset::Beginning);
    for _ in 0..20 {
        match historian.poll(Duration::from_millis(50)) {
            None => {}
            Some(Err(error)) if librdkafka::is_passing(&error) => {}
            Some(Err(error)) => panic!("an error while the store is away: {error}"),
            // What is still local may be read.
            Some(Ok(message)) => assert!(message.offset() > 0, "where did that come from?"),
        }
    }
    minio.restart();
    let mut next = vec![0i64; PARTITIONS as usize];
    let mut left = written.len();
    librdkafka::poll_until(&historian, "all of history", |message| {
        let expected = &mut next[message.partition() as usize];
        assert_eq!(message.offset(), *expected);
        *expected += 1;
        left -= 1;
        left == 0
    });
    check_all(&bootstrap, &written);
    println!("MinIO away: a restart and hot data without it, history as soon as it was back");
    broker.stop();

    // An address where nobody listens, and no credentials anywhere: hot data serves.
    minio.kill();
    for (what, environment) in [
        ("unreachable", minio.environment()),
        (
            "without credentials",
            vec![
                ("AWS_CONFIG_FILE".to_owned(), "/nonexistent".to_owned()),
                (
                    "AWS_SHARED_CREDENTIALS_FILE".to_owned(),
                    "/nonexistent".to_owned(),
                ),
            ],
        ),
    ] {
        let broker = Broker::start(options(&configs, environment));
        let bootstrap = broker.bootstrap();
        librdkafka::create_topic(&bootstrap, "hot", 1, TIERED);
        librdkafka::produce(&bootstrap, "hot", "none", &hot);
        let read = librdkafka::consume(&bootstrap, "hot", hot.len());
        assert!(read.iter().map(|read| &read.record).eq(&hot), "hot data");
        println!("store {what}: the broker starts, and hot data is written and read");
    }
}
