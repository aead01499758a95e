//! One partition's batches from the first record to the answer. Pure: time comes in, nothing is sent.
//!
//! A batch is open, then closed, then in flight; it ends answered, or goes back to wait for a retry. How order and
//! single storage are kept:
//!
//! 1. A batch gets its producer id and sequence when it is taken for its first attempt, in the order of batches.
//! 2. After a retriable failure nothing more of the partition is sent until all that is in flight is answered; then
//!    batches are retried in their first order, with their first sequences.
//! 3. A batch that failed for good leaves a hole in the sequences that the broker will not step over. So the queue asks
//!    for a new producer id, and batches behind the hole that the broker certainly refused get sequences from 0 under
//!    it. A batch behind the hole whose outcome is unknown could be stored twice that way; it fails as unknown.

use std::collections::{BTreeMap, VecDeque};

use strandline_log::record::{NewRecord, increment_sequence};
use strandline_log::{ProducerEpoch, ProducerId};
use strandline_wire::KafkaError;
use tokio::sync::{OwnedSemaphorePermit, watch};

use super::delivery::{Delivery, DeliveryError, Outcome, RecordAck};

#[derive(Clone, Copy, Debug)]
pub(super) struct QueueConfig {
    pub batch_bytes: usize,
    pub linger_ms: u64,
    pub delivery_timeout_ms: u64,
    pub in_flight_max: usize,
    pub is_idempotent: bool,
}

/// What a record takes of a batch and of the buffer; the framing is rounded up.
pub(super) fn record_bytes(record: &NewRecord) -> usize {
    record.payload_bytes() + 16 + 4 * record.headers.len()
}

/// A producer id, its epoch, and the next sequence in this partition.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct ProducerIdentity {
    pub producer_id: ProducerId,
    pub producer_epoch: ProducerEpoch,
    next_sequence: i32,
    /// A batch under this identity is stored. Before that the broker does not know the producer and would take its
    /// second batch for its first.
    is_established: bool,
}

/// What a batch carries on every attempt.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct BatchIdentity {
    pub producer_id: ProducerId,
    pub producer_epoch: ProducerEpoch,
    pub base_sequence: i32,
}

#[derive(Debug)]
pub(super) struct QueuedBatch {
    /// Counts the partition's batches: the order that retries keep.
    ordinal: u64,
    records: Vec<NewRecord>,
    bytes: usize,
    created_ms: u64,
    attempts: u32,
    identity: Option<BatchIdentity>,
    /// An attempt ended without an answer, so the batch may be stored.
    is_maybe_stored: bool,
    last_error: Option<String>,
    outcome: watch::Sender<Option<Outcome>>,
    permit: Option<OwnedSemaphorePermit>,
}

impl QueuedBatch {
    pub(super) fn records(&self) -> &[NewRecord] {
        &self.records
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn identity(&self) -> Option<BatchIdentity> {
        self.identity
    }

    pub(super) fn attempts(&self) -> u32 {
        self.attempts
    }

    fn finish(self, outcome: Outcome) {
        // Nobody needs to be listening.
        self.outcome.send_replace(Some(outcome));
    }
}

/// How an attempt ended.
#[derive(Debug)]
pub(super) enum AttemptEnd {
    Stored(RecordAck),
    /// The broker answered with an error.
    Refused {
        error: KafkaError,
        message: Option<String>,
    },
    /// No answer came: the connection failed.
    NoAnswer {
        reason: String,
    },
    /// The request never left.
    NotSent {
        reason: String,
    },
    /// The request never left, and never will.
    Unsendable {
        reason: String,
    },
}

/// What happens next to a partition after an attempt.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct AfterAttempt {
    /// The metadata that led here is suspect.
    pub refresh_metadata: bool,
}

#[derive(Debug)]
pub(super) struct PartitionQueue {
    config: QueueConfig,
    /// The last one may be open.
    waiting: VecDeque<QueuedBatch>,
    last_is_open: bool,
    /// Batches to be sent again, by ordinal; all are older than what waits.
    retries: BTreeMap<u64, QueuedBatch>,
    /// Ordinals of batches that are out.
    in_flight: VecDeque<u64>,
    next_ordinal: u64,
    /// A failure is being waited out: nothing is sent while something is in flight.
    is_draining: bool,
    retry_at_ms: u64,
    identity: Option<ProducerIdentity>,
    /// The producer id that was given up last; another one is needed.
    retired: Option<ProducerId>,
    /// A batch with a sequence failed for good, and what was in flight behind it is not all back yet.
    has_hole: bool,
}

impl PartitionQueue {
    pub(super) fn new(config: QueueConfig) -> Self {
        Self {
            config,
            waiting: VecDeque::new(),
            last_is_open: false,
            retries: BTreeMap::new(),
            in_flight: VecDeque::new(),
            next_ordinal: 0,
            is_draining: false,
            retry_at_ms: 0,
            identity: None,
            retired: None,
            has_hole: false,
        }
    }

    /// Whether every batch is answered.
    pub(super) fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.retries.is_empty() && self.in_flight.is_empty()
    }

    /// Batches taken in so far: a mark for `is_answered_below`.
    pub(super) fn batches_count(&self) -> u64 {
        self.next_ordinal
    }

    /// Whether all batches before the mark are answered.
    pub(super) fn is_answered_below(&self, mark: u64) -> bool {
        let waiting = self.waiting.front().map(|batch| batch.ordinal);
        let retries = self.retries.keys().next().copied();
        let in_flight = self.in_flight.iter().min().copied();
        [waiting, retries, in_flight]
            .into_iter()
            .flatten()
            .all(|ordinal| ordinal >= mark)
    }

    /// Takes a record in. Also tells whether the sender must look: a batch became full, or a new one began to linger.
    pub(super) fn append(
        &mut self,
        now_ms: u64,
        record: NewRecord,
        permit: Option<OwnedSemaphorePermit>,
    ) -> (Delivery, bool) {
        let bytes = record_bytes(&record);
        let mut wakes = false;
        if self.last_is_open
            && self
                .waiting
                .back()
                .is_some_and(|open| open.bytes + bytes > self.config.batch_bytes)
        {
            self.last_is_open = false;
        }
        if !self.last_is_open {
            wakes = true;
            self.waiting.push_back(QueuedBatch {
                ordinal: self.next_ordinal,
                records: Vec::new(),
                bytes: 0,
                created_ms: now_ms,
                attempts: 0,
                identity: None,
                is_maybe_stored: false,
                last_error: None,
                outcome: watch::channel(None).0,
                permit: None,
            });
            self.next_ordinal += 1;
            self.last_is_open = true;
        }
        let open = self
            .waiting
            .back_mut()
            .expect("an open batch is the last one");
        let delivery = Delivery::new(open.outcome.subscribe(), open.records.len() as i32);
        open.records.push(record);
        open.bytes += bytes;
        match (&mut open.permit, permit) {
            (Some(held), Some(permit)) => held.merge(permit),
            (held, permit) => *held = permit,
        }
        if open.bytes >= self.config.batch_bytes {
            self.last_is_open = false;
            wakes = true;
        }
        (delivery, wakes)
    }

    /// Whether a batch could be taken now. `hurry` does not wait for open batches to fill or age.
    pub(super) fn is_ready(&self, now_ms: u64, hurry: bool) -> bool {
        let is_established = self.identity.is_none_or(|identity| identity.is_established);
        let in_flight_max = if is_established {
            self.config.in_flight_max
        } else {
            1
        };
        let is_blocked = self.in_flight.len() >= in_flight_max
            || (self.is_draining && !self.in_flight.is_empty());
        if is_blocked || now_ms < self.retry_at_ms {
            return false;
        }
        match self.waiting.front() {
            _ if !self.retries.is_empty() => true,
            None => false,
            Some(_) if hurry || self.waiting.len() > 1 || !self.last_is_open => true,
            Some(open) => now_ms >= open.created_ms.saturating_add(self.config.linger_ms),
        }
    }

    /// Whether taking a batch needs a producer id first.
    pub(super) fn needs_identity(&self) -> bool {
        self.config.is_idempotent && self.identity.is_none()
    }

    /// Goes on under a producer id; false when it is the one that was given up.
    pub(super) fn set_identity(
        &mut self,
        producer_id: ProducerId,
        producer_epoch: ProducerEpoch,
    ) -> bool {
        if self.retired == Some(producer_id) {
            return false;
        }
        self.identity = Some(ProducerIdentity {
            producer_id,
            producer_epoch,
            next_sequence: 0,
            is_established: false,
        });
        true
    }

    /// When time alone may make a batch ready or late. What is due already waits for something else.
    pub(super) fn next_deadline_ms(&self, now_ms: u64) -> Option<u64> {
        let oldest = self.retries.values().next().or(self.waiting.front())?;
        let expiry = oldest
            .created_ms
            .saturating_add(self.config.delivery_timeout_ms);
        let lingered = self
            .waiting
            .front()
            .map(|open| open.created_ms.saturating_add(self.config.linger_ms));
        let candidates = [Some(expiry), lingered, Some(self.retry_at_ms)];
        candidates
            .into_iter()
            .flatten()
            .filter(|deadline| *deadline > now_ms)
            .min()
    }

    /// Takes the next batch for an attempt.
    pub(super) fn take(&mut self, now_ms: u64, hurry: bool) -> Option<QueuedBatch> {
        if !self.is_ready(now_ms, hurry) || self.needs_identity() {
            return None;
        }
        let mut batch = match self.retries.pop_first() {
            Some((_, batch)) => batch,
            None => {
                let batch = self.waiting.pop_front()?;
                self.last_is_open &= !self.waiting.is_empty();
                batch
            }
        };
        if self.retries.is_empty() {
            self.is_draining = false;
        }
        if batch.identity.is_none()
            && let Some(identity) = &mut self.identity
        {
            batch.identity = Some(BatchIdentity {
                producer_id: identity.producer_id,
                producer_epoch: identity.producer_epoch,
                base_sequence: identity.next_sequence,
            });
            identity.next_sequence =
                increment_sequence(identity.next_sequence, batch.records.len() as i32);
        }
        batch.attempts += 1;
        self.in_flight.push_back(batch.ordinal);
        Some(batch)
    }

    /// Takes a batch back after an attempt: answers it, or keeps it for a retry at `now_ms + pause_ms`.
    pub(super) fn attempt_ended(
        &mut self,
        now_ms: u64,
        mut batch: QueuedBatch,
        end: AttemptEnd,
        pause_ms: u64,
    ) -> AfterAttempt {
        let is_first_in_line = self.in_flight.front() == Some(&batch.ordinal)
            && self
                .retries
                .keys()
                .next()
                .is_none_or(|ordinal| *ordinal > batch.ordinal);
        self.in_flight.retain(|ordinal| *ordinal != batch.ordinal);
        let mut refresh_metadata = false;
        match end {
            AttemptEnd::Stored(ack) => {
                self.establish(&batch);
                batch.finish(Ok(ack));
            }
            AttemptEnd::NotSent { reason } => {
                batch.last_error = Some(reason);
                refresh_metadata = true;
                self.retry(now_ms, batch, pause_ms);
            }
            AttemptEnd::NoAnswer { reason } => {
                batch.is_maybe_stored = true;
                batch.last_error = Some(reason);
                refresh_metadata = true;
                self.retry(now_ms, batch, pause_ms);
            }
            AttemptEnd::Unsendable { reason } => {
                self.fail(batch, DeliveryError::Unsendable(reason))
            }
            // An earlier attempt is stored; the broker no longer knows where.
            AttemptEnd::Refused {
                error: KafkaError::DuplicateSequenceNumber,
                ..
            } if batch.identity.is_some() => {
                self.establish(&batch);
                batch.finish(Ok(RecordAck {
                    offset: -1,
                    log_append_time_ms: -1,
                }));
            }
            AttemptEnd::Refused { error, message } => {
                // A batch that overtook one that failed: it waits for it, or for its new sequence.
                let is_early = error == KafkaError::OutOfOrderSequenceNumber
                    && batch.identity.is_some()
                    && (!is_first_in_line || self.has_hole);
                let was_maybe_stored = batch.is_maybe_stored;
                batch.is_maybe_stored |= leaves_doubt(error);
                if is_early || error.is_retriable() {
                    refresh_metadata = !is_early;
                    let text = message
                        .as_ref()
                        .map(|message| format!(" ({message})"))
                        .unwrap_or_default();
                    batch.last_error = Some(format!("{error}{text}"));
                    self.retry(now_ms, batch, pause_ms);
                } else {
                    let refusal = DeliveryError::Refused { error, message };
                    let failure = if was_maybe_stored {
                        DeliveryError::Unknown {
                            last: refusal.to_string(),
                        }
                    } else {
                        refusal
                    };
                    self.fail(batch, failure);
                }
            }
        }
        self.expire(now_ms);
        AfterAttempt { refresh_metadata }
    }

    fn retry(&mut self, now_ms: u64, batch: QueuedBatch, pause_ms: u64) {
        self.is_draining = true;
        self.retry_at_ms = self.retry_at_ms.max(now_ms.saturating_add(pause_ms));
        self.retries.insert(batch.ordinal, batch);
    }

    fn establish(&mut self, batch: &QueuedBatch) {
        if let (Some(identity), Some(used)) = (&mut self.identity, batch.identity) {
            identity.is_established |= identity.producer_id == used.producer_id;
        }
    }

    /// Answers a batch with an error for good. If it had a sequence, that sequence is missing now.
    fn fail(&mut self, batch: QueuedBatch, error: DeliveryError) {
        if let Some(identity) = batch.identity {
            self.retired = Some(identity.producer_id);
            self.identity = None;
            self.has_hole = true;
            self.is_draining = true;
        }
        batch.finish(Err(error));
    }

    /// Once nothing is in flight behind a hole: batches that are to be retried lose their sequences.
    fn close_hole(&mut self) {
        if !self.has_hole || !self.in_flight.is_empty() {
            return;
        }
        for (ordinal, mut batch) in std::mem::take(&mut self.retries) {
            if batch.is_maybe_stored {
                let last = "an earlier batch of the partition failed".to_owned();
                batch.finish(Err(DeliveryError::Unknown { last }));
            } else {
                batch.identity = None;
                self.retries.insert(ordinal, batch);
            }
        }
        self.has_hole = false;
        self.is_draining = !self.retries.is_empty();
    }

    /// Answers batches that took too long; true if there was one. What is in flight is left to its answer.
    pub(super) fn expire(&mut self, now_ms: u64) -> bool {
        let mut expired = false;
        let timeout_ms = self.config.delivery_timeout_ms;
        let is_late = |batch: &QueuedBatch| now_ms >= batch.created_ms.saturating_add(timeout_ms);
        let timed_out = |batch: &QueuedBatch| {
            let last = batch
                .last_error
                .clone()
                .unwrap_or_else(|| "it could not be sent".to_owned());
            DeliveryError::TimedOut { timeout_ms, last }
        };
        while let Some(entry) = self
            .retries
            .first_entry()
            .filter(|entry| is_late(entry.get()))
        {
            let batch = entry.remove();
            let error = timed_out(&batch);
            self.fail(batch, error);
            expired = true;
        }
        while self.retries.is_empty()
            && let Some(batch) = self.waiting.pop_front_if(|batch| is_late(batch))
        {
            self.last_is_open &= !self.waiting.is_empty();
            let error = timed_out(&batch);
            batch.finish(Err(error));
            expired = true;
        }
        self.close_hole();
        expired
    }

    /// Answers everything that is not in flight: no producer id can be had.
    pub(super) fn fail_all(&mut self, error: &DeliveryError) {
        self.last_is_open = false;
        for batch in std::mem::take(&mut self.retries)
            .into_values()
            .chain(self.waiting.drain(..))
        {
            batch.finish(Err(error.clone()));
        }
        self.is_draining = false;
    }
}

/// Errors after which the batch may be in the log all the same.
fn leaves_doubt(error: KafkaError) -> bool {
    matches!(
        error,
        KafkaError::UnknownServerError
            | KafkaError::RequestTimedOut
            | KafkaError::NotEnoughReplicasAfterAppend
            | KafkaError::KafkaStorageError
            | KafkaError::NetworkException
    )
}

#[cfg(test)]
mod tests;
