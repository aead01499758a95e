//! How far each log was cleaned, which one is next, and which were set aside.
//!
//! The offsets are kept in `cleaner-offset-checkpoint`, one file per log directory, written after each round. A lost or
//! stale checkpoint costs a round of cleaning, never a record. A partition is cleaned by one thread at a time. One that
//! cannot be cleaned, because its log is damaged, is set aside until the broker starts again or the topic is gone.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use strandline_log::checkpoint::{CLEANER_OFFSET_CHECKPOINT, OffsetCheckpointFile};
use strandline_log::{Log, Offset, TimestampMs, TopicId, TopicPartition};

use crate::cleaner::LogSnapshot;
use crate::plan::{LogToClean, filthiest};

/// A log that was given to one cleaner. It must be given back by one of the manager's methods.
pub struct Grabbed {
    pub log: Arc<Log>,
    pub plan: LogToClean,
}

#[derive(Debug)]
struct Checkpoint {
    dir: PathBuf,
    /// Not known of an offset that was read from a file.
    topic_id: Option<TopicId>,
    offset: Offset,
}

#[derive(Debug, Default)]
struct State {
    checkpoints: HashMap<TopicPartition, Checkpoint>,
    in_progress: HashSet<TopicPartition>,
    uncleanable: HashMap<TopicPartition, TopicId>,
    /// Not to be grabbed before then, so that one that fails again and again does not keep others waiting.
    postponed: HashMap<TopicPartition, TimestampMs>,
    seen: Seen,
}

/// What the last look found.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Seen {
    /// The largest dirty share of all logs.
    pub max_dirty_ratio: f64,
    pub max_compaction_delay_ms: TimestampMs,
    pub uncleanable_partitions: usize,
    pub uncleanable_bytes: u64,
    /// `None`: nobody looked yet.
    pub at_ms: Option<TimestampMs>,
}

#[derive(Debug)]
pub struct LogCleanerManager {
    dirs: Vec<(PathBuf, OffsetCheckpointFile)>,
    state: Mutex<State>,
}

impl LogCleanerManager {
    /// Reads the checkpoints of the log directories. One that does not parse is as good as none.
    pub fn new(dirs: &[PathBuf]) -> Self {
        let dirs: Vec<_> = dirs
            .iter()
            .map(|dir| {
                let file = OffsetCheckpointFile::new(dir, CLEANER_OFFSET_CHECKPOINT);
                (dir.clone(), file)
            })
            .collect();
        let mut state = State::default();
        for (dir, file) in &dirs {
            match file.read() {
                Ok(offsets) => state
                    .checkpoints
                    .extend(offsets.into_iter().map(|(tp, offset)| {
                        let checkpoint = Checkpoint {
                            dir: dir.clone(),
                            topic_id: None,
                            offset,
                        };
                        (tp, checkpoint)
                    })),
                Err(error) => {
                    tracing::warn!(%error, "what was cleaned before is not known, all is cleaned anew");
                }
            }
        }
        Self {
            dirs,
            state: Mutex::new(state),
        }
    }

    /// The log that needs cleaning most, of all that there are. Logs that do not compact are passed over.
    pub fn grab_filthiest(&self, logs: &[Arc<Log>], now_ms: TimestampMs) -> Option<Grabbed> {
        let mut state = self.state.lock();
        state.forget_gone(logs);
        state.postponed.retain(|_, until_ms| *until_ms > now_ms);
        let mut seen = Seen {
            at_ms: Some(now_ms),
            ..Seen::default()
        };
        let mut found = Vec::new();
        for log in logs {
            let tp = log.topic_partition();
            if state.uncleanable.contains_key(tp) {
                seen.uncleanable_partitions += 1;
                seen.uncleanable_bytes += log.size_bytes();
                continue;
            }
            let config = log.config();
            if !config.cleanup_policy.compact
                || config.remote_storage_enable
                || log.is_closed()
                || state.in_progress.contains(tp)
                || state.postponed.contains_key(tp)
            {
                continue;
            }
            let view = match LogSnapshot::of(log) {
                Ok(snapshot) => snapshot.view,
                Err(error) => {
                    tracing::warn!(partition = %tp, %error, "the cleaner cannot look at the log");
                    continue;
                }
            };
            let checkpoint = state.checkpoints.get(tp).map(|c| c.offset);
            let plan = view.to_clean(checkpoint, now_ms);
            if plan.checkpoint_is_wrong {
                tracing::info!(partition = %tp, ?checkpoint, first_dirty = plan.first_dirty,
                    "the cleaner's checkpoint lies outside of the log and is set right");
                state.note(log, plan.first_dirty);
            }
            seen.max_dirty_ratio = seen.max_dirty_ratio.max(plan.cleanable_ratio());
            if plan.cleanable_bytes > 0 {
                seen.max_compaction_delay_ms =
                    seen.max_compaction_delay_ms.max(plan.compaction_delay_ms);
            }
            found.push((log, plan));
        }
        state.seen = seen;
        let (log, plan) = filthiest(found.iter().map(|(log, plan)| ((log, *plan), plan)))?;
        state.in_progress.insert(log.topic_partition().clone());
        Some(Grabbed {
            log: Arc::clone(log),
            plan,
        })
    }

    /// The round came to its end: the log is clean up to `end_offset`.
    pub fn done(&self, log: &Log, end_offset: Offset) {
        let mut state = self.state.lock();
        state.in_progress.remove(log.topic_partition());
        state.note(log, end_offset);
        self.write(&state, &log.parent_dir());
    }

    /// The round was given up; the log may be grabbed again.
    pub fn give_back(&self, log: &Log) {
        self.state.lock().in_progress.remove(log.topic_partition());
    }

    /// The round failed for a reason that may pass; the log may be grabbed again later.
    pub fn postpone(&self, log: &Log, until_ms: TimestampMs) {
        let mut state = self.state.lock();
        let tp = log.topic_partition();
        state.in_progress.remove(tp);
        state.postponed.insert(tp.clone(), until_ms);
    }

    /// The log cannot be cleaned.
    pub fn set_aside(&self, log: &Log) {
        let mut state = self.state.lock();
        let tp = log.topic_partition();
        state.in_progress.remove(tp);
        state.uncleanable.insert(tp.clone(), log.topic_id());
        state.seen.uncleanable_partitions += 1;
        state.seen.uncleanable_bytes += log.size_bytes();
    }

    pub fn seen(&self) -> Seen {
        self.state.lock().seen
    }

    /// Up to where the partition was cleaned.
    pub fn checkpoint(&self, tp: &TopicPartition) -> Option<Offset> {
        self.state.lock().checkpoints.get(tp).map(|c| c.offset)
    }

    fn write(&self, state: &State, dir: &Path) {
        let Some((_, file)) = self.dirs.iter().find(|(of, _)| of == dir) else {
            return;
        };
        let offsets: BTreeMap<TopicPartition, Offset> = state
            .checkpoints
            .iter()
            .filter(|(_, checkpoint)| checkpoint.dir == dir)
            .map(|(tp, checkpoint)| (tp.clone(), checkpoint.offset))
            .collect();
        if let Err(error) = file.write(&offsets) {
            // The next start cleans once more what was clean.
            tracing::warn!(%error, "could not write the cleaner's checkpoint");
        }
    }
}

impl State {
    /// What is known of partitions that are gone, or that are others of the same name, is forgotten.
    fn forget_gone(&mut self, logs: &[Arc<Log>]) {
        if self.checkpoints.is_empty() && self.uncleanable.is_empty() {
            return;
        }
        let ids: HashMap<&TopicPartition, TopicId> = logs
            .iter()
            .map(|log| (log.topic_partition(), log.topic_id()))
            .collect();
        self.checkpoints.retain(|tp, checkpoint| {
            let id = ids.get(tp).copied();
            let known = checkpoint.topic_id.or(id);
            checkpoint.topic_id = known;
            id.is_some() && id == known
        });
        self.uncleanable
            .retain(|tp, id| ids.get(tp).is_some_and(|of| of == id));
    }

    fn note(&mut self, log: &Log, offset: Offset) {
        self.checkpoints.insert(
            log.topic_partition().clone(),
            Checkpoint {
                dir: log.parent_dir(),
                topic_id: Some(log.topic_id()),
                offset,
            },
        );
    }
}
