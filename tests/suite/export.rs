//! What `strandline export` writes, read with DuckDB and PyArrow and compared with what was produced.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use strandline_tests::{
    Broker, BrokerOptions, Minio, Pattern, ReadRecord, TestHeader, TestRecord, now_ms, python,
    run_to_end, strandline_binary, wait_until_tiered, workspace_root,
};

use crate::librdkafka;

const PARTITIONS: i32 = 2;
const DEADLINE: Duration = Duration::from_secs(120);
const READERS: [&str; 2] = ["duckdb", "pyarrow"];
const BUCKET: &str = "exported";

const TIERED: &[(&str, &str)] = &[
    ("remote.storage.enable", "true"),
    ("internal.segment.bytes", "65536"),
    ("local.retention.ms", "1"),
    ("retention.ms", "-1"),
    ("file.delete.delay.ms", "0"),
];

fn options(configs: &[String], environment: Vec<(String, String)>) -> BrokerOptions {
    let mut options = BrokerOptions::with(&[
        "log.retention.check.interval.ms=100",
        "remote.log.manager.task.interval.ms=100",
    ]);
    options.configs.extend_from_slice(configs);
    options.environment = environment;
    options
}

/// Per partition the end of what the store has, once it has all that is sealed and none of that is local.
fn tiered_ends(broker: &Broker, topic: &str) -> BTreeMap<i32, i64> {
    (0..PARTITIONS)
        .zip(wait_until_tiered(broker, topic, PARTITIONS))
        .collect()
}

/// Runs the export; its summary is JSON.
fn export(topic: &str, arguments: &[&str], environment: &[(String, String)]) -> Value {
    let mut command = Command::new(strandline_binary());
    command
        .args(["export", topic, "--output", "json"])
        .args(arguments)
        .envs(environment.iter().cloned());
    let finished = run_to_end(&mut command, DEADLINE).expect_success("strandline export");
    serde_json::from_str(&finished.stdout)
        .unwrap_or_else(|error| panic!("{error} in {}", finished.stdout))
}

/// Column types and rows of a table, by partition and offset.
fn read_table(reader: &str, table: &Path) -> (Value, Vec<Value>) {
    let mut command = python();
    command
        .arg(workspace_root().join("tests/tools/read_parquet.py"))
        .arg(reader)
        .arg(format!("{}/data/*/*.parquet", table.display()));
    let finished = run_to_end(&mut command, DEADLINE).expect_success(reader);
    let mut lines = finished.stdout.lines().map(|line| {
        serde_json::from_str::<Value>(line).unwrap_or_else(|error| panic!("{error} in {line}"))
    });
    let types = lines.next().expect("the types");
    let mut rows: Vec<Value> = lines.collect();
    rows.sort_by_key(|row| (row["partition"].as_i64(), row["offset"].as_i64()));
    (types, rows)
}

fn raw_records(first: usize, count: usize) -> Vec<TestRecord> {
    let mut pattern = Pattern::new(first as u64);
    let first_ms = now_ms() - 3_600_000;
    (first..first + count)
        .map(|index| TestRecord {
            partition: index as i32 % PARTITIONS,
            timestamp: first_ms + index as i64,
            key: (!index.is_multiple_of(5)).then(|| pattern.bytes(index % 20)),
            value: (!index.is_multiple_of(7)).then(|| pattern.bytes(index % 500)),
            headers: (0..index % 3)
                .map(|number| {
                    let value = (number == 0).then(|| pattern.bytes(number + 3));
                    TestHeader(format!("header-{number}"), value)
                })
                .collect(),
        })
        .collect()
}

/// What of the records is tiered, as rows.
fn expected(topic: &str, written: &[TestRecord], ends: &BTreeMap<i32, i64>) -> Vec<ReadRecord> {
    let mut rows = Vec::new();
    for (partition, end) in ends {
        let of_partition = written
            .iter()
            .filter(|record| record.partition == *partition);
        for (offset, record) in (0..*end).zip(of_partition) {
            rows.push(ReadRecord {
                topic: topic.to_owned(),
                offset,
                record: record.clone(),
            });
        }
    }
    rows
}

fn count(ends: &BTreeMap<i32, i64>) -> i64 {
    ends.values().sum()
}

#[test]
fn raw_records_are_exported_once_and_only_what_is_new_the_second_time() {
    let mut broker = Broker::start(options(&[], Vec::new()));
    let bootstrap = broker.bootstrap();
    librdkafka::create_topic(&bootstrap, "raw", PARTITIONS, TIERED);
    let mut written = raw_records(0, 4000);
    librdkafka::produce(&bootstrap, "raw", "gzip", &written);
    let first = tiered_ends(&broker, "raw");
    // The broker may be down.
    broker.stop();
    let store = broker.data().join("remote-storage");
    let target = broker.folder().join("parquet");
    let (store, to) = (store.display().to_string(), target.display().to_string());
    let arguments = ["--from", store.as_str(), "--to", to.as_str()];
    let summary = export("raw", &arguments, &[]);
    assert_eq!(summary["records"], count(&first), "{summary}");
    check_raw(&target.join("raw"), &expected("raw", &written, &first));
    // Nothing is new.
    let summary = export("raw", &arguments, &[]);
    assert_eq!(summary["records"], 0, "{summary}");

    broker.restart();
    let more = raw_records(4000, 3000);
    librdkafka::produce(&bootstrap, "raw", "lz4", &more);
    written.extend(more);
    let second = tiered_ends(&broker, "raw");
    let summary = export("raw", &arguments, &[]);
    assert_eq!(
        summary["records"],
        count(&second) - count(&first),
        "{summary}"
    );
    check_raw(&target.join("raw"), &expected("raw", &written, &second));
    println!(
        "raw: {} rows of the first export and {} of the second are what was produced",
        count(&first),
        count(&second) - count(&first)
    );
}

fn check_raw(table: &Path, expected: &[ReadRecord]) {
    for reader in READERS {
        let (types, rows) = read_table(reader, table);
        assert_eq!(rows.len(), expected.len(), "{reader}: {types}");
        for (row, expected) in rows.into_iter().zip(expected) {
            let read: ReadRecord = serde_json::from_value(row.clone())
                .unwrap_or_else(|error| panic!("{reader}: {error} in {row}"));
            assert!(
                read == *expected,
                "{reader}: {read:?}\nproduced: {expected:?}"
            );
        }
    }
}

/// A document, as it is written.
fn document(index: usize) -> Value {
    json!({
        "number": index,
        "name": format!("name {index}"),
        "ratio": index as f64 / 4.0,
        "even": index.is_multiple_of(2),
        "nested": {"a": [index]},
        "note": Pattern::new(index as u64).text(200),
    })
}

/// What does not fit, at these steps.
fn value(index: usize) -> (Vec<u8>, bool) {
    match index % 100 {
        13 => (b"{\"number\": broken".to_vec(), false),
        57 => (br#"{"number":"a text"}"#.to_vec(), false),
        _ => (document(index).to_string().into_bytes(), true),
    }
}

#[test]
fn json_values_become_typed_columns_and_what_does_not_fit_is_rejected() {
    let minio = Minio::start();
    minio.create_bucket(BUCKET);
    let broker = Broker::start(options(&minio.configs(BUCKET), minio.environment()));
    let bootstrap = broker.bootstrap();
    librdkafka::create_topic(&bootstrap, "documents", PARTITIONS, TIERED);
    let total = 4000;
    let written: Vec<TestRecord> = (0..total)
        .map(|index| TestRecord {
            partition: index as i32 % PARTITIONS,
            timestamp: now_ms(),
            key: Some(format!("key {index}").into_bytes()),
            value: Some(value(index).0),
            headers: Vec::new(),
        })
        .collect();
    librdkafka::produce(&bootstrap, "documents", "zstd", &written);
    let ends = tiered_ends(&broker, "documents");
    let (from, to) = (
        format!("s3://{BUCKET}/strandline"),
        format!("s3://{BUCKET}/tables"),
    );
    let endpoint = minio.endpoint();
    let override_ = format!("remote.storage.s3.endpoint={endpoint}");
    let arguments = [
        "--from",
        &from,
        "-o",
        &override_,
        "--to",
        &to,
        "--to-s3-endpoint",
        &endpoint,
        "--value-format",
        "json",
    ];
    let summary = export("documents", &arguments, &minio.environment());
    let target = broker.folder().join("downloaded");
    minio.boto3(&format!(
        "import os\n\
         for page in s3.get_paginator('list_objects_v2').paginate(Bucket='{BUCKET}', Prefix='tables/'):\n\
        \x20   for o in page.get('Contents', []):\n\
        \x20       path = '{}/' + o['Key']\n\
        \x20       os.makedirs(os.path.dirname(path), exist_ok=True)\n\
        \x20       s3.download_file('{BUCKET}', o['Key'], path)\n",
        target.display()
    ));
    let table = target.join("tables/documents");

    // Index, partition and offset of every tiered record.
    let tiered = (0..total).filter_map(|index| {
        let (partition, offset) = (
            index as i32 % PARTITIONS,
            (index / PARTITIONS as usize) as i64,
        );
        (offset < ends[&partition]).then_some((index, partition, offset))
    });
    let (good, bad): (Vec<_>, Vec<_>) = tiered.partition(|(index, ..)| value(*index).1);
    assert_eq!(summary["records"], good.len(), "{summary}");
    assert_eq!(summary["rejects"], bad.len(), "{summary}");
    for reader in READERS {
        let (types, rows) = read_table(reader, &table);
        check_types(reader, &types);
        assert_eq!(rows.len(), good.len(), "{reader}");
        let found: BTreeMap<(i64, i64), &Value> = rows
            .iter()
            .map(|row| {
                let number = |name: &str| row[name].as_i64().expect("a number");
                ((number("partition"), number("offset")), row)
            })
            .collect();
        for (index, partition, offset) in &good {
            let row = found[&(i64::from(*partition), *offset)];
            let document = document(*index);
            for column in ["number", "name", "ratio", "even", "note"] {
                assert_eq!(row[column], document[column], "{reader}: {row}");
            }
            assert_eq!(row["key"], format!("key {index}"), "{reader}: {row}");
            assert_eq!(row["topic"], "documents");
            let nested = row["nested"].as_str().expect("JSON as text");
            let nested: Value = serde_json::from_str(nested).expect("JSON");
            assert_eq!(nested, document["nested"], "{reader}: {row}");
        }
    }
    check_rejects(&table, &bad);
    println!(
        "json: {} rows with typed columns and {} rejects are what was produced",
        good.len(),
        bad.len()
    );
}

fn check_types(reader: &str, types: &Value) {
    let wanted = match reader {
        "duckdb" => [
            ("number", "BIGINT"),
            ("name", "VARCHAR"),
            ("ratio", "DOUBLE"),
            ("even", "BOOLEAN"),
        ],
        _ => [
            ("number", "int64"),
            ("name", "string"),
            ("ratio", "double"),
            ("even", "bool"),
        ],
    };
    for (column, kind) in wanted {
        assert_eq!(types[column], kind, "{reader}: {types}");
    }
}

/// Offset and cause of everything that did not fit.
fn check_rejects(table: &Path, bad: &[(usize, i32, i64)]) {
    let mut found = Vec::new();
    for partition in std::fs::read_dir(table.join("rejects")).expect("there are rejects") {
        let folder = partition.expect("it can be listed").path();
        for file in std::fs::read_dir(folder).expect("it can be listed") {
            let text = std::fs::read_to_string(file.expect("it can be listed").path())
                .expect("rejects are text");
            for line in text.lines() {
                let line: Value = serde_json::from_str(line).expect("a reject is JSON");
                assert!(
                    line["cause"]
                        .as_str()
                        .is_some_and(|cause| !cause.is_empty()),
                    "{line}"
                );
                found.push((line["partition"].as_i64(), line["offset"].as_i64()));
            }
        }
    }
    found.sort_unstable();
    let mut wanted: Vec<_> = bad
        .iter()
        .map(|(_, partition, offset)| (Some(i64::from(*partition)), Some(*offset)))
        .collect();
    wanted.sort_unstable();
    assert_eq!(found, wanted, "rejects");
}
