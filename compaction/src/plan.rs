//! What of a log may be cleaned, what is due, and how segments are put together. Pure functions over what is known.
//!
//! A log: `[clean | dirty, cleanable | not yet cleanable | active]`. The clean part was cleaned before, up to the
//! checkpoint. Not cleanable is what lies at or above the last stable offset, the active segment, and segments whose
//! records are younger than min.compaction.lag.ms.

use std::ops::Range;

use strandline_log::{Offset, TimestampMs};

/// What is known of one segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentView {
    pub base_offset: Offset,
    pub size_bytes: u64,
    /// Of the larger of its indexes.
    pub index_bytes: u64,
    pub largest_timestamp: TimestampMs,
    /// The largest timestamp of its first batch, where it is asked for and there is one.
    pub first_timestamp: Option<TimestampMs>,
}

/// What is known of one log.
#[derive(Clone, Debug, PartialEq)]
pub struct LogView {
    /// In order, the active one last.
    pub segments: Vec<SegmentView>,
    pub log_start: Offset,
    pub log_end: Offset,
    pub last_stable: Offset,
    pub min_compaction_lag_ms: TimestampMs,
    pub max_compaction_lag_ms: TimestampMs,
    pub min_cleanable_dirty_ratio: f64,
}

/// A log that may be cleaned in `[first_dirty, first_uncleanable)`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LogToClean {
    pub first_dirty: Offset,
    /// A segment's base.
    pub first_uncleanable: Offset,
    pub clean_bytes: u64,
    pub cleanable_bytes: u64,
    /// For how long it has been overdue by max.compaction.lag.ms.
    pub compaction_delay_ms: TimestampMs,
    /// The checkpoint lay outside of the log and is to be set right.
    pub checkpoint_is_wrong: bool,
    min_cleanable_dirty_ratio: f64,
}

impl LogToClean {
    pub fn total_bytes(&self) -> u64 {
        self.clean_bytes + self.cleanable_bytes
    }

    /// The dirty share of what could be clean.
    pub fn cleanable_ratio(&self) -> f64 {
        match self.total_bytes() {
            0 => 0.0,
            total => self.cleanable_bytes as f64 / total as f64,
        }
    }

    /// Whether it is dirty enough, or has waited too long.
    pub fn is_due(&self) -> bool {
        self.cleanable_bytes > 0
            && (self.compaction_delay_ms > 0
                || self.cleanable_ratio() > self.min_cleanable_dirty_ratio)
    }
}

impl LogView {
    fn sealed(&self) -> &[SegmentView] {
        &self.segments[..self.segments.len().saturating_sub(1)]
    }

    /// The sealed segments from the one on that `offset` falls into.
    fn sealed_from(&self, offset: Offset) -> &[SegmentView] {
        let sealed = self.sealed();
        if offset >= self.active_base() {
            return &[];
        }
        &sealed[floor(sealed, offset)..]
    }

    fn active_base(&self) -> Offset {
        self.segments.last().map_or(0, |active| active.base_offset)
    }

    /// `checkpoint`: up to where the log was cleaned before.
    pub fn to_clean(&self, checkpoint: Option<Offset>, now_ms: TimestampMs) -> LogToClean {
        let first_dirty = match checkpoint {
            Some(offset) if (self.log_start..=self.log_end).contains(&offset) => offset,
            _ => self.log_start,
        };
        let lag_ms = self.min_compaction_lag_ms.max(0);
        let too_young = (lag_ms > 0)
            .then(|| {
                let until = now_ms.saturating_sub(lag_ms);
                self.sealed_from(first_dirty)
                    .iter()
                    .find(|segment| segment.largest_timestamp > until)
                    .map(|segment| segment.base_offset)
            })
            .flatten()
            .unwrap_or(Offset::MAX);
        let limit = self.last_stable.min(self.active_base()).min(too_young);
        // Whole segments only.
        let first_uncleanable = self
            .sealed_from(limit)
            .first()
            .map_or(self.active_base(), |segment| segment.base_offset);
        let bytes = |range: Range<usize>| self.segments[range].iter().map(|s| s.size_bytes).sum();
        let clean_end = self.below(first_dirty);
        let dirty_from = first_dirty.min(first_uncleanable);
        LogToClean {
            first_dirty,
            first_uncleanable,
            clean_bytes: bytes(0..clean_end),
            cleanable_bytes: bytes(self.including(dirty_from, first_uncleanable)),
            compaction_delay_ms: self.compaction_delay_ms(first_dirty, now_ms),
            checkpoint_is_wrong: checkpoint.is_some_and(|offset| offset != first_dirty),
            min_cleanable_dirty_ratio: self.min_cleanable_dirty_ratio,
        }
    }

    fn compaction_delay_ms(&self, first_dirty: Offset, now_ms: TimestampMs) -> TimestampMs {
        let until = now_ms.saturating_sub(self.max_compaction_lag_ms.max(0));
        let oldest = self
            .sealed_from(first_dirty)
            .iter()
            .filter_map(|segment| segment.first_timestamp)
            .filter(|timestamp| *timestamp > 0)
            .min();
        oldest.map_or(0, |oldest| until.saturating_sub(oldest).max(0))
    }

    /// How many segments begin below `offset`.
    fn below(&self, offset: Offset) -> usize {
        self.segments.partition_point(|s| s.base_offset < offset)
    }

    /// The segments from the one that holds `from` to the last that begins below `to`.
    fn including(&self, from: Offset, to: Offset) -> Range<usize> {
        let end = self.below(to);
        floor(&self.segments, from).min(end)..end
    }

    /// The segments that hold `[from, to)`.
    pub fn range(&self, from: Offset, to: Offset) -> Range<usize> {
        self.including(from, to)
    }

    /// Puts the segments below `end` together into groups that each fit one segment. The offsets of a group must not
    /// span more than an index can tell.
    pub fn groups(
        &self,
        end: Offset,
        first_uncleanable: Offset,
        segment_bytes_max: u64,
        index_bytes_max: u64,
    ) -> Vec<Range<usize>> {
        let count = self.below(end).min(self.sealed().len());
        let last_offset = |i: usize| match self.segments[..count].get(i + 1) {
            Some(next) => next.base_offset - 1,
            None => first_uncleanable - 1,
        };
        let mut groups = Vec::new();
        let mut from = 0;
        while from < count {
            let mut to = from + 1;
            let (mut bytes, mut index) = {
                let first = &self.segments[from];
                (first.size_bytes, first.index_bytes)
            };
            while to < count {
                let next = &self.segments[to];
                bytes += next.size_bytes;
                index += next.index_bytes;
                let span = last_offset(to) - self.segments[from].base_offset;
                if bytes > segment_bytes_max
                    || index > index_bytes_max
                    || next.size_bytes > 0 && span > i64::from(i32::MAX)
                {
                    break;
                }
                to += 1;
            }
            groups.push(from..to);
            from = to;
        }
        groups
    }
}

/// The place of the segment that `offset` falls into, or of the first.
fn floor(segments: &[SegmentView], offset: Offset) -> usize {
    segments
        .partition_point(|segment| segment.base_offset <= offset)
        .saturating_sub(1)
}

/// Which of the logs is cleaned next: of those that are due, the one with the largest dirty share.
pub fn filthiest<'a, T>(logs: impl IntoIterator<Item = (T, &'a LogToClean)>) -> Option<T> {
    logs.into_iter()
        .filter(|(_, log)| log.is_due())
        .max_by(|(_, a), (_, b)| a.cleanable_ratio().total_cmp(&b.cleanable_ratio()))
        .map(|(id, _)| id)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: TimestampMs = 1_000_000;

    /// Segments of ten records and 100 bytes, the first batches 1,000 ms apart; the last one is active.
    fn log(count: i64) -> LogView {
        LogView {
            segments: (0..count)
                .map(|i| SegmentView {
                    base_offset: i * 10,
                    size_bytes: 100,
                    index_bytes: 8,
                    largest_timestamp: NOW - (count - i) * 1_000 + 900,
                    first_timestamp: Some(NOW - (count - i) * 1_000),
                })
                .collect(),
            log_start: 0,
            log_end: count * 10,
            last_stable: count * 10,
            min_compaction_lag_ms: 0,
            max_compaction_lag_ms: i64::MAX,
            min_cleanable_dirty_ratio: 0.5,
        }
    }

    #[test]
    fn what_may_be_cleaned() {
        // (change, checkpoint) -> first dirty, first uncleanable, clean bytes, cleanable bytes
        type Change = fn(&mut LogView);
        let table: &[(Change, Option<i64>, [i64; 4])] = &[
            (|_| (), None, [0, 50, 0, 500]),
            (|_| (), Some(20), [20, 50, 200, 300]),
            (|_| (), Some(50), [50, 50, 500, 0]),
            // In the middle of a segment, which counts on both sides.
            (|_| (), Some(25), [25, 50, 300, 300]),
            // Wrong checkpoints begin anew.
            (|_| (), Some(61), [0, 50, 0, 500]),
            (|log| log.log_start = 20, Some(10), [20, 50, 200, 300]),
            (|log| log.last_stable = 35, None, [0, 30, 0, 300]),
            (|log| log.last_stable = 30, None, [0, 30, 0, 300]),
            (|log| log.last_stable = 0, None, [0, 0, 0, 0]),
            // The segments at 30 and 40 have records of the last 2.5 s.
            (
                |log| log.min_compaction_lag_ms = 2_500,
                None,
                [0, 30, 0, 300],
            ),
            (|log| log.min_compaction_lag_ms = 99_000, None, [0, 0, 0, 0]),
            // Cleaned beyond what may be cleaned now.
            (
                |log| log.min_compaction_lag_ms = 2_500,
                Some(50),
                [50, 50, 500, 0],
            ),
            (|log| log.segments.truncate(1), None, [0, 0, 0, 0]),
        ];
        for (i, (change, checkpoint, expected)) in table.iter().enumerate() {
            let mut log = log(6);
            change(&mut log);
            let plan = log.to_clean(*checkpoint, NOW);
            let found = [
                plan.first_dirty,
                plan.first_uncleanable,
                plan.clean_bytes as i64,
                plan.cleanable_bytes as i64,
            ];
            assert_eq!(found, *expected, "row {i}");
        }
    }

    #[test]
    fn a_log_is_due_when_it_is_dirty_enough_or_has_waited_too_long() {
        let log = log(6);
        assert!(log.to_clean(Some(20), NOW).is_due());
        assert!(
            !log.to_clean(Some(30), NOW).is_due(),
            "two fifths are dirty"
        );
        let hasty = LogView {
            max_compaction_lag_ms: 2_500,
            ..log.clone()
        };
        let plan = hasty.to_clean(Some(30), NOW);
        assert_eq!(plan.compaction_delay_ms, 500);
        assert!(plan.is_due());
        assert!(!hasty.to_clean(Some(50), NOW).is_due(), "nothing is dirty");
        let patient = LogView {
            max_compaction_lag_ms: 4_000,
            ..log
        };
        assert_eq!(patient.to_clean(Some(30), NOW).compaction_delay_ms, 0);
    }

    #[test]
    fn the_dirtiest_comes_first() {
        let log = log(6);
        let plans: Vec<_> = [Some(20), None, Some(10), Some(40)]
            .map(|checkpoint| log.to_clean(checkpoint, NOW))
            .into();
        assert_eq!(filthiest(plans.iter().enumerate()), Some(1));
        assert_eq!(filthiest(plans[3..].iter().enumerate()), None);
    }

    #[test]
    #[allow(clippy::single_range_in_vec_init)] // One group is what is meant.
    fn small_segments_are_put_together() {
        let log = log(6);
        assert_eq!(log.groups(50, 50, 1_000, 1_000), [0..5]);
        assert_eq!(log.groups(50, 50, 250, 1_000), [0..2, 2..4, 4..5]);
        assert_eq!(log.groups(50, 50, 1_000, 24), [0..3, 3..5]);
        assert_eq!(
            log.groups(50, 50, 10, 1_000),
            [0..1, 1..2, 2..3, 3..4, 4..5]
        );
        assert_eq!(log.groups(25, 50, 1_000, 1_000), [0..3]);
        assert_eq!(log.groups(0, 50, 1_000, 1_000), []);
        // Offsets far apart do not go into one index.
        let mut sparse = log.clone();
        for (i, segment) in sparse.segments.iter_mut().enumerate() {
            segment.base_offset = i as i64 * 1_500_000_000;
        }
        let end = sparse.segments[5].base_offset;
        assert_eq!(
            sparse.groups(end, end, 1_000, 1_000),
            [0..1, 1..2, 2..3, 3..4, 4..5]
        );
        sparse.segments[1].size_bytes = 0;
        assert_eq!(sparse.groups(end, end, 1_000, 1_000)[0], 0..2);
    }
}
