//! What a disk does to a running broker, from outside: batches that it has lost, and syncs that fail.
//!
//! Damage: whoever finds it, it is told with file and position, its offsets are answered with CORRUPT_MESSAGE from then
//! on, also after a restart, and all others are served. A failed sync: its folder goes offline and nothing in it is
//! synced again; the other folder serves on; what was acknowledged is there after a restart.

use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use kafka_protocol::messages::{FetchRequest, ProduceRequest};
use strandline_client::ConfigResource;
use strandline_log::record::{BATCH_HEADER_LEN, BatchHeader, DecodeLimit, records_of};
use strandline_tests::{Broker, BrokerOptions, Process, http_get, metric, now_ms, wait_until};

use crate::librdkafka::create_topic;
use crate::raw::{
    FETCH_VERSION, PRODUCE_VERSION, RawClient, batch, fetch_request, produce_request,
};
use crate::strandline::{admin, block_on};

const DEADLINE: Duration = Duration::from_secs(60);
const CORRUPT_MESSAGE: i16 = 2;
const STORAGE_ERROR: i16 = 56;
const VALUE_BYTES: usize = 10_000;

fn value(number: i64) -> Vec<u8> {
    let mut value = number.to_be_bytes().to_vec();
    value.resize(VALUE_BYTES, number as u8);
    value
}

/// One record as a batch of its own; the answer's error and offset.
fn send(client: &mut RawClient, topic: &str, partition: i32, number: i64) -> (i16, i64) {
    let request = produce_request(topic, partition, -1, batch(now_ms(), [&value(number)[..]]));
    let answer = client.ask::<ProduceRequest>(PRODUCE_VERSION, &request);
    let answer = &answer.responses[0].partition_responses[0];
    (answer.error_code, answer.base_offset)
}

/// What a fetch from `offset` brings: an error, or the numbers of its records.
fn fetch(
    client: &mut RawClient,
    topic: &str,
    partition: i32,
    offset: i64,
) -> Result<Vec<i64>, i16> {
    let request = fetch_request(topic, [(partition, offset)], 500, 64 << 10);
    let answer = client.ask::<FetchRequest>(FETCH_VERSION, &request);
    let answer = &answer.responses[0].partitions[0];
    if answer.error_code != 0 {
        return Err(answer.error_code);
    }
    let records = answer.records.clone().unwrap_or_default();
    let mut numbers = Vec::new();
    for record in records_of(records, DecodeLimit::default()).map_while(Result::ok) {
        let bytes = record.value.expect("has a value");
        let number = i64::from_be_bytes(bytes[..8].try_into().expect("8 bytes"));
        assert!(bytes == value(number), "the value of {number} is damaged");
        assert_eq!(record.offset, number, "numbers are offsets here");
        numbers.push(number);
    }
    Ok(numbers)
}

fn logs_of(folder: &Path) -> Vec<PathBuf> {
    let mut logs: Vec<PathBuf> = std::fs::read_dir(folder)
        .expect("lists")
        .map(|entry| entry.expect("lists").path())
        .filter(|path| path.extension().is_some_and(|e| e == "log"))
        .collect();
    logs.sort();
    logs
}

/// Overwrites bytes of the batch at `offset`, `at` bytes behind its beginning; tells file and position.
fn damage(folder: &Path, offset: i64, at: u64, bytes: &[u8]) -> (PathBuf, u64) {
    for log in logs_of(folder) {
        let all = std::fs::read(&log).expect("reads");
        let mut position = 0;
        while position + BATCH_HEADER_LEN <= all.len() {
            let header = BatchHeader::parse(&all[position..]).expect("is sound so far");
            if header.base_offset == offset {
                let file = std::fs::File::options().write(true).open(&log);
                file.expect("opens")
                    .write_all_at(bytes, position as u64 + at)
                    .expect("writes");
                return (log, position as u64);
            }
            position += header.size();
        }
    }
    panic!("no batch at {offset} in {}", folder.display());
}

fn damaged_ranges(broker: &Broker, topic: &str) -> f64 {
    let label = format!("topic=\"{topic}\"");
    metric(
        broker.http_port(),
        "strandline_log_damaged_ranges",
        &[&label],
    )
}

#[test]
fn damaged_batches_are_refused_and_everything_around_them_is_served() {
    const COUNT: i64 = 250;
    const SCRUB_OFF: &str = "log.scrub.bytes.per.second=0";
    let mut broker = Broker::start(BrokerOptions::with(&[SCRUB_OFF]));
    let topic = "around";
    create_topic(
        &broker.bootstrap(),
        topic,
        1,
        &[("segment.bytes", "1048576")],
    );
    let mut client = RawClient::connect(broker.port());
    for number in 0..COUNT {
        assert_eq!(send(&mut client, topic, 0, number), (0, number));
    }
    broker.stop();
    let folder = broker.data().join("around-0");
    assert!(logs_of(&folder).len() >= 3, "several segments");
    // In a sealed segment bytes of a record, of the last one a whole header: a start may meet that one, a scrub finds both.
    let mut places = vec![
        (40, damage(&folder, 40, 500, &[0xee; 4])),
        (COUNT - 5, damage(&folder, COUNT - 5, 0, &[0xff; 61])),
    ];
    let whole: u64 = logs_of(&folder)
        .iter()
        .map(|p| p.metadata().expect("is there").len())
        .sum();

    broker.restart();
    // The start reads the log's end from its last index entries on: whether that is before the header depends on how many
    // batches share the last millisecond.
    assert!(damaged_ranges(&broker, topic) <= 1.0);
    let check = |broker: &Broker, lost: &[i64], end: i64| {
        let mut client = RawClient::connect(broker.port());
        let mut offset = 0;
        while offset < end {
            match fetch(&mut client, topic, 0, offset) {
                Err(error) => {
                    assert_eq!(error, CORRUPT_MESSAGE, "at {offset}");
                    assert!(lost.contains(&offset), "{offset} is refused");
                    offset += 1;
                }
                Ok(numbers) => {
                    assert_eq!(numbers.first(), Some(&offset));
                    let last = *numbers.last().expect("has one");
                    let crossed = lost.iter().find(|lost| (offset..=last).contains(*lost));
                    assert_eq!(crossed, None, "a fetch went over what is lost");
                    offset = last + 1;
                }
            }
        }
    };
    // It serves on behind the damage, and takes more.
    let mut client = RawClient::connect(broker.port());
    assert_eq!(
        fetch(&mut client, topic, 0, COUNT - 5),
        Err(CORRUPT_MESSAGE)
    );
    assert_eq!(
        fetch(&mut client, topic, 0, COUNT - 4).expect("reads")[0],
        COUNT - 4
    );
    for number in COUNT..COUNT + 5 {
        assert_eq!(send(&mut client, topic, 0, number), (0, number));
    }
    broker.kill();

    broker.set_options(BrokerOptions::with(&[
        "log.scrub.bytes.per.second=100000000",
    ]));
    broker.restart();
    wait_until(
        "the scrub finds the other one",
        DEADLINE,
        || match damaged_ranges(&broker, topic) {
            2.0 => Ok(()),
            other => Err(other.to_string()),
        },
    );
    let lost = [40, COUNT - 5];
    check(&broker, &lost, COUNT + 5);
    let log = std::fs::read_to_string(broker.log()).expect("reads");
    for (offset, (file, position)) in &places {
        let file = file.file_name().expect("a name").to_string_lossy();
        assert!(
            log.lines().any(|line| line.contains("a damaged batch")
                && line.contains(&*file)
                && line.contains(&format!("position={position}"))),
            "{offset} is told with {file} and {position}"
        );
    }
    broker.stop();

    // Both are known without a scrub, after a clean stop and after a crash; and nothing was cut.
    broker.set_options(BrokerOptions::with(&[SCRUB_OFF]));
    broker.restart();
    assert_eq!(damaged_ranges(&broker, topic), 2.0);
    check(&broker, &lost, COUNT + 5);
    broker.kill();
    broker.restart();
    assert_eq!(damaged_ranges(&broker, topic), 2.0);
    check(&broker, &lost, COUNT + 5);
    broker.stop();
    let now: u64 = logs_of(&folder)
        .iter()
        .map(|p| p.metadata().expect("is there").len())
        .sum();
    assert!(now >= whole, "{now} of {whole} bytes");

    // Somebody puts the bytes of the record back.
    let (offset, (file, position)) = places.swap_remove(0);
    let good = value(offset)[400..404].to_vec();
    let file = std::fs::File::options()
        .write(true)
        .open(file)
        .expect("opens");
    file.write_all_at(&good, position + 500).expect("writes");
    broker.restart();
    assert_eq!(damaged_ranges(&broker, topic), 1.0, "it is whole again");
    check(&broker, &[COUNT - 5], COUNT + 5);
    broker.stop();
}

#[test]
fn an_upload_finds_damage_and_what_it_has_found_is_refused() {
    let mut broker = Broker::start(BrokerOptions::with(&[
        "log.scrub.bytes.per.second=0",
        "remote.log.manager.task.interval.ms=100",
    ]));
    let topic = "uploaded";
    create_topic(
        &broker.bootstrap(),
        topic,
        1,
        &[("segment.bytes", "1048576")],
    );
    let mut client = RawClient::connect(broker.port());
    for number in 0..150 {
        assert_eq!(send(&mut client, topic, 0, number), (0, number));
    }
    broker.stop();
    let folder = broker.data().join("uploaded-0");
    damage(&folder, 30, 700, &[0x11; 3]);
    broker.restart();
    let mut client = RawClient::connect(broker.port());
    assert_eq!(damaged_ranges(&broker, topic), 0.0, "nobody knows yet");
    block_on(async {
        let topic = ConfigResource::topic(topic);
        let changes = [("remote.storage.enable", Some("true"))];
        let altered = admin(&broker.bootstrap())
            .alter_configs(&topic, &changes)
            .await;
        altered.expect("the topic's configs are altered");
    });
    wait_until(
        "the upload meets the damage",
        DEADLINE,
        || match damaged_ranges(&broker, topic) {
            1.0 => Ok(()),
            other => Err(other.to_string()),
        },
    );
    assert_eq!(fetch(&mut client, topic, 0, 30), Err(CORRUPT_MESSAGE));
    assert_eq!(fetch(&mut client, topic, 0, 31).expect("reads")[0], 31);
    broker.stop();
}

/// Lets system calls of the broker fail with EIO that touch one of `paths`, until the process is ended; tells where its
/// calls are written. `None` when this machine does not let a process be traced.
pub fn inject_eio(broker: &Broker, calls: &str, paths: &[PathBuf]) -> Option<(Process, PathBuf)> {
    let output = broker.folder().join("injected.calls");
    let log = broker.folder().join("injected.strace");
    let mut command = Command::new("strace");
    command.args(["-f", "-qq", "-e", &format!("trace={calls}")]);
    command.args(["-e", &format!("inject={calls}:error=EIO")]);
    for path in paths {
        command.arg("-P").arg(path);
    }
    command
        .arg("-o")
        .arg(&output)
        .args(["-p", &broker.pid().to_string()]);
    let mut strace = Process::spawn(&mut command, &log);
    wait_until("strace is attached", DEADLINE, || {
        let status = format!("/proc/{}/status", broker.pid());
        let status = std::fs::read_to_string(status).expect("reads");
        if !status.contains("TracerPid:\t0\n") {
            return Ok(Some(()));
        }
        if strace.exited().is_some() {
            let said = strace.output();
            assert!(said.contains("not permitted"), "{said}");
            return Ok(None);
        }
        Err("not yet".to_owned())
    })?;
    Some((strace, output))
}

#[test]
fn a_failed_sync_takes_its_folder_offline_and_nothing_else() {
    let folders = [
        tempfile::tempdir().expect("a temporary folder"),
        tempfile::tempdir().expect("a temporary folder"),
    ];
    let metadata = tempfile::tempdir().expect("a temporary folder");
    let mut broker = Broker::start(BrokerOptions::with(&[
        &format!(
            "log.dirs={},{}",
            folders[0].path().display(),
            folders[1].path().display()
        ),
        &format!("metadata.log.dir={}", metadata.path().display()),
    ]));
    let topic = "synced";
    create_topic(&broker.bootstrap(), topic, 4, &[("flush.messages", "1")]);
    let failing: Vec<i32> = (0..4)
        .filter(|partition| {
            folders[1]
                .path()
                .join(format!("synced-{partition}"))
                .is_dir()
        })
        .collect();
    assert_eq!(failing.len(), 2, "the folders share the partitions");
    let mut client = RawClient::connect(broker.port());
    for number in 0..5 {
        for partition in 0..4 {
            assert_eq!(send(&mut client, topic, partition, number), (0, number));
        }
    }
    // The first sync of one partition fails; nobody has touched the folder's other one.
    let victim = failing[0];
    let folder = folders[1].path().join(format!("synced-{victim}"));
    let mut paths = logs_of(&folder);
    paths.push(folder);
    let Some((mut strace, calls)) = inject_eio(&broker, "fdatasync,fsync", &paths) else {
        println!("this machine does not permit ptrace, so no sync could be made to fail");
        return;
    };
    assert_eq!(
        send(&mut client, topic, victim, 5).0,
        STORAGE_ERROR,
        "not acknowledged"
    );
    for partition in 0..4 {
        let expected = if failing.contains(&partition) {
            STORAGE_ERROR
        } else {
            0
        };
        for number in 5..8 {
            let (error, offset) = send(&mut client, topic, partition, number);
            assert_eq!(error, expected, "partition {partition}");
            assert!(error != 0 || offset == number);
        }
    }
    wait_until("the folder is reported", DEADLINE, || {
        let (_, body) = http_get(broker.http_port(), "/healthz")?;
        match body.contains("offline") {
            true => Ok(()),
            false => Err(body),
        }
    });
    let failed = || {
        let calls = std::fs::read_to_string(&calls).expect("strace has written");
        calls
            .lines()
            .filter(|line| line.contains("INJECTED"))
            .count()
    };
    assert_eq!(failed(), 1, "it is never tried again");
    // A clean stop does not try either, and leaves no mark that says all is safe.
    broker.stop();
    strace.wait(DEADLINE);
    assert_eq!(failed(), 1, "not by the clean stop either");
    assert!(!folders[1].path().join(".kafka_cleanshutdown").exists());
    assert!(folders[0].path().join(".kafka_cleanshutdown").exists());

    broker.restart();
    let mut client = RawClient::connect(broker.port());
    for partition in 0..4 {
        let acknowledged = if failing.contains(&partition) { 5 } else { 8 };
        let mut read = Vec::new();
        while (read.len() as i64) < acknowledged {
            read.extend(fetch(&mut client, topic, partition, read.len() as i64).expect("reads"));
        }
        let all: Vec<i64> = (0..read.len() as i64).collect();
        assert_eq!(read, all, "partition {partition}");
        let next = all.len() as i64;
        let (error, offset) = send(&mut client, topic, partition, next);
        assert_eq!(
            (error, offset),
            (0, next),
            "partition {partition} takes more"
        );
    }
    broker.stop();
}
