//! Which transactions a cleaner that walks a log forward is inside of, and which batches and markers may therefore go.
//!
//! Records of aborted transactions go at once. A marker may go once no batch of its transaction is left: then it is
//! first given a delete horizon, like a tombstone, and dropped when that is over. An abort marker whose records go in
//! this very round still has its entry in the transaction index, for readers that hold the old bytes.

use std::collections::{BTreeMap, HashMap, HashSet};

use strandline_log::record::{BatchHeader, ControlRecordType};
use strandline_log::txn_index::AbortedTxn;
use strandline_log::{Offset, ProducerId};

#[derive(Clone, Copy, Debug)]
struct Ongoing {
    txn: AbortedTxn,
    has_batches: bool,
}

/// What becomes of a marker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MarkerVerdict {
    /// Nothing of its transaction is left.
    pub may_go: bool,
    /// To be noted in the cleaned segment's transaction index.
    pub aborted: Option<AbortedTxn>,
}

#[derive(Debug, Default)]
pub struct CleanedTransactions {
    /// Aborted transactions that lie ahead, by first offset and marker.
    ahead: BTreeMap<(Offset, Offset), AbortedTxn>,
    ongoing_aborted: HashMap<ProducerId, Ongoing>,
    ongoing_committed: HashSet<ProducerId>,
}

impl CleanedTransactions {
    /// Takes in what the transaction indexes say of the stretch that comes next.
    pub fn add_aborted(&mut self, aborted: impl IntoIterator<Item = AbortedTxn>) {
        for txn in aborted {
            self.ahead.insert((txn.first_offset, txn.last_offset), txn);
        }
    }

    fn begin_up_to(&mut self, offset: Offset) {
        while let Some(entry) = self.ahead.first_entry() {
            if entry.get().first_offset > offset {
                break;
            }
            let txn = entry.remove();
            self.ongoing_aborted
                .entry(txn.producer_id)
                .or_insert(Ongoing {
                    txn,
                    has_batches: false,
                });
        }
    }

    /// A data batch; true when it belongs to an aborted transaction.
    pub fn on_batch(&mut self, header: &BatchHeader) -> bool {
        self.begin_up_to(header.last_offset());
        if !header.is_transactional() {
            return false;
        }
        match self.ongoing_aborted.get_mut(&header.producer_id) {
            Some(ongoing) => {
                ongoing.has_batches = true;
                true
            }
            None => {
                self.ongoing_committed.insert(header.producer_id);
                false
            }
        }
    }

    /// A control batch. `marker`: `None` when it is empty, because its record went before.
    pub fn on_control_batch(
        &mut self,
        header: &BatchHeader,
        marker: Option<ControlRecordType>,
    ) -> MarkerVerdict {
        self.begin_up_to(header.last_offset());
        let (may_go, aborted) = match marker {
            None => (true, None),
            Some(ControlRecordType::Abort) => {
                match self.ongoing_aborted.remove(&header.producer_id) {
                    Some(ongoing) if ongoing.has_batches => (false, Some(ongoing.txn)),
                    _ => (true, None),
                }
            }
            Some(ControlRecordType::Commit) => {
                (!self.ongoing_committed.remove(&header.producer_id), None)
            }
            Some(ControlRecordType::Other(_)) => (false, None),
        };
        MarkerVerdict { may_go, aborted }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use strandline_log::record::{Attributes, MAGIC_V2};

    fn header(producer_id: ProducerId, offset: Offset, transactional: bool) -> BatchHeader {
        BatchHeader {
            base_offset: offset,
            batch_length: 49,
            partition_leader_epoch: 0,
            magic: MAGIC_V2,
            crc: 0,
            attributes: Attributes::default().with_transactional(transactional),
            last_offset_delta: 0,
            base_timestamp: 0,
            max_timestamp: 0,
            producer_id,
            producer_epoch: 0,
            base_sequence: 0,
            records_count: 1,
        }
    }

    fn aborted(producer_id: ProducerId, first_offset: Offset, last_offset: Offset) -> AbortedTxn {
        AbortedTxn {
            producer_id,
            first_offset,
            last_offset,
            last_stable_offset: last_offset + 1,
        }
    }

    #[test]
    fn records_of_aborted_transactions_go_and_their_marker_stays_for_one_round() {
        let txn = aborted(1, 10, 12);
        let abort = Some(ControlRecordType::Abort);
        let mut first = CleanedTransactions::default();
        first.add_aborted([txn]);
        assert!(!first.on_batch(&header(1, 5, true)), "an earlier one");
        let commit = first.on_control_batch(&header(1, 6, true), Some(ControlRecordType::Commit));
        assert!(!commit.may_go, "its record is there");
        assert!(first.on_batch(&header(1, 10, true)));
        // The next segment's index tells of it again.
        first.add_aborted([txn]);
        assert!(!first.on_batch(&header(2, 11, true)), "another producer");
        let marker = first.on_control_batch(&header(1, 12, true), abort);
        assert_eq!((marker.may_go, marker.aborted), (false, Some(txn)));
        assert!(!first.on_batch(&header(1, 13, false)));

        // When its records are gone, so may it.
        let mut second = CleanedTransactions::default();
        second.add_aborted([txn]);
        let marker = second.on_control_batch(&header(1, 12, true), abort);
        assert_eq!((marker.may_go, marker.aborted), (true, None));
        let commit = second.on_control_batch(&header(2, 20, true), Some(ControlRecordType::Commit));
        assert!(commit.may_go);
        let empty = second.on_control_batch(&header(2, 21, true), None);
        assert!(empty.may_go);
        let other =
            second.on_control_batch(&header(2, 22, true), Some(ControlRecordType::Other(7)));
        assert!(!other.may_go);
    }
}
