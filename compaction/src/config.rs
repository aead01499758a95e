//! The cleaner's configs, with Kafka's names, types and defaults.

use std::collections::BTreeMap;

use strandline_log::config_def::{ConfigDef, ConfigKind, ConfigScope};

const fn def(
    name: &'static str,
    kind: ConfigKind,
    default: Option<&'static str>,
    doc: &'static str,
) -> ConfigDef {
    ConfigDef {
        name,
        kind,
        default,
        scope: ConfigScope::Broker,
        doc,
    }
}

const POSITIVE: ConfigKind = ConfigKind::Double {
    min: 0.0,
    max: f64::MAX,
};
const ANY_SIZE: ConfigKind = ConfigKind::Long {
    min: 0,
    max: i64::MAX,
};
const COUNT: ConfigKind = ConfigKind::Int {
    min: 0,
    max: i32::MAX,
};

/// The broker configs that this crate reads.
pub fn config_defs() -> &'static [ConfigDef] {
    DEFS
}

#[rustfmt::skip]
static DEFS: &[ConfigDef] = &[
    def("log.cleaner.backoff.ms", ANY_SIZE, Some("15000"),
        "How long a cleaner thread rests when no log is to be cleaned."),
    def("log.cleaner.dedupe.buffer.size", ANY_SIZE, Some("134217728"),
        "The most memory for the keys' last offsets, over all cleaner threads. An entry takes 24 bytes. A log with more keys is cleaned in several rounds."),
    def("log.cleaner.enable", ConfigKind::Boolean, Some("true"),
        "Whether compacted topics are compacted. Without it __consumer_offsets grows for ever."),
    def("log.cleaner.io.buffer.load.factor", POSITIVE, Some("0.9"),
        "How full the map of keys may get."),
    def("log.cleaner.io.buffer.size", COUNT, Some("524288"),
        "Memory for reading, over all cleaner threads. A larger batch is read all the same."),
    def("log.cleaner.io.max.bytes.per.second", POSITIVE, None,
        "The most bytes that the cleaner reads and writes per second. Unset: no limit."),
    def("log.cleaner.threads", COUNT, Some("1"),
        "Threads that clean."),
];

/// The cleaner's settings, read once.
#[derive(Clone, Debug, PartialEq)]
pub struct CleanerConfig {
    pub enable: bool,
    pub threads: usize,
    /// Of one thread.
    pub dedupe_buffer_bytes: usize,
    pub dedupe_load_factor: f64,
    /// Of one thread.
    pub io_buffer_bytes: usize,
    pub io_bytes_per_second_max: Option<f64>,
    pub backoff_ms: u64,
}

/// Below it, reading costs more than it brings.
const IO_BUFFER_BYTES_MIN: usize = 64 << 10;
/// As Kafka has it.
const DEDUPE_BYTES_MIN: usize = 1 << 20;
const THREADS_MAX: usize = 64;

impl CleanerConfig {
    /// Reads the settings from checked values; what is not there has its default.
    pub fn from_map(values: &BTreeMap<String, String>) -> Self {
        let text = |name: &str| {
            values.get(name).map(|value| value.trim()).or_else(|| {
                let def = DEFS.iter().find(|def| def.name == name)?;
                def.default
            })
        };
        let number = |name: &str| text(name).and_then(|value| value.parse::<f64>().ok());
        let size = |name: &str| number(name).unwrap_or(0.0).max(0.0) as usize;
        let threads = size("log.cleaner.threads").min(THREADS_MAX);
        let each = |name: &str| size(name) / threads.max(1);
        Self {
            enable: text("log.cleaner.enable").is_some_and(|on| on.eq_ignore_ascii_case("true")),
            threads,
            dedupe_buffer_bytes: each("log.cleaner.dedupe.buffer.size").max(DEDUPE_BYTES_MIN),
            dedupe_load_factor: number("log.cleaner.io.buffer.load.factor").unwrap_or(0.9),
            io_buffer_bytes: each("log.cleaner.io.buffer.size").max(IO_BUFFER_BYTES_MIN),
            io_bytes_per_second_max: number("log.cleaner.io.max.bytes.per.second"),
            backoff_ms: size("log.cleaner.backoff.ms") as u64,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_kafkas_defaults_shared_among_the_threads() {
        let config = CleanerConfig::from_map(&BTreeMap::new());
        assert_eq!(
            config,
            CleanerConfig {
                enable: true,
                threads: 1,
                dedupe_buffer_bytes: 128 << 20,
                dedupe_load_factor: 0.9,
                io_buffer_bytes: 512 << 10,
                io_bytes_per_second_max: None,
                backoff_ms: 15_000,
            }
        );
        let given = [
            ("log.cleaner.threads", "4"),
            ("log.cleaner.dedupe.buffer.size", "8388608"),
            ("log.cleaner.io.max.bytes.per.second", "1.5e6"),
            ("log.cleaner.enable", "false"),
        ];
        let given = given.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let config = CleanerConfig::from_map(&given.into());
        assert_eq!(config.dedupe_buffer_bytes, 2 << 20);
        assert_eq!(config.io_bytes_per_second_max, Some(1.5e6));
        assert!(!config.enable);
        for def in config_defs() {
            if let Some(default) = def.default {
                def.check(default).expect("a default is valid");
            }
        }
    }
}
