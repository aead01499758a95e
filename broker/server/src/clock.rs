//! The broker's clock. Everything below the drivers takes the time as an argument; this is where it comes from.

#![allow(clippy::disallowed_methods)] // The one place of the server that reads the clock.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use strandline_log::TimestampMs;

/// Milliseconds since the Unix epoch.
pub fn now_ms() -> TimestampMs {
    let since_epoch = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX)
}

/// For durations and deadlines: never goes back.
pub fn now() -> Instant {
    Instant::now()
}
