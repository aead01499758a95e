//! Groups in every client library: two members share, static members come back, commits are resumed from.

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::consumer::{CommitMode, Consumer};
use rdkafka::message::Message;
use rdkafka::{Offset, TopicPartitionList};
use strandline_tests::{
    Broker, BrokerOptions, Driver, DriverLine, DriverScript, PairMember, StaticMembers, TestRecord,
    now_ms,
};

use crate::librdkafka;

const PARTITIONS: i32 = 6;
const FIRST: usize = 60;
const SECOND: usize = 12;

fn broker() -> Broker {
    Broker::start(BrokerOptions::with(&[
        "group.initial.rebalance.delay.ms=0",
        "offsets.topic.num.partitions=5",
    ]))
}

/// `count` records, round robin over the partitions.
fn produce(bootstrap: &str, topic: &str, count: usize) {
    let records: Vec<TestRecord> = (0..count)
        .map(|index| TestRecord {
            partition: index as i32 % PARTITIONS,
            timestamp: now_ms(),
            value: Some(index.to_string().into_bytes()),
            ..TestRecord::default()
        })
        .collect();
    librdkafka::produce(bootstrap, topic, "none", &records);
}

/// Partition and offset of records `from..to` of each partition.
fn places(from: usize, to: usize) -> Vec<(i32, i64)> {
    let per_partition = |count: usize| (count / PARTITIONS as usize) as i64;
    (0..PARTITIONS)
        .flat_map(|partition| {
            (per_partition(from)..per_partition(to)).map(move |offset| (partition, offset))
        })
        .collect()
}

fn committed(bootstrap: &str, group: &str, topic: &str) -> BTreeMap<i32, i64> {
    let consumer = librdkafka::consumer(bootstrap, group);
    let mut list = TopicPartitionList::new();
    list.add_partition_range(topic, 0, PARTITIONS - 1);
    let offsets = consumer
        .committed_offsets(list, librdkafka::DEADLINE)
        .expect("OffsetFetch is answered");
    offsets
        .elements()
        .iter()
        .map(|element| (element.partition(), element.offset().to_raw().unwrap_or(-1)))
        .collect()
}

#[test]
fn two_members_share_and_what_they_commit_is_resumed_from_in_every_client() {
    let broker = broker();
    let bootstrap = broker.bootstrap();
    // All at the same time: most of it is waiting.
    let mut running: Vec<_> = Driver::ALL
        .into_iter()
        .map(|driver| {
            let topic = format!("{driver:?}").to_lowercase();
            let group = format!("{topic}-group");
            librdkafka::create_topic(&bootstrap, &topic, PARTITIONS, &[]);
            let mut script = DriverScript::new()
                .pair(&topic, FIRST, &group)
                .group(&topic, SECOND, &group);
            if driver != Driver::KafkaJs {
                script = script.static_members(&topic, &format!("{group}-static"));
            }
            (driver, topic, group, driver.spawn(&bootstrap, script))
        })
        .collect();
    for (driver, topic, _, process) in &mut running {
        process.wait_for(&format!("{driver:?}: both members are ready"), |line| {
            matches!(line, DriverLine::Ready { .. }).then_some(())
        });
        produce(&bootstrap, topic, FIRST);
    }
    for (driver, topic, _, process) in &mut running {
        process.wait_for(&format!("{driver:?}: both members have read"), |line| {
            matches!(line, DriverLine::Member(PairMember { member: 2, .. })).then_some(())
        });
        produce(&bootstrap, topic, SECOND);
    }
    for (driver, topic, group, process) in running {
        check(driver, &process.finish());
        let end = ((FIRST + SECOND) / PARTITIONS as usize) as i64;
        for (partition, offset) in committed(&bootstrap, &group, &topic) {
            assert_eq!(offset, end, "{driver:?}: partition {partition}");
        }
    }
}

fn check(driver: Driver, lines: &[DriverLine]) {
    let members: Vec<&PairMember> = lines
        .iter()
        .filter_map(|line| match line {
            DriverLine::Member(member) => Some(member),
            _ => None,
        })
        .collect();
    assert_eq!(members.len(), 2, "{driver:?}");
    for member in &members {
        assert!(!member.partitions.is_empty(), "{driver:?}: {member:?}");
        for (partition, _) in &member.records {
            assert!(
                member.partitions.contains(partition),
                "{driver:?}: {member:?}"
            );
        }
    }
    let mut all: Vec<(i32, i64)> = members
        .iter()
        .flat_map(|member| member.records.iter().copied())
        .collect();
    all.sort_unstable();
    assert_eq!(all, places(0, FIRST), "{driver:?}: all records, each once");
    let mut resumed: Vec<(i32, i64)> = lines
        .iter()
        .filter_map(|line| match line {
            DriverLine::Record(read) => Some((read.record.partition, read.offset)),
            _ => None,
        })
        .collect();
    resumed.sort_unstable();
    assert_eq!(
        resumed,
        places(FIRST, FIRST + SECOND),
        "{driver:?}: what came after the commit"
    );
    if driver == Driver::KafkaJs {
        println!("{driver:?}: two members, commit and resume");
        return;
    }
    let statics: Vec<&StaticMembers> = lines
        .iter()
        .filter_map(|line| match line {
            DriverLine::Static(members) => Some(members),
            _ => None,
        })
        .collect();
    let [statics] = statics[..] else {
        panic!("{driver:?}: {statics:?}");
    };
    assert_eq!(statics.disturbed, 0, "{driver:?}: {statics:?}");
    assert_eq!(
        statics.assignments[1], statics.assignments[2],
        "{driver:?}: {statics:?}"
    );
    println!("{driver:?}: two members, commit and resume, static membership");
}

#[test]
fn a_group_of_librdkafka_resumes_over_a_restart_of_the_broker() {
    let mut broker = broker();
    let bootstrap = broker.bootstrap();
    librdkafka::create_topic(&bootstrap, "resumed", PARTITIONS, &[]);
    produce(&bootstrap, "resumed", FIRST);
    let read = |count: usize| {
        let consumer: rdkafka::consumer::BaseConsumer = librdkafka::config(&bootstrap)
            .set("group.id", "resumers")
            .set("auto.offset.reset", "earliest")
            .set("enable.auto.commit", "false")
            .create()
            .expect("a consumer");
        consumer.subscribe(&["resumed"]).expect("a subscription");
        let mut places = Vec::new();
        librdkafka::poll_until(&consumer, &format!("{count} records"), |message| {
            places.push((message.partition(), message.offset()));
            places.len() >= count
        });
        consumer
            .commit_consumer_state(CommitMode::Sync)
            .expect("a commit");
        places.sort_unstable();
        places
    };
    assert_eq!(read(FIRST), places(0, FIRST));
    broker.kill();
    broker.restart();
    produce(&bootstrap, "resumed", SECOND);
    assert_eq!(read(SECOND), places(FIRST, FIRST + SECOND));
    broker.stop();
    broker.restart();
    for offset in committed(&bootstrap, "resumers", "resumed").values() {
        assert_eq!(*offset, ((FIRST + SECOND) / PARTITIONS as usize) as i64);
    }
    // Nothing more is there to be read.
    let consumer = librdkafka::consumer_from(&bootstrap, "resumed", Offset::End);
    assert!(consumer.poll(Duration::from_millis(200)).is_none());
}
