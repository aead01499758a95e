//! What the tables of the log's configs share: kinds with Kafka's bounds, and short ways to write a line.

use crate::config_def::{ConfigDef, ConfigKind, ConfigScope};

pub(super) const fn topic(
    name: &'static str,
    broker_default: Option<&'static str>,
    kind: ConfigKind,
    default: Option<&'static str>,
    doc: &'static str,
) -> ConfigDef {
    ConfigDef {
        name,
        kind,
        default,
        scope: ConfigScope::Topic { broker_default },
        doc,
    }
}

pub(super) const fn broker(
    name: &'static str,
    scope: ConfigScope,
    kind: ConfigKind,
    default: Option<&'static str>,
    doc: &'static str,
) -> ConfigDef {
    ConfigDef {
        name,
        kind,
        default,
        scope,
        doc,
    }
}

pub(super) const fn int(min: i32) -> ConfigKind {
    ConfigKind::Int { min, max: i32::MAX }
}

pub(super) const fn long(min: i64) -> ConfigKind {
    ConfigKind::Long { min, max: i64::MAX }
}

pub(super) const ANY_LONG: ConfigKind = long(i64::MIN);
pub(super) const ANY_INT: ConfigKind = int(i32::MIN);
pub(super) const RATIO: ConfigKind = ConfigKind::Double { min: 0.0, max: 1.0 };
pub(super) const CLEANUP: ConfigKind = ConfigKind::EnumList(&["compact", "delete"]);
pub(super) const TIMESTAMP_TYPE: ConfigKind = ConfigKind::Enum(&["CreateTime", "LogAppendTime"]);
pub(super) const COMPRESSION: ConfigKind =
    ConfigKind::Enum(&["uncompressed", "zstd", "lz4", "snappy", "gzip", "producer"]);
/// -1 is zlib's own default.
pub(super) const GZIP_LEVEL: ConfigKind = ConfigKind::Int { min: -1, max: 9 };
pub(super) const LZ4_LEVEL: ConfigKind = ConfigKind::Int { min: 1, max: 17 };
pub(super) const ZSTD_LEVEL: ConfigKind = ConfigKind::Int {
    min: -131_072,
    max: 22,
};
pub(super) const MIB: i32 = 1024 * 1024;
pub(super) const FOREVER: &str = "9223372036854775807";
