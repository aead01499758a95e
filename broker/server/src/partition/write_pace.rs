//! Whether a log folder takes small writes so fast that whoever has one may write it on the spot.
//!
//! A write into the page cache takes microseconds, less than waking a thread for it. It takes long when the kernel
//! holds writers back. So a slow write sends those that follow to the append threads for a while, and for longer each
//! time that the first one after that is slow again.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::clock;

/// A write of a few pages takes a hundredth of this.
const SLOW: Duration = Duration::from_millis(1);
/// What a MiB may take besides: memory that the kernel has to find and clear first is no reason for alarm.
const SLOW_PER_MIB: Duration = Duration::from_millis(4);
/// For how long the first slow write is remembered, and the last of many.
const MEMORY: Duration = Duration::from_millis(200);
const MEMORY_MAX: Duration = Duration::from_secs(10);

pub struct WritePace {
    begun: Instant,
    /// In nanoseconds after `begun`.
    slow_until: AtomicU64,
    /// Slow writes without a fast one between them.
    slow_in_a_row: AtomicU32,
}

impl WritePace {
    pub fn new() -> Self {
        Self {
            begun: clock::now(),
            slow_until: AtomicU64::new(0),
            slow_in_a_row: AtomicU32::new(0),
        }
    }

    fn nanos(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.begun).as_nanos()).unwrap_or(u64::MAX)
    }

    pub fn is_calm(&self, now: Instant) -> bool {
        self.slow_until.load(Ordering::Relaxed) <= self.nanos(now)
    }

    /// A write of so many bytes took from `begun` to `ended`.
    pub fn note(&self, bytes: usize, begun: Instant, ended: Instant) {
        let took = ended.saturating_duration_since(begun);
        if took < SLOW + SLOW_PER_MIB.mul_f64(bytes as f64 / f64::from(1 << 20)) {
            if self.slow_in_a_row.load(Ordering::Relaxed) > 0 {
                self.slow_in_a_row.store(0, Ordering::Relaxed);
            }
            return;
        }
        let before = self.slow_in_a_row.fetch_add(1, Ordering::Relaxed);
        let memory = MEMORY.saturating_mul(1 << before.min(16)).min(MEMORY_MAX);
        self.slow_until
            .fetch_max(self.nanos(ended + memory), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_write_is_remembered_longer_each_time() {
        let pace = WritePace::new();
        let mut now = pace.begun;
        assert!(pace.is_calm(now));
        pace.note(100, now, now + SLOW / 2);
        assert!(pace.is_calm(now + SLOW));
        for times in [1, 2, 4] {
            pace.note(100, now, now + SLOW * 2);
            now += SLOW * 2;
            assert!(!pace.is_calm(now));
            assert!(!pace.is_calm(now + MEMORY * (times - 1)));
            now += MEMORY * times;
            assert!(pace.is_calm(now));
        }
        pace.note(100, now, now);
        pace.note(100, now, now + SLOW * 2);
        assert!(pace.is_calm(now + SLOW * 2 + MEMORY), "forgotten");
    }

    #[test]
    fn much_may_take_longer() {
        let pace = WritePace::new();
        let now = pace.begun;
        pace.note(1 << 20, now, now + SLOW_PER_MIB);
        assert!(pace.is_calm(now + SLOW_PER_MIB));
        pace.note(1 << 10, now, now + SLOW_PER_MIB);
        assert!(!pace.is_calm(now + SLOW_PER_MIB));
    }
}
