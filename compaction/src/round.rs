//! The second half of a round: copying groups of segments through the filter, and swapping the copies in.

use std::collections::HashMap;
use std::sync::Arc;

use strandline_log::record::{BatchError, BatchHeader};
use strandline_log::segment::LogSegment;
use strandline_log::{Log, Offset, ProducerEpoch, ProducerId};

use crate::batch_filter::{BatchContext, BatchFilter, Horizon, Verdict, is_past_horizon};
use crate::batch_reader::BatchReader;
use crate::cleaned_transactions::CleanedTransactions;
use crate::cleaner::{CleanError, CleanerStats, Pace, SwapSteps, corrupt, marker_of};
use crate::offset_map::OffsetMap;
use crate::output::Output;

/// A producer's last data batch, or only its epoch.
pub(crate) type LastOfProducers = HashMap<ProducerId, (Option<Offset>, ProducerEpoch)>;

pub(crate) fn last_of_producers(log: &Log) -> LastOfProducers {
    log.producers()
        .iter()
        .map(|entry| {
            let last_offset = entry.last_batch().map(|batch| batch.last_offset);
            (entry.producer_id, (last_offset, entry.producer_epoch))
        })
        .collect()
}

pub(crate) struct Round<'a> {
    pub log: &'a Log,
    pub map: &'a OffsetMap,
    pub horizon: Horizon,
    /// The batch that ends here stays, if only its header, so that the log's end stays known.
    pub upper_bound: Offset,
    pub index_interval_bytes: u32,
    pub io_buffer_bytes: usize,
    pub last_of_producers: LastOfProducers,
    pub transactions: CleanedTransactions,
    pub filter: BatchFilter,
    pub stats: CleanerStats,
}

impl Round<'_> {
    pub fn clean_group(
        &mut self,
        group: &[Arc<LogSegment>],
        pace: &mut Pace<'_>,
        step: SwapSteps<'_>,
    ) -> Result<(), CleanError> {
        let mut output = Output::new(group, self.index_interval_bytes, self.io_buffer_bytes);
        let result = self.copy_group(group, &mut output, pace);
        self.stats.segments_before += group.len();
        self.stats.segments_after += 1;
        match (result, output.cleaned) {
            (Ok(()), Some(mut cleaned)) => {
                cleaned.set_aborted(output.aborted);
                self.stats.bytes_written += cleaned.size();
                self.log.replace_segments_by(cleaned, group, step)?;
                Ok(())
            }
            (result, Some(cleaned)) => {
                cleaned.abandon();
                self.stopped_or(result)
            }
            (result, None) => self.stopped_or(result),
        }
    }

    /// A log that is closed meanwhile fails in many ways, none of which matters.
    fn stopped_or(&self, result: Result<(), CleanError>) -> Result<(), CleanError> {
        match result {
            Err(_) if self.log.is_closed() => Err(CleanError::Stopped),
            result => result,
        }
    }

    fn copy_group(
        &mut self,
        group: &[Arc<LogSegment>],
        output: &mut Output<'_>,
        pace: &mut Pace<'_>,
    ) -> Result<(), CleanError> {
        for segment in group {
            let aborted = self
                .log
                .aborted_transactions(segment.base_offset(), segment.next_offset())?;
            self.transactions.add_aborted(aborted);
            self.copy_segment(segment, output, pace)?;
        }
        Ok(())
    }

    fn copy_segment(
        &mut self,
        segment: &LogSegment,
        output: &mut Output<'_>,
        pace: &mut Pace<'_>,
    ) -> Result<(), CleanError> {
        let path = segment.path();
        let mut reader = BatchReader::new(segment, 0, self.io_buffer_bytes)?;
        while let Some(batch) = reader.next_batch()? {
            let (header, size) = (batch.header, batch.bytes.len() as u64);
            self.stats.bytes_read += size;
            let context = self
                .context_of(&header, batch.bytes, output)
                .map_err(|e| corrupt(&path, batch.position, &e))?;
            let verdict = self
                .filter
                .filter(
                    &header,
                    batch.bytes,
                    context,
                    self.map,
                    self.horizon,
                    &mut self.stats.records,
                )
                .map_err(|e| corrupt(&path, batch.position, &e))?;
            let written = match verdict {
                Verdict::Keep => {
                    output.keep(&header, batch.bytes)?;
                    size
                }
                Verdict::Drop => {
                    output.change(batch.position, pace)?;
                    0
                }
                Verdict::Replace(new, bytes) => {
                    let cleaned = output.change(batch.position, pace)?;
                    cleaned.append(&new, &bytes)?;
                    let written = bytes.len() as u64;
                    self.filter.give_back(bytes);
                    written
                }
            };
            pace.add(size + written)?;
        }
        Ok(())
    }

    fn context_of(
        &mut self,
        header: &BatchHeader,
        bytes: &[u8],
        output: &mut Output<'_>,
    ) -> Result<BatchContext, BatchError> {
        let mut context = BatchContext {
            keep_empty: self.is_last_of_producer(header)
                || header.next_offset() == self.upper_bound,
            ..BatchContext::default()
        };
        if header.is_control() {
            let marker = self
                .transactions
                .on_control_batch(header, marker_of(header, bytes)?);
            output.aborted.extend(marker.aborted);
            context.is_marker_of_nothing = marker.may_go;
            context.discard_records = marker.may_go && is_past_horizon(header, self.horizon.now_ms);
        } else {
            context.discard_records = self.transactions.on_batch(header);
        }
        Ok(context)
    }

    fn is_last_of_producer(&self, header: &BatchHeader) -> bool {
        if !header.has_producer_id() {
            return false;
        }
        match self.last_of_producers.get(&header.producer_id) {
            Some((Some(last_offset), _)) => header.last_offset() == *last_offset,
            Some((None, epoch)) => header.is_control() && header.producer_epoch == *epoch,
            None => false,
        }
    }
}
