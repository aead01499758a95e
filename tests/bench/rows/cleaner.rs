//! Keyed compaction: bytes cleaned per CPU second, and memory beyond the map of keys, on the same files.
//!
//! The files are written once, by strandline-log; they are Kafka's format. Each contender gets a copy as a topic that
//! deletes, is started, and then told that the topic compacts: what it spends from there on until its checkpoint says
//! that all is clean is what counts. A smaller topic is cleaned first, so that no JVM is measured cold.

#![allow(clippy::disallowed_methods)] // A driver waits with deadlines.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use strandline_log::record::{
    Batch, BatchBuilder, BatchOptions, Compression, NewRecord, ValidBatch,
};
use strandline_log::{LeaderAppend, Log, LogConfig, OpenLog, TopicId, TopicPartition};
use strandline_tests::now_ms;

use super::{BROKERS, Figure, Row, Target};
use crate::session::Session;

const TOPIC: &str = "keyed";
const WARM_UP_TOPIC: &str = "keyed-before";
const WARM_UP_BYTES: u64 = 200 << 20;
const SEGMENT_BYTES: &str = "104857600";
/// The same limit for both. Kafka takes all of it at its start; we take what the log's offsets can fill.
const MAP_BYTES: u64 = 32 << 20;
const PROPERTIES: &str = "log.cleaner.dedupe.buffer.size=33554432\nlog.cleaner.backoff.ms=200\n";
/// Both of us spend as much on a key, and fill the map as far.
const ENTRY_BYTES: u64 = 24;
const LOAD_FACTOR: f64 = 0.9;
/// So few that one round is enough.
const KEYS: u64 = 500_000;
const BATCH_BYTES: usize = 16 << 10;
const CHECKPOINT: &str = "cleaner-offset-checkpoint";
const DEADLINE: Duration = Duration::from_secs(600);
/// After a start, brokers have things to do.
const SETTLE: Duration = Duration::from_secs(3);

pub fn rows() -> Vec<Row> {
    vec![
        row("clean-1k", "1 KB values", 1_000, Compression::None, true),
        row("clean-100b", "100 B values", 100, Compression::None, false),
        row(
            "clean-100b-lz4",
            "100 B values in lz4",
            100,
            Compression::Lz4,
            false,
        ),
    ]
}

fn row(
    name: &'static str,
    what: &str,
    value_bytes: usize,
    codec: Compression,
    is_quick: bool,
) -> Row {
    Row {
        name,
        what: format!(
            "cleaning a keyed log of {what}, {KEYS} keys in random order, 16 KiB batches"
        ),
        is_quick,
        contenders: BROKERS,
        figures: vec![
            Figure::new("cleaned per CPU second", "MB").kafka(Target::AtLeast(3.0)),
            Figure::new("peak memory less the map", "MiB").kafka(Target::AtMost(0.125)),
            Figure::new("growth of memory less the map", "MiB"),
            Figure::new("time", "s"),
            Figure::new("left of the log", "%"),
        ],
        run: Box::new(move |session| run(session, value_bytes, codec)),
    }
}

fn run(
    session: &mut Session<'_>,
    value_bytes: usize,
    codec: Compression,
) -> anyhow::Result<Vec<f64>> {
    let bytes = session.settings.pick(512 << 20, 1 << 30);
    let source = session
        .settings
        .server
        .folder
        .join(format!("keyed-{value_bytes}-{}-{bytes}", codec.name()));
    let end = fill(&source, bytes, value_bytes, codec)?;
    let small = session.settings.server.folder.join("keyed-warm-up");
    let small_end = fill(&small, WARM_UP_BYTES, value_bytes, codec)?;

    let mut options = session.settings.server.clone();
    options.properties.push_str(PROPERTIES);
    session.start_fresh_with(&options)?;
    for topic in [TOPIC, WARM_UP_TOPIC] {
        session.cluster()?.create_topic(
            topic,
            1,
            &[
                ("cleanup.policy", "delete"),
                ("retention.ms", "-1"),
                ("segment.bytes", SEGMENT_BYTES),
                ("min.cleanable.dirty.ratio", "0.01"),
            ],
        )?;
    }
    session.server()?.stop();
    let data = session.server()?.data();
    put_files(&source, &data.join(format!("{TOPIC}-0")))?;
    put_files(&small, &data.join(format!("{WARM_UP_TOPIC}-0")))?;
    session.start_again()?;
    for topic in [TOPIC, WARM_UP_TOPIC] {
        session.cluster()?.wait_until_served(topic, 1)?;
    }
    compact(session, WARM_UP_TOPIC, &data, small_end)?;
    std::thread::sleep(SETTLE);
    let resident = crate::usage::usage_of(session.pid()?)?.resident_bytes;
    let before = log_bytes(&data.join(format!("{TOPIC}-0")))?;
    let begun = Instant::now();
    // What `measure` runs may not borrow the session.
    let cluster = crate::cluster::Cluster::new(session.server()?.port())?;
    let measured = session.measure(|| {
        cluster.alter_topic(TOPIC, "cleanup.policy", "compact")?;
        wait_until_clean(TOPIC, &data, end)
    })?;
    let took = begun.elapsed().as_secs_f64();
    let left = log_bytes(&data.join(format!("{TOPIC}-0")))?;
    session.discard();
    let mib = |bytes: i128| bytes as f64 / f64::from(1 << 20);
    let ours = session.contender == crate::contender::Contender::Strandline;
    let map_bytes = match ours {
        true => MAP_BYTES.min((end as f64 / LOAD_FACTOR) as u64 * ENTRY_BYTES),
        false => MAP_BYTES,
    };
    let peak = i128::from(measured.peak_bytes) - i128::from(map_bytes);
    // Kafka's map is there before the measurement, ours comes with it.
    let growth = i128::from(measured.peak_bytes) - i128::from(resident);
    let growth = growth - if ours { i128::from(map_bytes) } else { 0 };
    Ok(vec![
        before as f64 / 1e6 / measured.cpu.as_secs_f64(),
        mib(peak),
        mib(growth),
        took,
        100.0 * left as f64 / before as f64,
    ])
}

fn compact(session: &mut Session<'_>, topic: &str, data: &Path, end: i64) -> anyhow::Result<()> {
    session
        .cluster()?
        .alter_topic(topic, "cleanup.policy", "compact")?;
    wait_until_clean(topic, data, end)
}

/// Until the checkpoint has come to the active segment.
fn wait_until_clean(topic: &str, data: &Path, end: i64) -> anyhow::Result<()> {
    let deadline = Instant::now() + DEADLINE;
    let line = format!("{topic} 0 ");
    loop {
        let text = std::fs::read_to_string(data.join(CHECKPOINT)).unwrap_or_default();
        let cleaned = text
            .lines()
            .find_map(|found| found.strip_prefix(&line)?.parse::<i64>().ok());
        if cleaned.is_some_and(|offset| offset >= end) {
            return Ok(());
        }
        ensure!(
            Instant::now() < deadline,
            "{topic} is clean up to {cleaned:?}, not {end}"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn log_bytes(folder: &Path) -> anyhow::Result<u64> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        if entry.path().extension().is_some_and(|e| e == "log") {
            bytes += entry.metadata()?.len();
        }
    }
    Ok(bytes)
}

/// Replaces the segments of a partition that nobody has open.
fn put_files(source: &Path, folder: &Path) -> anyhow::Result<()> {
    let is_log = |path: &PathBuf| {
        let kinds = ["log", "index", "timeindex", "snapshot"];
        let kind = path.extension().and_then(|e| e.to_str());
        kind.is_some_and(|kind| kinds.contains(&kind)) || path.ends_with("leader-epoch-checkpoint")
    };
    let list = |folder: &Path| -> anyhow::Result<Vec<PathBuf>> {
        let entries = std::fs::read_dir(folder).with_context(|| folder.display().to_string())?;
        let paths = entries.map(|entry| Ok(entry?.path()));
        let paths: Vec<PathBuf> = paths.collect::<anyhow::Result<_>>()?;
        Ok(paths.into_iter().filter(is_log).collect())
    };
    for path in list(folder)? {
        std::fs::remove_file(path)?;
    }
    for path in list(source)? {
        let name = path.file_name().context("a file has a name")?;
        std::fs::copy(&path, folder.join(name))?;
    }
    Ok(())
}

/// A cheap generator: what matters is that keys do not come in order.
fn next(seed: &mut u64) -> u64 {
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    *seed
}

/// Writes the log, unless it is there. Tells the base offset of its active segment, which is empty.
fn fill(folder: &Path, bytes: u64, value_bytes: usize, codec: Compression) -> anyhow::Result<i64> {
    let topic = BTreeMap::from([("segment.bytes".to_owned(), SEGMENT_BYTES.to_owned())]);
    let config = LogConfig::from_map(&topic, &BTreeMap::new())?;
    let (log, _) = Log::open(
        folder,
        TopicPartition::new(TOPIC, 0),
        TopicId::from_u128(7),
        Arc::new(config),
        OpenLog::new(now_ms()),
    )?;
    let mut seed = 88_172_645_463_325_252;
    let is_filled = log.size_bytes() >= bytes;
    while log.size_bytes() < bytes {
        let mut builder = BatchBuilder::new(BatchOptions {
            compression: codec,
            ..BatchOptions::default()
        });
        while builder.size_estimate() < BATCH_BYTES {
            let key = format!("key-{:012}", next(&mut seed) % KEYS);
            // Half of it compresses.
            let mut value = vec![b'v'; value_bytes];
            for word in value.chunks_mut(16) {
                let random = next(&mut seed).to_le_bytes();
                let len = word.len().min(8);
                word[..len].copy_from_slice(&random[..len]);
            }
            builder.append(NewRecord {
                timestamp: now_ms(),
                key: Some(key.into_bytes().into()),
                value: Some(value.into()),
                headers: Vec::new(),
            })?;
        }
        let batch = Batch::parse(builder.build())?;
        let append = LeaderAppend {
            batch: ValidBatch { batch },
        };
        for answer in log.append_as_leader(&[append], 0, now_ms()) {
            if let Err(error) = answer {
                bail!("filling {}: {error}", folder.display());
            }
        }
    }
    if !is_filled {
        log.roll(now_ms())?;
    }
    let end = log.log_end_offset();
    log.close(true)?;
    Ok(end)
}
