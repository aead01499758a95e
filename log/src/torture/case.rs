//! One case: lives of a log folder, each ended by a crash.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use super::disk::Disk;
use super::model::Model;
use super::random::Random;
use crate::log::{LeaderAppend, Log};
use crate::log_config::LogConfig;
use crate::log_manager::{LogManager, LogManagerConfig};
use crate::record::{Batch, BatchBuilder, BatchOptions, NewRecord, ValidBatch};
use crate::types::{LeaderEpoch, TimestampMs, TopicId, TopicPartition};

const BEGIN_MS: TimestampMs = 1_700_000_000_000;
const LIVES_MAX: u64 = 4;
const STEPS_MAX: u64 = 40;

/// What the cases have seen.
#[derive(Debug, Default)]
pub struct Totals {
    pub crashes_inside: u64,
    pub verified_batches: u64,
    pub lost_batches: u64,
    pub truncations: u64,
    pub clean_restarts: u64,
}

impl Totals {
    pub fn add(&mut self, other: &Self) {
        self.crashes_inside += other.crashes_inside;
        self.verified_batches += other.verified_batches;
        self.lost_batches += other.lost_batches;
        self.truncations += other.truncations;
        self.clean_restarts += other.clean_restarts;
    }
}

struct Case {
    random: Random,
    scratch: PathBuf,
    root: PathBuf,
    model: Model,
    now_ms: TimestampMs,
    epoch: LeaderEpoch,
    /// Next sequences of the idempotent producers.
    sequences: [i32; 3],
    config: Arc<LogConfig>,
    totals: Totals,
    talk: bool,
}

pub fn run(seed: u64, talk: bool) -> Totals {
    // Syncs are not really done, so memory is as good a place as any.
    let base = Path::new("/dev/shm");
    let scratch = if base.is_dir() {
        tempfile::tempdir_in(base)
    } else {
        tempfile::tempdir()
    };
    let scratch = scratch.expect("temp dir");
    let path = scratch.path().canonicalize().expect("resolves");
    let mut random = Random::new(seed);
    let config = LogConfig {
        segment_bytes: random.between(800, 6_000) as u32,
        index_interval_bytes: random.between(0, 600) as u32,
        file_delete_delay_ms: random.below(2) as i64 * 60_000,
        flush_messages: if random.one_in(4) {
            random.between(1, 20) as i64
        } else {
            i64::MAX
        },
        ..LogConfig::default()
    };
    let mut case = Case {
        random,
        root: path.join("0").join("image"),
        scratch: path,
        model: Model::default(),
        now_ms: BEGIN_MS,
        epoch: 0,
        sequences: [0; 3],
        config: config.into_shared(),
        totals: Totals::default(),
        talk,
    };
    std::fs::create_dir_all(&case.root).expect("creates");
    let lives = case.random.between(1, LIVES_MAX);
    for life in 1..=lives {
        case.live(life);
    }
    case.totals
}

fn tp() -> TopicPartition {
    TopicPartition::new("t", 0)
}

fn manager_config(root: &Path) -> LogManagerConfig {
    LogManagerConfig {
        dirs: vec![root.to_owned()],
        node_id: 1,
        cluster_id: "torture".to_owned(),
        recovery_threads: 1,
        producer_id_expiration_ms: i64::MAX,
        open_files_max: 8,
        new_directory_id: || uuid::Uuid::from_u128(11),
    }
}

impl Case {
    fn say(&self, text: impl FnOnce() -> String) {
        if self.talk {
            println!("{}", text());
        }
    }

    /// Opens the folder; the log is made if it is not there.
    fn open(&mut self) -> (LogManager, Arc<Log>) {
        let manager = LogManager::open(manager_config(&self.root)).expect("opens");
        let config = Arc::clone(&self.config);
        let report = manager
            .load_logs(
                &|_, id| (id == TopicId::from_u128(7)).then(|| Arc::clone(&config)),
                self.now_ms,
            )
            .expect("loads");
        assert!(report.failed.is_empty(), "{:?}", report.failed);
        self.say(|| {
            format!(
                "  opened: {:?}, set aside: {:?}",
                report.logs, report.strays
            )
        });
        let log = manager
            .create(
                &tp(),
                TopicId::from_u128(7),
                Arc::clone(&self.config),
                self.now_ms,
            )
            .expect("is there");
        (manager, log)
    }

    fn live(&mut self, life: u64) {
        let scratch = self.scratch.join(life.to_string());
        let crash_in = self.random.one_in(2).then(|| self.random.below(30));
        let seed = self.random.next();
        self.say(|| {
            format!(
                "life {life} in {}, crash with sync {crash_in:?}",
                self.root.display()
            )
        });
        let (disk, watch) = Disk::new(&self.root, &scratch, crash_in, Random::new(seed));
        // A crash while it opens leaves as much to hold on to as the one before.
        let mut before = self.model.clone();
        let (mut manager, mut log) = self.open();
        let (read, lost) = self.model.take_over(&log);
        self.totals.verified_batches += read;
        self.totals.lost_batches += lost;
        self.after_restart(&log);
        if !disk.has_crashed() {
            before = self.model.clone();
            before.or_anew_at = None;
            for _ in 0..self.random.between(1, STEPS_MAX) {
                self.step(&mut manager, &mut log, &disk);
                disk.look();
                if disk.has_crashed() {
                    break;
                }
                self.model.or_anew_at = None;
                before = self.model.clone();
            }
        }
        if disk.has_crashed() {
            self.totals.crashes_inside += 1;
            self.say(|| "crash in the last step".to_owned());
            before.merge(&self.model);
            self.model = before;
        } else {
            let read = self.model.verify(&log);
            self.totals.verified_batches += read;
        }
        self.root = disk.crash();
        drop((log, manager));
        drop(watch);
    }

    /// Producers go on where the log says that they are.
    fn after_restart(&mut self, log: &Log) {
        self.epoch = self.epoch.max(log.latest_epoch().unwrap_or(0)) + 1;
        self.rewind(log);
        self.assign_epoch(log);
    }

    fn assign_epoch(&mut self, log: &Log) {
        log.assign_epoch(self.epoch).expect("assigns");
        self.model.note_epoch(self.epoch);
    }

    fn step(&mut self, manager: &mut LogManager, log: &mut Arc<Log>, disk: &Disk) {
        self.now_ms += self.random.below(1_000) as i64;
        match self.random.below(32) {
            0..14 => self.append(log),
            14..17 => {
                self.say(|| format!("roll at {}", self.model.end()));
                log.roll(self.now_ms).expect("rolls");
            }
            17..20 => {
                log.flush().expect("flushes");
                self.model.flushed = self.model.end();
                self.say(|| format!("flushed up to {}", self.model.flushed));
            }
            20 => {
                let end = log.flush_sealed().expect("flushes");
                self.model.flushed = self.model.flushed.max(end);
                self.say(|| format!("flushed sealed segments up to {end}"));
            }
            21..24 => self.checkpoint(manager),
            24 | 25 => self.retain(log),
            26 => {
                let gone = log.purge(self.now_ms);
                self.say(|| format!("purged {gone} files"));
            }
            27 | 28 => self.truncate(manager, log),
            29 => {
                self.epoch += 1;
                self.assign_epoch(log);
                self.say(|| format!("epoch {} at {}", self.epoch, self.model.end()));
            }
            30 if self.random.one_in(3) => self.begin_anew(manager, log),
            31 => self.restart(manager, log, disk),
            _ => {}
        }
        assert!(
            log.recovery_point() >= self.model.flushed,
            "flushed up to {}, the recovery point is {}",
            self.model.flushed,
            log.recovery_point()
        );
        self.totals.verified_batches += if self.random.one_in(8) {
            self.model.verify(log)
        } else {
            0
        };
    }

    fn append(&mut self, log: &Log) {
        let mut appends = Vec::new();
        for _ in 0..self.random.between(1, 4) {
            appends.push(self.batch());
        }
        for append in &appends {
            self.model.append(append, self.epoch);
        }
        for answer in log.append_as_leader(&appends, self.epoch, self.now_ms) {
            let info = answer.expect("appends");
            assert!(!info.duplicate);
        }
        // With flush.messages an acknowledgement is a promise.
        if log.unflushed_records() == 0 {
            self.model.flushed = self.model.end();
        }
        self.say(|| {
            format!(
                "appended {} batches up to {}, flushed {}",
                appends.len(),
                self.model.end(),
                self.model.flushed
            )
        });
    }

    fn batch(&mut self) -> LeaderAppend {
        let mut options = BatchOptions::default();
        let records = self.random.between(1, 4);
        if self.random.one_in(2) {
            let id = self.random.below(3) as usize;
            options.producer_id = id as i64;
            options.producer_epoch = 0;
            options.base_sequence = self.sequences[id];
            self.sequences[id] += records as i32;
        }
        let mut builder = BatchBuilder::new(options);
        for _ in 0..records {
            let len = self.random.below(160) as usize;
            let byte = self.random.next() as u8;
            let timestamp = match self.random.below(6) {
                0 => self.now_ms - self.random.below(100_000) as i64,
                1 => BEGIN_MS,
                _ => self.now_ms,
            };
            let value = Some(Bytes::from(vec![byte; len]));
            builder
                .append(NewRecord {
                    timestamp,
                    key: None,
                    value,
                    headers: Vec::new(),
                })
                .expect("fits");
        }
        let batch = Batch::parse(builder.build()).expect("parses");
        LeaderAppend {
            batch: ValidBatch { batch },
        }
    }

    fn checkpoint(&mut self, manager: &LogManager) {
        manager.checkpoint().expect("writes");
        self.model.log_start_safe = self.model.log_start;
        self.say(|| format!("checkpoint, log start {}", self.model.log_start));
    }

    fn retain(&mut self, log: &Log) {
        log.set_high_watermark(log.log_end_offset());
        let span = (self.model.end() - self.model.log_start) as u64;
        let below = self.model.log_start + self.random.between(0, span) as i64;
        if self.random.one_in(2) {
            log.increment_log_start_offset(below).expect("moves");
            self.model.log_start = self.model.log_start.max(below);
        }
        let deleted = log.delete_local_segments_below(below).expect("deletes");
        self.model.log_start = self.model.log_start.max(log.log_start_offset());
        self.say(|| {
            format!(
                "retention below {below}: {deleted:?}, log start {}",
                self.model.log_start
            )
        });
    }

    fn truncate(&mut self, manager: &LogManager, log: &Log) {
        let (start, end) = (log.local_log_start_offset(), self.model.end());
        if end == start {
            return;
        }
        let at = start + 1 + self.random.below((end - start) as u64) as i64;
        if at >= end {
            return;
        }
        manager.truncate_to(&tp(), at, self.now_ms).expect("cuts");
        self.model.cut(at);
        self.totals.truncations += 1;
        self.say(|| format!("truncated to {at}: ends at {}", self.model.end()));
        // A log that was cut above its first batch's start may begin within nothing.
        self.epoch += 1;
        self.assign_epoch(log);
        self.rewind(log);
    }

    fn begin_anew(&mut self, manager: &LogManager, log: &Log) {
        let at = self.model.end() + self.random.below(100) as i64;
        manager
            .truncate_fully_and_start_at(&tp(), at, self.now_ms)
            .expect("begins");
        self.model.begin_anew(at);
        self.model.or_anew_at = Some(at);
        self.say(|| format!("began anew at {at}"));
        self.epoch += 1;
        self.assign_epoch(log);
        self.rewind(log);
    }

    /// Producers go on behind the last batch that the log knows of them.
    fn rewind(&mut self, log: &Log) {
        let producers = log.producers();
        for (id, next) in self.sequences.iter_mut().enumerate() {
            let last = producers
                .iter()
                .find(|p| p.producer_id == id as i64)
                .and_then(|p| p.last_batch().copied());
            *next = last.map_or(0, |b| b.last_sequence + 1);
        }
    }

    fn restart(&mut self, manager: &mut LogManager, log: &mut Arc<Log>, disk: &Disk) {
        self.say(|| "clean restart".to_owned());
        manager.shutdown_clean().expect("stops");
        self.model.flushed = self.model.end();
        self.model.log_start_safe = self.model.log_start;
        if disk.has_crashed() {
            return;
        }
        self.totals.clean_restarts += 1;
        // The old one holds the folder's lock.
        let root = self.root.clone();
        let parking =
            LogManager::open(manager_config(&self.scratch.join("parking"))).expect("opens");
        drop(std::mem::replace(manager, parking));
        let (opened, reopened) = self.open();
        assert_eq!(self.root, root);
        *manager = opened;
        *log = reopened;
        self.totals.verified_batches += self.model.verify(log);
    }
}

impl Model {
    /// A crash within a step: what was promised before it and not taken back by it still holds, and what it would have
    /// changed may have happened or not.
    fn merge(&mut self, after: &Model) {
        let mut epochs = self.epochs.clone();
        for (epoch, at) in &after.epochs {
            epochs.entry(*epoch).or_insert(*at);
        }
        if let Some(at) = after.or_anew_at {
            self.epochs = epochs;
            self.or_anew_at = Some(at);
            self.flushed = 0;
            self.log_start_safe = 0;
            return;
        }
        let promised = self.flushed.min(after.flushed).min(after.end());
        let start_safe = self.log_start_safe.min(after.log_start_safe);
        let start = self.log_start.max(after.log_start);
        if after.end() >= self.end() {
            *self = after.clone();
        }
        self.epochs = epochs;
        self.flushed = promised;
        self.log_start_safe = start_safe;
        self.log_start = start;
    }
}
