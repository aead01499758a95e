//! Breadth: 1,000 partitions with 500 connections.

use std::time::Duration;

use strandline_log::record::Compression;
use strandline_tests::now_ms;

use super::{BROKERS, Figure, Row};
use crate::load::{
    Answers, BatchSize, Load, Pace, Replay, Shape, percentile_ms, produce_frames, run_loads,
};

const PARTITIONS: i32 = 1_000;
const CONNECTIONS: usize = 500;
const TOPIC: &str = "broad";

pub fn rows() -> Vec<Row> {
    vec![Row {
        name: "many",
        what: "1,000 partitions, 500 connections, 3,000 requests/s of ten 100 B records, acks=all"
            .to_owned(),
        is_quick: false,
        contenders: BROKERS,
        figures: vec![
            Figure::new("broker CPU", "us/request"),
            Figure::new("p50", "ms"),
            Figure::new("p99", "ms"),
            Figure::new("peak memory", "MiB"),
        ],
        run: Box::new(|session| {
            session.ensure_warm()?;
            let id = session.cluster()?.create_topic(TOPIC, PARTITIONS, &[])?;
            let port = session.port()?;
            let shape = Shape {
                record_bytes: 100,
                batch: BatchSize::Records(10),
                compression: Compression::None,
            };
            let seconds = session.settings.pick(5, 8);
            let warm_up = Duration::from_secs(2);
            let load = Load {
                replay: Some(Replay {
                    frames: produce_frames(id, PARTITIONS, 1_000, shape, -1, now_ms()).into(),
                    connections: CONNECTIONS,
                    in_flight: 5,
                    pace: Pace::per_second(3_000, warm_up + Duration::from_secs(seconds)),
                    answers: Answers::Produce,
                }),
                warm_up,
                ..Load::default()
            };
            let measured = session.measure(|| run_loads(port, vec![load]))?;
            session.delete_topic(TOPIC)?;
            let outcome = &measured.value;
            Ok(vec![
                measured.cpu_us_per(outcome.requests),
                percentile_ms(&outcome.latency, 50.0),
                percentile_ms(&outcome.latency, 99.0),
                measured.peak_mib(),
            ])
        }),
    }]
}
