//! A log in a temporary folder, and what the tests do with it.

mod append;
mod damage;
mod model;
mod read;
mod recovery;
mod retain;
mod tier_start;
mod time;

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use super::*;
use crate::record::{
    Batch, BatchBuilder, BatchOptions, Compression, DecodeLimit, NewRecord, ValidBatch, records_of,
};

pub const NOW: TimestampMs = 1_700_000_000_000;

pub fn config() -> LogConfig {
    LogConfig {
        segment_bytes: 1_000,
        index_interval_bytes: 150,
        file_delete_delay_ms: 0,
        ..LogConfig::default()
    }
}

pub fn open_with(
    dir: &Path,
    config: LogConfig,
    change: impl FnOnce(&mut OpenLog),
) -> Result<(Log, RecoveryReport), LogError> {
    let mut open = OpenLog::new(NOW);
    change(&mut open);
    Log::open(
        dir,
        TopicPartition::new("t", 0),
        TopicId::from_u128(7),
        config.into_shared(),
        open,
    )
}

pub fn open(dir: &Path) -> Log {
    open_with(dir, config(), |_| ()).expect("opens").0
}

pub fn reopen(log: Log, clean: bool) -> (Log, RecoveryReport) {
    let (dir, config, recovery_point) = (
        log.dir().to_owned(),
        (*log.config()).clone(),
        log.recovery_point(),
    );
    let log_start = log.log_start_offset();
    log.close(clean).expect("closes");
    let recovery_point = if clean {
        log.recovery_point()
    } else {
        recovery_point
    };
    drop(log);
    open_with(&dir, config, |open| {
        open.clean_shutdown = clean;
        open.recovery_point = recovery_point;
        open.log_start_offset = log_start;
    })
    .expect("opens again")
}

/// A batch with these timestamps, each record's value its timestamp.
pub fn batch_of(timestamps: &[TimestampMs], options: BatchOptions) -> LeaderAppend {
    let mut builder = BatchBuilder::new(options);
    for timestamp in timestamps {
        builder
            .append(NewRecord {
                timestamp: *timestamp,
                key: None,
                value: Some(Bytes::from(timestamp.to_string())),
                headers: Vec::new(),
            })
            .expect("fits");
    }
    let batch = Batch::parse(builder.build()).expect("parses");
    LeaderAppend {
        batch: ValidBatch { batch },
    }
}

pub fn batch(records: usize) -> LeaderAppend {
    batch_of(&vec![NOW; records], BatchOptions::default())
}

pub fn idempotent(producer_id: i64, base_sequence: i32, records: usize) -> LeaderAppend {
    let options = BatchOptions {
        producer_id,
        producer_epoch: 0,
        base_sequence,
        ..BatchOptions::default()
    };
    batch_of(&vec![NOW; records], options)
}

pub fn compressed(timestamps: &[TimestampMs], compression: Compression) -> LeaderAppend {
    let options = BatchOptions {
        compression,
        ..BatchOptions::default()
    };
    batch_of(timestamps, options)
}

/// Appends each batch with a call of its own and commits it.
pub fn append_all(log: &Log, batches: &[LeaderAppend]) {
    for batch in batches {
        for answer in log.append_as_leader(std::slice::from_ref(batch), 0, NOW) {
            answer.expect("appends");
        }
    }
    log.set_high_watermark(log.log_end_offset());
}

/// The bytes of a read, put together.
pub fn bytes_of(read: &LogRead) -> Bytes {
    let mut all = Vec::new();
    for slice in &read.slices {
        all.extend_from_slice(&slice.read_to_bytes().expect("reads"));
    }
    assert_eq!(all.len(), read.bytes);
    all.into()
}

/// Offset and value of every record from `from` to the end.
pub fn records(log: &Log, from: Offset) -> Vec<(Offset, String)> {
    let mut found = Vec::new();
    let mut from = from;
    loop {
        let read = log
            .read(from, log.log_end_offset(), 700, true)
            .expect("reads");
        if read.is_empty() {
            return found;
        }
        let bytes = bytes_of(&read);
        let mut next = from;
        // The last batch may be cut short.
        for record in records_of(bytes, DecodeLimit::default()).map_while(Result::ok) {
            next = record.offset + 1;
            if record.offset >= from {
                let value = record.value.expect("has a value");
                found.push((
                    record.offset,
                    String::from_utf8(value.to_vec()).expect("text"),
                ));
            }
        }
        assert!(next > from, "a read makes progress");
        from = next;
    }
}

pub fn log_file(dir: &Path, base_offset: Offset) -> PathBuf {
    crate::segment_files::segment_path(dir, base_offset, crate::segment_files::SegmentFile::Log)
}

pub fn file_names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> = std::fs::read_dir(dir)
        .expect("lists")
        .map(|e| {
            e.expect("lists")
                .file_name()
                .into_string()
                .expect("is text")
        })
        .collect();
    names.sort();
    names
}

pub fn shared(config: LogConfig) -> Arc<LogConfig> {
    Arc::new(config)
}
