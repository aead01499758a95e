//! What timers ask of the logs: retention, expiry of producers, files to remove. Each costs what changed or fell due.

use std::sync::Arc;

use super::agenda::Agenda;
use super::{LogManager, LogManagerError};
use crate::log::Log;
use crate::log_error::AtPath;
use crate::types::{TimestampMs, TopicPartition};

/// The agendas of the kinds of upkeep.
#[derive(Debug, Default)]
pub(super) struct Agendas {
    retention: Agenda,
    expiry: Agenda,
    purge: Agenda,
    checkpoint: Agenda,
}

impl Agendas {
    fn all(&mut self) -> [&mut Agenda; 4] {
        [
            &mut self.retention,
            &mut self.expiry,
            &mut self.purge,
            &mut self.checkpoint,
        ]
    }
}

/// A failed pass over a log is tried again after this.
const RETRY_MS: TimestampMs = 60_000;

impl LogManager {
    /// Tells every kind of upkeep of the logs that have changed.
    fn gather_changes(&self) {
        let mut changed = Vec::new();
        for dir in &self.dirs {
            // One that is not there any more has nothing to do.
            changed.extend(
                dir.health()
                    .changes()
                    .take()
                    .iter()
                    .filter_map(|tp| self.get(tp)),
            );
        }
        let mut agendas = self.agendas.lock();
        for log in changed {
            // Before the agenda has it: whoever takes it from there looks after this.
            log.change_is_seen();
            for agenda in agendas.all() {
                agenda.note_changed(log.topic_partition());
            }
        }
    }

    fn take(
        &self,
        now_ms: TimestampMs,
        of: fn(&mut Agendas) -> &mut Agenda,
    ) -> impl Iterator<Item = Arc<Log>> + use<'_> {
        self.gather_changes();
        let taken = of(&mut self.agendas.lock()).take(now_ms);
        taken.into_iter().filter_map(|tp| self.get(&tp))
    }

    /// The logs that retention may have something to do with: those that changed since the last call, and those whose
    /// first segment expires. Each is to be followed by [`Self::retained`].
    pub fn due_for_retention(&self, now_ms: TimestampMs) -> Vec<Arc<Log>> {
        self.take(now_ms, |agendas| &mut agendas.retention)
            .collect()
    }

    /// Retention has looked at the log. If that failed, it will again, soon.
    pub fn retained(&self, log: &Log, succeeded: bool, now_ms: TimestampMs) {
        let due_ms = match succeeded {
            true => log.retention_due_ms().filter(|at_ms| *at_ms > now_ms),
            false => Some(now_ms.saturating_add(RETRY_MS)),
        };
        let mut agendas = self.agendas.lock();
        agendas.retention.set_due(log.topic_partition(), due_ms);
    }

    /// Forgets producers that appended nothing for long. Tells how many logs were looked at.
    pub fn expire_producers(&self, now_ms: TimestampMs) -> usize {
        let mut looks = 0;
        for log in self.take(now_ms, |agendas| &mut agendas.expiry) {
            looks += 1;
            log.expire_producers(now_ms);
            let due_ms = log.producers_expire_at_ms();
            let mut agendas = self.agendas.lock();
            agendas.expiry.set_due(log.topic_partition(), due_ms);
        }
        looks
    }

    /// Removes what was deleted: folders of partitions, and segment files whose delay is over. Tells how many.
    pub fn purge(&self, now_ms: TimestampMs) -> usize {
        self.purge_counted(now_ms).0
    }

    /// As [`Self::purge`]; also tells how many logs were looked at.
    pub(super) fn purge_counted(&self, now_ms: TimestampMs) -> (usize, usize) {
        let mut purged = 0;
        let folders = std::mem::take(&mut *self.deleted_folders.lock());
        for folder in folders {
            match std::fs::remove_dir_all(&folder).at("remove", &folder) {
                Ok(()) => purged += 1,
                Err(e) if e.is_not_found() => {}
                Err(error) => {
                    tracing::warn!(%error, "a deleted partition stays for now");
                    // A directory that is offline is cleaned up by the next start.
                    let dir = folder.parent().and_then(|dir| self.dir(dir));
                    if dir.is_some_and(|dir| !dir.is_offline()) {
                        self.deleted_folders.lock().push(folder);
                    }
                }
            }
        }
        let mut looks = 0;
        for log in self.take(now_ms, |agendas| &mut agendas.purge) {
            looks += 1;
            purged += log.purge(now_ms);
            let due_ms = log.purge_due_ms();
            let mut agendas = self.agendas.lock();
            agendas.purge.set_due(log.topic_partition(), due_ms);
        }
        (purged, looks)
    }

    /// Writes what a crash must not take: recovery points, log starts, high watermarks. Recovery points stand for
    /// bytes that are on disk already, so this syncs nothing but the checkpoints themselves. Looks only at logs that
    /// changed, and writes only files that do. Tells how many logs it has looked at.
    pub fn checkpoint(&self) -> Result<usize, LogManagerError> {
        let changed: Vec<Arc<Log>> = self.take(0, |agendas| &mut agendas.checkpoint).collect();
        let written = self.for_each_dir(|dir| self.checkpoint_changed(dir, &changed));
        if written.is_err() {
            let mut agendas = self.agendas.lock();
            for log in &changed {
                agendas.checkpoint.note_changed(log.topic_partition());
            }
        }
        written.map(|()| changed.len())
    }

    /// Nobody asks for it any more.
    pub(super) fn forget_upkeep(&self, tp: &TopicPartition) {
        for agenda in self.agendas.lock().all() {
            agenda.set_due(tp, None);
        }
    }
}
