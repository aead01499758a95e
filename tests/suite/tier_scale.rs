//! A partition of 100,000 small remote segments and 1,000 tiered partitions: the start, the memory and a manifest edit stay
//! small. The bucket is a folder that the tier's own code fills, segment by segment, without a broker.

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use strandline_client::OffsetSpec;
use strandline_log::record::{BatchBuilder, BatchOptions, NewRecord};
use strandline_log::uuid_from_base64;
use strandline_tests::{
    Broker, BrokerOptions, TestRecord, memory_bytes, metric, now_ms, timed, wait_until,
};
use strandline_tiering::format::{PartitionKey, SegmentMeta, SegmentName, SegmentObjectPlan};
use strandline_tiering::manifest::{Edit, ManifestStore, PageCache};
use strandline_tiering::store::{RemoteStore, S3Options, StoreMetrics, StoreUrl};
use strandline_tiering::{Fence, IdSource};

use crate::librdkafka;
use crate::strandline::{block_on, list_offset};

const SEGMENTS: i64 = 100_000;
const PARTITIONS: i32 = 1_000;
/// Entries that one edit adds while the bucket is made.
const ENTRIES_AT_A_TIME: i64 = 500;
const DEADLINE: Duration = Duration::from_secs(240);
const START_MAX: Duration = Duration::from_secs(2);
const MEMORY_BYTES_MAX: u64 = 200 << 20;
const EDIT_BYTES_MAX: f64 = 65_536.0;

const TIERED: &[(&str, &str)] = &[
    ("remote.storage.enable", "true"),
    ("internal.segment.bytes", "2048"),
    ("local.retention.ms", "1"),
    ("retention.ms", "-1"),
    ("file.delete.delay.ms", "0"),
];

fn line<'a>(text: &'a str, name: &str) -> &'a str {
    let found = text.lines().find_map(|line| line.strip_prefix(name));
    found
        .unwrap_or_else(|| panic!("no {name} in {text}"))
        .trim()
}

fn value(offset: i64) -> Vec<u8> {
    format!("record {offset}").into_bytes()
}

/// Makes a remote log of one-record segments for a partition that has none.
fn make_history(data: &Path, topic: &str) {
    let meta = std::fs::read_to_string(data.join("meta.properties")).expect("is there");
    let folder = data.join(format!("{topic}-0"));
    let ids = std::fs::read_to_string(folder.join("partition.metadata")).expect("is there");
    let topic_id = uuid_from_base64(line(&ids, "topic_id:")).expect("an id");
    let key = PartitionKey::new(line(&meta, "cluster.id="), topic_id, 0);
    let store_folder = data.join("remote-storage");
    let url = StoreUrl::Folder(store_folder.clone());
    let store = RemoteStore::open(&url, &S3Options::default(), StoreMetrics::unregistered())
        .expect("opens");
    std::fs::create_dir_all(store_folder.join(key.segment_folder())).expect("creates");
    let ids = IdSource::from_seed([9; 32]);
    let fence = Fence::new(1, 0);
    let manifests = ManifestStore::new(&store, key.clone(), ids.clone(), PageCache::default());
    let begun_ms = now_ms() - SEGMENTS * 1_000;
    let mut first = 0;
    while first < SEGMENTS {
        let counter = match first {
            0 => {
                block_on(manifests.claim(fence, 0))
                    .expect("claims")
                    .generation
            }
            _ => manifests.cached().expect("is known").generation,
        };
        let edits: Vec<Edit> = (first..(first + ENTRIES_AT_A_TIME).min(SEGMENTS))
            .map(|offset| {
                let mut batch = BatchBuilder::new(BatchOptions {
                    base_offset: offset,
                    leader_epoch: 0,
                    ..BatchOptions::default()
                });
                let record = NewRecord {
                    timestamp: begun_ms + offset * 1_000,
                    value: Some(Bytes::from(value(offset))),
                    ..NewRecord::default()
                };
                batch.append(record).expect("fits");
                let object = object(&key, fence, offset, &batch.build());
                let name = SegmentName {
                    start: offset,
                    epoch: 0,
                    counter,
                    random: ids.random(),
                };
                let path = store_folder.join(key.segment(&name));
                let (plan, bytes) = object;
                std::fs::write(path, bytes).expect("writes");
                Edit::Append {
                    entry: plan.entry(name.counter, name.random),
                    epochs: match offset {
                        0 => vec![strandline_log::leader_epoch::EpochEntry {
                            epoch: 0,
                            start_offset: 0,
                        }],
                        _ => Vec::new(),
                    },
                }
            })
            .collect();
        block_on(manifests.edit(fence, |_| Ok(edits.clone()))).expect("edits");
        first += ENTRIES_AT_A_TIME;
    }
    // Nothing here may claim that the local log has all of that.
    std::fs::remove_file(folder.join("remote-end-checkpoint")).expect("was there");
}

fn object(
    key: &PartitionKey,
    fence: Fence,
    offset: i64,
    batch: &Bytes,
) -> (SegmentObjectPlan, Vec<u8>) {
    use std::io::Write;
    let mut file = tempfile::tempfile().expect("a temporary file");
    file.write_all(batch).expect("writes");
    let slice = strandline_log::FileSlice {
        file: std::sync::Arc::new(file),
        position: 0,
        len: batch.len(),
    };
    let meta = SegmentMeta::new(key.clone(), offset, offset + 1, fence);
    let plan = SegmentObjectPlan::compute(vec![slice], meta).expect("plans");
    let bytes = plan
        .body()
        .flat_map(|chunk| chunk.expect("reads"))
        .collect();
    (plan, bytes)
}

#[test]
fn a_long_history_and_many_partitions_cost_little() {
    let configs = [
        "remote.log.manager.task.interval.ms=1000",
        "remote.log.manager.task.retry.backoff.max.ms=500",
        "remote.log.manager.copier.thread.pool.size=16",
    ];
    let mut broker = Broker::start(BrokerOptions::with(&configs));
    let bootstrap = broker.bootstrap();
    librdkafka::create_topic(&bootstrap, "many", PARTITIONS, TIERED);
    librdkafka::create_topic(&bootstrap, "long", 1, TIERED);
    // Each partition gets a sealed segment and an open one.
    let record = |partition: i32, bytes: usize| TestRecord {
        partition,
        timestamp: now_ms(),
        key: None,
        value: Some(vec![b'x'; bytes]),
        headers: Vec::new(),
    };
    for _ in 0..2 {
        let round: Vec<TestRecord> = (0..PARTITIONS).map(|p| record(p, 1_500)).collect();
        librdkafka::produce(&bootstrap, "many", "none", &round);
    }
    wait_until("all partitions are tiered", DEADLINE, || {
        let copied = metric(
            broker.http_port(),
            "strandline_remote_copy_requests_total",
            &["topic=\"many\""],
        );
        let lag = metric(
            broker.http_port(),
            "strandline_remote_copy_lag_segments",
            &["topic=\"many\""],
        );
        match copied >= f64::from(PARTITIONS) && lag == 0.0 {
            true => Ok(()),
            false => Err(format!("{copied} uploads, {lag} segments behind")),
        }
    });
    broker.stop();
    let ((), making) = timed(|| make_history(&broker.data(), "long"));

    let ((), starting) = timed(|| broker.restart());
    wait_until("the long history is there", DEADLINE, || match list_offset(
        &bootstrap,
        "long",
        0,
        OffsetSpec::LatestTiered,
    ) {
        Some(found) if found.offset == SEGMENTS - 1 => Ok(()),
        other => Err(format!("{other:?}")),
    });
    // Old, middle and new, cold.
    for offset in [0, 777, SEGMENTS / 2, SEGMENTS - 1] {
        let consumer = librdkafka::consumer(&bootstrap, "unused");
        let mut list = rdkafka::TopicPartitionList::new();
        list.add_partition_offset("long", 0, rdkafka::Offset::Offset(offset))
            .expect("an offset");
        rdkafka::consumer::Consumer::assign(&consumer, &list).expect("an assignment");
        librdkafka::poll_until(&consumer, "a record of history", |message| {
            use rdkafka::message::Message;
            assert_eq!(message.offset(), offset);
            assert_eq!(message.payload(), Some(&value(offset)[..]));
            true
        });
    }
    // The history goes on by uploads of the broker's own.
    let written = |name: &str| {
        let labels = ["class=\"put\"", "purpose=\"manifest\"", "topic=\"long\""];
        metric(broker.http_port(), name, &labels)
    };
    let before = (
        written("strandline_remote_store_bytes_total"),
        written("strandline_remote_store_requests_total"),
    );
    for _ in 0..20 {
        librdkafka::produce(&bootstrap, "long", "none", &[record(0, 1_500)]);
    }
    wait_until("uploads go on", DEADLINE, || {
        match list_offset(&bootstrap, "long", 0, OffsetSpec::LatestTiered) {
            Some(found) if found.offset >= SEGMENTS + 18 => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });
    let bytes = written("strandline_remote_store_bytes_total") - before.0;
    let edits = written("strandline_remote_store_requests_total") - before.1;
    let memory = memory_bytes(broker.pid(), "VmRSS");
    println!(
        "{SEGMENTS} segments in one partition (made in {:.0} s) and {PARTITIONS} tiered partitions: ready after {:.2} s, \
         {} MiB resident, {:.0} bytes for each of {edits} edits",
        making.as_secs_f64(),
        starting.as_secs_f64(),
        memory >> 20,
        bytes / edits
    );
    assert!(edits >= 10.0, "{edits} edits");
    assert!(
        bytes / edits < EDIT_BYTES_MAX,
        "{bytes} bytes in {edits} edits"
    );
    assert!(starting < START_MAX, "{starting:?}");
    assert!(memory < MEMORY_BYTES_MAX, "{memory} bytes");
    broker.stop();
}
