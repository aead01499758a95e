//! The brokers and the cluster that they are in: they start, lead, hear of it, and die.

mod records;
mod tasks;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{Rng, RngExt, SeedableRng};
use strandline_log::record::Batch;
use strandline_log::{LeaderEpoch, Log, LogConfig, Offset, OpenLog, TopicId, TopicPartition};

use super::store::{SimStore, State};
use crate::clock::Clock;
use crate::config::TierConfig;
use crate::fence::Fence;
use crate::format::{PartitionKey, manifest_root};
use crate::id_source::IdSource;
use crate::manifest::{Manifest, ManifestStore, PageCache};
use crate::remote_partition::{LeaderPartition, RemotePartition};
use crate::repair::accept_loss;
use crate::store::{RemoteStore, StoreMetrics};
use crate::tier::Tier;

pub const CLUSTER: &str = "simulated";
pub const TOPIC_ID: TopicId = TopicId::from_u128(0x51);
const BROKERS: usize = 3;
/// What is older expires while copying is off.
pub const OLD_MS: i64 = 10_000;
/// The process of whoever runs the command line.
const OPERATOR: u64 = u64::MAX;
const TRACE_LINES_MAX: usize = 420;

pub fn tp() -> TopicPartition {
    TopicPartition::new("sim", 0)
}

pub fn key() -> PartitionKey {
    PartitionKey::new(CLUSTER, TOPIC_ID, 0)
}

pub use self::records::local_batches;
use self::tasks::Task;

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

impl Committed {
    /// Expired while copying is off.
    pub fn is_old(&self, now_ms: i64) -> bool {
        let batch = Batch::parse(self.bytes.clone()).expect("it was appended");
        now_ms - batch.header.max_timestamp > OLD_MS
    }
}

impl std::fmt::Debug for Committed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "[{}, {})", self.base, self.end)
    }
}

/// What the topic's settings say of its tier (KIP-950).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tiering {
    On,
    /// remote.log.copy.disable.
    CopyOff,
    /// remote.storage.enable is off and remote.log.delete.on.disable is on.
    GivenUp,
}

pub struct World {
    pub rng: StdRng,
    pub store: Arc<Mutex<State>>,
    now_ms: Arc<AtomicI64>,
    pub brokers: Vec<Broker>,
    tasks: Vec<Task>,
    processes: u64,
    config: Arc<LogConfig>,
    retention_bytes: i64,
    pub tiering: Tiering,
    /// Copying, or all of the tier, was off some time.
    pub was_off: bool,
    pub was_given_up: bool,
    /// The root that the store has lost, until it is made again.
    pub lost_root: Option<Manifest>,
    /// What the store has lost.
    pub rotten: BTreeSet<String>,
    /// The manifest names records that the log may have lost: those of a tier that was given up.
    pub is_stale: bool,
    /// How far back in time records are written: a log's time may go backwards.
    written_before_ms: i64,
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
            config: log_config(Tiering::On, retention_bytes),
            retention_bytes,
            tiering: Tiering::On,
            was_off: false,
            was_given_up: false,
            lost_root: None,
            rotten: BTreeSet::new(),
            is_stale: false,
            written_before_ms: 0,
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
        // A lost disk takes the note with it that the manifest is not to be believed.
        if how == 9 && !self.is_stale {
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
        let remote_end = match self.tiering {
            Tiering::GivenUp => 0,
            _ => self.manifest().map_or(0, |m| m.end_offset()),
        };
        let kept = local_end.max(remote_end);
        let lost = self.committed.iter().position(|batch| batch.end > kept);
        let lost = self
            .committed
            .split_off(lost.unwrap_or(self.committed.len()));
        if self.tiering == Tiering::GivenUp {
            self.limbo.clear();
            self.is_stale |= self.manifest().is_some_and(|m| m.end_offset() > kept);
        } else {
            self.limbo.splice(0..0, lost);
        }
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
        let (Some(tier), Some(log)) = (&broker.tier, broker.log.clone()) else {
            return;
        };
        let remote = tier.lead_unsettled(LeaderPartition {
            tp: tp(),
            topic_id: TOPIC_ID,
            fence,
            log: Arc::clone(&log),
        });
        broker.epoch = epoch;
        broker.must_truncate = false;
        broker.led = Some(Arc::clone(&remote));
        if self.tiering == Tiering::GivenUp {
            self.lead_without_tier(id);
            return;
        }
        let broker = &mut self.brokers[id];
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

    /// The local log is what counts, whatever the manifest still names.
    fn lead_without_tier(&mut self, id: usize) {
        let (epoch, is_leader) = (self.epoch, self.leader == Some(id));
        let broker = &mut self.brokers[id];
        let (Some(remote), Some(log)) = (broker.led.clone(), broker.log.clone()) else {
            return;
        };
        let local_start = log.local_log_start_offset();
        log.increment_log_start_offset(local_start.min(log.high_watermark()))
            .expect("moves");
        remote.begin_to_give_up().expect("writes");
        if !broker.settled {
            log.assign_epoch(epoch).expect("assigns");
        }
        broker.settled = true;
        if !is_leader {
            return;
        }
        self.log_start = self.log_start.max(log.log_start_offset());
        let end = log.log_end_offset();
        if let Some(lost) = self.committed.iter().position(|batch| batch.end > end) {
            self.committed.truncate(lost);
            self.is_stale = true;
        }
        self.is_stale |= !self.limbo.is_empty();
        self.limbo.clear();
        self.is_stale |= self.manifest().is_some_and(|m| m.end_offset() > end);
    }

    /// Somebody alters the topic's settings. All that live hear of it.
    fn switch(&mut self) {
        let next = [Tiering::On, Tiering::CopyOff, Tiering::GivenUp];
        self.tiering = next[self.rng.random_range(0..next.len())];
        self.was_off |= self.tiering != Tiering::On;
        self.was_given_up |= self.tiering == Tiering::GivenUp;
        self.written_before_ms = [0, 2 * OLD_MS][self.rng.random_range(0..2)];
        self.set_tiering(self.tiering);
    }

    /// The store loses an object, or what is in it. Only while tiering is on: else nobody looks.
    fn rot(&mut self) {
        let is_looked_at = self.tiering != Tiering::GivenUp && self.lost_root.is_none();
        let Some(manifest) = self.manifest().filter(|_| is_looked_at) else {
            return;
        };
        let mut store = self.store.lock();
        let named: Vec<String> = manifest.entries.iter().map(|e| e.key(&key())).collect();
        let Some(at) = named.len().checked_sub(1) else {
            return;
        };
        let lost = &named[self.rng.random_range(0..=at)];
        let how = self.rng.random_range(0..3);
        let Some(object) = store.objects.get_mut(lost) else {
            return;
        };
        match how {
            0 => drop(store.objects.remove(lost)),
            1 => object.bytes = object.bytes.slice(..object.bytes.len() / 2),
            _ => {
                let mut bytes = object.bytes.to_vec();
                let at = self.rng.random_range(0..bytes.len());
                bytes[at] ^= 1;
                object.bytes = bytes.into();
            }
        }
        self.rotten.insert(lost.clone());
        drop(store);
        self.note(format!("the store has lost {lost} ({how})"));
    }

    /// An operator gives up what is reported as lost.
    fn accept_losses(&mut self) {
        let Some(manifest) = self.manifest().filter(|m| !m.is_deleted()) else {
            return;
        };
        let store = SimStore::new(&self.store, OPERATOR);
        let store =
            RemoteStore::from_object_store(Arc::new(store), "", StoreMetrics::unregistered());
        let mut seed = [0; 32];
        self.rng.fill_bytes(&mut seed);
        let ids = IdSource::from_seed(seed);
        let manifests = ManifestStore::new(&store, key(), ids, PageCache::default());
        let lost: Vec<_> = manifest.entries.into_iter().filter(|e| e.damaged).collect();
        if lost.is_empty() {
            return;
        }
        let task = async move {
            let mut told = String::new();
            for entry in lost {
                let done = accept_loss(&manifests, &entry).await;
                told += &format!("{} to {}: {done:?} ", entry.start, entry.end);
            }
            told
        };
        self.spawn_as(OPERATOR, "accept losses", task);
    }

    pub fn set_tiering(&mut self, tiering: Tiering) {
        self.tiering = tiering;
        self.config = log_config(tiering, self.retention_bytes);
        self.note(format!("tiering is {tiering:?}"));
        for id in 0..BROKERS {
            let broker = &self.brokers[id];
            if let Some(log) = &broker.log {
                log.set_config(Arc::clone(&self.config));
            }
            if tiering == Tiering::GivenUp && broker.led.is_some() && broker.epoch == self.epoch {
                self.lead_without_tier(id);
            }
        }
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

    /// What is named; while the root is lost, what was.
    pub fn manifest(&self) -> Option<Manifest> {
        let state = self.store.lock();
        let stored = state.objects.get(&key().manifest_root());
        match stored.map(|object| manifest_root::decode(object.bytes.clone())) {
            Some(Ok(manifest)) => Some(manifest),
            Some(Err(error)) => {
                assert!(self.lost_root.is_some(), "a root decodes: {error}");
                self.lost_root.clone()
            }
            None => self.lost_root.clone(),
        }
    }

    /// The store loses the root. Where it named gaps, only a person can tell what belonged there.
    fn lose_root(&mut self) {
        let known = self
            .manifest()
            .filter(|m| m.gaps.is_empty() && m.entry_count() > 0);
        let Some(manifest) = known else {
            return;
        };
        if self.lost_root.is_some() || self.was_off || !self.rotten.is_empty() {
            return;
        }
        let damaged = self.chance(2);
        let mut store = self.store.lock();
        let root = key().manifest_root();
        match store.objects.get_mut(&root) {
            Some(object) if damaged => object.bytes = object.bytes.slice(1..),
            Some(_) => drop(store.objects.remove(&root)),
            None => return,
        }
        drop(store);
        self.lost_root = Some(manifest);
        self.note(format!("the store has lost the root ({damaged})"));
    }
}

fn log_config(tiering: Tiering, retention_bytes: i64) -> Arc<LogConfig> {
    let given_up = tiering == Tiering::GivenUp;
    let copy_off = tiering == Tiering::CopyOff;
    let topic: BTreeMap<String, String> = [
        ("remote.storage.enable", (!given_up).to_string()),
        ("remote.log.delete.on.disable", given_up.to_string()),
        ("remote.log.copy.disable", copy_off.to_string()),
        ("internal.segment.bytes", "1200".to_owned()),
        ("local.retention.bytes", "1".to_owned()),
        // Records that are written as if long ago expire while nothing is copied.
        (
            "retention.ms",
            if copy_off { OLD_MS } else { -1 }.to_string(),
        ),
        ("retention.bytes", retention_bytes.to_string()),
        ("file.delete.delay.ms", "0".to_owned()),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value))
    .collect();
    LogConfig::from_map(&topic, &BTreeMap::new())
        .expect("valid")
        .into_shared()
}

fn tier_config(folder: &std::path::Path) -> TierConfig {
    TierConfig {
        delete_delay_ms: 50,
        scrub_interval_ms: 150,
        sweep_interval_ms: 150,
        orphan_age_ms: 60,
        ..TierConfig::for_tests(folder)
    }
}
