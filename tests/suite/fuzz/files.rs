//! Damaged indexes, snapshots, checkpoints and segments: a log opens or says why not, and never gives out what was not
//! written.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use strandline_log::producer_state::ProducerStateManager;
use strandline_log::record::{
    Batch, BatchBuilder, BatchOptions, NewRecord, ValidBatch, batches_of,
};
use strandline_log::{
    LeaderAppend, Log, LogConfig, LogManager, LogManagerConfig, TopicId, TopicPartition,
};
use strandline_tests::now_ms;

use super::Mutator;
use super::batches::run;

const EXPIRATION_MS: i64 = 86_400_000;

fn manager(dir: &Path) -> LogManager {
    LogManager::open(LogManagerConfig {
        dirs: vec![dir.to_owned()],
        node_id: 1,
        cluster_id: "fuzzed".to_owned(),
        recovery_threads: 1,
        producer_id_expiration_ms: EXPIRATION_MS,
        open_files_max: 64,
        new_directory_id: || TopicId::from_u128(5),
    })
    .expect("the folder opens")
}

fn config() -> Arc<LogConfig> {
    LogConfig {
        segment_bytes: 4000,
        index_interval_bytes: 200,
        ..LogConfig::default()
    }
    .into_shared()
}

fn batch(number: i32) -> Bytes {
    let mut builder = BatchBuilder::new(BatchOptions {
        producer_id: 7 + i64::from(number % 3),
        producer_epoch: 0,
        base_sequence: number / 3 * 2,
        ..BatchOptions::default()
    });
    for part in 0..2 {
        builder
            .append(NewRecord {
                timestamp: now_ms(),
                key: None,
                value: Some(format!("{number}.{part}").repeat(10).into()),
                headers: Vec::new(),
            })
            .expect("a record");
    }
    builder.build()
}

/// Offset and value of every record that a log gives out.
fn read_all(log: &Log) -> Vec<(i64, Bytes)> {
    let end = log.log_end_offset();
    let mut records = Vec::new();
    let mut from = log.log_start_offset();
    while from < end {
        let Ok(read) = log.read(from, end, 3000, true) else {
            break;
        };
        let before = from;
        for slice in &read.slices {
            let Ok(bytes) = slice.read_to_bytes() else {
                break;
            };
            for batch in batches_of(bytes).map_while(Result::ok) {
                if batch.verify_crc().is_err() {
                    return records;
                }
                let all = batch
                    .records(Default::default())
                    .expect("its checksum is right");
                records.extend(
                    all.flatten()
                        .filter_map(|record| Some((record.offset, record.value?))),
                );
                from = from.max(batch.header.next_offset());
            }
        }
        if from == before {
            break;
        }
    }
    records
}

/// A log of some segments, closed cleanly or not, and what it held.
fn make(dir: &Path, clean: bool) -> Vec<(i64, Bytes)> {
    let manager = manager(dir);
    manager
        .load_logs(&|_, _| None, now_ms())
        .expect("nothing to load");
    let tp = TopicPartition::new("fuzzed", 0);
    let log = manager
        .create(&tp, TopicId::from_u128(9), config(), now_ms())
        .expect("a log");
    for number in 0..150 {
        let batch = Batch::parse(batch(number)).expect("a batch");
        let append = LeaderAppend {
            batch: ValidBatch { batch },
        };
        for result in log.append_as_leader(&[append], 1 + number / 50, now_ms()) {
            result.expect("appended");
        }
    }
    log.set_high_watermark(log.log_end_offset());
    manager.checkpoint().expect("checkpoints");
    let records = read_all(&log);
    assert_eq!(records.len(), 300);
    if clean {
        manager.shutdown_clean().expect("closed");
    }
    records
}

/// All files below a folder, with their bytes.
fn contents(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
            match entry.file_type().expect("a type").is_dir() {
                true => folders.push(entry.path()),
                false => {
                    let path = entry.path().strip_prefix(dir).expect("below it").to_owned();
                    files.insert(path, std::fs::read(entry.path()).expect("a file"));
                }
            }
        }
    }
    files
}

/// Which files stay as they are: locks, identity, and the records themselves unless they are to be damaged too.
fn is_spared(path: &Path, records_too: bool) -> bool {
    let name = path
        .file_name()
        .map(|name| name.to_string_lossy().into_owned());
    name.is_none_or(|name| {
        name.ends_with(".log") && !records_too
            || matches!(&*name, ".lock" | "meta.properties" | "partition.metadata")
    })
}

/// Where a sync costs nothing, so that there is time for cases.
fn scratch_folder() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    let made = match memory.is_dir() {
        true => tempfile::tempdir_in(memory),
        false => tempfile::tempdir(),
    };
    made.expect("a folder")
}

fn fuzz_folder(what: &str, clean: bool, records_too: bool) {
    let original = scratch_folder();
    let records = make(original.path(), clean);
    let files = contents(original.path());
    let values: std::collections::HashSet<Bytes> =
        records.iter().map(|(_, value)| value.clone()).collect();
    let targets: Vec<&PathBuf> = files
        .keys()
        .filter(|path| !is_spared(path, records_too))
        .collect();
    assert!(targets.len() > 10, "{targets:?}");
    let scratch = scratch_folder();
    let folder = scratch.path().join("data");
    let prepare = |mutator: &mut Mutator| {
        // Files that a case has made must not meet the next one.
        let _ = std::fs::remove_dir_all(&folder);
        let hits: Vec<usize> = (0..=mutator.below(3))
            .map(|_| mutator.below(targets.len()))
            .collect();
        for (path, bytes) in &files {
            let mut bytes = bytes.clone();
            if let Some(times) = targets.iter().position(|target| *target == path) {
                for _ in hits.iter().filter(|hit| **hit == times) {
                    mutator.damage(&mut bytes, 0);
                }
            }
            let path = folder.join(path);
            std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
            std::fs::write(path, bytes).expect("written");
        }
        Vec::new()
    };
    run(what, Duration::from_secs(3), prepare, |_| {
        let manager = manager(&folder);
        let resolve = |_: &TopicPartition, _| Some(config());
        // An error says why; the log is offline then.
        if manager.load_logs(&resolve, now_ms()).is_err() {
            return;
        }
        for log in manager.logs() {
            let read = read_all(&log);
            let known: BTreeMap<i64, &Bytes> = records
                .iter()
                .map(|(offset, value)| (*offset, value))
                .collect();
            for (offset, value) in &read {
                // No checksum covers a batch's base offset: one that was damaged shifts its records.
                let is_known = match records_too {
                    true => values.contains(value),
                    false => known.get(offset) == Some(&value),
                };
                assert!(is_known, "offset {offset}");
            }
            log.scrub(Default::default(), u64::MAX).expect("reads");
            // It takes more, and what was taken is there.
            let more = Batch::parse(batch(1_000)).expect("a batch");
            let append = LeaderAppend {
                batch: ValidBatch { batch: more },
            };
            let end = log.log_end_offset();
            for answer in log.append_as_leader(&[append], 9, now_ms()) {
                if let Ok(info) = answer
                    && !info.duplicate
                {
                    assert_eq!(info.base_offset, end);
                    let read = log
                        .read(end, log.log_end_offset(), 3000, true)
                        .expect("reads");
                    assert!(!read.is_empty(), "what was appended is read");
                }
            }
            for timestamp in [0, now_ms() - 1000, now_ms(), i64::MAX] {
                let _ = log.offset_for_timestamp(timestamp);
            }
            let _ = log.offset_for_max_timestamp();
            for offset in [-1, 0, 77, 299, 300, 1000] {
                let _ = log.read(offset, i64::MAX, 100, true);
                let _ = log.aborted_transactions(0, offset);
                let _ = log.epoch_for_offset(offset);
            }
            log.expire_producers(now_ms());
        }
    });
}

#[test]
fn damaged_files_of_a_log_that_was_closed() {
    fuzz_folder("files after a clean stop", true, false);
}

#[test]
fn damaged_files_of_a_log_that_was_not_closed() {
    fuzz_folder("files after a crash", false, false);
}

#[test]
fn damaged_segments_of_a_log_that_was_closed() {
    fuzz_folder("segments after a clean stop", true, true);
}

#[test]
fn damaged_segments_of_a_log_that_was_not_closed() {
    fuzz_folder("segments after a crash", false, true);
}

#[test]
fn damaged_producer_snapshots() {
    let mut state = ProducerStateManager::new(0);
    for number in 0..40 {
        let batch = Batch::parse(batch(number)).expect("a batch");
        state.update(&batch.header, now_ms());
    }
    let snapshot = state.encode_snapshot();
    let load = |bytes: &[u8]| {
        let mut state = ProducerStateManager::new(0);
        state
            .load_snapshot(bytes, 80, now_ms(), EXPIRATION_MS)
            .map(|()| state.len())
    };
    assert_eq!(load(&snapshot).ok(), Some(3));
    run(
        "producer snapshots",
        Duration::from_secs(1),
        |mutator| {
            let mut bytes = snapshot.clone();
            mutator.damage(&mut bytes, 0);
            if bytes.len() > 6 && !mutator.chance(4) {
                // Version, checksum of what follows: so that more than the checksum is tried.
                let crc = crc32c::crc32c(&bytes[6..]);
                bytes[2..6].copy_from_slice(&crc.to_be_bytes());
            }
            bytes
        },
        |bytes| {
            if let Ok(producers) = load(bytes) {
                assert!(producers <= bytes.len() / 10, "{producers} producers");
            }
        },
    );
}
