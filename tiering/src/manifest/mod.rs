//! A partition's manifest: which offsets are in which objects, as one root object changed by compare-and-swap.
//!
//! - [`Manifest`] is the pure state; [`Manifest::apply`] makes the next one out of edits and upholds I5 and I6.
//! - [`ManifestStore`] loads and edits the root of one partition, and reads its pages.
//!
//! The root holds the newest entries inline and references to immutable pages of older ones, so that an edit writes a
//! bounded amount whatever the history. What this module does not do: upload, delete objects, or look at local logs.

mod edit;
mod entry;
mod lookup;
mod pages;
mod rebuild;
mod replace;
mod state;
mod store;

pub use edit::{Edit, ManifestError, PageCut, Replacement};
pub use entry::{Gap, GapCause, ManifestEntry, ObjectRef, PageRef};
pub use lookup::Lookup;
pub use pages::PageCache;
pub use replace::Replaced;
pub use state::{ENTRIES_INLINE_MAX, Manifest, NONCES_KEPT};
pub use store::{ExpiredEntries, ManifestStore, ManifestStoreError};

#[cfg(test)]
pub(crate) mod tests;
