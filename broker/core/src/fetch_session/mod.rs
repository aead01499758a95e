//! Incremental fetch sessions (KIP-227), pure.
//!
//! A session remembers which partitions a client wants and what it was told last, so that a request names only what
//! changed and an answer carries only what is new.
//!
//! What always holds: a session costs what changed, not what it holds. The server marks a partition of a session with
//! [`FetchSessionCache::mark_dirty`] when its high watermark, log start or leadership moves; only marked partitions are
//! [`candidates`](FetchSessionCache::candidates) for the next answer. A partition stays marked until it was found idle.
//!
//! What it does not do: it reads no log and no clock. A broker has one cache per shard, each with its own slots.

mod cache;
mod key;
mod session;

pub use cache::{
    EVICTION_MS, FetchContext, FetchKind, FetchSessionCache, FetchSessionConfig,
    SESSION_PARTITIONS_MAX, SessionIdSource, config_defs,
};
pub use key::{FetchPosition, SessionTopic, WantedPartition};
pub use session::{Candidate, PartitionResult, Slot};
