//! What is to be removed from the store later: objects that no manifest names any more, and deleted topics.
//!
//! Always: an object is queued only after the edit that stopped naming it, and waits remote.log.delete.delay.ms, so that
//! reads under way end in peace. The queue is in memory and bounded: what a crash or its limit loses is an orphan, which
//! a sweep finds. Deleted topics are kept in a journal beside the data, then by a note in the bucket, until they are gone.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use strandline_log::{TimestampMs, TopicId};
use tokio::sync::Notify;

const REMOVALS_MAX: usize = 200_000;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    Object {
        key: String,
    },
    /// Hides a deleted topic. `again`: nothing of it was there when it was looked at first.
    Topic {
        topic_id: TopicId,
        partitions: i32,
        again: bool,
    },
    /// All objects of a topic that was hidden long enough.
    Purge {
        topic_id: TopicId,
        partitions: i32,
    },
    /// Looks for topics that were hidden by a process that died since.
    Notes,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Removal {
    pub topic: Arc<str>,
    pub what: What,
    pub failures: u32,
}

impl Removal {
    pub fn new(topic: &Arc<str>, what: What) -> Self {
        Self {
            topic: Arc::clone(topic),
            what,
            failures: 0,
        }
    }
}

#[derive(Default)]
struct Queue {
    turns: u64,
    removals: BTreeMap<(TimestampMs, u64), Removal>,
}

#[derive(Default)]
pub struct Garbage {
    queue: Mutex<Queue>,
    changed: Notify,
}

impl Garbage {
    /// Queues a removal; false when the queue is full.
    pub fn push(&self, removal: Removal, due_ms: TimestampMs) -> bool {
        let mut queue = self.queue.lock();
        if queue.removals.len() >= REMOVALS_MAX {
            return false;
        }
        queue.turns += 1;
        let turn = queue.turns;
        queue.removals.insert((due_ms, turn), removal);
        drop(queue);
        self.changed.notify_one();
        true
    }

    /// The next removal that is due, else when one will be.
    pub fn pop(&self, now_ms: TimestampMs) -> Result<Removal, Option<TimestampMs>> {
        let mut queue = self.queue.lock();
        match queue
            .removals
            .first_key_value()
            .map(|((due_ms, _), _)| *due_ms)
        {
            Some(due_ms) if due_ms <= now_ms => queue
                .removals
                .pop_first()
                .map(|(_, removal)| removal)
                .ok_or(None),
            later => Err(later),
        }
    }

    /// Removals that wait.
    pub fn waiting(&self) -> usize {
        self.queue.lock().removals.len()
    }

    /// Returns after the next [`push`](Self::push).
    pub async fn changed(&self) {
        self.changed.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn removals_wait_for_their_time_and_keep_their_order() {
        let garbage = Garbage::default();
        let removal = |key: &str| {
            let key = key.to_owned();
            Removal::new(&Arc::from("topic"), What::Object { key })
        };
        assert_eq!(garbage.pop(0), Err(None));
        garbage.push(removal("b"), 20);
        garbage.push(removal("a1"), 10);
        garbage.push(removal("a2"), 10);
        assert_eq!(garbage.pop(9), Err(Some(10)));
        assert_eq!(garbage.pop(10), Ok(removal("a1")));
        assert_eq!(garbage.pop(10), Ok(removal("a2")));
        assert_eq!(garbage.pop(10), Err(Some(20)));
        assert_eq!(garbage.waiting(), 1);
    }
}
