//! The object store is away: what is hot serves on, history expires, a short disk stops producers of tiered topics with a
//! retriable error before it stops anybody else, and all heals by itself.

use std::sync::atomic::Ordering;
use std::time::Duration;

use rdkafka::producer::Producer;
use strandline_client::OffsetSpec;
use strandline_tests::{
    Broker, BrokerOptions, FaultProxy, Faults, Minio, Pattern, SmallDisk, TestRecord, http_get,
    local_segments, metric, now_ms, wait_until,
};

use crate::disk_full::{VALUE_BYTES, numbers, producer, send};
use crate::librdkafka;
use crate::strandline::list_offset;

const BUCKET: &str = "away";
const TOPIC: &str = "t";
const DEADLINE: Duration = Duration::from_secs(90);
const DISK_BYTES: u64 = 96 << 20;
const RESERVE_BYTES: u64 = 32 << 20;

const QUICK: &[&str] = &[
    "log.retention.check.interval.ms=100",
    "remote.log.manager.task.interval.ms=100",
    "remote.log.manager.task.retry.backoff.max.ms=500",
];

const TIERED: &[(&str, &str)] = &[
    ("remote.storage.enable", "true"),
    ("internal.segment.bytes", "1048576"),
    ("local.retention.ms", "1"),
    ("retention.ms", "-1"),
    ("file.delete.delay.ms", "0"),
];

fn options(minio: &Minio, more: &[String]) -> BrokerOptions {
    let mut options = BrokerOptions::with(QUICK);
    options.configs.extend(minio.configs(BUCKET));
    options.configs.extend_from_slice(more);
    options.environment = minio.environment();
    options
}

fn health(broker: &Broker) -> (u16, String) {
    http_get(broker.http_port(), "/healthz").expect("answers")
}

fn wait_for_health(broker: &Broker, what: &str, status: u16, text: &str) {
    wait_until(what, DEADLINE, || match health(broker) {
        (found, body) if found == status && body.contains(text) => Ok(()),
        (found, body) => Err(format!("{found} {body}")),
    });
}

#[test]
fn a_short_disk_refuses_tiered_topics_alone_and_heals_when_the_store_is_back() {
    let mut minio = Minio::start();
    minio.create_bucket(BUCKET);
    let disk = SmallDisk::new(DISK_BYTES);
    let elsewhere = tempfile::tempdir().expect("a temporary folder");
    let logs = disk.path("logs");
    let mut broker = Broker::start(options(
        &minio,
        &[
            format!("log.dirs={}", logs.display()),
            format!(
                "metadata.log.dir={}",
                elsewhere.path().join("meta").display()
            ),
            format!(
                "remote.log.cache.dir={}",
                elsewhere.path().join("cache").display()
            ),
            format!("remote.log.outage.disk.reserve.bytes={RESERVE_BYTES}"),
        ],
    ));
    let bootstrap = broker.bootstrap();
    librdkafka::create_topic(&bootstrap, TOPIC, 1, TIERED);
    librdkafka::create_topic(&bootstrap, "plain", 1, &[]);
    let (tiered, deliveries) = producer(&bootstrap, "300000");
    let mut sent = 0;
    for number in 0..100 {
        send(&tiered, TOPIC, 0, number);
        sent += 1;
    }
    tiered.flush(DEADLINE).expect("all are acknowledged");
    wait_until(
        "history has left the disk",
        DEADLINE,
        || match local_segments(&logs, TOPIC, 0)[..] {
            [active] if active > 0 => Ok(()),
            ref left => Err(format!("{} segments", left.len())),
        },
    );

    minio.kill();
    let total = 100 + (DISK_BYTES as usize / VALUE_BYTES);
    for number in sent..total {
        send(&tiered, TOPIC, 0, number);
    }
    let refused = || {
        metric(
            broker.http_port(),
            "strandline_remote_outage_refused_batches_total",
            &[],
        )
    };
    wait_until("producers are refused", DEADLINE, || match refused() {
        0.0 => Err("nothing is refused".to_owned()),
        _ => Ok(()),
    });
    wait_for_health(
        &broker,
        "the folder is named",
        503,
        "remote.log.outage.disk.reserve.bytes",
    );
    wait_for_health(
        &broker,
        "the partition is named",
        503,
        "the upload of t-0 is failing",
    );
    let free = metric(
        broker.http_port(),
        "strandline_log_dir_free_bytes",
        &[&logs.display().to_string()],
    );
    assert!(
        (RESERVE_BYTES as f64 / 4.0..RESERVE_BYTES as f64).contains(&free),
        "{free} bytes are free"
    );
    // Others go on, and so does what reads.
    let (plain, plain_deliveries) = producer(&bootstrap, "30000");
    for number in 0..50 {
        send(&plain, "plain", 0, number);
    }
    plain.flush(DEADLINE).expect("all are acknowledged");
    assert_eq!(plain_deliveries.delivered.load(Ordering::Relaxed), 50);
    assert_eq!(
        numbers(&bootstrap, "plain", 0, 50),
        (0..50).collect::<Vec<_>>()
    );

    // A crash in the midst of it.
    broker.kill();
    broker.restart();
    wait_for_health(
        &broker,
        "it refuses again",
        503,
        "remote.log.outage.disk.reserve.bytes",
    );
    let acknowledged = deliveries.delivered.load(Ordering::Relaxed);
    assert!(acknowledged < total, "{acknowledged} of {total}");

    minio.restart();
    tiered.flush(DEADLINE).expect("all are acknowledged");
    assert_eq!(deliveries.delivered.load(Ordering::Relaxed), total);
    assert_eq!(
        deliveries.failed.load(Ordering::Relaxed),
        0,
        "no error reached the client"
    );
    wait_for_health(&broker, "all is well", 200, "healthy");
    let read = numbers(&bootstrap, TOPIC, 0, total);
    assert_eq!(read, (0..total).collect::<Vec<_>>());
    println!(
        "a disk of {DISK_BYTES} bytes: {acknowledged} records of {VALUE_BYTES} bytes were taken while MinIO was away, then \
         producers were refused with {free} bytes free; when it was back all {total} were acknowledged and read"
    );
    broker.stop();
}

#[test]
fn history_expires_while_the_store_is_away_and_stays_expired() {
    let mut minio = Minio::start();
    minio.create_bucket(BUCKET);
    let mut broker = Broker::start(options(&minio, &[]));
    let bootstrap = broker.bootstrap();
    librdkafka::create_topic(
        &bootstrap,
        TOPIC,
        1,
        &[
            ("remote.storage.enable", "true"),
            ("internal.segment.bytes", "262144"),
            ("local.retention.ms", "3600000"),
            ("retention.ms", "3600000"),
            ("file.delete.delay.ms", "0"),
        ],
    );
    let mut pattern = Pattern::new(5);
    let mut records = |count: usize, age_ms: i64| -> Vec<TestRecord> {
        (0..count)
            .map(|_| TestRecord {
                partition: 0,
                timestamp: now_ms() - age_ms,
                key: None,
                value: Some(pattern.bytes(1_000)),
                headers: Vec::new(),
            })
            .collect()
    };
    minio.kill();
    // A day old: expired as soon as it is sealed.
    librdkafka::produce(&bootstrap, TOPIC, "none", &records(1_000, 86_400_000));
    let young = records(500, 0);
    librdkafka::produce(&bootstrap, TOPIC, "none", &young);
    let earliest = |bootstrap: &str| {
        list_offset(bootstrap, TOPIC, 0, OffsetSpec::Earliest).map_or(-1, |found| found.offset)
    };
    let start = wait_until("the old records are gone", DEADLINE, || {
        let start = earliest(&bootstrap);
        let local = local_segments(&broker.data(), TOPIC, 0)[0];
        // The segment that holds the last old record may hold young ones too.
        if start > 700 && local == start {
            Ok(start)
        } else {
            Err(format!("the log starts at {start}, its files at {local}"))
        }
    });
    assert!(start <= 1_000, "young records went: {start}");
    broker.kill();
    broker.restart();
    // Nothing comes back; what was just about to go may have gone.
    let after = earliest(&bootstrap);
    assert!((start..=1_000).contains(&after), "{start}, then {after}");
    minio.restart();
    wait_until("uploads go on behind the gap", DEADLINE, || {
        let tiered = list_offset(&bootstrap, TOPIC, 0, OffsetSpec::LatestTiered);
        match tiered.map(|found| found.offset) {
            Some(offset) if offset > 1_000 => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });
    let start = earliest(&bootstrap);
    assert!((after..=1_000).contains(&start), "{after}, then {start}");
    let read = librdkafka::consume(&bootstrap, TOPIC, (1_500 - start) as usize);
    let tail = &read[(1_000 - start) as usize..];
    assert!(
        tail.iter()
            .map(|read| &read.record.value)
            .eq(young.iter().map(|r| &r.value))
    );
    println!("the log start moved to {start} without the store, and stayed there over a crash");
}

#[test]
fn a_transfer_without_progress_is_given_up_and_tried_again() {
    let minio = Minio::start();
    minio.create_bucket(BUCKET);
    let proxy = FaultProxy::start(minio.port(), Faults::default());
    let mut options = options(
        &minio,
        &[
            format!("remote.storage.s3.endpoint={}", proxy.endpoint()),
            "remote.log.stall.ms=500".to_owned(),
        ],
    );
    options
        .configs
        .retain(|config| *config != format!("remote.storage.s3.endpoint={}", minio.endpoint()));
    let broker = Broker::start(options);
    let bootstrap = broker.bootstrap();
    librdkafka::create_topic(&bootstrap, TOPIC, 1, TIERED);
    let (sender, _) = producer(&bootstrap, "60000");
    for number in 0..60 {
        send(&sender, TOPIC, 0, number);
    }
    sender.flush(DEADLINE).expect("all are acknowledged");
    let tiered = || {
        list_offset(&bootstrap, TOPIC, 0, OffsetSpec::LatestTiered).map_or(-1, |found| found.offset)
    };
    wait_until("the first upload", DEADLINE, || match tiered() {
        -1 => Err("nothing is tiered".to_owned()),
        _ => Ok(()),
    });
    proxy.hang(true);
    let before = tiered();
    for number in 60..140 {
        send(&sender, TOPIC, 0, number);
    }
    sender.flush(DEADLINE).expect("hot data needs no store");
    wait_until("hanging transfers are given up", DEADLINE, || match metric(
        broker.http_port(),
        "strandline_remote_copy_errors_total",
        &[TOPIC],
    ) {
        errors if errors >= 1.0 && proxy.hung() >= 2 => Ok(()),
        errors => Err(format!("{errors} errors, {} requests hung", proxy.hung())),
    });
    wait_for_health(&broker, "it is told", 503, "the upload of t-0 is failing");
    proxy.hang(false);
    wait_until("uploads go on", DEADLINE, || match tiered() {
        offset if offset > before + 40 => Ok(()),
        offset => Err(format!("tiered up to {offset}")),
    });
    wait_for_health(&broker, "all is well", 200, "healthy");
    assert_eq!(
        numbers(&bootstrap, TOPIC, 0, 140),
        (0..140).collect::<Vec<_>>()
    );
}
