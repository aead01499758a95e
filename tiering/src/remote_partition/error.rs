//! What a remote read may fail with.

use std::sync::Arc;

use strandline_log::Offset;

use crate::cache::FetchError;
use crate::manifest::ManifestStoreError;
use crate::store::StoreError;

/// Why a remote read failed. All but `OutOfRange` say nothing about whether the offset exists.
#[derive(Clone, Debug, thiserror::Error)]
pub enum RemoteReadError {
    #[error("offset {offset} is outside of the remote log [{start}, {end})")]
    OutOfRange {
        offset: Offset,
        start: Offset,
        end: Offset,
    },
    /// It may work later: the store is away, or too many reads wait.
    #[error("the remote log cannot be read now: {0}")]
    Unavailable(Arc<str>),
    /// An object is missing or fails its checksum. Only a repair helps.
    #[error("the remote log is damaged: {0}")]
    Corrupt(Arc<str>),
}

impl RemoteReadError {
    pub fn is_retriable(&self) -> bool {
        matches!(self, Self::Unavailable(_))
    }
}

impl From<FetchError> for RemoteReadError {
    fn from(error: FetchError) -> Self {
        match error {
            FetchError::NotFound => Self::Corrupt("an object is missing in the store".into()),
            FetchError::Unavailable(why) => Self::Unavailable(why),
            FetchError::Corrupt(why) => Self::Corrupt(why),
        }
    }
}

impl From<ManifestStoreError> for RemoteReadError {
    fn from(error: ManifestStoreError) -> Self {
        match error {
            ManifestStoreError::Damaged { .. } => Self::Corrupt(error.to_string().into()),
            error => Self::Unavailable(error.to_string().into()),
        }
    }
}

/// Why one attempt to read failed.
pub(super) enum ReadFailure {
    /// An object is not in the store: the root may have changed.
    Missing,
    Error(RemoteReadError),
}

impl ReadFailure {
    /// What was to be read is not there, or not what it should be.
    pub(super) fn is_loss(&self) -> bool {
        matches!(
            self,
            Self::Missing | Self::Error(RemoteReadError::Corrupt(_))
        )
    }

    pub(super) fn into_error(self) -> RemoteReadError {
        match self {
            Self::Missing => FetchError::NotFound.into(),
            Self::Error(error) => error,
        }
    }
}

impl From<RemoteReadError> for ReadFailure {
    fn from(error: RemoteReadError) -> Self {
        Self::Error(error)
    }
}

impl From<FetchError> for ReadFailure {
    fn from(error: FetchError) -> Self {
        match error {
            FetchError::NotFound => Self::Missing,
            error => Self::Error(error.into()),
        }
    }
}

impl From<ManifestStoreError> for ReadFailure {
    fn from(error: ManifestStoreError) -> Self {
        match error {
            // A page of an older root may be gone.
            ManifestStoreError::Store(StoreError::NotFound { .. }) => Self::Missing,
            error => Self::Error(error.into()),
        }
    }
}
