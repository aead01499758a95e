//! Finding records by time.

use super::{Log, TimestampOffset};
use crate::log_error::LogError;
use crate::types::{NO_TIMESTAMP, TimestampMs};

impl Log {
    /// The first local record, in offset order, that is not older than `timestamp`. Time goes backwards, so segments
    /// are asked in order by their largest timestamp, and never bisected.
    pub fn offset_for_timestamp(
        &self,
        timestamp: TimestampMs,
    ) -> Result<Option<TimestampOffset>, LogError> {
        let from = self.log_start_offset();
        for segment in self.segments.snapshot().iter() {
            let size = segment.size();
            if size == 0 || segment.max_timestamp()?.timestamp < timestamp {
                continue;
            }
            let found = segment.find_by_timestamp(timestamp, from, size)?;
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    /// The first of the local records with the largest timestamp.
    pub fn offset_for_max_timestamp(&self) -> Result<Option<TimestampOffset>, LogError> {
        let from = self.log_start_offset();
        let segments = self.segments.snapshot();
        let mut by_max = Vec::with_capacity(segments.len());
        for segment in segments.iter() {
            let max = segment.max_timestamp()?.timestamp;
            if max > NO_TIMESTAMP {
                by_max.push((max, segment));
            }
        }
        // Of segments with the same one the first comes first: the sort is stable.
        by_max.sort_by_key(|(max, _)| std::cmp::Reverse(*max));
        let mut newest: Option<TimestampOffset> = None;
        for (max, segment) in by_max {
            if newest.as_ref().is_some_and(|found| found.timestamp >= max) {
                break;
            }
            let found = match segment.find_by_timestamp(max, from, segment.size())? {
                // The record lies below the log start: only of the segment that holds this can that be true.
                None => segment.newest_behind(from)?,
                found => found,
            };
            if let Some(found) = found
                && newest.as_ref().is_none_or(|newest| {
                    (newest.timestamp, -newest.offset) < (found.timestamp, -found.offset)
                })
            {
                newest = Some(found);
            }
        }
        Ok(newest)
    }
}
