//! One round of cleaning one log.
//!
//! 1. Everything that the round will read is synced first: a record may only go when the one that supersedes it is safe.
//! 2. The dirty part is read into the map, up to where the map is full: there the round ends.
//! 3. The log's segments up to there are put together in groups, and each group is copied through the filter into one
//!    new segment, which then takes the group's place.
//!
//! A group of one segment that loses nothing is left as it is. Batches stream through one buffer; nothing else is held.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use strandline_log::log::{ReplaceError, SwapOp, SwapStep};
use strandline_log::record::{
    BatchError, BatchHeader, ControlRecordType, DecodeLimit, RecordViews,
};
use strandline_log::segment::LogSegment;
use strandline_log::{Log, LogError, Offset, StorageError, TimestampMs};

use crate::batch_filter::{BatchFilter, Horizon, RecordCounts, with_body};
use crate::batch_reader::BatchReader;
use crate::cleaned_transactions::CleanedTransactions;
use crate::config::CleanerConfig;
use crate::offset_map::OffsetMap;
use crate::plan::{LogToClean, LogView, SegmentView};
use crate::round::{Round, last_of_producers};

/// A marker takes tens of bytes.
const MARKER_LIMIT: DecodeLimit = DecodeLimit::bytes(64 << 10);
/// Progress is told in pieces of about this size.
const PROGRESS_BYTES: u64 = 64 << 10;

#[derive(Debug, thiserror::Error)]
pub enum CleanError {
    /// The caller wanted it to stop, or the partition went away. Nothing is wrong.
    #[error("cleaning was stopped")]
    Stopped,
    /// The log changed under the cleaner; it is looked at anew.
    #[error("the log changed meanwhile")]
    Changed,
    #[error(transparent)]
    Log(#[from] LogError),
}

impl From<StorageError> for CleanError {
    fn from(e: StorageError) -> Self {
        Self::Log(e.into())
    }
}

impl From<ReplaceError> for CleanError {
    fn from(e: ReplaceError) -> Self {
        match e {
            ReplaceError::Gone(_) => Self::Changed,
            ReplaceError::Log(e) => Self::Log(e),
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct CleanerStats {
    /// Of the dirty part, for the map.
    pub map_bytes_read: u64,
    pub map_records_read: u64,
    pub map_utilization: f64,
    pub bytes_read: u64,
    pub bytes_written: u64,
    pub records: RecordCounts,
    pub segments_before: usize,
    pub segments_after: usize,
}

/// The log is clean up to `end_offset`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cleaned {
    pub end_offset: Offset,
    pub stats: CleanerStats,
}

/// Told how many bytes were read or written since the last time; may wait, and says whether to go on.
pub type Progress<'a> = &'a mut dyn FnMut(u64) -> ControlFlow<()>;

/// What is to become of each operation of a swap.
pub(crate) type SwapSteps<'a> = &'a mut dyn FnMut(&SwapOp) -> SwapStep;

pub(crate) struct Pace<'a> {
    progress: Progress<'a>,
    pending: u64,
}

impl Pace<'_> {
    pub fn add(&mut self, bytes: u64) -> Result<(), CleanError> {
        self.pending += bytes;
        if self.pending < PROGRESS_BYTES {
            return Ok(());
        }
        match (self.progress)(std::mem::take(&mut self.pending)) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(CleanError::Stopped),
        }
    }
}

/// A log's segments and what is known of them.
pub struct LogSnapshot {
    pub view: LogView,
    pub segments: Arc<Vec<Arc<LogSegment>>>,
}

impl LogSnapshot {
    pub fn of(log: &Log) -> Result<Self, LogError> {
        let segments = log.log_segments();
        let config = log.config();
        // Reading the first batch of each segment is only worth it when someone asks.
        let asks_for_age = config.max_compaction_lag_ms < TimestampMs::MAX;
        let views = segments
            .iter()
            .map(|segment| {
                let first_timestamp = if asks_for_age {
                    segment.first_timestamp()?
                } else {
                    None
                };
                let offsets = u64::from(segment.offset_index().entries()) * 8;
                let times = u64::from(segment.time_index().entries()) * 12;
                Ok(SegmentView {
                    base_offset: segment.base_offset(),
                    size_bytes: segment.size(),
                    index_bytes: offsets.max(times),
                    largest_timestamp: segment.max_timestamp()?.timestamp,
                    first_timestamp,
                })
            })
            .collect::<Result<_, LogError>>()?;
        let view = LogView {
            segments: views,
            log_start: log.log_start_offset(),
            log_end: log.log_end_offset(),
            last_stable: log.last_stable_offset(),
            min_compaction_lag_ms: config.min_compaction_lag_ms,
            max_compaction_lag_ms: config.max_compaction_lag_ms,
            min_cleanable_dirty_ratio: config.min_cleanable_dirty_ratio,
        };
        Ok(Self { view, segments })
    }
}

/// Carries rounds out. Holds no state between them.
#[derive(Debug)]
pub struct Cleaner {
    config: CleanerConfig,
    /// Of the hashes of keys, so that nobody can prepare keys that collide.
    seed: u64,
}

impl Cleaner {
    pub fn new(config: CleanerConfig, seed: u64) -> Self {
        Self { config, seed }
    }

    /// Cleans the log up to `plan.first_uncleanable`, or as far as the map reaches.
    pub fn clean(
        &self,
        log: &Log,
        plan: &LogToClean,
        now_ms: TimestampMs,
        progress: Progress<'_>,
    ) -> Result<Cleaned, CleanError> {
        self.clean_by(log, plan, now_ms, progress, &mut |_| SwapStep::Do)
    }

    /// As [`Self::clean`], with swaps that may be made to crash.
    pub(crate) fn clean_by(
        &self,
        log: &Log,
        plan: &LogToClean,
        now_ms: TimestampMs,
        progress: Progress<'_>,
        step: SwapSteps<'_>,
    ) -> Result<Cleaned, CleanError> {
        let first = log.log_segments()[0].base_offset();
        match self.clean_log(log, plan, now_ms, progress, step) {
            // Retention took a segment before it was read.
            Err(CleanError::Log(LogError::Storage(e)))
                if e.is_not_found() && log.log_segments()[0].base_offset() != first =>
            {
                Err(CleanError::Changed)
            }
            result => result,
        }
    }

    fn clean_log(
        &self,
        log: &Log,
        plan: &LogToClean,
        now_ms: TimestampMs,
        progress: Progress<'_>,
        step: SwapSteps<'_>,
    ) -> Result<Cleaned, CleanError> {
        log.flush_to(plan.first_uncleanable)?;
        let mut pace = Pace {
            progress,
            pending: 0,
        };
        let snapshot = LogSnapshot::of(log)?;
        let mut stats = CleanerStats::default();
        let map = self.build_offset_map(log, &snapshot, plan, &mut stats, &mut pace)?;
        let end_offset = map.latest_offset() + 1;
        let config = log.config();
        let groups = snapshot.view.groups(
            end_offset,
            plan.first_uncleanable,
            u64::from(config.segment_bytes),
            u64::from(config.segment_index_bytes),
        );
        let mut round = Round {
            log,
            map: &map,
            horizon: Horizon {
                now_ms,
                delete_retention_ms: config.delete_retention_ms,
            },
            upper_bound: plan.first_uncleanable,
            index_interval_bytes: config.index_interval_bytes,
            io_buffer_bytes: self.config.io_buffer_bytes,
            last_of_producers: last_of_producers(log),
            transactions: CleanedTransactions::default(),
            filter: BatchFilter::default(),
            stats,
        };
        for group in groups {
            round.clean_group(&snapshot.segments[group], &mut pace, step)?;
        }
        Ok(Cleaned {
            end_offset,
            stats: round.stats,
        })
    }

    /// Reads the keys of `[first_dirty, first_uncleanable)`, until the map is full.
    fn build_offset_map(
        &self,
        log: &Log,
        snapshot: &LogSnapshot,
        plan: &LogToClean,
        stats: &mut CleanerStats,
        pace: &mut Pace<'_>,
    ) -> Result<OffsetMap, CleanError> {
        let (start, end) = (plan.first_dirty, plan.first_uncleanable);
        let keys_max = u64::try_from(end - start).unwrap_or(0);
        let map = OffsetMap::new(
            self.config.dedupe_buffer_bytes,
            self.config.dedupe_load_factor,
            keys_max,
            self.seed,
        );
        let mut mapping = Mapping {
            map,
            keys: Vec::new(),
            transactions: CleanedTransactions::default(),
        };
        mapping.map.update_latest_offset(start - 1);
        let aborted = log.aborted_transactions(start, end)?;
        mapping.transactions.add_aborted(aborted);
        let range = snapshot.view.range(start, end);
        let segments = &snapshot.segments[range];
        for (i, segment) in segments.iter().enumerate() {
            let segment_end = segments.get(i + 1).map_or(end, |next| next.base_offset());
            if self.map_segment(segment, start, &mut mapping, stats, pace)? {
                break;
            }
            mapping.map.update_latest_offset(segment_end - 1);
        }
        stats.map_utilization = mapping.map.utilization();
        Ok(mapping.map)
    }

    /// True when the map is full.
    fn map_segment(
        &self,
        segment: &LogSegment,
        start: Offset,
        mapping: &mut Mapping,
        stats: &mut CleanerStats,
        pace: &mut Pace<'_>,
    ) -> Result<bool, CleanError> {
        let path = segment.path();
        let from = if start > segment.base_offset() {
            let found = segment.offset_index().lookup(start);
            found.map_err(|e| StorageError::new("read the offset index of", &path, e))?
        } else {
            strandline_log::offset_index::OffsetPosition {
                offset: segment.base_offset(),
                position: 0,
            }
        };
        let mut reader = BatchReader::new(segment, from.position, self.config.io_buffer_bytes)?;
        while let Some(batch) = reader.next_batch()? {
            let (header, size) = (batch.header, batch.bytes.len() as u64);
            let read = (|| {
                if header.is_control() {
                    let marker = marker_of(&header, batch.bytes)?;
                    mapping.transactions.on_control_batch(&header, marker);
                    return Ok(false);
                }
                if mapping.transactions.on_batch(&header) {
                    return Ok(false);
                }
                mapping.add(&header, batch.bytes, start)
            })();
            let full = read.map_err(|e| corrupt(&path, batch.position, &e))?;
            if full {
                return Ok(true);
            }
            stats.map_bytes_read += size;
            stats.map_records_read += u64::try_from(header.records_count).unwrap_or(0);
            if header.last_offset() >= start {
                mapping.map.update_latest_offset(header.last_offset());
            }
            pace.add(size)?;
        }
        Ok(false)
    }
}

/// The map while it is filled.
struct Mapping {
    map: OffsetMap,
    /// A batch's keys, as the map knows them, and their offsets. Reused from batch to batch.
    keys: Vec<(u128, Offset)>,
    transactions: CleanedTransactions,
}

impl Mapping {
    /// Takes in a batch's keys; true when the map is full.
    fn add(
        &mut self,
        header: &BatchHeader,
        bytes: &[u8],
        start: Offset,
    ) -> Result<bool, BatchError> {
        if header.records_count == 0 || header.last_offset() < start {
            return Ok(false);
        }
        let Self { map, keys, .. } = self;
        keys.clear();
        with_body(header, bytes, DecodeLimit::default(), |body| {
            for record in RecordViews::new(body, header.records_count)? {
                let record = record?;
                let offset = header
                    .base_offset
                    .saturating_add(i64::from(record.offset_delta));
                if let Some(key) = record.key.filter(|_| offset >= start) {
                    keys.push((map.hash(key), offset));
                }
            }
            Ok(())
        })?;
        // A loop of its own: each look-up misses the processor's caches, and this way several are under way at a time.
        Ok(!keys.iter().all(|(hash, offset)| map.put(*hash, *offset)))
    }
}

/// What a control batch says; `None` when it is empty.
pub(crate) fn marker_of(
    header: &BatchHeader,
    bytes: &[u8],
) -> Result<Option<ControlRecordType>, BatchError> {
    if header.records_count == 0 {
        return Ok(None);
    }
    with_body(header, bytes, MARKER_LIMIT, |body| {
        let record = RecordViews::new(body, header.records_count)?
            .next()
            .transpose()?;
        let key = record.and_then(|record| record.key);
        ControlRecordType::parse_key(key.ok_or(BatchError::Control("key is null"))?).map(Some)
    })
}

pub(crate) fn corrupt(path: &Path, position: u64, reason: &BatchError) -> CleanError {
    CleanError::Log(LogError::Corrupt {
        path: path.to_owned(),
        position,
        reason: reason.to_string(),
    })
}
