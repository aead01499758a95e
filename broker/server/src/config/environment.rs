//! Configs from environment variables: `STRANDLINE_LOG_DIRS` and, as Kafka's container images take them,
//! `KAFKA_LOG_DIRS`, both for `log.dirs`.
//!
//! In a name, `_` stands for a dot, `__` for an underscore and `___` for a dash. `STRANDLINE_` wins over `KAFKA_`.

/// `KAFKA_` variables that Kafka's own scripts and images read and that are no broker configs.
const NOT_CONFIGS: &[&str] = &[
    "KAFKA_VERSION",
    "KAFKA_HOME",
    "KAFKA_HEAP_OPTS",
    "KAFKA_OPTS",
    "KAFKA_LOG4J_OPTS",
    "KAFKA_LOG4J_LOGGERS",
    "KAFKA_LOG4J_ROOT_LOGLEVEL",
    "KAFKA_LOG4J_CMD_OPTS",
    "KAFKA_TOOLS_LOG4J_LOGLEVEL",
    "KAFKA_JMX_OPTS",
    "KAFKA_JMX_PORT",
    "KAFKA_JMX_HOSTNAME",
    "KAFKA_JVM_PERFORMANCE_OPTS",
    "KAFKA_GC_LOG_OPTS",
    "KAFKA_LOG_OPTS",
    "KAFKA_DEBUG",
    "KAFKA_MODE",
    "KAFKA_CLUSTER_ID",
];

/// Where a variable came from, and the config that it names.
#[derive(Debug, PartialEq, Eq)]
pub struct EnvironmentEntry {
    pub variable: String,
    pub name: String,
    pub value: String,
    /// `KAFKA_` variables are shared with other tools: an unknown one is only worth a warning.
    pub is_kafka: bool,
}

/// Picks the variables that name configs; those of `KAFKA_` first, so that `STRANDLINE_` overrides.
pub fn config_entries(
    variables: impl IntoIterator<Item = (String, String)>,
) -> Vec<EnvironmentEntry> {
    let mut entries: Vec<EnvironmentEntry> = variables
        .into_iter()
        .filter_map(|(variable, value)| {
            let (suffix, is_kafka) = match variable.strip_prefix("STRANDLINE_") {
                Some(suffix) => (suffix, false),
                None => (variable.strip_prefix("KAFKA_")?, true),
            };
            if suffix.is_empty() || NOT_CONFIGS.contains(&variable.as_str()) {
                return None;
            }
            let name = config_name(suffix);
            Some(EnvironmentEntry {
                variable,
                name,
                value,
                is_kafka,
            })
        })
        .collect();
    entries.sort_by(|a, b| (!a.is_kafka, &a.variable).cmp(&(!b.is_kafka, &b.variable)));
    entries
}

fn config_name(suffix: &str) -> String {
    let lower = suffix.to_ascii_lowercase();
    // The longest run first, through a character that no variable's name can hold.
    lower
        .replace("___", "-")
        .replace("__", "\u{1}")
        .replace('_', ".")
        .replace('\u{1}', "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_translated_as_kafkas_images_do() {
        for (suffix, name) in [
            ("LOG_DIRS", "log.dirs"),
            ("NODE_ID", "node.id"),
            ("A__B_C___D", "a_b.c-d"),
        ] {
            assert_eq!(config_name(suffix), name);
        }
    }

    #[test]
    fn strandline_comes_after_kafka_and_scripts_variables_are_left_out() {
        let vars = [
            ("STRANDLINE_LOG_DIRS", "/s"),
            ("KAFKA_LOG_DIRS", "/k"),
            ("KAFKA_HEAP_OPTS", "-Xmx1G"),
            ("PATH", "/bin"),
        ]
        .map(|(k, v)| (k.to_owned(), v.to_owned()));
        let got: Vec<_> = config_entries(vars)
            .into_iter()
            .map(|e| (e.name, e.value))
            .collect();
        let want =
            [("log.dirs", "/k"), ("log.dirs", "/s")].map(|(k, v)| (k.to_owned(), v.to_owned()));
        assert_eq!(got, want);
    }
}
