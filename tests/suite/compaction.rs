//! Compacted topics, from outside: the last value of every key stays at its offset, tombstones go in time, a kill -9 at
//! any moment of a cleaning costs nothing, and Kafka's own tool has no complaint about the files.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rdkafka::consumer::{CommitMode, Consumer};
use rdkafka::{Message, Offset, TopicPartitionList};
use strandline_tests::{
    Broker, BrokerOptions, Pattern, TestRecord, http_get, kafka_tool, metric, now_ms, wait_until,
};

use crate::librdkafka;

const DEADLINE: Duration = Duration::from_secs(90);
const RUNS: &str = "strandline_log_cleaner_runs_total";
const UNCLEANABLE: &str = "strandline_log_cleaner_uncleanable_partitions";
/// Looks for work all the time, and cleans whatever is a little dirty.
const EAGER: &[&str] = &[
    "log.cleaner.backoff.ms=50",
    "log.cleaner.min.cleanable.ratio=0.01",
];
const SMALL_SEGMENTS: &[(&str, &str)] = &[
    ("cleanup.policy", "compact"),
    ("internal.segment.bytes", "65536"),
    ("index.interval.bytes", "512"),
    ("delete.retention.ms", "300"),
];

/// What was written: of every key the last offset and value.
#[derive(Default)]
struct Model {
    last: BTreeMap<Vec<u8>, (i64, Option<Vec<u8>>)>,
    next_offset: i64,
    pattern: Option<Pattern>,
}

impl Model {
    fn records(&mut self, keys: impl Iterator<Item = usize>, deletes: bool) -> Vec<TestRecord> {
        let pattern = self.pattern.get_or_insert_with(|| Pattern::new(7));
        keys.map(|key| {
            let value = (!deletes).then(|| {
                let text = pattern.text(40 + key % 100);
                format!("{key} {} {text}", self.next_offset).into_bytes()
            });
            let record = TestRecord {
                partition: 0,
                timestamp: now_ms(),
                key: Some(format!("key-{key}").into_bytes()),
                value,
                headers: Vec::new(),
            };
            let key = record.key.clone().expect("just set");
            self.last
                .insert(key, (self.next_offset, record.value.clone()));
            self.next_offset += 1;
            record
        })
        .collect()
    }

    fn put(&mut self, bootstrap: &str, topic: &str, codec: &str, keys: std::ops::Range<usize>) {
        let records = self.records(keys, false);
        librdkafka::produce(bootstrap, topic, codec, &records);
    }

    fn delete(&mut self, bootstrap: &str, topic: &str, keys: std::ops::Range<usize>) {
        let records = self.records(keys, true);
        librdkafka::produce(bootstrap, topic, "lz4", &records);
    }

    /// Reads the topic and compares. Tells how many records there were, and how many of them tombstones.
    fn check(&self, bootstrap: &str, topic: &str) -> (usize, usize) {
        let consumer = librdkafka::consumer_from(bootstrap, topic, Offset::Beginning);
        let mut seen: BTreeMap<Vec<u8>, (i64, Option<Vec<u8>>)> = BTreeMap::new();
        let (mut count, mut tombstones, mut before) = (0, 0, -1);
        librdkafka::poll_until(&consumer, &format!("the end of {topic}"), |message| {
            let offset = message.offset();
            assert!(offset > before, "{offset} after {before}");
            before = offset;
            count += 1;
            tombstones += usize::from(message.payload().is_none());
            let key = message.key().expect("every record has a key").to_vec();
            seen.insert(key, (offset, message.payload().map(<[u8]>::to_vec)));
            offset == self.next_offset - 1
        });
        for (key, last) in &self.last {
            let name = String::from_utf8_lossy(key);
            match seen.remove(key) {
                Some(found) => assert_eq!(found, *last, "{name}"),
                None => assert_eq!(last.1, None, "{name} is gone"),
            }
        }
        assert!(seen.is_empty(), "records that nobody wrote: {seen:?}");
        (count, tombstones)
    }
}

fn folder(broker: &Broker, topic: &str) -> PathBuf {
    broker.data().join(format!("{topic}-0"))
}

fn names(folder: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return Vec::new();
    };
    entries
        .map(|entry| entry.expect("a folder can be listed").file_name())
        .map(|name| name.to_string_lossy().into_owned())
        .collect()
}

fn files(folder: &Path, suffix: &str) -> Vec<PathBuf> {
    let mut files: Vec<_> = names(folder)
        .into_iter()
        .filter(|name| name.ends_with(suffix))
        .map(|name| folder.join(name))
        .collect();
    files.sort();
    files
}

fn log_bytes(folder: &Path) -> u64 {
    files(folder, ".log")
        .iter()
        .filter_map(|path| Some(path.metadata().ok()?.len()))
        .sum()
}

/// Kafka's dump tool over all files of a folder. That offsets have gaps, it says of every compacted log.
fn dump(folder: &Path) {
    let complaints = [
        "mismatch",
        "out of order",
        "isvalid: false",
        "invalid",
        "corrupt",
        "Exception",
        "inconsistent",
        "Found ",
        "Could not",
    ];
    for (suffix, options) in [
        (".log", &["--deep-iteration"][..]),
        (".index", &[]),
        (".timeindex", &[]),
        (".index", &["--index-sanity-check"]),
        (".timeindex", &["--index-sanity-check"]),
    ] {
        let list: Vec<_> = files(folder, suffix)
            .iter()
            .map(|path| path.display().to_string())
            .collect();
        assert!(!list.is_empty(), "no {suffix} in {}", folder.display());
        let list = list.join(",");
        let mut arguments = vec!["--files", list.as_str()];
        arguments.extend_from_slice(options);
        let tool = "org.apache.kafka.tools.DumpLogSegments";
        let output = kafka_tool(tool, &arguments).expect_success(tool);
        for line in output.stdout.lines().chain(output.stderr.lines()) {
            assert!(
                !complaints.iter().any(|complaint| line.contains(complaint)),
                "{suffix} {options:?}: {line}"
            );
        }
    }
}

#[test]
fn a_keyed_topic_keeps_the_last_value_of_every_key_and_tombstones_go() {
    let topic = "keyed";
    let mut broker = Broker::start(BrokerOptions::with(EAGER));
    let bootstrap = broker.bootstrap();
    librdkafka::create_topic(&bootstrap, topic, 1, SMALL_SEGMENTS);
    let mut model = Model::default();
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
        for _ in 0..4 {
            model.put(&bootstrap, topic, codec, 0..500);
        }
    }
    model.delete(&bootstrap, topic, 400..500);
    let written = model.next_offset as usize;
    // A tombstone is met by one round, and goes with the first one after its time. Each round needs something new.
    let (left, tombstones) = wait_until("the log is compact", DEADLINE, || {
        model.put(&bootstrap, topic, "zstd", 500..900);
        let (left, tombstones) = model.check(&bootstrap, topic);
        let active = 2_000;
        if tombstones > 0 || left > 800 + active {
            return Err(format!("{left} records, {tombstones} tombstones"));
        }
        Ok((left, tombstones))
    });
    assert_eq!(tombstones, 0);
    assert!(left < written, "{left} of {written}");
    assert!(metric(broker.http_port(), RUNS, &[]) > 1.0);
    assert_eq!(metric(broker.http_port(), UNCLEANABLE, &[]), 0.0);
    let (_, page) = http_get(broker.http_port(), "/metrics").expect("answers");
    for noun in [
        "bytes_read_total",
        "bytes_written_total",
        "max_dirty_percent",
        "time_since_last_run_ms",
    ] {
        let name = format!("\nstrandline_log_cleaner_{noun} ");
        assert!(page.contains(&name), "{name} is missing");
    }
    let before = model.check(&bootstrap, topic);
    broker.stop();
    dump(&folder(&broker, topic));
    let checkpoint = std::fs::read_to_string(broker.data().join("cleaner-offset-checkpoint"));
    let checkpoint = checkpoint.expect("it is written");
    assert!(checkpoint.contains(&format!("{topic} 0 ")), "{checkpoint}");
    broker.restart();
    let after = model.check(&bootstrap, topic);
    assert!(after.0 <= before.0);
    println!("{} records written, {left} left", model.next_offset);
}

#[test]
fn max_compaction_lag_forces_what_the_dirty_ratio_would_not() {
    let topic = "overdue";
    let broker = Broker::start(BrokerOptions::with(&["log.cleaner.backoff.ms=50"]));
    let bootstrap = broker.bootstrap();
    let configs = [
        ("cleanup.policy", "compact"),
        ("min.cleanable.dirty.ratio", "1.0"),
        ("max.compaction.lag.ms", "500"),
    ];
    librdkafka::create_topic(&bootstrap, topic, 1, &configs);
    let mut model = Model::default();
    for _ in 0..3 {
        model.put(&bootstrap, topic, "lz4", 0..200);
    }
    // The active segment is sealed for it, too.
    wait_until("every key is there once", DEADLINE, || {
        match model.check(&bootstrap, topic) {
            (200, 0) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });
}

#[test]
fn a_kill_at_any_moment_of_a_cleaning_costs_nothing() {
    let topic = "killed";
    // So slow that there is always a cleaning under way.
    let mut slow: Vec<&str> = EAGER.to_vec();
    slow.push("log.cleaner.io.max.bytes.per.second=300000");
    let mut broker = Broker::start(BrokerOptions::with(&slow));
    let bootstrap = broker.bootstrap();
    librdkafka::create_topic(&bootstrap, topic, 1, SMALL_SEGMENTS);
    let mut model = Model::default();
    let mut unfinished = 0;
    for round in 0..6 {
        for codec in ["none", "lz4"] {
            for _ in 0..5 {
                model.put(&bootstrap, topic, codec, 0..700);
            }
        }
        model.delete(&bootstrap, topic, round * 100..round * 100 + 50);
        wait_until("a cleaning is under way", DEADLINE, || {
            let found = names(&folder(&broker, topic));
            let begun = found
                .iter()
                .any(|name| name.ends_with(".cleaned") || name.ends_with(".swap"));
            if begun {
                Ok(())
            } else {
                Err(format!("{} files", found.len()))
            }
        });
        broker.kill();
        unfinished += names(&folder(&broker, topic))
            .iter()
            .filter(|name| name.ends_with(".cleaned") || name.ends_with(".swap"))
            .count();
        broker.restart();
        model.check(&bootstrap, topic);
    }
    assert!(unfinished > 0, "no kill met a cleaning");
    broker.kill();
    broker.set_options(BrokerOptions::with(EAGER));
    broker.restart();
    let left = wait_until("the log is compact", DEADLINE, || {
        model.put(&bootstrap, topic, "none", 0..100);
        let (left, _) = model.check(&bootstrap, topic);
        if left > 700 + 1_500 {
            return Err(format!("{left} records"));
        }
        Ok(left)
    });
    assert_eq!(metric(broker.http_port(), UNCLEANABLE, &[]), 0.0);
    broker.stop();
    let found = names(&folder(&broker, topic));
    assert!(
        !found
            .iter()
            .any(|name| name.ends_with(".cleaned") || name.ends_with(".swap")),
        "{found:?}"
    );
    dump(&folder(&broker, topic));
    println!(
        "{} records written over 6 kills, {left} left",
        model.next_offset
    );
}

#[test]
fn committed_offsets_survive_the_compaction_of_their_topic() {
    let (topic, group, partitions) = ("committed", "those-who-commit", 50);
    let mut configs: Vec<&str> = EAGER.to_vec();
    configs.extend([
        "offsets.topic.num.partitions=1",
        "offsets.topic.segment.bytes=1048576",
        "log.segment.delete.delay.ms=0",
    ]);
    let mut broker = Broker::start(BrokerOptions::with(&configs));
    let bootstrap = broker.bootstrap();
    librdkafka::create_topic(&bootstrap, topic, partitions, &[]);
    let consumer = librdkafka::consumer(&bootstrap, group);
    let offsets = folder(&broker, "__consumer_offsets");
    let mut committed = 0;
    let mut largest = 0;
    let cleaned = |broker: &Broker| metric(broker.http_port(), RUNS, &[]) > 0.0;
    wait_until("the offsets are compacted", DEADLINE, || {
        for _ in 0..50 {
            committed += 1;
            let mut list = TopicPartitionList::new();
            for partition in 0..partitions {
                let offset = Offset::Offset(committed * 100 + i64::from(partition));
                list.add_partition_offset(topic, partition, offset)
                    .expect("an offset");
            }
            consumer
                .commit(&list, CommitMode::Sync)
                .expect("a commit is acknowledged");
        }
        let bytes = log_bytes(&offsets);
        largest = largest.max(bytes);
        if cleaned(&broker) && bytes < largest {
            Ok(())
        } else {
            Err(format!("{bytes} bytes after {committed} commits"))
        }
    });
    drop(consumer);
    for clean in [true, false] {
        if clean {
            broker.stop();
            dump(&offsets);
        } else {
            broker.kill();
        }
        broker.restart();
        let consumer = librdkafka::consumer(&bootstrap, group);
        let mut list = TopicPartitionList::new();
        for partition in 0..partitions {
            list.add_partition(topic, partition);
        }
        let found = consumer
            .committed_offsets(list, DEADLINE)
            .expect("OffsetFetch is answered");
        for element in found.elements() {
            let expected = committed * 100 + i64::from(element.partition());
            assert_eq!(element.offset(), Offset::Offset(expected), "{element:?}");
        }
    }
    println!(
        "{committed} commits of {partitions} partitions, {largest} bytes at most, {} left",
        log_bytes(&offsets)
    );
}

#[test]
fn a_damaged_partition_is_set_aside_and_the_others_are_cleaned() {
    let (bad, good) = ("damaged", "sound");
    let mut off: Vec<&str> = EAGER.to_vec();
    off.push("log.cleaner.enable=false");
    let mut broker = Broker::start(BrokerOptions::with(&off));
    let bootstrap = broker.bootstrap();
    let mut models = [Model::default(), Model::default()];
    for (topic, model) in [bad, good].iter().zip(&mut models) {
        librdkafka::create_topic(&bootstrap, topic, 1, SMALL_SEGMENTS);
        for _ in 0..6 {
            model.put(&bootstrap, topic, "none", 0..500);
        }
    }
    broker.stop();
    let damaged = &files(&folder(&broker, bad), ".log")[1];
    let mut bytes = std::fs::read(damaged).expect("it can be read");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x40;
    std::fs::write(damaged, &bytes).expect("it can be written");

    broker.set_options(BrokerOptions::with(EAGER));
    broker.restart();
    let before = log_bytes(&folder(&broker, bad));
    wait_until("one is set aside, one is cleaned", DEADLINE, || {
        let port = broker.http_port();
        let (runs, aside) = (metric(port, RUNS, &[]), metric(port, UNCLEANABLE, &[]));
        // Whoever finds it, the log knows it from then on: that is what is answered with CORRUPT_MESSAGE.
        let label = format!("topic=\"{bad}\"");
        let known = metric(port, "strandline_log_damaged_ranges", &[&label]);
        if runs > 0.0 && aside == 1.0 && known == 1.0 {
            Ok(())
        } else {
            Err(format!("{runs} runs, {aside} set aside, {known} known"))
        }
    });
    models[1].check(&bootstrap, good);
    assert_eq!(
        log_bytes(&folder(&broker, bad)),
        before,
        "it is left as it is"
    );
    let log = std::fs::read_to_string(broker.log()).expect("it can be read");
    let line = log
        .lines()
        .find(|line| line.contains("set aside") && line.contains("damaged-0"))
        .unwrap_or_else(|| panic!("no line tells of it in {log}"));
    let name = damaged.file_name().expect("a name").to_string_lossy();
    assert!(line.contains(&*name) && line.contains("position"), "{line}");
    broker.stop();
    dump(&folder(&broker, good));
}

/// The processor time that each of the broker's cleaner threads has used, in the kernel's ticks.
fn cleaner_ticks(broker: &Broker) -> Vec<u64> {
    let tasks = format!("/proc/{}/task", broker.pid());
    let mut ticks = Vec::new();
    for task in std::fs::read_dir(tasks).expect("lists").flatten() {
        let read = |name| std::fs::read_to_string(task.path().join(name)).unwrap_or_default();
        if !read("comm").starts_with("log-cleaner-") {
            continue;
        }
        let stat = read("stat");
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or("").split(' ').collect();
        // Behind the name: user and system time are the 12th and 13th.
        let number = |at: usize| fields.get(at).and_then(|n| n.parse::<u64>().ok());
        ticks.push(number(12).unwrap_or(0) + number(13).unwrap_or(0));
    }
    ticks
}

#[test]
fn several_threads_clean_at_once_and_each_log_by_one() {
    let mut options: Vec<&str> = EAGER.to_vec();
    options.push("log.cleaner.threads=3");
    let mut broker = Broker::start(BrokerOptions::with(&options));
    let bootstrap = broker.bootstrap();
    assert_eq!(cleaner_ticks(&broker).len(), 3, "three threads");
    let topics: Vec<String> = (0..6).map(|number| format!("keyed-{number}")).collect();
    let mut models: Vec<Model> = topics.iter().map(|_| Model::default()).collect();
    for topic in &topics {
        librdkafka::create_topic(&bootstrap, topic, 1, SMALL_SEGMENTS);
    }
    for _ in 0..8 {
        for (topic, model) in topics.iter().zip(&mut models) {
            model.put(&bootstrap, topic, "none", 0..400);
        }
    }
    wait_until("all six are cleaned", DEADLINE, || {
        let left: Vec<u64> = topics
            .iter()
            .map(|topic| log_bytes(&folder(&broker, topic)))
            .collect();
        // Eight times the same keys were written, 50,000 bytes each time.
        match left.iter().all(|left| *left < 200_000) {
            true => Ok(()),
            false => Err(format!("{left:?}")),
        }
    });
    for (topic, model) in topics.iter().zip(&models) {
        model.check(&bootstrap, topic);
    }
    let port = broker.http_port();
    assert_eq!(
        metric(port, "strandline_thread_deaths_total", &["log-cleaner"]),
        0.0
    );
    assert_eq!(metric(port, UNCLEANABLE, &[]), 0.0);
    let busy = cleaner_ticks(&broker);
    println!("ticks of the threads: {busy:?}");
    broker.stop();
    for topic in &topics {
        dump(&folder(&broker, topic));
    }
}

#[test]
fn a_disk_that_does_not_read_costs_its_partition_the_cleaning_and_no_other() {
    let (bad, good) = ("unreadable", "readable");
    let mut broker = Broker::start(BrokerOptions::with(EAGER));
    let bootstrap = broker.bootstrap();
    let mut models = [Model::default(), Model::default()];
    let deletes: Vec<_> = SMALL_SEGMENTS
        .iter()
        .map(|(name, value)| match *name {
            "cleanup.policy" => ("cleanup.policy", "delete"),
            _ => (*name, *value),
        })
        .collect();
    for (topic, model) in [bad, good].iter().zip(&mut models) {
        librdkafka::create_topic(&bootstrap, topic, 1, &deletes);
        for _ in 0..6 {
            model.put(&bootstrap, topic, "none", 0..500);
        }
    }
    let paths = files(&folder(&broker, bad), ".log");
    let Some((mut strace, calls)) = crate::faults::inject_eio(&broker, "pread64", &paths) else {
        println!("this machine does not permit ptrace, so no read could be made to fail");
        return;
    };
    for topic in [bad, good] {
        crate::strandline::block_on(async {
            let resource = strandline_client::ConfigResource::topic(topic);
            let changes = [("cleanup.policy", Some("compact"))];
            let admin = crate::strandline::admin(&bootstrap);
            let altered = admin.alter_configs(&resource, &changes).await;
            altered.expect("the topic's configs are altered");
        });
    }
    wait_until("one is set aside, one is cleaned", DEADLINE, || {
        let port = broker.http_port();
        let (runs, aside) = (metric(port, RUNS, &[]), metric(port, UNCLEANABLE, &[]));
        match runs > 0.0 && aside == 1.0 {
            true => Ok(()),
            false => Err(format!("{runs} runs, {aside} set aside")),
        }
    });
    assert!(
        std::fs::read_to_string(calls)
            .expect("strace has written")
            .contains("INJECTED")
    );
    let log = std::fs::read_to_string(broker.log()).expect("it can be read");
    assert!(
        log.lines()
            .any(|line| line.contains("set aside") && line.contains("unreadable-0")),
        "a line tells of it"
    );
    strace.kill();
    for (topic, model) in [bad, good].iter().zip(&models) {
        model.check(&bootstrap, topic);
    }
    broker.stop();
}
