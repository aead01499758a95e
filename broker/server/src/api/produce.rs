//! Produce (0), served in versions 3-13 (advertised from 0, see the table of APIs).
//!
//! Each partition's one batch is checked and lined up for its log before `handle` returns, so that pipelined produces
//! of one connection keep their order and run at the same time. acks=1 is answered when the leader's log has it,
//! acks=all when the high watermark covers it or the timeout has passed (the batch stays in the log then, as in Kafka),
//! acks=0 never: an error closes the connection. From version 13 on topics go by id.
//!
//! Gaps: no transactions. A transactional id, or a transactional batch, is refused with a fatal error, so that nothing
//! can pin the last stable offset.

use std::sync::Arc;
use std::time::{Duration, Instant};

use kafka_protocol::messages::produce_request::PartitionProduceData;
use kafka_protocol::messages::produce_response::{
    BatchIndexAndErrorMessage, LeaderIdAndEpoch, NodeEndpoint, PartitionProduceResponse,
    TopicProduceResponse,
};
use kafka_protocol::messages::{BrokerId, ProduceRequest, ProduceResponse, TopicName};
use strandline_core::metadata::MetadataImage;
use strandline_log::record::{BatchHeader, ProduceError, validate_produce};
use strandline_wire::{Api, KafkaError};
use uuid::Uuid;

use super::text::text;
use super::{Apis, Handled, RequestContext, Response, ResponseBody, brokers};
use crate::clock;
use crate::errors;
use crate::partition::{
    AppendFailure, AppendReplies, AppendReply, Appended, Partition, RequiredAcks, Schedule, Stalled,
};

/// The client that Kafka lets write to internal topics.
const ADMIN_CLIENT_ID: &str = "__admin_client";

struct Failure {
    error: KafkaError,
    message: Option<String>,
    records: Vec<(i32, String)>,
}

impl Failure {
    fn of(error: KafkaError) -> Self {
        Self {
            error,
            message: None,
            records: Vec::new(),
        }
    }

    fn because(error: KafkaError, message: impl Into<String>) -> Self {
        Self {
            message: Some(message.into()),
            ..Self::of(error)
        }
    }
}

impl From<AppendFailure> for Failure {
    fn from(failure: AppendFailure) -> Self {
        Self {
            error: failure.error,
            message: failure.message,
            records: Vec::new(),
        }
    }
}

struct PartitionAppend {
    index: i32,
    /// Lined up; or why not.
    lined_up: Result<(), Failure>,
}

struct TopicAppend {
    name: TopicName,
    topic_id: Uuid,
    partitions: Vec<PartitionAppend>,
}

pub fn handle(apis: &Arc<Apis>, context: RequestContext, request: ProduceRequest) -> Handled {
    let image = apis.metadata.image();
    let acks = request.acks;
    let timeout = Duration::from_millis(u64::try_from(request.timeout_ms).unwrap_or(0));
    let refused = refuse_whole(&request);
    let mut stalled = Vec::new();
    let count = request.topic_data.iter().map(|t| t.partition_data.len());
    let replies = AppendReplies::new(count.sum());
    let mut schedule = Schedule::here();
    let mut place = 0;
    let mut topics = Vec::with_capacity(request.topic_data.len());
    for data in request.topic_data {
        let name = if context.api_version >= 13 {
            image
                .topics
                .get_by_id(&data.topic_id)
                .map(|topic| Arc::clone(&topic.name))
        } else {
            image
                .topics
                .get(&data.name)
                .map(|topic| Arc::clone(&topic.name))
        };
        let unknown = if context.api_version >= 13 {
            KafkaError::UnknownTopicId
        } else {
            KafkaError::UnknownTopicOrPartition
        };
        let mut partitions = Vec::with_capacity(data.partition_data.len());
        for partition in data.partition_data {
            let index = partition.index;
            let lined_up = match (&refused, &name) {
                (Some(error), _) => Err(Failure::because(*error, refusal_text(*error))),
                (None, None) => Err(Failure::of(unknown)),
                (None, Some(name)) => {
                    let append = Append {
                        acks,
                        reply: replies.reply(place),
                        schedule: &mut schedule,
                    };
                    line_up(apis, &context, &image, name, partition, append)
                }
            };
            place += 1;
            let lined_up = lined_up.map(|stall| stalled.extend(stall));
            partitions.push(PartitionAppend { index, lined_up });
        }
        topics.push(TopicAppend {
            name: data.name,
            topic_id: data.topic_id,
            partitions,
        });
    }
    drop(schedule);
    let apis = Arc::clone(apis);
    let answer = Box::pin(async move {
        wait(&replies, acks, context.received + timeout).await;
        let Settled {
            topics,
            first_error: failed,
            appended_at,
        } = settle(&apis, &context, &image, topics, acks, &replies);
        let remote = appended_at.map(|at| clock::now().saturating_duration_since(at));
        if acks == 0 {
            let body = match failed {
                None => ResponseBody::None,
                Some(error) => {
                    ResponseBody::Close(format!("a produce with acks=0 failed: {error}"))
                }
            };
            return Response { body, remote };
        }
        let mut response = ProduceResponse::default();
        if context.api_version >= 10 && failed == Some(KafkaError::NotLeaderOrFollower) {
            response =
                response.with_node_endpoints(leader_endpoints(&image, &context.listener, &topics));
        }
        let body = apis.encode(Api::Produce, &context, &response.with_responses(topics));
        Response { body, remote }
    });
    if stalled.is_empty() {
        return Handled::Pending(answer);
    }
    let admitted = Box::pin(async move {
        for room in stalled {
            // A partition that went away makes room as well.
            let _ = room.await;
        }
    });
    Handled::Stalled { admitted, answer }
}

/// What every partition of the request is refused for.
fn refuse_whole(request: &ProduceRequest) -> Option<KafkaError> {
    if !matches!(request.acks, -1..=1) {
        return Some(KafkaError::InvalidRequiredAcks);
    }
    request
        .transactional_id
        .as_ref()
        .map(|_| KafkaError::TransactionalIdAuthorizationFailed)
}

fn refusal_text(error: KafkaError) -> &'static str {
    match error {
        KafkaError::InvalidRequiredAcks => "acks must be -1, 0 or 1.",
        _ => "There are no transactions here yet.",
    }
}

/// What goes with one partition's batch.
struct Append<'a> {
    acks: i16,
    reply: AppendReply,
    schedule: &'a mut Schedule,
}

fn line_up(
    apis: &Apis,
    context: &RequestContext,
    image: &MetadataImage,
    topic: &str,
    data: PartitionProduceData,
    append: Append<'_>,
) -> Result<Option<Stalled>, Failure> {
    if brokers::is_internal(topic) && *context.client_id != *ADMIN_CLIENT_ID {
        return Err(Failure::because(
            KafkaError::InvalidTopicException,
            format!("Cannot append to internal topic {topic}"),
        ));
    }
    let partition = apis
        .replicas
        .resolve(image, topic, data.index)
        .map_err(Failure::of)?;
    let lined_up = match apis.outage.refusal(&partition) {
        None => check_and_line_up(context, &partition, data, append),
        Some(why) => Err(Failure::because(KafkaError::KafkaStorageError, why)),
    };
    if lined_up.is_err() {
        partition.metrics().produce_failed.inc();
    }
    lined_up
}

fn check_and_line_up(
    context: &RequestContext,
    partition: &Arc<Partition>,
    data: PartitionProduceData,
    append: Append<'_>,
) -> Result<Option<Stalled>, Failure> {
    partition.check_leader(-1).map_err(Failure::of)?;
    let records = data.records.unwrap_or_default();
    // Said before the batch is checked as such: clients take this error as fatal, and give up for good.
    if BatchHeader::parse(&records).is_ok_and(|header| header.is_transactional()) {
        return Err(Failure::because(
            KafkaError::TransactionalIdAuthorizationFailed,
            refusal_text(KafkaError::TransactionalIdAuthorizationFailed),
        ));
    }
    let mut rules = partition.log().config().produce_rules();
    rules.allow_zstd = context.api_version >= 7;
    let batch = validate_produce(records, &rules, clock::now_ms())
        .map_err(|e| produce_failure(e.in_partition(partition.topic_partition())))?
        .pop()
        .ok_or_else(|| Failure::of(KafkaError::InvalidRecord))?;
    let required = if append.acks == -1 {
        RequiredAcks::All
    } else {
        RequiredAcks::Leader
    };
    Ok(partition.append(batch, required, append.reply, append.schedule)?)
}

fn produce_failure(error: ProduceError) -> Failure {
    let code = errors::produce_error(&error);
    let message = error.to_string();
    let records = match error {
        ProduceError::InvalidTimestamp { records, .. }
        | ProduceError::InvalidRecord { records, .. } => records
            .into_iter()
            .map(|record| (record.batch_index, record.message))
            .collect(),
        _ => Vec::new(),
    };
    Failure {
        error: code,
        message: Some(message),
        records,
    }
}

struct Settled {
    topics: Vec<TopicProduceResponse>,
    first_error: Option<KafkaError>,
    /// When the last of the logs had its batch.
    appended_at: Option<Instant>,
}

/// Builds the partitions' answers.
fn settle(
    apis: &Apis,
    context: &RequestContext,
    image: &MetadataImage,
    topics: Vec<TopicAppend>,
    acks: i16,
    replies: &AppendReplies,
) -> Settled {
    let mut first_error = None;
    let mut appended_at = None;
    let mut place = 0;
    let mut answers = Vec::with_capacity(topics.len());
    for topic in topics {
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for partition in topic.partitions {
            let result = partition
                .lined_up
                .and_then(|()| outcome(replies, place, acks));
            place += 1;
            partitions.push(match result {
                Ok(appended) => {
                    appended_at = appended_at.max(Some(appended.appended_at));
                    succeeded(partition.index, &appended)
                }
                Err(failure) => {
                    apis.count_error(Api::Produce, failure.error);
                    first_error = first_error.or(Some(failure.error));
                    let leader = || {
                        let by_id = image.topics.get_by_id(&topic.topic_id);
                        let topic = by_id.or_else(|| image.topics.get(&topic.name))?;
                        topic
                            .partition(partition.index)
                            .map(|p| (p.leader, p.leader_epoch))
                    };
                    failed(partition.index, context.api_version, failure, leader)
                }
            });
        }
        let mut answer = TopicProduceResponse::default().with_partition_responses(partitions);
        if context.api_version >= 13 {
            answer = answer.with_topic_id(topic.topic_id);
        } else {
            answer = answer.with_name(topic.name);
        }
        answers.push(answer);
    }
    Settled {
        topics: answers,
        first_error,
        appended_at,
    }
}

/// Only replication is bounded by the producer's timeout; the local append answers when it is done.
async fn wait(replies: &AppendReplies, acks: i16, deadline: Instant) {
    replies.written().await;
    if acks == -1 && !replies.is_complete() {
        // What is not there by then is answered so.
        let _ = tokio::time::timeout_at(deadline.into(), replies.complete()).await;
    }
}

fn outcome(replies: &AppendReplies, place: usize, acks: i16) -> Result<Appended, Failure> {
    match replies.outcome(place) {
        Some(outcome) => outcome.clone().map_err(Failure::from),
        None if acks == -1 && !replies.is_complete() => {
            Err(Failure::of(KafkaError::RequestTimedOut))
        }
        // The append threads are gone: the broker shuts down.
        None => Err(Failure::of(KafkaError::NotLeaderOrFollower)),
    }
}

fn succeeded(index: i32, appended: &Appended) -> PartitionProduceResponse {
    PartitionProduceResponse::default()
        .with_index(index)
        .with_base_offset(appended.base_offset)
        .with_log_append_time_ms(appended.log_append_time_ms)
        .with_log_start_offset(appended.log_start_offset)
}

fn failed(
    index: i32,
    version: i16,
    failure: Failure,
    leader: impl FnOnce() -> Option<(i32, i32)>,
) -> PartitionProduceResponse {
    let mut response = PartitionProduceResponse::default()
        .with_index(index)
        .with_error_code(failure.error.code())
        .with_base_offset(-1)
        .with_log_append_time_ms(-1)
        .with_log_start_offset(-1);
    if version >= 8 {
        response = response
            .with_error_message(failure.message.map(text))
            .with_record_errors(
                failure
                    .records
                    .into_iter()
                    .map(|(batch_index, message)| {
                        BatchIndexAndErrorMessage::default()
                            .with_batch_index(batch_index)
                            .with_batch_index_error_message(Some(text(message)))
                    })
                    .collect(),
            );
    }
    if version >= 10
        && failure.error == KafkaError::NotLeaderOrFollower
        && let Some((leader_id, leader_epoch)) = leader()
    {
        response = response.with_current_leader(
            LeaderIdAndEpoch::default()
                .with_leader_id(BrokerId(leader_id))
                .with_leader_epoch(leader_epoch),
        );
    }
    response
}

fn leader_endpoints(
    image: &MetadataImage,
    listener: &str,
    topics: &[TopicProduceResponse],
) -> Vec<NodeEndpoint> {
    let mut leaders: Vec<i32> = topics
        .iter()
        .flat_map(|topic| &topic.partition_responses)
        .map(|partition| partition.current_leader.leader_id.0)
        .filter(|id| *id >= 0)
        .collect();
    leaders.sort_unstable();
    leaders.dedup();
    leaders
        .into_iter()
        .filter_map(|id| {
            let endpoint = brokers::endpoint(image, listener, id)?;
            Some(
                NodeEndpoint::default()
                    .with_node_id(BrokerId(id))
                    .with_host(text(&*endpoint.host))
                    .with_port(i32::from(endpoint.port)),
            )
        })
        .collect()
}
