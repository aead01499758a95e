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
