//! Producing: large batches of several shapes, and requests of one record.

use anyhow::ensure;
use strandline_log::TopicId;
use strandline_log::record::Compression;
use strandline_tests::now_ms;

use super::{Figure, Row, Target, WITH_FLOOR};
use crate::contender::Contender;
use crate::floor::FloorMode;
use crate::load::{Answers, Load, Outcome, Pace, Replay, Shape, produce_frames, run_loads};
use crate::session::{Measured, Session, shape};

#[derive(Clone, Copy, Debug)]
struct Produce {
    shape: Shape,
    acks: i16,
    partitions: i32,
    /// Of the topic, with Strandline.
    strandline_configs: &'static [(&'static str, &'static str)],
    /// Of records, before compression.
    quick_bytes: u64,
    full_bytes: u64,
}

const BASE: Produce = Produce {
    shape: Shape::KILOBYTE,
    acks: -1,
    partitions: 1,
    strandline_configs: &[],
    quick_bytes: 512 << 20,
    full_bytes: 1 << 30,
};
/// Strandline's own setting: it opens every record, as Kafka always does.
const DEEP: &[(&str, &str)] = &[("records.validate.deep", "true")];
const CONNECTIONS: usize = 8;
const IN_FLIGHT: usize = 2;

const CPU: Figure = Figure::new("broker CPU", "s/GiB");
const RATE: Figure = Figure::new("throughput", "MB/s");
const PEAK: Figure = Figure::new("peak memory", "MiB");

pub fn rows() -> Vec<Row> {
    let lz4 = shape(1000, Compression::Lz4);
    let zstd = shape(1000, Compression::Zstd);
    let small = shape(100, Compression::None);
    vec![
        row(
            "produce-1k",
            "produce 1 KB records, acks=all, 64 KiB batches, 1 partition, not compressed (the base case)",
            BASE,
            CPU.kafka(Target::AtMost(0.5)).floor(Target::AtMost(1.4)),
        ),
        row(
            "produce-1k-acks1",
            "the same with acks=1",
            Produce { acks: 1, ..BASE },
            CPU,
        ),
        row(
            "produce-100b",
            "the same with 100 B records",
            Produce {
                shape: small,
                ..BASE
            },
            CPU.kafka(Target::AtMost(1.0 / 3.0))
                .floor(Target::AtMost(1.4)),
        ),
        row(
            "produce-100b-acks1",
            "100 B records with acks=1",
            Produce {
                shape: small,
                acks: 1,
                ..BASE
            },
            CPU,
        ),
        row(
            "produce-1k-100p",
            "the base case over 100 partitions",
            Produce {
                partitions: 100,
                ..BASE
            },
            CPU,
        ),
        row(
            "produce-1k-lz4",
            "the base case with lz4 (bytes count before compression)",
            Produce { shape: lz4, ..BASE },
            CPU,
        ),
        row(
            "produce-1k-zstd",
            "the base case with zstd (bytes count before compression)",
            Produce {
                shape: zstd,
                ..BASE
            },
            CPU,
        ),
        row(
            "produce-1k-lz4-deep",
            "the lz4 row with records.validate.deep=true in Strandline: both open every record",
            Produce {
                shape: lz4,
                strandline_configs: DEEP,
                ..BASE
            },
            CPU,
        ),
        row(
            "produce-1k-zstd-deep",
            "the zstd row with records.validate.deep=true in Strandline: both open every record",
            Produce {
                shape: zstd,
                strandline_configs: DEEP,
                ..BASE
            },
            CPU,
        ),
        one_record(),
    ]
}

fn row(name: &'static str, what: &str, produce: Produce, cpu: Figure) -> Row {
    let rate = RATE.kafka(Target::AtLeast(1.5)).floor(Target::AtLeast(0.7));
    Row {
        name,
        what: what.to_owned(),
        is_quick: matches!(name, "produce-1k" | "produce-100b"),
        contenders: WITH_FLOOR,
        figures: vec![cpu, rate, PEAK],
        run: Box::new(move |session| {
            let measured = run(session, produce)?;
            let outcome = &measured.value;
            Ok(vec![
                measured.cpu_per_gib(outcome.record_bytes),
                outcome.per_second(outcome.record_bytes) / 1e6,
                measured.peak_mib(),
            ])
        }),
    }
}

fn load(produce: Produce, id: TopicId, bytes: u64, answers: Answers) -> Load {
    let frames = produce_frames(
        id,
        produce.partitions,
        16,
        produce.shape,
        produce.acks,
        now_ms(),
    );
    let requests = bytes / frames[0].record_bytes;
    Load {
        replay: Some(Replay {
            frames: frames.into(),
            connections: CONNECTIONS,
            in_flight: IN_FLIGHT,
            pace: Pace::Closed { requests },
            answers,
        }),
        ..Load::default()
    }
}

fn run(session: &mut Session<'_>, produce: Produce) -> anyhow::Result<Measured<Outcome>> {
    const TOPIC: &str = "produced";
    let bytes = session
        .settings
        .pick(produce.quick_bytes, produce.full_bytes);
    if session.contender == Contender::Floor {
        let load = |bytes| load(produce, TopicId::nil(), bytes, Answers::Any);
        return session.measure_floor(
            FloorMode::Ingest,
            0,
            vec![load(64 << 20)],
            vec![load(bytes)],
        );
    }
    session.ensure_warm()?;
    let configs = match session.contender {
        Contender::Strandline => produce.strandline_configs,
        _ => &[],
    };
    let id = session
        .cluster()?
        .create_topic(TOPIC, produce.partitions, configs)?;
    let port = session.port()?;
    let load = |bytes| load(produce, id, bytes, Answers::Produce);
    run_loads(port, vec![load(64 << 20)])?;
    let measured = session.measure(|| run_loads(port, vec![load(bytes)]))?;
    let ends = session
        .cluster()?
        .wait_until_served(TOPIC, produce.partitions)?;
    ensure!(
        ends.iter().sum::<i64>() >= measured.value.records as i64,
        "fewer records are there than were acknowledged"
    );
    session.delete_topic(TOPIC)?;
    Ok(measured)
}

/// Many producers that send one record at a time.
fn one_record() -> Row {
    const CONNECTIONS: usize = 32;
    const TOPIC: &str = "single";
    let load = |id, requests, answers| Load {
        replay: Some(Replay {
            frames: produce_frames(id, 1, 16, Shape::ONE_RECORD, -1, now_ms()).into(),
            connections: CONNECTIONS,
            in_flight: 1,
            pace: Pace::Closed { requests },
            answers,
        }),
        ..Load::default()
    };
    Row {
        name: "one-record",
        what: "requests of one 100 B record, acks=all, 32 connections with one in flight each"
            .to_owned(),
        is_quick: true,
        contenders: WITH_FLOOR,
        figures: vec![
            Figure::new("broker CPU", "us/request")
                .kafka(Target::AtMost(0.5))
                .floor(Target::AtMost(1.6)),
            Figure::new("throughput", "requests/s"),
        ],
        run: Box::new(move |session| {
            let requests = session.settings.pick(120_000, 240_000);
            let measured = if session.contender == Contender::Floor {
                let load = |requests| load(TopicId::nil(), requests, Answers::Any);
                session.measure_floor(
                    FloorMode::Small,
                    0,
                    vec![load(10_000)],
                    vec![load(requests)],
                )?
            } else {
                session.ensure_warm()?;
                let id = session.cluster()?.create_topic(TOPIC, 1, &[])?;
                let port = session.port()?;
                let load = |requests| load(id, requests, Answers::Produce);
                run_loads(port, vec![load(10_000)])?;
                let measured = session.measure(|| run_loads(port, vec![load(requests)]))?;
                session.delete_topic(TOPIC)?;
                measured
            };
            let outcome = &measured.value;
            Ok(vec![
                measured.cpu_us_per(outcome.requests),
                outcome.per_second(outcome.requests),
            ])
        }),
    }
}
