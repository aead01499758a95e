//! Looks at what lies in the store again and again, and mends it while there still is something to mend it with.
//!
//! A walk goes over a partition's entries, oldest first: the end of each object, which holds the checksums of the rest,
//! then its log bytes a piece at a time. What a reader has stumbled over is looked at before. Requests and bytes are
//! bounded for the whole broker ([`ScrubBudget`]); a turn does a little and leaves the rest to the next.
//!
//! An object that is missing or damaged, also when its root was read anew and it was asked for again, is
//! 1. uploaded again from the local log, if that still has the range, else from the chunk cache, if that has all of it:
//!    under a new name, which a manifest edit puts in the old one's place;
//! 2. else marked in the manifest, and reported with its offsets and what that means. Then somebody brings it back (the
//!    next walk finds it whole and takes the mark away), or accepts the loss (`strandline tier repair --accept-loss`).
//!
//! Nothing is ever given up here.

mod budget;
mod copies;
mod turn;

pub(crate) use budget::ScrubBudget;
pub(crate) use turn::ScrubTurn;
