//! How a user names a target.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use super::TargetError;

/// A parsed `--to`. Prefixes are without slashes at their ends, empty when there is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TargetUrl {
    Folder(PathBuf),
    S3 { bucket: String, prefix: String },
    Gcs { bucket: String, prefix: String },
    Azblob { container: String, prefix: String },
    WebHdfs { authority: String, path: String },
}

impl FromStr for TargetUrl {
    type Err = TargetError;

    fn from_str(text: &str) -> Result<Self, TargetError> {
        let invalid = |why: &str| TargetError::InvalidUrl {
            url: text.to_owned(),
            why: why.to_owned(),
        };
        let trimmed = text.trim();
        if trimmed.is_empty() {
            return Err(invalid("is empty"));
        }
        let Some((scheme, rest)) = trimmed.split_once("://") else {
            return Ok(Self::Folder(PathBuf::from(trimmed)));
        };
        let scheme = scheme.to_ascii_lowercase();
        if scheme == "file" {
            let url = url::Url::parse(trimmed).map_err(|e| invalid(&e.to_string()))?;
            return url
                .to_file_path()
                .map(Self::Folder)
                .map_err(|()| invalid("does not name a local folder"));
        }
        let (first, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let prefix = prefix.trim_matches('/').to_owned();
        if first.is_empty() {
            return Err(invalid("names no bucket"));
        }
        if prefix.split('/').any(|part| matches!(part, "." | "..")) {
            return Err(invalid("has a prefix that cannot be used"));
        }
        let bucket = first.to_owned();
        match scheme.as_str() {
            "s3" | "s3a" => Ok(Self::S3 { bucket, prefix }),
            "gs" | "gcs" => Ok(Self::Gcs { bucket, prefix }),
            "az" | "azblob" => Ok(Self::Azblob {
                container: bucket,
                prefix,
            }),
            "webhdfs" | "hdfs" => Ok(Self::WebHdfs {
                authority: bucket,
                path: prefix,
            }),
            _ => Err(invalid("has an unknown scheme")),
        }
    }
}

impl fmt::Display for TargetUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, bucket, prefix) = match self {
            Self::Folder(path) => return write!(f, "{}", path.display()),
            Self::S3 { bucket, prefix } => ("s3", bucket, prefix),
            Self::Gcs { bucket, prefix } => ("gs", bucket, prefix),
            Self::Azblob { container, prefix } => ("az", container, prefix),
            Self::WebHdfs { authority, path } => ("webhdfs", authority, path),
        };
        write!(f, "{scheme}://{bucket}")?;
        if !prefix.is_empty() {
            write!(f, "/{prefix}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_read_by_their_scheme_and_shown_as_they_are() {
        let s3 = |bucket: &str, prefix: &str| TargetUrl::S3 {
            bucket: bucket.to_owned(),
            prefix: prefix.to_owned(),
        };
        for (text, expected, shown) in [
            ("./lake", TargetUrl::Folder("./lake".into()), "./lake"),
            (
                "file:///my%20lake",
                TargetUrl::Folder("/my lake".into()),
                "/my lake",
            ),
            ("s3://bucket", s3("bucket", ""), "s3://bucket"),
            ("S3A://bucket/a/b/", s3("bucket", "a/b"), "s3://bucket/a/b"),
            (
                "gs://bucket/a",
                TargetUrl::Gcs {
                    bucket: "bucket".to_owned(),
                    prefix: "a".to_owned(),
                },
                "gs://bucket/a",
            ),
        ] {
            let url: TargetUrl = text.parse().expect(text);
            assert_eq!(url, expected);
            assert_eq!(url.to_string(), shown);
        }
        for bad in [
            "",
            " ",
            "ftp://host/x",
            "s3://",
            "s3:///x",
            "s3://bucket/../x",
            "file://host/x",
        ] {
            assert!(bad.parse::<TargetUrl>().is_err(), "{bad}");
        }
    }
}
