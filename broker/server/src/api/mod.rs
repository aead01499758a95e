//! The Kafka APIs: one file each, headed by key, versions, behaviour and gaps.
//!
//! [`Apis::handle`] is the one door: an exhaustive match on the decoded request. A Produce enqueues its batches before
//! it returns, so pipelined produces keep their order and run at the same time; every other request is a lazy answer
//! that the connection polls when the request is at the head of its queue, so that requests take effect in order.
//!
//! The broker makes it with [`Apis::start`], once the metadata quorum runs, the log manager is open and the listeners'
//! ports are known, and ends it with [`Apis::shutdown`], after the listeners and before logs, tier and quorum.
//!
//! What always holds: no answer waits for a read from disk or for the object store on a thread that serves clients.
//! What is not here: sockets, frames and budgets (`net`), and decisions that `strandline-core` makes.

mod alter_configs;
mod api_versions;
mod authorized_operations;
mod brokers;
mod config_resources;
mod create_partitions;
mod create_topics;
mod delete_records;
mod delete_topics;
mod describe_cluster;
mod describe_configs;
mod describe_log_dirs;
mod describe_producers;
mod describe_topic_partitions;
mod fetch;
mod find_coordinator;
mod groups;
mod init_producer_id;
mod list_offsets;
mod max_timestamp;
mod metadata;
mod metrics;
mod offset_for_leader_epoch;
mod produce;
mod seam;
mod start;
mod text;

use std::sync::Arc;

use kafka_protocol::protocol::{Encodable, HeaderVersion};
use strandline_wire::{Api, KafkaError, Request, encode_response};

pub use brokers::CONSUMER_OFFSETS_TOPIC;
pub use fetch::FetchSessions;
pub use metrics::ApiMetrics;
pub use seam::{
    Answer, FetchFrames, Handled, RequestContext, Response, ResponseBody, ResponsePart,
};
pub use start::ApisParts;

use crate::background::Background;
use crate::cleaner_driver::CleanerDriver;
use crate::cold_reads::ColdReads;
use crate::config::BrokerConfig;
use crate::flusher::Flusher;
use crate::group_driver::GroupDriver;
use crate::metadata_driver::MetadataDriver;
use crate::outage_guard::OutageGuard;
use crate::producer_ids::ProducerIds;
use crate::replica_manager::ReplicaManager;
use crate::scrubber::Scrubber;
use crate::threads::Threads;
use crate::tier_driver::RemoteReads;

/// Everything that the handlers work with.
pub struct Apis {
    pub config: Arc<BrokerConfig>,
    pub metadata: Arc<MetadataDriver>,
    pub replicas: Arc<ReplicaManager>,
    pub groups: Arc<GroupDriver>,
    pub producer_ids: ProducerIds,
    pub sessions: FetchSessions,
    pub cold_reads: ColdReads,
    pub remote_reads: RemoteReads,
    pub metrics: ApiMetrics,
    pub outage: OutageGuard,
    /// fetch.max.bytes: asked for by every fetch.
    fetch_bytes_max: usize,
    background: Background,
    pub(crate) threads: Threads,
    flusher: Arc<Flusher>,
    scrubber: Arc<Scrubber>,
    cleaner: CleanerDriver,
}

impl Apis {
    /// Takes one request. Called in the order in which a connection's requests were read.
    pub fn handle(self: &Arc<Self>, context: RequestContext, request: Request) -> Handled {
        self.metrics.request(request.api());
        let apis = Arc::clone(self);
        let api = request.api();
        // An answer that is worked out when the connection polls it, and encoded for the request's version.
        macro_rules! later {
            ($answer:expr) => {
                Handled::Pending(Box::pin(async move {
                    let response = $answer;
                    apis.encode(api, &context, &response).into()
                }))
            };
        }
        match request {
            Request::Produce(r) => produce::handle(self, context, r),
            Request::Fetch(r) => {
                Handled::Pending(Box::pin(
                    async move { fetch::handle(&apis, &context, r).await },
                ))
            }
            Request::ListOffsets(r) => later!(list_offsets::handle(&apis, &context, r).await),
            Request::Metadata(r) => later!(metadata::handle(&apis, &context, r).await),
            Request::OffsetCommit(r) => later!(groups::offset_commit(&apis, &context, r).await),
            Request::OffsetFetch(r) => later!(groups::offset_fetch(&apis, &context, r).await),
            Request::FindCoordinator(r) => {
                later!(find_coordinator::handle(&apis, &context, r).await)
            }
            Request::JoinGroup(r) => later!(groups::join(&apis, &context, r).await),
            Request::Heartbeat(r) => later!(groups::heartbeat(&apis, &context, r).await),
            Request::LeaveGroup(r) => later!(groups::leave(&apis, &context, r).await),
            Request::SyncGroup(r) => later!(groups::sync(&apis, &context, r).await),
            Request::DescribeGroups(r) => later!(groups::describe(&apis, &context, r).await),
            Request::ListGroups(r) => later!(groups::list(&apis, &context, r).await),
            Request::ApiVersions(r) => later!(api_versions::handle(&r)),
            Request::CreateTopics(r) => later!(create_topics::handle(&apis, &context, r).await),
            Request::DeleteTopics(r) => later!(delete_topics::handle(&apis, &context, r).await),
            Request::DeleteRecords(r) => later!(delete_records::handle(&apis, r).await),
            Request::InitProducerId(r) => later!(init_producer_id::handle(&apis, r).await),
            Request::OffsetForLeaderEpoch(r) => {
                later!(offset_for_leader_epoch::handle(&apis, r).await)
            }
            Request::DescribeConfigs(r) => later!(describe_configs::handle(&apis, r)),
            Request::AlterConfigs(r) => later!(alter_configs::replace(&apis, r).await),
            Request::DescribeLogDirs(r) => later!(describe_log_dirs::handle(&apis, r).await),
            Request::CreatePartitions(r) => later!(create_partitions::handle(&apis, r).await),
            Request::DeleteGroups(r) => later!(groups::delete(&apis, &context, r).await),
            Request::IncrementalAlterConfigs(r) => {
                later!(alter_configs::incremental(&apis, r).await)
            }
            Request::OffsetDelete(r) => later!(groups::offset_delete(&apis, &context, r).await),
            Request::DescribeCluster(r) => later!(describe_cluster::handle(&apis, &context, &r)),
            Request::DescribeProducers(r) => later!(describe_producers::handle(&apis, r).await),
            Request::DescribeTopicPartitions(r) => {
                later!(describe_topic_partitions::handle(&apis, &r))
            }
        }
    }

    pub(crate) fn encode<R: Encodable + HeaderVersion>(
        &self,
        api: Api,
        context: &RequestContext,
        response: &R,
    ) -> ResponseBody {
        match encode_response(context.correlation_id, api, context.api_version, response) {
            Ok(frame) => ResponseBody::Bytes(frame),
            Err(error) => {
                // A field is set that this version lacks: our bug, which must cost the client no more than this.
                tracing::error!(%error, client_id = &*context.client_id, "an answer does not encode");
                ResponseBody::Close(error.to_string())
            }
        }
    }

    pub(crate) fn count_error(&self, api: Api, error: KafkaError) {
        self.metrics.error(api, error);
    }
}

#[cfg(test)]
mod tests;
