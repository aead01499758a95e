//! How much the scrub may ask of the store: requests and bytes per second, each as a bucket that holds one second's worth.

use strandline_log::TimestampMs;

#[derive(Debug)]
struct Bucket {
    per_second: u64,
    /// In thousandths, so that little time is not lost. Below zero after more was given than it holds.
    filled: i128,
}

impl Bucket {
    fn new(per_second: u64) -> Self {
        Self {
            per_second,
            filled: i128::from(per_second) * 1_000,
        }
    }

    fn fill(&mut self, elapsed_ms: u64) {
        let more = i128::from(self.per_second) * i128::from(elapsed_ms);
        let full = i128::from(self.per_second) * 1_000;
        self.filled = (self.filled + more).min(full);
    }

    /// More than it ever holds is given when it is full.
    fn has(&self, amount: u64) -> bool {
        self.filled >= i128::from(amount.min(self.per_second)) * 1_000
    }

    fn take(&mut self, amount: u64) {
        self.filled -= i128::from(amount) * 1_000;
    }
}

#[derive(Debug)]
pub(crate) struct ScrubBudget {
    requests: Bucket,
    bytes: Bucket,
    filled_at_ms: TimestampMs,
}

impl ScrubBudget {
    pub fn new(requests_per_second: u64, bytes_per_second: u64) -> Self {
        Self {
            requests: Bucket::new(requests_per_second),
            bytes: Bucket::new(bytes_per_second),
            filled_at_ms: 0,
        }
    }

    /// Whether the scrub runs at all.
    pub fn is_off(&self) -> bool {
        self.requests.per_second == 0
    }

    /// Whether log bytes are read, beside the objects' ends.
    pub fn reads_bytes(&self) -> bool {
        self.bytes.per_second > 0
    }

    /// A request for so many log bytes may be sent now.
    pub fn take(&mut self, bytes: u64, now_ms: TimestampMs) -> bool {
        let elapsed_ms = now_ms.saturating_sub(self.filled_at_ms).max(0) as u64;
        self.filled_at_ms = self.filled_at_ms.max(now_ms);
        self.requests.fill(elapsed_ms);
        self.bytes.fill(elapsed_ms);
        let may = !self.is_off() && self.requests.has(1) && (bytes == 0 || self.bytes.has(bytes));
        if may {
            self.requests.take(1);
            self.bytes.take(bytes);
        }
        may
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_than_so_many_per_second() {
        let mut budget = ScrubBudget::new(2, 1_000);
        let table = [
            // bytes, now, given
            (0, 0, true),
            (0, 0, true),
            (0, 0, false),
            (0, 499, false),
            (0, 500, true),
            (600, 1_500, true),
            (600, 1_600, false),
            (600, 2_000, true),
            // Larger than a second's worth: with a full bucket.
            (5_000, 2_500, false),
            (5_000, 9_000, true),
            // And nothing for a while after it.
            (1, 9_500, false),
        ];
        for (bytes, now_ms, given) in table {
            assert_eq!(budget.take(bytes, now_ms), given, "{bytes} at {now_ms}");
        }
        assert!(!ScrubBudget::new(0, 5).take(0, 9_999));
        assert!(!ScrubBudget::new(1, 0).reads_bytes());
    }
}
