//! The partition itself.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use arc_swap::ArcSwapOption;
use parking_lot::Mutex;
use strandline_core::metadata::{BrokerId, PartitionImage};
use strandline_core::partition::{AckState, LeaderSetup, PartitionLeader};
use strandline_log::record::ValidBatch;
use strandline_log::{LeaderAppend, LeaderEpoch, Log, Offset, TopicId, TopicPartition};
use strandline_tiering::RemotePartition;
use strandline_wire::KafkaError;
use tokio::sync::oneshot;

use super::append_queue::{AppendQueue, PendingAppend};
use super::commit_queue::{AppendedGroup, CommitQueue};
use super::commit_waiters::CommitWaiters;
use super::{
    AppendFailure, AppendReply, AppendThreads, Appended, FetchWaiters, RequiredAcks, Schedule,
    TopicMetrics,
};
use crate::background::Upkeep;
use crate::clock;

/// What this broker is to the partition.
pub enum Leadership {
    Leader(PartitionLeader),
    /// Some other broker leads, or nobody does.
    NotLeader {
        leader: BrokerId,
        leader_epoch: LeaderEpoch,
    },
    /// The replica is going away: requests get this error.
    Closed(KafkaError),
}

/// How much of the newest data is taken to be in the page cache.
const HOT_BYTES: usize = 64 << 20;
/// How finely that is tracked.
const HOT_STEP_BYTES: usize = 1 << 20;

struct LeaderState {
    leadership: Leadership,
    /// First offset and size of the newest appends, in steps.
    recent: VecDeque<(Offset, usize)>,
    recent_bytes: usize,
    /// Ends and sizes of batches above the high watermark, so that an advance knows how many bytes it made readable.
    uncommitted: VecDeque<(Offset, usize)>,
}

/// What a partition is made of.
pub struct PartitionParts {
    pub node_id: BrokerId,
    pub topic_partition: TopicPartition,
    pub topic_id: TopicId,
    pub log: Arc<Log>,
    pub threads: Arc<AppendThreads>,
    /// Sync what was appended and answer it, where the topic asks for that.
    pub commits: Arc<AppendThreads>,
    pub upkeep: Upkeep,
    pub metrics: TopicMetrics,
    pub queue_bytes_max: usize,
    /// replica.lag.time.max.ms
    pub lag_ms_max: i64,
}

pub struct Partition {
    parts: PartitionParts,
    queue: Mutex<AppendQueue>,
    commits: Mutex<CommitQueue>,
    state: Mutex<LeaderState>,
    commit_waiters: CommitWaiters,
    pub fetch_waiters: FetchWaiters,
    remote: ArcSwapOption<RemotePartition>,
    /// What this process appended last begins here: reads from here on find their bytes in memory.
    hot_start: AtomicI64,
    /// Whether the upkeep knows of records in the active segment.
    open: AtomicBool,
}

/// Resolves when the partition's queue has room again: read no more from this connection before.
pub type Stalled = oneshot::Receiver<()>;

impl Partition {
    pub fn new(parts: PartitionParts) -> Arc<Self> {
        Arc::new(Self {
            parts,
            queue: Mutex::default(),
            commits: Mutex::default(),
            state: Mutex::new(LeaderState {
                leadership: Leadership::NotLeader {
                    leader: -1,
                    leader_epoch: -1,
                },
                recent: VecDeque::new(),
                recent_bytes: 0,
                uncommitted: VecDeque::new(),
            }),
            commit_waiters: CommitWaiters::default(),
            fetch_waiters: FetchWaiters::default(),
            remote: ArcSwapOption::empty(),
            hot_start: AtomicI64::new(i64::MAX),
            open: AtomicBool::new(false),
        })
    }

    pub fn topic_partition(&self) -> &TopicPartition {
        &self.parts.topic_partition
    }

    pub fn topic_id(&self) -> TopicId {
        self.parts.topic_id
    }

    pub(super) fn threads(&self) -> &Arc<AppendThreads> {
        &self.parts.threads
    }

    pub fn log(&self) -> &Arc<Log> {
        &self.parts.log
    }

    pub fn metrics(&self) -> &TopicMetrics {
        &self.parts.metrics
    }

    /// The remote tier's side of it, while this broker leads a tiered partition.
    pub fn remote(&self) -> Option<Arc<RemotePartition>> {
        self.remote.load_full()
    }

    pub fn set_remote(&self, remote: Option<Arc<RemotePartition>>) {
        self.remote.store(remote);
    }

    /// Reads from here on are served where they are asked for; older ones may have to wait for the disk.
    pub fn hot_start(&self) -> Offset {
        self.hot_start.load(Ordering::Relaxed)
    }

    /// Fails unless this broker leads. `current_leader_epoch` is the client's view, -1 when it has none.
    pub fn check_leader(
        &self,
        current_leader_epoch: LeaderEpoch,
    ) -> Result<LeaderEpoch, KafkaError> {
        let state = self.state.lock();
        let (epoch, leads) = match &state.leadership {
            Leadership::Leader(leader) => (leader.leader_epoch(), true),
            Leadership::NotLeader { leader_epoch, .. } => (*leader_epoch, false),
            Leadership::Closed(error) => return Err(*error),
        };
        if current_leader_epoch >= 0 && current_leader_epoch < epoch {
            return Err(KafkaError::FencedLeaderEpoch);
        }
        if current_leader_epoch > epoch {
            return Err(KafkaError::UnknownLeaderEpoch);
        }
        if leads {
            Ok(epoch)
        } else {
            Err(KafkaError::NotLeaderOrFollower)
        }
    }

    /// Says whether the upkeep knows of records in the active segment; the next append tells it otherwise.
    pub fn set_open(&self, open: bool) {
        self.open.store(open, Ordering::SeqCst);
    }

    pub fn is_closed(&self) -> bool {
        matches!(self.state.lock().leadership, Leadership::Closed(_))
    }

    pub fn is_leader(&self) -> bool {
        matches!(self.state.lock().leadership, Leadership::Leader(_))
    }

    /// The smallest log start of the replicas: what DeleteRecords reports.
    pub fn low_watermark(&self) -> Offset {
        let log_start = self.parts.log.log_start_offset();
        match &self.state.lock().leadership {
            Leadership::Leader(leader) => leader.low_watermark(log_start),
            _ => log_start,
        }
    }

    /// Begins a term, or takes over what changed within the one that runs. True when the term is new.
    pub fn become_leader(&self, image: &PartitionImage) -> bool {
        let now_ms = clock::now_ms();
        let log = &self.parts.log;
        let mut state = self.state.lock();
        if let Leadership::Leader(leader) = &mut state.leadership
            && leader.leader_epoch() == image.leader_epoch
        {
            let by_replicas = leader.set_replicas(now_ms, &image.replicas);
            let by_isr = leader.on_isr_committed(now_ms, &image.isr, image.partition_epoch);
            if let Some(high_watermark) = by_isr.or(by_replicas) {
                self.advance(&mut state, high_watermark);
            }
            return false;
        }
        if let Err(error) = log.assign_epoch(image.leader_epoch) {
            drop(state);
            tracing::error!(partition = %log.topic_partition(), %error, "cannot lead the partition");
            self.close(KafkaError::KafkaStorageError);
            return false;
        }
        let leader = PartitionLeader::new(LeaderSetup {
            node_id: self.parts.node_id,
            leader_epoch: image.leader_epoch,
            partition_epoch: image.partition_epoch,
            replicas: image.replicas.to_vec(),
            isr: image.isr.to_vec(),
            log_end_offset: log.log_end_offset(),
            high_watermark: log.high_watermark(),
            lag_ms_max: self.parts.lag_ms_max,
            min_insync_replicas: min_insync_replicas(log),
            now_ms,
        });
        let high_watermark = leader.high_watermark();
        state.leadership = Leadership::Leader(leader);
        state.uncommitted.clear();
        self.advance(&mut state, high_watermark);
        drop(state);
        self.fetch_waiters.wake_all();
        true
    }

    /// Another broker leads from here on.
    pub fn become_follower(&self, leader: BrokerId, leader_epoch: LeaderEpoch) {
        self.leave(
            Leadership::NotLeader {
                leader,
                leader_epoch,
            },
            KafkaError::NotLeaderOrFollower,
        );
    }

    /// The replica goes away; whoever waits or comes gets `error`.
    pub fn close(&self, error: KafkaError) {
        self.leave(Leadership::Closed(error), error);
    }

    fn leave(&self, next: Leadership, error: KafkaError) {
        {
            let mut state = self.state.lock();
            state.leadership = next;
            state.uncommitted.clear();
        }
        self.set_remote(None);
        self.commit_waiters.fail_all(&AppendFailure::of(error));
        self.fetch_waiters.wake_all();
    }

    /// The topic's settings changed; the log has them already.
    pub fn on_config_changed(&self) {
        let now_ms = clock::now_ms();
        let mut state = self.state.lock();
        if let Leadership::Leader(leader) = &mut state.leadership
            && let Some(high_watermark) =
                leader.set_min_insync_replicas(now_ms, min_insync_replicas(&self.parts.log))
        {
            self.advance(&mut state, high_watermark);
        }
    }

    /// Lines a batch up for the log; an append thread sees to it once `schedule` is dropped. On failure the reply goes
    /// unanswered.
    pub fn append(
        self: &Arc<Self>,
        batch: ValidBatch,
        acks: RequiredAcks,
        reply: AppendReply,
        schedule: &mut Schedule,
    ) -> Result<Option<Stalled>, AppendFailure> {
        match &self.state.lock().leadership {
            Leadership::Leader(leader) => leader
                .check_min_isr(acks.code())
                .map_err(AppendFailure::of)?,
            Leadership::NotLeader { .. } => {
                return Err(AppendFailure::of(KafkaError::NotLeaderOrFollower));
            }
            Leadership::Closed(error) => return Err(AppendFailure::of(*error)),
        }
        let append = PendingAppend { batch, acks, reply };
        let pushed = self.queue.lock().push(append, self.parts.queue_bytes_max);
        if pushed.schedule {
            schedule.add(Arc::clone(self));
        }
        Ok(pushed.stalled)
    }

    pub(super) fn queued_bytes(&self) -> usize {
        self.queue.lock().bytes()
    }

    /// One turn of an append thread: writes everything that is queued. False when nothing was.
    pub(super) fn drain(self: &Arc<Self>) -> bool {
        let Some(appends) = self.queue.lock().take() else {
            return false;
        };
        let epoch = match self.check_leader(-1) {
            Ok(epoch) => epoch,
            Err(error) => {
                refuse(appends, error);
                return true;
            }
        };
        let log = &self.parts.log;
        let active_before = log.active_segment_base_offset();
        let mut batches = Vec::with_capacity(appends.len());
        let mut waiting = Vec::with_capacity(appends.len());
        for append in appends {
            let header = append.batch.batch.header;
            waiting.push((
                append.acks,
                append.reply,
                append.batch.batch.bytes.len(),
                header.records_count,
            ));
            batches.push(LeaderAppend {
                batch: append.batch,
            });
        }
        let (results, flush_to) = log.append_deferred(&batches, epoch, clock::now_ms());
        // The frames go back to the pool before anybody is told.
        drop(batches);
        let group = AppendedGroup {
            answers: results.into_iter().zip(waiting).collect(),
            end: log.log_end_offset(),
            flush_to,
        };
        if let Some(group) = self.commits.lock().push(group, || {
            self.parts.commits.schedule([Arc::clone(self)]);
        }) {
            self.settle(group);
        }
        if !self.open.swap(true, Ordering::SeqCst) {
            self.parts.upkeep.opened(self);
        }
        if log.active_segment_base_offset() != active_before {
            self.parts.upkeep.sealed(self);
        }
        true
    }

    /// One turn of a commit thread: one sync for all that was appended until now, then their answers. False when
    /// nothing waits.
    pub(super) fn commit(self: &Arc<Self>) -> bool {
        let Some(groups) = self.commits.lock().take() else {
            return false;
        };
        let flushed = match groups.iter().filter_map(|group| group.flush_to).max() {
            Some(end) => {
                let _timer = self.parts.metrics.flush_seconds.start_timer();
                self.parts.log.flush_to(end).map(|_| ())
            }
            None => Ok(()),
        };
        for mut group in groups {
            if let (Err(error), Some(_)) = (&flushed, group.flush_to) {
                for (answer, _) in group
                    .answers
                    .iter_mut()
                    .filter(|(answer, _)| answer.is_ok())
                {
                    *answer = Err(error.clone().into());
                }
            }
            self.settle(group);
        }
        true
    }

    /// Tells the leader and the producers of what is in the log, as safely as the topic asks.
    fn settle(&self, group: AppendedGroup) {
        let log = &self.parts.log;
        let results = group.answers;
        let appended_at = clock::now();
        let mut ends = Vec::with_capacity(results.len());
        let mut outcomes = Vec::with_capacity(results.len());
        for (result, (acks, reply, bytes, records)) in results {
            match result {
                Ok(info) => {
                    if !info.duplicate {
                        ends.push((info.base_offset, info.last_offset + 1, bytes));
                        self.parts.metrics.bytes_in.inc_by(bytes as u64);
                        self.parts.metrics.batches_in.inc();
                        self.parts
                            .metrics
                            .messages_in
                            .inc_by(u64::try_from(records).unwrap_or(0));
                    }
                    let appended = Appended {
                        base_offset: info.base_offset,
                        last_offset: info.last_offset,
                        log_append_time_ms: info.log_append_time_ms,
                        log_start_offset: info.log_start_offset,
                        appended_at,
                    };
                    outcomes.push((acks, reply, Ok(appended)));
                }
                Err(error) => {
                    self.parts.metrics.produce_failed.inc();
                    outcomes.push((acks, reply, Err(AppendFailure::from(&error))));
                }
            }
        }
        let verdict = self.on_appended(ends, group.end);
        let high_watermark = log.high_watermark();
        let leads =
            !matches!(&verdict, Err(failure) if failure.error == KafkaError::NotLeaderOrFollower);
        for (acks, reply, outcome) in outcomes {
            match (outcome, acks) {
                (Ok(appended), RequiredAcks::All)
                    if leads && appended.last_offset >= high_watermark =>
                {
                    self.commit_waiters
                        .register(appended.last_offset + 1, appended, reply);
                }
                (Ok(appended), RequiredAcks::All) => {
                    reply.send(verdict.clone().map(|()| appended));
                }
                (outcome, _) => reply.send(outcome),
            }
        }
        // A follower's fetch may have moved the watermark between the check and the registration.
        self.commit_waiters.complete(log.high_watermark(), verdict);
    }

    /// The append threads have stopped: what is still queued is told so.
    pub(super) fn refuse_queued(&self) {
        while let Some(appends) = self.queue.lock().take() {
            refuse(appends, KafkaError::NotLeaderOrFollower);
        }
    }

    /// Tells the leader of new batches, up to `log_end`; returns whether acks=all may be granted to what is committed.
    fn on_appended(
        &self,
        ends: Vec<(Offset, Offset, usize)>,
        log_end: Offset,
    ) -> Result<(), AppendFailure> {
        let mut state = self.state.lock();
        self.note_recent(&mut state, &ends);
        state
            .uncommitted
            .extend(ends.iter().map(|(_, end, bytes)| (*end, *bytes)));
        let Leadership::Leader(leader) = &mut state.leadership else {
            return Err(AppendFailure::of(KafkaError::NotLeaderOrFollower));
        };
        let moved = leader.on_local_append(clock::now_ms(), log_end);
        let verdict = match leader.ack_state(leader.high_watermark()) {
            AckState::NotEnoughReplicasAfterAppend => {
                Err(AppendFailure::of(KafkaError::NotEnoughReplicasAfterAppend))
            }
            AckState::Done | AckState::Waiting => Ok(()),
        };
        if let Some(high_watermark) = moved {
            self.advance(&mut state, high_watermark);
        }
        verdict
    }

    fn note_recent(&self, state: &mut LeaderState, appended: &[(Offset, Offset, usize)]) {
        for (base, _, bytes) in appended {
            state.recent_bytes += bytes;
            match state.recent.back_mut() {
                Some((_, step)) if *step < HOT_STEP_BYTES => *step += bytes,
                _ => state.recent.push_back((*base, *bytes)),
            }
        }
        while state.recent_bytes > HOT_BYTES
            && state.recent.len() > 1
            && let Some((_, bytes)) = state.recent.pop_front()
        {
            state.recent_bytes -= bytes;
        }
        if let Some((base, _)) = state.recent.front() {
            self.hot_start.store(*base, Ordering::Relaxed);
        }
    }

    /// Publishes a new high watermark and wakes the fetches that waited for it.
    fn advance(&self, state: &mut LeaderState, high_watermark: Offset) {
        let high_watermark = self.parts.log.set_high_watermark(high_watermark);
        let mut bytes = 0;
        while let Some((end, size)) = state.uncommitted.front().copied()
            && end <= high_watermark
        {
            bytes += size;
            state.uncommitted.pop_front();
        }
        self.commit_waiters.complete(high_watermark, Ok(()));
        self.fetch_waiters.add_bytes(bytes);
    }
}

fn refuse(appends: Vec<PendingAppend>, error: KafkaError) {
    for append in appends {
        append.reply.send(Err(AppendFailure::of(error)));
    }
}

fn min_insync_replicas(log: &Log) -> usize {
    usize::try_from(log.config().min_insync_replicas).unwrap_or(1)
}
