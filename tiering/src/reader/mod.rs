//! From an offset below the local start to file slices of whole batches.

mod read_ahead;

pub use read_ahead::{ChunkPlace, ReadAhead};
