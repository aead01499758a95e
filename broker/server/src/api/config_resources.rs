//! Config resources on the wire, and their entries with sources and synonyms.

use std::collections::BTreeMap;
use std::sync::Arc;

use kafka_protocol::protocol::StrBytes;
use strandline_core::metadata::{ConfigResource, MetadataImage};
use strandline_log::config_def::{ConfigDef, ConfigKind, ConfigScope};
use strandline_log::log_config::broker_synonyms;
use strandline_wire::KafkaError;

use crate::config::BrokerConfig;

pub const TOPIC: i8 = 2;
pub const BROKER: i8 = 4;

/// Where a value comes from, with Kafka's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    Topic = 1,
    DynamicBroker = 2,
    DynamicDefaultBroker = 3,
    StaticBroker = 4,
    Default = 5,
}

/// A config as it is described: its value and everything that it falls back on, the value's own source first.
#[derive(Clone, Debug)]
pub struct Entry {
    pub def: &'static ConfigDef,
    pub value: Option<String>,
    pub source: Source,
    pub synonyms: Vec<(String, Option<String>, Source)>,
    pub read_only: bool,
}

impl Entry {
    pub fn is_sensitive(&self) -> bool {
        self.def.kind == ConfigKind::Password
    }

    /// Kafka's number of the type.
    pub fn kind(&self) -> i8 {
        match self.def.kind {
            ConfigKind::Boolean => 1,
            ConfigKind::String | ConfigKind::Enum(_) => 2,
            ConfigKind::Int { .. } => 3,
            ConfigKind::Long { .. } => 5,
            ConfigKind::Double { .. } => 6,
            ConfigKind::List | ConfigKind::EnumList(_) => 7,
            ConfigKind::Password => 9,
        }
    }
}

/// Reads a resource of a request.
pub fn parse(
    kind: i8,
    name: &str,
    node_id: i32,
    image: &MetadataImage,
) -> Result<ConfigResource, (KafkaError, String)> {
    match kind {
        TOPIC => match image.topics.get(name) {
            Some(topic) => Ok(ConfigResource::Topic(Arc::clone(&topic.name))),
            None => Err((
                KafkaError::UnknownTopicOrPartition,
                format!("The topic '{name}' does not exist."),
            )),
        },
        BROKER if name.is_empty() => Ok(ConfigResource::ClusterDefault),
        BROKER => match name.parse::<i32>() {
            Ok(id) if id == node_id => Ok(ConfigResource::Broker(id)),
            Ok(id) => Err((
                KafkaError::InvalidRequest,
                format!(
                    "Unexpected broker id, expected {node_id} or empty string, but received {id}"
                ),
            )),
            Err(_) => Err((
                KafkaError::InvalidRequest,
                format!("Broker id must be an integer, but it is: {name}"),
            )),
        },
        _ => Err((
            KafkaError::InvalidRequest,
            format!("Unexpected resource type {kind} for resource {name}"),
        )),
    }
}

/// The entries of a topic that is there or, with an empty image entry, would be.
pub fn topic_entries(
    config: &BrokerConfig,
    image: &MetadataImage,
    overrides: &BTreeMap<String, String>,
) -> Vec<Entry> {
    config
        .table
        .topic_defs()
        .filter(|def| !def.name.starts_with("internal."))
        .map(|def| {
            let mut synonyms = Vec::new();
            if let Some(value) = overrides.get(def.name) {
                synonyms.push((def.name.to_owned(), Some(value.clone()), Source::Topic));
            }
            for name in broker_names(def) {
                synonyms.extend(broker_synonyms_of(config, image, name));
            }
            entry(def, synonyms, false)
        })
        .collect()
}

/// The entries of this broker, or of what is set for all of them.
pub fn broker_entries(
    config: &BrokerConfig,
    image: &MetadataImage,
    resource: &ConfigResource,
) -> Vec<Entry> {
    config
        .table
        .broker_defs()
        .filter(|def| def.scope != ConfigScope::Ignored)
        .filter_map(|def| {
            let dynamic = def.scope == ConfigScope::BrokerDynamic;
            if *resource == ConfigResource::ClusterDefault {
                // Only what was set for all: Kafka shows no static value here.
                let value = image.configs.get(resource)?.get(def.name)?.clone();
                let synonyms = vec![(
                    def.name.to_owned(),
                    Some(value),
                    Source::DynamicDefaultBroker,
                )];
                return Some(entry(def, synonyms, false));
            }
            Some(entry(
                def,
                broker_synonyms_of(config, image, def.name),
                !dynamic,
            ))
        })
        .collect()
}

fn entry(
    def: &'static ConfigDef,
    mut synonyms: Vec<(String, Option<String>, Source)>,
    read_only: bool,
) -> Entry {
    if !synonyms
        .iter()
        .any(|(_, _, source)| *source == Source::Default)
        && let Some(default) = def.default
    {
        synonyms.push((
            def.name.to_owned(),
            Some(default.to_owned()),
            Source::Default,
        ));
    }
    let (value, source) = match synonyms.first() {
        Some((name, value, source)) => (in_units_of(def.name, name, value.clone()), *source),
        None => (None, Source::Default),
    };
    Entry {
        def,
        value,
        source,
        synonyms,
        read_only,
    }
}

/// Some broker configs stand for a topic config of milliseconds in other units, which their names tell.
fn in_units_of(name: &str, synonym: &str, value: Option<String>) -> Option<String> {
    let unit_ms = match synonym.rsplit_once('.') {
        Some((_, "hours")) => 3_600_000,
        Some((_, "minutes")) => 60_000,
        _ => return value,
    };
    if name == synonym {
        return value;
    }
    let value = value?;
    match value.trim().parse::<i64>() {
        Ok(count) if count >= 0 => Some(count.saturating_mul(unit_ms).to_string()),
        _ => Some(value),
    }
}

fn broker_names(def: &ConfigDef) -> Vec<&'static str> {
    let names = broker_synonyms(def.name);
    match def.scope {
        ConfigScope::Topic {
            broker_default: Some(name),
        } if names.is_empty() => vec![name],
        _ => names,
    }
}

fn broker_synonyms_of(
    config: &BrokerConfig,
    image: &MetadataImage,
    name: &str,
) -> Vec<(String, Option<String>, Source)> {
    let dynamic = |resource: &ConfigResource| {
        image
            .configs
            .get(resource)
            .and_then(|c| c.get(name))
            .cloned()
    };
    let mut found = Vec::new();
    let mut push = |value: Option<String>, source| {
        if let Some(value) = value {
            found.push((name.to_owned(), Some(value), source));
        }
    };
    push(
        dynamic(&ConfigResource::Broker(config.node_id)),
        Source::DynamicBroker,
    );
    push(
        dynamic(&ConfigResource::ClusterDefault),
        Source::DynamicDefaultBroker,
    );
    push(config.given().get(name).cloned(), Source::StaticBroker);
    let default = config.table.broker(name).and_then(|def| def.default);
    push(default.map(str::to_owned), Source::Default);
    found
}

pub fn shown(entry: &Entry, value: &Option<String>) -> Option<StrBytes> {
    if entry.is_sensitive() {
        return None;
    }
    value.clone().map(StrBytes::from_string)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hours_and_minutes_of_the_broker_are_milliseconds_of_a_topic() {
        for (name, synonym, value, expected) in [
            ("retention.ms", "log.retention.hours", "168", "604800000"),
            ("retention.ms", "log.retention.minutes", "2", "120000"),
            ("retention.ms", "log.retention.hours", "-1", "-1"),
            ("retention.ms", "log.retention.ms", "5", "5"),
            ("log.retention.hours", "log.retention.hours", "168", "168"),
        ] {
            let value = in_units_of(name, synonym, Some(value.to_owned()));
            assert_eq!(value.as_deref(), Some(expected), "{synonym}");
        }
    }
}
