//! Producers with acks=all that wait for the high watermark: offsets and answers, never bytes.

use std::collections::HashMap;

use parking_lot::Mutex;
use strandline_core::purgatory::OffsetWaiters;
use strandline_log::Offset;

use super::{AppendFailure, AppendReply, Appended};

struct Waiting {
    appended: Appended,
    reply: AppendReply,
}

#[derive(Default)]
struct Waiters {
    next_token: u64,
    by_offset: OffsetWaiters<u64>,
    by_token: HashMap<u64, Waiting>,
}

#[derive(Default)]
pub struct CommitWaiters(Mutex<Waiters>);

impl CommitWaiters {
    /// Answers once the high watermark is at or past `required`. The caller completes again afterwards with the
    /// watermark as it is then, so that an advance between its check and this call is not missed.
    pub fn register(&self, required: Offset, appended: Appended, mut reply: AppendReply) {
        reply.note_written();
        let mut waiters = self.0.lock();
        let token = waiters.next_token;
        waiters.next_token += 1;
        waiters.by_offset.add(required, token);
        waiters.by_token.insert(token, Waiting { appended, reply });
    }

    /// Answers everyone below `high_watermark`; `verdict` has the last word (too few replicas may be left).
    pub fn complete(&self, high_watermark: Offset, verdict: Result<(), AppendFailure>) {
        let done: Vec<Waiting> = {
            let mut waiters = self.0.lock();
            let tokens = waiters.by_offset.advance(high_watermark);
            tokens
                .iter()
                .filter_map(|token| waiters.by_token.remove(token))
                .collect()
        };
        for waiting in done {
            waiting
                .reply
                .send(verdict.clone().map(|()| waiting.appended));
        }
    }

    /// The leadership is gone: what is not committed yet may never be.
    pub fn fail_all(&self, failure: &AppendFailure) {
        let all = {
            let mut waiters = self.0.lock();
            waiters.by_offset.drain();
            std::mem::take(&mut waiters.by_token)
        };
        for waiting in all.into_values() {
            waiting.reply.send(Err(failure.clone()));
        }
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.0.lock().by_offset.len()
    }
}

#[cfg(test)]
mod tests {
    use strandline_wire::KafkaError;

    use super::super::AppendReplies;
    use super::*;

    fn appended(base_offset: Offset) -> Appended {
        Appended {
            base_offset,
            last_offset: base_offset,
            log_append_time_ms: -1,
            log_start_offset: 0,
            appended_at: crate::clock::now(),
        }
    }

    #[test]
    fn an_advance_answers_exactly_what_it_covers() {
        let waiters = CommitWaiters::default();
        let replies = AppendReplies::new(3);
        for base in 0..3 {
            waiters.register(base + 1, appended(base), replies.reply(base as usize));
        }
        waiters.complete(0, Ok(()));
        assert_eq!(waiters.len(), 3);
        waiters.complete(2, Ok(()));
        assert_eq!(waiters.len(), 1);
        for base in 0..2 {
            let outcome = replies.outcome(base).expect("answered");
            let appended = outcome.as_ref().expect("committed");
            assert_eq!(appended.base_offset, base as i64);
        }
        assert!(replies.outcome(2).is_none());
        waiters.fail_all(&AppendFailure::of(KafkaError::NotLeaderOrFollower));
        let outcome = replies.outcome(2).expect("answered");
        let failure = outcome.as_ref().expect_err("lost");
        assert_eq!(failure.error, KafkaError::NotLeaderOrFollower);
    }
}
