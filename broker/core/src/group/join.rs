//! JoinGroup.

use std::sync::Arc;

use bytes::Bytes;
use kafka_protocol::ResponseError as KafkaError;
use kafka_protocol::messages::JoinGroupRequest;

use super::append::GroupChange;
use super::event::ClientIdentity;
use super::group::Group;
use super::member::{Member, MemberProtocol, Waiter, member_protocols};
use super::rebalance::join_response;
use super::record::GroupMetadataValue;
use super::reply;
use super::shard::GroupShard;
use super::state::GroupState;

/// How long a member that was never told its id may wait for its first answer. If its client gave up, it will not come
/// back under that id.
const NEW_MEMBER_JOIN_TIMEOUT_MS: i32 = 5 * 60 * 1000;

/// A JoinGroup as its handlers need it.
pub struct Join<'a> {
    pub waiter: Waiter,
    pub client: &'a ClientIdentity,
    pub member_id: &'a str,
    pub instance_id: Option<&'a str>,
    pub protocol_type: &'a str,
    pub protocols: Vec<MemberProtocol>,
    pub rebalance_timeout_ms: i32,
    pub session_timeout_ms: i32,
}

impl GroupShard {
    pub(super) fn join(
        &mut self,
        token: u64,
        client: &ClientIdentity,
        version: i16,
        request: &JoinGroupRequest,
    ) {
        let join = Join {
            waiter: Waiter { token, version },
            client,
            member_id: &request.member_id,
            instance_id: request.group_instance_id.as_deref(),
            protocol_type: &request.protocol_type,
            protocols: member_protocols(&request.protocols),
            // Version 0 has one time-out for both.
            rebalance_timeout_ms: if version == 0 {
                request.session_timeout_ms
            } else {
                request.rebalance_timeout_ms
            },
            session_timeout_ms: request.session_timeout_ms,
        };
        let sessions =
            self.ctx.config.min_session_timeout_ms..=self.ctx.config.max_session_timeout_ms;
        if !sessions.contains(&join.session_timeout_ms) {
            self.refuse_join(&join, join.member_id, KafkaError::InvalidSessionTimeout);
            return;
        }
        let id: Arc<str> = request.group_id.as_str().into();
        let is_new_group = !self.groups.contains_key(&id);
        if is_new_group {
            // Only a newcomer makes a group: a member of one that is gone must begin anew.
            if !join.member_id.is_empty() {
                self.refuse_join(&join, join.member_id, KafkaError::UnknownMemberId);
                return;
            }
            if join.protocol_type.is_empty() || join.protocols.is_empty() {
                self.refuse_join(&join, "", KafkaError::InconsistentGroupProtocol);
                return;
            }
            let born_at = self.ctx.next_append_id();
            let group = Group::new(Arc::clone(&id), Some(self.ctx.now_ms), born_at);
            self.groups.insert(Arc::clone(&id), group);
            let value = GroupMetadataValue {
                protocol_type: String::new(),
                generation: 0,
                protocol: None,
                leader: None,
                current_state_timestamp_ms: self.ctx.now_ms,
                members: Vec::new(),
            };
            let change = GroupChange::Created {
                group: Arc::clone(&id),
            };
            self.ctx.append_group(&id, Some(&value), change);
        }
        let Some(group) = self.groups.get(&id) else {
            return;
        };
        if !accepts(group, join.member_id, self.ctx.config.max_size) {
            let member_id = join.member_id.to_owned();
            if let Some(group) = self.groups.get_mut(&id) {
                self.ctx
                    .remove_member(group, &member_id, KafkaError::UnknownMemberId);
            }
            self.refuse_join(&join, "", KafkaError::GroupMaxSizeReached);
        } else if !group.supports_protocols(join.protocol_type, &join.protocols) {
            self.refuse_join(&join, join.member_id, KafkaError::InconsistentGroupProtocol);
        } else if join.member_id.is_empty() {
            self.join_new_member(&id, join);
        } else {
            self.join_existing_member(&id, join);
        }
    }

    fn refuse_join(&mut self, join: &Join<'_>, member_id: &str, error: KafkaError) {
        let Waiter { token, version } = join.waiter;
        self.ctx
            .reply(token, reply::join_error(version, member_id, error));
    }

    fn join_new_member(&mut self, id: &str, join: Join<'_>) {
        let prefix = join.instance_id.unwrap_or(&join.client.client_id);
        let new_id: Arc<str> = format!("{prefix}-{}", (self.ctx.ids)()).into();
        let Some(group) = self.groups.get_mut(id) else {
            return;
        };
        if let Some(instance) = join.instance_id {
            match group.static_members.get(instance).cloned() {
                Some(old_id) => self.replace_static_member(id, &old_id, new_id, join),
                None => self.add_member(id, new_id, join),
            }
        } else if join.waiter.version >= 4 {
            // The client must come back with its id, so that one that never does leaves no member behind.
            group.pending_join.insert(Arc::clone(&new_id));
            let group_id = Arc::clone(&group.id);
            self.ctx
                .schedule_session(&group_id, &new_id, join.session_timeout_ms);
            self.refuse_join(&join, &new_id, KafkaError::MemberIdRequired);
        } else {
            self.add_member(id, new_id, join);
        }
    }

    fn join_existing_member(&mut self, id: &str, join: Join<'_>) {
        let Some(group) = self.groups.get_mut(id) else {
            return;
        };
        if group.pending_join.contains(join.member_id) {
            if join.instance_id.is_some() {
                // Ids are handed out for later to dynamic members only.
                self.refuse_join(&join, join.member_id, KafkaError::UnknownMemberId);
            } else {
                let member_id = Arc::from(join.member_id);
                self.add_member(id, member_id, join);
            }
            return;
        }
        if let Err(error) = group.validate_member(join.member_id, join.instance_id) {
            self.refuse_join(&join, join.member_id, error);
            return;
        }
        let unchanged = group
            .members
            .get(join.member_id)
            .is_some_and(|m| m.matches(&join.protocols));
        let rejoins = match group.state {
            GroupState::PreparingRebalance => true,
            // It may not have seen the answer to its first JoinGroup.
            GroupState::CompletingRebalance => !unchanged,
            // A leader that joins again wants a rebalance for reasons of its own, such as new partitions.
            GroupState::Stable => !unchanged || group.is_leader(join.member_id),
            GroupState::Empty | GroupState::Dead => {
                self.refuse_join(&join, join.member_id, KafkaError::UnknownMemberId);
                return;
            }
        };
        if !rejoins {
            let response = join_response(group, join.waiter.version, join.member_id);
            self.ctx.reply(join.waiter.token, response);
            return;
        }
        group.update_member(
            join.member_id,
            join.protocols,
            join.rebalance_timeout_ms,
            join.session_timeout_ms,
        );
        let superseded = group.await_join(join.member_id, join.waiter);
        self.ctx
            .fail_join(superseded, join.member_id, KafkaError::RebalanceInProgress);
        self.ctx.rebalance(group);
    }

    fn add_member(&mut self, id: &str, member_id: Arc<str>, join: Join<'_>) {
        let Some(group) = self.groups.get_mut(id) else {
            return;
        };
        if group.members.is_empty() {
            group.protocol_type = Some(join.protocol_type.into());
        }
        if group.state == GroupState::PreparingRebalance
            && group.previous_state == GroupState::Empty
        {
            group.new_member_added = true;
        }
        group.add(Member {
            id: Arc::clone(&member_id),
            instance_id: join.instance_id.map(Arc::from),
            client_id: join.client.client_id.as_str().into(),
            client_host: join.client.client_host.as_str().into(),
            rebalance_timeout_ms: join.rebalance_timeout_ms,
            session_timeout_ms: join.session_timeout_ms,
            protocols: join.protocols,
            assignment: Bytes::new(),
            awaiting_join: Some(join.waiter),
            awaiting_sync: None,
            is_new: true,
        });
        self.ctx
            .schedule_session(&group.id, &member_id, NEW_MEMBER_JOIN_TIMEOUT_MS);
        self.ctx.rebalance(group);
    }
}

/// Whether the group has room for the member.
fn accepts(group: &Group, member_id: &str, max_size: usize) -> bool {
    let member = group.members.get(member_id);
    match group.state {
        GroupState::Empty | GroupState::Dead => true,
        // The group may be above a limit that was lowered: those who come back first stay.
        GroupState::PreparingRebalance => {
            member.is_some_and(|m| m.awaiting_join.is_some()) || group.awaiting_join < max_size
        }
        GroupState::CompletingRebalance | GroupState::Stable => {
            member.is_some() || group.members.len() < max_size
        }
    }
}
