//! DelayedProduce: acks=all waits until the high watermark covers what was appended, in every partition of the request.

use std::collections::BTreeMap;

use kafka_protocol::ResponseError as KafkaError;
use strandline_log::types::Offset;

use super::{Deadlines, OffsetWaiters};

/// A produce request that waits.
#[derive(Clone, Debug)]
pub struct ProduceWait<K> {
    pub token: u64,
    pub deadline_ms: i64,
    /// Each partition that was appended to, once, and the offset that its high watermark must reach.
    pub partitions: Vec<(K, Offset)>,
}

/// How a produce request ended, partitions in the request's order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProduceOutcome<K> {
    pub token: u64,
    pub partitions: Vec<(K, Result<(), KafkaError>)>,
}

#[derive(Debug)]
struct Waiting<K> {
    deadline_ms: i64,
    open: usize,
    partitions: Vec<Part<K>>,
}

#[derive(Debug)]
struct Part<K> {
    key: K,
    required_offset: Offset,
    result: Option<Result<(), KafkaError>>,
}

/// All delayed produce requests of a broker, or of one of its shards.
#[derive(Debug)]
pub struct ProducePurgatory<K> {
    waiting: BTreeMap<u64, Waiting<K>>,
    /// The waiter's token and the place of the partition in its request.
    partitions: BTreeMap<K, OffsetWaiters<(u64, usize)>>,
    deadlines: Deadlines<u64>,
}

impl<K: Ord + Clone> ProducePurgatory<K> {
    pub fn new() -> Self {
        Self {
            waiting: BTreeMap::new(),
            partitions: BTreeMap::new(),
            deadlines: Deadlines::new(),
        }
    }

    /// Begins to wait. A request that waits for no partition ends at once.
    #[must_use]
    pub fn watch(&mut self, wait: ProduceWait<K>) -> Option<ProduceOutcome<K>> {
        if wait.partitions.is_empty() {
            return Some(ProduceOutcome {
                token: wait.token,
                partitions: Vec::new(),
            });
        }
        for (index, (key, required)) in wait.partitions.iter().enumerate() {
            self.partitions
                .entry(key.clone())
                .or_default()
                .add(*required, (wait.token, index));
        }
        self.deadlines.schedule(wait.deadline_ms, wait.token);
        let partitions: Vec<_> = wait
            .partitions
            .into_iter()
            .map(|(key, required_offset)| Part {
                key,
                required_offset,
                result: None,
            })
            .collect();
        self.waiting.insert(
            wait.token,
            Waiting {
                deadline_ms: wait.deadline_ms,
                open: partitions.len(),
                partitions,
            },
        );
        None
    }

    /// The partition's high watermark reached an offset; `result` is what those below it are told (too few replicas may
    /// be in sync by now).
    pub fn advance(
        &mut self,
        key: &K,
        high_watermark: Offset,
        result: Result<(), KafkaError>,
    ) -> Vec<ProduceOutcome<K>> {
        let Some(waiters) = self.partitions.get_mut(key) else {
            return Vec::new();
        };
        let reached = waiters.advance(high_watermark);
        if waiters.is_empty() {
            self.partitions.remove(key);
        }
        self.settle(reached, result)
    }

    /// Everyone who waits for the partition is told the error: it is no longer led here.
    pub fn fail(&mut self, key: &K, error: KafkaError) -> Vec<ProduceOutcome<K>> {
        let reached = self
            .partitions
            .remove(key)
            .map(|mut waiters| waiters.drain())
            .unwrap_or_default();
        self.settle(reached, Err(error))
    }

    /// Ends what is due: partitions that did not get there in time are REQUEST_TIMED_OUT.
    pub fn expire(&mut self, now_ms: i64) -> Vec<ProduceOutcome<K>> {
        let mut outcomes = Vec::new();
        while let Some((_, token)) = self.deadlines.pop_due(now_ms) {
            outcomes.extend(self.end(token, KafkaError::RequestTimedOut));
        }
        outcomes
    }

    /// Forgets a request whose connection is gone. True when it was waiting.
    pub fn cancel(&mut self, token: u64) -> bool {
        self.end(token, KafkaError::NetworkException).is_some()
    }

    pub fn next_deadline(&self) -> Option<i64> {
        self.deadlines.next()
    }

    /// Requests that wait: Kafka's PurgatorySize.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    fn settle(
        &mut self,
        reached: Vec<(u64, usize)>,
        result: Result<(), KafkaError>,
    ) -> Vec<ProduceOutcome<K>> {
        let mut outcomes = Vec::new();
        for (token, index) in reached {
            let Some(waiting) = self.waiting.get_mut(&token) else {
                continue;
            };
            waiting.partitions[index].result = Some(result);
            waiting.open -= 1;
            if waiting.open == 0 {
                outcomes.extend(self.end(token, KafkaError::RequestTimedOut));
            }
        }
        outcomes
    }

    fn end(&mut self, token: u64, unfinished: KafkaError) -> Option<ProduceOutcome<K>> {
        let waiting = self.waiting.remove(&token)?;
        self.deadlines.cancel(waiting.deadline_ms, &token);
        let mut partitions = Vec::with_capacity(waiting.partitions.len());
        for (index, part) in waiting.partitions.into_iter().enumerate() {
            if part.result.is_none()
                && let Some(waiters) = self.partitions.get_mut(&part.key)
            {
                waiters.cancel(part.required_offset, &(token, index));
                if waiters.is_empty() {
                    self.partitions.remove(&part.key);
                }
            }
            partitions.push((part.key, part.result.unwrap_or(Err(unfinished))));
        }
        Some(ProduceOutcome { token, partitions })
    }
}

impl<K: Ord + Clone> Default for ProducePurgatory<K> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wait(
        token: u64,
        deadline_ms: i64,
        partitions: &[(&'static str, Offset)],
    ) -> ProduceWait<&'static str> {
        ProduceWait {
            token,
            deadline_ms,
            partitions: partitions.to_vec(),
        }
    }

    #[test]
    fn a_request_ends_when_its_last_partition_is_covered() {
        let mut p = ProducePurgatory::new();
        assert_eq!(p.watch(wait(1, 100, &[("a", 10), ("b", 5)])), None);
        assert_eq!(p.watch(wait(2, 100, &[("a", 20)])), None);
        assert_eq!(p.advance(&"a", 9, Ok(())), vec![]);
        assert_eq!(p.advance(&"a", 19, Ok(())), vec![]);
        assert_eq!(
            p.advance(&"b", 5, Err(KafkaError::NotEnoughReplicasAfterAppend)),
            vec![ProduceOutcome {
                token: 1,
                partitions: vec![
                    ("a", Ok(())),
                    ("b", Err(KafkaError::NotEnoughReplicasAfterAppend))
                ],
            }]
        );
        assert_eq!(p.len(), 1);
    }

    #[test]
    fn a_deadline_ends_what_is_open_and_leaves_nothing_behind() {
        let mut p = ProducePurgatory::new();
        assert_eq!(p.watch(wait(1, 100, &[("a", 10), ("b", 5)])), None);
        p.advance(&"a", 10, Ok(()));
        assert_eq!(p.expire(99), vec![]);
        assert_eq!(p.next_deadline(), Some(100));
        assert_eq!(
            p.expire(100),
            vec![ProduceOutcome {
                token: 1,
                partitions: vec![("a", Ok(())), ("b", Err(KafkaError::RequestTimedOut))],
            }]
        );
        assert!(p.is_empty() && p.partitions.is_empty() && p.deadlines.is_empty());
        assert_eq!(p.advance(&"b", 50, Ok(())), vec![]);
    }

    #[test]
    fn a_lost_partition_fails_its_waiters_and_a_gone_client_is_forgotten() {
        let mut p = ProducePurgatory::new();
        assert_eq!(p.watch(wait(1, 100, &[("a", 10)])), None);
        assert_eq!(p.watch(wait(2, 100, &[("a", 11)])), None);
        assert!(p.cancel(2));
        assert!(!p.cancel(2));
        assert_eq!(
            p.fail(&"a", KafkaError::NotLeaderOrFollower),
            vec![ProduceOutcome {
                token: 1,
                partitions: vec![("a", Err(KafkaError::NotLeaderOrFollower))],
            }]
        );
        assert!(p.is_empty() && p.partitions.is_empty() && p.deadlines.is_empty());
    }
}
