//! The coordinator's configs: Kafka's names and defaults beside the values in use.

use std::collections::BTreeMap;

use strandline_log::config_def::{ConfigDef, ConfigKind, ConfigScope, InvalidConfig};

const fn int(
    name: &'static str,
    min: i32,
    default: &'static str,
    scope: ConfigScope,
    doc: &'static str,
) -> ConfigDef {
    ConfigDef {
        name,
        kind: ConfigKind::Int { min, max: i32::MAX },
        default: Some(default),
        scope,
        doc,
    }
}

static CONFIG_DEFS: &[ConfigDef] = &[
    int(
        "group.initial.rebalance.delay.ms",
        0,
        "3000",
        ConfigScope::Broker,
        "How long the coordinator waits for more members to join an empty group before the first rebalance.",
    ),
    int(
        "group.max.session.timeout.ms",
        1,
        "1800000",
        ConfigScope::Broker,
        "The longest session timeout that a member may ask for.",
    ),
    int(
        "group.max.size",
        1,
        "2147483647",
        ConfigScope::Broker,
        "The most members that one group can have.",
    ),
    int(
        "group.min.session.timeout.ms",
        1,
        "6000",
        ConfigScope::Broker,
        "The shortest session timeout that a member may ask for.",
    ),
    int(
        "offset.metadata.max.bytes",
        0,
        "4096",
        ConfigScope::Broker,
        "The longest metadata text that may be committed with an offset.",
    ),
    ConfigDef {
        name: "offsets.retention.check.interval.ms",
        kind: ConfigKind::Long {
            min: 1,
            max: i64::MAX,
        },
        default: Some("600000"),
        scope: ConfigScope::Broker,
        doc: "How often expired offsets are looked for.",
    },
    int(
        "offsets.retention.minutes",
        1,
        "10080",
        ConfigScope::Broker,
        "How long committed offsets outlive their group's last member, or their last commit when there is no group.",
    ),
    int(
        "offsets.topic.num.partitions",
        1,
        "50",
        ConfigScope::Broker,
        "The number of partitions of __consumer_offsets. Not to be changed once the topic exists.",
    ),
    ConfigDef {
        name: "offsets.topic.replication.factor",
        kind: ConfigKind::Int {
            min: 1,
            max: i16::MAX as i32,
        },
        default: Some("3"),
        scope: ConfigScope::Broker,
        doc: "The replicas of __consumer_offsets; no more than there are brokers when it is created.",
    },
    int(
        "offsets.topic.segment.bytes",
        1,
        "104857600",
        ConfigScope::Broker,
        "The segment size of __consumer_offsets, small so that compaction and loading are quick.",
    ),
    ConfigDef {
        name: "offsets.topic.compression.codec",
        kind: ConfigKind::Int { min: 0, max: 4 },
        default: Some("0"),
        scope: ConfigScope::Ignored,
        doc: "Kafka's codec for what the coordinator writes; here it writes uncompressed batches.",
    },
    int(
        "offsets.load.buffer.size",
        1,
        "5242880",
        ConfigScope::Ignored,
        "Kafka's read size while it loads offsets; here the log's own read size is used.",
    ),
    int(
        "offsets.commit.timeout.ms",
        1,
        "5000",
        ConfigScope::Ignored,
        "Kafka's limit on a commit's replication; here the append is answered by the partition itself.",
    ),
    ConfigDef {
        name: "group.coordinator.rebalance.protocols",
        kind: ConfigKind::List,
        default: Some("classic"),
        scope: ConfigScope::Ignored,
        doc: "The rebalance protocols in use: the classic one.",
    },
    int(
        "group.coordinator.threads",
        1,
        "1",
        ConfigScope::Ignored,
        "Kafka's coordinator threads; here each shard runs where its request arrives.",
    ),
    int(
        "group.coordinator.append.linger.ms",
        -1,
        "5",
        ConfigScope::Ignored,
        "Kafka's wait for more records before an append; here appends are grouped by the partition's queue.",
    ),
];

/// The coordinator's lines of the joined config table.
pub fn config_defs() -> &'static [ConfigDef] {
    CONFIG_DEFS
}

/// The coordinator's values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupConfig {
    pub initial_rebalance_delay_ms: i32,
    pub min_session_timeout_ms: i32,
    pub max_session_timeout_ms: i32,
    pub max_size: usize,
    pub offset_metadata_max_bytes: usize,
    pub offsets_retention_ms: i64,
    pub offsets_retention_check_interval_ms: i64,
    pub offsets_topic_num_partitions: i32,
    pub offsets_topic_replication_factor: i16,
    pub offsets_topic_segment_bytes: i32,
}

impl GroupConfig {
    /// Reads the values; what is not given has its default.
    pub fn from_values(values: &BTreeMap<String, String>) -> Result<Self, InvalidConfig> {
        let int = |name: &str| number(values, name).map(|v| i32::try_from(v).unwrap_or(i32::MAX));
        Ok(Self {
            initial_rebalance_delay_ms: int("group.initial.rebalance.delay.ms")?,
            min_session_timeout_ms: int("group.min.session.timeout.ms")?,
            max_session_timeout_ms: int("group.max.session.timeout.ms")?,
            max_size: int("group.max.size")? as usize,
            offset_metadata_max_bytes: int("offset.metadata.max.bytes")? as usize,
            offsets_retention_ms: number(values, "offsets.retention.minutes")? * 60_000,
            offsets_retention_check_interval_ms: number(
                values,
                "offsets.retention.check.interval.ms",
            )?,
            offsets_topic_num_partitions: int("offsets.topic.num.partitions")?,
            offsets_topic_replication_factor: i16::try_from(int(
                "offsets.topic.replication.factor",
            )?)
            .unwrap_or(i16::MAX),
            offsets_topic_segment_bytes: int("offsets.topic.segment.bytes")?,
        })
    }
}

impl Default for GroupConfig {
    fn default() -> Self {
        Self::from_values(&BTreeMap::new())
            .expect("the defaults of the table are within its bounds")
    }
}

fn number(values: &BTreeMap<String, String>, name: &str) -> Result<i64, InvalidConfig> {
    let def = CONFIG_DEFS
        .iter()
        .find(|def| def.name == name)
        .expect("only names of the table are read");
    let text = match values.get(name) {
        Some(text) => text.as_str(),
        None => def.default.unwrap_or_default(),
    };
    def.check(text)?;
    Ok(text.trim().parse().expect("a checked number parses"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_kafkas() {
        let config = GroupConfig::default();
        assert_eq!(config.initial_rebalance_delay_ms, 3_000);
        assert_eq!(config.min_session_timeout_ms, 6_000);
        assert_eq!(config.max_session_timeout_ms, 1_800_000);
        assert_eq!(config.offsets_retention_ms, 7 * 24 * 3_600_000);
        assert_eq!(config.offset_metadata_max_bytes, 4_096);
    }

    #[test]
    fn every_default_passes_its_own_check() {
        for def in config_defs() {
            def.check(def.default.expect("all have one"))
                .expect(def.name);
        }
    }

    #[test]
    fn a_wrong_value_is_refused_by_name() {
        let values = BTreeMap::from([("group.max.size".to_owned(), "none".to_owned())]);
        let err = GroupConfig::from_values(&values).expect_err("not a number");
        assert_eq!(err.name, "group.max.size");
    }
}
