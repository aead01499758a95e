//! The join phase: from the first member that joins to the next generation.
//!
//! 1. A rebalance begins when a member joins, leaves or changes: members that heartbeat are told to join again.
//! 2. An empty group waits a little (group.initial.rebalance.delay.ms, again for as long as members keep coming, up to
//!    the rebalance time-out), any other until all members are back or the longest rebalance time-out is over.
//! 3. Dynamic members that are not back are dropped; static ones keep their place until their session ends.
//! 4. The generation goes up, a protocol is chosen, and everyone who joined is answered; the leader gets the members.

use std::sync::Arc;

use kafka_protocol::ResponseError as KafkaError;
use kafka_protocol::messages::JoinGroupResponse;
use kafka_protocol::messages::join_group_response::JoinGroupResponseMember;

use super::append::GroupChange;
use super::context::Context;
use super::event::GroupResponse;
use super::group::{Group, InitialDelay};
use super::reply::{protocol_name, text};
use super::shard::GroupShard;
use super::state::GroupState;
use super::timers::TimerKey;

impl Context {
    /// Begins a rebalance, or goes on with the one that is being prepared.
    pub fn rebalance(&mut self, group: &mut Group) {
        if group.state.can_rebalance() {
            self.prepare_rebalance(group);
        } else {
            self.maybe_complete_join(group);
        }
    }

    pub fn prepare_rebalance(&mut self, group: &mut Group) {
        if group.state == GroupState::CompletingRebalance {
            self.reset_assignments(group, KafkaError::RebalanceInProgress);
        }
        group.pending_sync.clear();
        self.timers.cancel(&TimerKey::Sync {
            group: Arc::clone(&group.id),
        });
        let is_initial = group.state == GroupState::Empty;
        tracing::info!(group = %group.id, generation = group.generation, state = group.state.name(), "rebalance begins");
        group.transition(self.now_ms, GroupState::PreparingRebalance);
        if is_initial {
            let step_ms = self.config.initial_rebalance_delay_ms;
            group.initial_delay = Some(InitialDelay {
                step_ms,
                remaining_ms: group.rebalance_timeout_ms().saturating_sub(step_ms).max(0),
            });
            self.schedule_join(group, step_ms);
        } else if group.has_all_members_joined() {
            self.complete_join(group);
        } else {
            let timeout_ms = group.rebalance_timeout_ms();
            self.schedule_join(group, timeout_ms);
        }
    }

    /// Ends the join phase early when all are there. The first rebalance always takes its delay.
    pub fn maybe_complete_join(&mut self, group: &mut Group) {
        if group.state == GroupState::PreparingRebalance
            && group.previous_state != GroupState::Empty
            && group.has_all_members_joined()
        {
            self.complete_join(group);
        }
    }

    pub fn complete_join(&mut self, group: &mut Group) {
        self.timers.cancel(&TimerKey::Join {
            group: Arc::clone(&group.id),
        });
        let missing: Vec<Arc<str>> = group
            .members
            .values()
            .filter(|m| m.awaiting_join.is_none() && !m.is_static())
            .map(|m| Arc::clone(&m.id))
            .collect();
        for member in &missing {
            self.remove_member(group, member, KafkaError::UnknownMemberId);
        }
        if !missing.is_empty() {
            tracing::info!(group = %group.id, members = missing.len(), "members that did not rejoin are removed");
        }
        if !group.elect_joined_leader() && !group.members.is_empty() {
            // Only static members are left and none is back: wait until their sessions end or they return.
            let timeout_ms = group.rebalance_timeout_ms();
            self.schedule_join(group, timeout_ms);
            return;
        }
        group.init_next_generation(self.now_ms);
        if group.state == GroupState::Empty {
            tracing::info!(group = %group.id, generation = group.generation, "group is empty");
            let change = GroupChange::Emptied {
                group: Arc::clone(&group.id),
            };
            let value = group.to_record(&Default::default());
            self.append_group(&group.id, Some(&value), change);
            return;
        }
        tracing::info!(
            group = %group.id,
            generation = group.generation,
            members = group.members.len(),
            "join phase is complete"
        );
        let members: Vec<Arc<str>> = group.members.keys().cloned().collect();
        for id in &members {
            if let Some(waiter) = group.take_awaiting_join(id) {
                let response = join_response(group, waiter.version, id);
                self.reply(waiter.token, response);
            }
            self.renew_session(group, id);
            if let Some(member) = group.members.get_mut(id) {
                member.is_new = false;
            }
        }
        group.pending_sync.extend(members);
        self.timers.schedule(
            self.now_ms,
            i64::from(group.rebalance_timeout_ms()),
            TimerKey::Sync {
                group: Arc::clone(&group.id),
            },
        );
    }

    /// The delay of a first rebalance is over: more of it if someone came meanwhile.
    fn initial_delay_due(&mut self, group: &mut Group, delay: InitialDelay) {
        if !group.new_member_added || delay.remaining_ms == 0 {
            self.complete_join(group);
            return;
        }
        group.new_member_added = false;
        let step_ms = self
            .config
            .initial_rebalance_delay_ms
            .min(delay.remaining_ms);
        group.initial_delay = Some(InitialDelay {
            step_ms,
            remaining_ms: (delay.remaining_ms - delay.step_ms).max(0),
        });
        self.schedule_join(group, step_ms);
    }

    /// What follows when a member is gone.
    pub fn after_removal(&mut self, group: &mut Group) {
        match group.state {
            GroupState::Stable | GroupState::CompletingRebalance => self.rebalance(group),
            GroupState::PreparingRebalance if group.has_all_members_joined() => {
                self.complete_join(group)
            }
            _ => {}
        }
    }
}

impl GroupShard {
    pub(super) fn join_phase_due(&mut self, id: &str) {
        let Some(group) = self.groups.get_mut(id) else {
            return;
        };
        if group.state != GroupState::PreparingRebalance {
            return;
        }
        match group.initial_delay {
            Some(delay) => self.ctx.initial_delay_due(group, delay),
            None => self.ctx.complete_join(group),
        }
    }

    pub(super) fn expire_session(&mut self, id: &str, member_id: &str) {
        let Some(group) = self.groups.get_mut(id) else {
            return;
        };
        if group.pending_join.contains(member_id) {
            group.remove(member_id);
            if group.state == GroupState::PreparingRebalance && group.has_all_members_joined() {
                self.ctx.complete_join(group);
            }
            return;
        }
        let expired = group
            .members
            .get(member_id)
            .is_some_and(|member| !member.has_satisfied_heartbeat());
        if expired {
            tracing::info!(
                group = id,
                member = member_id,
                "session ended, member is removed"
            );
            self.ctx
                .remove_member(group, member_id, KafkaError::UnknownMemberId);
            self.ctx.after_removal(group);
        }
    }
}

/// The answer to a member of the current generation. Its leader gets the members and what they said.
pub fn join_response(group: &Group, version: i16, member_id: &str) -> GroupResponse {
    let members = if group.is_leader(member_id) {
        current_members(group)
    } else {
        Vec::new()
    };
    GroupResponse::Join(
        JoinGroupResponse::default()
            .with_generation_id(group.generation)
            .with_protocol_type(group.protocol_type.as_deref().map(text))
            .with_protocol_name(protocol_name(version, group.protocol_name.as_deref()))
            .with_leader(text(group.leader.as_deref().unwrap_or_default()))
            .with_member_id(text(member_id))
            .with_members(members),
    )
}

pub fn current_members(group: &Group) -> Vec<JoinGroupResponseMember> {
    let protocol = group.protocol_name.as_deref().unwrap_or_default();
    group
        .members
        .values()
        .map(|m| {
            JoinGroupResponseMember::default()
                .with_member_id(text(&m.id))
                .with_group_instance_id(m.instance_id.as_deref().map(text))
                .with_metadata(m.metadata(protocol))
        })
        .collect()
}
