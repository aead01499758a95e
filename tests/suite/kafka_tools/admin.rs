//! Kafka's admin tools, as an operator of Kafka would use them.

use rdkafka::consumer::{CommitMode, Consumer};
use rdkafka::{Offset, TopicPartitionList};
use strandline_tests::{Broker, BrokerOptions, TestRecord, kafka_tool, now_ms, wait_until};

use crate::librdkafka;

const PARTITIONS: i32 = 3;
const RECORDS: usize = 300;

/// Runs a tool against the broker.
fn tool(class: &str, bootstrap: &str, arguments: &str) -> String {
    let mut words = vec!["--bootstrap-server", bootstrap];
    words.extend(arguments.split_whitespace());
    kafka_tool(class, &words)
        .expect_success(&format!("{class} {arguments}"))
        .stdout
}

fn topics(bootstrap: &str, arguments: &str) -> String {
    tool("org.apache.kafka.tools.TopicCommand", bootstrap, arguments)
}

fn configs(bootstrap: &str, arguments: &str) -> String {
    tool("kafka.admin.ConfigCommand", bootstrap, arguments)
}

fn groups(bootstrap: &str, arguments: &str) -> String {
    let class = "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand";
    tool(class, bootstrap, arguments)
}

fn records() -> Vec<TestRecord> {
    let first_ms = now_ms() - 3_600_000;
    (0..RECORDS)
        .map(|index| TestRecord {
            partition: index as i32 % PARTITIONS,
            timestamp: first_ms + index as i64 * 1000,
            key: Some(index.to_string().into_bytes()),
            value: Some(b"value".to_vec()),
            headers: Vec::new(),
        })
        .collect()
}

#[test]
fn topics_and_their_configs() {
    let broker = Broker::start(BrokerOptions::default());
    let bootstrap = &broker.bootstrap();
    topics(
        bootstrap,
        "--create --topic made --partitions 2 --replication-factor 1 --config retention.ms=86400000",
    );
    let listed = topics(bootstrap, "--list");
    assert!(listed.lines().any(|line| line == "made"), "{listed}");
    let described = topics(bootstrap, "--describe --topic made");
    for wanted in [
        "PartitionCount: 2",
        "ReplicationFactor: 1",
        "retention.ms=86400000",
        "Isr: 1",
    ] {
        assert!(described.contains(wanted), "{wanted} is not in {described}");
    }
    topics(bootstrap, "--alter --topic made --partitions 5");
    let described = topics(bootstrap, "--describe --topic made");
    assert!(described.contains("PartitionCount: 5"), "{described}");

    configs(
        bootstrap,
        "--alter --entity-type topics --entity-name made --add-config max.message.bytes=2000000,segment.bytes=2097152",
    );
    configs(
        bootstrap,
        "--alter --entity-type topics --entity-name made --delete-config retention.ms",
    );
    let described = configs(
        bootstrap,
        "--describe --entity-type topics --entity-name made",
    );
    assert!(
        described.contains("max.message.bytes=2000000"),
        "{described}"
    );
    assert!(described.contains("segment.bytes=2097152"), "{described}");
    assert!(!described.contains("retention.ms=86400000"), "{described}");
    let described = configs(
        bootstrap,
        "--describe --all --entity-type topics --entity-name made",
    );
    assert!(
        described.contains("remote.storage.enable=false"),
        "{described}"
    );
    let described = configs(
        bootstrap,
        "--describe --all --entity-type brokers --entity-name 1",
    );
    assert!(described.contains("log.segment.bytes="), "{described}");

    // What is wrong is refused with words.
    let refused = kafka_tool(
        "org.apache.kafka.tools.TopicCommand",
        &[
            "--bootstrap-server",
            bootstrap,
            "--create",
            "--topic",
            "made",
        ],
    );
    assert_ne!(refused.status, 0);
    let said = format!("{}{}", refused.stdout, refused.stderr);
    assert!(said.contains("already exists"), "{said}");
    topics(bootstrap, "--delete --topic made");
    let listed = topics(bootstrap, "--list");
    assert!(!listed.lines().any(|line| line == "made"), "{listed}");

    let apis = tool(
        "org.apache.kafka.tools.BrokerApiVersionsCommand",
        bootstrap,
        "",
    );
    assert!(apis.contains("Produce(0): 0 to 13"), "{apis}");
}

#[test]
fn offsets_records_and_folders() {
    let broker = Broker::start(BrokerOptions::default());
    let bootstrap = &broker.bootstrap();
    librdkafka::create_topic(bootstrap, "offsets", PARTITIONS, &[]);
    let written = records();
    librdkafka::produce(bootstrap, "offsets", "gzip", &written);

    let per_partition = RECORDS as i64 / i64::from(PARTITIONS);
    let offsets = |time: &str| {
        let arguments = format!("--topic offsets --time {time}");
        let mut lines: Vec<String> = tool(
            "org.apache.kafka.tools.GetOffsetShell",
            bootstrap,
            &arguments,
        )
        .lines()
        .map(str::to_owned)
        .collect();
        lines.sort();
        lines
    };
    let everywhere = |offset: i64| -> Vec<String> {
        (0..PARTITIONS)
            .map(|partition| format!("offsets:{partition}:{offset}"))
            .collect()
    };
    for (time, offset) in [
        ("-1", per_partition),
        ("latest", per_partition),
        ("-2", 0),
        ("earliest", 0),
        ("-3", per_partition - 1),
        ("max-timestamp", per_partition - 1),
        ("-4", 0),
        ("earliest-local", 0),
    ] {
        assert_eq!(offsets(time), everywhere(offset), "--time {time}");
    }
    // Nothing is tiered: the tool leaves out, or shows without a number, what has no such offset.
    for time in ["-5", "latest-tiered"] {
        let shown = offsets(time);
        let none = everywhere(-1);
        assert!(
            shown.is_empty() || shown == none,
            "--time {time}: {shown:?}"
        );
    }
    let middle = written[150].timestamp.to_string();
    assert_eq!(offsets(&middle), everywhere(50));

    // Records are deleted from the front.
    let json = broker.folder().join("delete.json");
    std::fs::write(
        &json,
        r#"{"version":1,"partitions":[{"topic":"offsets","partition":0,"offset":40},{"topic":"offsets","partition":1,"offset":-1}]}"#,
    )
    .expect("a file can be written");
    let deleted = tool(
        "org.apache.kafka.tools.DeleteRecordsCommand",
        bootstrap,
        &format!("--offset-json-file {}", json.display()),
    );
    assert!(deleted.contains("low_watermark: 40"), "{deleted}");
    assert_eq!(
        offsets("-2"),
        [
            "offsets:0:40",
            &format!("offsets:1:{per_partition}"),
            "offsets:2:0"
        ]
    );

    let folders = tool(
        "org.apache.kafka.tools.LogDirsCommand",
        bootstrap,
        "--describe --topic-list offsets",
    );
    let json = folders
        .lines()
        .find(|line| line.starts_with('{'))
        .unwrap_or_else(|| panic!("no JSON in {folders}"));
    let json: serde_json::Value = serde_json::from_str(json).expect("JSON");
    let folder = &json["brokers"][0]["logDirs"][0];
    assert_eq!(
        folder["partitions"].as_array().map(Vec::len),
        Some(PARTITIONS as usize)
    );
    assert_eq!(folder["error"], serde_json::Value::Null, "{json}");
    let size = folder["partitions"][0]["size"].as_i64().expect("a size");
    assert!(size > 0, "{json}");
}

#[test]
fn groups_are_listed_described_reset_and_deleted() {
    let broker = Broker::start(BrokerOptions::with(&["group.initial.rebalance.delay.ms=0"]));
    let bootstrap = &broker.bootstrap();
    librdkafka::create_topic(bootstrap, "grouped", PARTITIONS, &[]);
    librdkafka::produce(bootstrap, "grouped", "none", &records());
    let consumer: rdkafka::consumer::BaseConsumer = librdkafka::config(bootstrap)
        .set("group.id", "members")
        .set("client.id", "a-member")
        .set("auto.offset.reset", "earliest")
        .set("enable.auto.commit", "false")
        .create()
        .expect("a consumer");
    consumer.subscribe(&["grouped"]).expect("a subscription");
    let mut count = 0;
    librdkafka::poll_until(&consumer, "all records", |_| {
        count += 1;
        count == RECORDS
    });
    let mut list = TopicPartitionList::new();
    for partition in 0..PARTITIONS {
        list.add_partition_offset("grouped", partition, Offset::Offset(60))
            .expect("an offset");
    }
    consumer.commit(&list, CommitMode::Sync).expect("a commit");

    let listed = groups(bootstrap, "--list");
    assert!(listed.lines().any(|line| line == "members"), "{listed}");
    let state = groups(bootstrap, "--describe --group members --state");
    assert!(state.contains("Stable"), "{state}");
    let members = groups(bootstrap, "--describe --group members --members --verbose");
    assert!(members.contains("a-member"), "{members}");
    let described = groups(bootstrap, "--describe --group members");
    let rows: Vec<Vec<&str>> = described
        .lines()
        .filter(|line| line.starts_with("members"))
        .map(|line| line.split_whitespace().collect())
        .collect();
    assert_eq!(rows.len(), PARTITIONS as usize, "{described}");
    for row in rows {
        // Group, topic, partition, committed, end, lag.
        assert_eq!(&row[3..6], ["60", "100", "40"], "{described}");
    }
    drop(consumer);
    wait_until("the group is empty", librdkafka::DEADLINE, || {
        let state = groups(bootstrap, "--describe --group members --state");
        state.contains("Empty").then_some(()).ok_or(state)
    });
    let reset = groups(
        bootstrap,
        "--reset-offsets --group members --topic grouped --to-earliest --execute",
    );
    assert!(reset.contains("members"), "{reset}");
    let described = groups(bootstrap, "--describe --group members --offsets");
    let lag: Vec<&str> = described
        .lines()
        .filter(|line| line.starts_with("members"))
        .filter_map(|line| line.split_whitespace().nth(5))
        .collect();
    assert_eq!(lag, ["100"; PARTITIONS as usize], "{described}");
    groups(
        bootstrap,
        "--delete-offsets --group members --topic grouped:1",
    );
    let described = groups(bootstrap, "--describe --group members --offsets");
    assert_eq!(
        described
            .lines()
            .filter(|line| line.starts_with("members"))
            .count(),
        PARTITIONS as usize - 1,
        "{described}"
    );
    groups(bootstrap, "--delete --group members");
    let listed = groups(bootstrap, "--list");
    assert!(!listed.lines().any(|line| line == "members"), "{listed}");
}
