//! The group APIs: OffsetCommit (8) versions 2-9, OffsetFetch (9) versions 1-9, JoinGroup (11) 0-9, Heartbeat (12)
//! 0-4, LeaveGroup (13) 0-5, SyncGroup (14) 0-5, DescribeGroups (15) 0-6, ListGroups (16) 0-5, DeleteGroups (42) 0-2,
//! OffsetDelete (47) 0.
//!
//! Each goes to the coordinator of its group's partition of `__consumer_offsets`. Requests about several groups are
//! split over the coordinators and their answers put together in the request's order. Offsets of topics that do not
//! exist are refused here: a coordinator knows no topics.
//!
//! Gaps: the classic protocol only (no KIP-848, no share groups).

use std::collections::BTreeMap;

use kafka_protocol::messages::delete_groups_response::DeletableGroupResult;
use kafka_protocol::messages::describe_groups_response::DescribedGroup;
use kafka_protocol::messages::offset_commit_response::{
    OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};
use kafka_protocol::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
};
use kafka_protocol::messages::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponseTopic,
};
use kafka_protocol::messages::{
    DeleteGroupsRequest, DeleteGroupsResponse, DescribeGroupsRequest, DescribeGroupsResponse,
    GroupId, HeartbeatRequest, HeartbeatResponse, JoinGroupRequest, JoinGroupResponse,
    LeaveGroupRequest, LeaveGroupResponse, ListGroupsRequest, ListGroupsResponse,
    OffsetCommitRequest, OffsetCommitResponse, OffsetDeleteRequest, OffsetDeleteResponse,
    OffsetFetchRequest, OffsetFetchResponse, SyncGroupRequest, SyncGroupResponse,
};
use strandline_core::group::{ClientIdentity, GroupRequest, GroupResponse, partition_for_group};
use strandline_core::metadata::MetadataImage;
use strandline_wire::{Api, KafkaError, StrBytes};

use super::{Apis, RequestContext, authorized_operations, brokers};

/// Puts a request to a group's coordinator and takes out the answer of the same kind.
macro_rules! ask {
    ($apis:expr, $context:expr, $group:expr, $kind:ident, $request:expr) => {
        match ask($apis, $context, $group, GroupRequest::$kind($request)).await {
            Some(GroupResponse::$kind(response)) => Some(response),
            _ => None,
        }
    };
}

const UNKNOWN: i16 = KafkaError::UnknownServerError.code();

async fn ask(
    apis: &Apis,
    context: &RequestContext,
    group: &str,
    request: GroupRequest,
) -> Option<GroupResponse> {
    apis.groups
        .request(
            shard_of(apis, group),
            identity(context),
            context.api_version,
            request,
        )
        .await
}

fn shard_of(apis: &Apis, group: &str) -> i32 {
    match apis
        .metadata
        .image()
        .topics
        .get(brokers::CONSUMER_OFFSETS_TOPIC)
    {
        Some(topic) => partition_for_group(group, topic.partition_count()),
        // Nobody coordinates yet: the driver says so.
        None => -1,
    }
}

fn identity(context: &RequestContext) -> ClientIdentity {
    ClientIdentity {
        client_id: context.client_id.to_string(),
        client_host: format!("/{}", context.client_host),
    }
}

fn count(apis: &Apis, api: Api, code: i16) {
    if let Some(error) = strandline_wire::error_from_code(code) {
        apis.count_error(api, error);
    }
}

pub async fn join(
    apis: &Apis,
    context: &RequestContext,
    request: JoinGroupRequest,
) -> JoinGroupResponse {
    let group = request.group_id.clone();
    let response = ask!(apis, context, &group, Join, request)
        .unwrap_or_else(|| JoinGroupResponse::default().with_error_code(UNKNOWN));
    count(apis, Api::JoinGroup, response.error_code);
    response
}

pub async fn sync(
    apis: &Apis,
    context: &RequestContext,
    request: SyncGroupRequest,
) -> SyncGroupResponse {
    let group = request.group_id.clone();
    let response = ask!(apis, context, &group, Sync, request)
        .unwrap_or_else(|| SyncGroupResponse::default().with_error_code(UNKNOWN));
    count(apis, Api::SyncGroup, response.error_code);
    response
}

pub async fn heartbeat(
    apis: &Apis,
    context: &RequestContext,
    request: HeartbeatRequest,
) -> HeartbeatResponse {
    let group = request.group_id.clone();
    let response = ask!(apis, context, &group, Heartbeat, request)
        .unwrap_or_else(|| HeartbeatResponse::default().with_error_code(UNKNOWN));
    count(apis, Api::Heartbeat, response.error_code);
    response
}

pub async fn leave(
    apis: &Apis,
    context: &RequestContext,
    request: LeaveGroupRequest,
) -> LeaveGroupResponse {
    let group = request.group_id.clone();
    let response = ask!(apis, context, &group, Leave, request)
        .unwrap_or_else(|| LeaveGroupResponse::default().with_error_code(UNKNOWN));
    count(apis, Api::LeaveGroup, response.error_code);
    response
}

pub async fn offset_delete(
    apis: &Apis,
    context: &RequestContext,
    request: OffsetDeleteRequest,
) -> OffsetDeleteResponse {
    let group = request.group_id.clone();
    let response = ask!(apis, context, &group, OffsetDelete, request)
        .unwrap_or_else(|| OffsetDeleteResponse::default().with_error_code(UNKNOWN));
    count(apis, Api::OffsetDelete, response.error_code);
    response
}

pub async fn offset_commit(
    apis: &Apis,
    context: &RequestContext,
    mut request: OffsetCommitRequest,
) -> OffsetCommitResponse {
    let image = apis.metadata.image();
    let unknown = take_unknown(&image, &mut request);
    let mut response = OffsetCommitResponse::default();
    if !request.topics.is_empty() || unknown.is_empty() {
        let group = request.group_id.clone();
        let fallback = request.clone();
        response = ask!(apis, context, &group, OffsetCommit, request).unwrap_or_else(|| {
            let topics = fallback.topics.iter().map(|topic| {
                let indexes = topic
                    .partitions
                    .iter()
                    .map(|partition| partition.partition_index);
                commit_error(topic.name.clone(), indexes, KafkaError::UnknownServerError)
            });
            OffsetCommitResponse::default().with_topics(topics.collect())
        });
    }
    for refused in unknown {
        match response
            .topics
            .iter_mut()
            .find(|topic| topic.name == refused.name)
        {
            Some(topic) => topic.partitions.extend(refused.partitions),
            None => response.topics.push(refused),
        }
    }
    for partition in response.topics.iter().flat_map(|topic| &topic.partitions) {
        count(apis, Api::OffsetCommit, partition.error_code);
    }
    response
}

/// Takes partitions that do not exist out of a commit, and answers them.
fn take_unknown(
    image: &MetadataImage,
    request: &mut OffsetCommitRequest,
) -> Vec<OffsetCommitResponseTopic> {
    let mut unknown = Vec::new();
    for topic in &mut request.topics {
        let known = image.topics.get(&topic.name);
        let mut refused = Vec::new();
        topic.partitions.retain(|partition| {
            let exists =
                known.is_some_and(|topic| topic.partition(partition.partition_index).is_some());
            if !exists {
                refused.push(partition.partition_index);
            }
            exists
        });
        if !refused.is_empty() {
            unknown.push(commit_error(
                topic.name.clone(),
                refused.into_iter(),
                KafkaError::UnknownTopicOrPartition,
            ));
        }
    }
    request.topics.retain(|topic| !topic.partitions.is_empty());
    unknown
}

fn commit_error(
    name: kafka_protocol::messages::TopicName,
    partitions: impl Iterator<Item = i32>,
    error: KafkaError,
) -> OffsetCommitResponseTopic {
    OffsetCommitResponseTopic::default()
        .with_name(name)
        .with_partitions(
            partitions
                .map(|index| {
                    OffsetCommitResponsePartition::default()
                        .with_partition_index(index)
                        .with_error_code(error.code())
                })
                .collect(),
        )
}

pub async fn offset_fetch(
    apis: &Apis,
    context: &RequestContext,
    request: OffsetFetchRequest,
) -> OffsetFetchResponse {
    let require_stable = context.api_version >= 7 && request.require_stable;
    if context.api_version >= 8 {
        let mut groups = Vec::with_capacity(request.groups.len());
        for group in request.groups {
            groups.push(fetch_group(apis, context, group, require_stable).await);
        }
        return OffsetFetchResponse::default().with_groups(groups);
    }
    // Before version 8: one group, spread over the request's own fields. Before 2, null topics did not mean all.
    let wants_all = request.topics.is_none() && context.api_version >= 2;
    let asked = request.topics.unwrap_or_default();
    let topics = asked
        .iter()
        .map(|topic| {
            OffsetFetchRequestTopics::default()
                .with_name(topic.name.clone())
                .with_partition_indexes(topic.partition_indexes.clone())
        })
        .collect();
    let group = OffsetFetchRequestGroup::default()
        .with_group_id(request.group_id)
        .with_topics((!wants_all).then_some(topics))
        .with_member_epoch(-1);
    let answer = fetch_group(apis, context, group, require_stable).await;
    old_offset_fetch(context.api_version, &asked, answer)
}

async fn fetch_group(
    apis: &Apis,
    context: &RequestContext,
    group: OffsetFetchRequestGroup,
    require_stable: bool,
) -> OffsetFetchResponseGroup {
    let id = group.group_id.clone();
    let request = GroupRequest::OffsetFetch {
        group,
        require_stable,
    };
    let response = match ask(apis, context, &id, request).await {
        Some(GroupResponse::OffsetFetch(response)) => response,
        _ => OffsetFetchResponseGroup::default()
            .with_group_id(id)
            .with_error_code(UNKNOWN),
    };
    count(apis, Api::OffsetFetch, response.error_code);
    response
}

fn old_offset_fetch(
    version: i16,
    asked: &[OffsetFetchRequestTopic],
    group: OffsetFetchResponseGroup,
) -> OffsetFetchResponse {
    let error_code = group.error_code;
    if version < 2 && error_code != 0 {
        // There is no field for an error of the whole: each partition carries it.
        let topics = asked.iter().map(|topic| refused(topic, error_code));
        return OffsetFetchResponse::default().with_topics(topics.collect());
    }
    let topics = group
        .topics
        .into_iter()
        .map(|topic| {
            let partitions = topic.partitions.into_iter().map(|partition| {
                let answer = OffsetFetchResponsePartition::default()
                    .with_partition_index(partition.partition_index)
                    .with_committed_offset(partition.committed_offset)
                    .with_metadata(partition.metadata)
                    .with_error_code(partition.error_code);
                if version >= 5 {
                    answer.with_committed_leader_epoch(partition.committed_leader_epoch)
                } else {
                    answer
                }
            });
            OffsetFetchResponseTopic::default()
                .with_name(topic.name)
                .with_partitions(partitions.collect())
        })
        .collect();
    let response = OffsetFetchResponse::default().with_topics(topics);
    if version >= 2 {
        response.with_error_code(error_code)
    } else {
        response
    }
}

fn refused(topic: &OffsetFetchRequestTopic, error_code: i16) -> OffsetFetchResponseTopic {
    let partitions = topic.partition_indexes.iter().map(|index| {
        OffsetFetchResponsePartition::default()
            .with_partition_index(*index)
            .with_committed_offset(-1)
            .with_metadata(Some(StrBytes::new()))
            .with_error_code(error_code)
    });
    OffsetFetchResponseTopic::default()
        .with_name(topic.name.clone())
        .with_partitions(partitions.collect())
}

pub async fn describe(
    apis: &Apis,
    context: &RequestContext,
    request: DescribeGroupsRequest,
) -> DescribeGroupsResponse {
    let mut described: BTreeMap<GroupId, DescribedGroup> = BTreeMap::new();
    for (shard, groups) in by_shard(apis, &request.groups) {
        let part = DescribeGroupsRequest::default().with_groups(groups);
        let answer = apis
            .groups
            .request(
                shard,
                identity(context),
                context.api_version,
                GroupRequest::Describe(part),
            )
            .await;
        if let Some(GroupResponse::Describe(response)) = answer {
            described.extend(
                response
                    .groups
                    .into_iter()
                    .map(|group| (group.group_id.clone(), group)),
            );
        }
    }
    let with_operations = context.api_version >= 3 && request.include_authorized_operations;
    let groups = request
        .groups
        .iter()
        .map(|id| {
            let mut group = described.get(id).cloned().unwrap_or_else(|| {
                DescribedGroup::default()
                    .with_group_id(id.clone())
                    .with_error_code(UNKNOWN)
            });
            group.authorized_operations = if with_operations {
                authorized_operations::GROUP
            } else {
                authorized_operations::NOT_ASKED
            };
            count(apis, Api::DescribeGroups, group.error_code);
            group
        })
        .collect();
    DescribeGroupsResponse::default().with_groups(groups)
}

pub async fn delete(
    apis: &Apis,
    context: &RequestContext,
    request: DeleteGroupsRequest,
) -> DeleteGroupsResponse {
    let mut deleted: BTreeMap<GroupId, DeletableGroupResult> = BTreeMap::new();
    for (shard, groups) in by_shard(apis, &request.groups_names) {
        let part = DeleteGroupsRequest::default().with_groups_names(groups);
        let answer = apis
            .groups
            .request(
                shard,
                identity(context),
                context.api_version,
                GroupRequest::Delete(part),
            )
            .await;
        if let Some(GroupResponse::Delete(response)) = answer {
            deleted.extend(
                response
                    .results
                    .into_iter()
                    .map(|result| (result.group_id.clone(), result)),
            );
        }
    }
    let results = deleted
        .into_values()
        .inspect(|result| count(apis, Api::DeleteGroups, result.error_code))
        .collect();
    DeleteGroupsResponse::default().with_results(results)
}

fn by_shard(apis: &Apis, groups: &[GroupId]) -> BTreeMap<i32, Vec<GroupId>> {
    let mut split: BTreeMap<i32, Vec<GroupId>> = BTreeMap::new();
    for group in groups {
        split
            .entry(shard_of(apis, group))
            .or_default()
            .push(group.clone());
    }
    split
}

pub async fn list(
    apis: &Apis,
    context: &RequestContext,
    request: ListGroupsRequest,
) -> ListGroupsResponse {
    let mut response = ListGroupsResponse::default();
    for shard in apis.groups.shards() {
        let answer = apis
            .groups
            .request(
                shard,
                identity(context),
                context.api_version,
                GroupRequest::List(request.clone()),
            )
            .await;
        if let Some(GroupResponse::List(part)) = answer {
            // One coordinator that still loads makes the list incomplete, which the client must know.
            if part.error_code != 0 {
                response.error_code = part.error_code;
            }
            response.groups.extend(part.groups);
        }
    }
    count(apis, Api::ListGroups, response.error_code);
    response
}
