//! Partitions that have something to append now, and who writes it.
//!
//! The append threads of their folder may: they are put in line together, with one wake for a whole request. So may the
//! network thread that the request is on, which is cheaper by two wakes of a thread: it writes once it is through with
//! the requests that have arrived besides, so that one write serves them all. It does so while the folder takes writes
//! without delay ([`super::WritePace`]), nobody else has the log (who drops its segments syncs meanwhile), and there is
//! little to write: a slow disk must hold up nobody's fetches.

use std::sync::Arc;

use super::Partition;
use crate::clock;
use crate::threads::or_end_process;

/// The most that a network thread writes to a partition at a time.
const WRITE_HERE_BYTES_MAX: usize = 1 << 20;
/// How often a network thread looks whether more has come, before it leaves the partition to the append threads.
const ROUNDS_HERE: usize = 4;

/// Takes effect when it is dropped.
#[derive(Default)]
pub struct Schedule {
    partitions: Vec<Arc<Partition>>,
    may_write_here: bool,
}

impl Schedule {
    /// For a network thread: what is small it may write itself. Needs a tokio runtime of this thread alone.
    pub fn here() -> Self {
        Self {
            partitions: Vec::new(),
            may_write_here: true,
        }
    }

    pub(super) fn add(&mut self, partition: Arc<Partition>) {
        self.partitions.push(partition);
    }
}

impl Drop for Schedule {
    fn drop(&mut self) {
        let mut partitions = std::mem::take(&mut self.partitions);
        if self.may_write_here && !partitions.is_empty() {
            let now = clock::now();
            let calm = |partition: &mut Arc<Partition>| partition.threads().pace().is_calm(now);
            let line = Line(partitions.extract_if(.., calm).collect());
            if !line.0.is_empty() {
                tokio::spawn(line.write());
            }
        }
        to_append_threads(partitions);
    }
}

/// Partitions that this thread is to write to. What it has not done when it is dropped is the append threads' to do.
struct Line(Vec<Arc<Partition>>);

impl Line {
    async fn write(mut self) {
        while let Some(partition) = self.0.last() {
            let mut is_done = false;
            // A panic here would leave the partition half written, as on an append thread.
            or_end_process(|| is_done = write_here(partition));
            if is_done {
                self.0.pop();
            } else {
                to_append_threads(self.0.pop());
            }
        }
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        to_append_threads(std::mem::take(&mut self.0));
    }
}

/// False when something is left.
fn write_here(partition: &Arc<Partition>) -> bool {
    let pace = partition.threads().pace();
    for _ in 0..ROUNDS_HERE {
        let bytes = partition.queued_bytes();
        let begun = clock::now();
        let is_free = !partition.log().is_being_written();
        if bytes > WRITE_HERE_BYTES_MAX || !pace.is_calm(begun) || !is_free {
            return false;
        }
        if !partition.drain() {
            return true;
        }
        pace.note(bytes, begun, clock::now());
    }
    false
}

fn to_append_threads(partitions: impl IntoIterator<Item = Arc<Partition>>) {
    let mut rest: Vec<_> = partitions.into_iter().collect();
    while let Some(first) = rest.first() {
        let threads = Arc::clone(first.threads());
        let of_threads =
            |partition: &mut Arc<Partition>| Arc::ptr_eq(partition.threads(), &threads);
        threads.schedule(rest.extract_if(.., of_threads));
    }
}
