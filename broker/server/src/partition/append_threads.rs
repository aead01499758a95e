//! The threads of one log folder that write appends: a run queue of partitions, each drained by one thread at a time.
//!
//! A partition is in the run queue or with a thread at most once (its append queue sees to that), so one log has one
//! appender and the appends of one partition keep their order. A thread drains a partition for a bounded number of
//! rounds and then puts it at the end of the line, so that a busy partition starves nobody.
//! A second set of them does the syncs that answers wait for, so that a disk's sync keeps nobody from writing.
//!
//! Waking a thread costs more than a small append. So a thread that is awake takes what comes, and another is woken only
//! when none is awake, when the line grows, or when those awake have been at one partition for long (their disk is slow).
//! One that panics ends the process: its partition would hang, and what it had half done is for recovery to judge.
//! Holds no decision about what an append means.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::{Partition, WritePace};
use crate::clock;
use crate::threads::or_end_process;

/// How often one partition is drained before the next one in line gets the thread.
const ROUNDS_PER_TURN: usize = 4;
/// So many in line for each thread that is awake call for another.
const WAITING_PER_THREAD_MAX: usize = 4;
/// A turn that takes longer is held up by something.
const TURN_MAX: Duration = Duration::from_micros(200);

struct RunQueue {
    waiting: VecDeque<Arc<Partition>>,
    /// When each thread began its turn; none for those that sleep or are on their way to sleep.
    turns: Vec<Option<Instant>>,
    /// Threads that were woken and have not got here yet.
    waking: usize,
    stopping: bool,
}

/// What a thread does with a partition that is in line; false when there was nothing to do.
pub type Turn = fn(&Arc<Partition>) -> bool;

impl RunQueue {
    /// Whether to wake a thread, because those who are awake will not see to what waits soon enough.
    fn call_another(&mut self, now: Instant) -> bool {
        let awake = self.turns.iter().flatten().count() + self.waking;
        if awake >= self.turns.len() {
            return false;
        }
        let held_up = |began: &Instant| *began + TURN_MAX < now;
        let late = self.waking == 0 && self.turns.iter().flatten().all(held_up);
        let call = late || self.waiting.len() > awake * WAITING_PER_THREAD_MAX;
        self.waking += usize::from(call);
        call
    }
}

struct Shared {
    turn: Turn,
    run_queue: Mutex<RunQueue>,
    wake: Condvar,
}

/// The append threads of one log folder.
pub struct AppendThreads {
    dir: PathBuf,
    pace: WritePace,
    shared: Arc<Shared>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl AppendThreads {
    /// Starts `count` threads for the folder `dir` that append.
    pub fn start(dir: &Path, count: usize) -> std::io::Result<Arc<Self>> {
        Self::start_with(dir, "append", count, Partition::drain)
    }

    /// Starts `count` threads that sync and answer.
    pub fn start_commits(dir: &Path, count: usize) -> std::io::Result<Arc<Self>> {
        Self::start_with(dir, "commit", count, Partition::commit)
    }

    fn start_with(dir: &Path, name: &str, count: usize, turn: Turn) -> std::io::Result<Arc<Self>> {
        let count = count.max(1);
        let shared = Arc::new(Shared {
            turn,
            run_queue: Mutex::new(RunQueue {
                waiting: VecDeque::new(),
                turns: vec![None; count],
                waking: 0,
                stopping: false,
            }),
            wake: Condvar::new(),
        });
        let mut threads = Vec::with_capacity(count);
        for number in 0..count {
            let shared = Arc::clone(&shared);
            let thread = std::thread::Builder::new()
                .name(format!("{name}-{number}"))
                .spawn(move || or_end_process(|| shared.run(number)))?;
            threads.push(thread);
        }
        Ok(Arc::new(Self {
            dir: dir.to_path_buf(),
            pace: WritePace::new(),
            shared,
            threads: Mutex::new(threads),
        }))
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// How fast the folder takes what network threads write.
    pub(super) fn pace(&self) -> &WritePace {
        &self.pace
    }

    /// Puts partitions in line. After `shutdown` their appends are refused instead.
    pub(super) fn schedule(&self, partitions: impl IntoIterator<Item = Arc<Partition>>) {
        let mut queue = self.shared.run_queue.lock();
        if queue.stopping {
            drop(queue);
            for partition in partitions {
                partition.refuse_queued();
            }
            return;
        }
        queue.waiting.extend(partitions);
        let now = clock::now();
        let mut wakes = 0;
        while queue.call_another(now) {
            wakes += 1;
        }
        drop(queue);
        for _ in 0..wakes {
            self.shared.wake.notify_one();
        }
    }

    /// Drains what is in line, then ends the threads. Blocks; call it where blocking is allowed.
    pub fn shutdown(&self) {
        self.shared.run_queue.lock().stopping = true;
        self.shared.wake.notify_all();
        let threads = std::mem::take(&mut *self.threads.lock());
        for thread in threads {
            if thread.join().is_err() {
                tracing::error!(dir = %self.dir.display(), "an append thread had panicked");
            }
        }
    }
}

impl Shared {
    fn run(&self, number: usize) {
        let mut queue = self.run_queue.lock();
        loop {
            let Some(partition) = queue.waiting.pop_front() else {
                queue.turns[number] = None;
                if queue.stopping {
                    return;
                }
                self.wake.wait(&mut queue);
                queue.waking = queue.waking.saturating_sub(1);
                continue;
            };
            let now = clock::now();
            queue.turns[number] = Some(now);
            let wake = !queue.waiting.is_empty() && queue.call_another(now);
            drop(queue);
            if wake {
                self.wake.notify_one();
            }
            let mut more = true;
            for _ in 0..ROUNDS_PER_TURN {
                more = (self.turn)(&partition);
                if !more {
                    break;
                }
            }
            queue = self.run_queue.lock();
            if more {
                // While stopping as well: what was accepted is written.
                queue.waiting.push_back(partition);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run_queue(threads: usize) -> RunQueue {
        RunQueue {
            waiting: VecDeque::new(),
            turns: vec![None; threads],
            waking: 0,
            stopping: false,
        }
    }

    #[test]
    fn a_thread_is_woken_when_none_is_awake_or_those_awake_are_held_up() {
        let now = clock::now();
        let mut queue = run_queue(2);
        assert!(queue.call_another(now), "all sleep");
        assert!(!queue.call_another(now), "one is on its way");
        queue.waking = 0;
        queue.turns[1] = Some(now);
        assert!(!queue.call_another(now + TURN_MAX), "it will take it");
        assert!(queue.call_another(now + TURN_MAX * 2), "its turn is long");
        assert!(!queue.call_another(now + TURN_MAX * 2));
        queue.waking = 0;
        queue.turns[0] = Some(now);
        assert!(!queue.call_another(now + TURN_MAX * 2), "there is no other");
    }
}
