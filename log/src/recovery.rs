//! Brings a partition's folder back to a consistent log.
//!
//! 1. Remains of deletions and half-written files go. Index files without a log go.
//! 2. After a clean shutdown the segments are taken as they are; only missing indexes are rebuilt, and the end of the
//!    last segment is read from its last index entry on.
//! 3. Else every batch from the recovery point on is read and its CRC checked. At the first that is not whole, the log
//!    is cut and later segments are dropped. Indexes are built anew on the way; of the segment that holds the recovery
//!    point, index entries below it are kept when all of the index makes sense.
//! 4. Below the recovery point everything was synced: damage there is no torn write. It is reported as an error and
//!    nothing is cut.
//! 5. The producers' state comes from the newest usable snapshot and the headers behind it; leader epochs from their
//!    checkpoint and the batches, cut at both ends of the log.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::leader_epoch::LeaderEpochFileCache;
use crate::log::{OpenLog, RecoveryReport, Replayed, replay, txn_index_path};
use crate::log_config::LogConfig;
use crate::log_error::{AtPath, LogError, StorageError};
use crate::producer_state::{ProducerSnapshots, ProducerStateManager};
use crate::record::BatchHeader;
use crate::segment::{BatchPosition, BatchScan, LogSegment, ScanError};
use crate::segment_files::{DELETED_SUFFIX, SegmentFile, segment_path};
use crate::txn_index::TransactionIndex;
use crate::types::{Offset, TopicPartition};

/// Suffixes of files that never count: deletions that did not finish, and files that were never renamed into place.
const REMAINS: [&str; 3] = [DELETED_SUFFIX, ".tmp", ".cleaned"];
/// The CRC covers a batch from its attributes on.
const CRC_START: usize = 21;
/// A batch is read in pieces of this size, so that a lying length costs no memory.
const CRC_READ_LEN: usize = 256 * 1024;

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
}

pub(crate) fn load(
    dir: &Arc<Path>,
    tp: &TopicPartition,
    config: &LogConfig,
    open: &OpenLog,
) -> Result<Loaded, LogError> {
    let listing = Listing::read(dir)?;
    let mut recovery = Recovery {
        dir,
        config,
        open,
        report: RecoveryReport::default(),
        epochs: read_epochs(dir, open)?,
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
        for segment in segments.drain(..) {
            remove_segment(&segment)?;
        }
        snapshots.delete_all()?;
        segments.push(recovery.create(log_start)?);
        log_end = log_start;
    }
    if let Some(active) = segments.last() {
        active.activate()?;
    }
    let segments: Vec<_> = segments.into_iter().map(Arc::new).collect();
    if open.clean_shutdown {
        segments.iter().for_each(|segment| segment.mark_synced());
    }

    let producers = recovery.load_producers(&segments, &mut snapshots, scanned_from, log_end)?;
    let mut epochs = recovery.epochs;
    epochs.truncate_from_end(log_end);
    epochs.truncate_from_start(log_start);
    epochs.flush(true)?;

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

/// What lies in the folder, after the remains are gone.
struct Listing {
    logs: BTreeSet<Offset>,
    snapshots: BTreeSet<Offset>,
}

impl Listing {
    fn read(dir: &Path) -> Result<Self, StorageError> {
        let mut listing = Self {
            logs: BTreeSet::new(),
            snapshots: BTreeSet::new(),
        };
        let mut indexes: Vec<(Offset, PathBuf)> = Vec::new();
        for entry in std::fs::read_dir(dir).at("list", dir)? {
            let entry = entry.at("list", dir)?;
            let name = entry.file_name();
            let Some(name) = name.to_str() else { continue };
            if REMAINS.iter().any(|suffix| name.ends_with(suffix)) {
                remove(&entry.path())?;
                continue;
            }
            match SegmentFile::parse(name) {
                Some((offset, SegmentFile::Log)) => {
                    listing.logs.insert(offset);
                }
                Some((offset, SegmentFile::Snapshot)) => {
                    listing.snapshots.insert(offset);
                }
                Some((offset, _)) => indexes.push((offset, entry.path())),
                None => {}
            }
        }
        for (offset, path) in indexes {
            if !listing.logs.contains(&offset) {
                tracing::warn!(file = %path.display(), "an index without its log is removed");
                remove(&path)?;
            }
        }
        Ok(listing)
    }
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
    report: RecoveryReport,
    epochs: LeaderEpochFileCache,
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
            let next = bases.get(i + 1).copied();
            if let Some(next) = next {
                segment.set_next_offset(next);
            }
            let trusted = self.open.clean_shutdown
                || next.is_some_and(|next| next < self.open.recovery_point);
            if rebuild && trusted {
                self.rebuild_indexes(&segment)?;
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
        Ok(())
    }

    fn index(&self, segment: &LogSegment, batch: &BatchPosition) -> Result<(), StorageError> {
        segment
            .index_batch(
                &batch.header,
                batch.position,
                self.config.index_interval_bytes,
                self.open.now_ms,
            )
            .at("index", segment.path())
    }

    /// Checks the segments from the recovery point on and cuts the log where it is torn. Tells the base offset of the
    /// first segment that was read.
    fn scan_segments(
        &mut self,
        segments: &mut Vec<LogSegment>,
    ) -> Result<Option<Offset>, LogError> {
        // A segment that ends exactly at the recovery point may have been sealed after the sync.
        let first = segments
            .partition_point(|s| s.base_offset() < self.open.recovery_point)
            .saturating_sub(1);
        let scanned_from = segments[first].base_offset();
        let mut i = first;
        while i < segments.len() {
            let torn = self.scan_segment(&segments[i])?;
            if torn && i + 1 < segments.len() {
                for dropped in segments.drain(i + 1..) {
                    tracing::warn!(segment = %dropped.path().display(), "dropped behind a torn segment");
                    self.report.dropped_segments += 1;
                    self.report.truncated_bytes += dropped.size();
                    remove_segment(&dropped)?;
                }
            }
            i += 1;
        }
        // Between segments there is no loss that could be seen: a cleaned segment may end early too.
        for pair in segments[first..].windows(2) {
            pair[0].set_next_offset(pair[1].base_offset());
        }
        Ok(Some(scanned_from))
    }

    /// Reads one segment from the recovery point on; true when its end was torn off.
    fn scan_segment(&mut self, segment: &LogSegment) -> Result<bool, LogError> {
        let recovery_point = self.open.recovery_point;
        let size = segment.size();
        let start = self.trusted_start(segment, recovery_point)?;
        self.report.scanned_segments += 1;
        let mut scan = segment.scan(start, size)?;
        let mut valid_end = start;
        let mut next_offset = segment.base_offset();
        let torn = loop {
            let batch = match scan.next_batch() {
                Ok(None) => break None,
                Ok(Some(batch)) => batch,
                Err(ScanError::Storage(e)) => return Err(e.into()),
                Err(corrupt) => break Some(corrupt),
            };
            let is_new = batch.header.base_offset >= recovery_point;
            if let Err(corrupt) = self.check_batch(segment, &scan, &batch, next_offset, is_new)? {
                break Some(corrupt);
            }
            // What the trusted part of the indexes holds already is not added again.
            if batch.position > start || start == 0 {
                self.index(segment, &batch)?;
            }
            self.note_epoch(&batch.header);
            valid_end = batch.end();
            next_offset = batch.header.next_offset();
            self.report.scanned_bytes += batch.header.size() as u64;
        };
        let is_torn = torn.is_some();
        if let Some(corrupt) = torn {
            if next_offset < recovery_point {
                // It was synced, so this is no torn write.
                return Err(corrupt.into());
            }
            tracing::warn!(
                segment = %segment.path().display(),
                position = valid_end,
                bytes = size - valid_end,
                reason = %corrupt,
                "cutting a torn end"
            );
            self.report.truncated_bytes += size - valid_end;
            let path = segment.path();
            File::options()
                .write(true)
                .open(&path)
                .and_then(|file| file.set_len(valid_end))
                .at("cut", &path)?;
            segment.set_size(valid_end);
        }
        segment.set_next_offset(next_offset);
        segment.seal()?;
        Ok(is_torn)
    }

    /// Where reading begins. Of the segment that holds the recovery point, the last index entry below it, when the
    /// indexes make sense; all entries behind it are dropped. Else the segment's start, with empty indexes.
    fn trusted_start(
        &mut self,
        segment: &LogSegment,
        recovery_point: Offset,
    ) -> Result<u64, LogError> {
        let path = segment.path();
        let offsets = segment.offset_index();
        let sane = segment.base_offset() < recovery_point
            && offsets.entries() > 0
            && offsets
                .is_sane(segment.size())
                .at("read the offset index of", &path)?
            && segment
                .time_index()
                .is_sane(Offset::MAX)
                .at("read the time index of", &path)?;
        if sane {
            offsets
                .truncate_to(recovery_point)
                .at("cut the offset index of", &path)?;
            if let Some(last) = offsets.last().at("read the offset index of", &path)? {
                let found = segment
                    .scan(last.position, segment.size())?
                    .next_batch()
                    .ok()
                    .flatten();
                if found.is_some_and(|batch| batch.header.last_offset() == last.offset) {
                    segment
                        .time_index()
                        .truncate_to(last.offset + 1)
                        .at("cut the time index of", &path)?;
                    return Ok(last.position);
                }
            }
        }
        if segment.size() > 0 {
            self.report.rebuilt_indexes += 1;
        }
        segment.clear_indexes().at("clear the indexes of", &path)?;
        Ok(0)
    }

    /// Checks a batch, with its CRC if it is above the recovery point.
    fn check_batch(
        &mut self,
        segment: &LogSegment,
        scan: &BatchScan,
        batch: &BatchPosition,
        next_offset: Offset,
        is_new: bool,
    ) -> Result<Result<(), ScanError>, LogError> {
        let corrupt = |reason: String| {
            Ok(Err(ScanError::Corrupt {
                path: scan.path().clone(),
                position: batch.position,
                reason,
            }))
        };
        if batch.header.base_offset < next_offset {
            return corrupt(format!(
                "base offset {} where {next_offset} or more is due",
                batch.header.base_offset
            ));
        }
        if !segment.offset_index().can_hold(batch.header.last_offset()) {
            return corrupt(format!(
                "offset {} does not belong to this segment",
                batch.header.last_offset()
            ));
        }
        if is_new {
            let computed = self.crc(scan.file(), batch).at("read", segment.path())?;
            if computed != batch.header.crc {
                return corrupt(format!(
                    "CRC-32C is {computed:#010x}, the batch says {:#010x}",
                    batch.header.crc
                ));
            }
        }
        Ok(Ok(()))
    }

    fn crc(&mut self, file: &File, batch: &BatchPosition) -> io::Result<u32> {
        let mut position = batch.position + CRC_START as u64;
        let mut crc = 0;
        while position < batch.end() {
            let len = (CRC_READ_LEN as u64).min(batch.end() - position) as usize;
            self.buffer.resize(len, 0);
            file.read_exact_at(&mut self.buffer, position)?;
            crc = crc32c::crc32c_append(crc, &self.buffer);
            position += len as u64;
        }
        Ok(crc)
    }

    fn note_epoch(&mut self, header: &BatchHeader) {
        let epoch = header.partition_leader_epoch;
        if epoch >= 0
            && self
                .epochs
                .latest_epoch()
                .is_none_or(|latest| latest < epoch)
        {
            self.epochs.assign(epoch, header.base_offset);
        }
    }

    /// The log's end: known after a scan, else read from the last index entry on.
    fn end_of(&mut self, segments: &mut [LogSegment], scanned: bool) -> Result<Offset, LogError> {
        let Some(last) = segments.last() else {
            return Ok(self.open.log_start_offset);
        };
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
            last.set_next_offset(end);
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
        replay(
            segments,
            &mut producers,
            from,
            log_end,
            self.open.now_ms,
            &replayed,
        )?;
        Ok(producers)
    }
}
