//! The tables of the log's configs: per topic and for the broker, with Kafka 4.x's names, types and defaults.

use crate::config_def::{ConfigDef, ConfigKind, ConfigScope};

const fn topic(
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

const fn broker(
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

const fn int(min: i32) -> ConfigKind {
    ConfigKind::Int { min, max: i32::MAX }
}

const fn long(min: i64) -> ConfigKind {
    ConfigKind::Long { min, max: i64::MAX }
}

const ANY_LONG: ConfigKind = long(i64::MIN);
const ANY_INT: ConfigKind = int(i32::MIN);
const RATIO: ConfigKind = ConfigKind::Double { min: 0.0, max: 1.0 };
const CLEANUP: ConfigKind = ConfigKind::EnumList(&["compact", "delete"]);
const TIMESTAMP_TYPE: ConfigKind = ConfigKind::Enum(&["CreateTime", "LogAppendTime"]);
const COMPRESSION: ConfigKind =
    ConfigKind::Enum(&["uncompressed", "zstd", "lz4", "snappy", "gzip", "producer"]);
/// -1 is zlib's own default.
const GZIP_LEVEL: ConfigKind = ConfigKind::Int { min: -1, max: 9 };
const LZ4_LEVEL: ConfigKind = ConfigKind::Int { min: 1, max: 17 };
const ZSTD_LEVEL: ConfigKind = ConfigKind::Int {
    min: -131_072,
    max: 22,
};
const MIB: i32 = 1024 * 1024;
const FOREVER: &str = "9223372036854775807";

use ConfigKind::{Boolean, List};
use ConfigScope::{Broker, BrokerDynamic, Ignored};

pub(super) static TOPIC: &[ConfigDef] = &[
    topic(
        "cleanup.policy",
        Some("log.cleanup.policy"),
        CLEANUP,
        Some("delete"),
        "What happens to old segments: delete drops them by age and size, compact keeps the last value of each key, and both may be given.",
    ),
    topic(
        "compression.gzip.level",
        Some("compression.gzip.level"),
        GZIP_LEVEL,
        Some("-1"),
        "The level when compression.type is gzip.",
    ),
    topic(
        "compression.lz4.level",
        Some("compression.lz4.level"),
        LZ4_LEVEL,
        Some("9"),
        "The level when compression.type is lz4.",
    ),
    topic(
        "compression.type",
        Some("compression.type"),
        COMPRESSION,
        Some("producer"),
        "The codec in which records are stored. producer keeps what the producer chose.",
    ),
    topic(
        "compression.zstd.level",
        Some("compression.zstd.level"),
        ZSTD_LEVEL,
        Some("3"),
        "The level when compression.type is zstd.",
    ),
    topic(
        "delete.retention.ms",
        Some("log.cleaner.delete.retention.ms"),
        long(0),
        Some("86400000"),
        "How long a compacted topic keeps tombstones.",
    ),
    topic(
        "file.delete.delay.ms",
        Some("log.segment.delete.delay.ms"),
        long(0),
        Some("60000"),
        "How long a deleted segment's files stay on disk under another name.",
    ),
    topic(
        "flush.messages",
        Some("log.flush.interval.messages"),
        long(1),
        Some(FOREVER),
        "Sync to disk once this many records were appended. At 1, every acknowledgement waits for the disk.",
    ),
    topic(
        "flush.ms",
        Some("log.flush.interval.ms"),
        long(0),
        Some(FOREVER),
        "Sync to disk once the oldest unsynced record is this old.",
    ),
    topic(
        "follower.replication.throttled.replicas",
        None,
        List,
        Some(""),
        "Replicas whose fetching is throttled, as partition:broker pairs, or *.",
    ),
    topic(
        "index.interval.bytes",
        Some("log.index.interval.bytes"),
        int(0),
        Some("4096"),
        "About how many bytes lie between two entries of the offset index.",
    ),
    topic(
        "internal.segment.bytes",
        None,
        int(1),
        None,
        "Takes the place of segment.bytes without its lower bound. For tests and demonstrations.",
    ),
    topic(
        "leader.replication.throttled.replicas",
        None,
        List,
        Some(""),
        "Replicas that are served throttled, as partition:broker pairs, or *.",
    ),
    topic(
        "local.retention.bytes",
        Some("log.local.retention.bytes"),
        long(-2),
        Some("-2"),
        "Of a tiered topic, the bytes of a partition that stay local once uploaded. -2 takes retention.bytes.",
    ),
    topic(
        "local.retention.ms",
        Some("log.local.retention.ms"),
        long(-2),
        Some("-2"),
        "Of a tiered topic, how long segments stay local once uploaded. -2 takes retention.ms.",
    ),
    topic(
        "max.compaction.lag.ms",
        Some("log.cleaner.max.compaction.lag.ms"),
        long(1),
        Some(FOREVER),
        "The longest that a record may wait for compaction.",
    ),
    topic(
        "max.message.bytes",
        Some("message.max.bytes"),
        int(0),
        Some("1048588"),
        "The largest record batch that is accepted, after compression.",
    ),
    topic(
        "message.timestamp.after.max.ms",
        Some("log.message.timestamp.after.max.ms"),
        long(0),
        Some("3600000"),
        "How far a record's CreateTime may lie in the future.",
    ),
    topic(
        "message.timestamp.before.max.ms",
        Some("log.message.timestamp.before.max.ms"),
        long(0),
        Some(FOREVER),
        "How far a record's CreateTime may lie in the past.",
    ),
    topic(
        "message.timestamp.type",
        Some("log.message.timestamp.type"),
        TIMESTAMP_TYPE,
        Some("CreateTime"),
        "Whether a record's timestamp is the producer's or that of its append.",
    ),
    topic(
        "min.cleanable.dirty.ratio",
        Some("log.cleaner.min.cleanable.ratio"),
        RATIO,
        Some("0.5"),
        "The share of a compacted log that must be uncleaned before it is cleaned again.",
    ),
    topic(
        "min.compaction.lag.ms",
        Some("log.cleaner.min.compaction.lag.ms"),
        long(0),
        Some("0"),
        "The shortest that a record stays uncompacted.",
    ),
    topic(
        "min.insync.replicas",
        Some("min.insync.replicas"),
        int(1),
        Some("1"),
        "With acks=all, how many replicas must be in sync for a write to be accepted.",
    ),
    topic(
        "preallocate",
        Some("log.preallocate"),
        Boolean,
        Some("false"),
        "Accepted as in Kafka; segments grow as they are written.",
    ),
    topic(
        "remote.copy.lag.bytes",
        None,
        long(-1),
        Some("0"),
        "How many local bytes may wait before they are copied to the object store; -1 takes local.retention.bytes.",
    ),
    topic(
        "remote.copy.lag.ms",
        None,
        long(-1),
        Some("0"),
        "How long a sealed segment may wait before it is copied to the object store; -1 takes local.retention.ms.",
    ),
    topic(
        "remote.log.copy.disable",
        None,
        Boolean,
        Some("false"),
        "Stop copying to the object store; what is there stays readable.",
    ),
    topic(
        "remote.log.delete.on.disable",
        None,
        Boolean,
        Some("false"),
        "Delete what is in the object store when remote.storage.enable is switched off.",
    ),
    topic(
        "remote.storage.enable",
        None,
        Boolean,
        Some("false"),
        "Copy sealed segments to the object store, so that local retention may drop them.",
    ),
    topic(
        "retention.bytes",
        Some("log.retention.bytes"),
        ANY_LONG,
        Some("-1"),
        "The most bytes that a partition keeps, over both tiers. -1: no limit.",
    ),
    topic(
        "retention.ms",
        Some("log.retention.ms"),
        long(-1),
        Some("604800000"),
        "How long records are kept. -1: forever.",
    ),
    topic(
        "segment.bytes",
        Some("log.segment.bytes"),
        int(MIB),
        Some("1073741824"),
        "The size at which a segment is sealed and a new one begun.",
    ),
    topic(
        "segment.index.bytes",
        Some("log.index.size.max.bytes"),
        int(4),
        Some("10485760"),
        "The size at which an index is full, which seals its segment.",
    ),
    topic(
        "segment.jitter.ms",
        Some("log.roll.jitter.ms"),
        long(0),
        Some("0"),
        "At most this much is taken from segment.ms, another amount per segment, so that segments do not seal all at once.",
    ),
    topic(
        "segment.ms",
        Some("log.roll.ms"),
        long(1),
        Some("604800000"),
        "The age at which a segment is sealed though it is not full.",
    ),
    topic(
        "unclean.leader.election.enable",
        Some("unclean.leader.election.enable"),
        Boolean,
        Some("false"),
        "Whether a replica that is not in sync may lead as a last resort, which may lose records.",
    ),
];

pub(super) static BROKER: &[ConfigDef] = &[
    broker(
        "compression.gzip.level",
        BrokerDynamic,
        GZIP_LEVEL,
        Some("-1"),
        "See compression.gzip.level of a topic.",
    ),
    broker(
        "compression.lz4.level",
        BrokerDynamic,
        LZ4_LEVEL,
        Some("9"),
        "See compression.lz4.level of a topic.",
    ),
    broker(
        "compression.type",
        BrokerDynamic,
        COMPRESSION,
        Some("producer"),
        "See compression.type of a topic.",
    ),
    broker(
        "compression.zstd.level",
        BrokerDynamic,
        ZSTD_LEVEL,
        Some("3"),
        "See compression.zstd.level of a topic.",
    ),
    broker(
        "log.cleaner.delete.retention.ms",
        BrokerDynamic,
        long(0),
        Some("86400000"),
        "See delete.retention.ms of a topic.",
    ),
    broker(
        "log.cleaner.max.compaction.lag.ms",
        BrokerDynamic,
        long(1),
        Some(FOREVER),
        "See max.compaction.lag.ms of a topic.",
    ),
    broker(
        "log.cleaner.min.cleanable.ratio",
        BrokerDynamic,
        RATIO,
        Some("0.5"),
        "See min.cleanable.dirty.ratio of a topic.",
    ),
    broker(
        "log.cleaner.min.compaction.lag.ms",
        BrokerDynamic,
        long(0),
        Some("0"),
        "See min.compaction.lag.ms of a topic.",
    ),
    broker(
        "log.cleaner.backoff.ms",
        Ignored,
        long(0),
        Some("15000"),
        "Compaction is not there yet.",
    ),
    broker(
        "log.cleaner.dedupe.buffer.size",
        Ignored,
        ANY_LONG,
        Some("134217728"),
        "Compaction is not there yet.",
    ),
    broker(
        "log.cleaner.enable",
        Ignored,
        Boolean,
        Some("true"),
        "Compaction is not there yet.",
    ),
    broker(
        "log.cleaner.io.buffer.load.factor",
        Ignored,
        ConfigKind::Double {
            min: 0.0,
            max: f64::MAX,
        },
        Some("0.9"),
        "Compaction is not there yet.",
    ),
    broker(
        "log.cleaner.io.buffer.size",
        Ignored,
        int(0),
        Some("524288"),
        "Compaction is not there yet.",
    ),
    broker(
        "log.cleaner.io.max.bytes.per.second",
        Ignored,
        ConfigKind::Double {
            min: 0.0,
            max: f64::MAX,
        },
        None,
        "Compaction is not there yet.",
    ),
    broker(
        "log.cleaner.threads",
        Ignored,
        int(0),
        Some("1"),
        "Compaction is not there yet.",
    ),
    broker(
        "log.cleanup.policy",
        BrokerDynamic,
        CLEANUP,
        Some("delete"),
        "See cleanup.policy of a topic.",
    ),
    broker(
        "log.dir.failure.timeout.ms",
        Ignored,
        long(1),
        Some("30000"),
        "A failed directory takes its partitions offline at once.",
    ),
    broker(
        "log.flush.interval.messages",
        BrokerDynamic,
        long(1),
        Some(FOREVER),
        "See flush.messages of a topic.",
    ),
    broker(
        "log.flush.interval.ms",
        BrokerDynamic,
        ANY_LONG,
        None,
        "See flush.ms of a topic. Unset: log.flush.scheduler.interval.ms.",
    ),
    broker(
        "log.flush.offset.checkpoint.interval.ms",
        Broker,
        int(0),
        Some("60000"),
        "How often recovery points are written.",
    ),
    broker(
        "log.flush.scheduler.interval.ms",
        Broker,
        ANY_LONG,
        Some(FOREVER),
        "How often logs are checked for unsynced records that are older than flush.ms.",
    ),
    broker(
        "log.flush.start.offset.checkpoint.interval.ms",
        Broker,
        int(0),
        Some("60000"),
        "How often log start offsets are written.",
    ),
    broker(
        "log.index.interval.bytes",
        BrokerDynamic,
        int(0),
        Some("4096"),
        "See index.interval.bytes of a topic.",
    ),
    broker(
        "log.index.size.max.bytes",
        BrokerDynamic,
        int(4),
        Some("10485760"),
        "See segment.index.bytes of a topic.",
    ),
    broker(
        "log.initial.task.delay.ms",
        Ignored,
        long(0),
        Some("30000"),
        "Tasks begin one interval after the start.",
    ),
    broker(
        "log.local.retention.bytes",
        BrokerDynamic,
        long(-2),
        Some("-2"),
        "See local.retention.bytes of a topic.",
    ),
    broker(
        "log.local.retention.ms",
        BrokerDynamic,
        long(-2),
        Some("-2"),
        "See local.retention.ms of a topic.",
    ),
    broker(
        "log.message.timestamp.after.max.ms",
        BrokerDynamic,
        long(0),
        Some("3600000"),
        "See message.timestamp.after.max.ms of a topic.",
    ),
    broker(
        "log.message.timestamp.before.max.ms",
        BrokerDynamic,
        long(0),
        Some(FOREVER),
        "See message.timestamp.before.max.ms of a topic.",
    ),
    broker(
        "log.message.timestamp.type",
        BrokerDynamic,
        TIMESTAMP_TYPE,
        Some("CreateTime"),
        "See message.timestamp.type of a topic.",
    ),
    broker(
        "log.preallocate",
        BrokerDynamic,
        Boolean,
        Some("false"),
        "See preallocate of a topic.",
    ),
    broker(
        "log.retention.bytes",
        BrokerDynamic,
        ANY_LONG,
        Some("-1"),
        "See retention.bytes of a topic.",
    ),
    broker(
        "log.retention.check.interval.ms",
        Broker,
        long(1),
        Some("300000"),
        "How often logs are checked for expired segments.",
    ),
    broker(
        "log.retention.hours",
        Broker,
        ANY_INT,
        Some("168"),
        "Retention in hours, when neither log.retention.ms nor log.retention.minutes is set.",
    ),
    broker(
        "log.retention.minutes",
        Broker,
        ANY_INT,
        None,
        "Retention in minutes, when log.retention.ms is not set.",
    ),
    broker(
        "log.retention.ms",
        BrokerDynamic,
        ANY_LONG,
        None,
        "See retention.ms of a topic.",
    ),
    broker(
        "log.roll.hours",
        Broker,
        int(1),
        Some("168"),
        "segment.ms in hours, when log.roll.ms is not set.",
    ),
    broker(
        "log.roll.jitter.hours",
        Broker,
        int(0),
        Some("0"),
        "segment.jitter.ms in hours, when log.roll.jitter.ms is not set.",
    ),
    broker(
        "log.roll.jitter.ms",
        BrokerDynamic,
        ANY_LONG,
        None,
        "See segment.jitter.ms of a topic.",
    ),
    broker(
        "log.roll.ms",
        BrokerDynamic,
        ANY_LONG,
        None,
        "See segment.ms of a topic.",
    ),
    broker(
        "log.segment.bytes",
        BrokerDynamic,
        int(MIB),
        Some("1073741824"),
        "See segment.bytes of a topic.",
    ),
    broker(
        "log.segment.delete.delay.ms",
        BrokerDynamic,
        long(0),
        Some("60000"),
        "See file.delete.delay.ms of a topic.",
    ),
    broker(
        "message.max.bytes",
        BrokerDynamic,
        int(0),
        Some("1048588"),
        "See max.message.bytes of a topic.",
    ),
    broker(
        "min.insync.replicas",
        BrokerDynamic,
        int(1),
        Some("1"),
        "See min.insync.replicas of a topic.",
    ),
    broker(
        "num.recovery.threads.per.data.dir",
        BrokerDynamic,
        int(1),
        Some("2"),
        "Threads per log directory that load logs at the start and flush them at the stop.",
    ),
    broker(
        "producer.id.expiration.check.interval.ms",
        Broker,
        int(1),
        Some("600000"),
        "How often idle producers are looked for.",
    ),
    broker(
        "producer.id.expiration.ms",
        BrokerDynamic,
        int(1),
        Some("86400000"),
        "How long a producer's state is kept after its last append.",
    ),
    broker(
        "unclean.leader.election.enable",
        BrokerDynamic,
        Boolean,
        Some("false"),
        "See unclean.leader.election.enable of a topic.",
    ),
];
