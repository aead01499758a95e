//! Answers that carry an error, for every request.

use kafka_protocol::ResponseError as KafkaError;
use kafka_protocol::messages::delete_groups_response::DeletableGroupResult;
use kafka_protocol::messages::describe_groups_response::DescribedGroup;
use kafka_protocol::messages::leave_group_response::MemberResponse;
use kafka_protocol::messages::offset_commit_response::{
    OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};
use kafka_protocol::messages::offset_fetch_response::OffsetFetchResponseGroup;
use kafka_protocol::messages::{
    DeleteGroupsResponse, DescribeGroupsResponse, HeartbeatResponse, JoinGroupResponse,
    LeaveGroupResponse, ListGroupsResponse, OffsetCommitRequest, OffsetCommitResponse,
    OffsetDeleteResponse, SyncGroupResponse,
};
use kafka_protocol::protocol::StrBytes;

use super::event::{GroupRequest, GroupResponse};

pub fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

/// Versions before 7 have no null for the protocol's name, later ones no empty text.
pub fn protocol_name(version: i16, name: Option<&str>) -> Option<StrBytes> {
    match name.filter(|name| !name.is_empty()) {
        Some(name) => Some(text(name)),
        None if version < 7 => Some(StrBytes::new()),
        None => None,
    }
}

pub fn join_error(version: i16, member_id: &str, error: KafkaError) -> GroupResponse {
    GroupResponse::Join(
        JoinGroupResponse::default()
            .with_error_code(error.code())
            .with_generation_id(-1)
            .with_protocol_name(protocol_name(version, None))
            .with_member_id(text(member_id)),
    )
}

pub fn sync_error(error: KafkaError) -> GroupResponse {
    GroupResponse::Sync(SyncGroupResponse::default().with_error_code(error.code()))
}

pub fn heartbeat(error: Option<KafkaError>) -> GroupResponse {
    GroupResponse::Heartbeat(
        HeartbeatResponse::default().with_error_code(error.map_or(0, |error| error.code())),
    )
}

/// Versions before 3 know one member, whose error is the answer's.
pub fn leave(version: i16, members: Vec<MemberResponse>) -> GroupResponse {
    let response = LeaveGroupResponse::default();
    GroupResponse::Leave(if version < 3 {
        let error = members.iter().map(|m| m.error_code).find(|code| *code != 0);
        response.with_error_code(error.unwrap_or(0))
    } else {
        response.with_members(members)
    })
}

/// Every partition of the request with the same error.
pub fn offset_commit_error(request: &OffsetCommitRequest, error: KafkaError) -> GroupResponse {
    let topics = request.topics.iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|partition| {
            OffsetCommitResponsePartition::default()
                .with_partition_index(partition.partition_index)
                .with_error_code(error.code())
        });
        OffsetCommitResponseTopic::default()
            .with_name(topic.name.clone())
            .with_partitions(partitions.collect())
    });
    GroupResponse::OffsetCommit(OffsetCommitResponse::default().with_topics(topics.collect()))
}

/// The answer when nothing of the request could be looked at.
pub fn request_error(version: i16, request: &GroupRequest, error: KafkaError) -> GroupResponse {
    match request {
        GroupRequest::Join(r) => join_error(version, &r.member_id, error),
        GroupRequest::Sync(_) => sync_error(error),
        GroupRequest::Heartbeat(_) => heartbeat(Some(error)),
        GroupRequest::Leave(_) => {
            GroupResponse::Leave(LeaveGroupResponse::default().with_error_code(error.code()))
        }
        GroupRequest::OffsetCommit(r) => offset_commit_error(r, error),
        GroupRequest::OffsetFetch { group, .. } => GroupResponse::OffsetFetch(
            OffsetFetchResponseGroup::default()
                .with_group_id(group.group_id.clone())
                .with_error_code(error.code()),
        ),
        GroupRequest::OffsetDelete(_) => GroupResponse::OffsetDelete(
            OffsetDeleteResponse::default().with_error_code(error.code()),
        ),
        GroupRequest::List(_) => {
            GroupResponse::List(ListGroupsResponse::default().with_error_code(error.code()))
        }
        GroupRequest::Describe(r) => {
            let groups = r.groups.iter().map(|group| {
                DescribedGroup::default()
                    .with_group_id(group.clone())
                    .with_error_code(error.code())
            });
            GroupResponse::Describe(DescribeGroupsResponse::default().with_groups(groups.collect()))
        }
        GroupRequest::Delete(r) => {
            let results = r.groups_names.iter().map(|group| {
                DeletableGroupResult::default()
                    .with_group_id(group.clone())
                    .with_error_code(error.code())
            });
            GroupResponse::Delete(DeleteGroupsResponse::default().with_results(results.collect()))
        }
    }
}

/// Turns an answer that waited for its records into the one for when they could not be written.
pub fn append_failed(response: GroupResponse, error: KafkaError) -> GroupResponse {
    let code = error.code();
    match response {
        GroupResponse::OffsetCommit(mut r) => {
            for partition in r.topics.iter_mut().flat_map(|topic| &mut topic.partitions) {
                if partition.error_code == 0 {
                    partition.error_code = code;
                }
            }
            GroupResponse::OffsetCommit(r)
        }
        GroupResponse::Delete(mut r) => {
            for result in &mut r.results {
                if result.error_code == 0 {
                    result.error_code = code;
                }
            }
            GroupResponse::Delete(r)
        }
        GroupResponse::OffsetDelete(_) => {
            GroupResponse::OffsetDelete(OffsetDeleteResponse::default().with_error_code(code))
        }
        GroupResponse::Leave(_) => {
            GroupResponse::Leave(LeaveGroupResponse::default().with_error_code(code))
        }
        GroupResponse::Join(r) => GroupResponse::Join(r.with_error_code(code)),
        GroupResponse::Sync(r) => GroupResponse::Sync(r.with_error_code(code)),
        // These wait for no records.
        other @ (GroupResponse::Heartbeat(_)
        | GroupResponse::OffsetFetch(_)
        | GroupResponse::List(_)
        | GroupResponse::Describe(_)) => other,
    }
}
