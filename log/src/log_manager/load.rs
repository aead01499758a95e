//! Loading all logs at the start: the directories at the same time, and several logs at a time of each.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

use super::delete::{DELETE_SUFFIX, STRAY_SUFFIX, set_aside_name};
use super::log_dir::{Checkpoint, LogDir};
use super::{FailedLog, LogManager, LogManagerError};
use crate::checkpoint::PartitionMetadataFile;
use crate::log::{Log, OpenLog, RecoveryReport};
use crate::log_config::LogConfig;
use crate::log_error::{AtPath, LogError};
use crate::types::{Offset, TimestampMs, TopicId, TopicPartition};

/// The metadata quorum's own folder may lie beside the partitions'.
const METADATA_FOLDER: &str = "__cluster_metadata-0";

/// Tells a partition's settings; `None`: nobody wants this partition with this topic id (nil when it is not known).
pub type Resolve<'a> = &'a (dyn Fn(&TopicPartition, TopicId) -> Option<Arc<LogConfig>> + Sync);

/// What loading found.
#[derive(Debug, Default)]
pub struct LoadReport {
    pub logs: Vec<(TopicPartition, RecoveryReport)>,
    /// These stay offline: their error says why.
    pub failed: Vec<(TopicPartition, LogError)>,
    /// Folders that nobody wants. They were renamed to `-stray` and are kept, for a human to judge.
    pub strays: Vec<PathBuf>,
}

/// What a directory's checkpoints say.
struct Checkpoints {
    clean_shutdown: bool,
    recovery_points: BTreeMap<TopicPartition, Offset>,
    log_starts: BTreeMap<TopicPartition, Offset>,
    high_watermarks: BTreeMap<TopicPartition, Offset>,
}

struct LoadedDir {
    outcomes: Vec<Outcome>,
    checkpoints: Checkpoints,
}

enum Outcome {
    Loaded(Arc<Log>, RecoveryReport),
    Failed(TopicPartition, FailedLog),
    Stray(PathBuf),
}

impl LogManager {
    /// Loads the logs of all directories. One log that fails does not keep the others from serving.
    pub fn load_logs(
        &self,
        resolve: Resolve<'_>,
        now_ms: TimestampMs,
    ) -> Result<LoadReport, LogManagerError> {
        let mut report = LoadReport::default();
        let loads: Vec<_> = std::thread::scope(|scope| {
            let loads: Vec<_> = self
                .dirs
                .iter()
                .map(|dir| scope.spawn(move || self.load_dir(dir, resolve, now_ms)))
                .collect();
            let loads = loads.into_iter().map(|load| {
                load.join()
                    .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            });
            loads.collect()
        });
        for (dir, load) in self.dirs.iter().zip(loads) {
            let loaded = match load {
                Ok(loaded) => loaded,
                // Its partitions stay offline, the others serve.
                Err(error) if self.dirs.len() > 1 => {
                    dir.fail(&error);
                    continue;
                }
                Err(error) => return Err(error),
            };
            let mut cut = false;
            for outcome in loaded.outcomes {
                match outcome {
                    Outcome::Loaded(log, recovery) => {
                        let tp = log.topic_partition().clone();
                        let written = loaded.checkpoints.recovery_points.get(&tp);
                        cut |= written.is_some_and(|written| log.recovery_point() < *written);
                        report.logs.push((tp.clone(), recovery));
                        self.logs.write().insert(tp, log);
                    }
                    Outcome::Failed(tp, failed) => {
                        tracing::error!(partition = %tp, error = %failed.error, "log stays offline");
                        report.failed.push((tp.clone(), failed.error.clone()));
                        self.failed.write().insert(tp, failed);
                    }
                    Outcome::Stray(path) => {
                        tracing::warn!(folder = %path.display(), "nobody wants this partition, it was set aside");
                        report.strays.push(path);
                    }
                }
            }
            if cut {
                // Before anything is appended: it would be taken for synced after another crash.
                self.checkpoint_dir(dir, self.logs().iter())?;
            }
        }
        if self.dirs.iter().all(LogDir::is_offline) {
            return Err(LogManagerError::NoDirOnline);
        }
        report.logs.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        Ok(report)
    }

    fn load_dir(
        &self,
        dir: &LogDir,
        resolve: Resolve<'_>,
        now_ms: TimestampMs,
    ) -> Result<LoadedDir, LogManagerError> {
        let checkpoints = Checkpoints::read(dir)?;
        // Whatever stops us from here on is a crash.
        dir.clean_shutdown_file().delete()?;
        let folders = partition_folders(dir)?;
        let next = AtomicUsize::new(0);
        let outcomes = Mutex::new(Vec::with_capacity(folders.len()));
        let threads = self.config.recovery_threads.clamp(1, folders.len().max(1));
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| {
                    while let Some((tp, folder)) = folders.get(next.fetch_add(1, Ordering::Relaxed))
                    {
                        let outcome = self.load_log(dir, &checkpoints, tp, folder, resolve, now_ms);
                        outcomes.lock().push(outcome);
                    }
                });
            }
        });
        let outcomes = outcomes.into_inner();
        // What the checkpoints say of a log that is not there must not be believed of a new one with its name.
        let mut gone = checkpoints.named();
        for outcome in &outcomes {
            match outcome {
                Outcome::Loaded(log, _) => gone.remove(log.topic_partition()),
                Outcome::Failed(tp, _) => gone.remove(tp),
                Outcome::Stray(_) => false,
            };
        }
        gone.iter().for_each(|tp| dir.note_deleted(tp));
        Ok(LoadedDir {
            outcomes,
            checkpoints,
        })
    }

    fn load_log(
        &self,
        dir: &LogDir,
        checkpoints: &Checkpoints,
        tp: &TopicPartition,
        folder: &PathBuf,
        resolve: Resolve<'_>,
        now_ms: TimestampMs,
    ) -> Outcome {
        let fail = |error: LogError| {
            let folder = folder.clone();
            Outcome::Failed(tp.clone(), FailedLog { folder, error })
        };
        let topic_id = match PartitionMetadataFile::new(folder).read() {
            Ok(id) => id,
            // It was never synced, so nothing in the folder was.
            Err(e) if !e.is_io() && !checkpoints.clean_shutdown => None,
            Err(e) => return fail(e.into()),
        };
        let topic_id = topic_id.unwrap_or_else(TopicId::nil);
        let Some(config) = resolve(tp, topic_id) else {
            let aside = dir
                .path()
                .join(set_aside_name(dir.path(), tp, topic_id, STRAY_SUFFIX));
            return match std::fs::rename(folder, &aside).at("rename", folder) {
                Ok(()) => Outcome::Stray(aside),
                Err(e) => fail(e.into()),
            };
        };
        let offset = |offsets: &BTreeMap<_, _>| offsets.get(tp).copied().unwrap_or(0);
        let open = OpenLog {
            clean_shutdown: checkpoints.clean_shutdown,
            recovery_point: offset(&checkpoints.recovery_points),
            log_start_offset: offset(&checkpoints.log_starts),
            producer_id_expiration_ms: self.config.producer_id_expiration_ms,
            now_ms,
            files: Arc::clone(&self.files),
            health: Arc::clone(dir.health()),
        };
        match Log::open(folder, tp.clone(), topic_id, config, open) {
            Ok((log, recovery)) => {
                log.set_high_watermark(offset(&checkpoints.high_watermarks));
                Outcome::Loaded(Arc::new(log), recovery)
            }
            Err(e) => fail(e),
        }
    }
}

impl Checkpoints {
    /// All logs that they have a line for.
    fn named(&self) -> BTreeSet<TopicPartition> {
        self.recovery_points
            .keys()
            .chain(self.log_starts.keys())
            .chain(self.high_watermarks.keys())
            .cloned()
            .collect()
    }

    fn read(dir: &LogDir) -> Result<Self, LogManagerError> {
        Ok(Self {
            clean_shutdown: dir.clean_shutdown_file().exists(),
            recovery_points: dir.read(Checkpoint::RecoveryPoint)?,
            log_starts: dir.read(Checkpoint::LogStart)?,
            high_watermarks: dir.read(Checkpoint::HighWatermark)?,
        })
    }
}

/// The folders of partitions. What an earlier life deleted is removed on the way; other folders are not ours.
fn partition_folders(dir: &LogDir) -> Result<Vec<(TopicPartition, PathBuf)>, LogManagerError> {
    let mut folders = Vec::new();
    for entry in std::fs::read_dir(dir.path()).at("list", dir.path())? {
        let entry = entry.at("list", dir.path())?;
        let path = entry.path();
        let name = entry.file_name();
        let Some(name) = name.to_str() else { continue };
        if !entry.file_type().at("look at", &path)?.is_dir() {
            continue;
        }
        if name.ends_with(DELETE_SUFFIX) {
            std::fs::remove_dir_all(&path).at("remove", &path)?;
            continue;
        }
        if name == METADATA_FOLDER {
            continue;
        }
        let Some(tp) = TopicPartition::from_folder_name(name) else {
            continue;
        };
        if path.join(PartitionMetadataFile::NAME).exists() || holds_a_log(&path) {
            folders.push((tp, path));
        }
    }
    folders.sort_unstable();
    Ok(folders)
}

fn holds_a_log(folder: &PathBuf) -> bool {
    std::fs::read_dir(folder).is_ok_and(|entries| {
        entries.flatten().any(|entry| {
            entry
                .file_name()
                .to_str()
                .and_then(crate::segment_files::SegmentFile::parse)
                .is_some()
        })
    })
}
