//! What of a directory's logs is not on disk yet: how many bytes, in which logs, and until when they may wait.
//!
//! Logs enter themselves here when they are appended to; the directory's flusher asks what to do and sleeps in between.
//! Nothing here walks all logs: the flusher sees those that were written to since it looked last.
//! Holds no file and syncs nothing.

use std::collections::{BTreeSet, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use crate::types::{TimestampMs, TopicPartition};

#[derive(Debug, Default)]
pub struct Unflushed {
    bytes: AtomicU64,
    /// The flusher is woken when the bytes pass this; 0: never.
    wake_at: AtomicU64,
    state: Mutex<State>,
    woken: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Logs that were appended to. May hold some that were synced since.
    dirty: HashSet<TopicPartition>,
    /// Logs with sealed segments that are not synced.
    sealed: HashSet<TopicPartition>,
    /// When the records of logs with `flush.ms` must be on disk.
    deadlines: BTreeSet<(TimestampMs, TopicPartition)>,
    wake: bool,
}

impl Unflushed {
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    pub fn set_wake_at(&self, bytes: u64) {
        self.wake_at.store(bytes, Ordering::Relaxed);
    }

    pub(crate) fn add(&self, bytes: u64) {
        let before = self.bytes.fetch_add(bytes, Ordering::Relaxed);
        let wake_at = self.wake_at.load(Ordering::Relaxed);
        if wake_at > 0 && before < wake_at && before + bytes >= wake_at {
            self.wake();
        }
    }

    pub(crate) fn subtract(&self, bytes: u64) {
        let fewer = |now: u64| Some(now.saturating_sub(bytes));
        // It always has a next value.
        let _ = self
            .bytes
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, fewer);
    }

    pub(crate) fn enter(&self, tp: &TopicPartition) {
        self.state.lock().dirty.insert(tp.clone());
    }

    pub(crate) fn leave(&self, tp: &TopicPartition) {
        self.state.lock().dirty.remove(tp);
    }

    pub(crate) fn enter_sealed(&self, tp: &TopicPartition) {
        let mut state = self.state.lock();
        state.sealed.insert(tp.clone());
        state.wake = true;
        drop(state);
        self.woken.notify_one();
    }

    pub(crate) fn enter_deadline(&self, tp: &TopicPartition, at_ms: TimestampMs) {
        let mut state = self.state.lock();
        state.deadlines.insert((at_ms, tp.clone()));
        if state
            .deadlines
            .first()
            .is_some_and(|(first, _)| *first == at_ms)
        {
            state.wake = true;
            drop(state);
            self.woken.notify_one();
        }
    }

    /// The logs that were appended to.
    pub(crate) fn dirty(&self) -> Vec<TopicPartition> {
        self.state.lock().dirty.iter().cloned().collect()
    }

    pub(crate) fn take_sealed(&self) -> HashSet<TopicPartition> {
        std::mem::take(&mut self.state.lock().sealed)
    }

    /// The logs whose deadline is over.
    pub(crate) fn take_due(&self, now_ms: TimestampMs) -> Vec<TopicPartition> {
        let mut state = self.state.lock();
        let mut due = Vec::new();
        while state.deadlines.first().is_some_and(|(at, _)| *at <= now_ms)
            && let Some((_, tp)) = state.deadlines.pop_first()
        {
            due.push(tp);
        }
        due
    }

    /// When the next deadline is.
    pub fn next_deadline_ms(&self) -> Option<TimestampMs> {
        self.state.lock().deadlines.first().map(|(at, _)| *at)
    }

    /// Sleeps until there may be something to do, at most `patience`.
    pub fn wait(&self, patience: Duration) {
        let mut state = self.state.lock();
        if !state.wake {
            // A timeout is as good as a call.
            let _ = self.woken.wait_for(&mut state, patience);
        }
        state.wake = false;
    }

    /// Ends a wait, or the next one.
    pub fn wake(&self) {
        self.state.lock().wake = true;
        self.woken.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tp(partition: i32) -> TopicPartition {
        TopicPartition::new("t", partition)
    }

    #[test]
    fn deadlines_come_in_order_and_only_when_due() {
        let unflushed = Unflushed::default();
        for (partition, at) in [(1, 30), (2, 10), (3, 20)] {
            unflushed.enter_deadline(&tp(partition), at);
        }
        assert_eq!(unflushed.next_deadline_ms(), Some(10));
        assert_eq!(unflushed.take_due(9), []);
        assert_eq!(unflushed.take_due(20), [tp(2), tp(3)]);
        assert_eq!(unflushed.next_deadline_ms(), Some(30));
    }

    #[test]
    fn passing_the_mark_wakes_once() {
        let unflushed = Unflushed::default();
        unflushed.set_wake_at(100);
        unflushed.add(99);
        assert!(!unflushed.state.lock().wake);
        unflushed.add(1);
        assert!(unflushed.state.lock().wake);
        unflushed.wait(Duration::ZERO);
        unflushed.add(50);
        assert!(!unflushed.state.lock().wake, "it is above already");
        unflushed.subtract(1_000);
        assert_eq!(unflushed.bytes(), 0);
    }
}
