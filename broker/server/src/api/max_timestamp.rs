//! The record with the largest timestamp, over both tiers: ListOffsets -3.
//!
//! The local log knows its own. The remote log answers "the first record at or after a time", and whether there is one
//! only falls as the time rises, so a search between the local maximum and what the manifest names as its largest
//! finds the answer: usually with the first question, never with more than there are bits in a timestamp.

use std::sync::Arc;

use strandline_log::{TimestampMs, TimestampOffset};
use strandline_tiering::{RemotePartition, RemoteReadError};
use strandline_wire::KafkaError;

use super::Apis;
use crate::errors;
use crate::partition::Partition;

pub async fn find(
    apis: &Apis,
    partition: &Arc<Partition>,
) -> Result<Option<TimestampOffset>, KafkaError> {
    let log = Arc::clone(partition.log());
    let is_tiered = log.log_start_offset() < log.local_log_start_offset();
    let local = match apis
        .cold_reads
        .run(move || log.offset_for_max_timestamp())
        .await
    {
        Some(Ok(local)) => local,
        Some(Err(error)) => return Err(errors::log_error(&error)),
        None => return Err(KafkaError::UnknownServerError),
    };
    let Some(remote) = partition.remote().filter(|_| is_tiered) else {
        return Ok(local);
    };
    // Of two that are equal the earlier record counts, which is the remote one.
    let at_least = local.as_ref().map_or(0, |found| found.timestamp);
    match find_remote(&remote, at_least).await {
        Ok(Some(found)) => Ok(Some(found)),
        Ok(None) => Ok(local),
        Err(error) => {
            let partition = partition.topic_partition();
            tracing::warn!(%partition, %error, "a remote search for the largest timestamp failed");
            Err(errors::remote_read_error(&error))
        }
    }
}

/// The remote record with the largest timestamp, if that is at least `at_least`.
async fn find_remote(
    remote: &RemotePartition,
    at_least: TimestampMs,
) -> Result<Option<TimestampOffset>, RemoteReadError> {
    remote.read_uploaded_end().await?;
    let Some(manifest) = remote.manifest() else {
        return Ok(None);
    };
    // Too high where the log start has passed the record, or where it lies behind what was uploaded of its segment.
    let pages = manifest.pages.iter().map(|page| page.max_timestamp);
    let entries = manifest.entries.iter().map(|entry| entry.max_timestamp);
    let named = pages.chain(entries).max();
    let mut search = Search::new(at_least, named.unwrap_or(-1));
    let mut best = None;
    while let Some(time) = search.next() {
        let found = remote.offset_for_timestamp(time).await?;
        search.answer(time, found.as_ref().map(|found| found.timestamp));
        best = found.or(best);
    }
    Ok(best)
}

/// Finds the largest time that something exists at or after.
struct Search {
    low: TimestampMs,
    high: TimestampMs,
    asked: bool,
}

impl Search {
    fn new(low: TimestampMs, high: TimestampMs) -> Self {
        Self {
            low,
            high,
            asked: false,
        }
    }

    /// What to ask for. The highest first: it is the answer unless that record is gone.
    fn next(&self) -> Option<TimestampMs> {
        if self.low > self.high {
            return None;
        }
        if !self.asked {
            return Some(self.high);
        }
        // Upwards, so that two neighbours end.
        Some(self.high - (self.high - self.low) / 2)
    }

    /// `found`: the time of a record at or after `time`.
    fn answer(&mut self, time: TimestampMs, found: Option<TimestampMs>) {
        self.asked = true;
        match found {
            Some(found) => self.low = found.max(time).saturating_add(1),
            None => self.high = time.saturating_sub(1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The largest time by the search, and how often it asked.
    fn search(times: &[TimestampMs], low: TimestampMs, high: TimestampMs) -> (TimestampMs, usize) {
        let mut search = Search::new(low, high);
        let (mut best, mut questions) = (-1, 0);
        while let Some(time) = search.next() {
            let found = times.iter().copied().find(|t| *t >= time);
            search.answer(time, found);
            best = found.unwrap_or(best);
            questions += 1;
        }
        (best, questions)
    }

    #[test]
    fn the_largest_is_found_wherever_it_stands() {
        let times = [5, 90, 7, 100, 100, 3];
        assert_eq!(search(&times, 0, 100), (100, 1));
        // The manifest names a record that is gone.
        let (best, questions) = search(&times, 0, 1 << 50);
        assert_eq!(best, 100);
        assert!(questions <= 64, "{questions} questions");
        assert_eq!(search(&times, 100, 100), (100, 1), "an equal one counts");
        assert_eq!(
            search(&times, 101, 100),
            (-1, 0),
            "the local log has a later one"
        );
        assert_eq!(search(&[], 0, 50).0, -1);
    }
}
