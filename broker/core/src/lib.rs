//! The broker's state machines, pure: events and time in, effects out.
//!
//! No tokio, no `std::fs`, no clock, no randomness: whatever is of the world comes in as an argument, so that every
//! decision can be replayed. State iterates in stated orders.

pub mod fetch_session;
pub mod group;
pub mod metadata;
pub mod partition;
pub mod purgatory;
