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

    /// Whether the object is not there, or not all of it.
    pub fn is_lost(&self) -> bool {
        matches!(self, Self::NotFound { .. } | Self::Short { .. })
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
            e => Self::from_answer(key, error_text(&e)),
        }
    }

    /// The client tells most refusals apart by status; what is left only shows in the text of the answer.
    pub(super) fn from_answer(key: String, cause: String) -> Self {
        let says = |words: &[&str]| words.iter().any(|word| cause.contains(word));
        // From S3, from our folder, from the in-memory store.
        if says(&["Range Not Satisfiable", "Wanted range starting at"]) {
            return Self::Short {
                key,
                wanted: 1,
                got: 0,
            };
        }
        if says(&["status code: 400"]) {
            if says(&["ExpiredToken", "InvalidToken"]) {
                return Self::Denied { key, cause };
            }
            // S3 says 400 to an upload that was too slow, too: that passes.
            if !says(&["RequestTimeout"]) {
                return Self::Invalid {
                    what: format!("{key}: {cause}"),
                };
            }
        }
        Self::Unavailable { key, cause }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_told_apart_by_what_they_ask_for() {
        for (text, class) in [
            ("status code: 503: SlowDown", "unavailable"),
            ("error sending request: connection refused", "unavailable"),
            ("status code: 416 Range Not Satisfiable", "short"),
            (
                "status code: 400 Bad Request: <Code>ExpiredToken</Code>",
                "denied",
            ),
            (
                "status code: 400 Bad Request: <Code>RequestTimeout</Code>",
                "unavailable",
            ),
            (
                "status code: 400 Bad Request: <Code>InvalidRequest</Code>",
                "invalid",
            ),
        ] {
            let error = object_store::Error::Generic {
                store: "S3",
                source: text.into(),
            };
            let mapped = StoreError::from_object_store("k", error);
            assert_eq!(mapped.class(), class, "{text}");
            assert_eq!(mapped.is_retriable(), class == "unavailable");
        }
        let no_bucket = object_store::Error::NotFound {
            path: "k".to_owned(),
            source: "<Code>NoSuchBucket</Code>".into(),
        };
        let mapped = StoreError::from_object_store("k", no_bucket);
        assert_eq!(
            mapped.to_string(),
            "invalid object store request: the bucket does not exist"
        );
    }
}
