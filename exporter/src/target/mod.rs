//! Where a table is written: a folder or an object store, through opendal, with conditional creation.
//!
//! - [`TargetUrl`] says which store and where in it.
//! - [`Target`] is a table's folder in it. A local folder gets what opendal does not do: files appear complete and
//!   synced, creation is exclusive, and a lock keeps a second exporter out.
//! - [`Spool`] makes the temporary files in which data is written before it is put in its place.

mod error;
mod folder;
mod spool;
mod store;
mod url;

pub use error::TargetError;
pub use spool::{Spool, SpoolFile};
pub use store::{Listed, Target};
pub use url::TargetUrl;

pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => unreachable!("blocking work is never cancelled while its runtime lives"),
        },
    }
}
