//! Who waits for which offset: bookkeeping for delayed produce and fetch, pure.
//!
//! What always holds: a waiter completes exactly once, by progress, by failure or by its deadline; nothing here is linear
//! in all waiters: an advance costs what it completes, a cancellation the depth of a tree.
//!
//! What it does not do: it holds offsets and tokens, never bytes, and reads no clock.

mod deadlines;
mod fetch;
mod offset_waiters;
mod produce;

pub use deadlines::Deadlines;
pub use fetch::{FetchPurgatory, WaitingFetch};
pub use offset_waiters::OffsetWaiters;
pub use produce::{ProduceOutcome, ProducePurgatory, ProduceWait};
