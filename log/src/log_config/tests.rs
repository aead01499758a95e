use super::*;
use crate::config_def::ConfigScope;

/// Names and values, as given.
type Given = &'static [(&'static str, &'static str)];

fn map(entries: &[(&str, &str)]) -> BTreeMap<String, String> {
    entries
        .iter()
        .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
        .collect()
}

fn read(topic: &[(&str, &str)], broker: &[(&str, &str)]) -> Result<LogConfig, InvalidConfig> {
    LogConfig::from_map(&map(topic), &map(broker))
}

#[test]
fn defaults_are_kafkas() {
    let config = LogConfig::default();
    assert_eq!(config.segment_bytes, 1 << 30);
    assert_eq!(config.segment_ms, 604_800_000);
    assert_eq!(config.retention_ms, 604_800_000);
    assert_eq!(config.retention_bytes, -1);
    assert_eq!(config.max_message_bytes, 1_048_588);
    assert_eq!(config.message_timestamp_after_max_ms, 3_600_000);
    assert_eq!(config.message_timestamp_type, TimestampType::CreateTime);
    assert_eq!(config.compression_type, TopicCompression::Producer);
    assert_eq!(config.local_retention_ms_effective(), 604_800_000);
    assert!(config.cleanup_policy.delete && !config.cleanup_policy.compact);
    assert!(!config.remote_storage_enable);
}

#[test]
fn tables_are_sorted_unique_and_their_defaults_valid() {
    for defs in [topic_config_defs(), broker_config_defs()] {
        let mut names: Vec<_> = defs.iter().map(|d| d.name).collect();
        for def in defs {
            if let Some(default) = def.default
                && def.kind != crate::config_def::ConfigKind::List
            {
                def.check(default).expect(def.name);
            }
        }
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
    }
}

#[test]
fn each_broker_synonym_is_in_the_broker_table() {
    for def in topic_config_defs() {
        let ConfigScope::Topic { broker_default } = def.scope else {
            panic!("{} is no topic config", def.name);
        };
        for name in broker_synonyms(def.name) {
            assert!(
                broker_config_defs().iter().any(|d| d.name == name),
                "{name}"
            );
        }
        assert_eq!(
            broker_synonyms(def.name).first().copied(),
            broker_default,
            "{}",
            def.name
        );
    }
}

#[test]
fn a_topic_override_wins_over_the_broker_and_units_are_converted() {
    let table: &[(Given, Given, i64)] = &[
        (&[], &[], 604_800_000),
        (&[], &[("log.retention.hours", "2")], 7_200_000),
        (
            &[],
            &[("log.retention.hours", "2"), ("log.retention.minutes", "3")],
            180_000,
        ),
        (
            &[],
            &[("log.retention.ms", "4"), ("log.retention.minutes", "3")],
            4,
        ),
        (&[], &[("log.retention.hours", "-1")], -1),
        (&[("retention.ms", "5")], &[("log.retention.ms", "4")], 5),
    ];
    for (topic, broker, expected) in table {
        let config = read(topic, broker).expect("reads");
        assert_eq!(config.retention_ms, *expected, "{topic:?} {broker:?}");
    }
    let config = read(&[], &[("log.roll.hours", "1"), ("message.max.bytes", "9")]).expect("reads");
    assert_eq!(config.segment_ms, 3_600_000);
    assert_eq!(config.max_message_bytes, 9);
}

#[test]
fn values_are_checked_and_named() {
    let table: &[(Given, Given, &str)] = &[
        (&[("segment.bytes", "14")], &[], "segment.bytes"),
        (&[("retention.ms", "soon")], &[], "retention.ms"),
        (&[], &[("log.roll.hours", "0")], "log.roll.hours"),
        (&[("cleanup.policy", "keep")], &[], "cleanup.policy"),
        (
            &[
                ("min.compaction.lag.ms", "10"),
                ("max.compaction.lag.ms", "5"),
            ],
            &[],
            "min.compaction.lag.ms",
        ),
    ];
    for (topic, broker, name) in table {
        let error = read(topic, broker).expect_err("is wrong");
        assert_eq!(error.name, *name);
    }
}

#[test]
fn codecs_come_with_the_level_of_their_own_config() {
    let config = read(
        &[
            ("compression.type", "zstd"),
            ("compression.zstd.level", "7"),
            ("compression.gzip.level", "1"),
        ],
        &[],
    )
    .expect("reads");
    assert_eq!(
        config.compression_type,
        TopicCompression::Fixed(Compression::Zstd, Some(7))
    );
    let config = read(&[("internal.segment.bytes", "1000")], &[]).expect("reads");
    assert_eq!(config.segment_bytes, 1_000);
    let config = read(
        &[
            ("cleanup.policy", "compact,delete"),
            ("max.compaction.lag.ms", "10"),
        ],
        &[],
    )
    .expect("reads");
    assert!(config.cleanup_policy.compact && config.cleanup_policy.delete);
    assert_eq!(config.segment_ms_max(), 10);
}
