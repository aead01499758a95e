//! Brings a partition's folder back to a consistent log.
//!
//! 1. A swap of cleaned segments that had begun is completed or undone (`swap`). Remains of deletions and half-written
//!    files go. Index files without a log go.
//! 2. After a clean shutdown the segments are taken as they are; only missing indexes are rebuilt, and the end of the
//!    last segment is read from its last index entry on.
//! 3. Else every batch from the recovery point on is read and its CRC checked. At the first that is not whole, the log
//!    is cut and later segments are dropped. Index entries are held against the batches on the way: wrong ones go,
//!    missing ones are added. Below the recovery point they are kept when all of the index makes sense.
//! 4. Below the recovery point everything was synced: a batch there that is not whole is no torn write. Nothing is cut.
//!    It is remembered (`crate::log::Damage`) and passed over, and the log opens: reads of it fail, all else is served.
//!    Appends never go behind it into the same file: the segment is sealed and a new one begun at the log's end.
//! 5. The producers' state comes from the newest usable snapshot and the headers behind it; leader epochs from their
//!    checkpoint and the batches, cut at both ends of the log.

mod damages;
mod listing;
mod scan;
mod swap;

use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::sync::Arc;

use crate::durable;
use crate::leader_epoch::{EpochEntry, LeaderEpochFileCache};
use crate::log::{Damage, OpenLog, RecoveryReport, Replayed, replay, txn_index_path};
use crate::log_config::LogConfig;
use crate::log_error::{AtPath, LogError, StorageError};
use crate::producer_state::{ProducerSnapshots, ProducerStateManager};
use crate::segment::{BatchPosition, LogSegment};
use crate::segment_files::{SegmentFile, segment_path};
use crate::txn_index::TransactionIndex;
use crate::types::{Offset, TopicPartition};
use damages::Known;
use listing::Listing;

/// A log that may be appended to.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub segments: Vec<Arc<LogSegment>>,
    pub log_start: Offset,
    pub log_end: Offset,
    pub recovery_point: Offset,
    pub producers: ProducerStateManager,
    pub snapshots: ProducerSnapshots,
    pub epochs: LeaderEpochFileCache,
    pub report: RecoveryReport,
    /// What of it cannot be read, and whether that is news to its folder.
    pub damages: Vec<Damage>,
    pub damages_changed: bool,
}

pub(crate) fn load(
    dir: &Arc<Path>,
    tp: &TopicPartition,
    config: &LogConfig,
    open: &OpenLog,
) -> Result<Loaded, LogError> {
    let mut names = listing::names(dir)?;
    if swap::is_pending(&names) {
        swap::complete(dir)?;
        names = listing::names(dir)?;
    }
    let listing = Listing::read(dir, &names)?;
    let mut known = Known::read(dir, &names, open)?;
    let mut open = open.clone();
    loop {
        let listing = match known.found {
            0 => listing.clone(),
            // The try before may have dropped or begun segments.
            _ => Listing::read(dir, &listing::names(dir)?)?,
        };
        match load_once(dir, tp, config, &open, listing, &known) {
            Err(LogError::Corrupt {
                path,
                position,
                reason,
            }) if known.note(dir, &path, position, &reason, &open)? => {
                // Nothing that a clean stop has left is taken on trust any more.
                open.clean_shutdown = false;
            }
            loaded => return loaded,
        }
    }
}

fn load_once(
    dir: &Arc<Path>,
    tp: &TopicPartition,
    config: &LogConfig,
    open: &OpenLog,
    listing: Listing,
    known: &Known,
) -> Result<Loaded, LogError> {
    let mut recovery = Recovery {
        dir,
        config,
        open,
        known: &known.damages,
        report: RecoveryReport::default(),
        epochs: read_epochs(dir, open)?,
        without_indexes: BTreeSet::new(),
        buffer: Vec::new(),
    };
    let mut segments = recovery.open_segments(&listing)?;
    let scanned_from = if open.clean_shutdown {
        None
    } else {
        recovery.scan_segments(&mut segments)?
    };
    let mut log_end = recovery.end_of(&mut segments, scanned_from.is_some())?;

    let local_start = segments[0].base_offset();
    let log_start = if config.remote_storage_enable {
        open.log_start_offset
    } else {
        open.log_start_offset.max(local_start)
    };
    let mut snapshots = ProducerSnapshots::with_offsets(dir, listing.snapshots);
    if log_start > log_end {
        tracing::warn!(partition = %tp, log_start, log_end, "the log ends below its start, it begins anew there");
        for segment in segments.drain(..).rev() {
            remove_segment(&segment)?;
            durable::sync_dir(dir).at("sync", dir)?;
        }
        snapshots.delete_all()?;
        segments.push(recovery.create(log_start)?);
        durable::sync_dir(dir).at("sync", dir)?;
        log_end = log_start;
    }
    recovery.begin_behind_damage(&mut segments, log_end)?;
    let segments: Vec<_> = segments.into_iter().map(Arc::new).collect();
    if open.clean_shutdown
        && let Some((active, sealed)) = segments.split_last()
    {
        sealed.iter().for_each(|segment| segment.mark_synced());
        // Its indexes go on growing.
        active.set_synced_bytes(active.size());
    }

    let producers = recovery.load_producers(&segments, &mut snapshots, scanned_from, log_end)?;
    let mut epochs = recovery.epochs;
    epochs.truncate_from_end(log_end);
    epochs.truncate_from_start(log_start);
    if !open.clean_shutdown {
        fill_epochs(&mut epochs, &segments, log_start, log_end)?;
    }
    if !open.clean_shutdown {
        epochs.flush_below(log_end, true)?;
    }

    let mut report = recovery.report;
    report.segments = segments.len();
    report.log_end_offset = log_end;
    let recovery_point = if open.clean_shutdown {
        log_end
    } else {
        open.recovery_point.min(log_end)
    };
    Ok(Loaded {
        segments,
        log_start,
        log_end,
        recovery_point,
        producers,
        snapshots,
        epochs,
        report,
        damages: known.within(log_start.max(local_start), log_end),
        damages_changed: known.changed,
    })
}

/// After a crash a checkpoint that does not parse is replaced by what the batches say.
fn read_epochs(dir: &Path, open: &OpenLog) -> Result<LeaderEpochFileCache, LogError> {
    match LeaderEpochFileCache::open(dir) {
        Ok(epochs) => Ok(epochs),
        Err(error) if !error.is_io() && !open.clean_shutdown => {
            tracing::warn!(%error, "leader epochs are read from the batches");
            Ok(LeaderEpochFileCache::empty(dir))
        }
        Err(e) => Err(e.into()),
    }
}

/// The checkpoint may be cut at a log start that a crash took back: then the batches before it tell their epochs.
fn fill_epochs(
    epochs: &mut LeaderEpochFileCache,
    segments: &[Arc<LogSegment>],
    log_start: Offset,
    log_end: Offset,
) -> Result<(), LogError> {
    let known = epochs.entries();
    let from = log_start.max(segments[0].base_offset());
    let known_from = known.first().map_or(log_end, |first| first.start_offset);
    if known_from <= from {
        return Ok(());
    }
    let mut found: Vec<EpochEntry> = Vec::new();
    let first = crate::segments::floor(segments, from).unwrap_or(0);
    for segment in &segments[first..] {
        if segment.base_offset() >= known_from {
            break;
        }
        let start = segment.find(from, segment.size())?;
        let mut scan = segment.scan(start.map_or(0, |batch| batch.position), segment.size())?;
        while let Some(batch) = scan.next_batch()? {
            let entry = EpochEntry {
                epoch: batch.header.partition_leader_epoch,
                start_offset: batch.header.base_offset.max(log_start),
            };
            if entry.start_offset >= known_from {
                break;
            }
            if entry.epoch >= 0 && found.last().is_none_or(|last| last.epoch < entry.epoch) {
                found.push(entry);
            }
        }
    }
    if !found.is_empty() {
        found.extend(known);
        epochs.replace(&found);
    }
    Ok(())
}

fn remove(path: &Path) -> Result<(), StorageError> {
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(StorageError::new("remove", path, e)),
        _ => Ok(()),
    }
}

fn remove_segment(segment: &LogSegment) -> Result<(), StorageError> {
    segment.forget_files();
    let path = segment.path();
    let dir = path.parent().unwrap_or_else(|| Path::new("."));
    for kind in SegmentFile::ALL {
        remove(&segment_path(dir, segment.base_offset(), kind))?;
    }
    Ok(())
}

struct Recovery<'a> {
    dir: &'a Arc<Path>,
    config: &'a LogConfig,
    open: &'a OpenLog,
    known: &'a [Damage],
    report: RecoveryReport,
    epochs: LeaderEpochFileCache,
    /// Base offsets of segments whose indexes were missing or no indexes.
    without_indexes: BTreeSet<Offset>,
    buffer: Vec<u8>,
}

impl Recovery<'_> {
    fn create(&self, base_offset: Offset) -> Result<LogSegment, StorageError> {
        LogSegment::create(
            Arc::clone(self.dir),
            base_offset,
            Arc::clone(&self.open.files),
            self.open.now_ms,
        )
    }

    /// Opens all segments, or makes the first one. Indexes that are missing are rebuilt here when the batches are not
    /// going to be read anyway.
    fn open_segments(&mut self, listing: &Listing) -> Result<Vec<LogSegment>, LogError> {
        let mut segments = Vec::with_capacity(listing.logs.len().max(1));
        let bases: Vec<Offset> = listing.logs.iter().copied().collect();
        for (i, base) in bases.iter().enumerate() {
            let (segment, rebuild) =
                LogSegment::open(Arc::clone(self.dir), *base, Arc::clone(&self.open.files))?;
            for damage in self.known.iter().filter(|d| d.segment_base == *base) {
                segment.note_skip(damage.skip());
            }
            let next = bases.get(i + 1).copied();
            if let Some(next) = next {
                segment.set_next_offset(next);
            }
            let trusted = self.open.clean_shutdown
                || next.is_some_and(|next| next < self.open.recovery_point);
            if rebuild && trusted {
                self.rebuild_indexes(&segment)?;
            } else if rebuild {
                self.without_indexes.insert(*base);
            }
            segments.push(segment);
        }
        if segments.is_empty() {
            segments.push(self.create(self.open.log_start_offset)?);
        }
        Ok(segments)
    }

    /// Builds the indexes of a segment whose batches are trusted.
    fn rebuild_indexes(&mut self, segment: &LogSegment) -> Result<(), LogError> {
        tracing::warn!(segment = %segment.path().display(), "rebuilding its indexes");
        self.report.rebuilt_indexes += 1;
        segment
            .clear_indexes()
            .at("clear the indexes of", segment.path())?;
        let mut scan = segment.scan(0, segment.size())?;
        while let Some(batch) = scan.next_batch()? {
            self.index(segment, &batch)?;
        }
        segment.seal()?;
        segment.sync_indexes()?;
        Ok(())
    }

    fn index(&self, segment: &LogSegment, batch: &BatchPosition) -> Result<(), StorageError> {
        segment
            .index_batch(
                &batch.header,
                batch.position,
                self.config.index_interval_bytes,
            )
            .at("index", segment.path())
    }

    /// The log's end: known after a scan, else read from the last index entry on.
    fn end_of(&mut self, segments: &mut [LogSegment], scanned: bool) -> Result<Offset, LogError> {
        let Some(last) = segments.last() else {
            return Ok(self.open.log_start_offset);
        };
        last.activate()?;
        if !scanned {
            let entry = last
                .offset_index()
                .last()
                .at("read the offset index of", last.path())?;
            let mut scan = last.scan(entry.map_or(0, |e| e.position), last.size())?;
            let mut end = last.base_offset();
            while let Some(batch) = scan.next_batch()? {
                end = batch.header.next_offset();
            }
            last.set_next_offset(scan.skipped_to().map_or(end, |skipped| skipped.max(end)));
        }
        last.reload_max_timestamp()?;
        Ok(last.next_offset())
    }

    fn load_producers(
        &self,
        segments: &[Arc<LogSegment>],
        snapshots: &mut ProducerSnapshots,
        scanned_from: Option<Offset>,
        log_end: Offset,
    ) -> Result<ProducerStateManager, LogError> {
        let bases = segments.iter().map(|s| s.base_offset()).collect();
        snapshots.delete_above(log_end)?;
        snapshots.delete_strays(&bases)?;
        let local_start = segments[0].base_offset();
        if let Some(from) = scanned_from {
            // The transaction indexes of what was read are written again by the replay.
            for segment in segments.iter().filter(|s| s.base_offset() >= from) {
                remove(&txn_index_path(segment))?;
            }
        } else if let Some(active) = segments.last() {
            // It must at least be readable.
            TransactionIndex::open(txn_index_path(active))?;
        }
        let newest = scanned_from.map_or(log_end, |from| from.min(log_end));
        if scanned_from.is_some() {
            // They may know of producers that the state from here on does not, and a cut would bring those back.
            snapshots.delete_above(newest.max(local_start))?;
        }
        let mut producers = ProducerStateManager::default();
        let from = snapshots.load_latest(
            &mut producers,
            local_start,
            newest.max(local_start),
            self.open.now_ms,
            self.open.producer_id_expiration_ms,
        )?;
        let replayed = Replayed {
            txn_indexes_from: scanned_from,
        };
        replay(segments, &mut producers, from, log_end, &replayed)?;
        Ok(producers)
    }
}
