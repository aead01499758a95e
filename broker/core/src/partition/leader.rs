//! The leader's view of one partition.

use std::collections::{BTreeMap, BTreeSet};

use kafka_protocol::ResponseError as KafkaError;
use strandline_log::types::{LeaderEpoch, Offset, TimestampMs};

use super::isr::{IsrChange, IsrState};
use super::replica::ReplicaState;

/// What a term begins with.
#[derive(Clone, Debug)]
pub struct LeaderSetup {
    pub node_id: i32,
    pub leader_epoch: LeaderEpoch,
    pub partition_epoch: i32,
    pub replicas: Vec<i32>,
    pub isr: Vec<i32>,
    pub log_end_offset: Offset,
    pub high_watermark: Offset,
    /// replica.lag.time.max.ms
    pub lag_ms_max: i64,
    /// min.insync.replicas of the topic.
    pub min_insync_replicas: usize,
    pub now_ms: TimestampMs,
}

/// What one fetch of a follower says.
#[derive(Clone, Copy, Debug)]
pub struct FollowerFetch {
    pub replica_id: i32,
    /// -1 from followers that do not send it.
    pub broker_epoch: i64,
    pub fetch_offset: Offset,
    pub log_start_offset: Offset,
}

/// What a follower's fetch changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FollowerUpdate {
    /// The new high watermark, when it moved.
    pub high_watermark: Option<Offset>,
    /// An expansion to propose. It counts as in flight from here on: answer with
    /// [`PartitionLeader::on_isr_committed`] or [`PartitionLeader::on_isr_rejected`].
    pub expand: Option<IsrChange>,
}

/// Where an acks=all append stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AckState {
    Waiting,
    Done,
    /// In the log of every in-sync replica, but they have become too few.
    NotEnoughReplicasAfterAppend,
}

/// Leadership of one partition for one term. A new term is a new value.
#[derive(Clone, Debug)]
pub struct PartitionLeader {
    node_id: i32,
    leader_epoch: LeaderEpoch,
    partition_epoch: i32,
    /// Where this term's records begin: a follower below it may hold another history.
    epoch_start_offset: Offset,
    isr: IsrState,
    followers: BTreeMap<i32, ReplicaState>,
    /// Brokers that may join an ISR (registered, neither fenced nor shutting down) with their epochs.
    eligible: BTreeMap<i32, i64>,
    log_end_offset: Offset,
    high_watermark: Offset,
    lag_ms_max: i64,
    min_insync_replicas: usize,
}

impl PartitionLeader {
    pub fn new(setup: LeaderSetup) -> Self {
        let isr: BTreeSet<i32> = setup.isr.iter().copied().collect();
        let followers = setup
            .replicas
            .iter()
            .filter(|id| **id != setup.node_id)
            .map(|id| {
                (
                    *id,
                    ReplicaState::at_term_start(setup.now_ms, isr.contains(id)),
                )
            })
            .collect();
        let mut leader = Self {
            node_id: setup.node_id,
            leader_epoch: setup.leader_epoch,
            partition_epoch: setup.partition_epoch,
            epoch_start_offset: setup.log_end_offset,
            isr: IsrState::Committed { isr },
            followers,
            eligible: BTreeMap::new(),
            log_end_offset: setup.log_end_offset,
            high_watermark: setup.high_watermark.min(setup.log_end_offset),
            lag_ms_max: setup.lag_ms_max,
            min_insync_replicas: setup.min_insync_replicas,
        };
        // A leader alone has everything: what it holds is committed from the start.
        leader.advance(setup.now_ms);
        leader
    }

    pub fn leader_epoch(&self) -> LeaderEpoch {
        self.leader_epoch
    }

    pub fn partition_epoch(&self) -> i32 {
        self.partition_epoch
    }

    pub fn high_watermark(&self) -> Offset {
        self.high_watermark
    }

    pub fn log_end_offset(&self) -> Offset {
        self.log_end_offset
    }

    pub fn isr(&self) -> &IsrState {
        &self.isr
    }

    pub fn follower(&self, replica: i32) -> Option<&ReplicaState> {
        self.followers.get(&replica)
    }

    pub fn replica_count(&self) -> usize {
        self.followers.len() + 1
    }

    pub fn set_min_insync_replicas(&mut self, now_ms: TimestampMs, min: usize) -> Option<Offset> {
        self.min_insync_replicas = min;
        self.advance(now_ms)
    }

    pub fn set_lag_ms_max(&mut self, lag_ms_max: i64) {
        self.lag_ms_max = lag_ms_max;
    }

    /// Says which brokers may join the ISR; `None`: fenced, shutting down or gone.
    pub fn set_eligible(&mut self, broker: i32, broker_epoch: Option<i64>) {
        match broker_epoch {
            Some(epoch) => self.eligible.insert(broker, epoch),
            None => self.eligible.remove(&broker),
        };
    }

    /// Before an append with acks=all: are there enough to make it safe? acks 0 and 1 ask nobody.
    ///
    /// Kafka 4 lowers min.insync.replicas to the number of replicas here; this broker takes the setting at its word, so
    /// that one replica never acknowledges what its topic says needs two.
    pub fn check_min_isr(&self, acks: i16) -> Result<(), KafkaError> {
        if acks == -1 && self.isr.committed().len() < self.min_insync_replicas {
            return Err(KafkaError::NotEnoughReplicas);
        }
        Ok(())
    }

    /// The local log has grown to `log_end_offset`. Returns the new high watermark, when it moved.
    pub fn on_local_append(
        &mut self,
        now_ms: TimestampMs,
        log_end_offset: Offset,
    ) -> Option<Offset> {
        self.log_end_offset = self.log_end_offset.max(log_end_offset);
        self.advance(now_ms)
    }

    /// A follower asks for records, which tells where its log ends. UNKNOWN_LEADER_EPOCH when the broker is no replica:
    /// it may know of an assignment that has not reached us, and asks again.
    pub fn on_follower_fetch(
        &mut self,
        now_ms: TimestampMs,
        fetch: FollowerFetch,
    ) -> Result<FollowerUpdate, KafkaError> {
        let leader_end_offset = self.log_end_offset;
        let follower = self
            .followers
            .get_mut(&fetch.replica_id)
            .ok_or(KafkaError::UnknownLeaderEpoch)?;
        let before = follower.log_end_offset;
        follower.on_fetch(
            now_ms,
            fetch.fetch_offset,
            fetch.log_start_offset,
            fetch.broker_epoch,
            leader_end_offset,
        );
        let expand = self.plan_expand(fetch.replica_id);
        let high_watermark = if before != Some(fetch.fetch_offset) {
            self.advance(now_ms)
        } else {
            None
        };
        Ok(FollowerUpdate {
            high_watermark,
            expand,
        })
    }

    /// The in-sync followers that have not been caught up for too long. Like an expansion, the change is in flight from
    /// here on.
    pub fn plan_isr_shrink(&mut self, now_ms: TimestampMs) -> Option<IsrChange> {
        let IsrState::Committed { isr } = &self.isr else {
            return None;
        };
        let leaving: BTreeSet<i32> = isr
            .iter()
            .copied()
            .filter(|id| *id != self.node_id)
            .filter(|id| {
                self.followers
                    .get(id)
                    .is_none_or(|f| !f.is_caught_up(self.log_end_offset, now_ms, self.lag_ms_max))
            })
            .collect();
        if leaving.is_empty() {
            return None;
        }
        let isr = isr.clone();
        let next = isr.difference(&leaving).copied().collect();
        self.isr = IsrState::PendingShrink { isr, leaving };
        Some(self.change(next))
    }

    /// The quorum committed this ISR (whoever proposed it). Returns the new high watermark, when it moved: a smaller ISR
    /// may have been what it waited for.
    pub fn on_isr_committed(
        &mut self,
        now_ms: TimestampMs,
        isr: &[i32],
        partition_epoch: i32,
    ) -> Option<Offset> {
        if partition_epoch <= self.partition_epoch {
            return None;
        }
        self.partition_epoch = partition_epoch;
        self.isr = IsrState::Committed {
            isr: isr.iter().copied().collect(),
        };
        self.advance(now_ms)
    }

    /// The quorum refused the change in flight: the committed set holds.
    pub fn on_isr_rejected(&mut self) {
        self.isr = IsrState::Committed {
            isr: self.isr.committed().clone(),
        };
    }

    /// The assignment changed within this term.
    pub fn set_replicas(&mut self, now_ms: TimestampMs, replicas: &[i32]) -> Option<Offset> {
        self.followers.retain(|id, _| replicas.contains(id));
        for id in replicas.iter().filter(|id| **id != self.node_id) {
            let in_sync = self.isr.committed().contains(id);
            self.followers
                .entry(*id)
                .or_insert_with(|| ReplicaState::at_term_start(now_ms, in_sync));
        }
        self.advance(now_ms)
    }

    /// Whether what was appended below `required_offset` may be acknowledged to a producer with acks=all.
    pub fn ack_state(&self, required_offset: Offset) -> AckState {
        if self.high_watermark < required_offset {
            AckState::Waiting
        } else if self.isr.maximal_len() < self.min_insync_replicas {
            AckState::NotEnoughReplicasAfterAppend
        } else {
            AckState::Done
        }
    }

    /// The smallest log start among the replicas: DeleteRecords waits for it.
    pub fn low_watermark(&self, local_log_start_offset: Offset) -> Offset {
        self.followers
            .iter()
            .filter(|(id, _)| self.eligible.contains_key(id))
            .map(|(_, f)| f.log_start_offset)
            .fold(local_log_start_offset, Offset::min)
    }

    fn change(&self, isr: Vec<i32>) -> IsrChange {
        IsrChange {
            isr,
            leader_epoch: self.leader_epoch,
            partition_epoch: self.partition_epoch,
        }
    }

    fn plan_expand(&mut self, replica: i32) -> Option<IsrChange> {
        let IsrState::Committed { isr } = &self.isr else {
            return None;
        };
        let end = self.followers.get(&replica)?.log_end_offset?;
        let in_sync = end >= self.high_watermark && end >= self.epoch_start_offset;
        if isr.contains(&replica) || !in_sync || !self.is_eligible(replica) {
            return None;
        }
        let isr = isr.clone();
        let mut next = isr.clone();
        next.insert(replica);
        self.isr = IsrState::PendingExpand {
            isr,
            joining: replica,
        };
        Some(self.change(next.into_iter().collect()))
    }

    /// A follower from before its broker's restart must not join: its fetches carry the old epoch.
    fn is_eligible(&self, replica: i32) -> bool {
        let seen = self.followers.get(&replica).and_then(|f| f.broker_epoch);
        match (seen, self.eligible.get(&replica)) {
            (Some(seen), Some(current)) => seen == -1 || seen == *current,
            _ => false,
        }
    }

    /// Moves the high watermark to the smallest log end of those who count: the maximal ISR, and whoever is caught up and
    /// about to join, who would else be outrun for ever.
    fn advance(&mut self, now_ms: TimestampMs) -> Option<Offset> {
        // Kafka's effective minimum: more than there are replicas would block readers for good.
        if self.isr.committed().len() < self.min_insync_replicas.min(self.replica_count()) {
            return None;
        }
        let mut next = self.log_end_offset;
        for (id, follower) in &self.followers {
            let end = follower.log_end_offset.unwrap_or(-1);
            if end < next
                && (self.isr.maximal_contains(*id)
                    || (follower.is_caught_up(self.log_end_offset, now_ms, self.lag_ms_max)
                        && self.is_eligible(*id)))
            {
                next = end;
            }
        }
        if next <= self.high_watermark {
            return None;
        }
        self.high_watermark = next;
        Some(next)
    }
}

#[cfg(test)]
mod tests;
