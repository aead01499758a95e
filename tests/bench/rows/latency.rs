//! Latency, from when a request was due: paced producing, the same beside readers of evicted history, and end to end.

use std::fs::File;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, anyhow};
use rustix::fs::{Advice, fadvise};
use strandline_log::TopicId;
use strandline_log::record::Compression;
use strandline_tests::now_ms;

use super::{BROKERS, Figure, Row, Target};
use crate::load::{
    Answers, BatchSize, Engine, Fetch, Load, Outcome, Pace, Replay, Schedule, Shape, percentile_ms,
    produce_frames, run_loads,
};
use crate::session::{HISTORY_TOPIC, HistoryTopic};

/// 20,000 records of 1 KB a second in requests of ten.
const RECORDS_PER_REQUEST: usize = 10;
const REQUESTS_PER_SECOND: u64 = 2_000;
const PARTITIONS: i32 = 6;
const CONNECTIONS: usize = 16;
const IN_FLIGHT: usize = 5;
const WARM_UP: Duration = Duration::from_secs(2);
const TOPIC: &str = "paced";

pub fn rows() -> Vec<Row> {
    vec![paced(), beside_history(), end_to_end()]
}

fn load(id: TopicId, seconds: u64) -> Load {
    let shape = Shape {
        record_bytes: 1000,
        batch: BatchSize::Records(RECORDS_PER_REQUEST),
        compression: Compression::None,
    };
    Load {
        replay: Some(Replay {
            frames: produce_frames(id, PARTITIONS, 48, shape, -1, now_ms()).into(),
            connections: CONNECTIONS,
            in_flight: IN_FLIGHT,
            pace: Pace::per_second(REQUESTS_PER_SECOND, WARM_UP + Duration::from_secs(seconds)),
            answers: Answers::Produce,
        }),
        warm_up: WARM_UP,
        ..Load::default()
    }
}

fn percentiles(outcome: &Outcome) -> [f64; 3] {
    [50.0, 99.0, 99.9].map(|at| percentile_ms(&outcome.latency, at))
}

fn paced() -> Row {
    let tail = Target::AtMost(1.0 / 3.0);
    Row {
        name: "paced",
        what: "20,000 records/s of 1 KB in requests of ten, acks=all, 6 partitions, 16 connections"
            .to_owned(),
        is_quick: true,
        contenders: BROKERS,
        figures: vec![
            Figure::new("p50", "ms"),
            Figure::new("p99", "ms").kafka(tail),
            Figure::new("p99.9", "ms").kafka(tail),
            Figure::new("broker CPU", "us/request"),
            Figure::new("the generator's own p99.9", "ms"),
        ],
        run: Box::new(|session| {
            session.ensure_warm()?;
            let id = session.cluster()?.create_topic(TOPIC, PARTITIONS, &[])?;
            let port = session.port()?;
            let seconds = session.settings.pick(5, 12);
            let measured = session.measure(|| run_loads(port, vec![load(id, seconds)]))?;
            session.delete_topic(TOPIC)?;
            let mut samples = percentiles(&measured.value).to_vec();
            samples.push(measured.cpu_us_per(measured.value.requests));
            samples.push(percentile_ms(&measured.value.lateness, 99.9));
            Ok(samples)
        }),
    }
}

/// Of all readers together. Low enough that a third of the processors idles.
const HISTORY_BYTES_PER_SECOND: u64 = 96 << 20;

fn beside_history() -> Row {
    let own = |figure| Target::OwnAtMost {
        row: "paced",
        figure,
        times: 1.5,
        plus: 2.0,
    };
    Row {
        name: "paced-history",
        what: "the same while 8 consumers read 96 MiB/s of evicted history".to_owned(),
        is_quick: false,
        contenders: BROKERS,
        figures: vec![
            Figure::new("p50", "ms"),
            Figure::new("p99", "ms").kafka(own("p99")),
            Figure::new("p99.9", "ms"),
            Figure::new("history read", "MB/s"),
            Figure::new("read from disk", "MiB"),
            Figure::new("machine idle", "%"),
        ],
        run: Box::new(|session| {
            let history = session.history_topic()?;
            let id = session.cluster()?.create_topic(TOPIC, PARTITIONS, &[])?;
            rustix::fs::sync();
            evict(&session.server()?.data(), HISTORY_TOPIC)?;
            let port = session.port()?;
            let readers = read_history(&history);
            let seconds = session.settings.pick(5, 10);
            let measured = session.measure(|| beside(port, readers, load(id, seconds)))?;
            session.delete_topic(TOPIC)?;
            let (paced, read) = &measured.value;
            let mut samples = percentiles(paced).to_vec();
            samples.extend([
                read.per_second(read.fetched_bytes) / 1e6,
                measured.disk_read_bytes as f64 / f64::from(1 << 20),
                measured.idle_percent,
            ]);
            Ok(samples)
        }),
    }
}

/// One reader for each partition; each asks for its MiB when it is due.
fn read_history(topic: &HistoryTopic) -> Load {
    let partitions = topic.ends.len() as u64;
    let per_reader = HISTORY_BYTES_PER_SECOND / partitions;
    let interval_ns = 1_000_000_000 * (1 << 20) / per_reader;
    let fetches = (0..).zip(&topic.ends).map(|(partition, end)| {
        let mut fetch = Fetch::new(topic.id, &[(partition, 0, Some(*end))], u64::MAX);
        fetch.interval_ns = Some(interval_ns);
        // Not all at once.
        fetch.due_ns = partition as u64 * interval_ns / partitions;
        fetch
    });
    Load {
        fetches: fetches.collect(),
        ..Load::default()
    }
}

/// Runs `load` beside `background`, which is stopped when it ends.
fn beside(port: u16, background: Load, load: Load) -> anyhow::Result<(Outcome, Outcome)> {
    let background = Engine::connect(port, background)?;
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let running = scope.spawn(|| background.run(&stop));
        let front = run_loads(port, vec![load]);
        stop.store(true, Ordering::Relaxed);
        let behind = running
            .join()
            .map_err(|_| anyhow!("a thread of the load panicked"))?;
        Ok((front?, behind?))
    })
}

/// Drops a topic's files from the page cache. They must be on disk already.
fn evict(data: &Path, topic: &str) -> anyhow::Result<()> {
    for folder in std::fs::read_dir(data).context("the log folder")? {
        let folder = folder?;
        if folder.file_name().to_string_lossy().starts_with(topic) {
            for file in std::fs::read_dir(folder.path())? {
                let path = file?.path();
                if path.extension().is_some_and(|extension| extension == "log") {
                    fadvise(&File::open(&path)?, 0, None, Advice::DontNeed)?;
                }
            }
        }
    }
    Ok(())
}

fn end_to_end() -> Row {
    const PER_SECOND: u64 = 500;
    const TOPIC: &str = "end-to-end";
    let half = Target::AtMost(0.5);
    Row {
        name: "end-to-end",
        what: "one record of 100 B at a time, 500 a second, acks=all, until a consumer has it"
            .to_owned(),
        is_quick: false,
        contenders: BROKERS,
        figures: vec![
            Figure::new("p50", "ms"),
            Figure::new("p99", "ms").kafka(half),
            Figure::new("p99.9", "ms"),
        ],
        run: Box::new(move |session| {
            session.ensure_warm()?;
            let id = session.cluster()?.create_topic(TOPIC, 1, &[])?;
            let port = session.port()?;
            let seconds = session.settings.pick(5, 10);
            let pace = Pace::per_second(PER_SECOND, WARM_UP + Duration::from_secs(seconds));
            let records = PER_SECOND * (WARM_UP.as_secs() + seconds);
            let mut reader = Fetch::new(id, &[(0, 0, Some(records as i64))], 1);
            reader.schedule = Some(Schedule {
                base_offset: 0,
                records_per_request: 1,
                interval_ns: 1_000_000_000 / PER_SECOND,
            });
            let load = Load {
                replay: Some(Replay {
                    frames: produce_frames(id, 1, 16, Shape::ONE_RECORD, -1, now_ms()).into(),
                    connections: 1,
                    in_flight: 64,
                    pace,
                    answers: Answers::Produce,
                }),
                fetches: vec![reader],
                warm_up: WARM_UP,
            };
            let measured = session.measure(|| run_loads(port, vec![load]))?;
            session.delete_topic(TOPIC)?;
            let delivery = &measured.value.delivery;
            Ok([50.0, 99.0, 99.9]
                .map(|at| percentile_ms(delivery, at))
                .to_vec())
        }),
    }
}
