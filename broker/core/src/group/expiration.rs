//! The expiry of offsets: offsets.retention.minutes after their group became empty, or after their last commit where
//! there is no membership. A group whose offsets are all gone goes too, when it is empty.

use std::sync::Arc;

use super::append::{GroupChange, PendingAppend};
use super::context::group_record;
use super::group::Group;
use super::offset_delete::RECORDS_PER_APPEND_MAX;
use super::offsets::OffsetChange;
use super::record::OffsetCommitValue;
use super::shard::GroupShard;
use super::state::GroupState;
use super::timers::TimerKey;

impl GroupShard {
    pub(super) fn schedule_offset_expiration(&mut self) {
        self.ctx.timers.schedule(
            self.ctx.now_ms,
            self.ctx.config.offsets_retention_check_interval_ms,
            TimerKey::OffsetExpiration,
        );
    }

    pub(super) fn expire_offsets(&mut self) {
        let ids: Vec<Arc<str>> = self.groups.keys().cloned().collect();
        let mut records = Vec::new();
        let mut pending = PendingAppend::default();
        for id in ids {
            let (expired, all) = self.expired_offsets_of(&id);
            for change in expired {
                self.offsets.begin(&change);
                records.push(change.record());
                pending.offsets.push(change);
            }
            if all && let Some(group) = self.take_deletable(&id) {
                records.push(group_record(&id, None));
                pending.groups.push(GroupChange::Deleted { group });
            }
            if records.len() >= RECORDS_PER_APPEND_MAX {
                self.ctx
                    .append(std::mem::take(&mut records), std::mem::take(&mut pending));
            }
        }
        if !records.is_empty() {
            tracing::info!(
                partition = self.partition(),
                tombstones = records.len(),
                "offsets expired"
            );
        }
        self.ctx.append(records, pending);
        self.schedule_offset_expiration();
    }

    /// What of a group's offsets is due, and whether that is all.
    fn expired_offsets_of(&self, id: &str) -> (Vec<OffsetChange>, bool) {
        let Some(group) = self.groups.get(id) else {
            return (Vec::new(), false);
        };
        let keys = self.offsets.keys_of(id);
        let total = keys.len();
        let expired: Vec<OffsetChange> = keys
            .into_iter()
            .filter(|key| !group.is_subscribed_to(&key.topic) && !self.offsets.has_pending(key))
            .filter(|key| {
                self.offsets
                    .committed(&key.group, &key.topic, key.partition)
                    .is_some_and(|value| self.is_expired(group, value))
            })
            .map(OffsetChange::tombstone)
            .collect();
        let all = expired.len() == total;
        (expired, all)
    }

    fn is_expired(&self, group: &Group, value: &OffsetCommitValue) -> bool {
        let Some(since_ms) = retention_start(group, value) else {
            return false;
        };
        match value.expire_timestamp_ms {
            Some(at_ms) => self.ctx.now_ms >= at_ms,
            None => self.ctx.now_ms - since_ms >= self.ctx.config.offsets_retention_ms,
        }
    }

    /// Takes an empty group out, to be deleted.
    pub(super) fn take_deletable(&mut self, id: &str) -> Option<Box<Group>> {
        let group = self.groups.get(id)?;
        if group.state != GroupState::Empty || !group.pending_join.is_empty() || !group.committed {
            return None;
        }
        self.take_to_delete(id)
    }
}

/// From when an offset's retention counts; `None`: it does not expire now.
fn retention_start(group: &Group, value: &OffsetCommitValue) -> Option<i64> {
    match (&group.protocol_type, group.state) {
        // No membership: every commit renews it.
        (None, _) => Some(value.commit_timestamp_ms),
        (Some(_), GroupState::Empty) => Some(
            group
                .state_timestamp_ms
                .unwrap_or(value.commit_timestamp_ms),
        ),
        // Topics that consumers no longer subscribe to.
        (Some(_), GroupState::Stable)
            if group.uses_consumer_protocol() && group.subscribed_topics.is_some() =>
        {
            Some(value.commit_timestamp_ms)
        }
        _ => None,
    }
}
