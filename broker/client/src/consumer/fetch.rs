//! One fetch: the request to a leader, and what its answer says about each partition.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::fetch_response::PartitionData;
use kafka_protocol::messages::{BrokerId, FetchRequest, FetchResponse};
use strandline_log::record::{Batch, BatchError, batches_of};
use strandline_log::{Offset, TopicPartition};
use uuid::Uuid;

use super::aborted::AbortedTransactions;
use super::{ConsumerConfig, FetchedPartition, IsolationLevel};
use crate::client::topic_name;
use crate::{Client, ClientError, ConnectionError};

/// The first version that names topics by id.
const TOPIC_IDS_SINCE: i16 = 13;
/// What a broker gets beyond the long poll's own wait.
const ANSWER_GRACE: Duration = Duration::from_secs(30);

/// Where a partition is read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Position {
    pub offset: Offset,
    /// Tells an answer to an earlier assignment.
    pub assignment: u64,
}

pub(super) struct FetchPlan {
    pub leader: i32,
    pub partitions: Vec<(TopicPartition, Uuid, Position)>,
}

pub(super) struct FetchAnswer {
    pub leader: i32,
    plan: Vec<(TopicPartition, Uuid, Position)>,
    version: i16,
    response: Result<FetchResponse, ClientError>,
}

/// What an answer brought, and the partitions that it has errors for.
type Read = (Vec<FetchedPartition>, Vec<(TopicPartition, ClientError)>);

pub(super) async fn fetch(client: Client, config: ConsumerConfig, plan: FetchPlan) -> FetchAnswer {
    let mut version = TOPIC_IDS_SINCE;
    let response = send(&client, &config, &plan, &mut version).await;
    FetchAnswer {
        leader: plan.leader,
        plan: plan.partitions,
        version,
        response,
    }
}

async fn send(
    client: &Client,
    config: &ConsumerConfig,
    plan: &FetchPlan,
    version: &mut i16,
) -> Result<FetchResponse, ClientError> {
    let connection = client.connection(plan.leader).await?;
    *version = connection.version_of::<FetchRequest>()?;
    if plan
        .partitions
        .iter()
        .any(|(_, topic_id, _)| topic_id.is_nil())
    {
        *version = (*version).min(TOPIC_IDS_SINCE - 1);
    }
    if let Some(version_max) = config.fetch_version_max {
        *version = (*version).min(version_max);
    }
    let request = fetch_request(config, *version, plan);
    let reply = connection.submit(*version, &request).await?;
    let response: Result<_, ConnectionError> = reply
        .with_timeout(config.fetch_max_wait + ANSWER_GRACE)
        .wait()
        .await;
    Ok(response?)
}

fn fetch_request(config: &ConsumerConfig, version: i16, plan: &FetchPlan) -> FetchRequest {
    let mut topics: Vec<FetchTopic> = Vec::new();
    let mut last: Option<&str> = None;
    for (partition, topic_id, position) in &plan.partitions {
        if last != Some(&*partition.topic) {
            let topic = FetchTopic::default();
            topics.push(if version >= TOPIC_IDS_SINCE {
                topic.with_topic_id(*topic_id)
            } else {
                topic.with_topic(topic_name(&partition.topic))
            });
            last = Some(&partition.topic);
        }
        let fetch = FetchPartition::default()
            .with_partition(partition.partition)
            .with_current_leader_epoch(-1)
            .with_fetch_offset(position.offset)
            .with_log_start_offset(-1)
            .with_partition_max_bytes(config.partition_max_bytes);
        topics
            .last_mut()
            .expect("a topic was pushed")
            .partitions
            .push(fetch);
    }
    FetchRequest::default()
        .with_replica_id(BrokerId(-1))
        .with_max_wait_ms(i32::try_from(config.fetch_max_wait.as_millis()).unwrap_or(i32::MAX))
        .with_min_bytes(config.fetch_min_bytes)
        .with_max_bytes(config.fetch_max_bytes)
        .with_isolation_level(config.isolation_level.code())
        .with_session_id(0)
        .with_session_epoch(-1)
        .with_topics(topics)
}

impl FetchAnswer {
    /// Leaves out partitions that were moved or unassigned since the request.
    pub(super) fn read(
        self,
        positions: &BTreeMap<TopicPartition, Position>,
        config: &ConsumerConfig,
    ) -> Result<Read, ClientError> {
        let response = self.response?;
        ClientError::check(response.error_code, None, || "fetch".to_owned())?;
        let mut fetched = Vec::new();
        let mut errors = Vec::new();
        for topic in response.responses {
            for data in topic.partitions {
                let asked = self.plan.iter().find(|(partition, topic_id, _)| {
                    let is_topic = if self.version >= TOPIC_IDS_SINCE {
                        *topic_id == topic.topic_id
                    } else {
                        *partition.topic == *topic.topic.0
                    };
                    is_topic && partition.partition == data.partition_index
                });
                let Some((partition, _, position)) = asked else {
                    continue;
                };
                if positions.get(partition) != Some(position) {
                    continue;
                }
                match read_partition(partition, position.offset, data, config) {
                    Ok(Some(read)) => fetched.push(read),
                    Ok(None) => {}
                    Err(error) => errors.push((partition.clone(), error)),
                }
            }
        }
        Ok((fetched, errors))
    }
}

/// `None` when there is nothing new.
fn read_partition(
    partition: &TopicPartition,
    fetch_offset: Offset,
    data: PartitionData,
    config: &ConsumerConfig,
) -> Result<Option<FetchedPartition>, ClientError> {
    ClientError::check(data.error_code, None, || {
        format!("fetch of {partition} at offset {fetch_offset}")
    })?;
    let records = data.records.unwrap_or_default();
    if records.is_empty() {
        return Ok(None);
    }
    let corrupt = |offset: Offset, reason: BatchError| ClientError::Corrupt {
        topic: partition.topic.to_string(),
        partition: partition.partition,
        offset,
        reason: reason.to_string(),
    };
    let whole = whole_batches(records, config.check_crcs)
        .map_err(|(offset, error)| corrupt(offset, error))?;
    let Some(last) = whole.last() else {
        // Brokers always deliver the first batch whole.
        let (needed, available) = (0, 0);
        return Err(corrupt(
            fetch_offset,
            BatchError::Truncated { needed, available },
        ));
    };
    let next_offset = last.header.next_offset().max(fetch_offset);
    let batches = match config.isolation_level {
        IsolationLevel::ReadUncommitted => whole,
        IsolationLevel::ReadCommitted => {
            let aborted = data.aborted_transactions.unwrap_or_default();
            let aborted = aborted
                .iter()
                .map(|transaction| (transaction.first_offset, transaction.producer_id.0));
            let mut aborted = AbortedTransactions::new(aborted.collect());
            let visible = whole
                .into_iter()
                .filter_map(|batch| match aborted.hides(&batch) {
                    Ok(true) => None,
                    Ok(false) => Some(Ok(batch)),
                    Err(error) => Some(Err(corrupt(batch.header.base_offset, error))),
                });
            visible.collect::<Result<Vec<_>, _>>()?
        }
    };
    Ok(Some(FetchedPartition {
        partition: partition.clone(),
        fetch_offset,
        batches,
        high_watermark: data.high_watermark,
        last_stable_offset: data.last_stable_offset,
        log_start_offset: data.log_start_offset,
        next_offset,
    }))
}

/// The batches of an answer; the last may be cut off, which only means that the next fetch brings it.
fn whole_batches(records: Bytes, check_crcs: bool) -> Result<Vec<Batch>, (Offset, BatchError)> {
    let mut batches: Vec<Batch> = Vec::new();
    for batch in batches_of(records) {
        let next_offset = batches
            .last()
            .map_or(-1, |batch| batch.header.next_offset());
        match batch {
            Ok(batch) => {
                if check_crcs {
                    batch
                        .verify_crc()
                        .map_err(|error| (batch.header.base_offset, error))?;
                }
                batches.push(batch);
            }
            Err(BatchError::Truncated { .. }) => break,
            Err(error) => return Err((next_offset, error)),
        }
    }
    Ok(batches)
}
