//! What is due when, one deadline per key.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::purgatory::Deadlines;

/// What a deadline is for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TimerKey {
    /// A member's session, or a pending member's time to join.
    Session { group: Arc<str>, member: Arc<str> },
    /// The join phase.
    Join { group: Arc<str> },
    /// The sync phase.
    Sync { group: Arc<str> },
    /// The search for expired offsets.
    OffsetExpiration,
}

#[derive(Debug, Default)]
pub struct Timers {
    by_key: BTreeMap<TimerKey, i64>,
    due: Deadlines<TimerKey>,
}

impl Timers {
    /// Sets or moves a deadline. It is never now: time must pass before a tick handles it again.
    pub fn schedule(&mut self, now_ms: i64, delay_ms: i64, key: TimerKey) {
        let at_ms = now_ms.saturating_add(delay_ms.max(1));
        if let Some(old) = self.by_key.insert(key.clone(), at_ms) {
            self.due.cancel(old, &key);
        }
        self.due.schedule(at_ms, key);
    }

    pub fn cancel(&mut self, key: &TimerKey) {
        if let Some(at_ms) = self.by_key.remove(key) {
            self.due.cancel(at_ms, key);
        }
    }

    pub fn pop_due(&mut self, now_ms: i64) -> Option<TimerKey> {
        let (_, key) = self.due.pop_due(now_ms)?;
        self.by_key.remove(&key);
        Some(key)
    }

    pub fn next(&self) -> Option<i64> {
        self.due.next()
    }

    pub fn clear(&mut self) {
        self.by_key.clear();
        self.due.clear();
    }
}
