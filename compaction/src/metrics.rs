//! What the cleaner counts. Nouns are Kafka's, in Prometheus' spelling.

use prometheus::core::{Atomic, GenericCounter, GenericGauge};
use prometheus::{Gauge, IntCounter, IntGauge, Registry};

pub struct CleanerMetrics {
    pub runs: IntCounter,
    pub bytes_read: IntCounter,
    pub bytes_written: IntCounter,
    pub records_read: IntCounter,
    pub records_written: IntCounter,
    pub invalid_records: IntCounter,
    pub seconds: prometheus::Counter,
    pub failures: IntCounter,
    pub uncleanable_partitions: IntGauge,
    pub uncleanable_bytes: IntGauge,
    pub max_dirty_percent: IntGauge,
    pub max_buffer_utilization_percent: IntGauge,
    pub recopy_percent: IntGauge,
    pub max_clean_time_secs: Gauge,
    pub max_compaction_delay_secs: IntGauge,
}

fn counter<P: Atomic + 'static>(
    registry: &Registry,
    name: &str,
    help: &str,
) -> prometheus::Result<GenericCounter<P>> {
    let counter = GenericCounter::new(format!("strandline_log_cleaner_{name}"), help)?;
    registry.register(Box::new(counter.clone()))?;
    Ok(counter)
}

fn gauge<P: Atomic + 'static>(
    registry: &Registry,
    name: &str,
    help: &str,
) -> prometheus::Result<GenericGauge<P>> {
    let gauge = GenericGauge::new(format!("strandline_log_cleaner_{name}"), help)?;
    registry.register(Box::new(gauge.clone()))?;
    Ok(gauge)
}

impl CleanerMetrics {
    /// Fails only when the registry already has metrics of these names.
    #[rustfmt::skip]
    pub fn new(registry: &Registry) -> prometheus::Result<Self> {
        Ok(Self {
            runs: counter(registry, "runs_total", "Rounds of cleaning that came to their end.")?,
            bytes_read: counter(registry, "bytes_read_total", "Bytes of logs that the cleaner read, those for the map of keys included.")?,
            bytes_written: counter(registry, "bytes_written_total", "Bytes of cleaned segments that the cleaner wrote.")?,
            records_read: counter(registry, "records_read_total", "Records that were looked at when copying.")?,
            records_written: counter(registry, "records_written_total", "Records that were kept.")?,
            invalid_records: counter(registry, "invalid_records_total", "Records without a key that were dropped.")?,
            seconds: counter(registry, "seconds_total", "Seconds spent cleaning.")?,
            failures: counter(registry, "failures_total", "Rounds that failed.")?,
            uncleanable_partitions: gauge(registry, "uncleanable_partitions", "Partitions that were set aside because of damage.")?,
            uncleanable_bytes: gauge(registry, "uncleanable_bytes", "Bytes of the partitions that were set aside.")?,
            max_dirty_percent: gauge(registry, "max_dirty_percent", "The dirty share of the dirtiest log, as of the last look.")?,
            max_buffer_utilization_percent: gauge(registry, "max_buffer_utilization_percent", "How full the map of keys was in the last round.")?,
            recopy_percent: gauge(registry, "recopy_percent", "The share of the bytes read that was written again in the last round.")?,
            max_clean_time_secs: gauge(registry, "max_clean_time_secs", "Seconds that the last round took.")?,
            max_compaction_delay_secs: gauge(registry, "max_compaction_delay_secs", "The longest time by which a log is overdue by max.compaction.lag.ms.")?,
        })
    }
}
