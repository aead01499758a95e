//! Keeps the bytes that all cleaner threads read and write below a rate.
//!
//! Work is done first and paid for by waiting afterwards. Time is an argument.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// An idle cleaner may catch up on no more than this.
const BURST: Duration = Duration::from_millis(300);

#[derive(Debug)]
pub struct Throttler {
    bytes_per_second: f64,
    /// When everything done so far is paid for.
    paid_until: Mutex<Option<Instant>>,
}

impl Throttler {
    /// `bytes_per_second`: `None` is without limit.
    pub fn new(bytes_per_second: Option<f64>) -> Self {
        Self {
            bytes_per_second: bytes_per_second.unwrap_or(f64::MAX).max(1.0),
            paid_until: Mutex::new(None),
        }
    }

    /// Counts `bytes` of work; tells how long to wait.
    pub fn observe(&self, bytes: u64, now: Instant) -> Duration {
        let Ok(price) = Duration::try_from_secs_f64(bytes as f64 / self.bytes_per_second) else {
            return Duration::ZERO;
        };
        let mut paid_until = self.paid_until.lock();
        let earliest = now.checked_sub(BURST).unwrap_or(now);
        let until = paid_until.unwrap_or(now).max(earliest) + price;
        *paid_until = Some(until);
        until.saturating_duration_since(now)
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)] // An instant can only be had from the clock; it does not move here.
mod tests {
    use super::*;

    #[test]
    fn work_is_paid_for_at_the_rate() {
        let begun = Instant::now();
        let throttler = Throttler::new(Some(1_000.0));
        assert_eq!(throttler.observe(500, begun), Duration::from_millis(500));
        let later = begun + Duration::from_millis(500);
        assert_eq!(throttler.observe(250, later), Duration::from_millis(250));
        // An hour of rest buys no more than the burst.
        let later = begun + Duration::from_secs(3_600);
        assert_eq!(throttler.observe(1_300, later), Duration::from_secs(1));
        let free = Throttler::new(None);
        assert_eq!(free.observe(u64::MAX, begun), Duration::ZERO);
    }
}
