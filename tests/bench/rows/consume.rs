//! Consuming what is in the page cache, and from far behind; and what caught-up consumers read from disk.

use std::sync::Arc;

use bytes::Bytes;
use strandline_log::TopicId;
use strandline_tests::now_ms;

use super::{BROKERS, Figure, Row, Target, WITH_FLOOR};
use crate::contender::Contender;
use crate::floor::{EGRESS_CHUNK_BYTES, FloorMode};
use crate::load::{Answers, Fetch, Frame, Load, Pace, Replay, Shape, produce_frames, run_loads};
use crate::session::Session;

const CPU: Figure = Figure::new("broker CPU", "s/GiB")
    .kafka(Target::AtMost(0.5))
    .floor(Target::AtMost(1.5));
const RATE: Figure = Figure::new("throughput", "MB/s")
    .kafka(Target::AtLeast(1.5))
    .floor(Target::AtLeast(0.7));

pub fn rows() -> Vec<Row> {
    vec![
        hot("consume-1", 1),
        hot("consume-4", 4),
        hot("consume-16", 16),
        behind(),
        caught_up(),
    ]
}

/// What all consumers of a row read together.
fn total_bytes(session: &Session<'_>) -> u64 {
    session.settings.pick(4 << 30, 6 << 30)
}

fn hot(name: &'static str, consumers: u64) -> Row {
    Row {
        name,
        what: format!("consume hot with {consumers} connections, 1 MiB fetches of 1 partition"),
        is_quick: consumers == 1,
        contenders: WITH_FLOOR,
        figures: vec![CPU, RATE],
        run: Box::new(move |session| {
            let total = total_bytes(session);
            let measured = if session.contender == Contender::Floor {
                let chunk = EGRESS_CHUNK_BYTES as u64;
                let file_bytes = session.settings.pick(256 << 20, 1 << 30);
                session.measure_floor(
                    FloorMode::Egress,
                    file_bytes,
                    ask_floor(consumers, 64),
                    ask_floor(consumers, total / chunk),
                )?
            } else {
                let topic = session.hot_topic()?;
                let file_bytes = session.settings.pick(256u64 << 20, 1 << 30);
                let passes = (total / file_bytes / consumers).max(1);
                let port = session.port()?;
                let range = [(0, 0, Some(topic.end))];
                let loads = spread(consumers, || Fetch::new(topic.id, &range, passes));
                session.measure(|| run_loads(port, loads))?
            };
            let outcome = &measured.value;
            Ok(vec![
                measured.cpu_per_gib(outcome.fetched_bytes),
                outcome.per_second(outcome.fetched_bytes) / 1e6,
            ])
        }),
    }
}

/// One thread for one reader, two for more: the machine has two processors.
fn spread(consumers: u64, reader: impl Fn() -> Fetch) -> Vec<Load> {
    let threads = consumers.min(2);
    (0..threads)
        .map(|_| Load {
            fetches: (0..consumers / threads).map(|_| reader()).collect(),
            ..Load::default()
        })
        .collect()
}

fn ask_floor(consumers: u64, chunks: u64) -> Vec<Load> {
    let threads = consumers.min(2);
    // A request as long as a fetch is.
    let mut request = vec![0u8; 100];
    request[..4].copy_from_slice(&96u32.to_be_bytes());
    let frames: Arc<[Frame]> = Arc::new([Frame {
        bytes: Bytes::from(request),
        records: 0,
        record_bytes: 0,
        batch_bytes: 0,
    }]);
    (0..threads)
        .map(|_| Load {
            replay: Some(Replay {
                frames: Arc::clone(&frames),
                connections: (consumers / threads) as usize,
                in_flight: 1,
                pace: Pace::Closed {
                    requests: chunks / threads,
                },
                answers: Answers::Any,
            }),
            ..Load::default()
        })
        .collect()
}

/// Reads 5 GiB from their beginning, just written: what fits into the page cache comes from there.
fn behind() -> Row {
    Row {
        name: "consume-behind",
        what: "one consumer that is 5 GiB behind, 8 partitions".to_owned(),
        is_quick: false,
        contenders: BROKERS,
        figures: vec![
            Figure::new("broker CPU", "s/GiB").kafka(Target::AtMost(0.5)),
            Figure::new("throughput", "MB/s"),
            Figure::new("read from disk", "MiB"),
        ],
        run: Box::new(|session| {
            let topic = session.history_topic()?;
            let ranges: Vec<(i32, i64, Option<i64>)> = (0..)
                .zip(&topic.ends)
                .map(|(partition, end)| (partition, 0, Some(*end)))
                .collect();
            let port = session.port()?;
            let load = spread(1, || Fetch::new(topic.id, &ranges, 1));
            let measured = session.measure(|| run_loads(port, load))?;
            let outcome = &measured.value;
            Ok(vec![
                measured.cpu_per_gib(outcome.fetched_bytes),
                outcome.per_second(outcome.fetched_bytes) / 1e6,
                measured.disk_read_bytes as f64 / f64::from(1 << 20),
            ])
        }),
    }
}

/// Producers and consumers at the end of the log: nothing should come from disk.
fn caught_up() -> Row {
    const TOPIC: &str = "tail";
    Row {
        name: "caught-up",
        what: "4 consumers at the end of the log while 100 MB/s are produced: bytes read from disk"
            .to_owned(),
        is_quick: false,
        contenders: BROKERS,
        figures: vec![
            Figure::new("read from disk", "MiB"),
            Figure::new("broker CPU", "s/GiB in"),
        ],
        run: Box::new(|session| {
            session.ensure_warm()?;
            let id = session.cluster()?.create_topic(TOPIC, 1, &[])?;
            let port = session.port()?;
            let measured = session.measure(|| run_loads(port, tail_load(id)))?;
            session.delete_topic(TOPIC)?;
            let outcome = &measured.value;
            Ok(vec![
                measured.disk_read_bytes as f64 / f64::from(1 << 20),
                measured.cpu_per_gib(outcome.record_bytes),
            ])
        }),
    }
}

fn tail_load(id: TopicId) -> Vec<Load> {
    const REQUESTS: u64 = 8_000;
    const PER_SECOND: u64 = 1_600;
    let frames = produce_frames(id, 1, 16, Shape::KILOBYTE, -1, now_ms());
    let end = (REQUESTS * frames[0].records) as i64;
    let reader = || Fetch::new(id, &[(0, 0, Some(end))], 1);
    vec![Load {
        replay: Some(Replay {
            frames: frames.into(),
            connections: 4,
            in_flight: 64,
            pace: Pace::Open {
                interval_ns: 1_000_000_000 / PER_SECOND,
                requests: REQUESTS,
            },
            answers: Answers::Produce,
        }),
        fetches: vec![reader(), reader(), reader(), reader()],
        ..Load::default()
    }]
}
