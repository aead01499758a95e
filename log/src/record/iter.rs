//! Walking records: of one batch, and of the batches of one buffer.

use bytes::Bytes;

use super::attributes::TimestampType;
use super::batch::{BatchIter, batches_of};
use super::batch_header::{BatchHeader, increment_sequence};
use super::compression::DecodeLimit;
use super::error::BatchError;
use super::record::{self, Record};

/// The records of one batch, in order. Stops after the first error. Bytes after the last record are an error.
#[derive(Clone, Debug)]
pub struct RecordIter {
    header: BatchHeader,
    body: Bytes,
    at: usize,
    index: i32,
    done: bool,
}

impl RecordIter {
    /// `body`: the records, no longer compressed.
    pub(super) fn new(header: BatchHeader, body: Bytes) -> Result<Self, BatchError> {
        if header.records_count < 0 {
            return Err(BatchError::Count(header.records_count));
        }
        Ok(Self {
            header,
            body,
            at: 0,
            index: 0,
            done: false,
        })
    }

    pub fn header(&self) -> &BatchHeader {
        &self.header
    }

    fn read(&mut self) -> Result<Record, BatchError> {
        let index = self.index;
        let (raw, next) = record::decode(&self.body, self.at)
            .map_err(|reason| BatchError::Record { index, reason })?;
        self.at = next;
        self.index += 1;
        let timestamp = match self.header.timestamp_type() {
            TimestampType::LogAppendTime => self.header.max_timestamp,
            TimestampType::CreateTime => {
                self.header.base_timestamp.wrapping_add(raw.timestamp_delta)
            }
        };
        let sequence = (self.header.has_producer_id() && self.header.base_sequence >= 0)
            .then(|| increment_sequence(self.header.base_sequence, raw.offset_delta));
        Ok(Record {
            offset: self
                .header
                .base_offset
                .saturating_add(i64::from(raw.offset_delta)),
            timestamp,
            sequence,
            key: raw.key,
            value: raw.value,
            headers: raw.headers,
        })
    }
}

impl Iterator for RecordIter {
    type Item = Result<Record, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        if self.index >= self.header.records_count {
            self.done = true;
            let rest = self.body.len() - self.at;
            return (rest > 0).then_some(Err(BatchError::TrailingBytes(rest)));
        }
        let record = self.read();
        self.done = record.is_err();
        Some(record)
    }
}

/// The records of all batches of one buffer. See [`records_of`].
#[derive(Debug)]
pub struct Records {
    batches: BatchIter,
    limit: DecodeLimit,
    with_control: bool,
    current: Option<RecordIter>,
    done: bool,
}

/// Iterates all records of `bytes`, which holds whole batches. Control batches are skipped.
///
/// One batch at a time is inflated, to at most `limit`. Stops after the first error. CRCs are not checked.
pub fn records_of(bytes: Bytes, limit: DecodeLimit) -> Records {
    Records {
        batches: batches_of(bytes),
        limit,
        with_control: false,
        current: None,
        done: false,
    }
}

impl Records {
    /// Yields the records of control batches too.
    #[must_use]
    pub fn with_control(mut self) -> Self {
        self.with_control = true;
        self
    }

    /// The header of the batch that the last record came from.
    pub fn batch_header(&self) -> Option<&BatchHeader> {
        self.current.as_ref().map(RecordIter::header)
    }
}

impl Iterator for Records {
    type Item = Result<Record, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.done {
            if let Some(item) = self.current.as_mut().and_then(Iterator::next) {
                self.done = item.is_err();
                return Some(item);
            }
            let batch = match self.batches.next()? {
                Ok(batch) => batch,
                Err(e) => {
                    self.done = true;
                    return Some(Err(e));
                }
            };
            if batch.header.is_control() && !self.with_control {
                continue;
            }
            match batch.records(self.limit) {
                Ok(records) => self.current = Some(records),
                Err(e) => {
                    self.done = true;
                    return Some(Err(e));
                }
            }
        }
        None
    }
}
