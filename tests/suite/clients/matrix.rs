//! Every client writes, with every codec that it has; every client reads it all.
//!
//! One process per client writes all its topics, one reads all topics: starts are what takes the time.

use std::collections::{BTreeMap, BTreeSet};

use strandline_tests::{
    Broker, BrokerOptions, Driver, DriverLine, DriverScript, FoundOffset, Pattern, ReadRecord,
    TestHeader, TestRecord, now_ms,
};

use super::kcat;
use crate::librdkafka;

const PARTITIONS: i32 = 3;
const WIDE: &str = "wide";
const WIDE_PARTITIONS: i32 = 100;
/// What the seek looks for, as steps of `records` after the first.
const SEEK_STEP: i64 = 17;
const STEP_MS: i64 = 1000;

/// A topic that one client wrote.
struct Written {
    name: String,
    codec: &'static str,
    records: Vec<TestRecord>,
}

/// Which records a client can write at all.
#[derive(Clone, Copy)]
struct Abilities {
    /// Key and value both null.
    all_null: bool,
    /// The same header name twice.
    repeated_headers: bool,
    /// A header without a value.
    null_headers: bool,
}

/// A topic's records: all shapes of keys, values and headers, spread over the partitions, a second apart.
fn records(seed: u64, first_ms: i64, can: Abilities, large: bool) -> Vec<TestRecord> {
    let mut pattern = Pattern::new(seed);
    let header =
        |name: &str, value: Option<&[u8]>| TestHeader(name.to_owned(), value.map(<[u8]>::to_vec));
    let mut shapes = vec![
        (Some(b"key".to_vec()), Some(b"value".to_vec()), vec![]),
        // A tombstone, and one with headers.
        (Some(b"gone".to_vec()), None, vec![]),
        (
            Some(b"gone too".to_vec()),
            None,
            vec![header("cause", Some(b"test"))],
        ),
        (None, Some(b"no key".to_vec()), vec![]),
        (Some(Vec::new()), Some(Vec::new()), vec![]),
        (Some(b"empty value".to_vec()), Some(Vec::new()), vec![]),
        (
            Some("schlüssel \u{1f30a}".as_bytes().to_vec()),
            Some(pattern.bytes(300)),
            vec![
                header("binary", Some(&[0xff, 0x01, 0x80, 0x7f])),
                header("empty", Some(b"")),
                header("null", (!can.null_headers).then_some(b"")),
                header("Ü", Some("é".as_bytes())),
            ],
        ),
        (
            Some(pattern.bytes(16)),
            Some(vec![b'a'; 20_000]),
            vec![header("large", Some("h".repeat(3000).as_bytes()))],
        ),
    ];
    if can.all_null {
        shapes.push((None, None, vec![]));
    }
    if can.repeated_headers {
        let twice = vec![header("twice", Some(b"1")), header("twice", Some(b"2"))];
        shapes.push((Some(b"repeated".to_vec()), Some(b"v".to_vec()), twice));
    }
    for _ in 0..20 {
        let length = pattern.below(400) as usize;
        shapes.push((Some(pattern.bytes(8)), Some(pattern.bytes(length)), vec![]));
    }
    if large {
        shapes.push((
            Some(b"1 MiB".to_vec()),
            Some(pattern.bytes(1 << 20)),
            vec![],
        ));
    }
    shapes
        .into_iter()
        .enumerate()
        .map(|(index, (key, value, headers))| TestRecord {
            partition: index as i32 % PARTITIONS,
            timestamp: first_ms + index as i64 * STEP_MS,
            key,
            value,
            headers,
        })
        .collect()
}

/// The topics of one client: its codecs, the 1 MiB record in the first and the last.
fn topics_of(client: &str, codecs: &[&'static str], can: Abilities, first_ms: i64) -> Vec<Written> {
    codecs
        .iter()
        .enumerate()
        .map(|(index, codec)| Written {
            name: format!("{client}.{codec}"),
            codec,
            records: records(
                index as u64,
                first_ms,
                can,
                index == 0 || index + 1 == codecs.len(),
            ),
        })
        .collect()
}

/// Two records in each of 100 partitions.
fn wide(first_ms: i64) -> Written {
    let records = (0..2 * WIDE_PARTITIONS)
        .map(|index| TestRecord {
            partition: index % WIDE_PARTITIONS,
            timestamp: first_ms + i64::from(index),
            key: Some(format!("{index}").into_bytes()),
            value: Some(format!("value {index}").into_bytes()),
            headers: Vec::new(),
        })
        .collect();
    Written {
        name: WIDE.to_owned(),
        codec: "zstd",
        records,
    }
}

fn create(bootstrap: &str, written: &Written) {
    let partitions = if written.name == WIDE {
        WIDE_PARTITIONS
    } else {
        PARTITIONS
    };
    librdkafka::create_topic(
        bootstrap,
        &written.name,
        partitions,
        &[("max.message.bytes", "8388608")],
    );
}

const ALL: &[&str] = &["none", "gzip", "snappy", "lz4", "zstd"];
const ANY: Abilities = Abilities {
    all_null: true,
    repeated_headers: true,
    null_headers: true,
};

fn write_all(bootstrap: &str) -> Vec<Written> {
    let first_ms = now_ms() - 3_600_000;
    // Two Python clients refuse a record without key and value, one a header without a value; KafkaJS refuses that
    // too, and takes headers as an object.
    let aiokafka = Abilities {
        all_null: false,
        ..ANY
    };
    let kafka_python = Abilities {
        null_headers: false,
        ..aiokafka
    };
    let javascript = Abilities {
        repeated_headers: false,
        null_headers: false,
        ..ANY
    };
    let mut all = topics_of("librdkafka", ALL, ANY, first_ms);
    all.push(wide(first_ms));
    for written in &all {
        create(bootstrap, written);
        librdkafka::produce(bootstrap, &written.name, written.codec, &written.records);
    }
    for (driver, codecs, can) in [
        (Driver::Java, ALL, ANY),
        (Driver::KafkaPython, ALL, kafka_python),
        (Driver::Confluent, &["lz4", "zstd"][..], ANY),
        (Driver::Aiokafka, ALL, aiokafka),
        (Driver::KafkaJs, &["none", "gzip", "snappy"][..], javascript),
    ] {
        let topics = topics_of(&format!("{driver:?}").to_lowercase(), codecs, can, first_ms);
        let mut script = DriverScript::new();
        for written in &topics {
            create(bootstrap, written);
            script = script.produce(&written.name, written.codec, &written.records);
        }
        driver.run(bootstrap, &script);
        all.extend(topics);
    }
    all.extend(write_with_kcat(bootstrap));
    all
}

/// kcat stamps records itself: what the timestamps are is read back with librdkafka.
fn write_with_kcat(bootstrap: &str) -> Vec<Written> {
    let mut pattern = Pattern::new(77);
    ALL.iter()
        .map(|codec| {
            let mut written = Written {
                name: format!("kcat.{codec}"),
                codec,
                records: Vec::new(),
            };
            create(bootstrap, &written);
            let before = now_ms();
            for partition in 0..PARTITIONS {
                let record = |key: Option<&str>, value: Option<String>| TestRecord {
                    partition,
                    timestamp: 0,
                    key: key.map(|key| key.as_bytes().to_vec()),
                    value: value.map(String::into_bytes),
                    headers: vec![TestHeader(
                        "from".to_owned(),
                        Some(format!("kcat {partition}").into_bytes()),
                    )],
                };
                let mut records = vec![
                    record(Some("key"), Some("value".to_owned())),
                    record(Some("gone"), None),
                    record(None, Some("no key".to_owned())),
                    record(Some("é"), Some("\u{1f30a}".to_owned())),
                ];
                if partition == 0 {
                    records.push(record(Some("1 MiB"), Some(pattern.text(1 << 20))));
                }
                kcat::produce(bootstrap, &written.name, codec, &records);
                written.records.extend(records);
            }
            let read = librdkafka::consume(bootstrap, &written.name, written.records.len());
            for partition in 0..PARTITIONS {
                let of_partition = |record: &&mut TestRecord| record.partition == partition;
                let stamps = read
                    .iter()
                    .filter(|read| read.record.partition == partition)
                    .map(|read| read.record.timestamp);
                for (record, stamp) in written.records.iter_mut().filter(of_partition).zip(stamps) {
                    assert!((before..=now_ms()).contains(&stamp), "{stamp}");
                    record.timestamp = stamp;
                }
            }
            written
        })
        .collect()
}

/// Topic, partition and offset of every record.
type Read = BTreeMap<(String, i32, i64), TestRecord>;

fn expected(all: &[Written]) -> Read {
    let mut expected = Read::new();
    for written in all {
        let mut ends = BTreeMap::<i32, i64>::new();
        for record in &written.records {
            let end = ends.entry(record.partition).or_default();
            let place = (written.name.clone(), record.partition, *end);
            expected.insert(place, record.clone());
            *end += 1;
        }
    }
    expected
}

fn compare(reader: &str, read: impl IntoIterator<Item = ReadRecord>, expected: &Read) {
    let mut left = expected.clone();
    let mut count = 0;
    for ReadRecord {
        topic,
        offset,
        record,
    } in read
    {
        let place = (topic, record.partition, offset);
        let Some(wanted) = left.remove(&place) else {
            panic!("{reader} read {place:?}, which is not there or was read before");
        };
        if wanted != record {
            panic!(
                "{reader} at {place:?}: {}\nwhere this was written: {}",
                shortened(&record),
                shortened(&wanted)
            );
        }
        count += 1;
    }
    let missing: Vec<_> = left.keys().take(5).collect();
    assert!(left.is_empty(), "{reader} did not read {missing:?}");
    let topics: BTreeSet<_> = expected.keys().map(|(topic, ..)| topic).collect();
    println!(
        "{reader} read {count} records of {} topics as they were written",
        topics.len()
    );
}

fn shortened(record: &TestRecord) -> String {
    let line = record.to_line();
    line.chars().take(600).collect()
}

/// What a seek finds in every partition of a topic.
fn expected_offsets(written: &Written, timestamp: i64) -> Vec<FoundOffset> {
    let partitions = if written.name == WIDE {
        WIDE_PARTITIONS
    } else {
        PARTITIONS
    };
    (0..partitions)
        .map(|partition| FoundOffset {
            topic: written.name.clone(),
            partition,
            offset: written
                .records
                .iter()
                .filter(|record| record.partition == partition)
                .position(|record| record.timestamp >= timestamp)
                .map_or(-1, |at| at as i64),
        })
        .collect()
}

#[test]
fn every_client_reads_what_every_other_wrote() {
    let broker = Broker::start(BrokerOptions::with(&[
        "group.initial.rebalance.delay.ms=0",
        "auto.create.topics.enable=false",
    ]));
    let bootstrap = broker.bootstrap();
    let all = write_all(&bootstrap);
    let everything = expected(&all);

    let read = all
        .iter()
        .flat_map(|written| librdkafka::consume(&bootstrap, &written.name, written.records.len()));
    compare("librdkafka", read, &everything);
    read_with_kcat(&bootstrap, &all);

    for driver in Driver::ALL {
        // KafkaJS knows neither lz4 nor zstd.
        let topics: Vec<&Written> = all
            .iter()
            .filter(|written| driver != Driver::KafkaJs || !matches!(written.codec, "lz4" | "zstd"))
            .collect();
        let script = topics.iter().fold(DriverScript::new(), |script, written| {
            script.consume(&written.name, written.records.len())
        });
        let lines = driver.run(&bootstrap, &script);
        let read = lines.into_iter().filter_map(|line| match line {
            DriverLine::Record(record) => Some(record),
            _ => None,
        });
        let wanted = everything
            .iter()
            .filter(|((topic, ..), _)| topics.iter().any(|written| written.name == *topic))
            .map(|(place, record)| (place.clone(), record.clone()))
            .collect();
        compare(&format!("{driver:?}"), read, &wanted);
    }
    seek_by_time(&bootstrap, &all);
}

fn read_with_kcat(bootstrap: &str, all: &[Written]) {
    let mut count = 0;
    for written in all {
        let mut read = kcat::consume(bootstrap, &written.name);
        read.sort();
        let wanted: Vec<kcat::KcatRecord> = expected(std::slice::from_ref(written))
            .into_iter()
            .map(|((_, partition, offset), record)| kcat::KcatRecord {
                partition,
                offset,
                timestamp: record.timestamp,
                key: record.key,
                value: record.value,
                headers: kcat::headers_text(&record.headers),
            })
            .collect();
        count += wanted.len();
        assert_eq!(read.len(), wanted.len(), "kcat read of {}", written.name);
        for (read, wanted) in read.iter().zip(&wanted) {
            assert!(read == wanted, "kcat read {read:?}\nwritten: {wanted:?}");
        }
    }
    println!("kcat read {count} records as they were written");
}

/// In a topic per writer, in the middle of a compressed batch, before the first and past the last record.
fn seek_by_time(bootstrap: &str, all: &[Written]) {
    let sought: Vec<&Written> = all
        .iter()
        .filter(|written| {
            written.name.ends_with(".gzip")
                || written.name.ends_with(".zstd")
                || written.name == WIDE
        })
        .collect();
    let questions: Vec<(&Written, i64)> = sought
        .iter()
        .flat_map(|written| {
            let first = written.records[0].timestamp;
            let last = written.records.iter().map(|record| record.timestamp).max();
            let middle = if written.name.starts_with("kcat") {
                first + 1
            } else {
                first + SEEK_STEP * STEP_MS - 1
            };
            [first - 1, middle, last.expect("not empty") + 1].map(|timestamp| (*written, timestamp))
        })
        .collect();
    let mut wanted: Vec<FoundOffset> = questions
        .iter()
        .flat_map(|(written, timestamp)| expected_offsets(written, *timestamp))
        .collect();
    wanted.sort();
    let mut found: Vec<FoundOffset> = questions
        .iter()
        .flat_map(|(written, timestamp)| {
            librdkafka::offsets_for_time(bootstrap, &written.name, *timestamp)
                .into_iter()
                .map(|(partition, offset)| FoundOffset {
                    topic: written.name.clone(),
                    partition,
                    offset,
                })
        })
        .collect();
    found.sort();
    assert_eq!(found, wanted, "librdkafka");
    let script = questions
        .iter()
        .fold(DriverScript::new(), |script, (written, timestamp)| {
            script.seek(&written.name, *timestamp)
        });
    for driver in Driver::ALL {
        let mut found: Vec<FoundOffset> = driver
            .run(bootstrap, &script)
            .into_iter()
            .filter_map(|line| match line {
                DriverLine::Found(found) => Some(found),
                _ => None,
            })
            .collect();
        found.sort();
        assert_eq!(found, wanted, "{driver:?}");
    }
    println!(
        "every client found the offsets of {} timestamps",
        questions.len()
    );
}
