//! All crates' tables of configs, joined. Parsing, DescribeConfigs and the reference page come from this one table.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use strandline_log::config_def::{ConfigDef, ConfigScope};

use super::defs::DEFS;

/// Every config that has a definition, by name: topics' and the broker's apart, for some names are both.
#[derive(Debug)]
pub struct ConfigTable {
    topic: BTreeMap<&'static str, &'static ConfigDef>,
    broker: BTreeMap<&'static str, &'static ConfigDef>,
}

static TABLE: LazyLock<ConfigTable> = LazyLock::new(|| {
    ConfigTable::join(&[
        DEFS,
        strandline_log::log_config::topic_config_defs(),
        strandline_log::log_config::broker_config_defs(),
        strandline_tiering::config::topic_config_defs(),
        strandline_tiering::config::broker_config_defs(),
        strandline_compaction::config::config_defs(),
        strandline_core::group::config_defs(),
        strandline_core::fetch_session::config_defs(),
    ])
});

impl ConfigTable {
    pub fn joined() -> &'static ConfigTable {
        &TABLE
    }

    fn join(tables: &[&'static [ConfigDef]]) -> ConfigTable {
        let mut joined = ConfigTable {
            topic: BTreeMap::new(),
            broker: BTreeMap::new(),
        };
        for def in tables.iter().copied().flatten() {
            let side = match def.scope {
                ConfigScope::Topic { .. } => &mut joined.topic,
                ConfigScope::Broker | ConfigScope::BrokerDynamic | ConfigScope::Ignored => {
                    &mut joined.broker
                }
            };
            let earlier = side.insert(def.name, def);
            assert!(earlier.is_none(), "{} is defined twice", def.name);
        }
        joined
    }

    /// A broker config's definition.
    pub fn broker(&self, name: &str) -> Option<&'static ConfigDef> {
        self.broker.get(name).copied()
    }

    /// A topic config's definition.
    pub fn topic(&self, name: &str) -> Option<&'static ConfigDef> {
        self.topic.get(name).copied()
    }

    /// All topic configs, by name.
    pub fn topic_defs(&self) -> impl Iterator<Item = &'static ConfigDef> {
        self.topic.values().copied()
    }

    /// All broker configs, by name.
    pub fn broker_defs(&self) -> impl Iterator<Item = &'static ConfigDef> {
        self.broker.values().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_is_defined_twice_and_every_default_is_valid() {
        let table = ConfigTable::joined();
        for def in table.topic_defs().chain(table.broker_defs()) {
            if let Some(default) = def.default {
                def.check(default).expect("a default passes its own check");
            }
            assert!(!def.doc.is_empty(), "{} has no doc", def.name);
        }
    }

    #[test]
    fn every_topic_config_falls_back_on_a_broker_config_that_exists() {
        let table = ConfigTable::joined();
        for def in table.topic_defs() {
            if let ConfigScope::Topic {
                broker_default: Some(name),
            } = def.scope
            {
                assert!(table.broker(name).is_some(), "{}: {name}", def.name);
            }
        }
    }
}
