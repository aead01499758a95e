//! Cleans the log in a partition's folder once and says what it cost: `clean_log FOLDER [DEDUPE_BYTES]`.
//!
//! With `--fill FOLDER BYTES KEYS VALUE_BYTES CODEC` it writes such a log first, keys in random order. For profiles; the
//! comparison with Kafka is the benchmark's.

#![allow(clippy::disallowed_methods)] // It measures.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use strandline_compaction::cleaner::LogSnapshot;
use strandline_compaction::{Cleaner, CleanerConfig};
use strandline_log::record::{
    Batch, BatchBuilder, BatchOptions, Compression, NewRecord, ValidBatch,
};
use strandline_log::{LeaderAppend, Log, LogConfig, OpenLog, TopicId, TopicPartition};

const NOW: i64 = 1_700_000_000_000;

fn open(folder: &Path) -> Log {
    let topic = [
        ("cleanup.policy", "compact"),
        ("segment.bytes", "104857600"),
    ];
    let topic = topic.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let config = LogConfig::from_map(&topic.into(), &BTreeMap::new()).expect("a valid config");
    let tp = TopicPartition::new("keyed", 0);
    let id = TopicId::from_u128(7);
    let open = OpenLog::new(NOW);
    let (log, _) = Log::open(folder, tp, id, Arc::new(config), open).expect("opens");
    log.set_high_watermark(log.log_end_offset());
    log
}

/// A cheap generator: what matters is that keys do not come in order.
fn next(seed: &mut u64) -> u64 {
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    *seed
}

fn fill(log: &Log, bytes: u64, keys: u64, value_bytes: usize, codec: Compression) {
    let mut seed = 88_172_645_463_325_252;
    while log.size_bytes() < bytes {
        let mut builder = BatchBuilder::new(BatchOptions {
            compression: codec,
            ..BatchOptions::default()
        });
        while builder.size_estimate() < 64 << 10 {
            let key = format!("key-{:012}", next(&mut seed) % keys);
            // Half of it compresses.
            let mut value = vec![b'v'; value_bytes];
            for word in value.chunks_mut(16) {
                let random = next(&mut seed).to_le_bytes();
                let len = word.len().min(8);
                word[..len].copy_from_slice(&random[..len]);
            }
            let record = NewRecord {
                timestamp: NOW,
                key: Some(key.into_bytes().into()),
                value: Some(value.into()),
                headers: Vec::new(),
            };
            builder.append(record).expect("fits");
        }
        let batch = Batch::parse(builder.build()).expect("parses");
        let batch = ValidBatch { batch };
        for answer in log.append_as_leader(&[LeaderAppend { batch }], 0, NOW) {
            answer.expect("appends");
        }
    }
    log.set_high_watermark(log.log_end_offset());
    log.roll(NOW).expect("rolls");
    log.flush().expect("flushes");
}

fn status(field: &str) -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").expect("/proc");
    let line = text.lines().find(|line| line.starts_with(field));
    let number = line.and_then(|line| line.split_whitespace().nth(1));
    number.and_then(|n| n.parse().ok()).unwrap_or(0)
}

/// User and system time of this process, in seconds.
fn cpu_seconds() -> f64 {
    let text = std::fs::read_to_string("/proc/self/stat").expect("/proc");
    let after = text.rsplit_once(')').expect("a name").1;
    let fields: Vec<&str> = after.split_whitespace().collect();
    let ticks = |at: usize| fields[at].parse::<f64>().unwrap_or(0.0);
    (ticks(11) + ticks(12)) / 100.0
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [flag, folder, bytes, keys, value_bytes, codec] = &arguments[..]
        && flag == "--fill"
    {
        let number = |text: &str| text.parse::<u64>().expect("a number");
        let codec = Compression::from_name(codec).expect("a codec");
        let log = open(Path::new(folder));
        fill(
            &log,
            number(bytes),
            number(keys),
            number(value_bytes) as usize,
            codec,
        );
        log.close(true).expect("closes");
        println!(
            "{} bytes, {} records",
            log.size_bytes(),
            log.log_end_offset()
        );
        return;
    }
    let folder = arguments.first().expect("a folder");
    let log = open(Path::new(folder));
    let config = CleanerConfig {
        dedupe_buffer_bytes: arguments
            .get(1)
            .map_or(128 << 20, |bytes| bytes.parse().expect("a number")),
        ..CleanerConfig::from_map(&BTreeMap::new())
    };
    let cleaner = Cleaner::new(config, 42);
    let view = LogSnapshot::of(&log).expect("looks").view;
    let plan = view.to_clean(None, NOW);
    let (rss_before, cpu_before, begun) = (status("VmRSS:"), cpu_seconds(), Instant::now());
    let cleaned = cleaner
        .clean(&log, &plan, NOW, &mut |_| ControlFlow::Continue(()))
        .expect("cleans");
    let cpu = cpu_seconds() - cpu_before;
    println!(
        "{} bytes cleaned in {:.2} s, {cpu:.2} CPU s: {:.0} MB per CPU s; resident {} KiB before, {} KiB at most\n{:?}",
        plan.cleanable_bytes,
        begun.elapsed().as_secs_f64(),
        plan.cleanable_bytes as f64 / 1e6 / cpu,
        rss_before,
        status("VmHWM:"),
        cleaned.stats,
    );
}
