//! DelayedFetch: a fetch waits until enough bytes are there, something else changed, or its time is up.

use std::collections::{BTreeMap, BTreeSet};

use super::Deadlines;

/// A fetch that found fewer bytes than it asked for.
#[derive(Clone, Debug)]
pub struct WaitingFetch<K> {
    pub token: u64,
    pub deadline_ms: i64,
    /// How much is still missing to min.bytes.
    pub bytes_missing: u64,
    /// The partitions to watch. A fetch with a session watches none: its session's marks call
    /// [`FetchPurgatory::arrived`].
    pub partitions: Vec<K>,
}

#[derive(Debug)]
struct Waiting<K> {
    deadline_ms: i64,
    bytes_missing: u64,
    partitions: Vec<K>,
}

/// All delayed fetches of a broker, or of one of its shards. A completed token is to be read again: the bytes counted here
/// say that it is worth it, not what the answer holds.
#[derive(Debug)]
pub struct FetchPurgatory<K> {
    waiting: BTreeMap<u64, Waiting<K>>,
    watchers: BTreeMap<K, BTreeSet<u64>>,
    deadlines: Deadlines<u64>,
}

impl<K: Ord + Clone> FetchPurgatory<K> {
    pub fn new() -> Self {
        Self {
            waiting: BTreeMap::new(),
            watchers: BTreeMap::new(),
            deadlines: Deadlines::new(),
        }
    }

    pub fn watch(&mut self, fetch: WaitingFetch<K>) {
        for key in &fetch.partitions {
            self.watchers
                .entry(key.clone())
                .or_default()
                .insert(fetch.token);
        }
        self.deadlines.schedule(fetch.deadline_ms, fetch.token);
        self.waiting.insert(
            fetch.token,
            Waiting {
                deadline_ms: fetch.deadline_ms,
                bytes_missing: fetch.bytes_missing,
                partitions: fetch.partitions,
            },
        );
    }

    /// `bytes` became readable in the partition. Costs the partition's watchers, each of whom gets these bytes.
    pub fn on_bytes(&mut self, key: &K, bytes: u64) -> Vec<u64> {
        let Some(watchers) = self.watchers.get(key) else {
            return Vec::new();
        };
        let mut done = Vec::new();
        for token in watchers {
            if let Some(waiting) = self.waiting.get_mut(token) {
                waiting.bytes_missing = waiting.bytes_missing.saturating_sub(bytes);
                if waiting.bytes_missing == 0 {
                    done.push(*token);
                }
            }
        }
        done.retain(|token| self.cancel(*token));
        done
    }

    /// `bytes` became readable for this fetch. True when it is complete now.
    pub fn arrived(&mut self, token: u64, bytes: u64) -> bool {
        let Some(waiting) = self.waiting.get_mut(&token) else {
            return false;
        };
        waiting.bytes_missing = waiting.bytes_missing.saturating_sub(bytes);
        waiting.bytes_missing == 0 && self.cancel(token)
    }

    /// Something that must be told at once: leadership moved, the log was truncated, the partition is gone.
    pub fn wake(&mut self, key: &K) -> Vec<u64> {
        let tokens: Vec<u64> = self
            .watchers
            .get(key)
            .into_iter()
            .flatten()
            .copied()
            .collect();
        for token in &tokens {
            self.cancel(*token);
        }
        tokens
    }

    /// Takes out what is due.
    pub fn expire(&mut self, now_ms: i64) -> Vec<u64> {
        let mut done = Vec::new();
        while let Some((_, token)) = self.deadlines.pop_due(now_ms) {
            if self.cancel(token) {
                done.push(token);
            }
        }
        done
    }

    /// True when it was waiting.
    pub fn cancel(&mut self, token: u64) -> bool {
        let Some(waiting) = self.waiting.remove(&token) else {
            return false;
        };
        self.deadlines.cancel(waiting.deadline_ms, &token);
        for key in &waiting.partitions {
            if let Some(watchers) = self.watchers.get_mut(key) {
                watchers.remove(&token);
                if watchers.is_empty() {
                    self.watchers.remove(key);
                }
            }
        }
        true
    }

    pub fn next_deadline(&self) -> Option<i64> {
        self.deadlines.next()
    }

    /// Fetches that wait: Kafka's PurgatorySize.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}

impl<K: Ord + Clone> Default for FetchPurgatory<K> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fetch(
        token: u64,
        bytes_missing: u64,
        partitions: &[&'static str],
    ) -> WaitingFetch<&'static str> {
        WaitingFetch {
            token,
            deadline_ms: 100 + token as i64,
            bytes_missing,
            partitions: partitions.to_vec(),
        }
    }

    #[test]
    fn bytes_of_all_watched_partitions_count() {
        let mut p = FetchPurgatory::new();
        p.watch(fetch(1, 100, &["a", "b"]));
        p.watch(fetch(2, 1, &["a"]));
        assert_eq!(p.on_bytes(&"a", 60), vec![2]);
        assert_eq!(p.on_bytes(&"c", 60), Vec::<u64>::new());
        assert_eq!(p.on_bytes(&"b", 40), vec![1]);
        assert!(p.is_empty() && p.watchers.is_empty() && p.deadlines.is_empty());
    }

    #[test]
    fn a_session_fetch_is_told_directly() {
        let mut p: FetchPurgatory<&str> = FetchPurgatory::new();
        p.watch(fetch(1, 10, &[]));
        assert!(!p.arrived(1, 9));
        assert!(p.arrived(1, 1));
        assert!(!p.arrived(1, 1));
    }

    #[test]
    fn deadlines_wakes_and_cancellations_take_out_once() {
        let mut p = FetchPurgatory::new();
        for token in 1..=3 {
            p.watch(fetch(token, 10, &["a"]));
        }
        assert_eq!(p.expire(101), vec![1]);
        assert!(p.cancel(2));
        assert_eq!(p.wake(&"a"), vec![3]);
        assert_eq!(p.expire(1_000), Vec::<u64>::new());
        assert_eq!(p.next_deadline(), None);
    }
}
