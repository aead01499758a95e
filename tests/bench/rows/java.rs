//! Kafka's own performance tools as load. Broker CPU is judged by them too; latency by our own load only, because
//! ProducerPerformance counts from when it got round to sending.

use std::time::Duration;

use anyhow::{Context, ensure};
use strandline_tests::{java_tool, run_to_end};

use super::{BROKERS, Figure, Row, Target};
use crate::session::{HOT_TOPIC, Session};

const DEADLINE: Duration = Duration::from_secs(180);
const TOPIC: &str = "java";

const CPU: Figure = Figure::new("broker CPU", "s/GiB");
const RATE: Figure = Figure::new("throughput", "MB/s");

pub fn rows() -> Vec<Row> {
    vec![
        produce(
            "java-produce-1k",
            "ProducerPerformance: 1,000 B records, acks=all, 64 KiB batches, 6 partitions",
            1000,
            true,
            CPU.kafka(Target::AtMost(0.5)),
        ),
        produce(
            "java-produce-100b",
            "ProducerPerformance: 100 B records, acks=all, 64 KiB batches, 6 partitions",
            100,
            false,
            CPU.kafka(Target::AtMost(1.0 / 3.0)),
        ),
        one_record(),
        consume(),
        end_to_end(),
    ]
}

/// Runs a tool and returns what it printed.
fn run(class: &str, arguments: &[&str]) -> anyhow::Result<String> {
    let mut command = java_tool(&format!("org.apache.kafka.tools.{class}"));
    command.args(arguments);
    let finished = run_to_end(&mut command, DEADLINE);
    ensure!(
        finished.status.success(),
        "{class}: {}\n{}\n{}",
        finished.status,
        finished.stdout,
        finished.stderr
    );
    Ok(finished.stdout)
}

fn produce_with(
    session: &mut Session<'_>,
    partitions: i32,
    records: u64,
    record_bytes: u64,
    properties: &[&str],
) -> anyhow::Result<(crate::session::Measured<String>, f64)> {
    session.ensure_warm()?;
    session.cluster()?.create_topic(TOPIC, partitions, &[])?;
    let bootstrap = session.bootstrap()?;
    let (records, record_bytes) = (records.to_string(), record_bytes.to_string());
    let mut arguments = vec![
        "--bootstrap-server",
        &bootstrap,
        "--topic",
        TOPIC,
        "--num-records",
        &records,
        "--record-size",
        &record_bytes,
        "--throughput",
        "-1",
        "--command-property",
        "acks=all",
    ];
    arguments.extend(properties);
    let measured = session.measure(|| run("ProducerPerformance", &arguments))?;
    session.delete_topic(TOPIC)?;
    let rate = records_per_second(&measured.value)?;
    Ok((measured, rate))
}

/// From the last line: "N records sent, 150000.0 records/sec (143.05 MB/sec), ...".
fn records_per_second(printed: &str) -> anyhow::Result<f64> {
    printed
        .lines()
        .rev()
        .find_map(|line| {
            line.split(" records/sec")
                .next()?
                .rsplit(' ')
                .next()?
                .parse()
                .ok()
        })
        .with_context(|| format!("no rate in {printed}"))
}

fn produce(name: &'static str, what: &str, record_bytes: u64, is_quick: bool, cpu: Figure) -> Row {
    Row {
        name,
        what: what.to_owned(),
        is_quick,
        contenders: BROKERS,
        figures: vec![cpu, RATE, Figure::new("peak memory", "MiB")],
        run: Box::new(move |session| {
            let bytes = session.settings.pick(384 << 20, 512 << 20);
            let records = bytes / record_bytes;
            let properties = ["batch.size=65536", "linger.ms=5"];
            let (measured, rate) = produce_with(session, 6, records, record_bytes, &properties)?;
            Ok(vec![
                measured.cpu_per_gib(bytes),
                rate * record_bytes as f64 / 1e6,
                measured.peak_mib(),
            ])
        }),
    }
}

fn one_record() -> Row {
    Row {
        name: "java-one-record",
        what: "ProducerPerformance: one 100 B record a request, acks=all, 1 partition".to_owned(),
        is_quick: false,
        contenders: BROKERS,
        figures: vec![
            Figure::new("broker CPU", "us/request").kafka(Target::AtMost(0.5)),
            Figure::new("throughput", "requests/s"),
        ],
        run: Box::new(|session| {
            let records = session.settings.pick(60_000, 120_000);
            let properties = ["batch.size=0", "linger.ms=0"];
            let (measured, rate) = produce_with(session, 1, records, 100, &properties)?;
            Ok(vec![measured.cpu_us_per(records), rate])
        }),
    }
}

fn consume() -> Row {
    Row {
        name: "java-consume",
        what: "ConsumerPerformance: 1 KB records, hot".to_owned(),
        is_quick: false,
        contenders: BROKERS,
        figures: vec![CPU.kafka(Target::AtMost(0.5)), RATE],
        run: Box::new(|session| {
            let topic = session.hot_topic()?;
            let bootstrap = session.bootstrap()?;
            let end = topic.end;
            let measured = session.measure(|| consume_all(&bootstrap, HOT_TOPIC, end))?;
            let mib = measured.value.mib;
            Ok(vec![
                measured.cpu_per_gib((mib * f64::from(1 << 20)) as u64),
                measured.value.mib_per_second * f64::from(1 << 20) / 1e6,
            ])
        }),
    }
}

/// What ConsumerPerformance says that it has read.
pub(super) struct Consumed {
    pub mib: f64,
    /// While it fetched.
    pub mib_per_second: f64,
}

/// Reads so many records of a topic from its beginning.
pub(super) fn consume_all(bootstrap: &str, topic: &str, records: i64) -> anyhow::Result<Consumed> {
    let records = records.to_string();
    let arguments = [
        "--bootstrap-server",
        bootstrap,
        "--topic",
        topic,
        "--num-records",
        &records,
        "--hide-header",
    ];
    let printed = run("ConsumerPerformance", &arguments)?;
    // start, end, MB consumed, MB/s, records, records/s, rebalance ms, fetch ms, fetch MB/s, fetch records/s
    let fields: Vec<&str> = printed.trim().split(',').map(str::trim).collect();
    let field = |at: usize| -> anyhow::Result<f64> {
        let text = fields
            .get(at)
            .context("ConsumerPerformance printed too little")?;
        text.parse().with_context(|| format!("{text} in {printed}"))
    };
    Ok(Consumed {
        mib: field(2)?,
        mib_per_second: field(8)?,
    })
}

fn end_to_end() -> Row {
    Row {
        name: "java-end-to-end",
        what: "EndToEndLatency: 100 B records, acks=all".to_owned(),
        is_quick: false,
        contenders: BROKERS,
        figures: vec![
            Figure::new("mean", "ms"),
            Figure::new("p99", "ms"),
            Figure::new("p99.9", "ms"),
        ],
        run: Box::new(|session| {
            session.ensure_warm()?;
            session.cluster()?.create_topic(TOPIC, 1, &[])?;
            let bootstrap = session.bootstrap()?;
            let records = session.settings.pick("3000", "5000");
            let arguments = [
                "--bootstrap-server",
                &bootstrap,
                "--topic",
                TOPIC,
                "--num-records",
                records,
                "--producer-acks",
                "all",
                "--record-size",
                "100",
            ];
            let measured = session.measure(|| run("EndToEndLatency", &arguments))?;
            session.delete_topic(TOPIC)?;
            let printed = &measured.value;
            let number = |after: &str| -> anyhow::Result<f64> {
                let (_, rest) = printed
                    .split_once(after)
                    .with_context(|| format!("no {after:?} in {printed}"))?;
                let text: String = rest
                    .trim_start()
                    .chars()
                    .take_while(|c| c.is_ascii_digit() || *c == '.')
                    .collect();
                text.parse()
                    .with_context(|| format!("{text:?} in {printed}"))
            };
            Ok(vec![
                number("Avg latency:")?,
                number("99th =")?,
                number("99.9th =")?,
            ])
        }),
    }
}
