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
        let mut newest = None;
        for segment in self.segments.snapshot().iter() {
            let max = segment.max_timestamp()?.timestamp;
            if max > NO_TIMESTAMP && newest.as_ref().is_none_or(|(before, _)| max > *before) {
                newest = Some((max, std::sync::Arc::clone(segment)));
            }
        }
        let Some((max, segment)) = newest else {
            return Ok(None);
        };
        let from = self.log_start_offset();
        Ok(segment.find_by_timestamp(max, from, segment.size())?)
    }
}
