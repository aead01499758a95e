//! The server's own table of configs: identity, listeners, sockets, limits, topic defaults.

use strandline_log::config_def::{ConfigDef, ConfigKind, ConfigScope};

use ConfigKind::{Boolean, List, String};
use ConfigScope::{Broker, BrokerDynamic};

const fn def(
    name: &'static str,
    kind: ConfigKind,
    default: Option<&'static str>,
    scope: ConfigScope,
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

/// The table. Names, units and defaults are Kafka's; where a default differs, the doc says so.
#[rustfmt::skip]
pub static DEFS: &[ConfigDef] = &[
    def("advertised.listeners", List, None, Broker,
        "The addresses that clients are given, as NAME://host:port. Unset: those of listeners."),
    def("authorizer.class.name", String, Some(""), Broker,
        "Must be empty: access control is not there yet, and a broker that silently allowed everything would be worse."),
    def("auto.create.topics.enable", Boolean, Some("true"), Broker,
        "Whether a topic that a producer or consumer asks for is created."),
    def("broker.id", int(-1), Some("-1"), Broker,
        "The older name of node.id."),
    def("broker.rack", String, None, Broker,
        "The rack or availability zone that this broker stands in."),
    def("connections.max.idle.ms", long(-1), Some("600000"), Broker,
        "After how long without a request a connection is closed. Negative: never."),
    def("controller.listener.names", List, None, Broker,
        "Listeners of Kafka's controllers. They are accepted and not opened: the metadata quorum is part of the broker."),
    def("default.replication.factor", int(1), Some("1"), Broker,
        "Replicas of a topic that is created without a number of its own."),
    def("delete.topic.enable", Boolean, Some("true"), Broker,
        "Whether topics may be deleted."),
    def("fetch.max.bytes", int(1024), Some("57671680"), Broker,
        "The most bytes that one Fetch is answered with; a single larger batch is still delivered."),
    def("http.listener", String, Some("127.0.0.1:9644"), Broker,
        "Where /metrics, /healthz and /readyz are served, as host:port. Empty: nowhere."),
    def("http.max.connections", int(1), Some("64"), Broker,
        "Connections that the HTTP listener serves at a time."),
    def("inter.broker.listener.name", String, None, Broker,
        "The listener over which brokers talk to each other."),
    def("listener.security.protocol.map", List,
        Some("PLAINTEXT:PLAINTEXT,SSL:SSL,SASL_PLAINTEXT:SASL_PLAINTEXT,SASL_SSL:SASL_SSL,CONTROLLER:PLAINTEXT"), Broker,
        "Which security protocol each listener speaks."),
    def("listeners", List, Some("PLAINTEXT://127.0.0.1:9092"), Broker,
        "Where the broker listens, as NAME://host:port; an empty host means all interfaces. Kafka's default is :9092 on all of them."),
    def("log.dir", List, Some("./strandline-data"), Broker,
        "The older name of log.dirs. Kafka's default is /tmp/kafka-logs."),
    def("log.dirs", List, None, Broker,
        "The folders that hold the logs. Unset: log.dir."),
    def("max.connections", int(1), Some("20000"), Broker,
        "Connections that the broker accepts at a time; never more than 5 of 8 of the descriptors that the process may open, so that logs have theirs. Kafka's default is unlimited."),
    def("max.connections.per.ip", int(0), Some("2147483647"), Broker,
        "Connections that the broker accepts from one address at a time."),
    def("max.connections.per.ip.overrides", String, Some(""), Broker,
        "Other numbers for some addresses or host names, as host:number, separated by commas."),
    def("max.in.flight.requests.per.connection", int(1), Some("64"), Broker,
        "Requests that one connection may have read and not yet answered; further ones wait in its socket."),
    def("metadata.log.dir", String, None, Broker,
        "The folder of the metadata log. Unset: the first of log.dirs."),
    def("metadata.log.max.record.bytes.between.snapshots", long(1), Some("20971520"), Broker,
        "After how many bytes of metadata records a snapshot is written and the records before it are dropped."),
    def("node.id", int(0), None, Broker,
        "This node's number in the cluster. Unset: broker.id, else 1."),
    def("num.network.threads", int(1), Some("3"), Broker,
        "The most threads that serve sockets; never more than the machine has processors."),
    def("num.partitions", int(1), Some("1"), Broker,
        "Partitions of a topic that is created without a number of its own."),
    def("process.roles", ConfigKind::EnumList(&["broker", "controller"]), Some("broker,controller"), Broker,
        "Must include broker. Every node also votes in the metadata quorum."),
    def("queued.max.request.bytes", long(-1), Some("-1"), Broker,
        "Memory that requests being read or handled may hold, over all connections; a connection that asks for more waits. -1: 128 MiB (in Kafka: no limit)."),
    def("queued.max.requests", int(1), Some("500"), Broker,
        "Accepted as in Kafka; max.in.flight.requests.per.connection and queued.max.request.bytes are what bounds the queue."),
    def("replica.high.watermark.checkpoint.interval.ms", long(1), Some("5000"), Broker,
        "How often high watermarks are written to disk."),
    def("replica.lag.time.max.ms", long(1), Some("30000"), Broker,
        "After how long without catching up a follower leaves the in-sync set."),
    def("request.read.timeout.ms", long(1), Some("30000"), Broker,
        "How long a request may take to arrive once it has begun. Then its connection is closed and its memory freed."),
    def("socket.listen.backlog.size", int(1), Some("50"), Broker,
        "Connections that wait in the kernel to be accepted."),
    def("socket.receive.buffer.bytes", int(-1), Some("102400"), Broker,
        "SO_RCVBUF of clients' sockets. -1: the system's default."),
    def("socket.request.max.bytes", int(1), Some("104857600"), Broker,
        "The largest request. A larger one closes its connection before memory is reserved for it."),
    def("socket.send.buffer.bytes", int(-1), Some("102400"), Broker,
        "SO_SNDBUF of clients' sockets. -1: the system's default."),
    def("socket.send.timeout.ms", long(1), Some("60000"), Broker,
        "How long a client may take none of its answer's bytes before its connection is closed."),
    def("topic.max.partitions", int(1), Some("100000"), BrokerDynamic,
        "The most partitions that one topic may have."),
];
