//! The answers to the appends of one request. Whoever waits for them is woken once, by the last.
//!
//! Always: each reply is answered, or dropped unanswered when the append threads are gone; both count. A producer that
//! went away leaves the replies to their senders.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use tokio::sync::Notify;

use super::AppendOutcome;

/// One place for each append of a request.
pub struct AppendReplies {
    outcomes: Box<[OnceLock<AppendOutcome>]>,
    /// Replies that are out and neither answered nor dropped.
    missing: AtomicUsize,
    /// Those of them whose batch is not in the log yet.
    unwritten: AtomicUsize,
    changed: Notify,
}

/// What the append's end is told to.
pub struct AppendReply {
    replies: Arc<AppendReplies>,
    place: usize,
    is_written: bool,
}

impl AppendReplies {
    pub fn new(count: usize) -> Arc<Self> {
        Arc::new(Self {
            outcomes: (0..count).map(|_| OnceLock::new()).collect(),
            missing: AtomicUsize::new(0),
            unwritten: AtomicUsize::new(0),
            changed: Notify::new(),
        })
    }

    /// The sender for a place. Once for each place, and before anybody waits.
    pub fn reply(self: &Arc<Self>, place: usize) -> AppendReply {
        self.missing.fetch_add(1, Ordering::Relaxed);
        self.unwritten.fetch_add(1, Ordering::Relaxed);
        AppendReply {
            replies: Arc::clone(self),
            place,
            is_written: false,
        }
    }

    pub fn is_complete(&self) -> bool {
        self.missing.load(Ordering::Acquire) == 0
    }

    /// Returns when the logs have all the batches, or have refused them: what is missing then waits for replicas.
    pub async fn written(&self) {
        while self.unwritten.load(Ordering::Acquire) > 0 {
            self.changed.notified().await;
        }
    }

    /// Returns when no reply is missing. May be dropped and called again.
    pub async fn complete(&self) {
        while !self.is_complete() {
            self.changed.notified().await;
        }
    }

    /// `None`: not answered yet, or never, once all is complete.
    pub fn outcome(&self, place: usize) -> Option<&AppendOutcome> {
        self.outcomes.get(place)?.get()
    }
}

impl AppendReply {
    pub fn send(self, outcome: AppendOutcome) {
        if let Some(place) = self.replies.outcomes.get(self.place) {
            // A place has one reply, and that is used up here.
            let _ = place.set(outcome);
        }
    }

    /// The log has the batch; the answer has to wait for replicas.
    pub fn note_written(&mut self) {
        if !std::mem::replace(&mut self.is_written, true)
            && self.replies.unwritten.fetch_sub(1, Ordering::AcqRel) == 1
        {
            self.replies.changed.notify_one();
        }
    }
}

impl Drop for AppendReply {
    fn drop(&mut self) {
        let is_last = self.replies.missing.fetch_sub(1, Ordering::AcqRel) == 1;
        let was_written = self.is_written;
        self.note_written();
        if is_last && was_written {
            self.replies.changed.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use strandline_wire::KafkaError;

    use super::super::AppendFailure;
    use super::*;

    fn is_ready(future: impl Future<Output = ()>) -> bool {
        let mut future = std::pin::pin!(future);
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        Future::poll(future.as_mut(), &mut context).is_ready()
    }

    fn is_complete(replies: &AppendReplies) -> bool {
        is_ready(replies.complete())
    }

    #[test]
    fn what_waits_for_replicas_is_written_and_not_complete() {
        let replies = AppendReplies::new(2);
        let [first, mut second] = [0, 1].map(|place| replies.reply(place));
        drop(first);
        assert!(!is_ready(replies.written()));
        second.note_written();
        assert!(is_ready(replies.written()) && !is_complete(&replies));
        drop(second);
        assert!(is_ready(replies.written()) && is_complete(&replies));
    }

    #[test]
    fn the_last_reply_completes_answered_or_dropped() {
        let replies = AppendReplies::new(3);
        assert!(is_complete(&replies), "nothing is out");
        let [first, second, third] = [0, 1, 2].map(|place| replies.reply(place));
        third.send(Err(AppendFailure::of(KafkaError::KafkaStorageError)));
        drop(first);
        assert!(!is_complete(&replies));
        second.send(Err(AppendFailure::of(KafkaError::NotLeaderOrFollower)));
        assert!(is_complete(&replies));
        assert!(replies.outcome(0).is_none());
        let errors: Vec<_> = [1, 2]
            .iter()
            .map(|place| {
                replies
                    .outcome(*place)
                    .map(|o| o.clone().map_err(|f| f.error))
            })
            .collect();
        assert_eq!(errors[0], Some(Err(KafkaError::NotLeaderOrFollower)));
        assert_eq!(errors[1], Some(Err(KafkaError::KafkaStorageError)));
    }
}
