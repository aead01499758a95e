//! From an offset below the local start to file slices of whole batches.
//!
//! [`SegmentReader`] reads one object through the caches, [`ReadAhead`] says what a sequential reader will want next.

mod batches;
mod read_ahead;
mod segment_reader;
mod span;
mod tail_cache;

pub use read_ahead::{ChunkPlace, ReadAhead};
pub use segment_reader::{SegmentRead, SegmentReader, SegmentRef};
pub use tail_cache::TailCache;
