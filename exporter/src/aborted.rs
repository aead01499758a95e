//! Which batches belong to aborted transactions (I2).
//!
//! A producer has one transaction at a time, so a transactional batch is aborted exactly when it lies between the first
//! offset and the marker of one of its producer's aborted transactions.

use std::collections::HashMap;

use strandline_log::record::BatchHeader;
use strandline_log::txn_index::AbortedTxn;
use strandline_log::{Offset, ProducerId};

/// The aborted transactions of a segment, by producer.
#[derive(Clone, Debug, Default)]
pub struct AbortedRanges {
    by_producer: HashMap<ProducerId, Vec<(Offset, Offset)>>,
}

impl AbortedRanges {
    pub fn new(transactions: &[AbortedTxn]) -> Self {
        let mut by_producer: HashMap<_, Vec<_>> = HashMap::new();
        for txn in transactions {
            by_producer
                .entry(txn.producer_id)
                .or_default()
                .push((txn.first_offset, txn.last_offset));
        }
        for ranges in by_producer.values_mut() {
            ranges.sort_unstable();
        }
        Self { by_producer }
    }

    pub fn hides(&self, batch: &BatchHeader) -> bool {
        if !batch.is_transactional() {
            return false;
        }
        let Some(ranges) = self.by_producer.get(&batch.producer_id) else {
            return false;
        };
        // The last transaction that began at or before the batch's end is the only one that can hold it.
        let after = ranges.partition_point(|(first, _)| *first <= batch.last_offset());
        after > 0 && batch.base_offset <= ranges[after - 1].1
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use strandline_log::record::{Batch, BatchBuilder, BatchOptions, NewRecord};

    fn batch(base_offset: Offset, producer_id: ProducerId, is_transactional: bool) -> BatchHeader {
        let mut builder = BatchBuilder::new(BatchOptions {
            base_offset,
            producer_id,
            producer_epoch: 0,
            base_sequence: 0,
            is_transactional,
            ..BatchOptions::default()
        });
        builder.append(NewRecord::default()).expect("small");
        builder.append(NewRecord::default()).expect("small");
        Batch::parse(builder.build()).expect("sound").header
    }

    #[test]
    fn only_batches_between_first_offset_and_marker_are_hidden() {
        let txn = |producer_id, first_offset, last_offset| AbortedTxn {
            producer_id,
            first_offset,
            last_offset,
            last_stable_offset: 0,
        };
        let aborted = AbortedRanges::new(&[txn(1, 20, 26), txn(1, 4, 10), txn(2, 2, 30)]);
        for (base, producer, transactional, hidden) in [
            (0, 1, true, false),
            (4, 1, true, true),
            (6, 1, false, false),
            (8, 1, true, true),
            (12, 1, true, false),
            (20, 1, true, true),
            (28, 1, true, false),
            (28, 2, true, true),
            (32, 2, true, false),
            (8, 3, true, false),
        ] {
            assert_eq!(
                aborted.hides(&batch(base, producer, transactional)),
                hidden,
                "offset {base} of producer {producer}"
            );
        }
    }
}
