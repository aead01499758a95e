//! What a leader knows about one follower.

use strandline_log::types::{Offset, TimestampMs};

/// A follower as its fetches show it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplicaState {
    /// `None` until its first fetch in this leader's term.
    pub log_end_offset: Option<Offset>,
    pub log_start_offset: Offset,
    /// From the last fetch; -1 when the follower did not say.
    pub broker_epoch: Option<i64>,
    last_fetch_ms: TimestampMs,
    /// The leader's log end at the last fetch: reaching it now means having been caught up then.
    last_fetch_leader_end_offset: Option<Offset>,
    last_caught_up_ms: TimestampMs,
}

impl ReplicaState {
    /// A follower at the start of a leader's term. One in the ISR gets a full lag period to show itself.
    pub(super) fn at_term_start(now_ms: TimestampMs, in_sync: bool) -> Self {
        Self {
            log_end_offset: None,
            log_start_offset: -1,
            broker_epoch: None,
            last_fetch_ms: 0,
            last_fetch_leader_end_offset: None,
            last_caught_up_ms: if in_sync { now_ms } else { 0 },
        }
    }

    pub(super) fn on_fetch(
        &mut self,
        now_ms: TimestampMs,
        fetch_offset: Offset,
        log_start_offset: Offset,
        broker_epoch: i64,
        leader_end_offset: Offset,
    ) {
        if fetch_offset >= leader_end_offset {
            self.last_caught_up_ms = self.last_caught_up_ms.max(now_ms);
        } else if self
            .last_fetch_leader_end_offset
            .is_some_and(|end| fetch_offset >= end)
        {
            self.last_caught_up_ms = self.last_caught_up_ms.max(self.last_fetch_ms);
        }
        self.log_end_offset = Some(fetch_offset);
        self.log_start_offset = log_start_offset;
        self.broker_epoch = Some(broker_epoch);
        self.last_fetch_ms = now_ms;
        self.last_fetch_leader_end_offset = Some(leader_end_offset);
    }

    /// Whether the follower is at the leader's end, or was within the allowed lag.
    pub(super) fn is_caught_up(
        &self,
        leader_end_offset: Offset,
        now_ms: TimestampMs,
        lag_ms_max: i64,
    ) -> bool {
        self.log_end_offset == Some(leader_end_offset)
            || now_ms - self.last_caught_up_ms <= lag_ms_max
    }

    pub fn last_caught_up_ms(&self) -> TimestampMs {
        self.last_caught_up_ms
    }
}
