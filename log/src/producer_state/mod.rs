//! What a partition knows of its producers: sequences against duplicates and gaps, and open transactions.
//!
//! [`ProducerStateManager`] is pure state. [`ProducerAppends`] lays the batches of one write over it until that
//! write has succeeded. [`snapshot`] is the `.snapshot` format, [`ProducerSnapshots`] the files.

mod appends;
mod entry;
mod manager;
pub mod snapshot;
mod snapshots;

#[cfg(test)]
mod tests;

pub use appends::ProducerAppends;
pub use entry::{BATCHES_KEPT, BatchMetadata, Check, ProducerError, ProducerStateEntry};
pub use manager::{CompletedTxn, ProducerStateManager};
pub use snapshot::SnapshotError;
pub use snapshots::ProducerSnapshots;
