//! What partitions count. A topic's counters are looked up once and then held by its partitions.

use std::sync::Arc;

use prometheus::{Histogram, HistogramOpts, IntCounter, IntCounterVec, Opts, Registry};

use super::TopicLabels;

/// The families, one per broker.
#[derive(Clone)]
pub struct PartitionMetrics {
    bytes_in: IntCounterVec,
    batches_in: IntCounterVec,
    messages_in: IntCounterVec,
    bytes_out: IntCounterVec,
    produce_failed: IntCounterVec,
    fetch_failed: IntCounterVec,
    flush_seconds: Histogram,
    labels: Arc<TopicLabels>,
}

/// One topic's counters.
#[derive(Clone)]
pub struct TopicMetrics {
    pub bytes_in: IntCounter,
    pub batches_in: IntCounter,
    pub messages_in: IntCounter,
    pub bytes_out: IntCounter,
    pub produce_failed: IntCounter,
    pub fetch_failed: IntCounter,
    /// One for all topics.
    pub flush_seconds: Histogram,
}

impl PartitionMetrics {
    pub fn register(registry: &Registry) -> prometheus::Result<Self> {
        let family = |name: &str, help: &str| -> prometheus::Result<IntCounterVec> {
            let family = IntCounterVec::new(Opts::new(name, help), &["topic"])?;
            registry.register(Box::new(family.clone()))?;
            Ok(family)
        };
        let flush_seconds = Histogram::with_opts(
            HistogramOpts::new(
                "strandline_log_flush_seconds",
                "Seconds that the syncs took which acknowledgements waited for.",
            )
            .buckets(prometheus::exponential_buckets(0.0001, 2.0, 16)?),
        )?;
        registry.register(Box::new(flush_seconds.clone()))?;
        Ok(Self {
            flush_seconds,
            bytes_in: family(
                "strandline_topic_bytes_in_total",
                "Bytes of record batches appended to the topic's logs.",
            )?,
            batches_in: family(
                "strandline_topic_batches_in_total",
                "Record batches appended to the topic's logs.",
            )?,
            messages_in: family(
                "strandline_topic_messages_in_total",
                "Records appended to the topic's logs.",
            )?,
            bytes_out: family(
                "strandline_topic_bytes_out_total",
                "Bytes of record batches handed to fetches of the topic.",
            )?,
            produce_failed: family(
                "strandline_topic_failed_produce_requests_total",
                "Batches of the topic that were refused or could not be appended.",
            )?,
            fetch_failed: family(
                "strandline_topic_failed_fetch_requests_total",
                "Fetches of a partition of the topic that were answered with an error.",
            )?,
            labels: Arc::default(),
        })
    }

    pub fn labels(&self) -> &Arc<TopicLabels> {
        &self.labels
    }

    pub fn topic(&self, topic: &str) -> TopicMetrics {
        let topic = self.labels.admit(topic);
        let of = |family: &IntCounterVec| family.with_label_values(&[topic]);
        TopicMetrics {
            bytes_in: of(&self.bytes_in),
            batches_in: of(&self.batches_in),
            messages_in: of(&self.messages_in),
            bytes_out: of(&self.bytes_out),
            produce_failed: of(&self.produce_failed),
            fetch_failed: of(&self.fetch_failed),
            flush_seconds: self.flush_seconds.clone(),
        }
    }

    /// A deleted topic leaves no series behind.
    pub fn forget(&self, topic: &str) {
        if !self.labels.forget(topic) {
            return;
        }
        for family in [
            &self.bytes_in,
            &self.batches_in,
            &self.messages_in,
            &self.bytes_out,
            &self.produce_failed,
            &self.fetch_failed,
        ] {
            // It may never have counted.
            let _ = family.remove_label_values(&[topic]);
        }
    }
}
