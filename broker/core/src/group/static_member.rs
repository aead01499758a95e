//! Static membership (KIP-345): a member with a group.instance.id comes back under a new member id and keeps its
//! assignment, without a rebalance when the group is stable and its protocol stays.
//!
//! The new id is written before it is told. If that fails, the old member is back.

use std::sync::Arc;

use kafka_protocol::ResponseError as KafkaError;
use kafka_protocol::messages::JoinGroupResponse;

use super::append::{GroupChange, Replacement};
use super::event::GroupResponse;
use super::join::Join;
use super::rebalance::current_members;
use super::reply::{protocol_name, text};
use super::shard::GroupShard;
use super::state::GroupState;

impl GroupShard {
    pub(super) fn replace_static_member(
        &mut self,
        id: &str,
        old_id: &str,
        new_id: Arc<str>,
        join: Join<'_>,
    ) {
        let Some(group) = self.groups.get_mut(id) else {
            return;
        };
        let Some(old) = group.members.get(old_id) else {
            return;
        };
        let replacement = Replacement {
            group: Arc::clone(&group.id),
            instance_id: Arc::from(join.instance_id.unwrap_or_default()),
            old_id: Arc::clone(&old.id),
            new_id: Arc::clone(&new_id),
            old_protocols: old.protocols.clone(),
            old_rebalance_timeout_ms: old.rebalance_timeout_ms,
            old_session_timeout_ms: old.session_timeout_ms,
            leader_before: group.leader.clone(),
            waiter: join.waiter,
        };
        tracing::info!(group = id, instance = %replacement.instance_id, member = %new_id, "static member came back");
        let (joining, syncing) = group.replace_static_member(old_id, Arc::clone(&new_id));
        self.ctx
            .fail_join(joining, old_id, KafkaError::FencedInstanceId);
        self.ctx.fail_sync(syncing, KafkaError::FencedInstanceId);
        self.ctx.cancel_session(&group.id, &replacement.old_id);
        if group.pending_sync.remove(old_id) {
            group.pending_sync.insert(Arc::clone(&new_id));
        }
        group.update_member(
            &new_id,
            join.protocols,
            join.rebalance_timeout_ms,
            join.session_timeout_ms,
        );
        group.await_join(&new_id, join.waiter);
        self.ctx.renew_session(group, &new_id);
        match group.state {
            GroupState::Stable if group.select_protocol() == group.protocol_name => {
                let value = group.to_record(&group.assignments());
                let change = GroupChange::Replaced(Box::new(replacement));
                self.ctx.append_group(id, Some(&value), change);
            }
            // The leader may be assigning to the old id already.
            GroupState::Stable | GroupState::CompletingRebalance => {
                self.ctx.prepare_rebalance(group)
            }
            _ => self.ctx.maybe_complete_join(group),
        }
    }

    /// The new id is durable: tell it. The leader is told not to assign anew, which it can understand from version 9 on;
    /// before, it is told that the old id leads, so that it does not.
    pub(super) fn static_member_replaced(&mut self, replacement: &Replacement) {
        let Some(group) = self.groups.get_mut(&replacement.group) else {
            return;
        };
        let new_id = &replacement.new_id;
        let waiting = group.members.get(new_id).and_then(|m| m.awaiting_join);
        if waiting != Some(replacement.waiter) || group.state == GroupState::PreparingRebalance {
            // Answered already, or by the rebalance that has begun meanwhile.
            return;
        }
        group.take_awaiting_join(new_id);
        // A session that ran out while the member waited was let pass.
        self.ctx.renew_session(group, new_id);
        let version = replacement.waiter.version;
        let mut response = JoinGroupResponse::default()
            .with_generation_id(group.generation)
            .with_protocol_type(group.protocol_type.as_deref().map(text))
            .with_protocol_name(protocol_name(version, group.protocol_name.as_deref()))
            .with_member_id(text(new_id));
        if version >= 9 {
            let is_leader = group.is_leader(new_id);
            response = response
                .with_leader(text(group.leader.as_deref().unwrap_or_default()))
                .with_skip_assignment(is_leader);
            if is_leader {
                response = response.with_members(current_members(group));
            }
        } else {
            response = response.with_leader(text(
                replacement.leader_before.as_deref().unwrap_or_default(),
            ));
        }
        self.ctx
            .reply(replacement.waiter.token, GroupResponse::Join(response));
    }

    pub(super) fn static_member_not_replaced(
        &mut self,
        replacement: Replacement,
        error: KafkaError,
    ) {
        let Some(group) = self.groups.get_mut(&replacement.group) else {
            return;
        };
        let new_id = &replacement.new_id;
        let waiting = group.members.get(new_id).and_then(|m| m.awaiting_join);
        if group.static_members.get(&replacement.instance_id) != Some(new_id)
            || waiting != Some(replacement.waiter)
        {
            // It left, came back once more, or learned its id from a rebalance, whose assignment will write it.
            return;
        }
        let (joining, syncing) =
            group.replace_static_member(new_id, Arc::clone(&replacement.old_id));
        if group.pending_sync.remove(new_id) {
            group.pending_sync.insert(Arc::clone(&replacement.old_id));
        }
        group.update_member(
            &replacement.old_id,
            replacement.old_protocols,
            replacement.old_rebalance_timeout_ms,
            replacement.old_session_timeout_ms,
        );
        self.ctx.cancel_session(&group.id, new_id);
        self.ctx.renew_session(group, &replacement.old_id);
        self.ctx.fail_join(joining, "", error);
        self.ctx.fail_sync(syncing, error);
    }
}
