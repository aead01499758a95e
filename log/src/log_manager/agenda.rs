//! When a kind of upkeep has to look at which log: those that changed, and those whose time has come.
//!
//! One that is idle is looked at when something of it falls due, and never before.

use std::collections::{BTreeSet, HashMap, HashSet};

use crate::types::{TimestampMs, TopicPartition};

#[derive(Debug, Default)]
pub(super) struct Agenda {
    changed: HashSet<TopicPartition>,
    due: BTreeSet<(TimestampMs, TopicPartition)>,
    due_of: HashMap<TopicPartition, TimestampMs>,
}

impl Agenda {
    pub fn note_changed(&mut self, tp: &TopicPartition) {
        if !self.changed.contains(tp) {
            self.changed.insert(tp.clone());
        }
    }

    /// All that are to be looked at now. They are entered again by [`Self::set_due`].
    pub fn take(&mut self, now_ms: TimestampMs) -> Vec<TopicPartition> {
        let mut taken = std::mem::take(&mut self.changed);
        while self.due.first().is_some_and(|(at, _)| *at <= now_ms)
            && let Some((_, tp)) = self.due.pop_first()
        {
            self.due_of.remove(&tp);
            taken.insert(tp);
        }
        let mut taken: Vec<_> = taken.into_iter().collect();
        taken.sort_unstable();
        taken
    }

    /// Unless it changes, nothing has to be done with it before `at_ms`; `None`: ever.
    pub fn set_due(&mut self, tp: &TopicPartition, at_ms: Option<TimestampMs>) {
        if let Some(before) = self.due_of.remove(tp) {
            self.due.remove(&(before, tp.clone()));
        }
        if let Some(at_ms) = at_ms {
            self.due_of.insert(tp.clone(), at_ms);
            self.due.insert((at_ms, tp.clone()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_log_is_taken_when_it_is_due_and_once() {
        let tp = |n| TopicPartition::new("t", n);
        let mut agenda = Agenda::default();
        (0..100).for_each(|n| agenda.note_changed(&tp(n)));
        assert_eq!(agenda.take(0).len(), 100);
        agenda.set_due(&tp(1), Some(50));
        agenda.set_due(&tp(2), Some(40));
        agenda.set_due(&tp(2), Some(60));
        agenda.set_due(&tp(3), Some(50));
        agenda.set_due(&tp(3), None);
        assert!(agenda.take(49).is_empty());
        assert_eq!(agenda.take(50), [tp(1)]);
        agenda.note_changed(&tp(2));
        assert_eq!(agenda.take(60), [tp(2)]);
        assert!(agenda.take(i64::MAX).is_empty());
    }
}
