//! Which chunks stay: 2Q, an order that one pass over history does not disturb.
//!
//! 1. A new key goes to probation, a plain FIFO. Reads while it is there change nothing: a scan reads each chunk a few
//!    times in a row and never again.
//! 2. A key that falls out of probation is remembered for a while as a ghost, without its bytes.
//! 3. A ghost that comes back has proved itself: it goes to the protected queue, which is least recently used first.
//! 4. Room is made in probation while that holds more than a quarter of the limit, else in the protected queue.
//!
//! Always: the bytes of all keys stay at or below the limit, unless a single key is larger than it. Does no IO; the owner
//! deletes what [`TwoQueue::insert`] returns.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;

/// Probation may always hold this part of the limit.
const PROBATION_SHARE: u64 = 4;
/// Ghosts are remembered for as many bytes as this part of the limit.
const GHOST_SHARE: u64 = 2;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Queue {
    Probation,
    Protected,
}

#[derive(Debug)]
struct Place {
    queue: Queue,
    turn: u64,
    bytes: u64,
}

#[derive(Debug)]
pub struct TwoQueue<K> {
    bytes_max: u64,
    turn: u64,
    places: HashMap<K, Place>,
    probation: BTreeMap<u64, K>,
    probation_bytes: u64,
    protected: BTreeMap<u64, K>,
    protected_bytes: u64,
    ghosts: BTreeMap<u64, K>,
    ghost_places: HashMap<K, (u64, u64)>,
    ghost_bytes: u64,
}

impl<K: Clone + Eq + Hash> TwoQueue<K> {
    pub fn new(bytes_max: u64) -> Self {
        Self {
            bytes_max,
            turn: 0,
            places: HashMap::new(),
            probation: BTreeMap::new(),
            probation_bytes: 0,
            protected: BTreeMap::new(),
            protected_bytes: 0,
            ghosts: BTreeMap::new(),
            ghost_places: HashMap::new(),
            ghost_bytes: 0,
        }
    }

    pub fn bytes(&self) -> u64 {
        self.probation_bytes + self.protected_bytes
    }

    pub fn len(&self) -> usize {
        self.places.len()
    }

    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    pub fn contains(&self, key: &K) -> bool {
        self.places.contains_key(key)
    }

    /// Adds a key and returns those that must go. A key that is there already only counts as read.
    pub fn insert(&mut self, key: K, bytes: u64) -> Vec<K> {
        if self.contains(&key) {
            self.touch(&key);
            return Vec::new();
        }
        let returned = self.forget_ghost(&key);
        let evicted = self.make_room(bytes);
        self.turn += 1;
        let queue = if returned {
            self.protected.insert(self.turn, key.clone());
            self.protected_bytes += bytes;
            Queue::Protected
        } else {
            self.probation.insert(self.turn, key.clone());
            self.probation_bytes += bytes;
            Queue::Probation
        };
        let turn = self.turn;
        self.places.insert(key, Place { queue, turn, bytes });
        evicted
    }

    /// Notes a read.
    pub fn touch(&mut self, key: &K) {
        let Some(place) = self.places.get_mut(key) else {
            return;
        };
        if place.queue == Queue::Protected {
            self.turn += 1;
            self.protected.remove(&place.turn);
            place.turn = self.turn;
            self.protected.insert(self.turn, key.clone());
        }
    }

    /// Drops a key without a ghost: its bytes are gone or wrong.
    pub fn remove(&mut self, key: &K) -> bool {
        let Some(place) = self.places.remove(key) else {
            return false;
        };
        self.unlink(&place);
        true
    }

    fn unlink(&mut self, place: &Place) {
        match place.queue {
            Queue::Probation => {
                self.probation.remove(&place.turn);
                self.probation_bytes -= place.bytes;
            }
            Queue::Protected => {
                self.protected.remove(&place.turn);
                self.protected_bytes -= place.bytes;
            }
        }
    }

    fn make_room(&mut self, bytes: u64) -> Vec<K> {
        let mut evicted = Vec::new();
        while self.bytes() + bytes > self.bytes_max {
            let from_probation = self.probation_bytes > self.bytes_max / PROBATION_SHARE
                || self.protected.is_empty();
            let oldest = if from_probation {
                self.probation.values().next().cloned()
            } else {
                self.protected.values().next().cloned()
            };
            let Some(key) = oldest else { break };
            let Some(place) = self.places.remove(&key) else {
                break;
            };
            self.unlink(&place);
            if place.queue == Queue::Probation {
                self.remember_ghost(key.clone(), place.bytes);
            }
            evicted.push(key);
        }
        evicted
    }

    fn remember_ghost(&mut self, key: K, bytes: u64) {
        self.turn += 1;
        self.ghosts.insert(self.turn, key.clone());
        self.ghost_places.insert(key, (self.turn, bytes));
        self.ghost_bytes += bytes;
        while self.ghost_bytes > self.bytes_max / GHOST_SHARE {
            let Some((_, oldest)) = self.ghosts.pop_first() else {
                break;
            };
            if let Some((_, bytes)) = self.ghost_places.remove(&oldest) {
                self.ghost_bytes -= bytes;
            }
        }
    }

    fn forget_ghost(&mut self, key: &K) -> bool {
        let Some((turn, bytes)) = self.ghost_places.remove(key) else {
            return false;
        };
        self.ghosts.remove(&turn);
        self.ghost_bytes -= bytes;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_holds_for_any_sequence() {
        let mut queue = TwoQueue::new(100);
        for step in 0u64..10_000 {
            // A fixed mixing of the step stands in for a random sequence.
            let mixed = step.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
            let key = mixed % 50;
            if mixed % 7 == 0 {
                queue.remove(&key);
            } else {
                queue.insert(key, 1 + mixed % 20);
            }
            assert!(queue.bytes() <= 100, "step {step}");
            assert_eq!(queue.is_empty(), queue.bytes() == 0);
        }
    }

    #[test]
    fn a_scan_leaves_what_proved_itself() {
        let mut queue = TwoQueue::new(10);
        for key in 0..10 {
            queue.insert(key, 1);
        }
        // 0 to 4 fall out and come back: they are protected now.
        for key in 100..105 {
            queue.insert(key, 1);
        }
        for key in 0..5 {
            assert!(!queue.contains(&key));
            queue.insert(key, 1);
        }
        for key in 1_000..2_000 {
            queue.insert(key, 1);
            queue.touch(&key);
            queue.touch(&key);
        }
        for key in 0..5 {
            assert!(queue.contains(&key), "{key} was pushed out by a scan");
        }
    }

    #[test]
    fn what_was_inserted_last_is_never_evicted_by_itself() {
        let mut queue = TwoQueue::new(10);
        assert!(queue.insert("large", 20).is_empty());
        assert!(queue.contains(&"large"));
        assert_eq!(queue.insert("next", 1), vec!["large"]);
    }
}
