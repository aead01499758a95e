//! Which logs of a directory have changed since somebody asked, so that nobody has to look at those that have not.
//!
//! A log enters itself once, after the change; whoever takes the list clears the log's mark first and looks at it then.
//! A change that comes meanwhile is either seen by that look or enters the log again. The fences make it so: one side
//! writes the value and then reads the mark, the other clears the mark and then reads the value.

use std::sync::atomic::{AtomicBool, Ordering, fence};

use parking_lot::Mutex;

use crate::types::TopicPartition;

#[derive(Debug, Default)]
pub(crate) struct Changes {
    logs: Mutex<Vec<TopicPartition>>,
}

impl Changes {
    pub fn take(&self) -> Vec<TopicPartition> {
        std::mem::take(&mut *self.logs.lock())
    }
}

/// A log's own mark.
#[derive(Debug, Default)]
pub(crate) struct ChangeMark(AtomicBool);

impl ChangeMark {
    /// Something was changed.
    pub fn set(&self, tp: &TopicPartition, changes: &Changes) {
        fence(Ordering::SeqCst);
        if !self.0.load(Ordering::Relaxed) && !self.0.swap(true, Ordering::SeqCst) {
            changes.logs.lock().push(tp.clone());
        }
    }

    /// Whoever took the list looks at the log now.
    pub fn clear(&self) {
        self.0.store(false, Ordering::SeqCst);
        fence(Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_is_entered_once_until_it_is_looked_at() {
        let (changes, mark) = (Changes::default(), ChangeMark::default());
        let tp = TopicPartition::new("t", 0);
        mark.set(&tp, &changes);
        mark.set(&tp, &changes);
        assert_eq!(changes.take(), std::slice::from_ref(&tp));
        mark.set(&tp, &changes);
        assert!(changes.take().is_empty(), "the mark is still there");
        mark.clear();
        mark.set(&tp, &changes);
        assert_eq!(changes.take(), [tp]);
    }
}
