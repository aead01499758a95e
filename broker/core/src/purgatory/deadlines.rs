//! What is due when.

use std::collections::BTreeSet;

/// An ordered set of deadlines. Whoever schedules keeps the time, so that it can cancel.
#[derive(Clone, Debug)]
pub struct Deadlines<T> {
    due: BTreeSet<(i64, T)>,
}

impl<T: Ord + Clone> Deadlines<T> {
    pub fn new() -> Self {
        Self {
            due: BTreeSet::new(),
        }
    }

    pub fn schedule(&mut self, at_ms: i64, token: T) {
        self.due.insert((at_ms, token));
    }

    pub fn cancel(&mut self, at_ms: i64, token: &T) -> bool {
        self.due.remove(&(at_ms, token.clone()))
    }

    pub fn next(&self) -> Option<i64> {
        self.due.first().map(|(at, _)| *at)
    }

    /// Takes out one that is due at `now_ms`, earliest first.
    pub fn pop_due(&mut self, now_ms: i64) -> Option<(i64, T)> {
        if self.next()? > now_ms {
            return None;
        }
        self.due.pop_first()
    }

    pub fn len(&self) -> usize {
        self.due.len()
    }

    pub fn is_empty(&self) -> bool {
        self.due.is_empty()
    }

    pub fn clear(&mut self) {
        self.due.clear();
    }
}

impl<T: Ord + Clone> Default for Deadlines<T> {
    fn default() -> Self {
        Self::new()
    }
}
