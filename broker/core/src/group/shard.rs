//! One partition's coordinator: it loads, takes events, and knows what its appends were for.

use std::collections::BTreeMap;
use std::sync::Arc;

use kafka_protocol::ResponseError as KafkaError;
use uuid::Uuid;

use super::append::{GroupChange, PendingAppend, append_error};
use super::config::GroupConfig;
use super::context::Context;
use super::event::{ClientIdentity, GroupEffect, GroupEvent, GroupRequest};
use super::group::Group;
use super::limits;
use super::offsets::{OffsetChange, Offsets};
use super::record::{CoordinatorKey, GroupMetadataValue, OffsetCommitValue, RecordError};
use super::reply;
use super::state::GroupState;
use super::timers::TimerKey;

/// Draws the random part of a new member's id. The driver passes one over the real generator, tests a seeded one.
pub type MemberIdSource = Box<dyn FnMut() -> Uuid + Send>;

/// Whether requests are served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Loading,
    Active,
    Unloaded,
}

/// The coordinator for the groups of one partition of `__consumer_offsets`.
pub struct GroupShard {
    pub(super) ctx: Context,
    pub(super) groups: BTreeMap<Arc<str>, Group>,
    pub(super) offsets: Offsets,
    /// Groups with tombstones on their way. Commits before those make no group again.
    pub(super) deleting: BTreeMap<Arc<str>, u32>,
    partition: i32,
    stage: Stage,
}

impl GroupShard {
    /// An empty shard that still has to load: requests are answered COORDINATOR_LOAD_IN_PROGRESS until
    /// [`finish_replay`](Self::finish_replay).
    pub fn new(config: GroupConfig, partition: i32, ids: MemberIdSource) -> Self {
        Self {
            ctx: Context::new(config, ids),
            groups: BTreeMap::new(),
            offsets: Offsets::default(),
            deleting: BTreeMap::new(),
            partition,
            stage: Stage::Loading,
        }
    }

    pub fn partition(&self) -> i32 {
        self.partition
    }

    /// Takes one record of the partition, in log order. An unreadable record changes nothing; the driver logs it and
    /// goes on. Records of kinds that this coordinator does not keep are skipped.
    pub fn replay(&mut self, key: &[u8], value: Option<&[u8]>) -> Result<(), RecordError> {
        match CoordinatorKey::decode(key)? {
            CoordinatorKey::OffsetCommit(key) => {
                let value = value.map(OffsetCommitValue::decode).transpose()?;
                if value.is_some() {
                    self.ensure_simple_group(&key.group, 0);
                }
                self.offsets.replay(OffsetChange { key, value });
            }
            CoordinatorKey::GroupMetadata(key) => {
                let id: Arc<str> = key.group.into();
                match value.map(GroupMetadataValue::decode).transpose()? {
                    Some(value) => {
                        self.groups
                            .insert(Arc::clone(&id), Group::from_record(id, value));
                    }
                    None => {
                        self.groups.remove(&id);
                    }
                }
            }
            CoordinatorKey::Other(_) => {}
        }
        Ok(())
    }

    /// The log has been read to its end: members get a fresh session, requests are served.
    pub fn finish_replay(&mut self, now_ms: i64) {
        self.stage = Stage::Active;
        self.ctx.now_ms = now_ms;
        for group in self.groups.values_mut() {
            for member in group.members.values() {
                self.ctx
                    .schedule_session(&group.id, &member.id, member.session_timeout_ms);
            }
            // The limit may have been lowered since: a rebalance lets only so many back in.
            if group.members.len() > self.ctx.config.max_size {
                self.ctx.prepare_rebalance(group);
            }
        }
        // A group's tombstone may have outlived what it stood for: offsets are never without a group.
        for group in self.offsets.groups() {
            self.ensure_simple_group(&group, 0);
        }
        self.schedule_offset_expiration();
    }

    pub fn handle(&mut self, now_ms: i64, event: GroupEvent) -> Vec<GroupEffect> {
        self.ctx.now_ms = now_ms;
        match event {
            GroupEvent::Request {
                token,
                client,
                version,
                request,
            } => self.on_request(token, &client, version, request),
            GroupEvent::Committed { append_id } => self.on_committed(append_id),
            GroupEvent::AppendFailed { append_id, error } => {
                self.on_append_failed(append_id, error)
            }
            GroupEvent::TopicsDeleted { topics } if self.stage == Stage::Active => {
                self.on_topics_deleted(&topics);
            }
            GroupEvent::TopicsDeleted { .. } => {}
            GroupEvent::Tick => self.on_tick(),
            GroupEvent::Unload => self.unload(),
        }
        std::mem::take(&mut self.ctx.effects)
    }

    /// When the next [`GroupEvent::Tick`] is due.
    pub fn next_deadline(&self) -> Option<i64> {
        self.ctx.timers.next()
    }

    /// Groups in this shard, for metrics.
    pub fn group_count(&self) -> usize {
        self.groups.len()
    }

    fn on_request(
        &mut self,
        token: u64,
        client: &ClientIdentity,
        version: i16,
        request: GroupRequest,
    ) {
        let refusal = match self.stage {
            // A member's session is not at stake while we load: it need not know.
            Stage::Loading if matches!(request, GroupRequest::Heartbeat(_)) => {
                self.ctx.reply(token, reply::heartbeat(None));
                return;
            }
            Stage::Loading => Some(KafkaError::CoordinatorLoadInProgress),
            Stage::Unloaded => Some(KafkaError::NotCoordinator),
            Stage::Active => limits::check(client, &request).err(),
        };
        if let Some(error) = refusal {
            let response = reply::request_error(version, &request, error);
            self.ctx.reply(token, response);
            return;
        }
        match request {
            GroupRequest::Join(r) => self.join(token, client, version, &r),
            GroupRequest::Sync(r) => self.sync(token, version, &r),
            GroupRequest::Heartbeat(r) => self.heartbeat(token, &r),
            GroupRequest::Leave(r) => self.leave(token, version, &r),
            GroupRequest::OffsetCommit(r) => self.offset_commit(token, version, &r),
            GroupRequest::OffsetFetch {
                group,
                require_stable,
            } => self.offset_fetch(token, &group, require_stable),
            GroupRequest::OffsetDelete(r) => self.offset_delete(token, &r),
            GroupRequest::List(r) => self.list_groups(token, &r),
            GroupRequest::Describe(r) => self.describe_groups(token, version, &r),
            GroupRequest::Delete(r) => self.delete_groups(token, &r),
        }
    }

    fn on_tick(&mut self) {
        let now_ms = self.ctx.now_ms;
        while let Some(key) = self.ctx.timers.pop_due(now_ms) {
            match key {
                TimerKey::Session { group, member } => self.expire_session(&group, &member),
                TimerKey::Join { group } => self.join_phase_due(&group),
                TimerKey::Sync { group } => self.sync_phase_due(&group),
                TimerKey::OffsetExpiration => self.expire_offsets(),
            }
        }
    }

    fn on_committed(&mut self, append_id: u64) {
        let Some(pending) = self.ctx.take_append(append_id) else {
            return;
        };
        let PendingAppend {
            offsets,
            groups,
            replies,
        } = pending;
        for change in offsets {
            if change.value.is_some() && !self.deleting.contains_key(change.key.group.as_str()) {
                self.ensure_simple_group(&change.key.group, append_id);
            }
            self.offsets.end(change, true);
        }
        for change in groups {
            self.group_committed(append_id, change);
        }
        for (token, response) in replies {
            self.ctx.reply(token, response);
        }
    }

    fn group_committed(&mut self, append_id: u64, change: GroupChange) {
        match change {
            GroupChange::Created { group } | GroupChange::Emptied { group } => {
                if let Some(group) = self.groups.get_mut(&group) {
                    group.committed = true;
                }
            }
            GroupChange::Assigned {
                group,
                generation,
                assignments,
            } => {
                if let Some(group) = self.groups.get_mut(&group) {
                    group.committed = true;
                    self.ctx.assigned(group, generation, &assignments);
                }
            }
            GroupChange::Replaced(replacement) => {
                if let Some(group) = self.groups.get_mut(&replacement.group) {
                    group.committed = true;
                }
                self.static_member_replaced(&replacement);
            }
            GroupChange::Deleted { group } => {
                self.deletion_ended(&group.id);
                // What stands in its place is newer and lives on, unless it is the group itself, which a lost deletion
                // had brought back before this one was committed.
                if self.groups.get(&group.id).is_some_and(|present| {
                    present.born_at < append_id
                        && present.state == GroupState::Empty
                        && present.pending_join.is_empty()
                }) {
                    self.groups.remove(&group.id);
                }
                if !self.offsets.keys_of(&group.id).is_empty() {
                    self.ensure_simple_group(&group.id, append_id);
                }
            }
        }
    }

    fn deletion_ended(&mut self, id: &Arc<str>) {
        if let Some(count) = self.deleting.get_mut(id) {
            *count -= 1;
            if *count == 0 {
                self.deleting.remove(id);
            }
        }
    }

    fn on_append_failed(&mut self, append_id: u64, error: KafkaError) {
        let Some(pending) = self.ctx.take_append(append_id) else {
            return;
        };
        let error = append_error(error);
        tracing::warn!(partition = self.partition, append_id, %error, "records of groups were not written");
        for change in pending.offsets {
            self.offsets.end(change, false);
        }
        for change in pending.groups {
            self.group_append_failed(append_id, change, error);
        }
        for (token, response) in pending.replies {
            self.ctx.reply(token, reply::append_failed(response, error));
        }
    }

    fn group_append_failed(&mut self, append_id: u64, change: GroupChange, error: KafkaError) {
        match change {
            GroupChange::Created { group } => self.creation_failed(append_id, &group, error),
            GroupChange::Emptied { .. } => {}
            GroupChange::Assigned {
                group, generation, ..
            } => {
                if let Some(group) = self.groups.get_mut(&group) {
                    self.ctx.assignment_failed(group, generation, error);
                }
            }
            GroupChange::Replaced(replacement) => {
                self.static_member_not_replaced(*replacement, error)
            }
            GroupChange::Deleted { group } => {
                self.groups.entry(Arc::clone(&group.id)).or_insert(*group);
            }
        }
    }

    /// A group whose first record was lost never was, unless it has moved on since: then its next record decides.
    fn creation_failed(&mut self, append_id: u64, id: &Arc<str>, error: KafkaError) {
        let stillborn = self.groups.get(id).is_some_and(|group| {
            group.born_at == append_id && !group.committed && group.generation == 0
        });
        if !stillborn {
            return;
        }
        if let Some(group) = self.groups.remove(id) {
            self.ctx.cancel_timers(&group);
            for member in group.members.into_values() {
                self.ctx.fail_join(member.awaiting_join, "", error);
                self.ctx.fail_sync(member.awaiting_sync, error);
            }
        }
    }

    /// Takes a group out of service: its tombstone is about to be written.
    pub(super) fn take_to_delete(&mut self, id: &str) -> Option<Box<Group>> {
        let group = self.groups.remove(id)?;
        self.ctx.cancel_timers(&group);
        *self.deleting.entry(Arc::clone(&group.id)).or_default() += 1;
        Some(Box::new(group))
    }

    /// Offsets alone make a group, one without members or a protocol.
    fn ensure_simple_group(&mut self, id: &str, born_at: u64) {
        if !self.groups.contains_key(id) {
            let id: Arc<str> = id.into();
            let mut group = Group::new(Arc::clone(&id), None, born_at);
            group.committed = true;
            self.groups.insert(id, group);
        }
    }

    fn unload(&mut self) {
        let error = KafkaError::NotCoordinator;
        self.stage = Stage::Unloaded;
        let ctx = &mut self.ctx;
        for group in std::mem::take(&mut self.groups).into_values() {
            for member in group.members.into_values() {
                ctx.fail_join(member.awaiting_join, &member.id, error);
                ctx.fail_sync(member.awaiting_sync, error);
            }
        }
        for pending in ctx.take_appends().into_values() {
            for (token, response) in pending.replies {
                ctx.reply(token, reply::append_failed(response, error));
            }
        }
        ctx.timers.clear();
        self.offsets.clear();
        self.deleting.clear();
    }
}

/// The partition of `__consumer_offsets` that a group belongs to: Java's `String.hashCode`, made non-negative as Kafka
/// does, modulo the partitions.
pub fn partition_for_group(group_id: &str, partitions: i32) -> i32 {
    let hash = group_id.encode_utf16().fold(0i32, |hash, unit| {
        hash.wrapping_mul(31).wrapping_add(i32::from(unit))
    });
    let positive = if hash == i32::MIN { 0 } else { hash.abs() };
    positive % partitions.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_land_where_kafka_puts_them() {
        // "polygenelubricants" hashes to Integer.MIN_VALUE, which Kafka maps to 0.
        assert_eq!(partition_for_group("polygenelubricants", 50), 0);
        assert_eq!(partition_for_group("", 50), 0);
        assert_eq!(partition_for_group("a", 50), 97 % 50);
        // "test".hashCode() == 3556498.
        assert_eq!(partition_for_group("test", 50), 3_556_498 % 50);
    }
}
