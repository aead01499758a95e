//! The whole tier over a folder store and real logs: what goes up comes back, whatever fails in between.
#![allow(clippy::disallowed_methods)] // Waits for conditions have deadlines by the real clock.

mod faults;
mod leaders;
mod lifecycle;
mod reads;
mod store;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use strandline_log::record::{
    Batch, BatchBuilder, BatchOptions, NewRecord, ValidBatch, split_batches,
};
use strandline_log::{
    LeaderAppend, LeaderEpoch, Log, LogConfig, Offset, OpenLog, TimestampMs, TopicPartition,
};

use self::store::FaultyStore;
use super::*;
use crate::bucket_reader::BucketReader;
use crate::fence::Fence;
use crate::format::PartitionKey;
use crate::health::CopyState;
use crate::manifest::Manifest;
use crate::remote_partition::RemoteReadError;

const CLUSTER: &str = "test-cluster";
const TOPIC_ID: TopicId = TopicId::from_u128(0x1234_5678_9abc_def0);
const DEADLINE: Duration = Duration::from_secs(30);

/// A folder that holds a store, logs and caches of brokers that come and go.
struct World {
    dir: tempfile::TempDir,
    store: Arc<FaultyStore>,
    seeds: AtomicU8,
    chunk_bytes: u64,
    cache_bytes_max: u64,
    read_ahead_chunks_max: usize,
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("dir");
        let store = Arc::new(FaultyStore::new(dir.path().join("store")));
        Self {
            dir,
            store,
            seeds: AtomicU8::new(1),
            chunk_bytes: 1 << 20,
            cache_bytes_max: 1 << 30,
            read_ahead_chunks_max: 0,
        }
    }

    fn cache_dir(&self) -> PathBuf {
        self.dir.path().join("cache")
    }

    fn remote_store(&self) -> RemoteStore {
        RemoteStore::from_object_store(self.store.clone(), "", StoreMetrics::unregistered())
    }

    /// A tier that has not started yet.
    fn tier(&self) -> Arc<Tier> {
        let config = TierConfig {
            cache_bytes_max: self.cache_bytes_max,
            chunk_bytes: self.chunk_bytes,
            index_cache_bytes_max: 16 << 20,
            read_ahead_chunks_max: self.read_ahead_chunks_max,
            ..TierConfig::for_tests(self.dir.path())
        };
        let seed = [self.seeds.fetch_add(1, Ordering::SeqCst); 32];
        let registry = prometheus::Registry::new();
        Tier::with_store(
            config,
            CLUSTER,
            self.remote_store(),
            &registry,
            seed,
            Clock::system(),
        )
        .expect("valid")
    }

    fn started(&self) -> Arc<Tier> {
        let tier = self.tier();
        tier.start(Handle::current());
        tier
    }

    fn log(&self, topic_config: &[(&str, &str)]) -> Arc<Log> {
        self.log_of("log", topic_config)
    }

    /// The partition's log in one of several brokers' folders, opened as after a crash.
    fn log_of(&self, broker: &str, topic_config: &[(&str, &str)]) -> Arc<Log> {
        let log = Log::open(
            &self.dir.path().join(broker).join(tp().to_string()),
            tp(),
            TOPIC_ID,
            log_config(topic_config),
            OpenLog::new(now_ms()),
        );
        Arc::new(log.expect("opens").0)
    }

    /// The partition's manifest as an outsider sees it.
    async fn manifest(&self) -> Option<Arc<Manifest>> {
        BucketReader::new(self.remote_store(), Some(CLUSTER.to_owned()))
            .manifest(key())
            .await
            .expect("readable")
    }

    /// Objects of the partition that hold log bytes.
    fn segment_files(&self) -> Vec<PathBuf> {
        let folder = self.dir.path().join("store").join(key().segment_folder());
        let Ok(entries) = std::fs::read_dir(folder) else {
            return Vec::new();
        };
        let mut files: Vec<_> = entries
            .map(|entry| entry.expect("entry").path())
            .filter(|path| path.extension().is_some_and(|e| e == "strand"))
            .collect();
        files.sort();
        files
    }
}

fn now_ms() -> TimestampMs {
    Clock::system().now_ms()
}

fn tp() -> TopicPartition {
    TopicPartition::new("flights", 0)
}

fn key() -> PartitionKey {
    PartitionKey::new(CLUSTER, TOPIC_ID, 0)
}

fn log_config(overrides: &[(&str, &str)]) -> Arc<LogConfig> {
    let mut topic = BTreeMap::from([
        ("remote.storage.enable", "true"),
        ("internal.segment.bytes", "16384"),
        ("local.retention.bytes", "1"),
        ("retention.ms", "-1"),
        ("file.delete.delay.ms", "0"),
    ]);
    topic.extend(overrides.iter().copied());
    let topic = topic
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    LogConfig::from_map(&topic, &BTreeMap::new())
        .expect("valid")
        .into_shared()
}

fn leader(log: &Arc<Log>, epoch: LeaderEpoch) -> LeaderPartition {
    LeaderPartition {
        tp: tp(),
        topic_id: TOPIC_ID,
        fence: Fence::new(1, epoch),
        log: Arc::clone(log),
    }
}

/// A batch of `records` records of `value_bytes` each, the content told by offset.
fn batch(base_offset: Offset, records: usize, value_bytes: usize, timestamp: TimestampMs) -> Batch {
    let mut builder = BatchBuilder::new(BatchOptions::default());
    for i in 0..records {
        let offset = base_offset + i as Offset;
        let value: Vec<u8> = (0..value_bytes)
            .map(|at| (offset as usize).wrapping_mul(31).wrapping_add(at * at) as u8)
            .collect();
        builder
            .append(NewRecord {
                timestamp: timestamp + i as TimestampMs,
                key: Some(Bytes::from(offset.to_string())),
                value: Some(value.into()),
                headers: Vec::new(),
            })
            .expect("fits");
    }
    Batch::parse(builder.build()).expect("valid")
}

/// Appends batches of four records and makes them visible.
fn fill(log: &Log, batches: usize, value_bytes: usize) {
    for _ in 0..batches {
        let base = log.log_end_offset();
        append(log, batch(base, 4, value_bytes, 1_000 + base * 10));
    }
}

fn append(log: &Log, batch: Batch) {
    let appended = log.append_as_leader(
        &[LeaderAppend {
            batch: ValidBatch { batch },
        }],
        1,
        now_ms(),
    );
    for result in appended {
        result.expect("appended");
    }
    log.set_high_watermark(log.log_end_offset());
}

/// All bytes of the local log from an offset on.
fn local_bytes(log: &Log, from: Offset, to: Offset) -> Bytes {
    let mut bytes = BytesMut::new();
    let mut offset = from;
    while offset < to {
        let read = log.read(offset, to, 1 << 20, true).expect("readable");
        let mut part = BytesMut::new();
        for slice in &read.slices {
            part.extend_from_slice(&slice.read_to_bytes().expect("reads"));
        }
        let whole = whole_batches(part.freeze());
        offset = whole.last().expect("a batch").header.next_offset();
        for batch in whole {
            bytes.extend_from_slice(&batch.bytes);
        }
    }
    bytes.freeze()
}

/// The batches at the start of bytes whose end may be cut.
fn whole_batches(bytes: Bytes) -> Vec<Batch> {
    let mut batches = Vec::new();
    let mut rest = bytes;
    while rest.len() >= strandline_log::record::BATCH_HEADER_LEN {
        let header =
            strandline_log::record::BatchHeader::parse(&rest).expect("a batch begins here");
        if header.size() > rest.len() {
            break;
        }
        let batch = rest.split_to(header.size());
        batches.push(Batch::parse(batch).expect("whole"));
    }
    batches
}

/// Reads the remote log from an offset to its end, as a consumer would.
async fn remote_bytes(
    partition: &RemotePartition,
    from: Offset,
    to: Offset,
    max_bytes: usize,
) -> Result<Bytes, RemoteReadError> {
    let mut bytes = BytesMut::new();
    let mut offset = from;
    while offset < to {
        let read = partition.read(offset, max_bytes).await?;
        let mut part = BytesMut::new();
        for slice in &read.slices {
            part.extend_from_slice(&slice.read_to_bytes().expect("reads"));
        }
        assert_eq!(part.len(), read.bytes);
        let batches = split_batches(part.clone().freeze()).expect("whole batches");
        let first = batches.first().expect("at least one batch");
        assert!(first.header.base_offset <= offset && offset <= first.header.last_offset());
        for batch in &batches {
            batch.verify_crc().expect("intact");
            assert!(batch.header.last_offset() < read.end_bound);
        }
        offset = batches.last().expect("a batch").header.next_offset();
        bytes.extend_from_slice(&part);
    }
    Ok(bytes.freeze())
}

async fn wait_for(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !holds() {
        assert!(Instant::now() < deadline, "waited too long until {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Waits until all sealed segments are in the store and gone locally.
async fn wait_until_tiered(partition: &RemotePartition) {
    let log = Arc::clone(partition.log());
    wait_for("all sealed segments are tiered", || {
        log.local_log_start_offset() == log.active_segment_base_offset()
            && partition.uploaded_end() == Some(log.active_segment_base_offset())
            && partition.status().state == CopyState::CaughtUp
    })
    .await;
}
