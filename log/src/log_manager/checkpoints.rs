//! Flushing, checkpoints and the clean stop.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::log_dir::{Checkpoint, LogDir};
use super::{LogManager, LogManagerError};
use crate::checkpoint::StateFileError;
use crate::dir_health::DirHealth;
use crate::log::Log;
use crate::log_error::LogError;
use crate::types::{Offset, TimestampMs, TopicPartition};

/// Syncs of one directory that run at the same time.
const FLUSH_THREADS: usize = 4;
/// There is no broker epoch without a controller that hands it out.
const NO_BROKER_EPOCH: i64 = -1;

/// The log starts before the recovery points: recovery takes both, and an older start is only more to read.
const CHECKPOINTS: [Checkpoint; 3] = [
    Checkpoint::LogStart,
    Checkpoint::HighWatermark,
    Checkpoint::RecoveryPoint,
];

impl LogManager {
    /// Syncs sealed segments, and the logs whose records waited longer than `flush.ms`. Looks only at logs that have
    /// such. A failure takes the directory offline and is logged there.
    pub fn flush_dirty(&self, dir: &Path, now_ms: TimestampMs) {
        let Some(dir) = self.dir(dir).filter(|dir| !dir.is_offline()) else {
            return;
        };
        let unflushed = dir.health().unflushed();
        for tp in unflushed.take_due(now_ms) {
            self.flushing(&tp, |log| log.on_deadline(now_ms));
        }
        for tp in unflushed.take_sealed() {
            self.flushing(&tp, |log| log.flush_sealed().map(|_| ()));
        }
    }

    /// Keeps the unsynced bytes of a directory near `bytes_max`, which also bounds what a start after a crash has to read:
    /// above half of it, the logs that have most are synced until a quarter is left, and the checkpoint says so.
    /// Tells how many bytes were synced.
    pub fn bound_unflushed(&self, dir: &Path, bytes_max: u64) -> Result<u64, LogManagerError> {
        let Some(dir) = self.dir(dir).filter(|dir| !dir.is_offline()) else {
            return Ok(0);
        };
        let unflushed = dir.health().unflushed();
        let before = unflushed.bytes();
        if before < bytes_max / 2 {
            return Ok(0);
        }
        let mut dirty: Vec<Arc<Log>> = unflushed
            .dirty()
            .iter()
            .filter_map(|tp| {
                let log = self.get(tp);
                if log.is_none() {
                    unflushed.leave(tp);
                }
                log
            })
            .filter(|log| log.stays_dirty())
            .collect();
        dirty.sort_by_cached_key(|log| std::cmp::Reverse(log.unflushed_bytes()));
        let mut left = before;
        let most = dirty
            .iter()
            .take_while(|log| {
                let goes_on = left > bytes_max / 4;
                left = left.saturating_sub(log.unflushed_bytes());
                goes_on
            })
            .count();
        dirty.truncate(most);
        dirty.iter().for_each(|log| log.start_writeback());
        let next = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            // Syncs that run at the same time share the file system's commits.
            for _ in 0..FLUSH_THREADS.min(dirty.len()) {
                scope.spawn(|| {
                    while let Some(log) = dirty.get(next.fetch_add(1, Ordering::Relaxed)) {
                        if let Err(error) = log.flush_with_indexes() {
                            tracing::warn!(partition = %log.topic_partition(), %error, "flush failed");
                        }
                    }
                });
            }
        });
        if !dir.is_offline() {
            write(dir, Checkpoint::RecoveryPoint, self.logs().iter())?;
        }
        Ok(before.saturating_sub(unflushed.bytes()))
    }

    /// What the logs of a directory have not synced, and when that is looked at. `None`: none of ours.
    pub fn health(&self, dir: &Path) -> Option<Arc<DirHealth>> {
        self.dir(dir).map(|dir| Arc::clone(dir.health()))
    }

    fn flushing(&self, tp: &TopicPartition, flush: impl FnOnce(&Log) -> Result<(), LogError>) {
        let Some(log) = self.get(tp) else { return };
        if let Err(error) = flush(&log) {
            tracing::warn!(partition = %log.topic_partition(), %error, "flush failed");
        }
    }

    /// Writes the log starts alone, as a DeleteRecords wants before it is answered.
    pub fn checkpoint_log_start_offsets(&self) -> Result<(), LogManagerError> {
        let logs = self.logs();
        self.for_each_dir(|dir| write(dir, Checkpoint::LogStart, logs.iter()))
    }

    /// Removes the records of a partition at and above `offset`, as a follower does whose leader knows otherwise. Its
    /// lowered recovery point is written first, so that neither a half-done cut is taken for damage nor what is appended
    /// next for synced. False when there is no such log.
    pub fn truncate_to(
        &self,
        tp: &TopicPartition,
        offset: Offset,
        now_ms: TimestampMs,
    ) -> Result<bool, LogManagerError> {
        self.cut(tp, |log| {
            log.truncate_to_with(offset, now_ms, || match self.dir(&log.parent_dir()) {
                Some(dir) => write(dir, Checkpoint::RecoveryPoint, self.logs().iter()),
                None => Ok(()),
            })
        })
    }

    /// Empties a partition, which begins at `offset` then. As [`Self::truncate_to`] otherwise.
    pub fn truncate_fully_and_start_at(
        &self,
        tp: &TopicPartition,
        offset: Offset,
        now_ms: TimestampMs,
    ) -> Result<bool, LogManagerError> {
        self.cut(tp, |log| {
            Ok(log.truncate_fully_and_start_at(offset, now_ms)?)
        })
    }

    fn cut(
        &self,
        tp: &TopicPartition,
        cut: impl FnOnce(&Log) -> Result<(), LogManagerError>,
    ) -> Result<bool, LogManagerError> {
        let Some(log) = self.get(tp) else {
            return Ok(false);
        };
        cut(&log)?;
        if let Some(dir) = self.dir(&log.parent_dir()) {
            self.checkpoint_dir(dir, self.logs().iter())?;
        }
        Ok(true)
    }

    pub(super) fn for_each_dir(
        &self,
        act: impl Fn(&LogDir) -> Result<(), LogManagerError>,
    ) -> Result<(), LogManagerError> {
        let mut first_error = Ok(());
        for dir in self.dirs.iter().filter(|dir| !dir.is_offline()) {
            let result = act(dir);
            if first_error.is_ok() {
                first_error = result;
            }
        }
        first_error
    }

    /// As [`Self::checkpoint_dir`], by what changed since.
    pub(super) fn checkpoint_changed(
        &self,
        dir: &LogDir,
        changed: &[Arc<Log>],
    ) -> Result<(), LogManagerError> {
        // Not under the lock: whoever makes a log holds the list and waits for the lock.
        let logs = (!CHECKPOINTS.iter().all(|c| dir.is_known(*c))).then(|| self.logs());
        let _one = dir.checkpointing.lock();
        for checkpoint in CHECKPOINTS {
            let changed = changed
                .iter()
                .filter(|log| log.parent_dir() == dir.path())
                .map(|log| (log.topic_partition().clone(), offset_of(log, checkpoint)));
            let all = logs
                .as_ref()
                .map(|logs| offsets(dir, checkpoint, logs.iter()));
            written(dir, dir.update(checkpoint, changed, all))?;
        }
        dir.checkpoints_written();
        Ok(())
    }

    pub(super) fn checkpoint_dir<'a>(
        &self,
        dir: &LogDir,
        logs: impl Iterator<Item = &'a Arc<Log>> + Clone,
    ) -> Result<(), LogManagerError> {
        for checkpoint in CHECKPOINTS {
            write(dir, checkpoint, logs.clone())?;
        }
        dir.checkpoints_written();
        Ok(())
    }

    /// Closes all logs, each with everything synced and a producer snapshot at its end, writes the checkpoints, and
    /// last the mark that says so. A directory where anything failed gets no mark and is recovered at the next start.
    pub fn shutdown_clean(&self) -> Result<(), LogManagerError> {
        let logs = self.logs();
        let mut first_error = Ok(());
        for dir in &self.dirs {
            let result = self.shut_dir(dir, &logs);
            if first_error.is_ok() {
                first_error = result;
            }
        }
        first_error
    }

    fn shut_dir(&self, dir: &LogDir, logs: &[Arc<Log>]) -> Result<(), LogManagerError> {
        let logs: Vec<_> = logs
            .iter()
            .filter(|log| log.parent_dir() == dir.path())
            .collect();
        let next = AtomicUsize::new(0);
        let failed = AtomicBool::new(dir.is_offline());
        std::thread::scope(|scope| {
            for _ in 0..self.config.recovery_threads.clamp(1, logs.len().max(1)) {
                scope.spawn(|| {
                    while let Some(log) = logs.get(next.fetch_add(1, Ordering::Relaxed)) {
                        if let Err(error) = log.close(true) {
                            tracing::warn!(partition = %log.topic_partition(), %error, "closing failed");
                            failed.store(true, Ordering::Relaxed);
                        }
                    }
                });
            }
        });
        if failed.load(Ordering::Relaxed) {
            return Ok(());
        }
        self.checkpoint_dir(dir, logs.into_iter())?;
        dir.clean_shutdown_file().write(NO_BROKER_EPOCH)?;
        Ok(())
    }
}

fn write<'a>(
    dir: &LogDir,
    checkpoint: Checkpoint,
    logs: impl Iterator<Item = &'a Arc<Log>>,
) -> Result<(), LogManagerError> {
    let _one = dir.checkpointing.lock();
    let offsets = offsets(dir, checkpoint, logs);
    written(dir, dir.write(checkpoint, offsets))
}

fn offsets<'a>(
    dir: &LogDir,
    checkpoint: Checkpoint,
    logs: impl Iterator<Item = &'a Arc<Log>>,
) -> BTreeMap<TopicPartition, Offset> {
    logs.filter(|log| log.parent_dir() == dir.path())
        .filter_map(|log| Some((log.topic_partition().clone(), offset_of(log, checkpoint)?)))
        .collect()
}

fn offset_of(log: &Log, checkpoint: Checkpoint) -> Option<Offset> {
    match checkpoint {
        Checkpoint::RecoveryPoint => Some(log.recovery_point()),
        Checkpoint::HighWatermark => Some(log.high_watermark()),
        // What the first segment's name says needs no line.
        Checkpoint::LogStart => log.log_start_to_checkpoint(),
    }
}

fn written(dir: &LogDir, result: Result<(), StateFileError>) -> Result<(), LogManagerError> {
    result.map_err(|e| match LogError::from(e) {
        LogError::Storage(cause) => {
            if !cause.is_full() && !cause.is_harmless() {
                dir.health().mark_offline(&cause);
            }
            cause.into()
        }
        e => e.into(),
    })
}
