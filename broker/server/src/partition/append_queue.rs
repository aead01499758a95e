//! What waits to be appended to one partition, bounded in bytes.
//!
//! Always: the appends leave in the order in which they came; at most one drainer has been asked for. The bound is
//! soft by one frame: what arrives when the queue is full still lines up (its frame is already paid for out of the
//! server's frame budget), but its connection is told to read nothing more until there is room again.

use strandline_log::record::ValidBatch;
use tokio::sync::oneshot;

use super::{AppendReply, RequiredAcks};

/// One batch on its way to the log.
pub struct PendingAppend {
    pub batch: ValidBatch,
    pub acks: RequiredAcks,
    pub reply: AppendReply,
}

impl PendingAppend {
    pub fn size(&self) -> usize {
        self.batch.batch.bytes.len()
    }
}

/// What `push` tells its caller to do.
pub struct Pushed {
    /// Nobody drains this queue yet: put the partition in line.
    pub schedule: bool,
    /// The queue is above its bound: resolves when it is not. Read nothing more from this connection before.
    pub stalled: Option<oneshot::Receiver<()>>,
}

#[derive(Default)]
pub struct AppendQueue {
    waiting: Vec<PendingAppend>,
    bytes: usize,
    /// Of the batch that the drainer took last: still in memory until it is written.
    bytes_in_flight: usize,
    drainer_scheduled: bool,
    stalled: Vec<oneshot::Sender<()>>,
}

impl AppendQueue {
    pub fn push(&mut self, append: PendingAppend, bytes_max: usize) -> Pushed {
        self.bytes += append.size();
        self.waiting.push(append);
        let stalled = (self.bytes + self.bytes_in_flight > bytes_max).then(|| {
            let (sender, receiver) = oneshot::channel();
            self.stalled.push(sender);
            receiver
        });
        let schedule = !self.drainer_scheduled;
        self.drainer_scheduled = true;
        Pushed { schedule, stalled }
    }

    /// Of all that waits.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Everything that waits, in order. `None` ends the drainer's turn.
    pub fn take(&mut self) -> Option<Vec<PendingAppend>> {
        self.bytes_in_flight = 0;
        for waiter in self.stalled.drain(..) {
            // A connection that is gone needs no room.
            let _ = waiter.send(());
        }
        if self.waiting.is_empty() {
            self.drainer_scheduled = false;
            return None;
        }
        self.bytes_in_flight = std::mem::take(&mut self.bytes);
        Some(std::mem::take(&mut self.waiting))
    }
}

#[cfg(test)]
mod tests {
    use strandline_log::record::{Batch, BatchBuilder, BatchOptions};

    use super::super::AppendReplies;
    use super::*;

    fn append() -> PendingAppend {
        let bytes = BatchBuilder::new(BatchOptions::default()).build();
        let batch = Batch::parse(bytes).expect("a batch");
        PendingAppend {
            batch: ValidBatch { batch },
            acks: RequiredAcks::Leader,
            reply: AppendReplies::new(1).reply(0),
        }
    }

    #[test]
    fn one_drainer_is_asked_for_until_it_finds_nothing() {
        let mut queue = AppendQueue::default();
        assert!(queue.push(append(), 1 << 20).schedule);
        assert!(!queue.push(append(), 1 << 20).schedule);
        assert_eq!(queue.take().map(|taken| taken.len()), Some(2));
        assert!(
            !queue.push(append(), 1 << 20).schedule,
            "the drainer is still at it"
        );
        assert_eq!(queue.take().map(|taken| taken.len()), Some(1));
        assert!(queue.take().is_none());
        assert!(queue.push(append(), 1 << 20).schedule);
    }

    #[test]
    fn above_the_bound_the_connection_waits_for_the_drainer() {
        let mut queue = AppendQueue::default();
        let first = append();
        let size = first.size();
        assert!(queue.push(first, size).stalled.is_none());
        let mut stalled = queue.push(append(), size).stalled.expect("full");
        assert!(stalled.try_recv().is_err());
        queue.take();
        assert!(stalled.try_recv().is_ok());
    }
}
