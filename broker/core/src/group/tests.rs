//! Scenarios: events in, effects out. The bench commits each append at once unless told otherwise.

mod bench;
mod deletion;
mod expiry;
mod failures;
mod loading;
mod membership;
mod offsets;
mod simulation;
mod static_members;
mod versions;
