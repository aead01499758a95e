//! The broker's fetch sessions: the pure caches of `strandline_core::fetch_session`, sharded, with their watches.
//!
//! A session watches its partitions as long as it has them; an append marks the slot, and the next fetch looks only at
//! marked slots. A fetch without a session watches for as long as it waits.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Weak};

use kafka_protocol::messages::FetchRequest;
use parking_lot::Mutex;
use prometheus::{IntCounter, IntGauge, Registry};
use strandline_core::fetch_session::{
    Candidate, FetchContext, FetchKind, FetchSessionCache, FetchSessionConfig, Slot,
};
use strandline_wire::KafkaError;

use super::look::Look;
use crate::partition::{FetchWaiter, Partition};
use crate::{clock, ids};

const SHARDS: i32 = 8;
/// Kafka's min.incremental.fetch.session.eviction.ms.
const EVICTION_MS: i64 = 120_000;

/// One shard's part of all slots: together they have no more.
fn slots_of_shard(slots_max: usize, shard: usize) -> usize {
    let shards = SHARDS as usize;
    slots_max / shards + usize::from(shard < slots_max % shards)
}

/// A slot's tie to a partition; undone when dropped.
pub struct PartitionWatch {
    partition: Weak<Partition>,
    id: u64,
}

impl PartitionWatch {
    pub fn new(partition: &Arc<Partition>, waiter: &Arc<FetchWaiter>, slot: u32) -> Self {
        Self {
            partition: Arc::downgrade(partition),
            id: partition.fetch_waiters.register(waiter, slot),
        }
    }

    fn is_of(&self, partition: &Arc<Partition>) -> bool {
        std::ptr::eq(self.partition.as_ptr(), Arc::as_ptr(partition))
    }
}

impl Drop for PartitionWatch {
    fn drop(&mut self) {
        if let Some(partition) = self.partition.upgrade() {
            partition.fetch_waiters.deregister(self.id);
        }
    }
}

struct Watched {
    waiter: Arc<FetchWaiter>,
    by_slot: HashMap<u32, PartitionWatch>,
}

struct Shard {
    cache: FetchSessionCache,
    watched: HashMap<i32, Watched>,
    evictions_counted: u64,
    sessions_counted: i64,
    partitions_counted: i64,
}

pub struct FetchSessions {
    shards: Vec<Mutex<Shard>>,
    next: AtomicU32,
    sessions: IntGauge,
    partitions: IntGauge,
    evictions: IntCounter,
    looks: IntCounter,
}

/// One fetch on its way through its session, or without one.
pub struct SessionFetch {
    pub context: FetchContext,
    pub waiter: Arc<FetchWaiter>,
    shard: usize,
    /// Of a fetch without a session.
    own_watches: Vec<PartitionWatch>,
}

impl SessionFetch {
    pub fn has_session(&self) -> bool {
        self.context.kind != FetchKind::Sessionless && self.context.session_id != 0
    }

    pub fn is_incremental(&self) -> bool {
        self.context.kind == FetchKind::Incremental
    }

    /// Whether appends are reported to the waiter: a session's always are.
    pub fn is_watching(&self) -> bool {
        self.has_session() || !self.own_watches.is_empty()
    }

    /// Watches the partitions of a fetch without a session while it waits.
    pub fn watch(&mut self, partitions: impl Iterator<Item = Arc<Partition>>) {
        self.own_watches = partitions
            .map(|partition| PartitionWatch::new(&partition, &self.waiter, 0))
            .collect();
    }
}

impl FetchSessions {
    pub fn new(slots_max: usize, registry: &Registry) -> prometheus::Result<Self> {
        let sessions = IntGauge::new("strandline_fetch_sessions", "Incremental fetch sessions.")?;
        let partitions = IntGauge::new(
            "strandline_fetch_session_partitions_cached",
            "Partitions in all incremental fetch sessions.",
        )?;
        let evictions = IntCounter::new(
            "strandline_fetch_session_evictions_total",
            "Incremental fetch sessions that gave way to others.",
        )?;
        registry.register(Box::new(sessions.clone()))?;
        registry.register(Box::new(partitions.clone()))?;
        registry.register(Box::new(evictions.clone()))?;
        let looks = IntCounter::new(
            "strandline_fetch_partitions_looked_at_total",
            "Partitions that fetches looked at. A session's fetch looks only at what changed.",
        )?;
        registry.register(Box::new(looks.clone()))?;
        let shards = (0..SHARDS)
            .map(|shard| {
                let config = FetchSessionConfig {
                    slots_max: slots_of_shard(slots_max, shard as usize),
                    eviction_ms: EVICTION_MS,
                    shard,
                    shards: SHARDS,
                };
                Mutex::new(Shard {
                    cache: FetchSessionCache::new(config, Box::new(ids::any_i32)),
                    watched: HashMap::new(),
                    evictions_counted: 0,
                    sessions_counted: 0,
                    partitions_counted: 0,
                })
            })
            .collect();
        Ok(Self {
            shards,
            next: AtomicU32::new(0),
            sessions,
            partitions,
            evictions,
            looks,
        })
    }

    pub fn begin(&self, version: i16, request: &FetchRequest) -> Result<SessionFetch, KafkaError> {
        let any = self.next.fetch_add(1, Ordering::Relaxed);
        let index = FetchSessionCache::shard_of(request.session_id, SHARDS, any);
        let mut shard = self.shards[index].lock();
        let begun = shard.cache.begin(clock::now_ms(), version, request, false);
        self.account(&mut shard);
        let context = begun?;
        let waiter = if context.kind == FetchKind::Sessionless || context.session_id == 0 {
            FetchWaiter::new()
        } else {
            let watched = shard
                .watched
                .entry(context.session_id)
                .or_insert_with(|| Watched {
                    waiter: FetchWaiter::new(),
                    by_slot: HashMap::new(),
                });
            for forgotten in &context.forgotten {
                watched.by_slot.remove(&forgotten.slot.0);
            }
            Arc::clone(&watched.waiter)
        };
        Ok(SessionFetch {
            context,
            waiter,
            shard: index,
            own_watches: Vec::new(),
        })
    }

    /// What to look at now. Of a session: what is marked.
    pub fn candidates(&self, fetch: &SessionFetch) -> Vec<Candidate> {
        let mut shard = self.shards[fetch.shard].lock();
        for slot in fetch.waiter.take_dirty() {
            shard.cache.mark_dirty(fetch.context.session_id, Slot(slot));
        }
        let candidates = shard.cache.candidates(&fetch.context);
        self.looks.inc_by(candidates.len() as u64);
        candidates
    }

    /// Ties a session's slot to the partition that its name or id means now.
    pub fn watch(&self, fetch: &SessionFetch, slot: Slot, partition: &Arc<Partition>) {
        if !fetch.has_session() {
            return;
        }
        let mut shard = self.shards[fetch.shard].lock();
        let Some(watched) = shard.watched.get_mut(&fetch.context.session_id) else {
            return;
        };
        if watched
            .by_slot
            .get(&slot.0)
            .is_none_or(|watch| !watch.is_of(partition))
        {
            let watch = PartitionWatch::new(partition, &watched.waiter, slot.0);
            watched.by_slot.insert(slot.0, watch);
        }
    }

    /// Nothing to answer yet. True when something changed since the looks: look again instead of waiting.
    pub fn park(&self, fetch: &SessionFetch, looks: &[Look]) -> bool {
        if !fetch.has_session() {
            return false;
        }
        let mut shard = self.shards[fetch.shard].lock();
        looks.iter().fold(false, |again, look| {
            shard
                .cache
                .park(&fetch.context, &look.candidate, &look.result())
                | again
        })
    }

    /// Which of the looks belong in the answer.
    pub fn settle(&self, fetch: &SessionFetch, looks: &[Look]) -> Result<Vec<bool>, KafkaError> {
        let mut shard = self.shards[fetch.shard].lock();
        let belongs = looks
            .iter()
            .map(|look| {
                shard
                    .cache
                    .settle(&fetch.context, &look.candidate, &look.result())
            })
            .collect();
        let finished = shard.cache.finish(&fetch.context);
        self.account(&mut shard);
        finished.map(|()| belongs)
    }

    /// Lets go of closed sessions' watches and keeps the metrics.
    fn account(&self, shard: &mut Shard) {
        for (session_id, _) in shard.cache.take_closed() {
            shard.watched.remove(&session_id);
        }
        let evictions = shard.cache.evictions();
        self.evictions.inc_by(evictions - shard.evictions_counted);
        shard.evictions_counted = evictions;
        let (sessions, partitions) = (
            shard.cache.len() as i64,
            shard.cache.partitions_cached() as i64,
        );
        self.sessions.add(sessions - shard.sessions_counted);
        self.partitions.add(partitions - shard.partitions_counted);
        shard.sessions_counted = sessions;
        shard.partitions_counted = partitions;
    }
}
