//! The tier's settings: the table that the broker joins with the others', and the values read from it.
//!
//! Names, units and defaults are Kafka's where Kafka has the setting (`remote.log.*`, `remote.fetch.*`). One default
//! differs: tiering is on, because a folder beside the data serves as the store when no other is named. Which topics are
//! tiered is `remote.storage.enable`, in the log's table.

mod defs;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use strandline_log::config_def::{ConfigDef, InvalidConfig};

use crate::store::{ObjectSettings, RequestBudgets};

/// The tier's part of the broker's table.
pub fn broker_config_defs() -> &'static [ConfigDef] {
    defs::BROKER
}

/// The tier's part of the topics' table: none, what a topic may set about tiering is in the log's.
pub fn topic_config_defs() -> &'static [ConfigDef] {
    &[]
}

/// Where an S3-compatible server is and how it is spoken to. `None` leaves it to the AWS configuration chain.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct S3Config {
    pub endpoint: Option<String>,
    pub region: Option<String>,
    pub access_key_id: Option<String>,
    pub secret_access_key: Option<String>,
    pub path_style: Option<bool>,
    pub objects: ObjectSettings,
}

impl std::fmt::Debug for S3Config {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("S3Config")
            .field("endpoint", &self.endpoint)
            .field("region", &self.region)
            .field("access_key_id", &self.access_key_id)
            .field("path_style", &self.path_style)
            .finish_non_exhaustive()
    }
}

/// What the tier was told. Made by [`TierConfig::from_map`].
#[derive(Clone, Debug, PartialEq)]
pub struct TierConfig {
    /// False: nothing is uploaded, and remote reads answer that the offsets are not there.
    pub enabled: bool,
    /// A folder, `file://` or `s3://`.
    pub url: String,
    pub s3: S3Config,
    pub cache_dir: PathBuf,
    /// Where small files that outlive the process go.
    pub state_dir: PathBuf,
    pub cache_bytes_max: u64,
    pub chunk_bytes: u64,
    pub index_cache_bytes_max: u64,
    pub read_ahead_chunks_max: usize,
    pub task_interval_ms: i64,
    pub retry_backoff_ms: i64,
    pub retry_backoff_ms_max: i64,
    pub retry_jitter: f64,
    pub copiers_max: usize,
    pub deleters_max: usize,
    pub copy_bytes_per_second_max: u64,
    pub readers_max: usize,
    pub reads_pending_max: usize,
    pub fetch_wait_ms_max: i64,
    pub fetch_patience_ms: i64,
    pub list_offsets_timeout_ms: i64,
    pub delete_delay_ms: i64,
    pub sweep_interval_ms: i64,
    pub orphan_age_ms: i64,
    pub scrub_interval_ms: i64,
    pub scrub_requests_per_second_max: u64,
    pub scrub_bytes_per_second_max: u64,
    pub stall_ms: i64,
    pub outage_reserve_bytes: u64,
    pub copy_overdue_ms: i64,
    pub request_budgets: String,
    /// Negative: tails are not uploaded.
    pub tail_upload_ms: i64,
    pub upload_on_shutdown: bool,
    pub upload_on_shutdown_ms: i64,
}

impl TierConfig {
    /// Reads the joined values of a broker. `default_dir` holds the store and the cache where no other place is named.
    pub fn from_map(
        values: &BTreeMap<String, String>,
        default_dir: &Path,
    ) -> Result<Self, InvalidConfig> {
        let table = Table { values };
        Ok(Self {
            enabled: table.boolean("remote.log.storage.system.enable")?,
            url: match table.text("remote.storage.url")? {
                Some(url) => url,
                None => default_dir
                    .join("remote-storage")
                    .to_string_lossy()
                    .into_owned(),
            },
            s3: S3Config {
                endpoint: table.text("remote.storage.s3.endpoint")?,
                region: table.text("remote.storage.s3.region")?,
                access_key_id: table.text("remote.storage.s3.access.key.id")?,
                secret_access_key: table.text("remote.storage.s3.secret.access.key")?,
                path_style: table
                    .text("remote.storage.s3.path.style.access")?
                    .map(|text| text.eq_ignore_ascii_case("true")),
                objects: ObjectSettings {
                    storage_class: table.shared("remote.storage.s3.storage.class")?,
                    tags: table.shared("remote.storage.s3.tags")?,
                    encryption: table.shared("remote.storage.s3.server.side.encryption")?,
                    kms_key_id: table.shared("remote.storage.s3.kms.key.id")?,
                },
            },
            cache_dir: match table.text("remote.log.cache.dir")? {
                Some(dir) => PathBuf::from(dir),
                None => default_dir.join("remote-cache"),
            },
            state_dir: default_dir.to_owned(),
            cache_bytes_max: table.count("remote.log.cache.bytes")?,
            chunk_bytes: table.count("remote.log.chunk.bytes")?,
            index_cache_bytes_max: table.count("remote.log.index.file.cache.total.size.bytes")?,
            read_ahead_chunks_max: table.size("remote.log.read.ahead.chunks")?,
            task_interval_ms: table.long("remote.log.manager.task.interval.ms")?,
            retry_backoff_ms: table.long("remote.log.manager.task.retry.backoff.ms")?,
            retry_backoff_ms_max: table.long("remote.log.manager.task.retry.backoff.max.ms")?,
            retry_jitter: table.double("remote.log.manager.task.retry.jitter")?,
            copiers_max: table.size("remote.log.manager.copier.thread.pool.size")?,
            deleters_max: table.size("remote.log.manager.expiration.thread.pool.size")?,
            copy_bytes_per_second_max: table
                .count("remote.log.manager.copy.max.bytes.per.second")?,
            readers_max: table.size("remote.log.reader.threads")?,
            reads_pending_max: table.size("remote.log.reader.max.pending.tasks")?,
            fetch_wait_ms_max: table.long("remote.fetch.max.wait.ms")?,
            fetch_patience_ms: table.long("remote.fetch.patience.ms")?,
            list_offsets_timeout_ms: table.long("remote.list.offsets.request.timeout.ms")?,
            delete_delay_ms: table.long("remote.log.delete.delay.ms")?,
            sweep_interval_ms: table.long("remote.log.sweep.interval.ms")?,
            orphan_age_ms: table.long("remote.log.orphan.age.ms")?,
            scrub_interval_ms: table.long("remote.log.scrub.interval.ms")?,
            scrub_requests_per_second_max: table.count("remote.log.scrub.requests.per.second")?,
            scrub_bytes_per_second_max: table.count("remote.log.scrub.bytes.per.second")?,
            stall_ms: table.long("remote.log.stall.ms")?,
            outage_reserve_bytes: table.count("remote.log.outage.disk.reserve.bytes")?,
            copy_overdue_ms: table.long("remote.log.copy.overdue.ms")?,
            request_budgets: table.budgets("remote.log.request.budgets")?,
            tail_upload_ms: table.long("remote.log.tail.upload.ms")?,
            upload_on_shutdown: table.boolean("remote.log.upload.on.shutdown")?,
            upload_on_shutdown_ms: table.long("remote.log.upload.on.shutdown.timeout.ms")?,
        })
    }
}

/// Values over the table's defaults, each checked as it is read.
struct Table<'a> {
    values: &'a BTreeMap<String, String>,
}

impl Table<'_> {
    fn text(&self, name: &'static str) -> Result<Option<String>, InvalidConfig> {
        let def = defs::BROKER
            .iter()
            .find(|def| def.name == name)
            .expect("only names of the table are asked for");
        match self.values.get(name).map(|value| value.trim()) {
            Some(value) if !value.is_empty() => {
                def.check(value)?;
                Ok(Some(value.to_owned()))
            }
            _ => Ok(def.default.map(str::to_owned)),
        }
    }

    fn shared(&self, name: &'static str) -> Result<Option<Arc<str>>, InvalidConfig> {
        Ok(self.text(name)?.map(Arc::from))
    }

    fn required<T: std::str::FromStr>(&self, name: &'static str) -> Result<T, InvalidConfig> {
        let value = self.text(name)?.unwrap_or_default();
        value
            .to_ascii_lowercase()
            .parse()
            .map_err(|_| InvalidConfig {
                name: name.to_owned(),
                value,
                expected: "a value within this machine's range".to_owned(),
            })
    }

    fn boolean(&self, name: &'static str) -> Result<bool, InvalidConfig> {
        self.required(name)
    }

    fn long(&self, name: &'static str) -> Result<i64, InvalidConfig> {
        self.required(name)
    }

    fn count(&self, name: &'static str) -> Result<u64, InvalidConfig> {
        self.required(name)
    }

    fn size(&self, name: &'static str) -> Result<usize, InvalidConfig> {
        self.required(name)
    }

    fn budgets(&self, name: &'static str) -> Result<String, InvalidConfig> {
        let value = self.text(name)?.unwrap_or_default();
        match RequestBudgets::parse(&value) {
            Ok(_) => Ok(value),
            Err(why) => Err(InvalidConfig {
                name: name.to_owned(),
                value,
                expected: format!("purpose=requests per second, separated by commas; {why}"),
            }),
        }
    }

    fn double(&self, name: &'static str) -> Result<f64, InvalidConfig> {
        self.required(name)
    }
}

#[cfg(test)]
impl TierConfig {
    /// Quick and small; the store is swept once a day, so not while a test looks.
    pub(crate) fn for_tests(folder: &Path) -> Self {
        Self {
            enabled: true,
            url: "unused".to_owned(),
            s3: S3Config::default(),
            cache_dir: folder.join("cache"),
            state_dir: folder.to_owned(),
            cache_bytes_max: 1 << 20,
            chunk_bytes: 1 << 20,
            index_cache_bytes_max: 1 << 20,
            read_ahead_chunks_max: 0,
            task_interval_ms: 20,
            retry_backoff_ms: 5,
            retry_backoff_ms_max: 50,
            retry_jitter: 0.2,
            copiers_max: 4,
            deleters_max: 2,
            copy_bytes_per_second_max: i64::MAX as u64,
            readers_max: 10,
            reads_pending_max: 1_000,
            fetch_wait_ms_max: 500,
            fetch_patience_ms: 60_000,
            list_offsets_timeout_ms: 30_000,
            delete_delay_ms: 0,
            sweep_interval_ms: 86_400_000,
            orphan_age_ms: 86_400_000,
            scrub_interval_ms: 86_400_000,
            scrub_requests_per_second_max: 100,
            scrub_bytes_per_second_max: 100 << 20,
            stall_ms: 30_000,
            outage_reserve_bytes: 0,
            copy_overdue_ms: 60_000,
            request_budgets: String::new(),
            tail_upload_ms: -1,
            upload_on_shutdown: false,
            upload_on_shutdown_ms: 60_000,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_default_passes_its_own_check() {
        for def in broker_config_defs() {
            if let Some(default) = def.default {
                assert_eq!(def.check(default), Ok(()), "{}", def.name);
            }
            assert!(!def.doc.is_empty(), "{}", def.name);
        }
    }

    #[test]
    fn nothing_given_means_a_folder_beside_the_data() {
        let config = TierConfig::from_map(&BTreeMap::new(), Path::new("data")).expect("defaults");
        assert!(config.enabled);
        assert_eq!(config.url, "data/remote-storage");
        assert_eq!(config.cache_dir, Path::new("data/remote-cache"));
        assert_eq!(config.chunk_bytes, 4 << 20);
        assert_eq!(config.s3, S3Config::default());
    }

    #[test]
    fn wrong_values_are_refused_and_secrets_never_shown() {
        let mut values = BTreeMap::new();
        values.insert("remote.log.chunk.bytes".to_owned(), "12".to_owned());
        let refusal = TierConfig::from_map(&values, Path::new("data")).expect_err("too small");
        assert_eq!(refusal.name, "remote.log.chunk.bytes");

        values.clear();
        values.insert(
            "remote.storage.s3.secret.access.key".to_owned(),
            "hunter2".to_owned(),
        );
        let config = TierConfig::from_map(&values, Path::new("data")).expect("valid");
        assert_eq!(config.s3.secret_access_key.as_deref(), Some("hunter2"));
        assert!(!format!("{config:?}").contains("hunter2"));
    }
}
