//! The consumer: reads partitions from given offsets. No group, no commits: the caller keeps positions.
//!
//! One fetch is in flight per leader. Answers are handed out as they come, and the leader's next fetch leaves before the
//! answer is returned, so that reading and processing overlap. Every batch's CRC is checked.
//!
//! With `read_committed`, batches of aborted transactions and markers are left out (`aborted`).

mod aborted;
mod fetch;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use strandline_log::record::{Batch, BatchError, DecodeLimit, Record};
use strandline_log::{Offset, TimestampMs, TopicPartition};
use strandline_wire::KafkaError;
use tokio::task::JoinSet;

use crate::admin::{Admin, OffsetSpec};
use crate::{Client, ClientError};
use fetch::{FetchAnswer, Position};

/// Which records are visible.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum IsolationLevel {
    #[default]
    ReadUncommitted,
    ReadCommitted,
}

impl IsolationLevel {
    pub fn code(self) -> i8 {
        match self {
            IsolationLevel::ReadUncommitted => 0,
            IsolationLevel::ReadCommitted => 1,
        }
    }
}

/// Where to go on when an offset is not in the log any more, or not yet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OffsetReset {
    Earliest,
    Latest,
    /// Report the error.
    None,
}

/// Where to start.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StartAt {
    Offset(Offset),
    Earliest,
    Latest,
    /// The first record at or after this time; the end when there is none.
    Timestamp(TimestampMs),
}

#[derive(Clone, Debug)]
pub struct ConsumerConfig {
    pub isolation_level: IsolationLevel,
    pub offset_reset: OffsetReset,
    pub fetch_min_bytes: i32,
    pub fetch_max_wait: Duration,
    pub fetch_max_bytes: i32,
    pub partition_max_bytes: i32,
    pub check_crcs: bool,
    /// Fetch at most in this version; for tests.
    pub fetch_version_max: Option<i16>,
}

impl Default for ConsumerConfig {
    fn default() -> Self {
        Self {
            isolation_level: IsolationLevel::default(),
            offset_reset: OffsetReset::None,
            fetch_min_bytes: 1,
            fetch_max_wait: Duration::from_millis(500),
            fetch_max_bytes: 50 << 20,
            partition_max_bytes: 1 << 20,
            check_crcs: true,
            fetch_version_max: None,
        }
    }
}

/// What one fetch brought of one partition.
#[derive(Clone, Debug)]
pub struct FetchedPartition {
    pub partition: TopicPartition,
    /// The offset that was asked for: earlier records of the first batch are not part of the answer.
    pub fetch_offset: Offset,
    /// Whole batches, as the log holds them, without those that the isolation level hides.
    pub batches: Vec<Batch>,
    pub high_watermark: Offset,
    pub last_stable_offset: Offset,
    pub log_start_offset: Offset,
    /// Where the next fetch goes on.
    pub next_offset: Offset,
}

impl FetchedPartition {
    /// The records from `fetch_offset` on, without control records.
    pub fn records(
        &self,
        limit: DecodeLimit,
    ) -> impl Iterator<Item = Result<Record, BatchError>> + '_ {
        let data = self
            .batches
            .iter()
            .filter(|batch| !batch.header.is_control());
        data.flat_map(move |batch| {
            let (records, error) = match batch.records(limit) {
                Ok(records) => (Some(records), None),
                Err(error) => (None, Some(Err(error))),
            };
            records.into_iter().flatten().chain(error)
        })
        .filter(|record| {
            record
                .as_ref()
                .map_or(true, |record| record.offset >= self.fetch_offset)
        })
    }

    pub fn records_count(&self) -> usize {
        self.batches
            .iter()
            .map(|batch| usize::try_from(batch.header.records_count).unwrap_or(0))
            .sum()
    }
}

/// Reads assigned partitions. Not a clone: one owner polls.
pub struct Consumer {
    client: Client,
    config: ConsumerConfig,
    /// In the order of names, so that requests list partitions in a stable order.
    positions: BTreeMap<TopicPartition, Position>,
    /// Partitions of fetches in flight, by leader.
    in_flight: HashMap<i32, HashSet<TopicPartition>>,
    fetches: JoinSet<FetchAnswer>,
    /// What was read and not handed out yet, in case a call to `poll` is dropped half-way.
    ready: Vec<FetchedPartition>,
    next_assignment: u64,
    attempt: u32,
}

impl Consumer {
    pub fn new(client: Client, config: ConsumerConfig) -> Consumer {
        Consumer {
            client,
            config,
            positions: BTreeMap::new(),
            in_flight: HashMap::new(),
            fetches: JoinSet::new(),
            ready: Vec::new(),
            next_assignment: 0,
            attempt: 0,
        }
    }

    /// Reads a partition from now on; one that is already assigned moves.
    pub async fn assign(
        &mut self,
        partition: TopicPartition,
        start: StartAt,
    ) -> Result<Offset, ClientError> {
        let offset = self.resolve(&partition, start).await?;
        self.seek(partition, offset);
        Ok(offset)
    }

    /// Assigns every partition of a topic.
    pub async fn assign_topic(
        &mut self,
        topic: &str,
        start: StartAt,
    ) -> Result<Vec<TopicPartition>, ClientError> {
        let metadata = self.client.topic(topic).await?;
        let partitions: Vec<_> = metadata
            .partitions
            .keys()
            .map(|partition| TopicPartition::new(topic, *partition))
            .collect();
        for partition in &partitions {
            self.assign(partition.clone(), start).await?;
        }
        Ok(partitions)
    }

    pub fn unassign(&mut self, partition: &TopicPartition) {
        self.positions.remove(partition);
    }

    /// The offset that is fetched next.
    pub fn position(&self, partition: &TopicPartition) -> Option<Offset> {
        self.positions
            .get(partition)
            .map(|position| position.offset)
    }

    fn seek(&mut self, partition: TopicPartition, offset: Offset) {
        // An answer to a fetch from before the move is dropped: its assignment is another one.
        self.next_assignment += 1;
        self.positions.insert(
            partition,
            Position {
                offset,
                assignment: self.next_assignment,
            },
        );
    }

    async fn resolve(
        &self,
        partition: &TopicPartition,
        start: StartAt,
    ) -> Result<Offset, ClientError> {
        let spec = match start {
            StartAt::Offset(offset) => return Ok(offset),
            StartAt::Earliest => OffsetSpec::Earliest,
            StartAt::Latest => OffsetSpec::Latest,
            StartAt::Timestamp(timestamp) => OffsetSpec::Timestamp(timestamp),
        };
        let admin = Admin::new(self.client.clone());
        let list = async |spec| {
            admin
                .list_offset(
                    &partition.topic,
                    partition.partition,
                    spec,
                    self.config.isolation_level,
                )
                .await
        };
        match list(spec).await? {
            Some(found) => Ok(found.offset),
            None => Ok(list(OffsetSpec::Latest)
                .await?
                .map_or(0, |found| found.offset)),
        }
    }

    /// Waits for the next answer that holds something, and returns what it brought. With nothing new within
    /// `fetch_max_wait`, the result is empty. Retriable errors are retried until the next call's patience
    /// (`default_api_timeout`) is over; a partition's lasting error fails the call.
    pub async fn poll(&mut self) -> Result<Vec<FetchedPartition>, ClientError> {
        if self.positions.is_empty() {
            return Ok(Vec::new());
        }
        let timeout = self.client.config().default_api_timeout;
        let deadline = tokio::time::Instant::now() + timeout;
        loop {
            let error = match self.poll_once().await {
                Ok(fetched) => {
                    self.attempt = 0;
                    return Ok(fetched);
                }
                Err(error) if error.is_retriable() => error,
                Err(error) => return Err(error),
            };
            let pause = self.client.backoff(self.attempt);
            self.attempt += 1;
            if tokio::time::Instant::now() + pause >= deadline {
                return Err(ClientError::TimedOut {
                    what: "fetch".to_owned(),
                    timeout,
                    last: Box::new(error),
                });
            }
            tracing::debug!(%error, "fetching again");
            self.client.forget_freshness();
            tokio::time::sleep(pause).await;
        }
    }

    async fn poll_once(&mut self) -> Result<Vec<FetchedPartition>, ClientError> {
        if !self.ready.is_empty() {
            return Ok(std::mem::take(&mut self.ready));
        }
        self.start_fetches().await?;
        let answer = match self.fetches.join_next().await {
            Some(Ok(answer)) => answer,
            // A task of ours neither panics nor is aborted.
            Some(Err(error)) => std::panic::resume_unwind(error.into_panic()),
            None => return Ok(Vec::new()),
        };
        self.in_flight.remove(&answer.leader);
        let (fetched, errors) = answer.read(&self.positions, &self.config)?;
        for fetched in &fetched {
            if let Some(position) = self.positions.get_mut(&fetched.partition) {
                position.offset = fetched.next_offset;
            }
        }
        self.ready = fetched;
        for (partition, error) in errors {
            match (error.kafka_error(), self.config.offset_reset) {
                (Some(KafkaError::OffsetOutOfRange), OffsetReset::Earliest) => {
                    self.assign(partition, StartAt::Earliest).await?;
                }
                (Some(KafkaError::OffsetOutOfRange), OffsetReset::Latest) => {
                    self.assign(partition, StartAt::Latest).await?;
                }
                // What the other partitions brought must not be lost; the error comes again.
                _ if self.ready.is_empty() => return Err(error),
                _ => {
                    tracing::debug!(%partition, %error, "a partition was not fetched");
                    self.client.invalidate(&partition.topic);
                }
            }
        }
        if !self.ready.is_empty() {
            // Errors here come back at the next poll.
            let _ = self.start_fetches().await;
        }
        Ok(std::mem::take(&mut self.ready))
    }

    /// Gives each leader that has none a fetch of all its partitions.
    async fn start_fetches(&mut self) -> Result<(), ClientError> {
        let partitions: Vec<TopicPartition> = self.positions.keys().cloned().collect();
        let mut by_leader: BTreeMap<i32, Vec<TopicPartition>> = BTreeMap::new();
        for partition in partitions {
            let leader = self
                .client
                .leader(&partition.topic, partition.partition)
                .await?;
            by_leader.entry(leader).or_default().push(partition);
        }
        for (leader, partitions) in by_leader {
            if self.in_flight.contains_key(&leader) {
                continue;
            }
            let metadata = self.client.metadata();
            let positions = partitions.iter().filter_map(|partition| {
                let topic_id = metadata.topics.get(&partition.topic)?.topic_id;
                let position = *self.positions.get(partition)?;
                Some((partition.clone(), topic_id, position))
            });
            let plan = fetch::FetchPlan {
                leader,
                partitions: positions.collect(),
            };
            self.in_flight
                .insert(leader, partitions.into_iter().collect());
            self.fetches
                .spawn(fetch::fetch(self.client.clone(), self.config.clone(), plan));
        }
        Ok(())
    }
}

impl std::fmt::Debug for Consumer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Consumer")
            .field("partitions", &self.positions.len())
            .finish_non_exhaustive()
    }
}
