//! The broker's configuration as it starts: defaults, the file, the environment and the command line, checked.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use strandline_log::config_def::{ConfigScope, InvalidConfig};

use super::environment::config_entries;
use super::ignored::is_known_to_kafka;
use super::listener::{Listener, ListenerError, ListenerValues, parse_listeners};
use super::properties::{PropertiesError, parse_properties};
use super::table::ConfigTable;

/// The node's number when neither node.id nor broker.id is given.
const DEFAULT_NODE_ID: i32 = 1;

/// What a configuration is read from; later ones win.
#[derive(Clone, Debug, Default)]
pub struct ConfigSources {
    /// The path and text of a `server.properties`.
    pub file: Option<(PathBuf, String)>,
    /// The process's environment.
    pub environment: Vec<(String, String)>,
    /// `key=value`, as given with `-o`.
    pub overrides: Vec<String>,
    /// The machine's name, advertised for listeners on all interfaces.
    pub hostname: String,
}

/// Why the broker does not start with this configuration. Each text says what would be right.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("{path}: {source}")]
    File {
        path: PathBuf,
        source: PropertiesError,
    },
    #[error("-o {0}: expected key=value")]
    Override(String),
    #[error("unknown config {name} (from {origin}){}", suggestion(.name))]
    Unknown { name: String, origin: String },
    #[error("{invalid} (from {origin})")]
    Invalid {
        invalid: InvalidConfig,
        origin: String,
    },
    #[error(transparent)]
    Listener(#[from] ListenerError),
    #[error(
        "process.roles is \"{0}\"; this node is always a broker: add broker to it, or remove it"
    )]
    NotABroker(String),
    #[error(
        "authorizer.class.name is \"{0}\"; this version has no access control: remove it to start without"
    )]
    Authorizer(String),
    #[error("log.dirs is empty; name at least one folder")]
    NoLogDirs,
}

fn suggestion(name: &str) -> String {
    let nearest = ConfigTable::joined()
        .broker_defs()
        .map(|def| (edit_distance(name, def.name), def.name))
        .min();
    match nearest {
        Some((distance, nearest)) if distance <= 3 => format!("; did you mean {nearest}?"),
        _ => "; see `strandline config` for all names".to_owned(),
    }
}

/// Levenshtein's distance, enough for a suggestion.
fn edit_distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let substituted = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

/// A checked configuration. Its values do not change while the broker runs; what is dynamic is in the metadata image.
#[derive(Debug)]
pub struct BrokerConfig {
    pub node_id: i32,
    pub listeners: Vec<Listener>,
    pub log_dirs: Vec<PathBuf>,
    pub metadata_log_dir: PathBuf,
    pub table: &'static ConfigTable,
    /// Every config that has a value: what was given, else the default.
    values: Arc<BTreeMap<String, String>>,
    /// The names that were given.
    given: BTreeMap<String, String>,
}

impl BrokerConfig {
    /// Joins and checks the sources. The second value holds warnings for the log, one a line.
    pub fn load(sources: &ConfigSources) -> Result<(BrokerConfig, Vec<String>), ConfigError> {
        let table = ConfigTable::joined();
        let mut warnings = Vec::new();
        let mut given = BTreeMap::new();
        for entry in collect(sources)? {
            match table.broker(&entry.name) {
                Some(def) => {
                    def.check(&entry.value)
                        .map_err(|invalid| ConfigError::Invalid {
                            invalid,
                            origin: entry.origin.clone(),
                        })?;
                    if def.scope == ConfigScope::Ignored {
                        warnings.push(no_effect(&entry));
                    }
                    given.insert(entry.name, entry.value.trim().to_owned());
                }
                None if is_known_to_kafka(&entry.name) => warnings.push(no_effect(&entry)),
                None if entry.may_be_unknown => warnings.push(format!(
                    "{} names no config ({}) and is left out",
                    entry.origin, entry.name
                )),
                None => {
                    return Err(ConfigError::Unknown {
                        name: entry.name,
                        origin: entry.origin,
                    });
                }
            }
        }
        warnings.dedup();
        Ok((Self::from_given(given, &sources.hostname)?, warnings))
    }

    fn from_given(
        given: BTreeMap<String, String>,
        hostname: &str,
    ) -> Result<BrokerConfig, ConfigError> {
        let table = ConfigTable::joined();
        let mut values: BTreeMap<String, String> = table
            .broker_defs()
            .filter_map(|def| Some((def.name.to_owned(), def.default?.to_owned())))
            .collect();
        values.extend(given.clone());
        let get = |name: &str| {
            values
                .get(name)
                .map(String::as_str)
                .filter(|v| !v.is_empty())
        };

        if let Some(roles) = get("process.roles")
            && !roles.split(',').any(|role| role.trim() == "broker")
        {
            return Err(ConfigError::NotABroker(roles.to_owned()));
        }
        if let Some(class) = get("authorizer.class.name") {
            return Err(ConfigError::Authorizer(class.to_owned()));
        }
        let node_id = ["node.id", "broker.id"]
            .iter()
            .filter_map(|name| get(name)?.parse().ok())
            .find(|id| *id >= 0)
            .unwrap_or(DEFAULT_NODE_ID);
        let log_dirs: Vec<PathBuf> = get("log.dirs")
            .or_else(|| get("log.dir"))
            .unwrap_or("")
            .split(',')
            .map(str::trim)
            .filter(|dir| !dir.is_empty())
            .map(PathBuf::from)
            .collect();
        let first_dir = log_dirs.first().ok_or(ConfigError::NoLogDirs)?;
        let metadata_log_dir =
            get("metadata.log.dir").map_or_else(|| first_dir.clone(), PathBuf::from);
        let listeners = parse_listeners(ListenerValues {
            listeners: get("listeners").unwrap_or(""),
            advertised_listeners: get("advertised.listeners"),
            security_protocol_map: get("listener.security.protocol.map").unwrap_or(""),
            controller_listener_names: get("controller.listener.names"),
            hostname,
        })?;
        values.insert("node.id".to_owned(), node_id.to_string());
        values.insert("broker.id".to_owned(), node_id.to_string());
        Ok(BrokerConfig {
            node_id,
            listeners,
            log_dirs,
            metadata_log_dir,
            table,
            values: Arc::new(values),
            given,
        })
    }

    /// Every value, defaults included.
    pub fn values(&self) -> Arc<BTreeMap<String, String>> {
        Arc::clone(&self.values)
    }

    /// What the file, environment or command line gave, without defaults.
    pub fn given(&self) -> &BTreeMap<String, String> {
        &self.given
    }

    /// A config's text; empty when it is unset.
    pub fn str(&self, name: &str) -> &str {
        self.values.get(name).map_or("", String::as_str)
    }

    pub fn bool(&self, name: &str) -> bool {
        self.str(name).eq_ignore_ascii_case("true")
    }

    /// A numeric config that has a default.
    pub fn i64(&self, name: &str) -> i64 {
        self.str(name)
            .parse()
            .unwrap_or_else(|_| panic!("config {name} is numeric and has a default"))
    }

    /// A numeric config of 32 bits that has a default.
    pub fn i32(&self, name: &str) -> i32 {
        self.str(name)
            .parse()
            .unwrap_or_else(|_| panic!("config {name} is numeric and has a default"))
    }

    /// A count or size: negative values of the config become zero.
    pub fn usize(&self, name: &str) -> usize {
        usize::try_from(self.i64(name)).unwrap_or(0)
    }
}

struct Entry {
    name: String,
    value: String,
    origin: String,
    may_be_unknown: bool,
}

fn no_effect(entry: &Entry) -> String {
    format!("{} (from {}) has no effect here", entry.name, entry.origin)
}

fn collect(sources: &ConfigSources) -> Result<Vec<Entry>, ConfigError> {
    let mut entries = Vec::new();
    if let Some((path, text)) = &sources.file {
        let parsed = parse_properties(text).map_err(|source| ConfigError::File {
            path: path.clone(),
            source,
        })?;
        entries.extend(parsed.into_iter().map(|(name, value)| Entry {
            name,
            value,
            origin: path.display().to_string(),
            may_be_unknown: false,
        }));
    }
    entries.extend(
        config_entries(sources.environment.iter().cloned())
            .into_iter()
            .map(|entry| Entry {
                name: entry.name,
                value: entry.value,
                origin: entry.variable,
                may_be_unknown: entry.is_kafka,
            }),
    );
    for text in &sources.overrides {
        let (name, value) = text
            .split_once('=')
            .ok_or_else(|| ConfigError::Override(text.clone()))?;
        entries.push(Entry {
            name: name.trim().to_owned(),
            value: value.trim().to_owned(),
            origin: "-o".to_owned(),
            may_be_unknown: false,
        });
    }
    Ok(entries)
}

#[cfg(test)]
mod tests;
