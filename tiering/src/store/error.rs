//! What can go wrong with an object store, by what to do about it.

/// An object store's refusal. Every text names the object and what to do.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The object does not exist.
    #[error("{key} does not exist in the object store")]
    NotFound { key: String },
    /// A conditional write lost. It may also be our own retry that had succeeded: reread and decide.
    #[error("{key} was created or changed by someone else in the meantime")]
    Precondition { key: String },
    /// The store did not answer, or answered with a passing failure. The outcome of a write is unknown.
    #[error("the object store is unavailable ({key}): {cause}; it is retried by itself")]
    Unavailable { key: String, cause: String },
    /// Credentials are missing or lack a permission.
    #[error("the object store denied access to {key}: {cause}; check credentials and permissions")]
    Denied { key: String, cause: String },
    /// The store lacks something that tiering cannot do without.
    #[error("the object store cannot be used for tiering: {what}")]
    NotSupported { what: String },
    /// An object ends before the range that was asked for: it was cut, or the caller's metadata is wrong.
    #[error("{key} ends early: {wanted} bytes were expected, {got} are there")]
    Short { key: String, wanted: u64, got: u64 },
    /// The request could never work: a bad URL, key, bucket or setting.
    #[error("invalid object store request: {what}")]
    Invalid { what: String },
}

impl StoreError {
    /// Whether the same request may work later without anybody's help.
    pub fn is_retriable(&self) -> bool {
        matches!(self, Self::Unavailable { .. })
    }

    /// Whether a write that ended like this may still have happened, or may yet happen.
    pub fn is_ambiguous(&self) -> bool {
        matches!(self, Self::Unavailable { .. } | Self::Precondition { .. })
    }

    /// A word for metrics.
    pub fn class(&self) -> &'static str {
        match self {
            Self::NotFound { .. } => "not_found",
            Self::Precondition { .. } => "precondition",
            Self::Unavailable { .. } => "unavailable",
            Self::Denied { .. } => "denied",
            Self::NotSupported { .. } => "not_supported",
            Self::Short { .. } => "short",
            Self::Invalid { .. } => "invalid",
        }
    }

    pub(crate) fn from_object_store(key: &str, error: object_store::Error) -> Self {
        use object_store::Error as E;
        let key = key.to_owned();
        match error {
            E::NotFound { source, .. } => {
                // S3 says 404 for a bucket that does not exist too; taking that for an absent object would
                // start an empty manifest over.
                if error_text(source.as_ref()).contains("NoSuchBucket") {
                    return Self::Invalid {
                        what: "the bucket does not exist".to_owned(),
                    };
                }
                Self::NotFound { key }
            }
            E::AlreadyExists { .. } | E::Precondition { .. } | E::NotModified { .. } => {
                Self::Precondition { key }
            }
            E::PermissionDenied { source, .. } | E::Unauthenticated { source, .. } => {
                Self::Denied {
                    key,
                    cause: error_text(source.as_ref()),
                }
            }
            E::NotSupported { source } => Self::NotSupported {
                what: error_text(source.as_ref()),
            },
            e @ E::NotImplemented { .. } => Self::NotSupported {
                what: e.to_string(),
            },
            e @ (E::InvalidPath { .. } | E::UnknownConfigurationKey { .. }) => Self::Invalid {
                what: e.to_string(),
            },
            e => Self::Unavailable {
                key,
                cause: error_text(&e),
            },
        }
    }
}

/// The chain of causes in one line, without the repetitions that nested errors carry.
fn error_text(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let part = cause.to_string();
        if !text.contains(&part) {
            text.push_str(": ");
            text.push_str(&part);
        }
        next = cause.source();
    }
    text.truncate(text.floor_char_boundary(1_000));
    text
}
