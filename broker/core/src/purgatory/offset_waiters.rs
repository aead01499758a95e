//! One partition's waiters, ordered by the offset they wait for.

use std::collections::BTreeSet;

use strandline_log::types::Offset;

/// Tokens that wait for an offset to be reached. A token may wait for several offsets.
#[derive(Clone, Debug)]
pub struct OffsetWaiters<T> {
    waiting: BTreeSet<(Offset, T)>,
}

impl<T: Ord + Clone> OffsetWaiters<T> {
    pub fn new() -> Self {
        Self {
            waiting: BTreeSet::new(),
        }
    }

    pub fn add(&mut self, required_offset: Offset, token: T) {
        self.waiting.insert((required_offset, token));
    }

    /// True when it was waiting.
    pub fn cancel(&mut self, required_offset: Offset, token: &T) -> bool {
        self.waiting.remove(&(required_offset, token.clone()))
    }

    /// Takes out everyone whose offset is reached, lowest offset first. Costs what it returns.
    pub fn advance(&mut self, reached: Offset) -> Vec<T> {
        let mut done = Vec::new();
        while let Some(first) = self.waiting.first() {
            if first.0 > reached {
                break;
            }
            done.extend(self.waiting.pop_first().map(|(_, token)| token));
        }
        done
    }

    /// Takes out everyone: leadership moved, or the partition is gone.
    pub fn drain(&mut self) -> Vec<T> {
        std::mem::take(&mut self.waiting)
            .into_iter()
            .map(|(_, token)| token)
            .collect()
    }

    /// The lowest offset that anyone waits for.
    pub fn next_offset(&self) -> Option<Offset> {
        self.waiting.first().map(|(offset, _)| *offset)
    }

    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}

impl<T: Ord + Clone> Default for OffsetWaiters<T> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_advance_takes_what_is_reached_in_order() {
        let mut w = OffsetWaiters::new();
        for (offset, token) in [(10, 'b'), (5, 'a'), (10, 'c'), (11, 'd')] {
            w.add(offset, token);
        }
        assert!(w.cancel(10, &'c'));
        assert!(!w.cancel(10, &'c'));
        assert_eq!(w.advance(4), vec![]);
        assert_eq!(w.advance(10), vec!['a', 'b']);
        assert_eq!(w.next_offset(), Some(11));
        assert_eq!(w.drain(), vec!['d']);
        assert!(w.is_empty());
    }

    proptest! {
        /// However the offset moves, everyone completes once, when and not before it is reached.
        #[test]
        fn each_completes_once(required in prop::collection::vec(0i64..100, 0..40), steps in prop::collection::vec(0i64..120, 0..10)) {
            let mut w = OffsetWaiters::new();
            for (token, offset) in required.iter().enumerate() {
                w.add(*offset, token);
            }
            let mut done = Vec::new();
            let mut reached = -1;
            for step in steps {
                reached = reached.max(step);
                for token in w.advance(step) {
                    prop_assert!(required[token] <= step);
                    done.push(token);
                }
                prop_assert_eq!(done.len(), required.iter().filter(|offset| **offset <= reached).count());
            }
            done.extend(w.drain());
            done.sort_unstable();
            prop_assert_eq!(done, (0..required.len()).collect::<Vec<_>>());
        }
    }
}
