//! The sessions of one shard, and which of them give way when there are too many.
//!
//! A new session takes a free slot; else the place of one unused for longer than the eviction time; else that of the
//! least valuable one, if the newcomer is worth more: followers before consumers, many partitions before few. A session
//! is protected for the eviction time after its creation, a consumer's not against a follower.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kafka_protocol::ResponseError as KafkaError;
use kafka_protocol::messages::FetchRequest;
use strandline_log::config_def::{ConfigDef, ConfigKind, ConfigScope};

use super::key::{FetchPosition, SessionTopic, WantedPartition};
use super::session::{Candidate, Changes, FetchSession, PartitionResult, Slot};

/// Kafka's time before a session may be pushed out.
pub const EVICTION_MS: i64 = 120_000;
/// The most partitions of one session: it would otherwise grow with every request.
pub const SESSION_PARTITIONS_MAX: usize = 200_000;

const NO_SESSION: i32 = 0;
const INITIAL_EPOCH: i32 = 0;
const FINAL_EPOCH: i32 = -1;
/// Requests name topics by id from here on.
const TOPIC_ID_VERSION: i16 = 13;

static CONFIG_DEFS: &[ConfigDef] = &[ConfigDef {
    name: "max.incremental.fetch.session.cache.slots",
    kind: ConfigKind::Int {
        min: 0,
        max: i32::MAX,
    },
    default: Some("1000"),
    scope: ConfigScope::Broker,
    doc: "The most incremental fetch sessions that are kept, over all shards.",
}];

/// The fetch sessions' lines of the joined config table.
pub fn config_defs() -> &'static [ConfigDef] {
    CONFIG_DEFS
}

/// Draws session ids. The driver passes one over a real generator, tests a seeded one.
pub type SessionIdSource = Box<dyn FnMut() -> i32 + Send>;

/// The limits of one shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FetchSessionConfig {
    /// The most sessions in this shard.
    pub slots_max: usize,
    /// A session unused for this long may give way to any other.
    pub eviction_ms: i64,
    /// Which shard this is, and of how many: ids tell their shard by `id % shards`.
    pub shard: i32,
    pub shards: i32,
}

/// What kind of fetch a request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FetchKind {
    /// No session: every partition is named and answered each time.
    Sessionless,
    /// Every partition is answered once; the session begins with this request.
    Full,
    /// Only what changed.
    Incremental,
}

/// One request on its way through the cache.
#[derive(Clone, Debug)]
pub struct FetchContext {
    pub kind: FetchKind,
    /// What the answer carries; 0 without a session.
    pub session_id: i32,
    /// The partitions that this request brought into the session: watch them.
    pub added: Vec<Candidate>,
    /// The partitions that this request took out of the session: stop watching.
    pub forgotten: Vec<Candidate>,
    /// The partitions of a fetch without a session.
    wanted: Vec<Candidate>,
    /// The session's epoch while this request is its latest.
    epoch: i32,
}

/// The sessions of one shard.
pub struct FetchSessionCache {
    config: FetchSessionConfig,
    ids: SessionIdSource,
    sessions: BTreeMap<i32, FetchSession>,
    last_used: BTreeSet<(i64, i32)>,
    /// Who gives way to anyone, least valuable first: (privileged, partitions, id).
    evictable_by_all: BTreeSet<(bool, usize, i32)>,
    /// Who gives way to a privileged session.
    evictable_by_privileged: BTreeSet<(bool, usize, i32)>,
    closed: Vec<(i32, Vec<Candidate>)>,
    partitions: usize,
    evictions: u64,
}

impl FetchSessionCache {
    pub fn new(config: FetchSessionConfig, ids: SessionIdSource) -> Self {
        Self {
            config,
            ids,
            sessions: BTreeMap::new(),
            last_used: BTreeSet::new(),
            evictable_by_all: BTreeSet::new(),
            evictable_by_privileged: BTreeSet::new(),
            closed: Vec::new(),
            partitions: 0,
            evictions: 0,
        }
    }

    /// Which of `shards` caches holds the session of a request; `any` picks one for a request without a session.
    pub fn shard_of(session_id: i32, shards: i32, any: u32) -> usize {
        let shards = shards.max(1) as u32;
        let shard = match u32::try_from(session_id) {
            Ok(id) if id > 0 => id % shards,
            _ => any % shards,
        };
        shard as usize
    }

    /// Takes in a request: finds or begins its session and applies what it adds, changes and forgets.
    /// Errors: FETCH_SESSION_ID_NOT_FOUND, INVALID_FETCH_SESSION_EPOCH, FETCH_SESSION_TOPIC_ID_ERROR.
    /// `privileged`: a follower's, which consumers cannot push out.
    ///
    /// Then: watch `added` (each watcher calls [`mark_dirty`](Self::mark_dirty)), stop watching `forgotten` and what
    /// [`take_closed`](Self::take_closed) returns, look at the [`candidates`](Self::candidates). Either
    /// [`settle`](Self::settle) each and [`finish`](Self::finish), or become ready to be woken and
    /// [`park`](Self::park) each.
    pub fn begin(
        &mut self,
        now_ms: i64,
        version: i16,
        request: &FetchRequest,
        privileged: bool,
    ) -> Result<FetchContext, KafkaError> {
        if matches!(request.session_epoch, INITIAL_EPOCH | FINAL_EPOCH) {
            self.remove(request.session_id);
            let wanted = wanted(version, request);
            if request.session_epoch == INITIAL_EPOCH {
                return Ok(self.begin_full(now_ms, version, wanted, privileged));
            }
            return Ok(sessionless(wanted));
        }
        let session = self
            .sessions
            .get_mut(&request.session_id)
            .ok_or(KafkaError::FetchSessionIdNotFound)?;
        if session.epoch != request.session_epoch {
            return Err(KafkaError::InvalidFetchSessionEpoch);
        }
        if session.uses_topic_ids != (version >= TOPIC_ID_VERSION) {
            return Err(KafkaError::FetchSessionTopicIdError);
        }
        let wanted = wanted(version, request);
        if session.len() + wanted.len() > SESSION_PARTITIONS_MAX {
            self.remove(request.session_id);
            return Err(KafkaError::FetchSessionIdNotFound);
        }
        let Changes { added, forgotten } =
            session.update(wanted.clone(), forgotten(version, request));
        if session.len() == 0 {
            self.remove(request.session_id);
            return Ok(FetchContext {
                forgotten,
                ..sessionless(wanted)
            });
        }
        session.epoch = next_epoch(session.epoch);
        let context = FetchContext {
            kind: FetchKind::Incremental,
            session_id: session.id,
            added,
            forgotten,
            wanted: Vec::new(),
            epoch: session.epoch,
        };
        self.touch(now_ms, request.session_id);
        Ok(context)
    }

    fn begin_full(
        &mut self,
        now_ms: i64,
        version: i16,
        wanted: Vec<WantedPartition>,
        privileged: bool,
    ) -> FetchContext {
        if wanted.is_empty()
            || wanted.len() > SESSION_PARTITIONS_MAX
            || !self.make_room(now_ms, privileged, wanted.len())
        {
            return sessionless(wanted);
        }
        let id = self.new_id();
        let mut session = FetchSession::new(id, privileged, version >= TOPIC_ID_VERSION, now_ms);
        let Changes { added, forgotten } = session.update(wanted, Vec::new());
        let epoch = session.epoch;
        self.sessions.insert(id, session);
        self.touch(now_ms, id);
        FetchContext {
            kind: FetchKind::Full,
            session_id: id,
            added,
            forgotten,
            wanted: Vec::new(),
            epoch,
        }
    }

    /// The partitions to look at, in the order in which they should be read.
    pub fn candidates(&self, context: &FetchContext) -> Vec<Candidate> {
        if context.kind == FetchKind::Sessionless {
            return context.wanted.clone();
        }
        self.sessions
            .get(&context.session_id)
            .map(FetchSession::candidates)
            .unwrap_or_default()
    }

    /// A look that gives no answer yet (too few bytes): an idle partition is unmarked. True when the partition was marked
    /// again since its look: look again instead of waiting.
    pub fn park(
        &mut self,
        context: &FetchContext,
        candidate: &Candidate,
        result: &PartitionResult,
    ) -> bool {
        match self.current(context) {
            Some(session) => session.park(candidate, result),
            None => false,
        }
    }

    /// The look that is answered. True when the partition belongs in the answer.
    pub fn settle(
        &mut self,
        context: &FetchContext,
        candidate: &Candidate,
        result: &PartitionResult,
    ) -> bool {
        let kind = context.kind;
        match self.current(context) {
            // A full answer has them all.
            Some(session) => session.settle(candidate, result) || kind == FetchKind::Full,
            None => true,
        }
    }

    /// Before the answer is sent: INVALID_FETCH_SESSION_EPOCH when another request of the session came meanwhile,
    /// FETCH_SESSION_ID_NOT_FOUND when the session was closed. A full answer is right either way.
    pub fn finish(&self, context: &FetchContext) -> Result<(), KafkaError> {
        if context.kind != FetchKind::Incremental {
            return Ok(());
        }
        match self.sessions.get(&context.session_id) {
            None => Err(KafkaError::FetchSessionIdNotFound),
            Some(session) if session.epoch != context.epoch => {
                Err(KafkaError::InvalidFetchSessionEpoch)
            }
            Some(_) => Ok(()),
        }
    }

    /// Something about the partition changed. True when a fetch of the session that waits should look again.
    pub fn mark_dirty(&mut self, session_id: i32, slot: Slot) -> bool {
        self.sessions
            .get_mut(&session_id)
            .is_some_and(|session| session.mark(slot))
    }

    /// Sessions that were pushed out or closed since the last call, with the partitions that were watched for them.
    pub fn take_closed(&mut self) -> Vec<(i32, Vec<Candidate>)> {
        std::mem::take(&mut self.closed)
    }

    /// Sessions: Kafka's NumIncrementalFetchSessions.
    pub fn len(&self) -> usize {
        self.sessions.len()
    }

    pub fn is_empty(&self) -> bool {
        self.sessions.is_empty()
    }

    /// Partitions in all sessions: Kafka's NumIncrementalFetchPartitionsCached.
    pub fn partitions_cached(&self) -> usize {
        self.partitions
    }

    /// Sessions pushed out by others so far: Kafka's IncrementalFetchSessionEvictionsPerSec counts these.
    pub fn evictions(&self) -> u64 {
        self.evictions
    }

    /// The session, while the request is its latest.
    fn current(&mut self, context: &FetchContext) -> Option<&mut FetchSession> {
        self.sessions
            .get_mut(&context.session_id)
            .filter(|session| session.epoch == context.epoch)
    }

    fn make_room(&mut self, now_ms: i64, privileged: bool, size: usize) -> bool {
        if self.sessions.len() < self.config.slots_max {
            return true;
        }
        let Some((used_ms, oldest)) = self.last_used.first().copied() else {
            return false;
        };
        let victim = if now_ms - used_ms > self.config.eviction_ms {
            oldest
        } else {
            let evictable = if privileged {
                &self.evictable_by_privileged
            } else {
                &self.evictable_by_all
            };
            match evictable.first() {
                Some(least) if (privileged, size, 0) >= *least => least.2,
                _ => return false,
            }
        };
        self.remove(victim);
        self.evictions += 1;
        true
    }

    /// A positive id that is free and tells this shard.
    fn new_id(&mut self) -> i32 {
        let shards = self.config.shards.max(1);
        loop {
            let drawn = (self.ids)() & i32::MAX;
            let id = drawn - drawn % shards;
            if let Some(id) = id.checked_add(self.config.shard)
                && id > NO_SESSION
                && !self.sessions.contains_key(&id)
            {
                return id;
            }
        }
    }

    /// Notes a use of the session, under its present size.
    fn touch(&mut self, now_ms: i64, id: i32) {
        let Some(session) = self.sessions.get_mut(&id) else {
            return;
        };
        self.last_used.remove(&(session.last_used_ms, id));
        let old = (session.privileged, session.cached_size, id);
        self.evictable_by_all.remove(&old);
        self.evictable_by_privileged.remove(&old);
        self.partitions -= session.cached_size;

        session.last_used_ms = now_ms;
        session.cached_size = session.len();
        self.partitions += session.cached_size;
        self.last_used.insert((now_ms, id));
        let new = (session.privileged, session.cached_size, id);
        let is_old = now_ms - session.created_ms > self.config.eviction_ms;
        if is_old {
            self.evictable_by_all.insert(new);
        }
        if is_old || !session.privileged {
            self.evictable_by_privileged.insert(new);
        }
    }

    fn remove(&mut self, id: i32) {
        let Some(session) = self.sessions.remove(&id) else {
            return;
        };
        let key = (session.privileged, session.cached_size, id);
        self.last_used.remove(&(session.last_used_ms, id));
        self.evictable_by_all.remove(&key);
        self.evictable_by_privileged.remove(&key);
        self.partitions -= session.cached_size;
        self.closed.push((id, session.all()));
    }
}

fn next_epoch(epoch: i32) -> i32 {
    if epoch == i32::MAX { 1 } else { epoch + 1 }
}

fn sessionless(wanted: Vec<WantedPartition>) -> FetchContext {
    let wanted = wanted
        .into_iter()
        .enumerate()
        .map(|(index, wanted)| Candidate {
            slot: Slot(index as u32),
            topic: wanted.topic,
            partition: wanted.partition,
            position: wanted.position,
            marks: 0,
        })
        .collect();
    FetchContext {
        kind: FetchKind::Sessionless,
        session_id: NO_SESSION,
        added: Vec::new(),
        forgotten: Vec::new(),
        wanted,
        epoch: FINAL_EPOCH,
    }
}

fn session_topic(version: i16, name: &str, id: uuid::Uuid) -> SessionTopic {
    if version >= TOPIC_ID_VERSION {
        SessionTopic::Id(id)
    } else {
        SessionTopic::Name(Arc::from(name))
    }
}

fn wanted(version: i16, request: &FetchRequest) -> Vec<WantedPartition> {
    let mut wanted = Vec::new();
    for topic in &request.topics {
        let key = session_topic(version, &topic.topic, topic.topic_id);
        wanted.extend(topic.partitions.iter().map(|partition| WantedPartition {
            topic: key.clone(),
            partition: partition.partition,
            position: FetchPosition {
                fetch_offset: partition.fetch_offset,
                current_leader_epoch: partition.current_leader_epoch,
                last_fetched_epoch: partition.last_fetched_epoch,
                log_start_offset: partition.log_start_offset,
                max_bytes: partition.partition_max_bytes,
            },
        }));
    }
    wanted
}

fn forgotten(version: i16, request: &FetchRequest) -> Vec<(SessionTopic, i32)> {
    let mut forgotten = Vec::new();
    for topic in &request.forgotten_topics_data {
        let key = session_topic(version, &topic.topic, topic.topic_id);
        forgotten.extend(
            topic
                .partitions
                .iter()
                .map(|partition| (key.clone(), *partition)),
        );
    }
    forgotten
}

#[cfg(test)]
mod tests;
