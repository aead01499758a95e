//! What a load saw.

use std::time::Duration;

use hdrhistogram::Histogram;

const LATENCY_NS_MAX: u64 = 120_000_000_000;

#[derive(Clone, Debug)]
pub struct Outcome {
    pub requests: u64,
    pub records: u64,
    /// Of batches without compression.
    pub record_bytes: u64,
    /// Of batches as they were sent.
    pub batch_bytes: u64,
    pub fetches: u64,
    pub fetched_records: u64,
    pub fetched_bytes: u64,
    pub base_offset_max: i64,
    pub elapsed: Duration,
    /// From when a request was due to its answer, in nanoseconds.
    pub latency: Histogram<u64>,
    pub fetch_latency: Histogram<u64>,
    /// From when a request was due to a consumer having its records.
    pub delivery: Histogram<u64>,
    /// How late the generator itself was: from when a request was due to when its turn came.
    pub lateness: Histogram<u64>,
}

fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LATENCY_NS_MAX, 3).expect("the bounds are right")
}

impl Default for Outcome {
    fn default() -> Self {
        Outcome {
            requests: 0,
            records: 0,
            record_bytes: 0,
            batch_bytes: 0,
            fetches: 0,
            fetched_records: 0,
            fetched_bytes: 0,
            base_offset_max: 0,
            elapsed: Duration::ZERO,
            latency: histogram(),
            fetch_latency: histogram(),
            delivery: histogram(),
            lateness: histogram(),
        }
    }
}

impl Outcome {
    /// Joins what parallel loops saw.
    pub fn merge(&mut self, other: Outcome) {
        self.requests += other.requests;
        self.records += other.records;
        self.record_bytes += other.record_bytes;
        self.batch_bytes += other.batch_bytes;
        self.fetches += other.fetches;
        self.fetched_records += other.fetched_records;
        self.fetched_bytes += other.fetched_bytes;
        self.base_offset_max = self.base_offset_max.max(other.base_offset_max);
        self.elapsed = self.elapsed.max(other.elapsed);
        for (ours, theirs) in [
            (&mut self.latency, &other.latency),
            (&mut self.fetch_latency, &other.fetch_latency),
            (&mut self.delivery, &other.delivery),
            (&mut self.lateness, &other.lateness),
        ] {
            ours.add(theirs).expect("histograms have the same bounds");
        }
    }

    pub fn per_second(&self, count: u64) -> f64 {
        count as f64 / self.elapsed.as_secs_f64()
    }
}

/// A percentile of a histogram in milliseconds.
pub fn percentile_ms(histogram: &Histogram<u64>, percentile: f64) -> f64 {
    histogram.value_at_percentile(percentile) as f64 / 1e6
}
