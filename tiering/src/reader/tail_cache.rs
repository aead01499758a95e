//! The indexes of remote segments in bounded memory, each fetched once however many ask.

use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::cache::{FetchError, TwoQueue};
use crate::format::SegmentTail;
use crate::single_flight::SingleFlight;

struct State {
    order: TwoQueue<Arc<str>>,
    tails: HashMap<Arc<str>, Arc<SegmentTail>>,
}

/// Keyed by the object's key.
pub struct TailCache {
    state: Mutex<State>,
    flights: SingleFlight<Arc<str>, Result<Arc<SegmentTail>, FetchError>>,
}

impl TailCache {
    pub fn new(bytes_max: u64) -> Self {
        Self {
            state: Mutex::new(State {
                order: TwoQueue::new(bytes_max),
                tails: HashMap::new(),
            }),
            flights: SingleFlight::default(),
        }
    }

    pub fn insert(&self, object: &Arc<str>, tail: Arc<SegmentTail>) {
        let bytes = (tail.indexes.bytes() + tail.footer.chunk_crcs.len() * 4 + 512) as u64;
        let mut state = self.state.lock();
        for gone in state.order.insert(Arc::clone(object), bytes) {
            state.tails.remove(&gone);
        }
        state.tails.insert(Arc::clone(object), tail);
    }

    pub fn cached(&self, object: &Arc<str>) -> Option<Arc<SegmentTail>> {
        let mut state = self.state.lock();
        let tail = state.tails.get(object).cloned()?;
        state.order.touch(object);
        Some(tail)
    }

    pub async fn get<F, R>(
        self: &Arc<Self>,
        object: &Arc<str>,
        fetch: F,
    ) -> Result<Arc<SegmentTail>, FetchError>
    where
        F: FnOnce() -> R + Send + 'static,
        R: Future<Output = Result<SegmentTail, FetchError>> + Send + 'static,
    {
        if let Some(tail) = self.cached(object) {
            return Ok(tail);
        }
        let (cache, key) = (Arc::clone(self), Arc::clone(object));
        self.flights
            .run(Arc::clone(object), move || async move {
                // Somebody may have landed it between our look and our flight.
                if let Some(tail) = cache.cached(&key) {
                    return Ok(tail);
                }
                let tail = Arc::new(fetch().await?);
                cache.insert(&key, Arc::clone(&tail));
                Ok(tail)
            })
            .await
            .unwrap_or_else(|| {
                Err(FetchError::unavailable(
                    "the task that fetched the indexes died",
                ))
            })
    }
}
