//! One topic's log settings, read from its overrides and the broker's values.
//!
//! A topic config is looked up in this order: the topic's own override, the broker configs that stand for it (some in
//! hours or minutes), the default of the table. The tables are in `topic_defs` and `broker_defs`; this module holds no file and no clock.

mod broker_defs;
mod kinds;
#[cfg(test)]
mod tests;
mod topic_defs;

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::config_def::{ConfigDef, InvalidConfig};
use crate::record::{Compression, ProduceRules, TimestampType, TopicCompression};
use crate::types::TimestampMs;

/// The topic configs that this crate reads, by name.
pub fn topic_config_defs() -> &'static [ConfigDef] {
    topic_defs::TOPIC
}

/// The broker configs that this crate reads, by name.
pub fn broker_config_defs() -> &'static [ConfigDef] {
    broker_defs::BROKER
}

/// `cleanup.policy`. Both may hold, and also neither: then a log only grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CleanupPolicy {
    pub delete: bool,
    pub compact: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub struct LogConfig {
    pub segment_bytes: u32,
    pub segment_ms: TimestampMs,
    pub segment_jitter_ms: TimestampMs,
    pub segment_index_bytes: u32,
    pub index_interval_bytes: u32,
    /// Negative: no limit.
    pub retention_ms: TimestampMs,
    /// Negative: no limit.
    pub retention_bytes: i64,
    /// As configured; -2 stands for `retention_ms`. See [`LogConfig::local_retention_ms_effective`].
    pub local_retention_ms: TimestampMs,
    /// As configured; -2 stands for `retention_bytes`.
    pub local_retention_bytes: i64,
    pub remote_storage_enable: bool,
    pub remote_log_copy_disable: bool,
    pub remote_log_delete_on_disable: bool,
    pub remote_copy_lag_ms: TimestampMs,
    pub remote_copy_lag_bytes: i64,
    pub cleanup_policy: CleanupPolicy,
    pub delete_retention_ms: TimestampMs,
    pub min_compaction_lag_ms: TimestampMs,
    pub max_compaction_lag_ms: TimestampMs,
    pub min_cleanable_dirty_ratio: f64,
    pub max_message_bytes: usize,
    /// Every record of a produced batch is opened.
    pub records_validate_deep: bool,
    pub message_timestamp_type: TimestampType,
    pub message_timestamp_before_max_ms: TimestampMs,
    pub message_timestamp_after_max_ms: TimestampMs,
    /// With the level that the topic's level config for that codec says.
    pub compression_type: TopicCompression,
    pub flush_messages: i64,
    pub flush_ms: TimestampMs,
    pub file_delete_delay_ms: TimestampMs,
    pub min_insync_replicas: i32,
    pub preallocate: bool,
    pub unclean_leader_election_enable: bool,
}

impl Default for LogConfig {
    /// Kafka's defaults.
    fn default() -> Self {
        Self::from_map(&BTreeMap::new(), &BTreeMap::new())
            .expect("the tables' own defaults are valid, a test reads them all")
    }
}

impl LogConfig {
    /// Reads the settings of a topic. Broker values that have nothing to do with logs are passed over; of the topic's
    /// overrides, names that this crate does not know are too, because other crates have topic configs of their own.
    pub fn from_map(
        topic: &BTreeMap<String, String>,
        broker: &BTreeMap<String, String>,
    ) -> Result<Self, InvalidConfig> {
        let values = Values { topic, broker };
        let segment_bytes = match values.get("internal.segment.bytes")? {
            Some(bytes) => parse("internal.segment.bytes", &bytes)?,
            None => values.number("segment.bytes")?,
        };
        let config = Self {
            segment_bytes,
            segment_ms: values.number("segment.ms")?,
            segment_jitter_ms: values.number("segment.jitter.ms")?,
            segment_index_bytes: values.number("segment.index.bytes")?,
            index_interval_bytes: values.number("index.interval.bytes")?,
            retention_ms: values.number("retention.ms")?,
            retention_bytes: values.number("retention.bytes")?,
            local_retention_ms: values.number("local.retention.ms")?,
            local_retention_bytes: values.number("local.retention.bytes")?,
            remote_storage_enable: values.boolean("remote.storage.enable")?,
            remote_log_copy_disable: values.boolean("remote.log.copy.disable")?,
            remote_log_delete_on_disable: values.boolean("remote.log.delete.on.disable")?,
            remote_copy_lag_ms: values.number("remote.copy.lag.ms")?,
            remote_copy_lag_bytes: values.number("remote.copy.lag.bytes")?,
            cleanup_policy: values.cleanup_policy()?,
            delete_retention_ms: values.number("delete.retention.ms")?,
            min_compaction_lag_ms: values.number("min.compaction.lag.ms")?,
            max_compaction_lag_ms: values.number("max.compaction.lag.ms")?,
            min_cleanable_dirty_ratio: values.number("min.cleanable.dirty.ratio")?,
            max_message_bytes: values.number("max.message.bytes")?,
            records_validate_deep: values.boolean("records.validate.deep")?,
            message_timestamp_type: if values
                .required("message.timestamp.type")?
                .eq_ignore_ascii_case("LogAppendTime")
            {
                TimestampType::LogAppendTime
            } else {
                TimestampType::CreateTime
            },
            message_timestamp_before_max_ms: values.number("message.timestamp.before.max.ms")?,
            message_timestamp_after_max_ms: values.number("message.timestamp.after.max.ms")?,
            compression_type: values.compression()?,
            flush_messages: values.number("flush.messages")?,
            flush_ms: values.number("flush.ms")?,
            file_delete_delay_ms: values.number("file.delete.delay.ms")?,
            min_insync_replicas: values.number("min.insync.replicas")?,
            preallocate: values.boolean("preallocate")?,
            unclean_leader_election_enable: values.boolean("unclean.leader.election.enable")?,
        };
        if config.min_compaction_lag_ms > config.max_compaction_lag_ms {
            return Err(InvalidConfig {
                name: "min.compaction.lag.ms".to_owned(),
                value: config.min_compaction_lag_ms.to_string(),
                expected: format!(
                    "at most max.compaction.lag.ms, which is {}",
                    config.max_compaction_lag_ms
                ),
            });
        }
        Ok(config)
    }

    pub fn into_shared(self) -> Arc<Self> {
        Arc::new(self)
    }

    /// `local.retention.ms` with -2 resolved.
    pub fn local_retention_ms_effective(&self) -> TimestampMs {
        match self.local_retention_ms {
            -2 => self.retention_ms,
            ms => ms,
        }
    }

    /// `local.retention.bytes` with -2 resolved.
    pub fn local_retention_bytes_effective(&self) -> i64 {
        match self.local_retention_bytes {
            -2 => self.retention_bytes,
            bytes => bytes,
        }
    }

    /// What a produce to this topic is held against. The caller adds what depends on the request.
    pub fn produce_rules(&self) -> ProduceRules {
        ProduceRules {
            max_message_bytes: self.max_message_bytes,
            timestamp_type: self.message_timestamp_type,
            timestamp_before_max_ms: self.message_timestamp_before_max_ms,
            timestamp_after_max_ms: self.message_timestamp_after_max_ms,
            compacted: self.cleanup_policy.compact,
            deep: self.records_validate_deep,
            compression: self.compression_type,
            ..ProduceRules::default()
        }
    }

    /// The age at which a segment is sealed: a compacted topic must seal what it is bound to clean.
    pub fn segment_ms_max(&self) -> TimestampMs {
        if self.cleanup_policy.compact && self.max_compaction_lag_ms > 0 {
            self.segment_ms.min(self.max_compaction_lag_ms)
        } else {
            self.segment_ms
        }
    }
}

/// How a broker config's value becomes that of the topic config that it stands for.
#[derive(Clone, Copy)]
enum Unit {
    Same,
    Minutes,
    Hours,
}

/// The broker configs that stand for a topic config, the first one set wins. Those that are not listed have exactly
/// the one that the table names.
fn synonyms(name: &str) -> &'static [(&'static str, Unit)] {
    match name {
        "segment.ms" => &[("log.roll.ms", Unit::Same), ("log.roll.hours", Unit::Hours)],
        "segment.jitter.ms" => &[
            ("log.roll.jitter.ms", Unit::Same),
            ("log.roll.jitter.hours", Unit::Hours),
        ],
        "flush.ms" => &[
            ("log.flush.interval.ms", Unit::Same),
            ("log.flush.scheduler.interval.ms", Unit::Same),
        ],
        "retention.ms" => &[
            ("log.retention.ms", Unit::Same),
            ("log.retention.minutes", Unit::Minutes),
            ("log.retention.hours", Unit::Hours),
        ],
        _ => &[],
    }
}

/// The broker configs that stand for the topic config `name`, in the order in which they are asked.
pub fn broker_synonyms(name: &str) -> Vec<&'static str> {
    let listed = synonyms(name);
    if !listed.is_empty() {
        return listed.iter().map(|(name, _)| *name).collect();
    }
    def(name)
        .and_then(|def| match def.scope {
            crate::config_def::ConfigScope::Topic { broker_default } => broker_default,
            _ => None,
        })
        .into_iter()
        .collect()
}

fn def(name: &str) -> Option<&'static ConfigDef> {
    topic_defs::TOPIC.iter().find(|def| def.name == name)
}

struct Values<'a> {
    topic: &'a BTreeMap<String, String>,
    broker: &'a BTreeMap<String, String>,
}

impl Values<'_> {
    fn get(&self, name: &str) -> Result<Option<String>, InvalidConfig> {
        let def = def(name).expect("only names of the table are asked for");
        if let Some(value) = self.topic.get(name) {
            def.check(value)?;
            return Ok(Some(value.trim().to_owned()));
        }
        let listed = synonyms(name);
        for (synonym, unit) in listed {
            if let Some(value) = self.broker.get(*synonym) {
                return in_milliseconds(synonym, value.trim(), *unit).map(Some);
            }
        }
        if listed.is_empty() {
            for synonym in broker_synonyms(name) {
                if let Some(value) = self.broker.get(synonym) {
                    check_broker(synonym, value)?;
                    return Ok(Some(value.trim().to_owned()));
                }
            }
        }
        Ok(def.default.map(str::to_owned))
    }

    fn required(&self, name: &str) -> Result<String, InvalidConfig> {
        Ok(self
            .get(name)?
            .expect("only names with a default are required"))
    }

    fn number<T: std::str::FromStr>(&self, name: &str) -> Result<T, InvalidConfig> {
        parse(name, &self.required(name)?)
    }

    fn boolean(&self, name: &str) -> Result<bool, InvalidConfig> {
        Ok(self.required(name)?.eq_ignore_ascii_case("true"))
    }

    fn compression(&self) -> Result<TopicCompression, InvalidConfig> {
        let name = self.required("compression.type")?.to_ascii_lowercase();
        let fixed = match TopicCompression::from_name(&name) {
            None | Some(TopicCompression::Producer) => return Ok(TopicCompression::Producer),
            Some(TopicCompression::Fixed(codec, _)) => codec,
        };
        let level = match fixed {
            Compression::None | Compression::Snappy => None,
            Compression::Gzip => Some(self.number("compression.gzip.level")?),
            Compression::Lz4 => Some(self.number("compression.lz4.level")?),
            Compression::Zstd => Some(self.number("compression.zstd.level")?),
        };
        Ok(TopicCompression::Fixed(fixed, level))
    }

    fn cleanup_policy(&self) -> Result<CleanupPolicy, InvalidConfig> {
        let text = self.required("cleanup.policy")?;
        let has = |word: &str| text.split(',').any(|w| w.trim().eq_ignore_ascii_case(word));
        Ok(CleanupPolicy {
            delete: has("delete"),
            compact: has("compact"),
        })
    }
}

fn check_broker(name: &str, value: &str) -> Result<(), InvalidConfig> {
    broker_defs::BROKER
        .iter()
        .find(|def| def.name == name)
        .map_or(Ok(()), |def| def.check(value))
}

fn parse<T: std::str::FromStr>(name: &str, value: &str) -> Result<T, InvalidConfig> {
    value.trim().parse().map_err(|_| InvalidConfig {
        name: name.to_owned(),
        value: value.to_owned(),
        expected: def(name).map_or_else(|| "a number".to_owned(), |def| def.kind.to_string()),
    })
}

fn in_milliseconds(name: &str, value: &str, unit: Unit) -> Result<String, InvalidConfig> {
    check_broker(name, value)?;
    let factor = match unit {
        Unit::Same => return Ok(value.to_owned()),
        Unit::Minutes => 60_000,
        Unit::Hours => 3_600_000,
    };
    let number: i64 = parse(name, value)?;
    // Kafka reads any negative retention as no limit.
    let milliseconds = if number < 0 { -1 } else { number * factor };
    Ok(milliseconds.to_string())
}
