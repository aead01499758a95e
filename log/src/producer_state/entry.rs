//! One producer on one partition: its epoch, its last batches, its open transaction.
//!
//! Rules, as Kafka's: a batch continues the last sequence, which wraps from 2^31-1 to 0; one of the last five again
//! is a duplicate; an older epoch is fenced; a new epoch begins at sequence 0; an unknown producer begins anywhere.

use std::collections::VecDeque;

use crate::record::{BatchHeader, decrement_sequence, increment_sequence};
use crate::types::{
    NO_PRODUCER_EPOCH, NO_SEQUENCE, NO_TIMESTAMP, Offset, ProducerEpoch, ProducerId, TimestampMs,
};

/// A client has at most this many requests in flight, so a retry is one of these.
pub const BATCHES_KEPT: usize = 5;

/// An appended batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchMetadata {
    pub last_sequence: i32,
    pub last_offset: Offset,
    pub offset_delta: i32,
    /// The batch's own largest timestamp: what a duplicate is answered with under LogAppendTime.
    pub timestamp: TimestampMs,
}

impl BatchMetadata {
    pub fn first_sequence(&self) -> i32 {
        decrement_sequence(self.last_sequence, self.offset_delta)
    }

    pub fn base_offset(&self) -> Offset {
        self.last_offset
            .saturating_sub(i64::from(self.offset_delta))
    }
}

/// What to do with a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Check {
    Append,
    /// It was appended before, there.
    Duplicate(BatchMetadata),
}

/// Why a producer's batch is refused; one variant per error code of Kafka.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProducerError {
    #[error(
        "out of order sequence number for producer {producer_id}: {sequence} (incoming), \
         {last_sequence} (last)"
    )]
    OutOfOrderSequence {
        producer_id: ProducerId,
        sequence: i32,
        last_sequence: i32,
    },
    #[error("epoch {epoch} of producer {producer_id} is older than {current}")]
    InvalidProducerEpoch {
        producer_id: ProducerId,
        epoch: ProducerEpoch,
        current: ProducerEpoch,
    },
    #[error("producer {producer_id} has a transaction open, its write is not transactional")]
    InvalidTxnState { producer_id: ProducerId },
    #[error(
        "coordinator epoch {epoch} for producer {producer_id} is older than {current}: a zombie"
    )]
    TransactionCoordinatorFenced {
        producer_id: ProducerId,
        epoch: i32,
        current: i32,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProducerStateEntry {
    pub producer_id: ProducerId,
    pub producer_epoch: ProducerEpoch,
    /// Oldest first, at most [`BATCHES_KEPT`], all of the current epoch.
    batches: VecDeque<BatchMetadata>,
    /// When the last batch or marker was appended. Expiry goes by it.
    pub last_append_ms: TimestampMs,
    /// -1: no marker yet.
    pub coordinator_epoch: i32,
    pub current_txn_first_offset: Option<Offset>,
}

impl ProducerStateEntry {
    /// A producer of which nothing is known.
    pub fn unknown(producer_id: ProducerId) -> Self {
        Self {
            producer_id,
            producer_epoch: NO_PRODUCER_EPOCH,
            batches: VecDeque::new(),
            last_append_ms: NO_TIMESTAMP,
            coordinator_epoch: -1,
            current_txn_first_offset: None,
        }
    }

    pub(super) fn with_batch(mut self, batch: Option<BatchMetadata>) -> Self {
        self.batches.extend(batch);
        self
    }

    pub fn batches(&self) -> impl DoubleEndedIterator<Item = &BatchMetadata> {
        self.batches.iter()
    }

    pub fn last_batch(&self) -> Option<&BatchMetadata> {
        self.batches.back()
    }

    /// [`NO_SEQUENCE`] when the current epoch has no batch.
    pub fn last_sequence(&self) -> i32 {
        self.last_batch().map_or(NO_SEQUENCE, |b| b.last_sequence)
    }

    fn find_duplicate(&self, header: &BatchHeader) -> Option<BatchMetadata> {
        if header.producer_epoch != self.producer_epoch {
            return None;
        }
        let last_sequence = header.last_sequence();
        self.batches
            .iter()
            .find(|b| {
                b.first_sequence() == header.base_sequence && b.last_sequence == last_sequence
            })
            .copied()
    }

    /// Whether a client's data batch may be appended now.
    pub fn check(&self, header: &BatchHeader) -> Result<Check, ProducerError> {
        if let Some(duplicate) = self.find_duplicate(header) {
            return Ok(Check::Duplicate(duplicate));
        }
        self.check_epoch(header.producer_epoch)?;
        let known = self.producer_epoch != NO_PRODUCER_EPOCH;
        let in_sequence = if !known {
            true
        } else if header.producer_epoch != self.producer_epoch {
            header.base_sequence == 0
        } else {
            match self.last_sequence() {
                NO_SEQUENCE => header.base_sequence == 0,
                last => header.base_sequence == increment_sequence(last, 1),
            }
        };
        if !in_sequence {
            return Err(ProducerError::OutOfOrderSequence {
                producer_id: self.producer_id,
                sequence: header.base_sequence,
                last_sequence: self.last_sequence(),
            });
        }
        if self.current_txn_first_offset.is_some() && !header.is_transactional() {
            return Err(ProducerError::InvalidTxnState {
                producer_id: self.producer_id,
            });
        }
        Ok(Check::Append)
    }

    pub(super) fn check_epoch(&self, epoch: ProducerEpoch) -> Result<(), ProducerError> {
        if epoch < self.producer_epoch {
            return Err(ProducerError::InvalidProducerEpoch {
                producer_id: self.producer_id,
                epoch,
                current: self.producer_epoch,
            });
        }
        Ok(())
    }

    /// Takes an appended data batch, at the offset in its header.
    pub(super) fn append(&mut self, header: &BatchHeader, append_ms: TimestampMs) {
        self.set_epoch(header.producer_epoch);
        if self.batches.len() == BATCHES_KEPT {
            self.batches.pop_front();
        }
        self.batches.push_back(BatchMetadata {
            last_sequence: header.last_sequence(),
            last_offset: header.last_offset(),
            offset_delta: header.last_offset_delta,
            timestamp: header.max_timestamp,
        });
        self.last_append_ms = append_ms;
        if header.is_transactional() && self.current_txn_first_offset.is_none() {
            self.current_txn_first_offset = Some(header.base_offset);
        }
    }

    pub(super) fn set_epoch(&mut self, epoch: ProducerEpoch) {
        if self.producer_epoch != epoch {
            self.batches.clear();
            self.producer_epoch = epoch;
        }
    }

    /// Without an open transaction, nothing appended for `expiration_ms`.
    pub fn is_expired(&self, now_ms: TimestampMs, expiration_ms: i64) -> bool {
        self.current_txn_first_offset.is_none()
            && now_ms.saturating_sub(self.last_append_ms) >= expiration_ms
    }
}
