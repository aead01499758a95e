//! LeaveGroup: members go, by their own will or (by instance id alone) an administrator's.

use kafka_protocol::ResponseError as KafkaError;
use kafka_protocol::messages::LeaveGroupRequest;
use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::leave_group_response::MemberResponse;

use super::group::Group;
use super::reply;
use super::shard::GroupShard;
use super::state::GroupState;

impl GroupShard {
    pub(super) fn leave(&mut self, token: u64, version: i16, request: &LeaveGroupRequest) {
        let single = [MemberIdentity::default().with_member_id(request.member_id.clone())];
        let members = if version < 3 {
            &single[..]
        } else {
            &request.members[..]
        };
        let id = request.group_id.as_str();
        let mut responses = Vec::with_capacity(members.len());
        for member in members {
            let result = match self.groups.get_mut(id) {
                Some(group) => resolve(group, member),
                None => Err(KafkaError::UnknownMemberId),
            };
            if let (Ok(member_id), Some(group)) = (&result, self.groups.get_mut(id)) {
                tracing::info!(group = id, member = %member_id, "member leaves");
                self.ctx
                    .remove_member(group, member_id, KafkaError::UnknownMemberId);
            }
            responses.push(
                MemberResponse::default()
                    .with_member_id(member.member_id.clone())
                    .with_group_instance_id(member.group_instance_id.clone())
                    .with_error_code(result.err().map_or(0, |error| error.code())),
            );
        }
        let appended_from = self.ctx.next_append_id();
        if responses.iter().any(|r| r.error_code == 0)
            && let Some(group) = self.groups.get_mut(id)
        {
            match group.state {
                GroupState::Stable | GroupState::CompletingRebalance => self.ctx.rebalance(group),
                GroupState::PreparingRebalance => self.ctx.maybe_complete_join(group),
                GroupState::Empty | GroupState::Dead => {}
            }
        }
        // The last one's leaving is written, and told when that is durable.
        let response = reply::leave(version, responses);
        self.ctx.reply_after(appended_from, token, response);
    }
}

/// The member that is meant.
fn resolve(group: &Group, member: &MemberIdentity) -> Result<String, KafkaError> {
    let instance_id = member.group_instance_id.as_deref();
    if member.member_id.is_empty() {
        return instance_id
            .and_then(|instance| group.static_members.get(instance))
            .map(|id| id.to_string())
            .ok_or(KafkaError::UnknownMemberId);
    }
    if !group.pending_join.contains(member.member_id.as_str()) {
        group.validate_member(&member.member_id, instance_id)?;
    }
    Ok(member.member_id.to_string())
}
