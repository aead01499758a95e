//! What the settings of a topic come to: its overrides over the broker's values, static and dynamic.
//!
//! Pure: reads the configuration and an image. Names and values are checked here before anything is proposed to the
//! metadata quorum, which does not know what a config means.

use std::collections::BTreeMap;
use std::sync::Arc;

use strandline_core::metadata::{ConfigResource, MetadataImage};
use strandline_log::LogConfig;
use strandline_log::config_def::ConfigScope;

use crate::config::BrokerConfig;

/// The broker's values with what was altered while running: for all brokers, then for this one.
pub fn broker_values(
    config: &BrokerConfig,
    image: &MetadataImage,
) -> Arc<BTreeMap<String, String>> {
    let for_all = image.configs.get(&ConfigResource::ClusterDefault);
    let for_this = image.configs.get(&ConfigResource::Broker(config.node_id));
    if for_all.is_none() && for_this.is_none() {
        return config.values();
    }
    let mut values = (*config.values()).clone();
    for overrides in [for_all, for_this].into_iter().flatten() {
        values.extend(
            overrides
                .iter()
                .map(|(name, value)| (name.clone(), value.clone())),
        );
    }
    Arc::new(values)
}

/// The log's settings of a topic.
pub fn log_config(config: &BrokerConfig, image: &MetadataImage, topic: &str) -> Arc<LogConfig> {
    let overrides = image.configs.topic(topic);
    let broker = broker_values(config, image);
    match LogConfig::from_map(&overrides, &broker) {
        Ok(log_config) => Arc::new(log_config),
        Err(error) => {
            // What is in the image was checked when it was set; a broker of another version may have known more.
            tracing::error!(topic, %error, "the topic's overrides do not apply, the broker's values do");
            Arc::new(LogConfig::from_map(&BTreeMap::new(), &broker).unwrap_or_default())
        }
    }
}

/// Checks a topic's overrides as a whole. `before`: the overrides that they replace.
pub fn validate_topic(
    config: &BrokerConfig,
    image: &MetadataImage,
    overrides: &BTreeMap<String, String>,
    before: Option<&BTreeMap<String, String>>,
) -> Result<LogConfig, String> {
    for (name, value) in overrides {
        let Some(def) = config.table.topic(name) else {
            return Err(format!("Unknown topic config name: {name}"));
        };
        def.check(value).map_err(|error| error.to_string())?;
    }
    let broker = broker_values(config, image);
    let next = LogConfig::from_map(overrides, &broker).map_err(|error| error.to_string())?;
    if next.remote_storage_enable {
        validate_tiered(&next)?;
    } else if let Some(before) = before
        && LogConfig::from_map(before, &broker).is_ok_and(|before| before.remote_storage_enable)
        && !next.remote_log_delete_on_disable
    {
        return Err("It is invalid to disable remote storage without deleting remote data. \
                    If you want to keep the remote data and turn to read only, please set \
                    `remote.storage.enable=true,remote.log.copy.disable=true`. If you want to disable remote storage \
                    and delete all remote data, please set \
                    `remote.storage.enable=false,remote.log.delete.on.disable=true`."
            .to_owned());
    }
    Ok(next)
}

fn validate_tiered(config: &LogConfig) -> Result<(), String> {
    if config.cleanup_policy.compact {
        return Err("Remote log storage only supports topics with cleanup.policy=delete or cleanup.policy being an \
                    empty list."
            .to_owned());
    }
    let beyond = |local: i64, total: i64| total >= 0 && (local == -1 || local > total);
    if config.local_retention_ms != -2 && beyond(config.local_retention_ms, config.retention_ms) {
        return Err(format!(
            "Value must not be more than retention.ms property value: {} for configuration local.retention.ms: {}",
            config.retention_ms, config.local_retention_ms
        ));
    }
    if config.local_retention_bytes != -2
        && beyond(config.local_retention_bytes, config.retention_bytes)
    {
        return Err(format!(
            "Value must not be more than retention.bytes property value: {} for configuration local.retention.bytes: {}",
            config.retention_bytes, config.local_retention_bytes
        ));
    }
    if config.remote_log_copy_disable {
        validate_copy_disabled(config)?;
    }
    Ok(())
}

/// Nothing more is uploaded, so the local log can keep no less than the whole (KIP-950).
fn validate_copy_disabled(config: &LogConfig) -> Result<(), String> {
    let table = [
        ("ms", config.local_retention_ms, config.retention_ms),
        (
            "bytes",
            config.local_retention_bytes,
            config.retention_bytes,
        ),
    ];
    for (unit, local, total) in table {
        if local != -2 && local != total {
            return Err(format!(
                "When `remote.log.copy.disable` is set to true, the `local.retention.{unit}` and `retention.{unit}` must \
                 be set to the identical value because there will be no more logs copied to the remote storage."
            ));
        }
    }
    Ok(())
}

/// Checks overrides of a broker (or of all brokers).
pub fn validate_broker(
    config: &BrokerConfig,
    overrides: &BTreeMap<String, String>,
) -> Result<(), String> {
    for (name, value) in overrides {
        match config.table.broker(name) {
            Some(def) if def.scope == ConfigScope::BrokerDynamic => {
                def.check(value).map_err(|e| e.to_string())?
            }
            Some(_) => return Err(format!("Cannot update these configs dynamically: [{name}]")),
            None => return Err(format!("Unknown broker config name: {name}")),
        }
    }
    let mut values = (*config.values()).clone();
    values.extend(
        overrides
            .iter()
            .map(|(name, value)| (name.clone(), value.clone())),
    );
    LogConfig::from_map(&BTreeMap::new(), &values)
        .map(|_| ())
        .map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ConfigSources;

    fn config(overrides: &[&str]) -> BrokerConfig {
        let sources = ConfigSources {
            overrides: overrides.iter().map(|o| (*o).to_owned()).collect(),
            hostname: "localhost".to_owned(),
            ..ConfigSources::default()
        };
        BrokerConfig::load(&sources)
            .expect("a valid configuration")
            .0
    }

    fn map(entries: &[(&str, &str)]) -> BTreeMap<String, String> {
        entries
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect()
    }

    #[test]
    fn overrides_are_held_against_the_table_and_each_other() {
        let config = config(&[]);
        let image = MetadataImage::default();
        let tiered = ("remote.storage.enable", "true");
        let table: &[(&[(&str, &str)], bool)] = &[
            (&[], true),
            (&[("retention.ms", "-1")], true),
            (&[("retention.ms", "soon")], false),
            (&[("no.such", "1")], false),
            (&[tiered], true),
            (&[tiered, ("cleanup.policy", "compact")], false),
            (&[tiered, ("cleanup.policy", "compact,delete")], false),
            (
                &[
                    tiered,
                    ("retention.ms", "1000"),
                    ("local.retention.ms", "500"),
                ],
                true,
            ),
            (
                &[
                    tiered,
                    ("retention.ms", "1000"),
                    ("local.retention.ms", "2000"),
                ],
                false,
            ),
            (
                &[
                    tiered,
                    ("retention.bytes", "1000"),
                    ("local.retention.bytes", "-1"),
                ],
                false,
            ),
            (
                &[
                    tiered,
                    ("retention.ms", "-1"),
                    ("local.retention.ms", "2000"),
                ],
                true,
            ),
            (&[tiered, ("remote.log.copy.disable", "true")], true),
            (
                &[
                    tiered,
                    ("remote.log.copy.disable", "true"),
                    ("local.retention.ms", "2000"),
                ],
                false,
            ),
            (
                &[
                    tiered,
                    ("remote.log.copy.disable", "true"),
                    ("retention.bytes", "2000"),
                    ("local.retention.bytes", "2000"),
                ],
                true,
            ),
        ];
        for (overrides, right) in table {
            let checked = validate_topic(&config, &image, &map(overrides), None);
            assert_eq!(checked.is_ok(), *right, "{overrides:?}: {checked:?}");
        }
    }

    #[test]
    fn remote_data_is_not_given_up_by_accident() {
        let config = config(&[]);
        let image = MetadataImage::default();
        let before = map(&[("remote.storage.enable", "true")]);
        let off = map(&[("remote.storage.enable", "false")]);
        assert!(validate_topic(&config, &image, &off, Some(&before)).is_err());
        assert!(validate_topic(&config, &image, &map(&[]), Some(&before)).is_err());
        let deleting = map(&[
            ("remote.storage.enable", "false"),
            ("remote.log.delete.on.disable", "true"),
        ]);
        assert!(validate_topic(&config, &image, &deleting, Some(&before)).is_ok());
    }

    #[test]
    fn only_dynamic_broker_configs_change_while_running() {
        let config = config(&[]);
        assert!(validate_broker(&config, &map(&[("log.retention.ms", "5")])).is_ok());
        assert!(validate_broker(&config, &map(&[("node.id", "5")])).is_err());
        assert!(validate_broker(&config, &map(&[("no.such", "5")])).is_err());
    }
}
