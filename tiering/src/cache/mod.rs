//! Chunks of remote objects as files on local disk, so that history is served by the same path as everything else.
//!
//! [`ChunkCache`] holds the files and their limit, [`TwoQueue`] says which of them go.

mod chunk_cache;
mod chunk_id;
mod two_queue;

pub use chunk_cache::{CacheMetrics, ChunkCache, FetchError, Fetched};
pub use chunk_id::ChunkId;
pub use two_queue::TwoQueue;
