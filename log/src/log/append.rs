//! Appending as the leader: everything that queued goes out in one `pwritev` per segment.
//!
//! 1. Each batch is checked against its producer's state, with the batches before it in the same call laid over it.
//! 2. It gets its base offset and leader epoch in a copied header; the rest of its bytes is written as it came.
//! 3. When the active segment is full, what was gathered is written, and a new segment begun.
//! 4. Only after a write are indexes, producers and the log end moved. A failed write leaves no trace: the torn bytes
//!    are cut off, and every batch that did not make it gets the error.
//! 5. With `flush.messages` reached, the sync comes before the answer: one for all that queued. Who has other logs to
//!    serve meanwhile takes [`Log::append_deferred`] and syncs elsewhere, while the next batches are written already.

use std::fs::File;
use std::io::{self, IoSlice};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::{AppendError, AppendInfo, LeaderAppend, Log};
use crate::log_config::LogConfig;
use crate::log_error::{LogError, StorageError};
use crate::producer_state::{Check, ProducerAppends};
use crate::record::{BATCH_HEADER_LEN, BatchHeader, TimestampType};
use crate::segment::LogSegment;
use crate::types::{LeaderEpoch, NO_TIMESTAMP, Offset, TimestampMs};

/// The most buffers that one system call takes.
const IOV_MAX: usize = 1024;

/// Batches gathered for one write into the active segment.
#[derive(Default)]
struct Run<'a> {
    batches: Vec<RunBatch<'a>>,
    /// Duplicates of batches in this very run: answered only when it is written.
    duplicates: Vec<(usize, AppendInfo)>,
    producers: ProducerAppends,
    bytes: u64,
}

struct RunBatch<'a> {
    /// Its place among the answers.
    index: usize,
    /// With the offset and epoch that it gets.
    header: BatchHeader,
    encoded: [u8; BATCH_HEADER_LEN],
    body: &'a [u8],
}

type Answers = Vec<Option<Result<AppendInfo, AppendError>>>;

impl Log {
    /// Appends all batches, in order, and answers each. Later batches do not depend on earlier ones, except that after
    /// a storage error the rest of the call gets the same error. What was written is answered only once it is as safe
    /// as the topic asks.
    pub fn append_as_leader(
        &self,
        batches: &[LeaderAppend],
        leader_epoch: LeaderEpoch,
        now_ms: TimestampMs,
    ) -> Vec<Result<AppendInfo, AppendError>> {
        let (mut answers, flush_to) = self.append_deferred(batches, leader_epoch, now_ms);
        if let Some(end) = flush_to
            && let Err(e) = self.flush_to(end)
        {
            for answer in answers.iter_mut().filter(|answer| answer.is_ok()) {
                *answer = Err(e.clone().into());
            }
        }
        answers
    }

    /// As [`Self::append_as_leader`], but syncs nothing: with an offset, the answers hold only once the log is flushed
    /// up to it.
    pub fn append_deferred(
        &self,
        batches: &[LeaderAppend],
        leader_epoch: LeaderEpoch,
        now_ms: TimestampMs,
    ) -> (Vec<Result<AppendInfo, AppendError>>, Option<Offset>) {
        let mut answers: Answers = vec![None; batches.len()];
        let failed_append = {
            let _writer = self.writer.lock();
            self.append_locked(batches, leader_epoch, now_ms, &mut answers)
                .err()
        };
        let answers = answers
            .into_iter()
            .map(|answer| match (answer, &failed_append) {
                (Some(answer), _) => answer,
                (None, Some(e)) => Err(e.clone().into()),
                (None, None) => unreachable!("each batch is answered or the call has failed"),
            })
            .collect();
        (answers, self.flush_due_to())
    }

    /// An error is the answer to every batch that has none yet.
    fn append_locked(
        &self,
        batches: &[LeaderAppend],
        leader_epoch: LeaderEpoch,
        now_ms: TimestampMs,
        answers: &mut Answers,
    ) -> Result<(), LogError> {
        self.check_open()?;
        let config = self.config();
        let mut active = self.segments.active();
        let mut next_offset = self.log_end_offset();
        let mut run = Run::default();
        for (index, append) in batches.iter().enumerate() {
            let batch = &append.batch.batch;
            let size = batch.bytes.len();
            if size as u64 > u64::from(config.segment_bytes) {
                answers[index] = Some(Err(AppendError::BatchTooLarge {
                    size,
                    segment_bytes: config.segment_bytes,
                }));
                continue;
            }
            let check = run.producers.check(&self.producers.lock(), &batch.header);
            match check {
                Err(e) => {
                    answers[index] = Some(Err(e.into()));
                    continue;
                }
                Ok(Check::Duplicate(stored)) => {
                    let info = AppendInfo {
                        base_offset: stored.base_offset(),
                        last_offset: stored.last_offset,
                        log_append_time_ms: append_time(&batch.header, stored.timestamp),
                        log_start_offset: self.log_start_offset(),
                        duplicate: true,
                    };
                    if stored.last_offset >= self.log_end_offset() {
                        run.duplicates.push((index, info));
                    } else {
                        answers[index] = Some(Ok(info));
                    }
                    continue;
                }
                Ok(Check::Append) => {}
            }
            let header = BatchHeader {
                base_offset: next_offset,
                partition_leader_epoch: leader_epoch,
                ..batch.header
            };
            if self.must_roll(&active, &run, &header, &config, now_ms)? {
                self.write_run(&active, &mut run, leader_epoch, &config, now_ms, answers)?;
                self.roll_locked(now_ms)?;
                active = self.segments.active();
            }
            next_offset = header.next_offset();
            run.bytes += size as u64;
            run.producers.add(&self.producers.lock(), &header, now_ms);
            run.batches.push(RunBatch {
                index,
                header,
                encoded: batch.patched_header(header.base_offset, leader_epoch),
                body: &batch.bytes[BATCH_HEADER_LEN..],
            });
        }
        self.write_run(&active, &mut run, leader_epoch, &config, now_ms, answers)
    }

    fn must_roll(
        &self,
        active: &LogSegment,
        run: &Run<'_>,
        header: &BatchHeader,
        config: &LogConfig,
        now_ms: TimestampMs,
    ) -> Result<bool, LogError> {
        if !active.offset_index().can_hold(header.last_offset()) {
            return Ok(true);
        }
        let bytes = active.size() + run.bytes;
        if bytes == 0 {
            return Ok(false);
        }
        let full = bytes + header.size() as u64 > u64::from(config.segment_bytes)
            || active.offset_index().is_full(config.segment_index_bytes)
            || active.time_index().is_full(config.segment_index_bytes);
        if full {
            return Ok(true);
        }
        let segment_ms = self.segment_ms(active.base_offset(), config);
        let waited = match run.batches.first() {
            // The segment's first batch is still in the run.
            Some(first) if active.size() == 0 => {
                if first.header.max_timestamp > NO_TIMESTAMP {
                    header
                        .max_timestamp
                        .saturating_sub(first.header.max_timestamp)
                } else {
                    0
                }
            }
            _ => active.waited_ms(header.max_timestamp, now_ms)?,
        };
        Ok(waited > segment_ms)
    }

    fn write_run(
        &self,
        active: &Arc<LogSegment>,
        run: &mut Run<'_>,
        leader_epoch: LeaderEpoch,
        config: &LogConfig,
        now_ms: TimestampMs,
        answers: &mut Answers,
    ) -> Result<(), LogError> {
        let run = std::mem::take(run);
        let Some(last) = run.batches.last() else {
            return Ok(());
        };
        let end_offset = last.header.next_offset();
        self.note_epoch(leader_epoch, run.batches[0].header.base_offset)?;
        self.changed.store(true, Ordering::Release);
        let file = active.file()?;
        let mut slices = Vec::with_capacity(run.batches.len() * 2);
        for batch in &run.batches {
            slices.push(IoSlice::new(&batch.encoded));
            slices.push(IoSlice::new(batch.body));
        }
        if let Err(e) = write_all(&file, &mut slices, active.size()) {
            let error = StorageError::new("append to", active.path(), e);
            tracing::warn!(partition = %self.tp, %error, "append failed");
            if let Err(error) = active.cut_torn_bytes() {
                // Readers and the next append go by the published size, so the torn bytes do no harm yet.
                tracing::warn!(partition = %self.tp, %error, "torn bytes stay behind the end of the log");
            }
            return Err(error.into());
        }
        let headers: Vec<BatchHeader> = run.batches.iter().map(|b| b.header).collect();
        active.publish(&headers, config.index_interval_bytes, now_ms);
        {
            let mut producers = self.producers.lock();
            producers.commit(run.producers);
            self.note_first_unstable(&producers);
        }
        let _ = self.unflushed_since_ms.compare_exchange(
            NO_TIMESTAMP,
            now_ms,
            Ordering::AcqRel,
            Ordering::Acquire,
        );
        self.note_unflushed(run.bytes, config, now_ms);
        self.tail
            .write()
            .publish(end_offset, active.base_offset(), active.size());
        self.note_change();
        let log_start_offset = self.log_start_offset();
        for batch in &run.batches {
            answers[batch.index] = Some(Ok(AppendInfo {
                base_offset: batch.header.base_offset,
                last_offset: batch.header.last_offset(),
                log_append_time_ms: append_time(&batch.header, batch.header.max_timestamp),
                log_start_offset,
                duplicate: false,
            }));
        }
        for (index, info) in run.duplicates {
            answers[index] = Some(Ok(info));
        }
        Ok(())
    }

    /// Up to where answers have to wait for a sync.
    fn flush_due_to(&self) -> Option<Offset> {
        let config = self.config();
        let unflushed = self.unflushed_records();
        let is_due = unflushed >= config.flush_messages || config.flush_ms <= 0 && unflushed > 0;
        is_due.then(|| self.log_end_offset())
    }
}

fn append_time(header: &BatchHeader, timestamp: TimestampMs) -> TimestampMs {
    match header.timestamp_type() {
        TimestampType::LogAppendTime => timestamp,
        TimestampType::CreateTime => NO_TIMESTAMP,
    }
}

/// Writes all slices at `position`, in as few calls as the kernel takes.
fn write_all(file: &File, slices: &mut [IoSlice<'_>], mut position: u64) -> io::Result<()> {
    let mut rest = slices;
    while !rest.is_empty() {
        let count = rest.len().min(IOV_MAX);
        match rustix::io::pwritev(file, &rest[..count], position) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => {
                IoSlice::advance_slices(&mut rest, written);
                position += written as u64;
            }
            Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
    }
    Ok(())
}
