//! Long polls: who is to be told when a partition's high watermark, log start or leadership moves.
//!
//! A watch ties a partition to a slot of one waiting fetch or fetch session. A change marks the slot once, however
//! often it repeats, so an answer costs what changed. The waiter counts down the bytes that its fetch lacks; the append
//! that brings the last of them wakes it, so a fetch with a large `min_bytes` costs a subtraction per append and no
//! read. Nothing polls, nothing times out here: the fetch itself holds its deadline.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use parking_lot::Mutex;
use tokio::sync::Notify;

/// One waiting fetch or session, shared by all the partitions that it watches.
pub struct FetchWaiter {
    /// `i64::MAX` while nobody waits: then appends only mark.
    bytes_missing: AtomicI64,
    notify: Notify,
    dirty: Mutex<Vec<Arc<Watch>>>,
}

/// A partition's tie to a slot of a waiter.
pub struct Watch {
    waiter: Arc<FetchWaiter>,
    slot: u32,
    marked: AtomicBool,
}

impl FetchWaiter {
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            bytes_missing: AtomicI64::new(i64::MAX),
            notify: Notify::new(),
            dirty: Mutex::new(Vec::new()),
        })
    }

    /// The slots whose partitions changed since the last call.
    pub fn take_dirty(&self) -> Vec<u32> {
        let dirty = std::mem::take(&mut *self.dirty.lock());
        // Unmarked before the caller looks at the partition: a change during the look marks it again.
        dirty
            .into_iter()
            .map(|watch| {
                watch.marked.store(false, Ordering::Release);
                watch.slot
            })
            .collect()
    }

    /// Begins to count down. False when something has changed since the last `take_dirty`: look again first.
    pub fn arm(&self, bytes_missing: usize) -> bool {
        let bytes = i64::try_from(bytes_missing).unwrap_or(i64::MAX - 1);
        self.bytes_missing.store(bytes, Ordering::Release);
        self.dirty.lock().is_empty()
    }

    pub fn disarm(&self) {
        self.bytes_missing.store(i64::MAX, Ordering::Release);
    }

    /// May wake without a cause; the fetch looks again then.
    pub async fn woken(&self) {
        self.notify.notified().await;
    }
}

impl Watch {
    fn mark(self: &Arc<Self>) {
        if !self.marked.swap(true, Ordering::AcqRel) {
            self.waiter.dirty.lock().push(Arc::clone(self));
        }
    }

    fn add_bytes(self: &Arc<Self>, bytes: usize) {
        self.mark();
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        let before = self.waiter.bytes_missing.fetch_sub(bytes, Ordering::AcqRel);
        if before <= bytes {
            self.waiter.notify.notify_one();
        }
    }

    fn change(self: &Arc<Self>) {
        self.mark();
        self.waiter.notify.notify_one();
    }
}

/// The watches of one partition.
#[derive(Default)]
pub struct FetchWaiters(Mutex<Registered>);

#[derive(Default)]
struct Registered {
    next_id: u64,
    by_id: HashMap<u64, Arc<Watch>>,
}

impl FetchWaiters {
    pub fn register(&self, waiter: &Arc<FetchWaiter>, slot: u32) -> u64 {
        let mut registered = self.0.lock();
        let id = registered.next_id;
        registered.next_id += 1;
        let watch = Watch {
            waiter: Arc::clone(waiter),
            slot,
            marked: AtomicBool::new(false),
        };
        registered.by_id.insert(id, Arc::new(watch));
        id
    }

    pub fn deregister(&self, id: u64) {
        let mut registered = self.0.lock();
        registered.by_id.remove(&id);
        if registered.by_id.is_empty() {
            // An idle partition keeps no table.
            registered.by_id = HashMap::new();
        }
    }

    /// The high watermark moved past this many bytes.
    pub fn add_bytes(&self, bytes: usize) {
        for watch in self.0.lock().by_id.values() {
            watch.add_bytes(bytes);
        }
    }

    /// The log start moved: a session reports it with its next answer, nobody is woken for it.
    pub fn mark_all(&self) {
        for watch in self.0.lock().by_id.values() {
            watch.mark();
        }
    }

    /// The leadership or the partition's existence changed: every fetch is answered now.
    pub fn wake_all(&self) {
        for watch in self.0.lock().by_id.values() {
            watch.change();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_woken(waiter: &FetchWaiter) -> bool {
        let mut woken = std::pin::pin!(waiter.woken());
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        Future::poll(woken.as_mut(), &mut context).is_ready()
    }

    #[test]
    fn the_append_that_brings_the_last_missing_byte_wakes() {
        let waiters = FetchWaiters::default();
        let waiter = FetchWaiter::new();
        let id = waiters.register(&waiter, 7);
        assert!(waiter.arm(100));
        waiters.add_bytes(60);
        assert!(!is_woken(&waiter));
        waiters.add_bytes(40);
        assert!(is_woken(&waiter));
        assert_eq!(waiter.take_dirty(), [7]);
        waiters.deregister(id);
        waiters.wake_all();
        assert!(!is_woken(&waiter));
    }

    #[test]
    fn a_change_that_is_no_append_wakes_whatever_is_missing() {
        let waiters = FetchWaiters::default();
        let waiter = FetchWaiter::new();
        waiters.register(&waiter, 0);
        assert!(waiter.arm(1 << 30));
        waiters.wake_all();
        assert!(is_woken(&waiter));
    }

    #[test]
    fn an_append_between_the_look_and_the_wait_is_not_missed() {
        let waiters = FetchWaiters::default();
        let waiter = FetchWaiter::new();
        waiters.register(&waiter, 3);
        assert!(waiter.take_dirty().is_empty());
        waiters.add_bytes(1);
        waiters.add_bytes(1);
        assert!(!waiter.arm(1));
        assert_eq!(waiter.take_dirty(), [3]);
        assert!(waiter.arm(1));
    }

    #[test]
    fn nobody_is_woken_who_does_not_wait() {
        let waiters = FetchWaiters::default();
        let waiter = FetchWaiter::new();
        waiters.register(&waiter, 3);
        waiters.add_bytes(1 << 20);
        assert!(!is_woken(&waiter));
    }
}
