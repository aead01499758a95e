//! SyncGroup: the leader brings the assignments, everyone takes theirs once they are durable.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use kafka_protocol::ResponseError as KafkaError;
use kafka_protocol::messages::{SyncGroupRequest, SyncGroupResponse};

use super::append::GroupChange;
use super::context::Context;
use super::event::GroupResponse;
use super::group::Group;
use super::member::Waiter;
use super::reply::{sync_error, text};
use super::shard::GroupShard;
use super::state::GroupState;
use super::timers::TimerKey;

impl GroupShard {
    pub(super) fn sync(&mut self, token: u64, version: i16, request: &SyncGroupRequest) {
        let member_id: &str = &request.member_id;
        let group = self
            .groups
            .get_mut(request.group_id.as_str())
            .filter(|group| group.state != GroupState::Empty);
        let checked = match &group {
            Some(group) => check(group, version, request),
            None => Err(KafkaError::UnknownMemberId),
        };
        let (Some(group), Ok(())) = (group, checked) else {
            self.ctx.reply(
                token,
                sync_error(checked.err().unwrap_or(KafkaError::UnknownMemberId)),
            );
            return;
        };
        group.pending_sync.remove(member_id);
        if group.has_received_sync_from_all() {
            self.ctx.timers.cancel(&TimerKey::Sync {
                group: Arc::clone(&group.id),
            });
        }
        if group.state == GroupState::Stable {
            let response = sync_response(group, member_id);
            self.ctx.reply(token, response);
            return;
        }
        let superseded = group
            .members
            .get_mut(member_id)
            .and_then(|m| m.awaiting_sync.replace(Waiter { token, version }));
        self.ctx
            .fail_sync(superseded, KafkaError::RebalanceInProgress);
        // A leader that repeats itself does not write twice: two records could differ.
        if group.is_leader(member_id) && group.assignment_in_flight != Some(group.generation) {
            self.ctx.write_assignment(group, request);
        }
    }

    pub(super) fn sync_phase_due(&mut self, id: &str) {
        let Some(group) = self.groups.get_mut(id) else {
            return;
        };
        if !matches!(
            group.state,
            GroupState::CompletingRebalance | GroupState::Stable
        ) || group.has_received_sync_from_all()
        {
            return;
        }
        let missing = std::mem::take(&mut group.pending_sync);
        tracing::info!(
            group = id,
            members = missing.len(),
            "members that did not sync are removed"
        );
        for member in &missing {
            self.ctx
                .remove_member(group, member, KafkaError::UnknownMemberId);
        }
        self.ctx.prepare_rebalance(group);
    }
}

impl Context {
    fn write_assignment(&mut self, group: &mut Group, request: &SyncGroupRequest) {
        // Copies: slices would hold the whole request frame for as long as the generation lives.
        let given: BTreeMap<&str, &Bytes> = request
            .assignments
            .iter()
            .map(|a| (a.member_id.as_str(), &a.assignment))
            .collect();
        let assignments: BTreeMap<Arc<str>, Bytes> = group
            .members
            .keys()
            .map(|id| {
                let assignment = given.get(&**id).map(|bytes| Bytes::copy_from_slice(bytes));
                (Arc::clone(id), assignment.unwrap_or_default())
            })
            .collect();
        group.assignment_in_flight = Some(group.generation);
        let value = group.to_record(&assignments);
        let change = GroupChange::Assigned {
            group: Arc::clone(&group.id),
            generation: group.generation,
            assignments,
        };
        self.append_group(&group.id, Some(&value), change);
    }

    /// The assignment is durable. If the group has moved on meanwhile, nobody waits for it.
    pub fn assigned(
        &mut self,
        group: &mut Group,
        generation: i32,
        assignments: &BTreeMap<Arc<str>, Bytes>,
    ) {
        if !self.ends_assignment(group, generation) {
            return;
        }
        for member in group.members.values_mut() {
            member.assignment = assignments.get(&member.id).cloned().unwrap_or_default();
        }
        let waiting = take_awaiting_sync(group);
        for (id, waiter) in waiting {
            let response = sync_response(group, &id);
            self.reply(waiter.token, response);
            // A session that ran out while the member waited was let pass: it begins again here.
            self.renew_session(group, &id);
        }
        group.transition(self.now_ms, GroupState::Stable);
    }

    pub fn assignment_failed(&mut self, group: &mut Group, generation: i32, error: KafkaError) {
        if self.ends_assignment(group, generation) {
            self.reset_assignments(group, error);
            self.rebalance(group);
        }
    }

    /// Takes back all assignments and tells those who wait for one.
    pub fn reset_assignments(&mut self, group: &mut Group, error: KafkaError) {
        for member in group.members.values_mut() {
            member.assignment = Bytes::new();
        }
        for (id, waiter) in take_awaiting_sync(group) {
            self.reply(waiter.token, sync_error(error));
            self.renew_session(group, &id);
        }
    }

    fn ends_assignment(&self, group: &mut Group, generation: i32) -> bool {
        if group.assignment_in_flight == Some(generation) {
            group.assignment_in_flight = None;
        }
        group.state == GroupState::CompletingRebalance && group.generation == generation
    }
}

fn check(group: &Group, version: i16, request: &SyncGroupRequest) -> Result<(), KafkaError> {
    let (asked_type, asked_name) = (
        request.protocol_type.as_deref(),
        request.protocol_name.as_deref(),
    );
    if version >= 5 && (asked_type.is_none() || asked_name.is_none()) {
        return Err(KafkaError::InconsistentGroupProtocol);
    }
    group.validate_member(&request.member_id, request.group_instance_id.as_deref())?;
    if request.generation_id != group.generation {
        return Err(KafkaError::IllegalGeneration);
    }
    let differs = |asked: Option<&str>, ours: Option<&str>| asked.is_some() && asked != ours;
    if differs(asked_type, group.protocol_type.as_deref())
        || differs(asked_name, group.protocol_name.as_deref())
    {
        return Err(KafkaError::InconsistentGroupProtocol);
    }
    if group.state == GroupState::PreparingRebalance {
        return Err(KafkaError::RebalanceInProgress);
    }
    Ok(())
}

fn take_awaiting_sync(group: &mut Group) -> Vec<(Arc<str>, Waiter)> {
    group
        .members
        .values_mut()
        .filter_map(|m| Some((Arc::clone(&m.id), m.awaiting_sync.take()?)))
        .collect()
}

fn sync_response(group: &Group, member_id: &str) -> GroupResponse {
    let assignment = group.members.get(member_id).map(|m| m.assignment.clone());
    GroupResponse::Sync(
        SyncGroupResponse::default()
            .with_protocol_type(group.protocol_type.as_deref().map(text))
            .with_protocol_name(group.protocol_name.as_deref().map(text))
            .with_assignment(assignment.unwrap_or_default()),
    )
}
