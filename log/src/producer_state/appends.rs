//! The batches of one write that is not done yet, laid over the manager's state.
//!
//! Several batches of a producer may go into one write. Each is checked against those before it, and the manager
//! learns of them only when the write has succeeded: a failed one leaves no trace.

use std::collections::BTreeMap;

use super::entry::{Check, ProducerError, ProducerStateEntry};
use super::manager::ProducerStateManager;
use crate::record::BatchHeader;
use crate::types::{ProducerId, TimestampMs};

#[derive(Clone, Debug, Default)]
pub struct ProducerAppends {
    /// The producers of this write, as they will be.
    entries: BTreeMap<ProducerId, ProducerStateEntry>,
    batches: Vec<(BatchHeader, TimestampMs)>,
}

impl ProducerAppends {
    pub fn new() -> Self {
        Self::default()
    }

    /// As [`ProducerStateManager::check`], after the batches added here. A duplicate of one of those must not be
    /// acknowledged before it.
    pub fn check(
        &self,
        manager: &ProducerStateManager,
        header: &BatchHeader,
    ) -> Result<Check, ProducerError> {
        match self.entries.get(&header.producer_id) {
            Some(entry) if header.has_producer_id() => entry.check(header),
            _ => manager.check(header),
        }
    }

    /// Adds a data batch that passed the check, with the offset that it will have.
    pub fn add(
        &mut self,
        manager: &ProducerStateManager,
        header: &BatchHeader,
        append_ms: TimestampMs,
    ) {
        if header.has_producer_id() {
            self.entries
                .entry(header.producer_id)
                .or_insert_with(|| {
                    manager
                        .get(header.producer_id)
                        .cloned()
                        .unwrap_or_else(|| ProducerStateEntry::unknown(header.producer_id))
                })
                .append(header, append_ms);
        }
        self.batches.push((*header, append_ms));
    }

    pub fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }

    pub(super) fn into_batches(self) -> impl Iterator<Item = (BatchHeader, TimestampMs)> {
        self.batches.into_iter()
    }
}
