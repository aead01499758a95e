//! The Fetch answer as parts: header bytes in memory, records as slices of files.

use bytes::BytesMut;
use kafka_protocol::messages::fetch_response::{
    AbortedTransaction, LeaderIdAndEpoch, NodeEndpoint,
};
use kafka_protocol::messages::{BrokerId, ProducerId, TopicName};
use strandline_core::fetch_session::SessionTopic;
use strandline_core::metadata::MetadataImage;
use strandline_log::FileSlice;
use strandline_wire::{
    FetchPartitionPart, FetchResponseParts, FetchTopicPart, KafkaError, encode_fetch_response,
};
use uuid::Uuid;

use super::look::Look;
use crate::api::text::{text, topic_name};
use crate::api::{FetchFrames, RequestContext, ResponseBody, ResponsePart, brokers};

/// A look that goes into the answer.
pub struct Answered {
    pub look: Look,
    pub read_committed: bool,
}

pub fn whole_error(context: &RequestContext, error: KafkaError) -> ResponseBody {
    // Versions without a field for it have no sessions, and so no such error.
    let parts = FetchResponseParts {
        error_code: error.code(),
        ..FetchResponseParts::default()
    };
    encode(context, &parts, Vec::new())
}

pub fn answer(
    context: &RequestContext,
    image: &MetadataImage,
    session_id: i32,
    answered: Vec<Answered>,
) -> ResponseBody {
    let mut topics: Vec<(SessionTopic, FetchTopicPart)> = Vec::new();
    let mut records = Vec::with_capacity(answered.len());
    let mut leaders = Vec::new();
    for Answered {
        look,
        read_committed,
    } in answered
    {
        let part = partition_part(&look, image, read_committed, &mut leaders);
        if topics
            .last()
            .is_none_or(|(topic, _)| *topic != look.candidate.topic)
        {
            let (topic, topic_id) = match &look.candidate.topic {
                SessionTopic::Name(name) => (topic_name(name), Uuid::nil()),
                SessionTopic::Id(id) => (TopicName::default(), *id),
            };
            let part = FetchTopicPart {
                topic,
                topic_id,
                partitions: Vec::new(),
            };
            topics.push((look.candidate.topic.clone(), part));
        }
        if let Some((_, topic)) = topics.last_mut() {
            topic.partitions.push(part);
        }
        records.push(look.slices);
    }
    leaders.sort_unstable();
    leaders.dedup();
    let node_endpoints = leaders
        .into_iter()
        .filter_map(|id| {
            let endpoint = brokers::endpoint(image, &context.listener, id)?;
            Some(
                NodeEndpoint::default()
                    .with_node_id(BrokerId(id))
                    .with_host(text(&*endpoint.host))
                    .with_port(i32::from(endpoint.port)),
            )
        })
        .collect();
    let parts = FetchResponseParts {
        session_id,
        topics: topics.into_iter().map(|(_, topic)| topic).collect(),
        node_endpoints,
        ..FetchResponseParts::default()
    };
    encode(context, &parts, records)
}

fn partition_part(
    look: &Look,
    image: &MetadataImage,
    read_committed: bool,
    leaders: &mut Vec<i32>,
) -> FetchPartitionPart {
    let mut current_leader = None;
    if matches!(
        look.error,
        Some(KafkaError::NotLeaderOrFollower | KafkaError::FencedLeaderEpoch)
    ) {
        let topic = match &look.candidate.topic {
            SessionTopic::Name(name) => image.topics.get(name),
            SessionTopic::Id(id) => image.topics.get_by_id(id),
        };
        if let Some(partition) = topic.and_then(|topic| topic.partition(look.candidate.partition)) {
            leaders.push(partition.leader);
            current_leader = Some(
                LeaderIdAndEpoch::default()
                    .with_leader_id(BrokerId(partition.leader))
                    .with_leader_epoch(partition.leader_epoch),
            );
        }
    }
    let aborted_transactions = read_committed.then(|| {
        look.aborted
            .iter()
            .map(|aborted| {
                AbortedTransaction::default()
                    .with_producer_id(ProducerId(aborted.producer_id))
                    .with_first_offset(aborted.first_offset)
            })
            .collect()
    });
    FetchPartitionPart {
        partition_index: look.candidate.partition,
        error_code: look.error.map_or(0, |error| error.code()),
        high_watermark: look.high_watermark,
        last_stable_offset: look.last_stable_offset,
        log_start_offset: look.log_start_offset,
        diverging_epoch: look.diverging_epoch.clone(),
        current_leader,
        snapshot_id: None,
        aborted_transactions,
        preferred_read_replica: -1,
        records_len: look.bytes,
    }
}

fn encode(
    context: &RequestContext,
    parts: &FetchResponseParts,
    records: Vec<Vec<FileSlice>>,
) -> ResponseBody {
    let encoded = match encode_fetch_response(context.api_version, context.correlation_id, parts) {
        Ok(encoded) => encoded,
        Err(error) => {
            tracing::error!(%error, client_id = &*context.client_id, "a fetch answer does not encode");
            return ResponseBody::Close(error.to_string());
        }
    };
    let mut out = Vec::new();
    let mut buffer = BytesMut::new();
    let mut records = records.into_iter();
    for chunk in encoded.chunks {
        buffer.extend_from_slice(&chunk);
        for slice in records.next().into_iter().flatten() {
            if !buffer.is_empty() {
                out.push(ResponsePart::Bytes(buffer.split().freeze()));
            }
            out.push(ResponsePart::File(slice));
        }
    }
    if !buffer.is_empty() {
        out.push(ResponsePart::Bytes(buffer.freeze()));
    }
    ResponseBody::Fetch(FetchFrames { parts: out })
}
