//! Which batches a reader of committed records must not see.
//!
//! A Fetch answer lists the aborted transactions that overlap it, by producer and first offset. From that offset on the
//! producer's transactional batches are hidden, until its abort marker ends the transaction.

use std::collections::HashSet;

use strandline_log::record::{Batch, BatchError, ControlRecordType, EndTxnMarker};
use strandline_log::{Offset, ProducerId};

pub(super) struct AbortedTransactions {
    /// By first offset, the largest first, so that the next is popped off the end.
    ahead: Vec<(Offset, ProducerId)>,
    open: HashSet<ProducerId>,
}

impl AbortedTransactions {
    pub(super) fn new(mut transactions: Vec<(Offset, ProducerId)>) -> Self {
        transactions.sort_unstable_by(|a, b| b.cmp(a));
        Self {
            ahead: transactions,
            open: HashSet::new(),
        }
    }

    /// To be asked about every batch in the order of offsets.
    pub(super) fn hides(&mut self, batch: &Batch) -> Result<bool, BatchError> {
        let header = &batch.header;
        while let Some((_, producer_id)) = self
            .ahead
            .pop_if(|(first, _)| *first <= header.last_offset())
        {
            self.open.insert(producer_id);
        }
        if header.is_control() {
            let marker = EndTxnMarker::of_batch(batch)?;
            if marker.is_some_and(|marker| marker.control_type == ControlRecordType::Abort) {
                self.open.remove(&header.producer_id);
            }
            return Ok(true);
        }
        Ok(header.is_transactional() && self.open.contains(&header.producer_id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use strandline_log::record::{BatchBuilder, BatchOptions, NewRecord};

    fn data(base_offset: Offset, producer_id: ProducerId, is_transactional: bool) -> Batch {
        let options = BatchOptions {
            base_offset,
            producer_id,
            producer_epoch: 0,
            base_sequence: 0,
            is_transactional,
            ..BatchOptions::default()
        };
        let mut builder = BatchBuilder::new(options);
        builder.append(NewRecord::default()).unwrap();
        builder.append(NewRecord::default()).unwrap();
        Batch::parse(builder.build()).unwrap()
    }

    fn marker(
        base_offset: Offset,
        producer_id: ProducerId,
        control_type: ControlRecordType,
    ) -> Batch {
        let marker = EndTxnMarker {
            control_type,
            coordinator_epoch: 0,
        };
        Batch::parse(marker.to_batch(producer_id, 0, base_offset, 0, 0)).unwrap()
    }

    #[test]
    fn batches_are_hidden_from_the_first_offset_to_the_abort_marker() {
        let mut aborted = AbortedTransactions::new(vec![(20, 1), (4, 1), (2, 2)]);
        let mut hidden = |batch: Batch| aborted.hides(&batch).unwrap();
        assert!(
            !hidden(data(0, 1, true)),
            "an earlier transaction, committed"
        );
        assert!(hidden(data(2, 2, true)));
        assert!(hidden(data(4, 1, true)));
        assert!(!hidden(data(6, 1, false)), "not transactional");
        assert!(!hidden(data(8, 3, true)), "another producer's");
        assert!(
            hidden(marker(10, 1, ControlRecordType::Abort)),
            "markers are never data"
        );
        assert!(
            !hidden(data(11, 1, true)),
            "the next transaction, committed"
        );
        assert!(hidden(marker(13, 1, ControlRecordType::Commit)));
        assert!(hidden(data(14, 2, true)), "still open");
        assert!(hidden(data(20, 1, true)), "the second abort");
    }
}
