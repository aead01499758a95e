//! Where the tier's drivers get the time: the system's clock, or a test's.
#![allow(clippy::disallowed_methods)] // A driver: the system's clock is what it is for.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use strandline_log::TimestampMs;

#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> TimestampMs + Send + Sync>);

impl Clock {
    pub fn system() -> Self {
        Self::from_fn(|| {
            SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(0, |since| since.as_millis() as TimestampMs)
        })
    }

    pub fn from_fn(now_ms: impl Fn() -> TimestampMs + Send + Sync + 'static) -> Self {
        Self(Arc::new(now_ms))
    }

    pub fn now_ms(&self) -> TimestampMs {
        (self.0)()
    }
}
