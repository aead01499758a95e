//! One classic group: its members, generation and rebalance state. It answers nobody and writes nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use kafka_protocol::ResponseError as KafkaError;

use super::member::{Member, MemberProtocol, Waiter};
use super::record::GroupMetadataValue;
use super::state::GroupState;
use super::subscription::{CONSUMER_PROTOCOL_TYPE, subscribed_topics};

/// The wait for more members of a group that was empty, in steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InitialDelay {
    pub step_ms: i32,
    pub remaining_ms: i32,
}

#[derive(Clone, Debug)]
pub struct Group {
    pub id: Arc<str>,
    pub state: GroupState,
    pub previous_state: GroupState,
    pub state_timestamp_ms: Option<i64>,
    pub protocol_type: Option<Arc<str>>,
    pub protocol_name: Option<Arc<str>>,
    pub generation: i32,
    pub leader: Option<Arc<str>>,
    pub members: BTreeMap<Arc<str>, Member>,
    /// Instance id to member id.
    pub static_members: BTreeMap<Arc<str>, Arc<str>>,
    /// Members that were given an id and have not joined with it yet.
    pub pending_join: BTreeSet<Arc<str>>,
    /// Members of this generation that have not synced yet.
    pub pending_sync: BTreeSet<Arc<str>>,
    /// How many members wait for their JoinGroup's answer.
    pub awaiting_join: usize,
    /// `None`: unknown.
    pub subscribed_topics: Option<BTreeSet<String>>,
    pub new_member_added: bool,
    pub initial_delay: Option<InitialDelay>,
    /// The generation whose assignment is being written.
    pub assignment_in_flight: Option<i32>,
    /// The append that made the group; 0 when it was replayed. A tombstone takes only groups older than itself.
    pub born_at: u64,
    /// A record of it is committed: lists show it.
    pub committed: bool,
    /// How many members speak each protocol.
    supported_protocols: BTreeMap<Arc<str>, usize>,
}

impl Group {
    pub fn new(id: Arc<str>, now_ms: Option<i64>, born_at: u64) -> Self {
        Self {
            id,
            state: GroupState::Empty,
            previous_state: GroupState::Dead,
            state_timestamp_ms: now_ms,
            protocol_type: None,
            protocol_name: None,
            generation: 0,
            leader: None,
            members: BTreeMap::new(),
            static_members: BTreeMap::new(),
            pending_join: BTreeSet::new(),
            pending_sync: BTreeSet::new(),
            awaiting_join: 0,
            subscribed_topics: None,
            new_member_added: false,
            initial_delay: None,
            assignment_in_flight: None,
            born_at,
            committed: false,
            supported_protocols: BTreeMap::new(),
        }
    }

    pub fn from_record(id: Arc<str>, value: GroupMetadataValue) -> Self {
        let mut group = Self::new(id, None, 0);
        group.committed = true;
        group.generation = value.generation;
        group.protocol_type = Some(value.protocol_type)
            .filter(|t| !t.is_empty())
            .map(Arc::from);
        group.leader = value.leader.map(Arc::from);
        group.state_timestamp_ms =
            Some(value.current_state_timestamp_ms).filter(|timestamp| *timestamp != -1);
        if !value.members.is_empty() {
            group.state = GroupState::Stable;
        }
        let protocol = value.protocol.unwrap_or_default();
        for member in value.members {
            group.add(Member::from_record(member, &protocol));
        }
        group.protocol_name = Some(protocol).filter(|p| !p.is_empty()).map(Arc::from);
        group.subscribed_topics = group.compute_subscribed_topics();
        group
    }

    /// The group as a record, with these assignments (a member without one gets an empty one).
    pub fn to_record(&self, assignments: &BTreeMap<Arc<str>, Bytes>) -> GroupMetadataValue {
        let protocol = self.protocol_name.as_deref().unwrap_or_default();
        GroupMetadataValue {
            protocol_type: self.protocol_type.as_deref().unwrap_or_default().to_owned(),
            generation: self.generation,
            protocol: self.protocol_name.as_deref().map(str::to_owned),
            leader: self.leader.as_deref().map(str::to_owned),
            current_state_timestamp_ms: self.state_timestamp_ms.unwrap_or(-1),
            members: self
                .members
                .values()
                .map(|m| {
                    m.to_record(
                        protocol,
                        assignments.get(&m.id).cloned().unwrap_or_default(),
                    )
                })
                .collect(),
        }
    }

    pub fn assignments(&self) -> BTreeMap<Arc<str>, Bytes> {
        self.members
            .values()
            .map(|m| (Arc::clone(&m.id), m.assignment.clone()))
            .collect()
    }

    pub fn transition(&mut self, now_ms: i64, next: GroupState) {
        self.previous_state = self.state;
        self.state = self.state.step(next);
        self.state_timestamp_ms = Some(now_ms);
    }

    /// A member that waits for its JoinGroup counts itself in with `awaiting_join`.
    pub fn add(&mut self, member: Member) {
        if let Some(instance) = &member.instance_id {
            self.static_members
                .insert(Arc::clone(instance), Arc::clone(&member.id));
        }
        if self.leader.is_none() {
            self.leader = Some(Arc::clone(&member.id));
        }
        self.pending_join.remove(&member.id);
        self.awaiting_join += usize::from(member.awaiting_join.is_some());
        self.count_protocols(&member.protocols, true);
        self.members.insert(Arc::clone(&member.id), member);
    }

    /// Takes a member out, in whatever stage. Whoever removes it answers what it waits for.
    pub fn remove(&mut self, member_id: &str) -> Option<Member> {
        let removed = self.members.remove(member_id);
        if let Some(member) = &removed {
            self.count_protocols(&member.protocols, false);
            self.awaiting_join -= usize::from(member.awaiting_join.is_some());
            if let Some(instance) = &member.instance_id {
                self.static_members.remove(instance);
            }
        }
        if self.is_leader(member_id) {
            self.leader = self.members.keys().next().cloned();
        }
        self.pending_join.remove(member_id);
        self.pending_sync.remove(member_id);
        removed
    }

    /// Gives a static member's place to `new_id`. The waiters of the old one come back to be told that they are fenced.
    pub fn replace_static_member(
        &mut self,
        old_id: &str,
        new_id: Arc<str>,
    ) -> (Option<Waiter>, Option<Waiter>) {
        let Some(mut member) = self.members.remove(old_id) else {
            return (None, None);
        };
        let join = member.awaiting_join.take();
        let sync = member.awaiting_sync.take();
        self.awaiting_join -= usize::from(join.is_some());
        if self.is_leader(old_id) {
            self.leader = Some(Arc::clone(&new_id));
        }
        if let Some(instance) = &member.instance_id {
            self.static_members
                .insert(Arc::clone(instance), Arc::clone(&new_id));
        }
        member.id = Arc::clone(&new_id);
        member.is_new = false;
        self.members.insert(new_id, member);
        (join, sync)
    }

    /// Takes a member's new protocols and time-outs.
    pub fn update_member(
        &mut self,
        member_id: &str,
        protocols: Vec<MemberProtocol>,
        rebalance_timeout_ms: i32,
        session_timeout_ms: i32,
    ) {
        let Some(member) = self.members.get_mut(member_id) else {
            return;
        };
        let old = std::mem::replace(&mut member.protocols, protocols);
        let new = member.protocols.clone();
        member.rebalance_timeout_ms = rebalance_timeout_ms;
        member.session_timeout_ms = session_timeout_ms;
        self.count_protocols(&old, false);
        self.count_protocols(&new, true);
    }

    /// Lets a member's JoinGroup wait; an older one of it comes back to be answered.
    pub fn await_join(&mut self, member_id: &str, waiter: Waiter) -> Option<Waiter> {
        let member = self.members.get_mut(member_id)?;
        let old = member.awaiting_join.replace(waiter);
        self.awaiting_join += usize::from(old.is_none());
        old
    }

    pub fn take_awaiting_join(&mut self, member_id: &str) -> Option<Waiter> {
        let waiter = self.members.get_mut(member_id)?.awaiting_join.take();
        self.awaiting_join -= usize::from(waiter.is_some());
        waiter
    }

    pub fn is_leader(&self, member_id: &str) -> bool {
        self.leader.as_deref() == Some(member_id)
    }

    pub fn has_all_members_joined(&self) -> bool {
        self.members.len() == self.awaiting_join && self.pending_join.is_empty()
    }

    pub fn has_received_sync_from_all(&self) -> bool {
        self.pending_sync.is_empty()
    }

    pub fn rebalance_timeout_ms(&self) -> i32 {
        self.members
            .values()
            .map(|m| m.rebalance_timeout_ms)
            .max()
            .unwrap_or(0)
            .max(0)
    }

    /// Keeps the leader if it joined, else elects the first member that did. False: nobody joined.
    pub fn elect_joined_leader(&mut self) -> bool {
        let Some(leader) = &self.leader else {
            return false;
        };
        if self
            .members
            .get(leader)
            .is_some_and(|m| m.awaiting_join.is_some())
        {
            return true;
        }
        match self.members.values().find(|m| m.awaiting_join.is_some()) {
            Some(joined) => {
                self.leader = Some(Arc::clone(&joined.id));
                true
            }
            None => false,
        }
    }

    /// Fails for a member that is not here, or whose instance id belongs to another by now.
    pub fn validate_member(
        &self,
        member_id: &str,
        instance_id: Option<&str>,
    ) -> Result<(), KafkaError> {
        if let Some(instance) = instance_id {
            match self.static_members.get(instance) {
                None => return Err(KafkaError::UnknownMemberId),
                Some(current) if &**current != member_id => {
                    return Err(KafkaError::FencedInstanceId);
                }
                Some(_) => {}
            }
        }
        if self.members.contains_key(member_id) {
            Ok(())
        } else {
            Err(KafkaError::UnknownMemberId)
        }
    }

    pub fn supports_protocols(&self, protocol_type: &str, names: &[MemberProtocol]) -> bool {
        if self.state == GroupState::Empty {
            return !protocol_type.is_empty() && !names.is_empty();
        }
        self.protocol_type.as_deref() == Some(protocol_type)
            && names.iter().any(|p| self.is_supported_by_all(&p.name))
    }

    /// Of the protocols that all members speak, the one that most of them prefer; by name when votes are equal.
    pub fn select_protocol(&self) -> Option<Arc<str>> {
        let candidates: BTreeSet<Arc<str>> = self
            .supported_protocols
            .keys()
            .filter(|name| self.is_supported_by_all(name))
            .cloned()
            .collect();
        let mut votes: BTreeMap<Arc<str>, usize> = BTreeMap::new();
        for member in self.members.values() {
            if let Some(name) = member.vote(&candidates) {
                *votes.entry(name).or_default() += 1;
            }
        }
        let most = votes.values().max().copied()?;
        votes
            .into_iter()
            .find(|(_, count)| *count == most)
            .map(|(name, _)| name)
    }

    pub fn init_next_generation(&mut self, now_ms: i64) {
        self.generation = self.generation.wrapping_add(1).max(0);
        let next = if self.members.is_empty() {
            self.protocol_name = None;
            GroupState::Empty
        } else {
            self.protocol_name = self.select_protocol();
            GroupState::CompletingRebalance
        };
        self.subscribed_topics = self.compute_subscribed_topics();
        self.transition(now_ms, next);
        self.initial_delay = None;
        self.new_member_added = false;
        self.pending_sync.clear();
    }

    pub fn uses_consumer_protocol(&self) -> bool {
        self.protocol_type.as_deref() == Some(CONSUMER_PROTOCOL_TYPE)
    }

    pub fn is_subscribed_to(&self, topic: &str) -> bool {
        match &self.subscribed_topics {
            Some(topics) => topics.contains(topic),
            None => self.uses_consumer_protocol(),
        }
    }

    fn compute_subscribed_topics(&self) -> Option<BTreeSet<String>> {
        if !self.uses_consumer_protocol() {
            return None;
        }
        let mut all = BTreeSet::new();
        for member in self.members.values() {
            all.extend(subscribed_topics(
                &member.metadata(self.protocol_name.as_deref()?),
            )?);
        }
        Some(all)
    }

    fn is_supported_by_all(&self, name: &str) -> bool {
        self.supported_protocols.get(name).copied().unwrap_or(0) == self.members.len()
    }

    fn count_protocols(&mut self, protocols: &[MemberProtocol], add: bool) {
        // A name that a member says twice counts once: it has one vote.
        let names: BTreeSet<&Arc<str>> = protocols.iter().map(|p| &p.name).collect();
        for name in names {
            let count = self
                .supported_protocols
                .entry(Arc::clone(name))
                .or_default();
            if add {
                *count += 1;
            } else {
                *count = count.saturating_sub(1);
                if *count == 0 {
                    self.supported_protocols.remove(name);
                }
            }
        }
    }
}
