//! The brokers, the cluster that they are in, and one step of their lives.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{Rng, RngExt, SeedableRng};
use strandline_log::record::{Batch, BatchBuilder, BatchOptions, NewRecord, ValidBatch};
use strandline_log::{
    LeaderAppend, LeaderEpoch, Log, LogConfig, Offset, OpenLog, TierStart, TopicId, TopicPartition,
};

use super::store::{Fate, Request, SimStore, State};
use crate::clock::Clock;
use crate::config::TierConfig;
use crate::fence::Fence;
use crate::format::PartitionKey;
use crate::remote_partition::{LeaderPartition, RemotePartition};
use crate::store::{RemoteStore, StoreMetrics};
use crate::tier::Tier;

pub const CLUSTER: &str = "simulated";
pub const TOPIC_ID: TopicId = TopicId::from_u128(0x51);
const BROKERS: usize = 3;
const TRACE_LINES_MAX: usize = 420;

pub fn tp() -> TopicPartition {
    TopicPartition::new("sim", 0)
}

pub fn key() -> PartitionKey {
    PartitionKey::new(CLUSTER, TOPIC_ID, 0)
}

/// Something that runs in a broker's process until its next request.
struct Task {
    process: u64,
    what: &'static str,
    future: Pin<Box<dyn Future<Output = String>>>,
}

pub struct Broker {
    pub id: usize,
    dir: PathBuf,
    /// `None`: the process is dead.
    pub log: Option<Arc<Log>>,
    pub tier: Option<Arc<Tier>>,
    pub process: u64,
    /// What it believes to lead.
    pub led: Option<Arc<RemotePartition>>,
    /// It may append: its log has everything that the manifest names.
    settled: bool,
    /// The epoch that it knows of.
    epoch: LeaderEpoch,
    must_truncate: bool,
    /// The process that was in sync last.
    in_sync_process: u64,
    log_start_checkpoint: Offset,
}

/// A batch that every in-sync replica had.
#[derive(Clone)]
pub struct Committed {
    pub base: Offset,
    pub end: Offset,
    pub bytes: Bytes,
}

pub struct World {
    pub rng: StdRng,
    pub store: Arc<Mutex<State>>,
    now_ms: Arc<AtomicI64>,
    pub brokers: Vec<Broker>,
    tasks: Vec<Task>,
    processes: u64,
    config: Arc<LogConfig>,
    folder: tempfile::TempDir,
    pub incarnation: u64,
    pub leader: Option<usize>,
    pub epoch: LeaderEpoch,
    pub isr: BTreeSet<usize>,
    pub committed: Vec<Committed>,
    /// Lost by the last in-sync replica, but maybe not for ever.
    limbo: Vec<Committed>,
    /// The largest log start that anybody was told of.
    pub log_start: Offset,
    pub trace: Vec<String>,
    /// No faults any more: everything is to heal.
    healing: bool,
}

impl World {
    pub fn new(seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        // Files that need no disk: the simulation itself says what a power loss takes.
        let memory = std::path::Path::new("/dev/shm");
        let folder = match memory.is_dir() {
            true => tempfile::tempdir_in(memory),
            false => tempfile::tempdir(),
        }
        .expect("a temporary folder");
        let retention_bytes = [-1, -1, 4_000, 12_000][rng.random_range(0..4)];
        let topic: BTreeMap<String, String> = [
            ("remote.storage.enable", "true".to_owned()),
            ("internal.segment.bytes", "1200".to_owned()),
            ("local.retention.bytes", "1".to_owned()),
            ("retention.ms", "-1".to_owned()),
            ("retention.bytes", retention_bytes.to_string()),
            ("file.delete.delay.ms", "0".to_owned()),
        ]
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect();
        let config = LogConfig::from_map(&topic, &BTreeMap::new())
            .expect("valid")
            .into_shared();
        let brokers = (0..BROKERS)
            .map(|id| Broker {
                id,
                dir: folder.path().join(id.to_string()).join(tp().to_string()),
                log: None,
                tier: None,
                process: 0,
                led: None,
                settled: false,
                epoch: -1,
                must_truncate: false,
                in_sync_process: 0,
                log_start_checkpoint: 0,
            })
            .collect();
        let mut world = Self {
            rng,
            store: Arc::default(),
            now_ms: Arc::new(AtomicI64::new(1_000_000)),
            brokers,
            tasks: Vec::new(),
            processes: 0,
            config,
            folder,
            incarnation: 1,
            leader: Some(0),
            epoch: 0,
            isr: (0..BROKERS).collect(),
            committed: Vec::new(),
            limbo: Vec::new(),
            log_start: 0,
            trace: Vec::new(),
            healing: false,
        };
        for id in 0..BROKERS {
            world.start(id);
        }
        world.begin_to_lead(0);
        world
    }

    pub fn now_ms(&self) -> i64 {
        self.now_ms.load(Ordering::Relaxed)
    }

    pub fn committed_end(&self) -> Offset {
        self.committed.last().map_or(0, |batch| batch.end)
    }

    fn note(&mut self, what: String) {
        // Healing repeats itself.
        if !self.healing || self.trace.len() < TRACE_LINES_MAX {
            self.trace.push(what);
        }
    }

    fn chance(&mut self, one_in: u32) -> bool {
        self.rng.random_range(0..one_in) == 0
    }

    // Brokers

    fn start(&mut self, id: usize) {
        self.processes += 1;
        let process = self.processes;
        let now_ms = self.now_ms();
        let mut seed = [0; 32];
        self.rng.fill_bytes(&mut seed);
        let store = SimStore::new(&self.store, process);
        let store =
            RemoteStore::from_object_store(Arc::new(store), "", StoreMetrics::unregistered());
        let clock = Arc::clone(&self.now_ms);
        let tier = Tier::with_store(
            tier_config(self.folder.path()),
            CLUSTER,
            store,
            &prometheus::Registry::new(),
            seed,
            Clock::from_fn(move || clock.load(Ordering::Relaxed)),
        )
        .expect("valid");
        let broker = &mut self.brokers[id];
        let open = OpenLog {
            log_start_offset: broker.log_start_checkpoint,
            ..OpenLog::new(now_ms)
        };
        let (log, _) = Log::open(&broker.dir, tp(), TOPIC_ID, Arc::clone(&self.config), open)
            .expect("a log opens after whatever happened to it");
        broker.log = Some(Arc::new(log));
        broker.tier = Some(tier);
        broker.process = process;
        broker.led = None;
        broker.settled = false;
        broker.epoch = self.epoch;
        broker.must_truncate = true;
    }

    /// The process dies between two requests, maybe with the machine's power, maybe with its disk.
    fn crash(&mut self, id: usize) {
        let process = self.brokers[id].process;
        self.tasks.retain(|task| task.process != process);
        {
            let mut state = self.store.lock();
            let pending = std::mem::take(&mut state.pending);
            for pending in pending {
                if pending.process != process {
                    state.pending.push(pending);
                } else if pending.request.is_write() && pending.id % 2 == 0 {
                    state.late.push(pending.request);
                }
            }
        }
        let how = self.rng.random_range(0..10);
        let broker = &mut self.brokers[id];
        broker.led = None;
        broker.tier = None;
        let Some(log) = broker.log.take() else { return };
        let now_ms = self.now_ms.load(Ordering::Relaxed);
        let mut what = "killed";
        if how < 4 {
            what = "lost its power";
            let (synced, end) = (log.recovery_point(), log.log_end_offset());
            if synced < end {
                let cut = self.rng.random_range(synced..=end);
                log.truncate_to(cut.max(log.log_start_offset()), now_ms)
                    .expect("cuts");
            }
        }
        drop(log);
        if how == 9 {
            what = "lost its disk";
            std::fs::remove_dir_all(&broker.dir).expect("was there");
            broker.log_start_checkpoint = 0;
        }
        self.note(format!("broker {id} {what}"));
        if self.isr.len() > 1 {
            self.isr.remove(&id);
        } else if what != "killed" && self.isr.contains(&id) {
            self.excuse_loss(id);
        }
        if self.leader == Some(id) {
            self.leader = None;
        }
    }

    /// The last in-sync replica has lost records: what is in neither tier any more is gone.
    fn excuse_loss(&mut self, id: usize) {
        let local_end = self.local_end_on_disk(id);
        let remote_end = self.manifest().map_or(0, |m| m.end_offset());
        let kept = local_end.max(remote_end);
        let lost = self.committed.iter().position(|batch| batch.end > kept);
        let lost = self
            .committed
            .split_off(lost.unwrap_or(self.committed.len()));
        self.limbo.splice(0..0, lost);
    }

    /// Somebody leads: what is not in the manifest by now never comes back.
    fn forget_limbo(&mut self) {
        let end = self.manifest().map_or(0, |m| m.end_offset());
        self.bring_back(end);
        self.limbo.clear();
    }

    /// An edit that was under way when its records were lost brings them back, as long as nobody leads.
    pub fn bring_back(&mut self, manifest_end: Offset) {
        while let Some(batch) = self.limbo.first()
            && batch.end <= manifest_end
        {
            self.committed.push(self.limbo.remove(0));
        }
    }

    fn local_end_on_disk(&self, id: usize) -> Offset {
        let broker = &self.brokers[id];
        if !broker.dir.is_dir() {
            return 0;
        }
        let open = OpenLog {
            log_start_offset: broker.log_start_checkpoint,
            ..OpenLog::new(self.now_ms())
        };
        let log = Log::open(&broker.dir, tp(), TOPIC_ID, Arc::clone(&self.config), open);
        log.expect("opens").0.log_end_offset()
    }

    /// The quorum has made it the leader of a new epoch.
    pub fn elect(&mut self, id: usize) {
        self.epoch += 1;
        self.leader = Some(id);
        self.note(format!("broker {id} leads epoch {}", self.epoch));
        self.begin_to_lead(id);
    }

    fn begin_to_lead(&mut self, id: usize) {
        let fence = Fence::new(self.incarnation, self.epoch);
        let (epoch, now_ms) = (self.epoch, self.now_ms());
        let broker = &mut self.brokers[id];
        let (Some(tier), Some(log)) = (&broker.tier, &broker.log) else {
            return;
        };
        let remote = tier.lead_unsettled(LeaderPartition {
            tp: tp(),
            topic_id: TOPIC_ID,
            fence,
            log: Arc::clone(log),
        });
        broker.epoch = epoch;
        broker.must_truncate = false;
        broker.led = Some(Arc::clone(&remote));
        // In sync without interruption, or in the first term of all.
        let is_in_sync = self.isr.contains(&id) && broker.in_sync_process == broker.process;
        if epoch == 0 || is_in_sync {
            remote.assume_covered().expect("writes");
            broker.settled = true;
        } else {
            broker.settled = remote.is_covered(false);
        }
        if broker.settled {
            log.assign_epoch(epoch).expect("assigns");
            self.forget_limbo();
            return;
        }
        let task = async move { format!("{:?}", remote.settle(now_ms).await) };
        self.spawn(id, "settle", task);
    }

    /// It hears of the present epoch.
    fn notice(&mut self, id: usize) {
        let broker = &mut self.brokers[id];
        if broker.epoch == self.epoch && broker.led.is_none() {
            return;
        }
        broker.epoch = self.epoch;
        broker.must_truncate = true;
        broker.settled = false;
        broker.led = None;
        if let Some(tier) = &broker.tier {
            tier.resign(&tp());
        }
        self.note(format!("broker {id} follows epoch {}", self.epoch));
    }

    fn believes_to_lead(&self, id: usize) -> bool {
        self.brokers[id].led.is_some()
    }

    /// Really leads, and may be written to.
    pub fn live_leader(&self) -> Option<(&Broker, &Arc<Log>)> {
        let broker = &self.brokers[self.leader?];
        let log = broker.log.as_ref()?;
        (broker.settled && broker.epoch == self.epoch).then_some((broker, log))
    }

    // Records

    pub fn append(&mut self, id: usize) {
        let broker = &self.brokers[id];
        if !broker.settled {
            return;
        }
        let (Some(log), epoch) = (broker.log.clone(), broker.epoch) else {
            return;
        };
        for _ in 0..self.rng.random_range(1..4) {
            let mut builder = BatchBuilder::new(BatchOptions::default());
            for _ in 0..self.rng.random_range(1..4) {
                let mut value = vec![0; self.rng.random_range(20..200)];
                self.rng.fill_bytes(&mut value);
                builder
                    .append(NewRecord {
                        timestamp: self.now_ms(),
                        key: None,
                        value: Some(value.into()),
                        headers: Vec::new(),
                    })
                    .expect("fits");
            }
            let batch = Batch::parse(builder.build()).expect("valid");
            append_batch(&log, batch, epoch, self.now_ms());
        }
        let end = log.log_end_offset();
        self.note(format!("broker {id} appends up to {end}"));
    }

    pub fn replicate(&mut self, id: usize) {
        let Some((leader, leader_log)) = self.live_leader() else {
            return;
        };
        let (leader_id, leader_log) = (leader.id, Arc::clone(leader_log));
        let broker = &self.brokers[id];
        let Some(log) = broker.log.clone() else {
            return;
        };
        if id == leader_id || broker.epoch != self.epoch || broker.led.is_some() {
            return;
        }
        let now_ms = self.now_ms();
        let local_start = leader_log.local_log_start_offset();
        if broker.must_truncate {
            let common = common_end(&log, &leader_log);
            log.truncate_to(common, now_ms).expect("cuts");
        }
        if log.log_end_offset() < local_start {
            // As a follower learns from the tier: its local part begins where the leader's does.
            let start = TierStart {
                log_start: leader_log.log_start_offset(),
                offset: local_start,
                epochs: leader_log.epoch_entries(),
                producer_snapshot: Bytes::new(),
            };
            log.start_from_tier(&start, now_ms).expect("starts");
            self.brokers[id].log_start_checkpoint = start.log_start;
        }
        self.brokers[id].must_truncate = false;
        for batch in local_batches(&leader_log, log.log_end_offset()) {
            let epoch = batch.header.partition_leader_epoch;
            append_batch(&log, batch, epoch, now_ms);
        }
        log.set_high_watermark(leader_log.high_watermark());
        let log_start = leader_log.log_start_offset();
        if log_start <= log.high_watermark() {
            log.increment_log_start_offset(log_start).expect("moves");
        }
        if log.log_end_offset() == leader_log.log_end_offset() {
            self.isr.insert(id);
            self.brokers[id].in_sync_process = self.brokers[id].process;
        }
        self.note(format!("broker {id} has up to {}", log.log_end_offset()));
    }

    /// The high watermark follows the in-sync replicas; what is below counts as acknowledged.
    pub fn commit(&mut self) {
        let Some((leader, log)) = self.live_leader() else {
            return;
        };
        let (leader_id, log) = (leader.id, Arc::clone(log));
        let ends = self.isr.iter().map(|id| {
            let broker = &self.brokers[*id];
            match &broker.log {
                Some(log)
                    if *id == leader_id
                        || (broker.epoch == self.epoch && !broker.must_truncate) =>
                {
                    log.log_end_offset()
                }
                _ => 0,
            }
        });
        let end = ends.min().unwrap_or(0);
        let from = self.committed_end();
        if end > from {
            for batch in local_batches(&log, from) {
                if batch.header.next_offset() > end {
                    break;
                }
                self.committed.push(Committed {
                    base: batch.header.base_offset,
                    end: batch.header.next_offset(),
                    bytes: batch.bytes.clone(),
                });
            }
        }
        log.set_high_watermark(self.committed_end().min(end.max(log.high_watermark())));
    }

    // Tasks

    fn spawn(
        &mut self,
        id: usize,
        what: &'static str,
        future: impl Future<Output = String> + 'static,
    ) {
        let process = self.brokers[id].process;
        self.tasks.push(Task {
            process,
            what,
            future: Box::pin(future),
        });
        self.note(format!("broker {id} begins to {what}"));
        self.poll_all();
    }

    /// Every task runs on until it waits for the store.
    fn poll_all(&mut self) {
        let mut context = Context::from_waker(Waker::noop());
        let mut at = 0;
        while at < self.tasks.len() {
            let task = &mut self.tasks[at];
            match task.future.as_mut().poll(&mut context) {
                Poll::Pending => at += 1,
                Poll::Ready(outcome) => {
                    let task = self.tasks.remove(at);
                    self.on_done(&task, outcome);
                    // It may have held what another waits for.
                    at = 0;
                }
            }
        }
    }

    fn on_done(&mut self, task: &Task, outcome: String) {
        self.note(format!(
            "{} of process {}: {outcome}",
            task.what, task.process
        ));
        if task.what != "settle" {
            return;
        }
        let epoch = self.epoch;
        let Some(id) = self.brokers.iter().position(|b| b.process == task.process) else {
            return;
        };
        let broker = &mut self.brokers[id];
        if !outcome.starts_with("Ok") || broker.led.is_none() || broker.epoch != epoch {
            return;
        }
        let Some(log) = &broker.log else { return };
        broker.settled = true;
        log.assign_epoch(epoch).expect("assigns");
        self.forget_limbo();
    }

    fn is_busy(&self, id: usize, what: &str) -> bool {
        let process = self.brokers[id].process;
        self.tasks
            .iter()
            .any(|task| task.process == process && task.what == what)
    }

    pub fn take_turn(&mut self, id: usize) {
        let broker = &self.brokers[id];
        let Some(remote) = broker.led.clone() else {
            return;
        };
        if !broker.settled {
            if !self.is_busy(id, "settle") {
                let now_ms = self.now_ms();
                let task = async move { format!("{:?}", remote.settle(now_ms).await) };
                self.spawn(id, "settle", task);
            }
        } else if !self.is_busy(id, "turn") {
            let task = async move {
                remote.take_turn().await;
                let status = remote.status();
                format!("{:?} {:?}", status.state, status.last_error)
            };
            self.spawn(id, "turn", task);
        }
    }

    pub fn collect(&mut self, id: usize) {
        let broker = &self.brokers[id];
        let Some(tier) = broker.tier.clone() else {
            return;
        };
        let core = Arc::clone(tier.core());
        if let Ok(removal) = core.garbage.pop(self.now_ms()) {
            let task = async move {
                let what = format!("{:?}", removal.what);
                core.remove(removal).await;
                what
            };
            self.spawn(id, "removal", task);
        }
    }

    /// Requests are answered until nobody asks any more; the first that `late` knows lands late.
    pub fn serve_all(&mut self, mut late: impl FnMut(&Request) -> bool) {
        loop {
            let fate = match self.store.lock().pending.first() {
                None => return,
                Some(pending) if late(&pending.request) => Fate::Late,
                Some(_) => Fate::Done,
            };
            let served = self.store.lock().serve(0, fate);
            self.note(served);
            self.poll_all();
        }
    }

    pub fn wait_ms(&mut self, ms: i64) {
        let now_ms = self.now_ms.fetch_add(ms, Ordering::Relaxed) + ms;
        self.store.lock().now_ms = now_ms;
    }

    fn serve(&mut self) {
        let waiting = self.store.lock().pending.len();
        if waiting == 0 {
            return;
        }
        let at = self.rng.random_range(0..waiting);
        let fate = match self.rng.random_range(0..40) {
            _ if self.healing => Fate::Done,
            0 => Fate::LostBefore,
            1 => Fate::LostAfter,
            2 => Fate::Retried,
            3..5 => Fate::Late,
            5 => Fate::Duplicated,
            _ => Fate::Done,
        };
        let served = self.store.lock().serve(at, fate);
        self.note(served);
        self.poll_all();
    }

    pub fn land_late(&mut self) {
        let mut state = self.store.lock();
        if state.late.is_empty() {
            return;
        }
        let at = self.rng.random_range(0..state.late.len());
        let request = state.late.remove(at);
        let done = state.apply(&request).is_ok();
        drop(state);
        self.note(format!("{request} lands late: {done}"));
    }

    // The life

    pub fn step(&mut self) {
        let moved = self.rng.random_range(0..20);
        self.now_ms.fetch_add(moved, Ordering::Relaxed);
        self.store.lock().now_ms = self.now_ms();
        let id = self.rng.random_range(0..BROKERS);
        match self.rng.random_range(0..100) {
            0..12 => {
                if self.believes_to_lead(id) {
                    self.append(id);
                }
            }
            12..22 => self.replicate(id),
            22..30 => self.commit(),
            30..34 => {
                if let Some(log) = &self.brokers[id].log
                    && log.active_segment_base_offset() < log.log_end_offset()
                {
                    log.roll(self.now_ms()).expect("rolls");
                }
            }
            34..44 => self.take_turn(id),
            44..82 => self.serve(),
            82..85 => self.land_late(),
            85..89 => self.collect(id),
            89..91 => {
                if self.leader != Some(id) {
                    self.notice(id);
                }
            }
            91..94 => self.rule(),
            94..96 => {
                if self.brokers[id].log.is_some() {
                    self.crash(id);
                }
            }
            96..98 => self.restart(id),
            98 => {
                let broker = &mut self.brokers[id];
                if let Some(log) = &broker.log {
                    broker.log_start_checkpoint = log.log_start_offset();
                }
            }
            _ => self.delete_records(),
        }
    }

    /// The quorum does what it must: elects from the in-sync replicas, and at times another leader for no reason.
    fn rule(&mut self) {
        let electable: Vec<usize> = self
            .isr
            .iter()
            .copied()
            .filter(|id| self.brokers[*id].log.is_some())
            .collect();
        let must = self.leader.is_none();
        if electable.is_empty() || !(must || self.chance(3)) {
            return;
        }
        let id = electable[self.rng.random_range(0..electable.len())];
        if self.leader == Some(id) {
            // A replica that lags is put out of the set, so that others can go on.
            if let Some(other) = self.isr.iter().copied().find(|other| *other != id)
                && self.isr.len() > 1
            {
                self.isr.remove(&other);
            }
            return;
        }
        // Whoever led before does not hear of it at once.
        self.elect(id);
    }

    fn restart(&mut self, id: usize) {
        if self.brokers[id].log.is_some() {
            return;
        }
        self.start(id);
        self.note(format!("broker {id} starts"));
        // It is told of the present leader; one that lost its place comes back as a follower.
        if self.leader.is_none() && self.isr.contains(&id) {
            self.elect(id);
        }
    }

    fn delete_records(&mut self) {
        let Some((_, log)) = self.live_leader() else {
            return;
        };
        let log = Arc::clone(log);
        let Some(batch) = self.committed.len().checked_sub(1) else {
            return;
        };
        let to = self.committed[self.rng.random_range(0..=batch)].end;
        if self.rng.random_range(0..3) == 0 && to <= log.high_watermark() {
            log.increment_log_start_offset(to).expect("moves");
            self.log_start = self.log_start.max(to);
            self.note(format!("records are deleted up to {to}"));
        }
    }

    /// No faults any more: a leader is found, uploads everything that is sealed, and followers catch up.
    pub fn heal(&mut self) {
        for id in 0..BROKERS {
            self.restart(id);
        }
        while !self.store.lock().late.is_empty() {
            self.land_late();
        }
        if self.leader.is_none() {
            self.rule();
        }
        let leader = self.leader.expect("somebody is in sync and alive");
        for id in 0..BROKERS {
            if id != leader {
                self.notice(id);
            }
        }
        self.note("all heals".to_owned());
        self.healing = true;
        for _ in 0..60 {
            self.now_ms.fetch_add(100, Ordering::Relaxed);
            self.take_turn(leader);
            while !self.store.lock().pending.is_empty() {
                self.serve();
            }
            for id in 0..BROKERS {
                self.replicate(id);
                self.collect(id);
            }
            self.commit();
        }
    }

    pub fn manifest(&self) -> Option<crate::manifest::Manifest> {
        let state = self.store.lock();
        let object = state.objects.get(&key().manifest_root())?;
        Some(crate::format::manifest_root::decode(object.bytes.clone()).expect("a root decodes"))
    }
}

fn append_batch(log: &Log, batch: Batch, epoch: LeaderEpoch, now_ms: i64) {
    let append = LeaderAppend {
        batch: ValidBatch { batch },
    };
    for answer in log.append_as_leader(&[append], epoch, now_ms) {
        answer.expect("appends");
    }
}

/// The whole batches of a local log from an offset on.
pub fn local_batches(log: &Log, from: Offset) -> Vec<Batch> {
    let end = log.log_end_offset();
    let mut offset = from.max(log.local_log_start_offset());
    let mut batches = Vec::new();
    while offset < end {
        let read = log.read(offset, end, 1 << 20, true).expect("readable");
        let before = offset;
        for slice in &read.slices {
            let bytes = slice.read_to_bytes().expect("reads");
            for batch in strandline_log::record::split_batches(bytes).expect("whole batches") {
                offset = batch.header.next_offset();
                batches.push(batch);
            }
        }
        assert!(offset > before, "nothing is read at {before}");
    }
    batches
}

/// Where a follower's log ceases to be its leader's.
fn common_end(follower: &Log, leader: &Log) -> Offset {
    let theirs: BTreeMap<Offset, Batch> = local_batches(leader, 0)
        .into_iter()
        .map(|batch| (batch.header.base_offset, batch))
        .collect();
    let begin = leader.local_log_start_offset();
    for batch in local_batches(follower, 0) {
        // Below the leader's local start only epochs tell.
        let base = batch.header.base_offset;
        let same = match theirs.get(&base) {
            Some(other) => other.bytes == batch.bytes,
            None if batch.header.next_offset() <= begin => {
                leader.epoch_for_offset(base) == Some(batch.header.partition_leader_epoch)
            }
            None => false,
        };
        if !same {
            return base;
        }
    }
    follower.log_end_offset()
}

fn tier_config(folder: &std::path::Path) -> TierConfig {
    TierConfig {
        delete_delay_ms: 50,
        sweep_interval_ms: 150,
        orphan_age_ms: 60,
        ..TierConfig::for_tests(folder)
    }
}
