//! What is left of a broker's disk after an accident, and the tier that still has everything: the broker goes on at the
//! manifest's end (design, decision 8).

use std::process::Command;
use std::time::Duration;

use rdkafka::consumer::{CommitMode, Consumer};
use rdkafka::{Offset, TopicPartitionList};
use strandline_client::{IsolationLevel, OffsetSpec};
use strandline_tests::{
    Broker, BrokerOptions, Minio, Pattern, TestRecord, now_ms, run_to_end, strandline_binary,
    timed, wait_until, wait_until_tiered,
};

use crate::librdkafka;
use crate::strandline::{admin, block_on};

const TOPIC: &str = "history";
const PARTITIONS: i32 = 2;
const RECORDS: usize = 3000;
const DEADLINE: Duration = Duration::from_secs(60);

const TIERED: &[(&str, &str)] = &[
    ("remote.storage.enable", "true"),
    ("internal.segment.bytes", "65536"),
    ("local.retention.ms", "1"),
    ("retention.ms", "-1"),
    ("file.delete.delay.ms", "0"),
];

fn records(count: usize) -> Vec<TestRecord> {
    let mut pattern = Pattern::new(23);
    let first_ms = now_ms() - 3_600_000;
    (0..count)
        .map(|index| TestRecord {
            partition: index as i32 % PARTITIONS,
            timestamp: first_ms + index as i64,
            key: Some(index.to_string().into_bytes()),
            value: Some(pattern.bytes(500)),
            headers: Vec::new(),
        })
        .collect()
}

/// What was written below the ends of the tier: what comes back.
fn kept(written: &[TestRecord], tiered: &[i64]) -> Vec<TestRecord> {
    written
        .iter()
        .enumerate()
        .filter(|(index, record)| {
            (*index as i64 / i64::from(PARTITIONS)) < tiered[record.partition as usize]
        })
        .map(|(_, record)| record.clone())
        .collect()
}

/// The latest offset, as soon as the broker leads the partition.
fn latest(bootstrap: &str, partition: i32) -> i64 {
    wait_until("the partition is led", DEADLINE, || {
        let listed = block_on(async {
            admin(bootstrap)
                .list_offset(
                    TOPIC,
                    partition,
                    OffsetSpec::Latest,
                    IsolationLevel::ReadUncommitted,
                )
                .await
        });
        match listed {
            Ok(Some(listed)) => Ok(listed.offset),
            other => Err(format!("{other:?}")),
        }
    })
}

#[test]
fn after_a_lost_disk_or_tail_the_log_goes_on_at_the_manifests_end() {
    let store = tempfile::tempdir().expect("a temporary folder");
    let mut options = BrokerOptions::with(&[
        "log.retention.check.interval.ms=100",
        "remote.log.manager.task.interval.ms=100",
        "remote.log.manager.task.retry.backoff.max.ms=500",
    ]);
    options
        .configs
        .push(format!("remote.storage.url={}", store.path().display()));
    let mut broker = Broker::start(options);
    let bootstrap = broker.bootstrap();
    librdkafka::create_topic(&bootstrap, TOPIC, PARTITIONS, TIERED);
    let written = records(RECORDS);
    librdkafka::produce(&bootstrap, TOPIC, "none", &written);
    let tiered = wait_until_tiered(&broker, TOPIC, PARTITIONS);
    broker.kill();

    // One partition loses its folder, the other what was appended last, with everything else that is local.
    let folder = |partition| broker.data().join(format!("{TOPIC}-{partition}"));
    std::fs::remove_dir_all(folder(0)).expect("was there");
    for entry in std::fs::read_dir(folder(1)).expect("is there") {
        let path = entry.expect("an entry").path();
        if path.extension().is_some_and(|e| e == "log") {
            std::fs::write(&path, b"").expect("empties it");
        }
    }
    broker.restart();

    let kept = kept(&written, &tiered);
    for partition in 0..PARTITIONS {
        assert_eq!(
            latest(&bootstrap, partition),
            tiered[partition as usize],
            "partition {partition} goes on at the manifest's end"
        );
    }
    // What comes now follows what the tier has, without a hole and without a second record of an offset.
    let more = records(200);
    librdkafka::produce(&bootstrap, TOPIC, "none", &more);
    let read = librdkafka::consume(&bootstrap, TOPIC, kept.len() + more.len());
    for partition in 0..PARTITIONS {
        let expected = kept
            .iter()
            .chain(&more)
            .filter(|record| record.partition == partition);
        let read = read.iter().filter(|r| r.record.partition == partition);
        let mut count = 0;
        for (offset, (read, expected)) in read.zip(expected).enumerate() {
            assert_eq!(read.offset, offset as i64, "partition {partition}");
            assert!(read.record == *expected, "{partition}, offset {offset}");
            count += 1;
        }
        assert_eq!(count, tiered[partition as usize] + 100);
    }
    // And it is tiered in turn.
    librdkafka::produce(&bootstrap, TOPIC, "none", &records(1000));
    let later = wait_until_tiered(&broker, TOPIC, PARTITIONS);
    assert!(later[0] > tiered[0] && later[1] > tiered[1], "{later:?}");
    println!("lost disk and lost tail: went on at {tiered:?}, tiered up to {later:?} since");
}

/// Runs the binary, with the store's variables, and returns what it printed.
fn strandline(arguments: &[&str], environment: &[(String, String)]) -> String {
    let mut command = Command::new(strandline_binary());
    command.args(arguments).envs(environment.iter().cloned());
    run_to_end(&mut command, DEADLINE)
        .expect_success(&arguments.join(" "))
        .stdout
}

/// The README's drill: everything but the bucket is lost.
#[test]
fn a_node_is_restored_from_its_bucket_alone() {
    const GROUP: &str = "readers";
    let minio = Minio::start();
    minio.create_bucket("drill");
    let mut options = BrokerOptions::with(&[
        "log.retention.check.interval.ms=100",
        "remote.log.manager.task.interval.ms=100",
        "remote.cluster.state.interval.ms=200",
    ]);
    options.configs.extend(minio.configs("drill"));
    options.environment = minio.environment();
    let mut broker = Broker::start(options);
    let bootstrap = broker.bootstrap();
    librdkafka::create_topic(&bootstrap, TOPIC, PARTITIONS, TIERED);
    librdkafka::create_topic(&bootstrap, "local", 1, &[]);
    let written = records(RECORDS);
    librdkafka::produce(&bootstrap, TOPIC, "none", &written);
    let tiered = wait_until_tiered(&broker, TOPIC, PARTITIONS);

    // A group has read a part of one partition, and all of the other: more than the bucket has.
    let per_partition = (RECORDS / PARTITIONS as usize) as i64;
    assert!(tiered[1] < per_partition, "something is only local");
    let committed = [700, per_partition];
    commit(&bootstrap, GROUP, &committed);
    let store = "--from=s3://drill/strandline".to_owned();
    let endpoint = format!("-oremote.storage.s3.endpoint={}", minio.endpoint());
    wait_until("the group's offsets are in the bucket", DEADLINE, || {
        let plan = strandline(
            &["restore", "--dry-run", "--output=json", &store, &endpoint],
            &minio.environment(),
        );
        match plan.contains(&format!("\"offset\": {}", committed[0])) {
            true => Ok(()),
            false => Err(plan),
        }
    });
    let verified = strandline(
        &["tier", "verify", "--deep", &store, &endpoint],
        &minio.environment(),
    );
    print!("{verified}");
    print!(
        "{}",
        strandline(&["tier", "status", &store, &endpoint], &minio.environment())
    );
    print!(
        "{}",
        strandline(&["tier", "doctor", &store, &endpoint], &minio.environment())
    );
    let http = format!("--http=127.0.0.1:{}", broker.http_port());
    print!("{}", strandline(&["tier", "why", TOPIC, &http], &[]));

    // The machine is lost.
    broker.kill();
    std::fs::remove_dir_all(broker.data()).expect("the data were there");
    let data = format!("--data={}", broker.data().display());
    let (told, took) =
        timed(|| strandline(&["restore", &store, &endpoint, &data], &minio.environment()));
    print!("{told}");
    println!("restored in {} ms", took.as_millis());
    assert!(told.contains("incarnation 2"), "{told}");
    assert!(
        told.contains(&format!(
            "clamped: group {GROUP} of {TOPIC}-1 from {per_partition} to {}",
            tiered[1]
        )),
        "{told}"
    );
    broker.restart();

    let kept = kept(&written, &tiered);
    for partition in 0..PARTITIONS {
        assert_eq!(latest(&bootstrap, partition), tiered[partition as usize]);
    }
    let read = librdkafka::consume(&bootstrap, TOPIC, kept.len());
    for partition in 0..PARTITIONS {
        let read = read.iter().filter(|r| r.record.partition == partition);
        let kept = kept.iter().filter(|record| record.partition == partition);
        for (offset, (read, kept)) in read.zip(kept).enumerate() {
            assert_eq!(read.offset, offset as i64, "partition {partition}");
            assert!(read.record == *kept, "{partition}, offset {offset}");
        }
    }
    // The group goes on where it was, or where the bucket ends.
    assert_eq!(committed_by(&bootstrap, GROUP), [committed[0], tiered[1]]);
    // The topic that was not tiered is there, empty; and the node is whole: it takes and tiers new records.
    librdkafka::produce(&bootstrap, "local", "none", &records(20)[..1]);
    librdkafka::produce(&bootstrap, TOPIC, "none", &records(1000));
    let later = wait_until_tiered(&broker, TOPIC, PARTITIONS);
    assert!(later[0] > tiered[0] && later[1] > tiered[1], "{later:?}");
    println!(
        "{} records came back, the log went on from {tiered:?} to {later:?}",
        kept.len()
    );
}

fn offsets(offsets: &[i64]) -> TopicPartitionList {
    let mut list = TopicPartitionList::new();
    for (partition, offset) in (0..).zip(offsets) {
        list.add_partition_offset(TOPIC, partition, Offset::Offset(*offset))
            .expect("a valid offset");
    }
    list
}

fn commit(bootstrap: &str, group: &str, committed: &[i64]) {
    let consumer = librdkafka::consumer(bootstrap, group);
    let list = offsets(committed);
    wait_until("the offsets are committed", DEADLINE, || {
        consumer
            .commit(&list, CommitMode::Sync)
            .map_err(|error| error.to_string())
    });
}

fn committed_by(bootstrap: &str, group: &str) -> Vec<i64> {
    let consumer = librdkafka::consumer(bootstrap, group);
    let list = offsets(&[0, 0]);
    wait_until("the offsets are told", DEADLINE, || {
        let committed = consumer
            .committed_offsets(list.clone(), Duration::from_secs(5))
            .map_err(|error| error.to_string())?;
        committed
            .elements()
            .iter()
            .map(|element| match element.offset() {
                Offset::Offset(offset) => Ok(offset),
                other => Err(format!("{other:?}")),
            })
            .collect()
    })
}
