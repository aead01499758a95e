//! Opening a log from its folder.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};

use parking_lot::{Mutex, RwLock};

use super::tail::Tail;
use super::{Log, NO_UNSTABLE, OpenLog, RecoveryReport};
use crate::changes::ChangeMark;
use crate::log_config::LogConfig;
use crate::log_error::{AtPath, LogError};
use crate::recovery;
use crate::segments::LogSegments;
use crate::types::{NO_TIMESTAMP, TopicId, TopicPartition};

impl Log {
    /// Opens the log in `dir`, which is created when it is not there. After a clean shutdown nothing is scanned; else
    /// everything from the recovery point on is checked, and a torn end is cut. The high watermark begins at the log
    /// start: who knows better raises it.
    pub fn open(
        dir: &Path,
        tp: TopicPartition,
        topic_id: TopicId,
        config: Arc<LogConfig>,
        open: OpenLog,
    ) -> Result<(Self, RecoveryReport), LogError> {
        if !dir.is_dir() {
            std::fs::create_dir_all(dir).at("create", dir)?;
        }
        let dir: Arc<Path> = dir.into();
        let loaded = recovery::load(&dir, &tp, &config, &open)?;
        let active = loaded
            .segments
            .last()
            .cloned()
            .expect("recovery always leaves an active segment");
        let end = loaded.log_end;
        let log = Self {
            tp,
            topic_id,
            dir,
            config: RwLock::new(config),
            producer_id_expiration_ms: open.producer_id_expiration_ms,
            files: open.files,
            health: open.health,
            tail: RwLock::new(Tail::new(end, active.base_offset(), active.size())),
            segments: LogSegments::new(loaded.segments),
            log_start: AtomicI64::new(loaded.log_start),
            high_watermark: AtomicI64::new(loaded.log_start),
            first_unstable: AtomicI64::new(
                loaded
                    .producers
                    .first_unstable_offset()
                    .unwrap_or(NO_UNSTABLE),
            ),
            recovery_point: AtomicI64::new(loaded.recovery_point),
            unflushed_since_ms: AtomicI64::new(if loaded.recovery_point < end {
                open.now_ms
            } else {
                NO_TIMESTAMP
            }),
            unflushed_bytes: AtomicU64::new(0),
            is_entered: AtomicBool::new(false),
            has_deadline: AtomicBool::new(false),
            writer: Mutex::new(()),
            taking_out: Mutex::new(()),
            flushing: Mutex::new(()),
            dir_dirty: AtomicBool::new(!open.clean_shutdown),
            folder_dirty: AtomicBool::new(!open.clean_shutdown),
            producers: Mutex::new(loaded.producers),
            snapshots: Mutex::new(loaded.snapshots),
            epochs: Mutex::new(loaded.epochs),
            deleted: Mutex::new(Vec::new()),
            damages: Mutex::default(),
            is_damaged: AtomicBool::new(false),
            damages_changed: AtomicBool::new(loaded.damages_changed),
            change_mark: ChangeMark::default(),
            changed: AtomicBool::new(!open.clean_shutdown || loaded.report.rebuilt_indexes > 0),
            closed: AtomicBool::new(false),
        };
        for damage in loaded.damages {
            log.note_damage(damage);
        }
        log.damages_changed
            .store(loaded.damages_changed, Ordering::Release);
        // Before anything is appended.
        log.keep_damages();
        log.note_change();
        log.recount_unflushed();
        if loaded.recovery_point < end {
            log.note_deadline(&log.config(), open.now_ms);
        }
        Ok((log, loaded.report))
    }
}
