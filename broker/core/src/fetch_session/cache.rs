//! The sessions of one shard.

use kafka_protocol::ResponseError as KafkaError;
use kafka_protocol::messages::FetchRequest;
use strandline_log::config_def::{ConfigDef, ConfigKind, ConfigScope};

use super::key::WantedPartition;
use super::session::{Candidate, PartitionResult, Slot};

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
    /// Every partition is answered once; the session begins when `session_id` is not 0.
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
    /// The partitions of a fetch without a session; empty otherwise.
    pub wanted: Vec<WantedPartition>,
    /// Slots that this request brought into the session: watch them.
    pub added: Vec<Candidate>,
    /// Slots that this request took out of the session: stop watching.
    pub forgotten: Vec<Candidate>,
    epoch: i32,
}

/// The sessions of one shard.
pub struct FetchSessionCache {
    config: FetchSessionConfig,
    ids: SessionIdSource,
}

impl FetchSessionCache {
    pub fn new(config: FetchSessionConfig, ids: SessionIdSource) -> Self {
        Self { config, ids }
    }

    /// Which of `shards` caches holds the session of a request; `any` picks one for a request without a session.
    pub fn shard_of(session_id: i32, shards: i32, any: u32) -> usize {
        let shards = shards.max(1) as u32;
        (if session_id > 0 {
            session_id as u32 % shards
        } else {
            any % shards
        }) as usize
    }

    /// Takes in a request: finds or begins its session and applies what it adds, changes and forgets.
    /// Errors: FETCH_SESSION_ID_NOT_FOUND, INVALID_FETCH_SESSION_EPOCH, FETCH_SESSION_TOPIC_ID_ERROR.
    /// `privileged`: a follower's, which consumers cannot push out.
    pub fn begin(
        &mut self,
        now_ms: i64,
        version: i16,
        request: &FetchRequest,
        privileged: bool,
    ) -> Result<FetchContext, KafkaError> {
        let _ = (
            now_ms,
            version,
            request,
            privileged,
            &self.config,
            (self.ids)(),
        );
        Err(KafkaError::FetchSessionIdNotFound)
    }

    /// The partitions to look at, in the order in which they should be read.
    pub fn candidates(&self, context: &FetchContext) -> Vec<Candidate> {
        let _ = context;
        Vec::new()
    }

    /// A look that gives no answer yet (too few bytes): an idle partition is unmarked.
    pub fn park(&mut self, context: &FetchContext, slot: Slot, result: &PartitionResult) {
        let _ = (context, slot, result);
    }

    /// The look that is answered. True when the partition belongs in the answer.
    pub fn settle(&mut self, context: &FetchContext, slot: Slot, result: &PartitionResult) -> bool {
        let _ = (context, slot, result);
        true
    }

    /// Before the answer is sent: fails when the session was closed or used by another request meanwhile.
    pub fn finish(&mut self, now_ms: i64, context: &FetchContext) -> Result<(), KafkaError> {
        let _ = (now_ms, context.epoch);
        Ok(())
    }

    /// Something about the partition changed. True when it was not marked already.
    pub fn mark_dirty(&mut self, session_id: i32, slot: Slot) -> bool {
        let _ = (session_id, slot);
        false
    }

    /// Sessions that were pushed out or closed since the last call, with the slots that were watched.
    pub fn take_closed(&mut self) -> Vec<(i32, Vec<Candidate>)> {
        Vec::new()
    }

    pub fn len(&self) -> usize {
        0
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Partitions in all sessions: Kafka's NumIncrementalFetchPartitionsCached.
    pub fn partitions_cached(&self) -> usize {
        0
    }

    /// Sessions pushed out by others so far: Kafka's IncrementalFetchSessionEvictions.
    pub fn evictions(&self) -> u64 {
        0
    }
}
