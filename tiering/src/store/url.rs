//! How a user names an object store: a folder, `file:///folder` or `s3://bucket/prefix`.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use super::StoreError;

/// A parsed remote.storage.url.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreUrl {
    Folder(PathBuf),
    S3 {
        bucket: String,
        /// Without slashes at its ends; empty when there is none.
        prefix: String,
    },
}

impl FromStr for StoreUrl {
    type Err = StoreError;

    fn from_str(text: &str) -> Result<Self, StoreError> {
        let invalid = |why: &str| StoreError::Invalid {
            what: format!(
                "\"{text}\" {why}; expected a folder, file:///folder or s3://bucket/prefix"
            ),
        };
        let trimmed = text.trim();
        if trimmed.is_empty() {
            return Err(invalid("is empty"));
        }
        let Some((scheme, rest)) = trimmed.split_once("://") else {
            return Ok(Self::Folder(PathBuf::from(trimmed)));
        };
        match scheme.to_ascii_lowercase().as_str() {
            "file" => {
                let url = url::Url::parse(trimmed).map_err(|e| invalid(&e.to_string()))?;
                url.to_file_path()
                    .map(Self::Folder)
                    .map_err(|()| invalid("does not name a local folder"))
            }
            "s3" | "s3a" => {
                let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
                let valid = (3..=63).contains(&bucket.len())
                    && bucket.bytes().all(|c| {
                        c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, b'-' | b'.')
                    });
                if !valid {
                    return Err(invalid("does not name a valid bucket"));
                }
                let prefix = prefix.trim_matches('/').to_owned();
                if !prefix.is_empty() && object_store::path::Path::parse(&prefix).is_err() {
                    return Err(invalid("has a prefix that cannot be used"));
                }
                Ok(Self::S3 {
                    bucket: bucket.to_owned(),
                    prefix,
                })
            }
            _ => Err(invalid("has an unknown scheme")),
        }
    }
}

impl fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(path) => write!(f, "{}", path.display()),
            Self::S3 { bucket, prefix } if prefix.is_empty() => write!(f, "s3://{bucket}"),
            Self::S3 { bucket, prefix } => write!(f, "s3://{bucket}/{prefix}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_read_by_their_scheme() {
        let s3 = |bucket: &str, prefix: &str| StoreUrl::S3 {
            bucket: bucket.to_owned(),
            prefix: prefix.to_owned(),
        };
        let folder = |path: &str| StoreUrl::Folder(PathBuf::from(path));
        for (text, expected) in [
            ("./data/objects", folder("./data/objects")),
            ("/var/objects", folder("/var/objects")),
            ("file:///var/my%20objects", folder("/var/my objects")),
            ("s3://bucket", s3("bucket", "")),
            ("S3://my.bucket/a/b/", s3("my.bucket", "a/b")),
        ] {
            assert_eq!(text.parse::<StoreUrl>().expect(text), expected);
        }
        for bad in [
            "",
            " ",
            "gs://bucket",
            "s3://",
            "s3://Upper/x",
            "s3://b/x",
            "file://host/x/y",
            "s3://bucket/a//b",
        ] {
            assert!(bad.parse::<StoreUrl>().is_err(), "{bad}");
        }
    }

    #[test]
    fn what_is_shown_is_read_back() {
        for text in ["/a/b", "s3://bucket", "s3://bucket/a/b"] {
            assert_eq!(text.parse::<StoreUrl>().expect("parses").to_string(), text);
        }
    }
}
