//! What is to be exported, from where, to where, and within which limits.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use strandline_tiering::TierConfig;
use strandline_tiering::store::S3Options;

/// One export of one topic.
#[derive(Clone, Debug)]
pub struct ExportRequest {
    pub topic: String,
    /// The table's folder below the target; the topic's name when `None`.
    pub table: Option<String>,
    pub source: ExportSource,
    pub target: ExportTarget,
    /// `None`: what the table has, raw for a new one.
    pub value_format: Option<ValueFormat>,
    /// `None`: what the table has; for a new one binary beside raw values, string beside JSON fields.
    pub key_format: Option<KeyFormat>,
    pub limits: ExportLimits,
}

impl ExportRequest {
    /// A raw export within the default limits.
    pub fn new(topic: impl Into<String>, source: ExportSource, target: ExportTarget) -> Self {
        Self {
            topic: topic.into(),
            table: None,
            source,
            target,
            value_format: None,
            key_format: None,
            limits: ExportLimits::default(),
        }
    }

    pub fn table(&self) -> &str {
        self.table.as_deref().unwrap_or(&self.topic)
    }
}

/// The bucket that the topic was tiered to.
#[derive(Clone, Debug)]
pub struct ExportSource {
    /// A folder, `file://` or `s3://`, as remote.storage.url.
    pub url: String,
    pub s3: S3Options,
    /// Needed only when the bucket holds several clusters.
    pub cluster_id: Option<String>,
}

impl ExportSource {
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            s3: S3Options::default(),
            cluster_id: None,
        }
    }

    /// The store of a broker with this configuration.
    pub fn from_tier_config(config: &TierConfig) -> Self {
        Self {
            url: config.url.clone(),
            s3: S3Options {
                endpoint: config.s3.endpoint.clone(),
                region: config.s3.region.clone(),
                path_style: config.s3.path_style,
                access_key_id: config.s3.access_key_id.clone(),
                secret_access_key: config.s3.secret_access_key.clone(),
                read_timeout_ms: config.stall_ms as u64,
                ..S3Options::default()
            },
            cluster_id: None,
        }
    }
}

/// Where tables go: each is a folder below the URL.
#[derive(Clone, Debug, Default)]
pub struct ExportTarget {
    pub url: String,
    /// For S3-compatible servers; AWS_ENDPOINT_URL when `None`.
    pub s3_endpoint: Option<String>,
    /// AWS_REGION, else us-east-1 when `None`.
    pub s3_region: Option<String>,
}

impl ExportTarget {
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            ..Self::default()
        }
    }
}

/// How a record's value becomes columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ValueFormat {
    /// One binary column.
    Raw,
    /// A column per field of the JSON object.
    Json,
}

/// How a record's key becomes a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KeyFormat {
    Binary,
    /// UTF-8; a key that is none is a reject.
    String,
}

/// Both together: fixed for a table by its first commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableFormat {
    pub value: ValueFormat,
    pub key: KeyFormat,
}

impl TableFormat {
    /// What a new table gets where the request leaves it open.
    pub fn new(value: Option<ValueFormat>, key: Option<KeyFormat>) -> Self {
        let value = value.unwrap_or(ValueFormat::Raw);
        Self {
            value,
            key: key.unwrap_or(match value {
                ValueFormat::Raw => KeyFormat::Binary,
                ValueFormat::Json => KeyFormat::String,
            }),
        }
    }
}

/// What bounds memory, files and commits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExportLimits {
    /// Log bytes read at once; up to three chunks are held.
    pub chunk_bytes: u64,
    /// What one batch may inflate to.
    pub decode_bytes_max: usize,
    /// Rows, and their bytes, that are gathered before they are encoded.
    pub gather_rows_max: usize,
    pub gather_bytes_max: usize,
    /// A row group is encoded in memory.
    pub row_group_rows_max: usize,
    pub row_group_bytes_max: usize,
    pub file_bytes_max: u64,
    /// After this much of the log is a commit made: what a crash can cost.
    pub commit_log_bytes: u64,
    pub commit_files_max: usize,
    pub columns_max: usize,
    /// Where files are written before they are uploaded to an object store; the system's temporary folder when `None`.
    pub spool_dir: Option<PathBuf>,
}

impl Default for ExportLimits {
    fn default() -> Self {
        Self {
            chunk_bytes: 4 << 20,
            decode_bytes_max: 128 << 20,
            gather_rows_max: 8_192,
            gather_bytes_max: 8 << 20,
            row_group_rows_max: 256 << 10,
            row_group_bytes_max: 64 << 20,
            file_bytes_max: 128 << 20,
            commit_log_bytes: 1 << 30,
            commit_files_max: 256,
            columns_max: 1_000,
            spool_dir: None,
        }
    }
}
