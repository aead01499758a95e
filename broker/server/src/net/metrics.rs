//! What the sockets do, as /metrics shows it.

use prometheus::{IntCounter, IntCounterVec, IntGauge, Opts, Registry};

#[derive(Debug)]
pub struct NetworkMetrics {
    pub connections: IntGauge,
    pub connections_accepted: IntCounter,
    pub connections_refused: IntCounterVec,
    pub connections_failed: IntCounterVec,
    pub received_bytes: IntCounter,
    pub sent_copied_bytes: IntCounter,
    pub sent_sendfile_bytes: IntCounter,
}

impl NetworkMetrics {
    pub fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let sent = IntCounterVec::new(
            Opts::new(
                "strandline_network_sent_bytes_total",
                "Bytes sent to clients. path=sendfile: record bytes that went from the page cache to the socket \
                 without entering user space; path=copied: headers and slices below 16 KiB.",
            ),
            &["path"],
        )?;
        let metrics = Self {
            connections: IntGauge::new(
                "strandline_network_connections",
                "Clients' connections that are open now.",
            )?,
            connections_accepted: IntCounter::new(
                "strandline_network_connections_accepted_total",
                "Clients' connections accepted since the start.",
            )?,
            connections_refused: IntCounterVec::new(
                Opts::new(
                    "strandline_network_connections_refused_total",
                    "Connections closed at once, by the limit that they would have broken.",
                ),
                &["limit"],
            )?,
            connections_failed: IntCounterVec::new(
                Opts::new(
                    "strandline_network_connections_failed_total",
                    "Connections that the broker closed because of what happened on them, by cause.",
                ),
                &["cause"],
            )?,
            received_bytes: IntCounter::new(
                "strandline_network_received_bytes_total",
                "Bytes of requests received, frame lengths included.",
            )?,
            sent_copied_bytes: sent.with_label_values(&["copied"]),
            sent_sendfile_bytes: sent.with_label_values(&["sendfile"]),
        };
        registry.register(Box::new(metrics.connections.clone()))?;
        registry.register(Box::new(metrics.connections_accepted.clone()))?;
        registry.register(Box::new(metrics.connections_refused.clone()))?;
        registry.register(Box::new(metrics.connections_failed.clone()))?;
        registry.register(Box::new(metrics.received_bytes.clone()))?;
        registry.register(Box::new(sent))?;
        Ok(metrics)
    }
}
