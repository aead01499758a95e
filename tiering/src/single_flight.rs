//! One piece of work per key, however many wait for it.
//!
//! The work runs in a task of its own: a reader that gives up waiting does not cancel it, and the next one finds it under
//! way or done. A task that dies takes nobody with it: those who wait are told so.

use std::collections::HashMap;
use std::future::Future;
use std::hash::Hash;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::watch;

type Flights<K, V> = Mutex<HashMap<K, watch::Receiver<Option<V>>>>;

pub struct SingleFlight<K, V> {
    flights: Arc<Flights<K, V>>,
}

impl<K, V> Default for SingleFlight<K, V> {
    fn default() -> Self {
        Self {
            flights: Arc::new(Mutex::new(HashMap::new())),
        }
    }
}

/// Takes the flight off the board however its task ends.
struct Landing<K: Eq + Hash, V> {
    key: K,
    flights: Arc<Flights<K, V>>,
}

impl<K: Eq + Hash, V> Drop for Landing<K, V> {
    fn drop(&mut self) {
        self.flights.lock().remove(&self.key);
    }
}

impl<K, V> SingleFlight<K, V>
where
    K: Clone + Eq + Hash + Send + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// Joins the flight of `key`, or starts it with `work`. `None`: its task died.
    pub async fn run<F>(&self, key: K, work: impl FnOnce() -> F) -> Option<V>
    where
        F: Future<Output = V> + Send + 'static,
    {
        let mut landed = self.join(key, work);
        match landed.wait_for(Option::is_some).await {
            Ok(value) => value.clone(),
            Err(_) => None,
        }
    }

    /// As [`run`](Self::run), without waiting.
    pub fn start<F>(&self, key: K, work: impl FnOnce() -> F)
    where
        F: Future<Output = V> + Send + 'static,
    {
        drop(self.join(key, work));
    }

    fn join<F>(&self, key: K, work: impl FnOnce() -> F) -> watch::Receiver<Option<V>>
    where
        F: Future<Output = V> + Send + 'static,
    {
        let mut flights = self.flights.lock();
        if let Some(flight) = flights.get(&key) {
            return flight.clone();
        }
        let (send, receive) = watch::channel(None);
        flights.insert(key.clone(), receive.clone());
        drop(flights);
        let landing = Landing {
            key,
            flights: Arc::clone(&self.flights),
        };
        let work = work();
        tokio::spawn(async move {
            let value = work.await;
            // Off the board first: who comes after this must look at the result's effects, not at the flight.
            drop(landing);
            send.send_replace(Some(value));
        });
        receive
    }

    pub fn is_under_way(&self, key: &K) -> bool {
        self.flights.lock().contains_key(key)
    }

    pub fn under_way(&self) -> usize {
        self.flights.lock().len()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[tokio::test]
    async fn many_wait_for_one() {
        let flights = Arc::new(SingleFlight::<u32, usize>::default());
        let started = Arc::new(AtomicUsize::new(0));
        let gate = Arc::new(tokio::sync::Notify::new());
        let readers: Vec<_> = (0..16)
            .map(|_| {
                let (flights, started, gate) = (flights.clone(), started.clone(), gate.clone());
                tokio::spawn(async move {
                    flights
                        .run(7, || async move {
                            let nth = started.fetch_add(1, Ordering::SeqCst);
                            gate.notified().await;
                            nth
                        })
                        .await
                })
            })
            .collect();
        while started.load(Ordering::SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
        gate.notify_one();
        for reader in readers {
            assert_eq!(reader.await.expect("joined"), Some(0));
        }
        assert_eq!(started.load(Ordering::SeqCst), 1);
        assert_eq!(flights.under_way(), 0);
    }

    #[tokio::test]
    async fn a_dead_task_is_told_and_forgotten() {
        let flights = SingleFlight::<u32, u32>::default();
        let told = flights.run(1, || async { panic!("planted") }).await;
        assert_eq!(told, None);
        assert_eq!(flights.run(1, || async { 5 }).await, Some(5));
    }
}
