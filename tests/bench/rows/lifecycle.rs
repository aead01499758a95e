//! Starting, idling and starting again: these rows have a broker of their own.

#![allow(clippy::disallowed_methods)] // They measure time.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use anyhow::Context;
use strandline_tests::now_ms;

use super::{BROKERS, Figure, Row, Target};
use crate::contender::Contender;
use crate::load::{Answers, Load, Pace, Replay, Shape, produce_frames, run_loads};
use crate::session::Session;
use crate::usage::usage_of;

const PARTITIONS: i32 = 1_000;
const TOPIC: &str = "thousand";

/// First in a round: the broker that it leaves is the one that the others use.
pub fn start() -> Vec<Row> {
    vec![Row {
        name: "start",
        what: "fresh start to first answered Metadata".to_owned(),
        is_quick: true,
        contenders: BROKERS,
        figures: vec![
            Figure::new("time", "ms").kafka(Target::AtMost(0.05)),
            Figure::new("resident then", "MiB"),
        ],
        run: Box::new(|session| {
            let mut times = Vec::new();
            // Kafka takes seconds to start, and every round adds a sample.
            let starts = match session.contender {
                Contender::Strandline => 5,
                _ => 1,
            };
            for _ in 0..starts {
                times.push(session.start_fresh()?.as_secs_f64() * 1000.0);
            }
            times.sort_by(f64::total_cmp);
            let resident = usage_of(session.pid()?)?.resident_bytes;
            Ok(vec![times[times.len() / 2], mib(resident)])
        }),
    }]
}

pub fn rows() -> Vec<Row> {
    vec![idle(), restart(), smallest_heap()]
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

fn idle() -> Row {
    Row {
        name: "idle-1000p",
        what: "a fresh broker with 1,000 partitions, 8 s after they were made".to_owned(),
        is_quick: false,
        contenders: BROKERS,
        figures: vec![
            Figure::new("resident", "MiB").kafka(Target::AtMost(0.1)),
            Figure::new("CPU", "ms/s"),
        ],
        run: Box::new(|session| {
            session.start_fresh()?;
            session.cluster()?.create_topic(TOPIC, PARTITIONS, &[])?;
            std::thread::sleep(Duration::from_secs(3));
            let pid = session.pid()?;
            let before = usage_of(pid)?;
            let wait = Duration::from_secs(5);
            std::thread::sleep(wait);
            let after = usage_of(pid)?;
            session.discard();
            let cpu = after.cpu_since(&before).as_secs_f64() * 1000.0 / wait.as_secs_f64();
            Ok(vec![mib(after.resident_bytes), cpu])
        }),
    }
}

/// Until every partition answers ListOffsets. The page cache stays warm; what is dirty at a crash stays in it too, as
/// it does when a process dies and the machine lives.
fn restart() -> Row {
    Row {
        name: "restart",
        what: "start again with 1,000 partitions and 10 GB of log, until every partition answers ListOffsets".to_owned(),
        is_quick: false,
        contenders: BROKERS,
        figures: vec![
            Figure::new("after SIGTERM", "ms").kafka(Target::AtMost(0.1)),
            Figure::new("after SIGKILL", "ms").kafka(Target::AtMost(0.1)),
            Figure::new("CPU after SIGKILL", "s"),
        ],
        run: Box::new(|session| {
            const BYTES: u64 = 10_000_000_000;
            session.start_fresh()?;
            let id = session.cluster()?.create_topic(TOPIC, PARTITIONS, &[])?;
            session.fill(id, PARTITIONS, BYTES)?;
            rustix::fs::sync();
            session.server()?.stop();
            let clean = start_until_served(session)?;
            // Something that a crash leaves to recover.
            let frames = produce_frames(id, PARTITIONS, 1_000, Shape::KILOBYTE, -1, now_ms());
            let load = Load {
                replay: Some(Replay {
                    frames: frames.into(),
                    connections: 8,
                    in_flight: 1,
                    pace: Pace::Closed { requests: 4_000 },
                    answers: Answers::Produce,
                }),
                ..Load::default()
            };
            run_loads(session.port()?, vec![load])?;
            session.server()?.kill();
            let crash = start_until_served(session)?;
            let cpu = usage_of(session.pid()?)?.cpu();
            session.discard();
            Ok(vec![clean, crash, cpu.as_secs_f64()])
        }),
    }
}

fn start_until_served(session: &mut Session<'_>) -> anyhow::Result<f64> {
    let begin = Instant::now();
    session.start_again()?;
    session.cluster()?.wait_until_served(TOPIC, PARTITIONS)?;
    Ok(begin.elapsed().as_secs_f64() * 1000.0)
}

/// Heaps to try, the smallest first.
const HEAPS_MIB: [u32; 6] = [96, 128, 192, 256, 384, 512];
/// One that is too small may never start.
const TRIAL_DEADLINE: Duration = Duration::from_secs(40);
/// A heap passes when throughput is at least this share of the 1 GiB heap's.
const PASSES: f64 = 0.8;
/// What the first round has found.
static SMALLEST_HEAP_MIB: OnceLock<u32> = OnceLock::new();

/// Kafka's memory with the smallest heap that passes the base row, beside ours on the same row.
fn smallest_heap() -> Row {
    Row {
        name: "smallest-heap",
        what: "peak memory on the base produce row; Kafka with the smallest heap that keeps 80 % of its throughput".to_owned(),
        is_quick: false,
        contenders: BROKERS,
        figures: vec![
            Figure::new("peak memory", "MiB").kafka(Target::AtMost(0.25)),
            Figure::new("heap", "MiB"),
        ],
        run: Box::new(|session| {
            let mut options = session.settings.server.clone();
            session.start_fresh_with(&options)?;
            let (wanted, peak) = base(session)?;
            if session.contender == Contender::Strandline {
                session.discard();
                return Ok(vec![peak, 0.0]);
            }
            options.start_deadline = TRIAL_DEADLINE;
            let mut try_heap = |heap_mib| {
                options.heap_mib = heap_mib;
                let tried = session
                    .start_fresh_with(&options)
                    .and_then(|_| base(session));
                tried.ok().filter(|(rate, _)| *rate >= wanted * PASSES)
            };
            // The first round searches; the others measure what it has found.
            let first = *SMALLEST_HEAP_MIB.get_or_init(|| {
                let at = HEAPS_MIB.partition_point(|heap_mib| try_heap(*heap_mib).is_none());
                HEAPS_MIB[at.min(HEAPS_MIB.len() - 1)]
            });
            let found = HEAPS_MIB
                .into_iter()
                .filter(|heap_mib| *heap_mib >= first)
                .find_map(|heap_mib| Some((try_heap(heap_mib)?.1, heap_mib)));
            session.discard();
            let (peak, heap_mib) = found.context("no heap passes")?;
            Ok(vec![peak, f64::from(heap_mib)])
        }),
    }
}

/// Throughput and peak memory of the base produce row on a broker that is not warm.
fn base(session: &mut Session<'_>) -> anyhow::Result<(f64, f64)> {
    let id = session.cluster()?.create_topic(TOPIC, 1, &[])?;
    let port = session.port()?;
    let load = |requests| Load {
        replay: Some(Replay {
            frames: produce_frames(id, 1, 16, Shape::KILOBYTE, -1, now_ms()).into(),
            connections: 8,
            in_flight: 2,
            pace: Pace::Closed { requests },
            answers: Answers::Produce,
        }),
        ..Load::default()
    };
    run_loads(port, vec![load(4_000)])?;
    let measured = session.measure(|| run_loads(port, vec![load(16_000)]))?;
    session.delete_topic(TOPIC)?;
    let outcome = &measured.value;
    Ok((outcome.per_second(outcome.requests), measured.peak_mib()))
}
