//! DumpLogSegments over the broker's folders, after a clean stop and after a crash: no complaint, and what it lists is what
//! clients read.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use rdkafka::consumer::{CommitMode, Consumer};
use rdkafka::{Offset, TopicPartitionList};
use strandline_tests::{
    Broker, BrokerOptions, Pattern, ReadRecord, TestHeader, TestRecord, kafka_tool, now_ms,
};

use crate::librdkafka;

const TOOL: &str = "org.apache.kafka.tools.DumpLogSegments";
const TOPIC: &str = "dumped";
const PARTITIONS: i32 = 2;
const CODECS: [&str; 5] = ["none", "gzip", "snappy", "lz4", "zstd"];
const PER_CODEC: usize = 1200;
const GROUP: &str = "dumpers";

/// Words that the tool says when something is wrong; a clean dump has none of them.
const COMPLAINTS: &[&str] = &[
    "mismatch",
    "out of order",
    "Non-consecutive",
    "non-consecutive",
    "isvalid: false",
    "invalid",
    "corrupt",
    "failed",
    "Exception",
    "inconsistent",
    "Found ",
    "Could not",
];

fn records(first: usize) -> Vec<TestRecord> {
    let mut pattern = Pattern::new(first as u64);
    (first..first + PER_CODEC)
        .map(|index| TestRecord {
            partition: index as i32 % PARTITIONS,
            timestamp: now_ms(),
            key: (!index.is_multiple_of(7)).then(|| format!("key-{index}").into_bytes()),
            value: (!index.is_multiple_of(11))
                .then(|| format!("value-{index}-{}", pattern.text(index % 150)).into_bytes()),
            headers: if index.is_multiple_of(5) {
                vec![TestHeader("h".to_owned(), Some(b"1".to_vec()))]
            } else {
                Vec::new()
            },
        })
        .collect()
}

/// The files of a folder whose name ends so, in order.
fn files(folder: &Path, suffix: &str) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.expect("a folder can be listed").path())
        .filter(|path| {
            path.file_name()
                .is_some_and(|name| name.to_string_lossy().ends_with(suffix))
        })
        .collect();
    files.sort();
    files
}

/// The tool expects every file to begin at offset 0 and says of each other one that -1 is followed by its first offset.
/// That is no complaint, as long as the first offset is the one that the file is named after.
fn without_first_offsets(said: &str) -> Vec<&str> {
    let mut lines = said.lines().peekable();
    let mut rest = Vec::new();
    while let Some(line) = lines.next() {
        let base = line
            .strip_prefix("Non-consecutive offsets in ")
            .and_then(|file| Path::new(file).file_stem()?.to_str()?.parse::<i64>().ok());
        if let Some(base) = base {
            let next = lines.next_if(|next| *next == format!("  -1 is followed by {base}"));
            if next.is_some()
                && lines
                    .peek()
                    .is_none_or(|next| !next.contains("is followed by"))
            {
                continue;
            }
        }
        rest.push(line);
    }
    rest
}

/// Runs the tool, which must have nothing to complain about, and returns what it printed.
fn dump(files: &[PathBuf], options: &[&str]) -> String {
    assert!(!files.is_empty(), "no files for {options:?}");
    let list: Vec<String> = files
        .iter()
        .map(|file| file.display().to_string())
        .collect();
    let list = list.join(",");
    let mut arguments = vec!["--files", list.as_str()];
    arguments.extend_from_slice(options);
    let output = kafka_tool(TOOL, &arguments).expect_success(TOOL);
    let said = without_first_offsets(&output.stderr);
    for line in output.stdout.lines().chain(said) {
        // Keys and payloads are ours.
        let own = line.split(" key: ").next().unwrap_or(line);
        assert!(
            !COMPLAINTS.iter().any(|complaint| own.contains(complaint)),
            "{options:?}: {line}\nof {list}"
        );
    }
    output.stdout
}

/// A record's line of a deep dump.
#[derive(PartialEq, Eq, Debug)]
struct Dumped {
    offset: i64,
    timestamp: i64,
    key: Option<String>,
    value: Option<String>,
    header_keys: String,
}

fn field<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    let rest = line.split_once(&format!(" {name}: "))?.1;
    rest.split(' ').next()
}

fn parse(line: &str) -> Option<Dumped> {
    let line = line.strip_prefix('|')?;
    let number = |name: &str| field(line, name)?.parse::<i64>().ok();
    let text = |name: &str, size: &str| {
        (number(size)? >= 0).then(|| field(line, name).unwrap_or_default().to_owned())
    };
    Some(Dumped {
        offset: number("offset")?,
        timestamp: number("CreateTime")?,
        key: text("key", "keySize"),
        value: text("payload", "valueSize"),
        header_keys: line
            .split_once("headerKeys: [")
            .and_then(|(_, rest)| rest.split(']').next())
            .unwrap_or_default()
            .to_owned(),
    })
}

fn as_dumped(read: &ReadRecord) -> Dumped {
    let text = |bytes: &Option<Vec<u8>>| {
        bytes
            .as_ref()
            .map(|bytes| String::from_utf8_lossy(bytes).into_owned())
    };
    let names: Vec<&str> = read
        .record
        .headers
        .iter()
        .map(|TestHeader(name, _)| name.as_str())
        .collect();
    Dumped {
        offset: read.offset,
        timestamp: read.record.timestamp,
        key: text(&read.record.key),
        value: text(&read.record.value),
        header_keys: names.join(","),
    }
}

fn commit(bootstrap: &str, offsets: &[i64]) {
    let consumer = librdkafka::consumer(bootstrap, GROUP);
    let mut list = TopicPartitionList::new();
    for (partition, offset) in offsets.iter().enumerate() {
        list.add_partition_offset(TOPIC, partition as i32, Offset::Offset(*offset))
            .expect("an offset");
    }
    consumer
        .commit(&list, CommitMode::Sync)
        .expect("a commit is acknowledged");
}

/// Dumps every file of every partition and compares the listing with what clients have read.
fn check_folders(data: &Path, read: &[ReadRecord]) {
    for partition in 0..PARTITIONS {
        let folder = data.join(format!("{TOPIC}-{partition}"));
        let logs = files(&folder, ".log");
        assert!(
            logs.len() > 3,
            "{} has {} segments",
            folder.display(),
            logs.len()
        );
        let listing = dump(&logs, &["--deep-iteration", "--print-data-log"]);
        let dumped: Vec<Dumped> = listing.lines().filter_map(parse).collect();
        let expected: Vec<Dumped> = read
            .iter()
            .filter(|read| read.record.partition == partition)
            .map(as_dumped)
            .collect();
        assert_eq!(
            dumped.len(),
            expected.len(),
            "records of partition {partition}"
        );
        for (dumped, expected) in dumped.iter().zip(&expected) {
            assert_eq!(dumped, expected, "partition {partition}");
        }
        for codec in CODECS {
            assert!(
                listing.contains(&format!("compresscodec: {codec}")),
                "no batch is {codec}"
            );
        }
        let mut indexes = files(&folder, ".index");
        indexes.extend(files(&folder, ".timeindex"));
        assert_eq!(indexes.len(), 2 * logs.len());
        dump(&indexes, &[]);
        dump(&indexes, &["--verify-index-only"]);
        let sane = dump(&indexes, &["--index-sanity-check"]);
        // An index of one small batch has no entry.
        let answers = ["passed sanity check.", "is empty."];
        let sound: usize = answers
            .iter()
            .map(|answer| sane.matches(answer).count())
            .sum();
        assert_eq!(sound, indexes.len(), "{sane}");
        let snapshots = dump(&files(&folder, ".snapshot"), &[]);
        assert!(snapshots.contains("producerId"), "{snapshots}");
    }
}

/// The offsets that the dump of __consumer_offsets ends with.
fn dumped_commits(data: &Path) -> BTreeMap<i32, i64> {
    let mut commits = BTreeMap::new();
    let folders: Vec<PathBuf> = std::fs::read_dir(data)
        .expect("the data folder can be listed")
        .map(|entry| entry.expect("it can be listed").path())
        .filter(|path| {
            path.file_name()
                .is_some_and(|name| name.to_string_lossy().starts_with("__consumer_offsets-"))
        })
        .collect();
    for folder in folders {
        let listing = dump(&files(&folder, ".log"), &["--offsets-decoder"]);
        for line in listing.lines().filter(|line| line.contains(GROUP)) {
            let json = |name: &str| {
                let text = line.split_once(&format!(" {name}: "))?.1;
                let mut values =
                    serde_json::Deserializer::from_str(text).into_iter::<serde_json::Value>();
                values.next()?.ok()
            };
            let (Some(key), Some(payload)) = (json("key"), json("payload")) else {
                continue;
            };
            if key["data"]["topic"] == TOPIC {
                let partition = key["data"]["partition"].as_i64().expect("a number");
                let offset = payload["data"]["offset"].as_i64().expect("a number");
                commits.insert(partition as i32, offset);
            }
        }
    }
    commits
}

#[test]
fn kafkas_dump_tool_has_no_complaint_and_lists_what_clients_read() {
    let mut broker = Broker::start(BrokerOptions::with(&["offsets.topic.num.partitions=3"]));
    let bootstrap = broker.bootstrap();
    librdkafka::create_topic(
        &bootstrap,
        TOPIC,
        PARTITIONS,
        &[
            ("internal.segment.bytes", "49152"),
            ("index.interval.bytes", "512"),
        ],
    );
    for (round, codec) in CODECS.iter().enumerate() {
        librdkafka::produce(&bootstrap, TOPIC, codec, &records(round * PER_CODEC));
    }
    let count = CODECS.len() * PER_CODEC;
    let read = librdkafka::consume(&bootstrap, TOPIC, count);
    commit(&bootstrap, &[17, 4]);
    commit(&bootstrap, &[100, 200]);
    broker.stop();
    check_folders(&broker.data(), &read);
    let commits = dumped_commits(&broker.data());
    assert_eq!(commits, BTreeMap::from([(0, 100), (1, 200)]));
    println!("after a clean stop: {count} records dumped as clients read them");

    broker.restart();
    librdkafka::produce(&bootstrap, TOPIC, "lz4", &records(count));
    commit(&bootstrap, &[300, 400]);
    broker.kill();
    broker.restart();
    librdkafka::produce(&bootstrap, TOPIC, "none", &records(count + PER_CODEC));
    let count = count + 2 * PER_CODEC;
    let read = librdkafka::consume(&bootstrap, TOPIC, count);
    broker.stop();
    check_folders(&broker.data(), &read);
    let commits = dumped_commits(&broker.data());
    assert_eq!(commits, BTreeMap::from([(0, 300), (1, 400)]));
    println!(
        "after a kill, a recovery and more records: {count} records dumped as clients read them"
    );
}
