//! remote.log.tail.upload.ms: a bound on what the bucket lacks. Each interval, what has been committed since the last one
//! and is in no manifest goes up in one object for all partitions of the broker ([`upload`]). No manifest names it. A
//! restore makes segment objects of it, which manifests name ([`promote`]).
//!
//! - A part begins where the manifest or the part before it ends, so that the parts of one leader's term make a chain.
//! - A tail object is removed when every part of it is in a manifest, or its topic is gone.
//! - Terms can differ from each other above the manifest's end: a restore believes the newest that can go on there.

mod promote;
mod upload;

pub use promote::{PromoteError, Promoted, Tails};
pub(crate) use upload::run;
