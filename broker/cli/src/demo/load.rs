//! The input into a topic, over the wire.

use std::collections::VecDeque;
use std::sync::Arc;

use anyhow::{Context, bail, ensure};
use bytes::Bytes;
use indicatif::ProgressBar;
use strandline_client::{Acks, Admin, Client, Delivery, NewTopic, Producer, ProducerConfig};
use strandline_log::record::{Compression, NewRecord};
use strandline_server::clock;

use super::input::{Input, Row, row_chunks};
use super::placement::{Placement, index};

pub const LOCAL_RETENTION_MS: u32 = 1000;
/// So that the last, half-full segments are sealed as well.
const SEGMENT_MS: u32 = 3000;
/// Answers that are waited for later; each record's is looked at.
const UNANSWERED_MAX: usize = 20_000;

pub struct Loaded {
    pub records: u64,
    pub value_bytes: u64,
    /// The log end offset of each partition.
    pub ends: Vec<i64>,
}

pub async fn create_topic(
    admin: &Admin,
    placement: &Placement,
    segment_bytes: u64,
) -> anyhow::Result<()> {
    let topic = NewTopic::new(&placement.topic, placement.partitions)
        .config("remote.storage.enable", "true")
        .config("retention.ms", "-1")
        .config("local.retention.ms", LOCAL_RETENTION_MS.to_string())
        .config("internal.segment.bytes", segment_bytes.to_string())
        .config("segment.ms", SEGMENT_MS.to_string())
        .config("file.delete.delay.ms", "0");
    admin.create_topic(&topic).await?;
    Ok(())
}

pub async fn load(
    client: &Client,
    placement: &Placement,
    input: &Arc<Input>,
    bar: &ProgressBar,
) -> anyhow::Result<Loaded> {
    let config = ProducerConfig {
        acks: Acks::All,
        enable_idempotence: true,
        compression: Compression::Zstd,
        ..ProducerConfig::default()
    };
    let mut loading = Loading {
        producer: Producer::new(client.clone(), config),
        placement,
        unanswered: VecDeque::new(),
        loaded: Loaded {
            records: 0,
            value_bytes: 0,
            ends: vec![0; index(placement.partitions)],
        },
    };
    let mut chunks = row_chunks(Arc::clone(input));
    while let Some(rows) = chunks.recv().await {
        for row in rows? {
            loading.send(row).await?;
        }
        bar.set_position(loading.loaded.records);
    }
    loading.finish().await
}

struct Loading<'a> {
    producer: Producer,
    placement: &'a Placement,
    unanswered: VecDeque<(i32, i64, Delivery)>,
    loaded: Loaded,
}

impl Loading<'_> {
    async fn send(&mut self, row: Row) -> anyhow::Result<()> {
        let partition = self.placement.partition(self.loaded.records, row.key());
        let record = NewRecord {
            timestamp: clock::now_ms(),
            key: row.key.map(Bytes::from),
            value: Some(Bytes::from(row.value)),
            headers: Vec::new(),
        };
        self.loaded.records += 1;
        self.loaded.value_bytes += record.value.as_ref().map_or(0, |value| value.len() as u64);
        let end = &mut self.loaded.ends[index(partition)];
        let offset = *end;
        *end += 1;
        let to = self.placement.topic_partition(partition);
        let delivery = self.producer.send_to(to, record).await;
        self.unanswered.push_back((partition, offset, delivery));
        if self.unanswered.len() > UNANSWERED_MAX {
            self.answer().await?;
        }
        Ok(())
    }

    /// The oldest answer.
    async fn answer(&mut self) -> anyhow::Result<()> {
        let Some((partition, offset, delivery)) = self.unanswered.pop_front() else {
            return Ok(());
        };
        let ack = delivery
            .wait()
            .await
            .with_context(|| format!("the record for partition {partition}, offset {offset}"))?;
        // A retry whose first attempt is long stored is not told its offset.
        if ack.offset != offset && ack.offset >= 0 {
            bail!(
                "partition {partition}: a record was acknowledged at offset {}, but {offset} was due",
                ack.offset
            );
        }
        Ok(())
    }

    async fn finish(mut self) -> anyhow::Result<Loaded> {
        self.producer.flush().await;
        while !self.unanswered.is_empty() {
            self.answer().await?;
        }
        self.producer.close().await;
        ensure!(self.loaded.records > 0, "the input has no rows");
        Ok(self.loaded)
    }
}
