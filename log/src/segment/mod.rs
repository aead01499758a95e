//! One segment of a log: a `.log` file of batches and its two indexes.
//!
//! The published size and next offset only move after the bytes are written, and what lies below them never changes
//! except by truncation. Only the log's one writer changes a segment; readers need no lock of the log. The active
//! segment keeps its descriptor; a sealed one is opened through the shared cache.
//!
//! Kafka's rule for the indexes: an entry is added before a batch when more than `index.interval.bytes` were written
//! since the last one; it names the batch's last offset and the batch's position, and the time index takes the largest
//! timestamp so far. When a segment is sealed, its largest timestamp becomes the last time index entry.

mod change;
pub(crate) mod cleaned;
mod resume;
mod scan;
mod search;

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};

use parking_lot::{Mutex, RwLock};

pub use cleaned::{CLEANED_SUFFIX, CleanedSegment, SWAP_SUFFIX};
pub(crate) use scan::Skip;
pub use scan::{BatchPosition, BatchScan, ScanError};

use crate::durable;
use crate::file_cache::{FileCache, FileKey};
use crate::log_error::{AtPath, LogError, StorageError};
use crate::offset_index::OffsetIndex;
use crate::retention::SegmentMeta;
use crate::segment_files::{SegmentFile, segment_path};
use crate::time_index::{MaxTimestamp, TimeIndex};
use crate::types::{NO_TIMESTAMP, Offset, TimestampMs};

#[derive(Debug)]
pub struct LogSegment {
    dir: Arc<Path>,
    base_offset: Offset,
    key: FileKey,
    files: Arc<FileCache>,
    /// Held while this is the active segment.
    own_file: RwLock<Option<Arc<File>>>,
    size: AtomicU64,
    next_offset: AtomicI64,
    /// Bytes of the log that a sync has covered.
    synced_size: AtomicU64,
    /// The indexes of a sealed segment are on disk.
    indexes_synced: AtomicBool,
    offset_index: OffsetIndex,
    time_index: TimeIndex,
    /// What is known to be damaged, by position.
    skips: RwLock<Vec<Skip>>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// `None`: still to be read from the time index.
    max_timestamp: Option<MaxTimestamp>,
    bytes_since_index_entry: u64,
    /// The largest timestamp of the first batch, once it is known.
    first_timestamp: Option<TimestampMs>,
    /// By our clock; after a restart, that of the file's last change.
    first_append_ms: TimestampMs,
    last_modified_ms: TimestampMs,
}

impl LogSegment {
    /// A new, empty segment. Files that are in the way are cut to nothing, for good.
    pub fn create(
        dir: Arc<Path>,
        base_offset: Offset,
        files: Arc<FileCache>,
        now_ms: TimestampMs,
    ) -> Result<Self, StorageError> {
        let path = segment_path(&dir, base_offset, SegmentFile::Log);
        let file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .at("create", &path)?;
        if file.metadata().at("look at", &path)?.len() > 0 {
            file.set_len(0).at("cut", &path)?;
            durable::sync_data(&file, &path).at("sync", &path)?;
        }
        let offset_index = OffsetIndex::create(Arc::clone(&dir), base_offset, Arc::clone(&files))
            .at("create the offset index of", &path)?;
        let time_index = TimeIndex::create(Arc::clone(&dir), base_offset, Arc::clone(&files))
            .at("create the time index of", &path)?;
        Ok(Self {
            dir,
            base_offset,
            key: FileKey::next(),
            files,
            own_file: RwLock::new(Some(Arc::new(file))),
            size: AtomicU64::new(0),
            next_offset: AtomicI64::new(base_offset),
            synced_size: AtomicU64::new(0),
            indexes_synced: AtomicBool::new(false),
            offset_index,
            time_index,
            skips: RwLock::default(),
            state: Mutex::new(State {
                max_timestamp: Some(MaxTimestamp {
                    timestamp: NO_TIMESTAMP,
                    offset: base_offset,
                }),
                bytes_since_index_entry: 0,
                first_timestamp: None,
                first_append_ms: now_ms,
                last_modified_ms: now_ms,
            }),
        })
    }

    /// A segment as it is on disk. Indexes that are missing or cannot be right are replaced by empty ones, and the
    /// second value is true: the caller rebuilds them. Nothing but sizes is looked at; `next_offset` is what the caller
    /// knows until [`Self::set_next_offset`].
    pub fn open(
        dir: Arc<Path>,
        base_offset: Offset,
        files: Arc<FileCache>,
    ) -> Result<(Self, bool), StorageError> {
        let path = segment_path(&dir, base_offset, SegmentFile::Log);
        let metadata = std::fs::metadata(&path).at("open", &path)?;
        let size = metadata.len();
        let modified_ms = modified_ms(&metadata);
        let offset_index = OffsetIndex::open(Arc::clone(&dir), base_offset, Arc::clone(&files))
            .at("open the offset index of", &path)?;
        let time_index = TimeIndex::open(Arc::clone(&dir), base_offset, Arc::clone(&files))
            .at("open the time index of", &path)?;
        let (offset_index, time_index, rebuild) = match (offset_index, time_index) {
            (Some(offset_index), Some(time_index))
                if plausible(&offset_index, size).at("read the offset index of", &path)? =>
            {
                (offset_index, time_index, false)
            }
            _ => (
                OffsetIndex::create(Arc::clone(&dir), base_offset, Arc::clone(&files))
                    .at("create the offset index of", &path)?,
                TimeIndex::create(Arc::clone(&dir), base_offset, Arc::clone(&files))
                    .at("create the time index of", &path)?,
                size > 0,
            ),
        };
        let segment = Self {
            dir,
            base_offset,
            key: FileKey::next(),
            files,
            own_file: RwLock::new(None),
            size: AtomicU64::new(size),
            next_offset: AtomicI64::new(base_offset),
            synced_size: AtomicU64::new(0),
            indexes_synced: AtomicBool::new(false),
            offset_index,
            time_index,
            skips: RwLock::default(),
            state: Mutex::new(State {
                max_timestamp: None,
                bytes_since_index_entry: 0,
                first_timestamp: None,
                first_append_ms: modified_ms,
                last_modified_ms: modified_ms,
            }),
        };
        Ok((segment, rebuild))
    }

    pub fn base_offset(&self) -> Offset {
        self.base_offset
    }

    /// Names this segment's log file, and no other that was or will be.
    pub(crate) fn file_key(&self) -> FileKey {
        self.key
    }

    pub fn path(&self) -> PathBuf {
        segment_path(&self.dir, self.base_offset, SegmentFile::Log)
    }

    pub fn size(&self) -> u64 {
        self.size.load(Ordering::Acquire)
    }

    pub fn next_offset(&self) -> Offset {
        self.next_offset.load(Ordering::Acquire)
    }

    pub fn set_next_offset(&self, offset: Offset) {
        self.next_offset.store(offset, Ordering::Release);
    }

    pub fn offset_index(&self) -> &OffsetIndex {
        &self.offset_index
    }

    pub fn time_index(&self) -> &TimeIndex {
        &self.time_index
    }

    /// The log file, for reading; of the active segment also for writing.
    pub fn file(&self) -> Result<Arc<File>, StorageError> {
        if let Some(file) = self.own_file.read().as_ref() {
            return Ok(Arc::clone(file));
        }
        let path = self.path();
        let opened = self.files.get(self.key, || File::open(&path));
        // The name may have gone to another file between the look above and the open.
        if let Some(file) = self.own_file.read().as_ref() {
            self.files.remove(self.key);
            return Ok(Arc::clone(file));
        }
        opened.at("open", &path)
    }

    /// Keeps all files open from here on, so that whoever still reads this segment is not disturbed when its names are
    /// given to the segment that replaces it.
    pub(crate) fn pin(&self) -> Result<(), StorageError> {
        let path = self.path();
        let file = self.file()?;
        *self.own_file.write() = Some(file);
        self.files.remove(self.key);
        self.offset_index
            .pin()
            .at("open the offset index of", &path)?;
        self.time_index.pin().at("open the time index of", &path)
    }

    /// Makes this the active segment: opens it for writing and keeps it open.
    pub fn activate(&self) -> Result<(), StorageError> {
        let path = self.path();
        let file = File::options()
            .read(true)
            .write(true)
            .open(&path)
            .at("open", &path)?;
        self.files.remove(self.key);
        *self.own_file.write() = Some(Arc::new(file));
        self.indexes_synced.store(false, Ordering::Release);
        Ok(())
    }

    /// The largest timestamp and the last offset of the batch that has it.
    pub fn max_timestamp(&self) -> Result<MaxTimestamp, StorageError> {
        let mut state = self.state.lock();
        if let Some(max) = state.max_timestamp {
            return Ok(max);
        }
        let max = self
            .time_index
            .last()
            .at("read the time index of", self.path())?;
        state.max_timestamp = Some(max);
        Ok(max)
    }

    pub fn meta(&self) -> Result<SegmentMeta, StorageError> {
        let largest_timestamp = self.max_timestamp()?.timestamp;
        Ok(SegmentMeta {
            base_offset: self.base_offset,
            next_offset: self.next_offset(),
            size_bytes: self.size(),
            largest_timestamp,
            last_modified_ms: self.last_modified_ms(),
        })
    }

    /// How long the segment has been filling by record time: from its first batch to a batch with `timestamp`; by our
    /// clock when its first batch has no timestamp.
    pub fn waited_ms(
        &self,
        timestamp: TimestampMs,
        now_ms: TimestampMs,
    ) -> Result<TimestampMs, LogError> {
        let Some(first) = self.first_timestamp()? else {
            return Ok(0);
        };
        if first > NO_TIMESTAMP {
            return Ok(timestamp.saturating_sub(first));
        }
        Ok(self.age_ms(now_ms))
    }

    /// The largest timestamp of the first batch; `None` when there is no batch.
    pub fn first_timestamp(&self) -> Result<Option<TimestampMs>, LogError> {
        let known = self.state.lock().first_timestamp;
        if known.is_some() {
            return Ok(known);
        }
        let Some(batch) = self.scan(0, self.size())?.next_batch()? else {
            return Ok(None);
        };
        let first = batch.header.max_timestamp;
        self.state.lock().first_timestamp = Some(first);
        Ok(Some(first))
    }

    /// When the last batch was written, by our clock; after a restart, that of the file.
    pub fn last_modified_ms(&self) -> TimestampMs {
        self.state.lock().last_modified_ms
    }

    /// When the first batch was written, by our clock; after a restart, that of the file.
    pub fn first_append_ms(&self) -> TimestampMs {
        self.state.lock().first_append_ms
    }

    /// How long ago the first batch was written, by our clock.
    pub fn age_ms(&self, now_ms: TimestampMs) -> TimestampMs {
        now_ms.saturating_sub(self.state.lock().first_append_ms)
    }

    /// Ends the segment: final time index entry, indexes written and trimmed, descriptor handed to the cache.
    pub fn seal(&self) -> Result<(), StorageError> {
        let path = self.path();
        let max = self.max_timestamp()?;
        self.time_index
            .maybe_append(max)
            .at("end the time index of", &path)?;
        self.time_index.seal().at("end the time index of", &path)?;
        self.offset_index
            .seal()
            .at("end the offset index of", &path)?;
        Ok(())
    }

    /// Gives the descriptor of a sealed segment to the cache.
    pub fn deactivate(&self) {
        if let Some(file) = self.own_file.write().take() {
            self.files.insert(self.key, file);
        }
    }

    pub fn is_synced(&self, active: bool) -> bool {
        self.synced_size.load(Ordering::Acquire) >= self.size()
            && (active || self.indexes_synced.load(Ordering::Acquire))
    }

    /// All was synced by an earlier life of the process.
    pub fn mark_synced(&self) {
        self.synced_size.store(self.size(), Ordering::Release);
        self.indexes_synced.store(true, Ordering::Release);
    }

    /// Makes the published bytes safe; of a sealed segment also the indexes. An index of the active segment is only
    /// written: it can be rebuilt. Tells how many bytes were not synced before.
    pub fn sync(&self, active: bool) -> Result<u64, StorageError> {
        let path = self.path();
        let size = self.size();
        let mut covered = 0;
        if self.synced_size.load(Ordering::Acquire) < size {
            durable::sync_data(&*self.file()?, &path).at("sync", &path)?;
            let before = self.synced_size.fetch_max(size, Ordering::AcqRel);
            covered = size.saturating_sub(before);
        }
        if active {
            return Ok(covered);
        }
        if !self.indexes_synced.load(Ordering::Acquire) {
            self.sync_indexes()?;
            self.indexes_synced.store(true, Ordering::Release);
        }
        Ok(covered)
    }

    /// How much of the log file the syncs have covered.
    pub(crate) fn synced_bytes(&self) -> u64 {
        self.synced_size.load(Ordering::Acquire)
    }

    /// An earlier life has synced this much.
    pub(crate) fn set_synced_bytes(&self, bytes: u64) {
        self.synced_size.store(bytes, Ordering::Release);
    }

    /// Asks the kernel to begin writing the unsynced bytes, and does not wait. A hint: a sync is still due.
    pub(crate) fn start_writeback(&self) {
        let from = self.synced_bytes();
        let Some(len) = self.size().checked_sub(from).filter(|len| *len > 0) else {
            return;
        };
        if let Ok(file) = self.file() {
            crate::writeback::start(&file, from, len);
        }
    }

    /// Makes the index entries safe that there are now.
    pub(crate) fn sync_indexes(&self) -> Result<(), StorageError> {
        let path = self.path();
        self.offset_index
            .sync()
            .at("sync the offset index of", &path)?;
        self.time_index.sync().at("sync the time index of", &path)
    }

    /// Cuts the file to what is published, which drops the torn bytes of a failed write.
    pub fn cut_torn_bytes(&self) -> Result<(), StorageError> {
        let path = self.path();
        self.file()?
            .set_len(self.size())
            .at("cut the torn end of", &path)
    }

    /// Closes cached descriptors, before the files are renamed or removed.
    pub fn forget_files(&self) {
        *self.own_file.write() = None;
        self.files.remove(self.key);
        self.offset_index.forget();
        self.time_index.forget();
    }

    /// Writes index entries that are only in memory.
    pub fn write_indexes(&self) -> Result<(), StorageError> {
        let path = self.path();
        self.offset_index
            .write_pending()
            .at("write the offset index of", &path)?;
        self.time_index
            .write_pending()
            .at("write the time index of", &path)
    }
}

fn modified_ms(metadata: &std::fs::Metadata) -> TimestampMs {
    metadata
        .modified()
        .ok()
        .and_then(|t| t.duration_since(std::time::UNIX_EPOCH).ok())
        .and_then(|d| i64::try_from(d.as_millis()).ok())
        .unwrap_or(0)
}

/// Cheap: whether the last entry lies within the log. The rest is checked where the bytes below may have been lost.
fn plausible(index: &OffsetIndex, log_bytes: u64) -> io::Result<bool> {
    Ok(match index.last()? {
        None => true,
        Some(last) => last.position < log_bytes && index.can_hold(last.offset),
    })
}
