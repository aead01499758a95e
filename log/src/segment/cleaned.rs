//! A segment that the cleaner writes, under names that do not count until it is swapped in.
//!
//! All its files end in `.cleaned`: the log, both indexes, and a transaction index when there are aborted transactions.
//! Index entries follow the same rule as an append's. When it is finished, all of it is on disk but for the names. What
//! becomes of it is `Log::replace_segments`' business; files that are left behind go at the next start.

use std::fs::{File, FileTimes};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::log_error::{AtPath, StorageError};
use crate::record::BatchHeader;
use crate::segment_files::{SegmentFile, segment_path};
use crate::time_index::MaxTimestamp;
use crate::txn_index::AbortedTxn;
use crate::types::{NO_TIMESTAMP, Offset, TimestampMs};

/// Appended to the names of files that are being written.
pub const CLEANED_SUFFIX: &str = ".cleaned";
/// Appended to the names of files that are complete and about to take their final names.
pub const SWAP_SUFFIX: &str = ".swap";

/// What gathers before it is written.
const WRITE_LEN: usize = 256 * 1024;
/// So that the disk is kept busy in small pieces and other people's syncs do not wait for all of a segment.
const SYNC_INTERVAL_BYTES: u64 = 32 << 20;
/// Positions in an index are 31 bits wide.
const SIZE_MAX: u64 = i32::MAX as u64;

#[derive(Debug)]
pub struct CleanedSegment {
    dir: Arc<Path>,
    base_offset: Offset,
    index_interval_bytes: u32,
    log: File,
    offset_index: BufWriter<File>,
    time_index: BufWriter<File>,
    aborted: Vec<AbortedTxn>,
    /// Bytes that are not written yet.
    buffer: Vec<u8>,
    /// With the buffer's.
    size: u64,
    synced: u64,
    max_timestamp: MaxTimestamp,
    time_index_last: MaxTimestamp,
    bytes_since_index_entry: u64,
}

/// A finished segment, safe on disk under its `.cleaned` names.
#[derive(Debug)]
pub(crate) struct FinishedSegment {
    pub dir: Arc<Path>,
    base_offset: Offset,
    pub has_txn_index: bool,
}

/// The path of one of a segment's files with a suffix behind its name.
pub(crate) fn suffixed(
    dir: &Path,
    base_offset: Offset,
    kind: SegmentFile,
    suffix: &str,
) -> PathBuf {
    let mut path = segment_path(dir, base_offset, kind).into_os_string();
    path.push(suffix);
    path.into()
}

impl CleanedSegment {
    /// Begins the segment at `base_offset` in a partition's folder. Remains of an earlier try are overwritten.
    pub fn create(
        dir: Arc<Path>,
        base_offset: Offset,
        index_interval_bytes: u32,
    ) -> Result<Self, StorageError> {
        let create = |kind| {
            let path = suffixed(&dir, base_offset, kind, CLEANED_SUFFIX);
            File::create(&path).at("create", &path)
        };
        let start = MaxTimestamp {
            timestamp: NO_TIMESTAMP,
            offset: base_offset,
        };
        // Of an earlier try; this one may have no aborted transaction.
        let _ = std::fs::remove_file(suffixed(
            &dir,
            base_offset,
            SegmentFile::TxnIndex,
            CLEANED_SUFFIX,
        ));
        Ok(Self {
            log: create(SegmentFile::Log)?,
            offset_index: BufWriter::new(create(SegmentFile::OffsetIndex)?),
            time_index: BufWriter::new(create(SegmentFile::TimeIndex)?),
            dir,
            base_offset,
            index_interval_bytes,
            aborted: Vec::new(),
            buffer: Vec::with_capacity(WRITE_LEN),
            size: 0,
            synced: 0,
            max_timestamp: start,
            time_index_last: start,
            bytes_since_index_entry: 0,
        })
    }

    pub fn base_offset(&self) -> Offset {
        self.base_offset
    }

    pub fn size(&self) -> u64 {
        self.size
    }

    /// Adds a batch behind the others. Its offsets must lie above theirs.
    pub fn append(&mut self, header: &BatchHeader, bytes: &[u8]) -> Result<(), StorageError> {
        if self.size + bytes.len() as u64 > SIZE_MAX {
            let full = io::Error::new(io::ErrorKind::FileTooLarge, "a segment holds at most 2 GiB");
            return Err(full).at("write", self.path());
        }
        self.index(header).at("write the indexes of", self.path())?;
        if self.buffer.len() + bytes.len() > WRITE_LEN {
            self.write_buffer()?;
        }
        if bytes.len() >= WRITE_LEN {
            self.log.write_all(bytes).at("write", self.path())?;
        } else {
            self.buffer.extend_from_slice(bytes);
        }
        self.size += bytes.len() as u64;
        Ok(())
    }

    fn index(&mut self, header: &BatchHeader) -> io::Result<()> {
        let last_offset = header.last_offset();
        // A batch that was emptied has no record that could be found by time.
        if header.records_count > 0 && header.max_timestamp > self.max_timestamp.timestamp {
            self.max_timestamp = MaxTimestamp {
                timestamp: header.max_timestamp,
                offset: last_offset,
            };
        }
        if self.bytes_since_index_entry > u64::from(self.index_interval_bytes) {
            self.bytes_since_index_entry = 0;
            let relative = (last_offset - self.base_offset) as u32;
            self.offset_index.write_all(&relative.to_be_bytes())?;
            self.offset_index
                .write_all(&(self.size as u32).to_be_bytes())?;
            self.index_time()?;
        }
        self.bytes_since_index_entry += header.size() as u64;
        Ok(())
    }

    fn index_time(&mut self) -> io::Result<()> {
        let max = self.max_timestamp;
        if max.timestamp <= self.time_index_last.timestamp {
            return Ok(());
        }
        let relative = (max.offset - self.base_offset) as u32;
        self.time_index.write_all(&max.timestamp.to_be_bytes())?;
        self.time_index.write_all(&relative.to_be_bytes())?;
        self.time_index_last = max;
        Ok(())
    }

    /// The aborted transactions of which this segment keeps the markers, in their order.
    pub fn set_aborted(&mut self, aborted: Vec<AbortedTxn>) {
        self.aborted = aborted;
    }

    fn write_buffer(&mut self) -> Result<(), StorageError> {
        self.log.write_all(&self.buffer).at("write", self.path())?;
        self.buffer.clear();
        if self.size - self.synced >= SYNC_INTERVAL_BYTES {
            self.log.sync_data().at("sync", self.path())?;
            self.synced = self.size;
        }
        Ok(())
    }

    fn path(&self) -> PathBuf {
        suffixed(
            &self.dir,
            self.base_offset,
            SegmentFile::Log,
            CLEANED_SUFFIX,
        )
    }

    /// Writes what is left and syncs all files. The log file gets the age of the newest segment that it stands for.
    pub(crate) fn finish(
        mut self,
        last_modified_ms: TimestampMs,
    ) -> Result<FinishedSegment, StorageError> {
        self.write_buffer()?;
        let path = self.path();
        self.index_time().at("end the time index of", &path)?;
        for index in [self.offset_index, self.time_index] {
            let file = index.into_inner().map_err(io::IntoInnerError::into_error);
            file.and_then(|file| file.sync_all())
                .at("end the indexes of", &path)?;
        }
        if !self.aborted.is_empty() {
            let txn_index = suffixed(
                &self.dir,
                self.base_offset,
                SegmentFile::TxnIndex,
                CLEANED_SUFFIX,
            );
            let bytes: Vec<u8> = self.aborted.iter().flat_map(AbortedTxn::encode).collect();
            File::create(&txn_index)
                .and_then(|mut file| file.write_all(&bytes).and_then(|()| file.sync_all()))
                .at("write", &txn_index)?;
        }
        let modified = Duration::from_millis(u64::try_from(last_modified_ms).unwrap_or(0));
        self.log
            .set_times(FileTimes::new().set_modified(SystemTime::UNIX_EPOCH + modified))
            .at("set the time of", &path)?;
        self.log.sync_all().at("sync", &path)?;
        Ok(FinishedSegment {
            has_txn_index: !self.aborted.is_empty(),
            dir: self.dir,
            base_offset: self.base_offset,
        })
    }

    /// Removes what was written: it is not wanted any more. What cannot be removed goes at the next start.
    pub fn abandon(self) {
        remove_cleaned(&self.dir, self.base_offset);
    }
}

impl FinishedSegment {
    /// As [`CleanedSegment::abandon`].
    pub fn abandon(self) {
        remove_cleaned(&self.dir, self.base_offset);
    }
}

fn remove_cleaned(dir: &Path, base_offset: Offset) {
    for kind in SegmentFile::ALL {
        let _ = std::fs::remove_file(suffixed(dir, base_offset, kind, CLEANED_SUFFIX));
    }
}
