//! The tier's lines of the reference page.

use strandline_log::config_def::{ConfigDef, ConfigKind, ConfigScope};

const POSITIVE_INT: ConfigKind = ConfigKind::Int {
    min: 1,
    max: i32::MAX,
};
const POSITIVE_LONG: ConfigKind = ConfigKind::Long {
    min: 1,
    max: i64::MAX,
};
const NON_NEGATIVE_LONG: ConfigKind = ConfigKind::Long {
    min: 0,
    max: i64::MAX,
};

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

const fn ignored(name: &'static str, kind: ConfigKind, default: Option<&'static str>) -> ConfigDef {
    ConfigDef {
        name,
        kind,
        default,
        scope: ConfigScope::Ignored,
        doc: "Known to Kafka; without effect here.",
    }
}

pub(super) static BROKER: &[ConfigDef] = &[
    def(
        "remote.log.storage.system.enable",
        ConfigKind::Boolean,
        Some("true"),
        "Whether this broker uploads sealed segments and serves old offsets from the object store.",
    ),
    def(
        "remote.storage.url",
        ConfigKind::String,
        None,
        "The object store: a folder, file:///folder or s3://bucket/prefix. Unset: a folder beside the data.",
    ),
    def(
        "remote.storage.s3.endpoint",
        ConfigKind::String,
        None,
        "The address of an S3-compatible server, for example http://127.0.0.1:9000. Unset: AWS.",
    ),
    def(
        "remote.storage.s3.region",
        ConfigKind::String,
        None,
        "The bucket's region. Unset: what the AWS configuration chain says, else us-east-1.",
    ),
    def(
        "remote.storage.s3.access.key.id",
        ConfigKind::String,
        None,
        "A fixed access key. Unset: the AWS credential chain (environment, profiles, SSO, instance roles).",
    ),
    def(
        "remote.storage.s3.secret.access.key",
        ConfigKind::Password,
        None,
        "The secret that belongs to remote.storage.s3.access.key.id.",
    ),
    def(
        "remote.storage.s3.path.style.access",
        ConfigKind::Boolean,
        None,
        "Whether the bucket's name goes into the path instead of the host name. Unset: yes when an endpoint is set.",
    ),
    def(
        "remote.storage.s3.storage.class",
        ConfigKind::String,
        None,
        "The storage class of segments, as S3 names it (STANDARD_IA, INTELLIGENT_TIERING, ...); one that must be restored before it is read, as GLACIER, will not do. Manifests and state keep the bucket's.",
    ),
    def(
        "remote.storage.s3.tags",
        ConfigKind::String,
        None,
        "Tags of segments: name=value, separated by commas.",
    ),
    def(
        "remote.storage.s3.server.side.encryption",
        ConfigKind::String,
        None,
        "How the store encrypts every object: AES256 or aws:kms. Unset: as the bucket says.",
    ),
    def(
        "remote.storage.s3.kms.key.id",
        ConfigKind::String,
        None,
        "The key for aws:kms. Unset: the bucket's.",
    ),
    def(
        "remote.log.cache.dir",
        ConfigKind::String,
        None,
        "The folder that caches chunks read from the object store. May be deleted at any time. Unset: beside the data.",
    ),
    def(
        "remote.log.cache.bytes",
        ConfigKind::Long {
            min: 16 << 20,
            max: i64::MAX,
        },
        Some("4294967296"),
        "How many bytes of chunks the cache folder holds at most.",
    ),
    def(
        "remote.log.chunk.bytes",
        ConfigKind::Int {
            min: 64 << 10,
            max: 256 << 20,
        },
        Some("4194304"),
        "How many bytes one ranged read from the object store asks for. Rounded up to whole checksummed chunks.",
    ),
    def(
        "remote.log.index.file.cache.total.size.bytes",
        ConfigKind::Long {
            min: 1 << 20,
            max: i64::MAX,
        },
        Some("67108864"),
        "How much memory the indexes of remote segments may take. Kafka keeps them on disk and allows 1 GiB.",
    ),
    def(
        "remote.log.read.ahead.chunks",
        ConfigKind::Int { min: 0, max: 64 },
        Some("4"),
        "How many chunks a sequential reader is read ahead at most, also over segment boundaries. 0: none.",
    ),
    def(
        "remote.log.manager.task.interval.ms",
        POSITIVE_LONG,
        Some("30000"),
        "How often each led partition is looked at for uploads and retention, apart from being told of sealed segments.",
    ),
    def(
        "remote.log.manager.task.retry.backoff.ms",
        POSITIVE_LONG,
        Some("500"),
        "The wait after a partition's first failed task; it doubles with each failure in a row.",
    ),
    def(
        "remote.log.manager.task.retry.backoff.max.ms",
        POSITIVE_LONG,
        Some("30000"),
        "The longest wait after a failed task.",
    ),
    def(
        "remote.log.manager.task.retry.jitter",
        ConfigKind::Double { min: 0.0, max: 0.5 },
        Some("0.2"),
        "How far a wait is moved at random, as a part of it, so that retries do not come all at once.",
    ),
    def(
        "remote.log.manager.copier.thread.pool.size",
        ConfigKind::Int { min: 1, max: 1024 },
        Some("4"),
        "How many segments are uploaded at the same time.",
    ),
    def(
        "remote.log.manager.expiration.thread.pool.size",
        ConfigKind::Int { min: 1, max: 1024 },
        Some("2"),
        "How many partitions' expired or deleted objects are removed at the same time.",
    ),
    def(
        "remote.log.manager.copy.max.bytes.per.second",
        POSITIVE_LONG,
        Some("9223372036854775807"),
        "How many bytes per second are uploaded at most.",
    ),
    def(
        "remote.log.reader.threads",
        ConfigKind::Int { min: 1, max: 1024 },
        Some("10"),
        "How many ranged reads for consumers are under way at the same time.",
    ),
    def(
        "remote.log.reader.max.pending.tasks",
        POSITIVE_INT,
        Some("1000"),
        "How many ranged reads may wait for their turn; beyond it reads are refused with a retriable error.",
    ),
    def(
        "remote.fetch.max.wait.ms",
        ConfigKind::Int {
            min: 1,
            max: i32::MAX,
        },
        Some("500"),
        "How long a fetch waits for the object store before it is answered with what is there.",
    ),
    def(
        "remote.fetch.patience.ms",
        POSITIVE_LONG,
        Some("60000"),
        "How long a partition's remote reads may fail before its consumers see a retriable error instead of empty answers.",
    ),
    def(
        "remote.list.offsets.request.timeout.ms",
        POSITIVE_LONG,
        Some("30000"),
        "How long ListOffsets waits for the object store.",
    ),
    def(
        "remote.log.delete.delay.ms",
        NON_NEGATIVE_LONG,
        Some("60000"),
        "How long objects stay in the store after the manifest stopped naming them.",
    ),
    def(
        "remote.log.sweep.interval.ms",
        POSITIVE_LONG,
        Some("21600000"),
        "How often the objects of each partition are listed to find and remove what no manifest names.",
    ),
    def(
        "remote.log.orphan.age.ms",
        NON_NEGATIVE_LONG,
        Some("86400000"),
        "How old by the store's clock an object must be before a sweep may take it for garbage.",
    ),
    def(
        "remote.log.scrub.interval.ms",
        POSITIVE_LONG,
        Some("604800000"),
        "How often all objects of each partition are looked at again, to mend what was lost in the store. A walk takes longer when its budget is small.",
    ),
    def(
        "remote.log.scrub.requests.per.second",
        NON_NEGATIVE_LONG,
        Some("5"),
        "How many requests the scrub of the store sends per second at most. 0: no scrub.",
    ),
    def(
        "remote.log.scrub.bytes.per.second",
        NON_NEGATIVE_LONG,
        Some("4194304"),
        "How many log bytes per second the scrub of the store reads at most. 0: only the ends of objects, with their checksums, are read.",
    ),
    def(
        "remote.cluster.state.interval.ms",
        POSITIVE_LONG,
        Some("60000"),
        "How often topics, configs and group offsets are written to the bucket when they have changed: what a restore brings back.",
    ),
    def(
        "remote.log.outage.disk.reserve.bytes",
        NON_NEGATIVE_LONG,
        Some("1073741824"),
        "While uploads are stuck, producers of tiered topics get a retriable error once a log folder has fewer bytes free than this; other topics go on. 0: only a full disk stops them.",
    ),
    def(
        "remote.log.request.budgets",
        ConfigKind::String,
        Some("sweep=50,retention=200"),
        "How many requests per second are sent to the object store at most, by purpose (manifest, upload, read, retention, sweep, state, tail, export, probe): purpose=requests, separated by commas. A purpose that is not named is not limited.",
    ),
    def(
        "remote.log.upload.on.shutdown",
        ConfigKind::Boolean,
        Some("false"),
        "Whether a clean shutdown uploads everything that is committed, unsealed segments too.",
    ),
    def(
        "remote.log.upload.on.shutdown.timeout.ms",
        POSITIVE_LONG,
        Some("60000"),
        "How long a clean shutdown may take for its uploads; what is left then stays on local disk alone.",
    ),
    def(
        "remote.log.tail.upload.ms",
        ConfigKind::Long {
            min: -1,
            max: i64::MAX,
        },
        Some("-1"),
        "How often records of segments that are not sealed yet go up, in one object for all partitions of this broker, at most once a second: what a restore from the bucket lacks is bounded by it. -1: never.",
    ),
    def(
        "remote.log.copy.overdue.ms",
        POSITIVE_LONG,
        Some("300000"),
        "How long a sealed segment may wait for its upload before /healthz names its partition.",
    ),
    def(
        "remote.log.stall.ms",
        POSITIVE_LONG,
        Some("30000"),
        "How long a transfer may make no progress before it is given up and tried again.",
    ),
    ignored(
        "remote.log.storage.manager.class.name",
        ConfigKind::String,
        None,
    ),
    ignored(
        "remote.log.storage.manager.class.path",
        ConfigKind::String,
        None,
    ),
    ignored(
        "remote.log.storage.manager.impl.prefix",
        ConfigKind::String,
        Some("rsm.config."),
    ),
    ignored(
        "remote.log.metadata.manager.class.name",
        ConfigKind::String,
        None,
    ),
    ignored(
        "remote.log.metadata.manager.class.path",
        ConfigKind::String,
        None,
    ),
    ignored(
        "remote.log.metadata.manager.impl.prefix",
        ConfigKind::String,
        Some("rlmm.config."),
    ),
    ignored(
        "remote.log.metadata.manager.listener.name",
        ConfigKind::String,
        None,
    ),
    ignored(
        "remote.log.metadata.custom.metadata.max.bytes",
        ConfigKind::Int {
            min: 0,
            max: i32::MAX,
        },
        Some("128"),
    ),
    ignored(
        "remote.log.manager.thread.pool.size",
        POSITIVE_INT,
        Some("2"),
    ),
    ignored(
        "remote.log.manager.follower.thread.pool.size",
        POSITIVE_INT,
        Some("2"),
    ),
    ignored(
        "remote.log.manager.copy.quota.window.num",
        POSITIVE_INT,
        Some("11"),
    ),
    ignored(
        "remote.log.manager.copy.quota.window.size.seconds",
        POSITIVE_INT,
        Some("1"),
    ),
    ignored(
        "remote.log.manager.fetch.max.bytes.per.second",
        POSITIVE_LONG,
        Some("9223372036854775807"),
    ),
    ignored(
        "remote.log.manager.fetch.quota.window.num",
        POSITIVE_INT,
        Some("11"),
    ),
    ignored(
        "remote.log.manager.fetch.quota.window.size.seconds",
        POSITIVE_INT,
        Some("1"),
    ),
];
