//! flush.messages=1: every commit is on disk before it is acknowledged.

use std::time::Duration;

use strandline_log::TopicId;
use strandline_tests::now_ms;

use super::{Figure, Row, Target, WITH_FLOOR};
use crate::contender::Contender;
use crate::floor::FloorMode;
use crate::load::{Answers, Load, Pace, Replay, Shape, percentile_ms, produce_frames, run_loads};

const TOPIC: &str = "synced";

pub fn rows() -> Vec<Row> {
    vec![
        row("fsync-1", 1),
        row("fsync-16", 16),
        row("fsync-256", 256),
    ]
}

fn load(id: TopicId, producers: usize, duration: Duration, answers: Answers) -> Load {
    Load {
        replay: Some(Replay {
            frames: produce_frames(id, 1, 16, Shape::ONE_RECORD, -1, now_ms()).into(),
            connections: producers,
            in_flight: 1,
            pace: Pace::Timed { duration },
            answers,
        }),
        ..Load::default()
    }
}

fn row(name: &'static str, producers: usize) -> Row {
    let rate = Figure::new("throughput", "records/s");
    let rate = match producers {
        256 => rate.kafka(Target::AtLeast(5.0)).floor(Target::AtLeast(0.5)),
        _ => rate,
    };
    Row {
        name,
        what: format!(
            "flush.messages=1: {producers} producers of one 100 B record at a time, 1 partition"
        ),
        is_quick: false,
        contenders: WITH_FLOOR,
        figures: vec![rate, Figure::new("p99", "ms")],
        run: Box::new(move |session| {
            let warm_up = Duration::from_millis(500);
            let duration = Duration::from_secs(session.settings.pick(2, 3));
            let measured = if session.contender == Contender::Floor {
                let load = |duration| load(TopicId::nil(), producers, duration, Answers::Any);
                session.measure_floor(
                    FloorMode::Sync,
                    0,
                    vec![load(warm_up)],
                    vec![load(duration)],
                )?
            } else {
                session.ensure_warm()?;
                let id = session
                    .cluster()?
                    .create_topic(TOPIC, 1, &[("flush.messages", "1")])?;
                let port = session.port()?;
                let load = |duration| load(id, producers, duration, Answers::Produce);
                run_loads(port, vec![load(warm_up)])?;
                let measured = session.measure(|| run_loads(port, vec![load(duration)]))?;
                session.delete_topic(TOPIC)?;
                measured
            };
            let outcome = &measured.value;
            Ok(vec![
                outcome.per_second(outcome.records),
                percentile_ms(&outcome.latency, 99.0),
            ])
        }),
    }
}
