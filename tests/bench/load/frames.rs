//! Produce requests that are encoded once and sent many times.
//!
//! Their batches carry no producer id, so a broker takes them again and again. Values look like JSON lines and shrink
//! to about a third under zstd, as real ones do.

use bytes::Bytes;
use kafka_protocol::messages::ProduceRequest;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use strandline_log::TopicId;
use strandline_log::record::{BatchBuilder, BatchOptions, Compression, NewRecord};
use strandline_wire::encode_request;

use super::answer::PRODUCE_VERSION;

/// What the records of a load are.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Of a value; there are no keys.
    pub record_bytes: usize,
    pub batch: BatchSize,
    pub compression: Compression,
}

#[derive(Clone, Copy, Debug)]
pub enum BatchSize {
    /// As many records as this many bytes on the wire hold, as a producer's batch.size means it.
    Bytes(usize),
    Records(usize),
}

impl Shape {
    pub const KILOBYTE: Shape = Shape {
        record_bytes: 1000,
        batch: BatchSize::Bytes(64 << 10),
        compression: Compression::None,
    };

    pub const ONE_RECORD: Shape = Shape {
        record_bytes: 100,
        batch: BatchSize::Records(1),
        compression: Compression::None,
    };
}

/// One encoded request with one batch.
#[derive(Clone, Debug)]
pub struct Frame {
    pub bytes: Bytes,
    pub records: u64,
    /// Of the batch without compression: what is counted as produced.
    pub record_bytes: u64,
    /// Of the batch as it goes to disk.
    pub batch_bytes: u64,
}

/// A small generator of our own: the same bytes in every run.
struct Words(u64);

impl Words {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn value(&mut self, bytes: usize) -> Bytes {
        const NOUNS: [&str; 16] = [
            "tide", "shore", "harbor", "vessel", "cargo", "signal", "meter", "sensor", "reading",
            "account", "order", "invoice", "payment", "refund", "basket", "customer",
        ];
        let mut text = format!(
            "{{\"id\":\"{:016x}\",\"user\":{},\"amount\":{}.{:02}",
            self.next(),
            self.next() % 1_000_000,
            self.next() % 10_000,
            self.next() % 100
        );
        while text.len() < bytes {
            let noun = NOUNS[(self.next() % 16) as usize];
            text.push_str(&format!(",\"{noun}\":{}", self.next() % 100_000));
        }
        text.truncate(bytes);
        Bytes::from(text)
    }
}

fn batch(words: &mut Words, shape: Shape, records: usize, now_ms: i64) -> (Bytes, u64) {
    let mut builder = BatchBuilder::new(BatchOptions {
        compression: shape.compression,
        ..BatchOptions::default()
    });
    for _ in 0..records {
        let record = NewRecord {
            timestamp: now_ms,
            value: Some(words.value(shape.record_bytes)),
            ..NewRecord::default()
        };
        builder.append(record).expect("a small batch");
    }
    let plain = builder.size_estimate() as u64;
    (builder.build(), plain)
}

/// How many records make a batch of the wanted size on the wire.
fn records_per_batch(words: &mut Words, shape: Shape, now_ms: i64) -> usize {
    const SAMPLE: usize = 256;
    match shape.batch {
        BatchSize::Records(records) => records,
        BatchSize::Bytes(bytes) => {
            let (sample, _) = batch(words, shape, SAMPLE, now_ms);
            (bytes * SAMPLE / sample.len()).max(1)
        }
    }
}

/// Requests for the partitions in turn; at least `distinct` different ones.
pub fn produce_frames(
    topic_id: TopicId,
    partitions: i32,
    distinct: usize,
    shape: Shape,
    acks: i16,
    now_ms: i64,
) -> Vec<Frame> {
    let mut words = Words(0x9e37_79b9_7f4a_7c15);
    let records = records_per_batch(&mut words, shape, now_ms);
    let count = distinct.max(partitions as usize);
    (0..count)
        .map(|index| {
            let (records_bytes, plain) = batch(&mut words, shape, records, now_ms);
            let batch_bytes = records_bytes.len() as u64;
            let data = PartitionProduceData::default()
                .with_index(index as i32 % partitions)
                .with_records(Some(records_bytes));
            let topic = TopicProduceData::default()
                .with_topic_id(topic_id)
                .with_partition_data(vec![data]);
            let request = ProduceRequest::default()
                .with_acks(acks)
                .with_timeout_ms(30_000)
                .with_topic_data(vec![topic]);
            let bytes = encode_request(1, Some("bench"), PRODUCE_VERSION, &request)
                .expect("our own request encodes");
            Frame {
                bytes,
                records: records as u64,
                record_bytes: plain,
                batch_bytes,
            }
        })
        .collect()
}
