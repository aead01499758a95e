//! Tiering switched off and on per topic (KIP-950): what is kept, what is a gap, what is deleted, and how consumers go on.

use std::path::Path;

use strandline_client::{ConfigResource, OffsetSpec};
use strandline_tests::{
    Broker, BrokerOptions, Pattern, TestRecord, local_segments, now_ms, run_to_end,
    strandline_binary, wait_until, wait_until_tiered,
};

use crate::librdkafka::{self, DEADLINE};
use crate::strandline::{admin, block_on, list_offset};

const TOPIC: &str = "switched";
const HOUR_MS: i64 = 3_600_000;

fn records(count: usize, age_ms: i64, seed: u64) -> Vec<TestRecord> {
    let mut pattern = Pattern::new(seed);
    let first_ms = now_ms() - age_ms;
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

fn alter(bootstrap: &str, changes: &[(&str, Option<&str>)]) -> Result<(), String> {
    let topic = ConfigResource::topic(TOPIC);
    block_on(async { admin(bootstrap).alter_configs(&topic, changes).await })
        .map_err(|error| error.to_string())
}

fn offset(bootstrap: &str, spec: OffsetSpec) -> i64 {
    list_offset(bootstrap, TOPIC, 0, spec).map_or(-1, |listed| listed.offset)
}

/// Seals what is open, and waits until it is in the store and nowhere else.
fn tier_all(broker: &Broker) -> i64 {
    let bootstrap = broker.bootstrap();
    alter(&bootstrap, &[("segment.ms", Some("1"))]).expect("altered");
    let end = offset(&bootstrap, OffsetSpec::Latest);
    wait_until("everything is only remote", DEADLINE, || {
        match offset(&bootstrap, OffsetSpec::EarliestLocal) {
            local if local == end => Ok(()),
            local => Err(format!("the local log starts at {local}, {end} is due")),
        }
    });
    alter(&bootstrap, &[("segment.ms", None)]).expect("altered");
    end
}

/// Reads all and compares it, offsets too.
fn check(bootstrap: &str, expected: &[(i64, &TestRecord)]) {
    let read = librdkafka::consume(bootstrap, TOPIC, expected.len());
    for (read, (offset, record)) in read.iter().zip(expected) {
        assert_eq!(read.offset, *offset);
        assert!(read.record == **record, "offset {offset}");
    }
    assert_eq!(read.len(), expected.len());
}

fn numbered(from: i64, records: &[TestRecord]) -> impl Iterator<Item = (i64, &TestRecord)> {
    (from..).zip(records)
}

fn objects(folder: &Path) -> usize {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return 0;
    };
    entries
        .flatten()
        .map(|entry| match entry.path().is_dir() {
            true => objects(&entry.path()),
            false => usize::from(entry.path().extension().is_some_and(|e| e == "strand")),
        })
        .sum()
}

#[test]
fn tiering_is_switched_off_and_on_and_consumers_go_on() {
    let mut options = BrokerOptions::with(&[
        "log.retention.check.interval.ms=100",
        "remote.log.manager.task.interval.ms=100",
        "remote.log.manager.task.retry.backoff.max.ms=500",
        "remote.log.delete.delay.ms=0",
    ]);
    options.configs.push("log.roll.jitter.ms=0".to_owned());
    let mut broker = Broker::start(options);
    let bootstrap = broker.bootstrap();
    let store = broker.data().join("remote-storage");
    librdkafka::create_topic(
        &bootstrap,
        TOPIC,
        1,
        &[
            ("remote.storage.enable", "true"),
            ("internal.segment.bytes", "131072"),
            ("local.retention.ms", "1"),
            ("retention.ms", "-1"),
            ("file.delete.delay.ms", "0"),
        ],
    );
    let first = records(1000, 24 * HOUR_MS, 1);
    librdkafka::produce(&bootstrap, TOPIC, "none", &first);
    let end = tier_all(&broker);
    assert_eq!(end, 1000);

    // Off: what comes now is older than the topic keeps, and is never uploaded.
    let refused = alter(&bootstrap, &[("remote.log.copy.disable", Some("true"))]);
    assert!(refused.is_err_and(|why| why.contains("identical value")));
    let off = [
        ("remote.log.copy.disable", Some("true")),
        ("local.retention.ms", Some("-2")),
        ("retention.ms", Some("259200000")),
    ];
    alter(&bootstrap, &off).expect("copying is switched off");
    let before = objects(&store);
    let old = records(1000, 120 * HOUR_MS, 2);
    librdkafka::produce(&bootstrap, TOPIC, "none", &old);
    let behind = wait_until(
        "what was not copied expires",
        DEADLINE,
        || match &local_segments(&broker.data(), TOPIC, 0)[..] {
            [active] if *active > end => Ok(*active),
            left => Err(format!("{left:?}")),
        },
    );
    assert_eq!(objects(&store), before, "nothing was uploaded");
    assert_eq!(offset(&bootstrap, OffsetSpec::Earliest), 0);
    assert_eq!(offset(&bootstrap, OffsetSpec::EarliestLocal), behind);
    assert_eq!(offset(&bootstrap, OffsetSpec::LatestTiered), end - 1);
    assert_eq!(
        offset(&bootstrap, OffsetSpec::EarliestPendingUpload),
        behind
    );
    let kept = &old[(behind - end) as usize..];
    let expected: Vec<_> = numbered(0, &first).chain(numbered(behind, kept)).collect();
    check(&bootstrap, &expected);

    // On again: the gap is on record, with data on both sides of it in the store.
    let on = [
        ("remote.log.copy.disable", Some("false")),
        ("retention.ms", Some("-1")),
        ("local.retention.ms", Some("1")),
    ];
    alter(&bootstrap, &on).expect("copying is switched on");
    let later = records(1000, HOUR_MS, 3);
    librdkafka::produce(&bootstrap, TOPIC, "none", &later);
    tier_all(&broker);
    let expected: Vec<_> = expected
        .into_iter()
        .chain(numbered(end + 1000, &later))
        .collect();
    check(&bootstrap, &expected);
    let from = format!("--from={}", store.display());
    let tier = |command: &[&str]| {
        let mut all = std::process::Command::new(strandline_binary());
        all.arg("tier").args(command).arg(&from);
        run_to_end(&mut all, DEADLINE).expect_success("tier").stdout
    };
    let status = tier(&["status", "--output=json"]);
    assert!(status.contains("tiering was off"), "{status}");
    print!("{}", tier(&["verify", "--deep"]));
    // By time: the first record, by offset, that is as late.
    for (_, record) in expected.iter().step_by(300) {
        let found = librdkafka::offsets_for_time(&bootstrap, TOPIC, record.timestamp)[&0];
        let due = expected
            .iter()
            .find(|(_, other)| other.timestamp >= record.timestamp)
            .map_or(-1, |(offset, _)| *offset);
        assert_eq!(found, due);
    }
    broker.kill();
    broker.restart();
    check(&bootstrap, &expected);

    // Off for good: what is only remote is deleted, the topic lives.
    let more = records(300, 0, 4);
    librdkafka::produce(&bootstrap, TOPIC, "none", &more);
    let gone = [
        ("remote.storage.enable", Some("false")),
        ("remote.log.delete.on.disable", Some("true")),
    ];
    let local = wait_until_tiered(&broker, TOPIC, 1)[0];
    alter(&bootstrap, &gone).expect("tiering is switched off");
    assert_eq!(offset(&bootstrap, OffsetSpec::Earliest), local);
    wait_until("the objects are removed", DEADLINE, || {
        match objects(&store) {
            0 => Ok(()),
            left => Err(format!("{left} objects are left")),
        }
    });
    let all: Vec<_> = expected
        .into_iter()
        .chain(numbered(end + 2000, &more))
        .collect();
    let kept: Vec<_> = all.iter().copied().filter(|(o, _)| *o >= local).collect();
    check(&bootstrap, &kept);
    // And on again, in the same manifest.
    let again = [
        ("remote.storage.enable", Some("true")),
        ("remote.log.delete.on.disable", None),
    ];
    alter(&bootstrap, &again).expect("tiering is switched on");
    let last = records(500, 0, 5);
    librdkafka::produce(&bootstrap, TOPIC, "none", &last);
    tier_all(&broker);
    let kept: Vec<_> = kept
        .into_iter()
        .chain(numbered(end + 2300, &last))
        .collect();
    check(&bootstrap, &kept);
    broker.stop();
    broker.restart();
    check(&bootstrap, &kept);
    print!("{}", tier(&["verify", "--deep"]));
    println!(
        "offsets {end} to {behind} are a gap; after the tier was deleted the log started at {local} and was tiered again"
    );
}

#[test]
fn a_deleted_topic_comes_back_while_its_objects_are_there() {
    let mut broker = Broker::start(BrokerOptions::with(&[
        "log.retention.check.interval.ms=100",
        "remote.log.manager.task.interval.ms=100",
        "remote.cluster.state.interval.ms=200",
        "remote.log.delete.delay.ms=3600000",
    ]));
    let bootstrap = broker.bootstrap();
    let store = broker.data().join("remote-storage");
    let configs = [
        ("remote.storage.enable", "true"),
        ("internal.segment.bytes", "131072"),
        ("local.retention.ms", "1"),
        ("retention.ms", "-1"),
        ("file.delete.delay.ms", "0"),
    ];
    librdkafka::create_topic(&bootstrap, TOPIC, 1, &configs);
    let written = records(1000, HOUR_MS, 9);
    librdkafka::produce(&bootstrap, TOPIC, "none", &written);
    let end = tier_all(&broker);
    let before = objects(&store);
    block_on(async { admin(&bootstrap).delete_topic(TOPIC).await }).expect("deleted");
    let from = format!("--from={}", store.display());
    let undelete = |more: &[&str]| {
        let mut all = std::process::Command::new(strandline_binary());
        all.args(["tier", "undelete", TOPIC, &from]).args(more);
        run_to_end(&mut all, DEADLINE)
    };
    let dry = wait_until("the bucket knows of the deletion", DEADLINE, || {
        let dry = undelete(&["--dry-run"]);
        match dry.status.success() {
            true => Ok(dry.stdout),
            false => Err(dry.stderr),
        }
    });
    assert!(
        dry.contains(&format!(
            "would come back:\npartition 0: offsets 0 to {end}"
        )),
        "{dry}"
    );
    print!("{}", undelete(&[]).expect_success("undelete").stdout);
    wait_until("the topic is back", DEADLINE, || {
        match offset(&bootstrap, OffsetSpec::Latest) {
            found if found == end => Ok(()),
            found => Err(format!("its end is {found}")),
        }
    });
    let all: Vec<_> = numbered(0, &written).collect();
    check(&bootstrap, &all);
    assert_eq!(objects(&store), before, "nothing was removed");
    // It goes on, over restarts, and can be tiered again.
    let more = records(500, 0, 10);
    librdkafka::produce(&bootstrap, TOPIC, "none", &more);
    let all: Vec<_> = all.into_iter().chain(numbered(end, &more)).collect();
    check(&bootstrap, &all);
    broker.kill();
    broker.restart();
    check(&bootstrap, &all);
    let again = undelete(&[]);
    assert!(!again.status.success(), "{}", again.stdout);
    println!(
        "{end} offsets came back, and {} more followed them",
        more.len()
    );
}
