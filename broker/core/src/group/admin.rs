//! ListGroups, DescribeGroups and DeleteGroups.

use kafka_protocol::ResponseError as KafkaError;
use kafka_protocol::messages::delete_groups_response::DeletableGroupResult;
use kafka_protocol::messages::describe_groups_response::{DescribedGroup, DescribedGroupMember};
use kafka_protocol::messages::list_groups_response::ListedGroup;
use kafka_protocol::messages::{
    DeleteGroupsRequest, DeleteGroupsResponse, DescribeGroupsRequest, DescribeGroupsResponse,
    GroupId, ListGroupsRequest, ListGroupsResponse,
};
use kafka_protocol::protocol::StrBytes;

use super::append::{GroupChange, PendingAppend};
use super::context::group_record;
use super::event::GroupResponse;
use super::group::Group;
use super::offsets::OffsetChange;
use super::reply::text;
use super::shard::GroupShard;
use super::state::GroupState;

/// The type of every group here.
const GROUP_TYPE: &str = "Classic";

impl GroupShard {
    pub(super) fn list_groups(&mut self, token: u64, request: &ListGroupsRequest) {
        let wanted = |filter: &[StrBytes], name: &str| {
            filter.is_empty() || filter.iter().any(|f| f.eq_ignore_ascii_case(name))
        };
        let groups = if wanted(&request.types_filter, GROUP_TYPE) {
            self.groups
                .values()
                .filter(|group| {
                    group.committed && wanted(&request.states_filter, group.state.name())
                })
                .map(|group| {
                    ListedGroup::default()
                        .with_group_id(GroupId(text(&group.id)))
                        .with_protocol_type(text(
                            group.protocol_type.as_deref().unwrap_or_default(),
                        ))
                        .with_group_state(StrBytes::from_static_str(group.state.name()))
                        .with_group_type(StrBytes::from_static_str(GROUP_TYPE))
                })
                .collect()
        } else {
            Vec::new()
        };
        let response = ListGroupsResponse::default().with_groups(groups);
        self.ctx.reply(token, GroupResponse::List(response));
    }

    pub(super) fn describe_groups(
        &mut self,
        token: u64,
        version: i16,
        request: &DescribeGroupsRequest,
    ) {
        let groups = request
            .groups
            .iter()
            .map(
                |id| match self.groups.get(id.as_str()).filter(|g| g.committed) {
                    Some(group) => describe(id, group),
                    None => describe_missing(id, version),
                },
            )
            .collect();
        let response = DescribeGroupsResponse::default().with_groups(groups);
        self.ctx.reply(token, GroupResponse::Describe(response));
    }

    pub(super) fn delete_groups(&mut self, token: u64, request: &DeleteGroupsRequest) {
        let mut records = Vec::new();
        let mut pending = PendingAppend::default();
        let mut results = Vec::with_capacity(request.groups_names.len());
        for id in &request.groups_names {
            let result = self.delete_group(id);
            let error_code = match result {
                Ok((group, tombstones)) => {
                    for change in tombstones {
                        self.offsets.begin(&change);
                        records.push(change.record());
                        pending.offsets.push(change);
                    }
                    records.push(group_record(id, None));
                    pending.groups.push(GroupChange::Deleted { group });
                    0
                }
                Err(error) => error.code(),
            };
            results.push(
                DeletableGroupResult::default()
                    .with_group_id(id.clone())
                    .with_error_code(error_code),
            );
        }
        let response = GroupResponse::Delete(DeleteGroupsResponse::default().with_results(results));
        pending.replies.push((token, response));
        self.ctx.append(records, pending);
    }

    fn delete_group(&mut self, id: &str) -> Result<(Box<Group>, Vec<OffsetChange>), KafkaError> {
        match self.groups.get(id).map(|group| group.state) {
            None | Some(GroupState::Dead) => Err(KafkaError::GroupIdNotFound),
            Some(GroupState::Empty) => {
                let group = self.take_to_delete(id).ok_or(KafkaError::GroupIdNotFound)?;
                let tombstones = self.offsets.keys_of(id);
                let tombstones = tombstones
                    .into_iter()
                    .map(OffsetChange::tombstone)
                    .collect();
                Ok((group, tombstones))
            }
            Some(_) => Err(KafkaError::NonEmptyGroup),
        }
    }
}

/// Assignments and metadata are shown of a stable group; during a rebalance they are of no generation.
fn describe(id: &GroupId, group: &Group) -> DescribedGroup {
    let stable_protocol = match group.state {
        GroupState::Stable => group.protocol_name.as_deref(),
        _ => None,
    };
    let members = group.members.values().map(|member| {
        let described = DescribedGroupMember::default()
            .with_member_id(text(&member.id))
            .with_group_instance_id(member.instance_id.as_deref().map(text))
            .with_client_id(text(&member.client_id))
            .with_client_host(text(&member.client_host));
        match stable_protocol {
            Some(protocol) => described
                .with_member_metadata(member.metadata(protocol))
                .with_member_assignment(member.assignment.clone()),
            None => described,
        }
    });
    DescribedGroup::default()
        .with_group_id(id.clone())
        .with_group_state(StrBytes::from_static_str(group.state.name()))
        .with_protocol_type(text(group.protocol_type.as_deref().unwrap_or_default()))
        .with_protocol_data(text(stable_protocol.unwrap_or_default()))
        .with_members(members.collect())
}

/// A group that is not here is Dead, and from version 6 on not found.
fn describe_missing(id: &GroupId, version: i16) -> DescribedGroup {
    let dead = DescribedGroup::default()
        .with_group_id(id.clone())
        .with_group_state(StrBytes::from_static_str(GroupState::Dead.name()));
    if version < 6 {
        return dead;
    }
    dead.with_error_code(KafkaError::GroupIdNotFound.code())
        .with_error_message(Some(StrBytes::from_string(format!(
            "Group {} not found.",
            id.as_str()
        ))))
}
