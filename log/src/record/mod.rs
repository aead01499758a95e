//! Record batches of format v2: headers, records, compression, building, and the checks of a produce.
//!
//! All bytes are Kafka's. Nothing here trusts a length or a count: bad input is an error, never a panic, and
//! memory is only reserved for what the input can really hold or the caller's limit allows. No files, no clock.

mod attributes;
mod batch;
mod batch_header;
mod builder;
mod compression;
pub mod control;
mod error;
mod iter;
#[allow(clippy::module_inception)]
mod record;
mod snappy;
mod validate;
pub mod varint;
mod view;

#[cfg(test)]
mod tests;

pub use attributes::{Attributes, TimestampType};
pub use batch::{Batch, BatchIter, batches_of, split_batches};
pub use batch_header::{
    BATCH_HEADER_LEN, BatchHeader, LOG_OVERHEAD, MAGIC_V2, decrement_sequence, increment_sequence,
};
pub use builder::{BatchBuilder, BatchOptions, BuildError, NewRecord, assemble, assemble_in_place};
pub use compression::{Compression, CompressionError, DecodeLimit};
pub use control::{ControlRecordType, EndTxnMarker};
pub use error::BatchError;
pub use iter::{RecordIter, Records, records_of};
pub use record::{Record, RecordHeader};
pub use validate::{
    ProduceError, ProduceRules, RecordError, TopicCompression, ValidBatch, validate_produce,
};
pub use view::{RecordView, RecordViews};
