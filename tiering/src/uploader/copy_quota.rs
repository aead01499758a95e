//! remote.log.manager.copy.max.bytes.per.second: who uploads waits until the bytes before are paid for, chunk by chunk, so
//! that the rate holds within one upload too and uploads at the same time share it.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use strandline_log::TimestampMs;

use crate::clock::Clock;
use crate::supervise::Stop;

#[derive(Debug)]
pub struct CopyQuota {
    bytes_per_second_max: u64,
    /// When all that was let through so far is paid for.
    paid_at_ms: TimestampMs,
}

impl CopyQuota {
    pub fn new(bytes_per_second_max: u64) -> Self {
        Self {
            bytes_per_second_max: bytes_per_second_max.max(1),
            paid_at_ms: 0,
        }
    }

    /// Books an upload; returns how long it must wait before it begins.
    pub fn book(&mut self, bytes: u64, now_ms: TimestampMs) -> u64 {
        let begin_ms = self.paid_at_ms.max(now_ms);
        let cost_ms = u128::from(bytes) * 1_000 / u128::from(self.bytes_per_second_max);
        let cost_ms = TimestampMs::try_from(cost_ms).unwrap_or(TimestampMs::MAX);
        self.paid_at_ms = begin_ms.saturating_add(cost_ms);
        (begin_ms - now_ms) as u64
    }
}

/// A share of the quota for one upload.
#[derive(Clone)]
pub struct Pace {
    quota: Arc<Mutex<CopyQuota>>,
    clock: Clock,
    stop: Stop,
}

impl Pace {
    pub(crate) fn new(quota: Arc<Mutex<CopyQuota>>, clock: Clock, stop: Stop) -> Self {
        Self { quota, clock, stop }
    }

    /// Waits until bytes may go. False when the tier stopped meanwhile.
    pub async fn take(&self, bytes: u64) -> bool {
        let now_ms = self.clock.now_ms();
        let wait_ms = self.quota.lock().book(bytes, now_ms);
        wait_ms == 0 || self.stop.sleep(Duration::from_millis(wait_ms)).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uploads_wait_for_what_was_booked_before() {
        let mut quota = CopyQuota::new(1_000);
        assert_eq!(quota.book(500, 10_000), 0);
        assert_eq!(quota.book(2_000, 10_000), 500);
        assert_eq!(quota.book(1, 10_100), 2_400);
        assert_eq!(quota.book(1, 20_000), 0);

        let mut unlimited = CopyQuota::new(i64::MAX as u64);
        assert_eq!(unlimited.book(u64::MAX, 5), 0);
        assert!(unlimited.book(1, 5) <= 2_000);
    }
}
