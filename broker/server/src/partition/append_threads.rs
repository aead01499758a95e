//! The threads of one log folder that write appends: a run queue of partitions, each drained by one thread at a time.
//!
//! A partition is in the run queue or with a thread at most once (its append queue sees to that), so one log has one
//! appender and the appends of one partition keep their order. A thread drains a partition for a bounded number of
//! rounds and then puts it at the end of the line, so that a busy partition starves nobody.
//! The same threads a second time do the syncs that answers wait for, so that a disk's sync keeps nobody from writing.
//! Holds no decision about what an append means.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

use parking_lot::{Condvar, Mutex};

use super::Partition;

/// How often one partition is drained before the next one in line gets the thread.
const ROUNDS_PER_TURN: usize = 4;

struct RunQueue {
    waiting: VecDeque<Arc<Partition>>,
    stopping: bool,
}

/// What a thread does with a partition that is in line; false when there was nothing to do.
pub type Turn = fn(&Arc<Partition>) -> bool;

struct Shared {
    turn: Turn,
    run_queue: Mutex<RunQueue>,
    wake: Condvar,
}

/// The append threads of one log folder.
pub struct AppendThreads {
    dir: PathBuf,
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
        let shared = Arc::new(Shared {
            turn,
            run_queue: Mutex::new(RunQueue {
                waiting: VecDeque::new(),
                stopping: false,
            }),
            wake: Condvar::new(),
        });
        let mut threads = Vec::with_capacity(count);
        for number in 0..count.max(1) {
            let shared = Arc::clone(&shared);
            let thread = std::thread::Builder::new()
                .name(format!("{name}-{number}"))
                .spawn(move || shared.run())?;
            threads.push(thread);
        }
        Ok(Arc::new(Self {
            dir: dir.to_path_buf(),
            shared,
            threads: Mutex::new(threads),
        }))
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Puts a partition in line. After `shutdown` the partition's appends are refused instead.
    pub(super) fn schedule(&self, partition: Arc<Partition>) {
        let mut queue = self.shared.run_queue.lock();
        if queue.stopping {
            drop(queue);
            partition.refuse_queued();
            return;
        }
        queue.waiting.push_back(partition);
        drop(queue);
        self.shared.wake.notify_one();
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
    fn run(&self) {
        let mut queue = self.run_queue.lock();
        loop {
            let Some(partition) = queue.waiting.pop_front() else {
                if queue.stopping {
                    return;
                }
                self.wake.wait(&mut queue);
                continue;
            };
            drop(queue);
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
