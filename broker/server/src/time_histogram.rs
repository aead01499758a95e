//! Durations counted in buckets: two relaxed additions per observation, no lock, no allocation.
//!
//! Bounds are powers of two, from 8 microseconds to 16 seconds, so that finding the bucket is a count of leading zeros.
//! The parts of a histogram that is being scraped may be one observation apart from each other; its count is always the
//! sum of its buckets.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prometheus::core::{Collector, Desc};
use prometheus::{Registry, proto};

const FIRST_BOUND_LOG2_US: u32 = 3;
const LAST_BOUND_LOG2_US: u32 = 24;
const BOUNDS: usize = (LAST_BOUND_LOG2_US - FIRST_BOUND_LOG2_US + 1) as usize;

#[derive(Debug, Default)]
pub struct TimeHistogram {
    /// By upper bound; the last one has none.
    buckets: [AtomicU64; BOUNDS + 1],
    sum_ns: AtomicU64,
}

impl TimeHistogram {
    pub fn observe(&self, time: Duration) {
        let ns = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.buckets[bucket_of(ns)].fetch_add(1, Ordering::Relaxed);
        self.sum_ns.fetch_add(ns, Ordering::Relaxed);
    }

    pub fn count(&self) -> u64 {
        self.buckets
            .iter()
            .map(|bucket| bucket.load(Ordering::Relaxed))
            .sum()
    }

    /// As Prometheus has it: seconds, cumulative.
    pub fn to_proto(&self) -> proto::Histogram {
        let mut count = 0;
        let mut buckets = Vec::with_capacity(BOUNDS);
        for (log2_us, bucket) in (FIRST_BOUND_LOG2_US..).zip(&self.buckets[..BOUNDS]) {
            count += bucket.load(Ordering::Relaxed);
            let mut cumulative = proto::Bucket::default();
            cumulative.set_upper_bound((1u64 << log2_us) as f64 / 1e6);
            cumulative.set_cumulative_count(count);
            buckets.push(cumulative);
        }
        count += self.buckets[BOUNDS].load(Ordering::Relaxed);
        let mut histogram = proto::Histogram::default();
        histogram.set_bucket(buckets);
        histogram.set_sample_count(count);
        histogram.set_sample_sum(self.sum_ns.load(Ordering::Relaxed) as f64 / 1e9);
        histogram
    }
}

/// A histogram without labels, on the page from now on.
pub fn register(
    name: &str,
    help: &str,
    registry: &Registry,
) -> prometheus::Result<Arc<TimeHistogram>> {
    let histogram = Arc::<TimeHistogram>::default();
    registry.register(Box::new(Registered {
        desc: Desc::new(
            name.to_owned(),
            help.to_owned(),
            Vec::new(),
            Default::default(),
        )?,
        histogram: Arc::clone(&histogram),
    }))?;
    Ok(histogram)
}

struct Registered {
    desc: Desc,
    histogram: Arc<TimeHistogram>,
}

impl Collector for Registered {
    fn desc(&self) -> Vec<&Desc> {
        vec![&self.desc]
    }

    fn collect(&self) -> Vec<proto::MetricFamily> {
        let mut metric = proto::Metric::default();
        metric.set_histogram(self.histogram.to_proto());
        let mut family = proto::MetricFamily::default();
        family.set_name(self.desc.fq_name.clone());
        family.set_help(self.desc.help.clone());
        family.set_field_type(proto::MetricType::HISTOGRAM);
        family.set_metric(vec![metric]);
        vec![family]
    }
}

fn bucket_of(ns: u64) -> usize {
    let us = ns.div_ceil(1000).max(1);
    // The power of two at or above.
    let log2 = u64::BITS - (us - 1).leading_zeros();
    (log2.saturating_sub(FIRST_BOUND_LOG2_US) as usize).min(BOUNDS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_falls_into_the_first_bucket_that_holds_it() {
        let us = 1000;
        for (ns, bucket) in [
            (0, 0),
            (8 * us, 0),
            (8 * us + 1, 1),
            (16 * us, 1),
            (17 * us, 2),
            ((1 << 24) * us, BOUNDS - 1),
            ((1 << 24) * us + 1, BOUNDS),
            (u64::MAX, BOUNDS),
        ] {
            assert_eq!(bucket_of(ns), bucket, "{ns} ns");
        }
    }

    #[test]
    fn the_export_is_cumulative_and_in_seconds() {
        let histogram = TimeHistogram::default();
        for time in [
            Duration::from_micros(10),
            Duration::from_millis(3),
            Duration::from_secs(100),
        ] {
            histogram.observe(time);
        }
        let exported = histogram.to_proto();
        assert_eq!(exported.get_sample_count(), 3);
        assert_eq!(exported.get_sample_count(), histogram.count());
        assert!((exported.get_sample_sum() - 100.00301).abs() < 1e-9);
        let cumulative: Vec<u64> = exported
            .get_bucket()
            .iter()
            .map(|bucket| bucket.cumulative_count())
            .collect();
        assert_eq!(cumulative[..3], [0, 1, 1]);
        assert_eq!(cumulative[BOUNDS - 1], 2);
        assert_eq!(exported.get_bucket()[0].upper_bound(), 8e-6);
    }
}
