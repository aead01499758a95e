//! What can go wrong where a table is written.

use std::path::PathBuf;

#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    #[error(
        "\"{url}\" {why}; expected a folder, file:///folder, s3://bucket/prefix, gs://bucket/prefix or az://container/prefix"
    )]
    InvalidUrl { url: String, why: String },
    #[error("{}: {source}", path.display())]
    Io {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("{path} in {target}: {source}")]
    Store {
        path: String,
        target: String,
        // Large, and on every Result's error path.
        source: Box<opendal::Error>,
    },
    /// Created by someone, perhaps by our own retry: what is there decides.
    #[error("{path} exists already")]
    Exists { path: String },
    #[error("{target} cannot hold a table: {what}")]
    NotSupported { target: String, what: String },
    #[error("another export into {} is running; only one at a time may write a table", path.display())]
    Busy { path: PathBuf },
}

impl TargetError {
    pub(super) fn io(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { path, source }
    }
}
