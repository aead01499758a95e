//! Waiting for a condition, with a deadline.

#![allow(clippy::disallowed_methods)] // The tests' one clock.

use std::time::{Duration, Instant};

/// How often a condition is looked at.
const LOOK: Duration = Duration::from_millis(20);

/// Waits until the condition yields a value; panics with `what` and the last reason when the deadline has passed.
pub fn wait_until<T>(
    what: &str,
    deadline: Duration,
    mut condition: impl FnMut() -> Result<T, String>,
) -> T {
    let end = Instant::now() + deadline;
    loop {
        match condition() {
            Ok(value) => return value,
            Err(reason) => {
                assert!(
                    Instant::now() < end,
                    "{what}: not within {deadline:?}: {reason}"
                );
                std::thread::sleep(LOOK);
            }
        }
    }
}
