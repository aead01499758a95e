//! What an operator of the tier relies on: bounds on what the bucket lacks, what uploads cost, the rate limit, and the tools.

use std::process::Command;
use std::time::Duration;

use strandline_client::{ConfigResource, OffsetSpec};
use strandline_tests::{
    Broker, BrokerOptions, Finished, Minio, Pattern, ReadRecord, TestRecord, http_get,
    local_segments, metric, now_ms, run_to_end, strandline_binary, timed, wait_until,
    wait_until_tiered,
};

use crate::librdkafka;
use crate::strandline::{admin, block_on, list_offset};

const TOPIC: &str = "orders";
const BUCKET: &str = "operations";
const DEADLINE: Duration = Duration::from_secs(60);

const QUICK: &[&str] = &[
    "log.retention.check.interval.ms=100",
    "remote.log.manager.task.interval.ms=100",
    "remote.log.manager.task.retry.backoff.max.ms=500",
    "remote.cluster.state.interval.ms=200",
];

const TIERED: &[(&str, &str)] = &[
    ("remote.storage.enable", "true"),
    ("internal.segment.bytes", "262144"),
    ("local.retention.ms", "1"),
    ("retention.ms", "-1"),
    ("file.delete.delay.ms", "0"),
];

fn options(more: &[&str]) -> BrokerOptions {
    let mut options = BrokerOptions::with(QUICK);
    options.configs.extend(more.iter().map(|c| (*c).to_owned()));
    options
}

fn records(count: usize, value_bytes: usize, partitions: i32) -> Vec<TestRecord> {
    let mut pattern = Pattern::new(77);
    (0..count)
        .map(|index| TestRecord {
            partition: index as i32 % partitions,
            timestamp: now_ms(),
            key: Some(index.to_string().into_bytes()),
            value: Some(pattern.bytes(value_bytes)),
            headers: Vec::new(),
        })
        .collect()
}

fn compare(read: &[ReadRecord], written: &[TestRecord], partitions: i32) {
    assert_eq!(read.len(), written.len());
    for partition in 0..partitions {
        let read = read.iter().filter(|r| r.record.partition == partition);
        let written = written.iter().filter(|r| r.partition == partition);
        for (offset, (read, written)) in read.zip(written).enumerate() {
            assert_eq!(read.offset, offset as i64);
            assert!(read.record == *written, "{partition}, offset {offset}");
        }
    }
}

fn tool(arguments: &[&str], environment: &[(String, String)]) -> Finished {
    let mut command = Command::new(strandline_binary());
    command.args(arguments).envs(environment.iter().cloned());
    run_to_end(&mut command, DEADLINE)
}

/// Loses everything but the store, restores it from there and starts it.
fn lose_and_restore(broker: &mut Broker, store: &str) -> String {
    std::fs::remove_dir_all(broker.data()).expect("the data were there");
    let from = format!("--from={store}");
    let data = format!("--data={}", broker.data().display());
    let told = tool(&["restore", &from, &data], &[])
        .expect_success("restore")
        .stdout;
    broker.restart();
    told
}

#[test]
fn unsealed_tails_of_many_partitions_come_back_from_the_bucket() {
    const PARTITIONS: i32 = 20;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let store = folder.path().join("store").display().to_string();
    let url = format!("remote.storage.url={store}");
    let mut broker = Broker::start(options(&[&url, "remote.log.tail.upload.ms=1000"]));
    let bootstrap = broker.bootstrap();
    librdkafka::create_topic(&bootstrap, TOPIC, PARTITIONS, TIERED);
    // Partition 0 seals some of it; of the others nothing is ever sealed.
    let mut written = records(400, 1_000, PARTITIONS);
    written.extend(records(600, 1_000, 1));
    librdkafka::produce(&bootstrap, TOPIC, "none", &written[..400]);
    librdkafka::produce(&bootstrap, TOPIC, "none", &written[400..]);
    let unprotected = |broker: &Broker| {
        metric(
            broker.http_port(),
            "strandline_remote_unprotected_records",
            &["topic=\"orders\""],
        )
    };
    wait_until("the bucket has all of it", DEADLINE, || {
        match unprotected(&broker) {
            0.0 => Ok(()),
            left => Err(format!("{left} records are local only")),
        }
    });
    // Once more behind those tails, so that a chain of two comes back.
    let more = records(200, 1_000, PARTITIONS);
    librdkafka::produce(&bootstrap, TOPIC, "none", &more);
    assert!(
        unprotected(&broker) > 0.0,
        "it is a moment before they go up"
    );
    wait_until(
        "the bucket has the rest too",
        DEADLINE,
        || match unprotected(&broker) {
            0.0 => Ok(()),
            left => Err(format!("{left} records are local only")),
        },
    );
    written.extend(more);
    let put = |purpose: &str| {
        metric(
            broker.http_port(),
            "strandline_remote_store_requests_total",
            &["class=\"put\"", purpose],
        )
    };
    let (tails, segments) = (put("purpose=\"tail\""), put("purpose=\"upload\""));
    assert!(tails >= 2.0, "{tails} tail objects");
    broker.kill();
    let plan = tool(
        &[
            "restore",
            "--dry-run",
            &format!("--from={store}"),
            "--output=json",
        ],
        &[],
    );
    let plan = plan.expect_success("a drill").stdout;
    assert!(plan.contains("\"tails\""), "{plan}");
    let told = lose_and_restore(&mut broker, &store);
    assert!(told.contains("of unsealed segments: orders-7"), "{told}");
    let read = librdkafka::consume(&bootstrap, TOPIC, written.len());
    compare(&read, &written, PARTITIONS);
    // It is whole: it takes records behind them, and tiers them.
    librdkafka::produce(&bootstrap, TOPIC, "none", &records(600, 1_000, 1));
    wait_until("uploads go on", DEADLINE, || {
        match list_offset(&bootstrap, TOPIC, 0, OffsetSpec::LatestTiered) {
            Some(found) if found.offset > 900 => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });
    let verified = tool(
        &["tier", "verify", "--deep", &format!("--from={store}")],
        &[],
    );
    assert!(
        verified.stdout.contains("everything"),
        "{}",
        verified.stdout
    );
    println!(
        "{} records of {PARTITIONS} partitions came back, from {tails} tail objects and {segments} segments",
        written.len()
    );
}

#[test]
fn a_clean_stop_uploads_everything_when_it_is_asked_to() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let store = folder.path().join("store").display().to_string();
    let url = format!("remote.storage.url={store}");
    let mut broker = Broker::start(options(&[&url, "remote.log.upload.on.shutdown=true"]));
    let bootstrap = broker.bootstrap();
    librdkafka::create_topic(&bootstrap, TOPIC, 3, TIERED);
    let written = records(1_000, 700, 3);
    librdkafka::produce(&bootstrap, TOPIC, "lz4", &written);
    broker.stop();
    lose_and_restore(&mut broker, &store);
    compare(
        &librdkafka::consume(&bootstrap, TOPIC, written.len()),
        &written,
        3,
    );
    broker.stop();
    drop(broker);

    // With the store away it ends all the same, when its time is over.
    let mut broker = Broker::start(options(&[
        "remote.storage.url=s3://nowhere/x",
        "remote.storage.s3.endpoint=http://127.0.0.1:9",
        "remote.storage.s3.access.key.id=a",
        "remote.storage.s3.secret.access.key=b",
        "remote.log.upload.on.shutdown=true",
        "remote.log.upload.on.shutdown.timeout.ms=1500",
    ]));
    let bootstrap = broker.bootstrap();
    librdkafka::create_topic(&bootstrap, TOPIC, 3, TIERED);
    librdkafka::produce(&bootstrap, TOPIC, "none", &written);
    let ((), took) = timed(|| broker.stop());
    let said = std::fs::read_to_string(broker.log()).expect("it printed");
    assert!(said.contains("on local disk alone"), "{said}");
    println!(
        "without the store the stop took {:.1} s",
        took.as_secs_f64()
    );
    broker.restart();
    compare(
        &librdkafka::consume(&bootstrap, TOPIC, written.len()),
        &written,
        3,
    );
}

#[test]
fn an_old_topic_without_snapshot_files_can_be_tiered() {
    let mut broker = Broker::start(options(&[]));
    let bootstrap = broker.bootstrap();
    let plain = [("internal.segment.bytes", "262144")];
    librdkafka::create_topic(&bootstrap, TOPIC, 2, &plain);
    let written = records(3_000, 1_000, 2);
    librdkafka::produce(&bootstrap, TOPIC, "none", &written);
    broker.stop();
    let mut removed = 0;
    for partition in 0..2 {
        let folder = broker.data().join(format!("{TOPIC}-{partition}"));
        for entry in std::fs::read_dir(folder).expect("is there") {
            let path = entry.expect("an entry").path();
            if path.extension().is_some_and(|e| e == "snapshot") {
                std::fs::remove_file(&path).expect("removes");
                removed += 1;
            }
        }
    }
    assert!(removed > 2, "{removed} snapshots");
    broker.restart();
    block_on(async {
        let changes: Vec<_> = TIERED.iter().map(|(k, v)| (*k, Some(*v))).collect();
        let topic = ConfigResource::topic(TOPIC);
        let altered = admin(&bootstrap).alter_configs(&topic, &changes).await;
        altered.expect("the topic's configs are altered");
    });
    wait_until_tiered(&broker, TOPIC, 2);
    compare(
        &librdkafka::consume(&bootstrap, TOPIC, written.len()),
        &written,
        2,
    );
}

#[test]
fn uploads_keep_to_their_rate_also_within_one() {
    const RATE: usize = 2 << 20;
    let rate = format!("remote.log.manager.copy.max.bytes.per.second={RATE}");
    let broker = Broker::start(options(&[&rate]));
    let bootstrap = broker.bootstrap();
    let mut configs = TIERED.to_vec();
    // Beyond one part of a folder store.
    configs[1].1 = "12582912";
    librdkafka::create_topic(&bootstrap, TOPIC, 1, &configs);
    let ((), took) = timed(|| {
        librdkafka::produce(&bootstrap, TOPIC, "none", &records(13_500, 1_000, 1));
        wait_until_tiered(&broker, TOPIC, 1);
    });
    // One object of 12 MiB, and nothing before it.
    let sent = metric(
        broker.http_port(),
        "strandline_remote_copy_bytes_total",
        &[],
    );
    let least = sent / RATE as f64;
    println!(
        "{sent} bytes at {RATE} a second took {:.1} s",
        took.as_secs_f64()
    );
    assert!(sent > 11e6, "{sent}");
    assert!(
        took.as_secs_f64() > least - 1.0,
        "{took:?}, at least {least} s"
    );
}

#[test]
fn a_gib_costs_few_writes_and_the_tools_tell_what() {
    let long = std::env::var("TEST_STRANDLINE_LONG").is_ok_and(|value| value == "1");
    let segment_bytes: usize = if long { 1 << 30 } else { 64 << 20 };
    let minio = Minio::start();
    minio.create_bucket(BUCKET);
    let mut options = options(&[]);
    options.configs.extend(minio.configs(BUCKET));
    options.configs.extend([
        "remote.storage.s3.storage.class=REDUCED_REDUNDANCY".to_owned(),
        "remote.storage.s3.tags=team=logs,tier=cold".to_owned(),
    ]);
    options.environment = minio.environment();
    let broker = Broker::start(options);
    let bootstrap = broker.bootstrap();
    let segment = segment_bytes.to_string();
    let mut configs = TIERED.to_vec();
    configs[1] = ("segment.bytes", &segment);
    librdkafka::create_topic(&bootstrap, TOPIC, 1, &configs);
    let segments = 2;
    let batch = records(4_000, 10_000, 1);
    let count = segments * segment_bytes / (batch.len() * 10_000) + 2;
    for _ in 0..count {
        librdkafka::produce(&bootstrap, TOPIC, "none", &batch);
    }
    wait_until(
        "the sealed segments are uploaded",
        4 * DEADLINE,
        || match local_segments(&broker.data(), TOPIC, 0)[..] {
            [active] if active > 0 => Ok(()),
            ref left => Err(format!("{} segments", left.len())),
        },
    );
    let counted = |class: &str, more: &str| {
        let class = format!("class=\"{class}\"");
        metric(
            broker.http_port(),
            "strandline_remote_store_requests_total",
            &[&class, more],
        )
    };
    // All that is billed as a write, also what happens once: the probe, the topic's marker, the manifest's first root.
    let of_topic = counted("put", "topic=\"orders\"") + counted("part", "") + counted("list", "");
    let all = counted("put", "") + counted("part", "") + counted("list", "");
    let uploads = counted("put", "purpose=\"upload\"");
    let sizes = minio.boto3(&format!(
        "pages = s3.get_paginator('list_objects_v2').paginate(Bucket='{BUCKET}')\n\
         segments = [o for p in pages for o in p.get('Contents', []) if o['Key'].endswith('.strand')]\n\
         print(len(segments), max(o['Size'] for o in segments), segments[0]['Key'])\n\
         print(len(s3.list_multipart_uploads(Bucket='{BUCKET}').get('Uploads', [])), 'multipart uploads left')\n\
         print(s3.head_object(Bucket='{BUCKET}', Key=segments[0]['Key']).get('StorageClass'), s3.get_object_tagging(Bucket='{BUCKET}', Key=segments[0]['Key'])['TagSet'])"
    ));
    for wanted in [
        "0 multipart uploads left",
        "REDUCED_REDUNDANCY",
        "'Value': 'cold'",
    ] {
        assert!(sizes.contains(wanted), "{sizes}");
    }
    let first = sizes.lines().next().unwrap_or_default();
    let objects: f64 = first
        .split(' ')
        .next()
        .and_then(|n| n.parse().ok())
        .unwrap_or(0.0);
    println!(
        "{objects} segments of {segment_bytes} bytes: {of_topic} writes for the topic ({uploads} uploads), {all} in all"
    );
    assert!(objects > 1.0, "{sizes}");
    assert_eq!(uploads, objects, "one request for each segment");
    // With segments of 1 GiB these are writes per GiB.
    assert!(
        of_topic / objects <= 12.0,
        "{of_topic} writes for {objects} segments"
    );
    let key = sizes.lines().next().and_then(|line| line.split(' ').nth(2));
    let key = key.unwrap_or_else(|| panic!("{sizes}"));

    let from = format!("--from=s3://{BUCKET}/strandline");
    let endpoint = format!("-oremote.storage.s3.endpoint={}", minio.endpoint());
    let environment = minio.environment();
    // Without a region nothing is asked for one, and nothing is said.
    let keys: Vec<_> = environment
        .iter()
        .filter(|(name, _)| name != "AWS_REGION")
        .cloned()
        .collect();
    let quiet = tool(&["tier", "status", &from, &endpoint], &keys);
    assert_eq!(quiet.stderr, "");
    let http = format!(
        "--http={}",
        format_args!("127.0.0.1:{}", broker.http_port())
    );
    let status = tool(
        &[
            "tier",
            "status",
            &from,
            &endpoint,
            &http,
            "--prices=storage=1,write=1000",
        ],
        &environment,
    );
    let status = status.expect_success("status").stdout;
    assert!(
        status.contains("a month of storage costs") && status.contains("in all"),
        "{status}"
    );
    print!("{status}");
    let url = format!("s3://{BUCKET}/{key}");
    let inspected = tool(&["tier", "inspect", &url, &endpoint], &environment);
    let inspected = inspected.expect_success("inspect").stdout;
    assert!(
        inspected.contains("kind: segment object") && inspected.contains("start: 0"),
        "{inspected}"
    );
    let root = format!(
        "{}/manifest/root",
        url.rsplit_once("/segment/").expect("a segment").0
    );
    let inspected = tool(&["tier", "inspect", &root, &endpoint], &environment);
    let inspected = inspected.expect_success("inspect").stdout;
    assert!(inspected.contains("kind: manifest root"), "{inspected}");

    let doctor = || tool(&["tier", "doctor", &from, &endpoint], &environment);
    let healthy = doctor().expect_success("doctor").stdout;
    assert!(
        healthy.contains("expiry and archive rules") && healthy.contains("s3:PutObject"),
        "{healthy}"
    );
    minio.boto3(&format!(
        "s3.put_bucket_lifecycle_configuration(Bucket='{BUCKET}', LifecycleConfiguration={{'Rules': [\
         {{'ID': 'tidy', 'Status': 'Enabled', 'Filter': {{'Prefix': ''}}, 'Expiration': {{'Days': 30}}}}]}})"
    ));
    let told = doctor();
    assert!(!told.status.success(), "{}", told.stdout);
    assert!(
        told.stdout.contains("tidy expires objects"),
        "{}",
        told.stdout
    );
}

#[test]
fn a_machine_without_a_metadata_service_is_told_so_at_once_and_without_warnings() {
    let home = tempfile::tempdir().expect("a temporary folder");
    let mut command = Command::new(strandline_binary());
    command
        .args(["tier", "status", "--from=s3://some-bucket/x"])
        .env_clear()
        .env("HOME", home.path());
    let (finished, took) = timed(|| run_to_end(&mut command, DEADLINE));
    assert!(!finished.status.success());
    assert!(
        finished.stderr.contains("no AWS credentials"),
        "{}",
        finished.stderr
    );
    // Some machines have something that answers in its place; what it says is a part of the error, once.
    for noise in ["provider failed", "region"] {
        assert!(!finished.stderr.contains(noise), "{}", finished.stderr);
    }
    println!("{:.1} s: {}", took.as_secs_f64(), finished.stderr.trim());
    assert!(took < Duration::from_secs(10), "{took:?}");
}

#[test]
fn health_names_what_is_overdue() {
    let broker = Broker::start(options(&[
        "remote.storage.url=s3://nowhere/x",
        "remote.storage.s3.endpoint=http://127.0.0.1:9",
        "remote.storage.s3.access.key.id=a",
        "remote.storage.s3.secret.access.key=b",
    ]));
    let bootstrap = broker.bootstrap();
    librdkafka::create_topic(&bootstrap, TOPIC, 1, TIERED);
    librdkafka::produce(&bootstrap, TOPIC, "none", &records(1_000, 1_000, 1));
    wait_until("it is named", DEADLINE, || {
        let (status, body) = http_get(broker.http_port(), "/healthz")?;
        match status == 503 && body.contains("the upload of orders-0 is failing") {
            true => Ok(()),
            false => Err(body),
        }
    });
    for (name, least) in [
        ("strandline_remote_copy_lag_segments", 1.0),
        ("strandline_remote_copy_lag_bytes", 200_000.0),
        ("strandline_remote_unprotected_records", 1_000.0),
        ("strandline_remote_unprotected_bytes", 1_000_000.0),
    ] {
        wait_until(name, DEADLINE, || {
            match metric(broker.http_port(), name, &["topic=\"orders\""]) {
                value if value >= least => Ok(()),
                value => Err(format!("{value}")),
            }
        });
    }
    let seconds = |name: &str| metric(broker.http_port(), name, &["topic=\"orders\""]);
    wait_until("time passes", DEADLINE, || {
        let lag = seconds("strandline_remote_copy_lag_seconds");
        let unprotected = seconds("strandline_remote_unprotected_seconds");
        match lag > 0.5 && unprotected >= lag {
            true => Ok(()),
            false => Err(format!("lag {lag} s, unprotected {unprotected} s")),
        }
    });
}
