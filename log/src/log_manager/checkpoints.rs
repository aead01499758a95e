//! Flushing, checkpoints and the clean stop.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::log_dir::{Checkpoint, LogDir};
use super::{LogManager, LogManagerError};
use crate::log::Log;
use crate::log_error::LogError;
use crate::types::{Offset, TimestampMs, TopicPartition};

/// There is no broker epoch without a controller that hands it out.
const NO_BROKER_EPOCH: i64 = -1;

impl LogManager {
    /// Syncs sealed segments, and the logs whose records waited longer than `flush.ms`. A failure takes the directory
    /// offline and is logged there.
    pub fn flush_dirty(&self, now_ms: TimestampMs) {
        let logs: Vec<_> = self.logs.read().values().cloned().collect();
        for log in logs {
            let flushed = if log.flush_is_due(now_ms) {
                log.flush()
            } else if log.has_unflushed_sealed() {
                log.flush_sealed()
            } else {
                continue;
            };
            if let Err(error) = flushed {
                tracing::warn!(partition = %log.topic_partition(), %error, "flush failed");
            }
        }
    }

    /// Writes what a crash must not take: recovery points, log starts, high watermarks. Recovery points stand for
    /// bytes that are on disk already, so this syncs nothing but the checkpoints themselves.
    pub fn checkpoint(&self) -> Result<(), LogManagerError> {
        let logs = self.logs();
        self.for_each_dir(|dir| self.checkpoint_dir(dir, logs.iter()))
    }

    /// Writes the log starts alone, as a DeleteRecords wants before it is answered.
    pub fn checkpoint_log_start_offsets(&self) -> Result<(), LogManagerError> {
        let logs = self.logs();
        self.for_each_dir(|dir| write(dir, Checkpoint::LogStart, logs.iter()))
    }

    fn for_each_dir(
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

    pub(super) fn checkpoint_dir<'a>(
        &self,
        dir: &LogDir,
        logs: impl Iterator<Item = &'a Arc<Log>> + Clone,
    ) -> Result<(), LogManagerError> {
        // The log starts before the recovery points: recovery takes both, and an older start is only more to read.
        for checkpoint in [
            Checkpoint::LogStart,
            Checkpoint::HighWatermark,
            Checkpoint::RecoveryPoint,
        ] {
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
    let offsets: BTreeMap<TopicPartition, Offset> = logs
        .filter(|log| log.parent_dir() == dir.path())
        .filter_map(|log| {
            let offset = match checkpoint {
                Checkpoint::RecoveryPoint => log.recovery_point(),
                Checkpoint::HighWatermark => log.high_watermark(),
                // What the first segment's name says needs no line.
                Checkpoint::LogStart => log.log_start_to_checkpoint()?,
            };
            Some((log.topic_partition().clone(), offset))
        })
        .collect();
    dir.write(checkpoint, &offsets)
        .map_err(|e| match LogError::from(e) {
            LogError::Storage(cause) => {
                if !cause.is_full() && !cause.is_harmless() {
                    dir.health().mark_offline(&cause);
                }
                cause.into()
            }
            e => e.into(),
        })
}
