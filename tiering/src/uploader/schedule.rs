//! Whose turn it is: a pure queue of partitions that want work.
//!
//! Topics take turns, and within a topic the partition that has waited longest goes first, so that one busy topic delays
//! no other. A partition is given out to one worker at a time. One that failed rests until its backoff is over, whatever
//! wakes it meanwhile. Every operation costs the logarithm of the partitions, none walks them.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use strandline_log::{TimestampMs, TopicPartition};

/// Tells one stay of a partition from the next: work handed out before it left and came back does not count.
pub type Stay = u64;

/// When a partition wants to be seen again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Next {
    /// There is more to do.
    Now,
    /// Nothing to do until then, unless woken.
    At(TimestampMs),
    /// It failed: not before then.
    NotBefore(TimestampMs),
}

#[derive(Debug)]
enum State {
    Resting { due_ms: TimestampMs, wakeable: bool },
    Ready,
    Running { woken: bool },
}

#[derive(Debug)]
struct Member {
    stay: Stay,
    state: State,
}

#[derive(Debug, Default)]
pub struct Schedule {
    stays: Stay,
    members: HashMap<TopicPartition, Member>,
    resting: BTreeSet<(TimestampMs, TopicPartition)>,
    ready: BTreeMap<Arc<str>, VecDeque<TopicPartition>>,
    turns: VecDeque<Arc<str>>,
}

impl Schedule {
    /// Adds a partition, ready at once. One that is there already starts a new stay.
    pub fn add(&mut self, tp: &TopicPartition) -> Stay {
        self.remove(tp);
        self.stays += 1;
        let member = Member {
            stay: self.stays,
            state: State::Ready,
        };
        self.members.insert(tp.clone(), member);
        self.push_ready(tp);
        self.stays
    }

    pub fn remove(&mut self, tp: &TopicPartition) {
        let Some(member) = self.members.remove(tp) else {
            return;
        };
        match member.state {
            State::Resting { due_ms, .. } => {
                self.resting.remove(&(due_ms, tp.clone()));
            }
            State::Ready => {
                if let Some(queue) = self.ready.get_mut(&tp.topic) {
                    queue.retain(|other| other != tp);
                    if queue.is_empty() {
                        self.ready.remove(&tp.topic);
                        self.turns.retain(|topic| *topic != tp.topic);
                    }
                }
            }
            State::Running { .. } => {}
        }
    }

    /// There may be work. A partition in backoff sleeps on.
    pub fn wake(&mut self, tp: &TopicPartition) {
        let Some(member) = self.members.get_mut(tp) else {
            return;
        };
        match &mut member.state {
            State::Resting {
                due_ms,
                wakeable: true,
            } => {
                let due_ms = *due_ms;
                member.state = State::Ready;
                self.resting.remove(&(due_ms, tp.clone()));
                self.push_ready(tp);
            }
            State::Resting { .. } | State::Ready => {}
            State::Running { woken } => *woken = true,
        }
    }

    /// Hands out the next partition, if one is due.
    pub fn next(&mut self, now_ms: TimestampMs) -> Option<(TopicPartition, Stay)> {
        while let Some((due_ms, _)) = self.resting.first()
            && *due_ms <= now_ms
        {
            let (_, tp) = self.resting.pop_first()?;
            if let Some(member) = self.members.get_mut(&tp) {
                member.state = State::Ready;
                self.push_ready(&tp);
            }
        }
        let topic = self.turns.pop_front()?;
        let queue = self.ready.get_mut(&topic)?;
        let tp = queue.pop_front();
        if queue.is_empty() {
            self.ready.remove(&topic);
        } else {
            self.turns.push_back(topic);
        }
        let tp = tp?;
        let member = self.members.get_mut(&tp)?;
        member.state = State::Running { woken: false };
        Some((tp, member.stay))
    }

    /// Takes a partition back.
    pub fn finished(&mut self, tp: &TopicPartition, stay: Stay, next: Next) {
        let Some(member) = self.members.get_mut(tp).filter(|m| m.stay == stay) else {
            return;
        };
        let State::Running { woken } = member.state else {
            return;
        };
        let (due_ms, wakeable) = match next {
            Next::NotBefore(due_ms) => (due_ms, false),
            Next::At(due_ms) if !woken => (due_ms, true),
            Next::At(_) | Next::Now => {
                member.state = State::Ready;
                self.push_ready(tp);
                return;
            }
        };
        member.state = State::Resting { due_ms, wakeable };
        self.resting.insert((due_ms, tp.clone()));
    }

    /// When [`next`](Self::next) may have something, if nothing happens before.
    pub fn next_due_ms(&self) -> Option<TimestampMs> {
        if self.turns.is_empty() {
            self.resting.first().map(|(due_ms, _)| *due_ms)
        } else {
            Some(TimestampMs::MIN)
        }
    }

    fn push_ready(&mut self, tp: &TopicPartition) {
        let queue = self.ready.entry(Arc::clone(&tp.topic)).or_default();
        if queue.is_empty() {
            self.turns.push_back(Arc::clone(&tp.topic));
        }
        queue.push_back(tp.clone());
    }
}

/// The wait after `failures` failures in a row, moved at random by up to `jitter` of itself. `random` is in 0..1.
pub fn backoff_ms(failures: u32, base_ms: i64, max_ms: i64, jitter: f64, random: f64) -> i64 {
    let doublings = failures.saturating_sub(1).min(30);
    let wait = base_ms.saturating_mul(1 << doublings).min(max_ms) as f64;
    (wait * (1.0 + jitter * (2.0 * random - 1.0))).max(1.0) as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tp(topic: &str, partition: i32) -> TopicPartition {
        TopicPartition::new(topic, partition)
    }

    fn drain(schedule: &mut Schedule, now_ms: i64) -> Vec<String> {
        std::iter::from_fn(|| schedule.next(now_ms).map(|(tp, _)| tp.to_string())).collect()
    }

    #[test]
    fn topics_take_turns_and_partitions_go_in_order() {
        let mut schedule = Schedule::default();
        for partition in 0..3 {
            schedule.add(&tp("busy", partition));
        }
        schedule.add(&tp("calm", 0));
        assert_eq!(
            drain(&mut schedule, 0),
            ["busy-0", "calm-0", "busy-1", "busy-2"]
        );
    }

    #[test]
    fn a_partition_is_given_out_once_and_again_when_woken_meanwhile() {
        let mut schedule = Schedule::default();
        let one = tp("a", 0);
        let stay = schedule.add(&one);
        assert_eq!(schedule.next(0), Some((one.clone(), stay)));
        schedule.wake(&one);
        assert_eq!(schedule.next(0), None);
        schedule.finished(&one, stay, Next::At(500));
        assert_eq!(schedule.next(0), Some((one.clone(), stay)));
        schedule.finished(&one, stay, Next::At(500));
        assert_eq!(schedule.next(499), None);
        assert_eq!(schedule.next_due_ms(), Some(500));
        assert_eq!(schedule.next(500), Some((one, stay)));
    }

    #[test]
    fn backoff_is_not_cut_short() {
        let mut schedule = Schedule::default();
        let one = tp("a", 0);
        let stay = schedule.add(&one);
        schedule.next(0);
        schedule.finished(&one, stay, Next::NotBefore(100));
        schedule.wake(&one);
        assert_eq!(schedule.next(99), None);
        assert!(schedule.next(100).is_some());
    }

    #[test]
    fn work_of_an_earlier_stay_does_not_count() {
        let mut schedule = Schedule::default();
        let one = tp("a", 0);
        let old = schedule.add(&one);
        schedule.next(0);
        schedule.remove(&one);
        let new = schedule.add(&one);
        schedule.finished(&one, old, Next::NotBefore(1_000));
        assert_eq!(schedule.next(0), Some((one.clone(), new)));
        schedule.remove(&one);
        assert_eq!(schedule.next(i64::MAX), None);
        assert_eq!(schedule.next_due_ms(), None);
    }

    #[test]
    fn removing_one_of_several_ready_keeps_the_rest() {
        let mut schedule = Schedule::default();
        schedule.add(&tp("a", 0));
        schedule.add(&tp("a", 1));
        schedule.remove(&tp("a", 0));
        assert_eq!(drain(&mut schedule, 0), ["a-1"]);
    }

    #[test]
    fn backoff_doubles_up_to_its_limit_and_is_moved_by_jitter() {
        let table = [
            (1, 0.5, 500),
            (2, 0.5, 1_000),
            (7, 0.5, 30_000),
            (u32::MAX, 0.5, 30_000),
            (1, 0.0, 400),
            (1, 1.0, 600),
        ];
        for (failures, random, expected) in table {
            assert_eq!(
                backoff_ms(failures, 500, 30_000, 0.2, random),
                expected,
                "{failures}"
            );
        }
    }
}
