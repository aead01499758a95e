//! What the sockets do, as /metrics shows it.

use std::sync::Arc;

use prometheus::{IntCounter, IntCounterVec, IntGauge, Opts, PullingGauge, Registry};

use super::memory_budget::MemoryBudget;

#[derive(Debug)]
pub struct NetworkMetrics {
    pub connections: IntGauge,
    pub connections_accepted: IntCounter,
    pub connections_refused: IntCounterVec,
    pub connections_failed: IntCounterVec,
    pub accepts_failed: IntCounter,
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
            accepts_failed: IntCounter::new(
                "strandline_network_accepts_failed_total",
                "Times that the system gave no connection although one waited: out of descriptors, above all.",
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
        registry.register(Box::new(metrics.accepts_failed.clone()))?;
        registry.register(Box::new(metrics.received_bytes.clone()))?;
        registry.register(Box::new(sent))?;
        Ok(metrics)
    }
}

/// The requests' memory, looked at when the page is asked for.
pub fn register_budget(
    budget: &Arc<MemoryBudget>,
    registry: &Registry,
) -> Result<(), prometheus::Error> {
    let pulled = |name: &str, help: &str, read: fn(&MemoryBudget) -> usize| {
        let budget = Arc::clone(budget);
        let gauge = PullingGauge::new(name, help, Box::new(move || read(&budget) as f64))?;
        registry.register(Box::new(gauge))
    };
    pulled(
        "strandline_request_memory_used_bytes",
        "Bytes that requests being read or handled hold of their budget.",
        MemoryBudget::used_bytes,
    )?;
    pulled(
        "strandline_request_memory_limit_bytes",
        "Bytes that requests being read or handled may hold (queued.max.request.bytes).",
        MemoryBudget::bytes_max,
    )?;
    pulled(
        "strandline_request_memory_pooled_bytes",
        "Bytes of idle request buffers that are kept for reuse.",
        MemoryBudget::pooled_bytes,
    )?;
    registry.register(Box::new(budget.waits.clone()))
}
