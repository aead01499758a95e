//! How a crate states its configs: Kafka's name, type, default, scope and doc, together in one table.
//!
//! Every crate exports tables of [`ConfigDef`]; the broker joins them, so that parsing, DescribeConfigs and the
//! reference page all come from the same lines. This module holds no table and reads no file.

use std::fmt;

/// What a value may be. Bounds are inclusive.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ConfigKind {
    Boolean,
    /// A 32-bit number.
    Int {
        min: i32,
        max: i32,
    },
    /// A 64-bit number.
    Long {
        min: i64,
        max: i64,
    },
    Double {
        min: f64,
        max: f64,
    },
    String,
    /// Comma-separated words.
    List,
    /// One word of these.
    Enum(&'static [&'static str]),
    /// Comma-separated words, each one of these.
    EnumList(&'static [&'static str]),
    /// Never shown.
    Password,
}

/// Where a config is set, and whether a running broker takes a new value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConfigScope {
    /// Per topic. `broker_default` names the broker config that it falls back on.
    Topic {
        broker_default: Option<&'static str>,
    },
    /// Read once, at the start.
    Broker,
    /// May be altered while running.
    BrokerDynamic,
    /// Known to Kafka, without effect here: accepted with one warning.
    Ignored,
}

/// One line of the reference page.
#[derive(Clone, Copy, Debug)]
pub struct ConfigDef {
    pub name: &'static str,
    pub kind: ConfigKind,
    /// `None`: unset unless given.
    pub default: Option<&'static str>,
    pub scope: ConfigScope,
    pub doc: &'static str,
}

/// Why a value was refused; the text says what would be right.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid value \"{value}\" for config {name}: expected {expected}")]
pub struct InvalidConfig {
    pub name: String,
    pub value: String,
    pub expected: String,
}

impl ConfigDef {
    /// Checks the text of a value against type and bounds.
    pub fn check(&self, value: &str) -> Result<(), InvalidConfig> {
        let text = value.trim();
        let right = match self.kind {
            ConfigKind::Boolean => {
                text.eq_ignore_ascii_case("true") || text.eq_ignore_ascii_case("false")
            }
            ConfigKind::Int { min, max } => {
                text.parse::<i32>().is_ok_and(|v| (min..=max).contains(&v))
            }
            ConfigKind::Long { min, max } => {
                text.parse::<i64>().is_ok_and(|v| (min..=max).contains(&v))
            }
            ConfigKind::Double { min, max } => {
                text.parse::<f64>().is_ok_and(|v| (min..=max).contains(&v))
            }
            ConfigKind::String | ConfigKind::List | ConfigKind::Password => true,
            ConfigKind::Enum(words) => words.iter().any(|w| w.eq_ignore_ascii_case(text)),
            ConfigKind::EnumList(words) => text
                .split(',')
                .all(|part| words.iter().any(|w| w.eq_ignore_ascii_case(part.trim()))),
        };
        if right {
            return Ok(());
        }
        Err(InvalidConfig {
            name: self.name.to_owned(),
            value: value.to_owned(),
            expected: self.kind.to_string(),
        })
    }
}

impl fmt::Display for ConfigKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Boolean => write!(f, "true or false"),
            Self::Int { min, max } => write!(f, "a whole number from {min} to {max}"),
            Self::Long { min, max } => write!(f, "a whole number from {min} to {max}"),
            Self::Double { min, max } => write!(f, "a number from {min} to {max}"),
            Self::String => write!(f, "a text"),
            Self::List => write!(f, "a comma-separated list"),
            Self::Enum(words) => write!(f, "one of {}", words.join(", ")),
            Self::EnumList(words) => {
                write!(f, "a comma-separated list of {}", words.join(", "))
            }
            Self::Password => write!(f, "a secret text"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn def(kind: ConfigKind) -> ConfigDef {
        ConfigDef {
            name: "x",
            kind,
            default: None,
            scope: ConfigScope::Broker,
            doc: "",
        }
    }

    #[test]
    fn values_are_held_against_type_and_bounds() {
        let table: &[(ConfigKind, &str, bool)] = &[
            (ConfigKind::Boolean, "TRUE", true),
            (ConfigKind::Boolean, "yes", false),
            (ConfigKind::Int { min: 1, max: 5 }, "5", true),
            (ConfigKind::Int { min: 1, max: 5 }, "6", false),
            (
                ConfigKind::Long {
                    min: -1,
                    max: i64::MAX,
                },
                "-1",
                true,
            ),
            (
                ConfigKind::Long {
                    min: -1,
                    max: i64::MAX,
                },
                "1k",
                false,
            ),
            (ConfigKind::Double { min: 0.0, max: 1.0 }, "0.5", true),
            (ConfigKind::Enum(&["a", "b"]), "B", true),
            (
                ConfigKind::EnumList(&["compact", "delete"]),
                "compact, delete",
                true,
            ),
            (
                ConfigKind::EnumList(&["compact", "delete"]),
                "compact,x",
                false,
            ),
        ];
        for (kind, value, right) in table {
            assert_eq!(def(*kind).check(value).is_ok(), *right, "{kind:?} {value}");
        }
    }

    #[test]
    fn a_refusal_names_value_and_what_would_be_right() {
        let err = def(ConfigKind::Int { min: 1, max: 5 })
            .check("9")
            .expect_err("out of bounds");
        assert_eq!(
            err.to_string(),
            "invalid value \"9\" for config x: expected a whole number from 1 to 5"
        );
    }
}
