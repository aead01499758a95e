//! Reads a topic back from offset 0 and compares it with the input, record by record.
//!
//! 1. Each partition has a consumer of its own, which reads ahead by a bounded amount.
//! 2. The input is read once more. Each row goes where it went when it was loaded, and must be that partition's next
//!    record: at the next offset, with the same key and the same value.
//! 3. In the end no partition may have more.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use indicatif::ProgressBar;
use strandline_client::{Client, ClientConfig, Consumer, ConsumerConfig, StartAt};
use strandline_log::TopicPartition;
use strandline_log::record::{DecodeLimit, Record};
use strandline_server::clock;
use tokio::sync::mpsc;

use super::input::{Input, Row, row_chunks};
use super::placement::{Placement, index};

/// What is fetched ahead, over all partitions.
const FETCH_BYTES_MAX: i32 = 8 << 20;
const PARTITION_FETCH_BYTES: std::ops::RangeInclusive<i32> = (128 << 10)..=(1 << 20);
/// Decoded batches that wait, per partition.
const BATCHES_AHEAD: usize = 4;
const DECODE_LIMIT: DecodeLimit = DecodeLimit::bytes(16 << 20);
const STALL_MAX: Duration = Duration::from_secs(60);
const SHOWN_CHARS: usize = 120;

#[derive(Default)]
pub struct Compared {
    pub records: u64,
    pub value_bytes: u64,
}

pub async fn compare(
    bootstrap: &str,
    placement: &Placement,
    input: &Arc<Input>,
    ends: &[i64],
    bar: &ProgressBar,
) -> anyhow::Result<Compared> {
    let fetch_bytes = (FETCH_BYTES_MAX / placement.partitions)
        .clamp(*PARTITION_FETCH_BYTES.start(), *PARTITION_FETCH_BYTES.end());
    let mut partitions: Vec<_> = placement
        .all()
        .zip(ends)
        .map(|(partition, end)| {
            let partition = placement.topic_partition(partition);
            Sequence::start(bootstrap, partition, *end, fetch_bytes)
        })
        .collect();
    let mut compared = Compared::default();
    let mut chunks = row_chunks(Arc::clone(input));
    while let Some(rows) = chunks.recv().await {
        for row in rows? {
            let partition = placement.partition(compared.records, row.key());
            partitions[index(partition)].expect(&row).await?;
            compared.records += 1;
            compared.value_bytes += row.value.len() as u64;
        }
        bar.set_position(compared.records);
    }
    for (partition, end) in partitions.into_iter().zip(ends) {
        partition.expect_end(*end).await?;
    }
    Ok(compared)
}

/// One partition's records in order.
struct Sequence {
    partition: TopicPartition,
    batches: mpsc::Receiver<anyhow::Result<Vec<Record>>>,
    current: std::vec::IntoIter<Record>,
    next_offset: i64,
}

impl Sequence {
    fn start(bootstrap: &str, partition: TopicPartition, end: i64, fetch_bytes: i32) -> Self {
        let (sender, batches) = mpsc::channel(BATCHES_AHEAD);
        // A connection of its own: a wait of one partition holds up no other.
        let client = Client::new(ClientConfig::new([bootstrap]));
        let reader = Reader {
            partition: partition.clone(),
            end,
            fetch_bytes,
            batches: sender,
        };
        tokio::spawn(reader.run(client));
        Self {
            partition,
            batches,
            current: Vec::new().into_iter(),
            next_offset: 0,
        }
    }

    /// `None` after the last record.
    async fn next(&mut self) -> anyhow::Result<Option<Record>> {
        loop {
            if let Some(record) = self.current.next() {
                return Ok(Some(record));
            }
            match self.batches.recv().await {
                Some(records) => self.current = records?.into_iter(),
                None => return Ok(None),
            }
        }
    }

    async fn expect(&mut self, row: &Row) -> anyhow::Result<()> {
        let (partition, offset) = (self.partition.clone(), self.next_offset);
        let Some(record) = self.next().await? else {
            bail!("{partition} ends at offset {offset}, but the input has more for it");
        };
        ensure!(
            record.offset == offset,
            "{partition}: offset {} came where {offset} was due",
            record.offset
        );
        let differs = |what: &str, read: Option<&[u8]>, written: Option<&[u8]>| {
            format!(
                "{partition}, offset {offset}: the {what} is {}, but {} was written",
                shown(read),
                shown(written)
            )
        };
        let (key, value) = (record.key.as_deref(), record.value.as_deref());
        ensure!(key == row.key(), differs("key", key, row.key()));
        let written = Some(&row.value[..]);
        ensure!(value == written, differs("value", value, written));
        ensure!(
            record.headers.is_empty(),
            "{partition}, offset {offset}: headers appeared"
        );
        self.next_offset += 1;
        Ok(())
    }

    async fn expect_end(mut self, end: i64) -> anyhow::Result<()> {
        let partition = self.partition.clone();
        if let Some(record) = self.next().await? {
            bail!(
                "{partition}: a record at offset {} that the input does not have",
                record.offset
            );
        }
        ensure!(
            self.next_offset == end,
            "{partition}: {} records were compared, {end} were loaded",
            self.next_offset
        );
        Ok(())
    }
}

/// Reads a partition up to where it ends.
struct Reader {
    partition: TopicPartition,
    /// Where loading ended; the log must end there too.
    end: i64,
    fetch_bytes: i32,
    batches: mpsc::Sender<anyhow::Result<Vec<Record>>>,
}

impl Reader {
    async fn run(self, client: Client) {
        if let Err(error) = self.read(client).await {
            let error = error.context(format!("cannot read {}", self.partition));
            // Nobody listens after another partition has failed.
            let _ = self.batches.send(Err(error)).await;
        }
    }

    async fn read(&self, client: Client) -> anyhow::Result<()> {
        let config = ConsumerConfig {
            partition_max_bytes: self.fetch_bytes,
            ..ConsumerConfig::default()
        };
        let mut consumer = Consumer::new(client, config);
        consumer
            .assign(self.partition.clone(), StartAt::Offset(0))
            .await?;
        let mut last_records = clock::now();
        let mut position = 0;
        loop {
            let fetched = consumer.poll().await?;
            for part in &fetched {
                ensure!(
                    part.high_watermark <= self.end,
                    "the log ends at {}, but {} records were loaded",
                    part.high_watermark,
                    self.end
                );
                for batch in &part.batches {
                    let records = batch
                        .records(DECODE_LIMIT)
                        .and_then(|records| records.collect::<Result<Vec<_>, _>>())
                        .with_context(|| {
                            format!("the batch at offset {}", batch.header.base_offset)
                        })?;
                    let wanted = records
                        .into_iter()
                        .filter(|record| record.offset >= part.fetch_offset);
                    if self.batches.send(Ok(wanted.collect())).await.is_err() {
                        return Ok(());
                    }
                }
                position = part.next_offset;
                last_records = clock::now();
            }
            if position >= self.end {
                return Ok(());
            }
            ensure!(
                last_records.elapsed() < STALL_MAX,
                "nothing came for {} s at offset {position} of {}",
                STALL_MAX.as_secs(),
                self.end
            );
        }
    }
}

fn shown(bytes: Option<&[u8]>) -> String {
    match bytes {
        None => "null".to_owned(),
        Some(bytes) => {
            let text = String::from_utf8_lossy(bytes);
            let mut shown: String = text.chars().take(SHOWN_CHARS).collect();
            if shown.len() < text.len() {
                shown.push('…');
            }
            format!("{shown:?}")
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn row(key: Option<&str>, value: &str) -> Row {
        Row {
            key: key.map(|key| key.as_bytes().to_vec()),
            value: value.as_bytes().to_vec(),
        }
    }

    fn record(offset: i64, row: &Row) -> Record {
        Record {
            offset,
            timestamp: 0,
            sequence: None,
            key: row.key.clone().map(Bytes::from),
            value: Some(Bytes::from(row.value.clone())),
            headers: Vec::new(),
        }
    }

    /// What comparing `read` with `written` ends in.
    async fn verdict(read: &[Record], written: &[Row]) -> Result<(), String> {
        let (sender, batches) = mpsc::channel(read.len().max(1));
        for record in read {
            sender.send(Ok(vec![record.clone()])).await.unwrap();
        }
        drop(sender);
        let mut sequence = Sequence {
            partition: TopicPartition::new("t", 0),
            batches,
            current: Vec::new().into_iter(),
            next_offset: 0,
        };
        let compared = async {
            for row in written {
                sequence.expect(row).await?;
            }
            sequence.expect_end(written.len() as i64).await
        };
        compared.await.map_err(|error| error.to_string())
    }

    #[tokio::test]
    async fn every_difference_is_found() {
        let rows = [row(Some("a"), "1"), row(None, "2"), row(Some("a"), "3")];
        let whole: Vec<Record> = (0..).zip(&rows).map(|(at, row)| record(at, row)).collect();
        assert_eq!(verdict(&whole, &rows).await, Ok(()));

        let changed = |change: fn(&mut Vec<Record>)| {
            let mut read = whole.clone();
            change(&mut read);
            read
        };
        let cases = [
            (changed(|read| read[1].value = None), "offset 1: the value"),
            (
                changed(|read| read[2].value = Some("4".into())),
                "offset 2: the value",
            ),
            (
                changed(|read| read[1].key = Some("".into())),
                "offset 1: the key",
            ),
            (changed(|read| read[0].key = None), "offset 0: the key"),
            (
                changed(|read| read.swap(0, 2)),
                "offset 2 came where 0 was due",
            ),
            (
                changed(|read| drop(read.remove(1))),
                "offset 2 came where 1 was due",
            ),
            (changed(|read| drop(read.pop())), "ends at offset 2"),
            (
                changed(|read| read.insert(1, read[0].clone())),
                "offset 0 came where 1 was due",
            ),
            (changed(|read| read.push(read[2].clone())), "does not have"),
        ];
        for (read, expected) in cases {
            let text = verdict(&read, &rows).await.unwrap_err();
            assert!(text.contains(expected), "{text}");
        }
    }
}
