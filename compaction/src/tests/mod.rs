//! Logs in temporary folders, and what the tests do with them.

mod histories;
mod readers;
mod rounds;
mod transactions;

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use strandline_log::file_cache::FileCache;
use strandline_log::record::{
    Batch, BatchBuilder, BatchHeader, BatchOptions, Compression, DecodeLimit, NewRecord, Record,
    ValidBatch, batches_of, records_of,
};
use strandline_log::{
    LeaderAppend, Log, LogConfig, Offset, OpenLog, TimestampMs, TopicId, TopicPartition,
};

use crate::cleaner::{CleanError, Cleaned, Cleaner, LogSnapshot};
use crate::config::CleanerConfig;
use crate::plan::LogToClean;

pub const NOW: TimestampMs = 1_700_000_000_000;

pub fn config(changes: &[(&str, &str)]) -> LogConfig {
    let mut map: BTreeMap<String, String> = [
        ("cleanup.policy", "compact"),
        ("internal.segment.bytes", "1000"),
        ("index.interval.bytes", "150"),
        ("file.delete.delay.ms", "0"),
        ("delete.retention.ms", "10000"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into();
    for (name, value) in changes {
        map.insert((*name).to_owned(), (*value).to_owned());
    }
    LogConfig::from_map(&map, &BTreeMap::new()).expect("a valid config")
}

/// Opens the log as after a crash that lost nothing of the page cache.
pub fn open(dir: &Path, config: &LogConfig, recovery_point: Offset) -> Log {
    let open = OpenLog {
        recovery_point,
        files: FileCache::new(2),
        ..OpenLog::new(NOW)
    };
    let tp = TopicPartition::new("t", 0);
    let (log, _) = Log::open(
        dir,
        tp,
        TopicId::from_u128(7),
        Arc::new(config.clone()),
        open,
    )
    .expect("opens");
    log.set_high_watermark(log.log_end_offset());
    log
}

/// Drops the log without closing it, and opens it again.
pub fn crash(log: Log) -> Log {
    let (dir, config) = (log.dir().to_owned(), (*log.config()).clone());
    let recovery_point = log.recovery_point();
    drop(log);
    open(&dir, &config, recovery_point)
}

pub fn record(key: &str, value: Option<&str>, timestamp: TimestampMs) -> NewRecord {
    NewRecord {
        timestamp,
        key: Some(Bytes::from(key.to_owned())),
        value: value.map(|value| Bytes::from(value.to_owned())),
        headers: Vec::new(),
    }
}

pub fn batch(records: &[NewRecord], options: BatchOptions) -> Bytes {
    let mut builder = BatchBuilder::new(options);
    for record in records {
        builder.append(record.clone()).expect("fits");
    }
    builder.build()
}

/// Appends one batch and commits it.
pub fn append(log: &Log, records: &[NewRecord], options: BatchOptions, now_ms: TimestampMs) {
    let batch = Batch::parse(batch(records, options)).expect("parses");
    let append = LeaderAppend {
        batch: ValidBatch { batch },
    };
    for answer in log.append_as_leader(&[append], 0, now_ms) {
        answer.expect("appends");
    }
    log.set_high_watermark(log.log_end_offset());
}

/// Puts `key=value` pairs into one batch; a value of `-` is a tombstone.
pub fn put(log: &Log, pairs: &[&str], compression: Compression, now_ms: TimestampMs) {
    let records: Vec<_> = pairs
        .iter()
        .map(|pair| {
            let (key, value) = pair.split_once('=').expect("key=value");
            record(key, (value != "-").then_some(value), now_ms)
        })
        .collect();
    let options = BatchOptions {
        compression,
        ..BatchOptions::default()
    };
    append(log, &records, options, now_ms);
}

pub fn cleaner(keys_max: usize) -> Cleaner {
    let config = CleanerConfig {
        // The load factor of 0.9 takes off a tenth.
        dedupe_buffer_bytes: (keys_max * 10 / 9 + 1) * crate::offset_map::ENTRY_BYTES,
        io_buffer_bytes: 300,
        ..CleanerConfig::from_map(&BTreeMap::new())
    };
    Cleaner::new(config, 42)
}

pub fn plan(log: &Log, checkpoint: Option<Offset>, now_ms: TimestampMs) -> LogToClean {
    let snapshot = LogSnapshot::of(log).expect("looks");
    snapshot.view.to_clean(checkpoint, now_ms)
}

pub fn clean(
    log: &Log,
    checkpoint: Option<Offset>,
    now_ms: TimestampMs,
) -> Result<Cleaned, CleanError> {
    let plan = plan(log, checkpoint, now_ms);
    cleaner(10_000).clean(log, &plan, now_ms, &mut |_| ControlFlow::Continue(()))
}

/// All bytes of the log from its start.
pub fn bytes_of(log: &Log) -> Bytes {
    let mut all = Vec::new();
    for segment in log.log_segments().iter() {
        let file = segment.file().expect("opens");
        let slice = strandline_log::FileSlice {
            file,
            position: 0,
            len: segment.size() as usize,
        };
        all.extend_from_slice(&slice.read_to_bytes().expect("reads"));
    }
    all.into()
}

pub fn headers(log: &Log) -> Vec<BatchHeader> {
    batches_of(bytes_of(log))
        .map(|batch| {
            let batch = batch.expect("whole batches");
            batch.verify_crc().expect("the CRC is right");
            batch.header
        })
        .collect()
}

pub fn records(log: &Log) -> Vec<Record> {
    records_of(bytes_of(log), DecodeLimit::default())
        .collect::<Result<_, _>>()
        .expect("records")
}

/// `offset:key=value` of every record.
pub fn contents(log: &Log) -> Vec<String> {
    let text = |bytes: &Option<Bytes>| match bytes {
        Some(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        None => "-".to_owned(),
    };
    records(log)
        .iter()
        .map(|r| format!("{}:{}={}", r.offset, text(&r.key), text(&r.value)))
        .collect()
}
