//! How long to wait before the next attempt.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Duration;

/// Doubles from `first` up to `max`, then takes off up to a fifth, so that clients do not come back in step.
/// `jitter` is from 0 to 1.
pub(crate) fn backoff(attempt: u32, first: Duration, max: Duration, jitter: f64) -> Duration {
    let doubled = first.saturating_mul(1u32.checked_shl(attempt.min(20)).unwrap_or(u32::MAX));
    doubled.min(max).mul_f64(1.0 - 0.2 * jitter.clamp(0.0, 1.0))
}

/// A number from 0 to 1 from the randomness that hash maps are seeded with: enough for jitter.
pub(crate) fn jitter() -> f64 {
    let random = RandomState::new().build_hasher().finish();
    (random >> 11) as f64 / (1u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_maximum() {
        let wait = |attempt, jitter| {
            backoff(
                attempt,
                Duration::from_millis(100),
                Duration::from_millis(1000),
                jitter,
            )
            .as_millis()
        };
        assert_eq!(
            [wait(0, 0.0), wait(1, 0.0), wait(3, 0.0), wait(4, 0.0)],
            [100, 200, 800, 1000]
        );
        assert_eq!([wait(0, 1.0), wait(99, 1.0)], [80, 800]);
        assert!((0.0..1.0).contains(&jitter()));
    }
}
