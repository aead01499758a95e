//! What the tier counts. Nouns are Kafka's (`RemoteCopyBytesPerSec` and so on), in Prometheus' spelling.

use prometheus::{
    HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
};

pub struct TierMetrics {
    pub remote_copy_bytes: IntCounterVec,
    pub remote_copy_requests: IntCounterVec,
    pub remote_copy_errors: IntCounterVec,
    pub remote_copy_lag_bytes: IntGaugeVec,
    pub remote_copy_lag_segments: IntGaugeVec,
    pub remote_delete_requests: IntCounterVec,
    pub remote_delete_errors: IntCounterVec,
    pub remote_fetch_bytes: IntCounterVec,
    pub remote_fetch_requests: IntCounterVec,
    pub remote_fetch_errors: IntCounterVec,
    pub remote_log_size_bytes: IntGaugeVec,
    pub remote_scrub_objects: IntCounter,
    pub remote_scrub_bytes: IntCounter,
    pub remote_healed_objects: IntCounterVec,
    pub remote_damaged_objects: IntGaugeVec,
    pub remote_request_seconds: HistogramVec,
    pub cache_hits: IntCounter,
    pub cache_misses: IntCounter,
    pub cache_corrupt: IntCounter,
    pub cache_errors: IntCounter,
    pub cache_bytes: IntGauge,
    pub cache_evicted_bytes: IntCounter,
    pub read_ahead_chunks: IntCounter,
    pub workers_restarted: IntCounter,
    pub tail_upload_bytes: IntCounter,
    pub tail_upload_errors: IntCounter,
}

const BY_TOPIC: &[&str] = &["topic"];

fn counters(registry: &Registry, name: &str, help: &str) -> prometheus::Result<IntCounterVec> {
    let vec = IntCounterVec::new(Opts::new(name, help), BY_TOPIC)?;
    registry.register(Box::new(vec.clone()))?;
    Ok(vec)
}

fn gauges(registry: &Registry, name: &str, help: &str) -> prometheus::Result<IntGaugeVec> {
    let vec = IntGaugeVec::new(Opts::new(name, help), BY_TOPIC)?;
    registry.register(Box::new(vec.clone()))?;
    Ok(vec)
}

fn counter(registry: &Registry, name: &str, help: &str) -> prometheus::Result<IntCounter> {
    let counter = IntCounter::new(name, help)?;
    registry.register(Box::new(counter.clone()))?;
    Ok(counter)
}

fn gauge(registry: &Registry, name: &str, help: &str) -> prometheus::Result<IntGauge> {
    let gauge = IntGauge::new(name, help)?;
    registry.register(Box::new(gauge.clone()))?;
    Ok(gauge)
}

impl TierMetrics {
    /// Fails only when the registry already has metrics of these names.
    pub fn new(registry: &Registry) -> prometheus::Result<Self> {
        let request_seconds = HistogramVec::new(
            HistogramOpts::new(
                "strandline_remote_request_seconds",
                "Seconds that requests to the object store took, by purpose.",
            )
            .buckets(vec![
                0.001, 0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 30.0,
            ]),
            &["purpose"],
        )?;
        registry.register(Box::new(request_seconds.clone()))?;
        Ok(Self {
            remote_copy_bytes: counters(
                registry,
                "strandline_remote_copy_bytes_total",
                "Log bytes uploaded to the object store and named in a manifest.",
            )?,
            remote_copy_requests: counters(
                registry,
                "strandline_remote_copy_requests_total",
                "Uploads of log ranges that were begun.",
            )?,
            remote_copy_errors: counters(
                registry,
                "strandline_remote_copy_errors_total",
                "Uploads and manifest edits that failed and are tried again.",
            )?,
            remote_copy_lag_bytes: gauges(
                registry,
                "strandline_remote_copy_lag_bytes",
                "Bytes of sealed segments that are not in the object store yet.",
            )?,
            remote_copy_lag_segments: gauges(
                registry,
                "strandline_remote_copy_lag_segments",
                "Sealed segments that are not in the object store yet.",
            )?,
            remote_delete_requests: counters(
                registry,
                "strandline_remote_delete_requests_total",
                "Objects whose removal was asked for.",
            )?,
            remote_delete_errors: counters(
                registry,
                "strandline_remote_delete_errors_total",
                "Removals of objects that failed and are tried again.",
            )?,
            remote_fetch_bytes: counters(
                registry,
                "strandline_remote_fetch_bytes_total",
                "Log bytes handed to readers from the remote tier, cached or not.",
            )?,
            remote_fetch_requests: counters(
                registry,
                "strandline_remote_fetch_requests_total",
                "Reads below the local start of a log.",
            )?,
            remote_fetch_errors: counters(
                registry,
                "strandline_remote_fetch_errors_total",
                "Reads below the local start that failed.",
            )?,
            remote_log_size_bytes: gauges(
                registry,
                "strandline_remote_log_size_bytes",
                "Log bytes that the manifests name.",
            )?,
            remote_scrub_objects: counter(
                registry,
                "strandline_remote_scrub_objects_total",
                "Objects that the scrub of the store found whole.",
            )?,
            remote_scrub_bytes: counter(
                registry,
                "strandline_remote_scrub_bytes_total",
                "Log bytes that the scrub read from the store and checked.",
            )?,
            remote_healed_objects: counters(
                registry,
                "strandline_remote_healed_objects_total",
                "Objects that were lost in the store and uploaded again from a local copy.",
            )?,
            remote_damaged_objects: gauges(
                registry,
                "strandline_remote_damaged_objects",
                "Objects that are missing or damaged in the store, without a local copy: their offsets cannot be read.",
            )?,
            remote_request_seconds: request_seconds,
            cache_hits: counter(
                registry,
                "strandline_remote_cache_hits_total",
                "Chunks that readers found in the local cache.",
            )?,
            cache_misses: counter(
                registry,
                "strandline_remote_cache_misses_total",
                "Chunks that readers had to wait for.",
            )?,
            cache_corrupt: counter(
                registry,
                "strandline_remote_cache_corrupt_total",
                "Cached chunks that failed their checksum and were fetched again.",
            )?,
            cache_errors: counter(
                registry,
                "strandline_remote_cache_errors_total",
                "Failures of the cache's folder.",
            )?,
            cache_bytes: gauge(
                registry,
                "strandline_remote_cache_bytes",
                "Bytes of chunks in the local cache.",
            )?,
            cache_evicted_bytes: counter(
                registry,
                "strandline_remote_cache_evicted_bytes_total",
                "Bytes of chunks that were removed to keep the cache's limit.",
            )?,
            read_ahead_chunks: counter(
                registry,
                "strandline_remote_read_ahead_chunks_total",
                "Chunks fetched before a reader asked for them.",
            )?,
            tail_upload_bytes: counter(
                registry,
                "strandline_remote_tail_upload_bytes_total",
                "Bytes of records from unsealed segments that were uploaded in shared objects.",
            )?,
            tail_upload_errors: counter(
                registry,
                "strandline_remote_tail_upload_errors_total",
                "Uploads of unsealed segments' records that failed and are tried again.",
            )?,
            workers_restarted: counter(
                registry,
                "strandline_remote_workers_restarted_total",
                "Tasks of the tier that died and were started again. Each is a bug worth a report.",
            )?,
        })
    }
}
