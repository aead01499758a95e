//! A store that loses what it was given: found by the scrub, mended where there is a copy, reported and given up where not.

use std::path::{Path, PathBuf};

use strandline_client::OffsetSpec;
use strandline_tests::{
    Broker, BrokerOptions, Finished, Pattern, TestRecord, http_get, metric, now_ms, run_to_end,
    strandline_binary, wait_until, wait_until_tiered,
};

use crate::librdkafka::{self, DEADLINE};
use crate::strandline::list_offset;

fn records(count: usize, seed: u64) -> Vec<TestRecord> {
    let mut pattern = Pattern::new(seed);
    let first_ms = now_ms() - 3_600_000;
    (0..count)
        .map(|index| TestRecord {
            partition: 0,
            timestamp: first_ms + index as i64,
            key: None,
            value: Some(pattern.bytes(1000)),
            headers: Vec::new(),
        })
        .collect()
}

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        match entry.path().is_dir() {
            true => files(&entry.path(), found),
            false => found.push(entry.path()),
        }
    }
}

/// Objects of all topics, or roots, by name.
fn stored(store: &Path, what: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    files(store, &mut found);
    found.retain(|path| path.to_string_lossy().ends_with(what));
    found.sort_by_key(|path| path.file_name().map(ToOwned::to_owned));
    found
}

fn flip(path: &Path) {
    let mut bytes = std::fs::read(path).expect("readable");
    let middle = bytes.len() / 3;
    bytes[middle] ^= 0x10;
    std::fs::write(path, bytes).expect("writable");
}

fn tier(broker: &Broker, command: &[&str]) -> Finished {
    let mut all = std::process::Command::new(strandline_binary());
    let from = format!("--from={}", broker.data().join("remote-storage").display());
    all.arg("tier").args(command).arg(from);
    run_to_end(&mut all, DEADLINE)
}

fn create(bootstrap: &str, topic: &str, local_retention_ms: &str) {
    let configs = [
        ("remote.storage.enable", "true"),
        ("internal.segment.bytes", "131072"),
        ("local.retention.ms", local_retention_ms),
        ("retention.ms", "-1"),
        ("file.delete.delay.ms", "0"),
    ];
    librdkafka::create_topic(bootstrap, topic, 1, &configs);
}

fn check(bootstrap: &str, topic: &str, expected: &[(i64, &TestRecord)]) {
    let read = librdkafka::consume(bootstrap, topic, expected.len());
    for (read, (offset, record)) in read.iter().zip(expected) {
        assert_eq!(read.offset, *offset);
        assert!(read.record == **record, "offset {offset}");
    }
}

fn wait_for(broker: &Broker, name: &str, topic: &str, value: f64) {
    wait_until(name, DEADLINE, || {
        match metric(broker.http_port(), name, &[topic]) {
            found if found == value => Ok(()),
            found => Err(format!("{found}, {value} is due")),
        }
    });
}

#[test]
fn what_the_store_loses_is_mended_from_local_copies_or_given_up() {
    let mut broker = Broker::start(BrokerOptions::with(&[
        "log.retention.check.interval.ms=100",
        "remote.log.manager.task.interval.ms=100",
        "remote.log.manager.task.retry.backoff.max.ms=500",
        "remote.log.delete.delay.ms=0",
        "remote.log.scrub.interval.ms=300",
        "remote.log.scrub.requests.per.second=1000",
        "remote.log.scrub.bytes.per.second=100000000",
        "remote.fetch.patience.ms=1000",
    ]));
    let bootstrap = broker.bootstrap();
    let store = broker.data().join("remote-storage");

    // One flipped, one cut, one gone: the local log has them all.
    create(&bootstrap, "kept", "-2");
    let kept = records(1000, 1);
    librdkafka::produce(&bootstrap, "kept", "none", &kept);
    let objects = wait_until("it is uploaded", DEADLINE, || {
        let next = list_offset(&bootstrap, "kept", 0, OffsetSpec::EarliestPendingUpload);
        match stored(&store, ".strand") {
            objects if next.is_some_and(|n| n.offset > 850) => Ok(objects),
            objects => Err(format!("{} objects", objects.len())),
        }
    });
    assert!(objects.len() >= 6, "{objects:?}");
    flip(&objects[0]);
    let half = std::fs::metadata(&objects[2]).expect("is there").len() / 2;
    let cut = std::fs::OpenOptions::new().write(true).open(&objects[2]);
    cut.and_then(|file| file.set_len(half)).expect("is cut");
    std::fs::remove_file(&objects[4]).expect("was there");
    wait_for(
        &broker,
        "strandline_remote_healed_objects_total",
        "kept",
        3.0,
    );
    print!(
        "{}",
        tier(&broker, &["verify", "--deep"])
            .expect_success("verify")
            .stdout
    );

    // The root is lost, or damaged, with the broker running and without.
    let root = &stored(&store, "manifest/root")[0];
    std::fs::remove_file(root).expect("was there");
    let more = records(1000, 2);
    librdkafka::produce(&bootstrap, "kept", "none", &more);
    wait_until("the root is there again", DEADLINE, || {
        let next = list_offset(&bootstrap, "kept", 0, OffsetSpec::EarliestPendingUpload);
        match root.exists() && next.as_ref().is_some_and(|n| n.offset > 1850) {
            true => Ok(()),
            false => Err(format!("{next:?}")),
        }
    });
    broker.kill();
    flip(root);
    let report = tier(&broker, &["repair", "--dry-run"]).expect_success("repair");
    assert!(
        report.stdout.contains("would be made again"),
        "{}",
        report.stdout
    );
    let report = tier(&broker, &["repair"]).expect_success("repair");
    assert!(report.stdout.contains("made again"), "{}", report.stdout);
    broker.restart();
    let all: Vec<_> = (0..).zip(kept.iter().chain(&more)).collect();
    check(&bootstrap, "kept", &all);
    print!(
        "{}",
        tier(&broker, &["verify", "--deep"])
            .expect_success("verify")
            .stdout
    );

    // Nobody else has it: it is reported, stays reported, and is given up when somebody says so.
    let before = stored(&store, ".strand");
    create(&bootstrap, "gone", "1");
    let gone = records(1000, 3);
    librdkafka::produce(&bootstrap, "gone", "none", &gone);
    wait_until_tiered(&broker, "gone", 1);
    let mut objects = stored(&store, ".strand");
    objects.retain(|object| !before.contains(object));
    let start = |path: &PathBuf| -> i64 {
        let name = path.file_name().expect("a name").to_string_lossy();
        name[..20].parse().expect("an offset")
    };
    let (lost, behind) = (start(&objects[2]), start(&objects[3]));
    std::fs::remove_file(&objects[2]).expect("was there");
    wait_for(&broker, "strandline_remote_damaged_objects", "gone", 1.0);
    let (_, told) = http_get(broker.http_port(), "/tier").expect("/tier answers");
    assert!(told.contains("\"cause\""), "{told}");
    let verify = tier(&broker, &["verify"]);
    assert!(!verify.status.success(), "{}", verify.stdout);
    assert!(
        verify
            .stdout
            .contains(&format!("offsets {lost} to {behind}")),
        "{}",
        verify.stdout
    );
    let accept = ["repair", "--accept-loss", "--dry-run"];
    let dry = tier(&broker, &accept).expect_success("a dry run").stdout;
    assert!(dry.contains("would be given up"), "{dry}");
    let done = tier(&broker, &accept[..2]).expect_success("repair").stdout;
    assert!(done.contains("are given up"), "{done}");
    let expected: Vec<_> = (0..)
        .zip(&gone)
        .filter(|(offset, _)| *offset < lost || *offset >= behind)
        .collect();
    check(&bootstrap, "gone", &expected);
    tier(&broker, &["verify", "--deep"]).expect_success("verify");
    wait_for(&broker, "strandline_remote_damaged_objects", "gone", 0.0);
    println!("three objects and two roots were mended; offsets {lost} to {behind} were given up");
}
