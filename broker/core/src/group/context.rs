//! What every handler works with: the time, the configs, the deadlines, and the effects so far.

use std::collections::BTreeMap;
use std::sync::Arc;

use kafka_protocol::ResponseError as KafkaError;

use super::append::{GroupChange, PendingAppend};
use super::config::GroupConfig;
use super::event::{CoordinatorRecord, GroupEffect, GroupResponse};
use super::group::Group;
use super::member::Waiter;
use super::offsets::{OffsetChange, Offsets};
use super::record::{GroupMetadataKey, GroupMetadataValue};
use super::reply;
use super::shard::MemberIdSource;
use super::timers::{TimerKey, Timers};

pub struct Context {
    pub config: GroupConfig,
    pub now_ms: i64,
    pub timers: Timers,
    pub effects: Vec<GroupEffect>,
    pub ids: MemberIdSource,
    appends: BTreeMap<u64, PendingAppend>,
    next_append_id: u64,
}

impl Context {
    pub fn new(config: GroupConfig, ids: MemberIdSource) -> Self {
        Self {
            config,
            now_ms: 0,
            timers: Timers::default(),
            effects: Vec::new(),
            ids,
            appends: BTreeMap::new(),
            next_append_id: 1,
        }
    }

    pub fn reply(&mut self, token: u64, response: GroupResponse) {
        self.effects.push(GroupEffect::Reply { token, response });
    }

    pub fn next_append_id(&self) -> u64 {
        self.next_append_id
    }

    /// Hands records to the log. With nothing to write, the answers go out at once.
    pub fn append(&mut self, records: Vec<CoordinatorRecord>, pending: PendingAppend) {
        if records.is_empty() {
            for (token, response) in pending.replies {
                self.reply(token, response);
            }
            return;
        }
        let append_id = self.next_append_id;
        self.next_append_id += 1;
        self.appends.insert(append_id, pending);
        self.effects
            .push(GroupEffect::Append { append_id, records });
    }

    /// Hands offset changes to the log.
    pub fn append_offsets(
        &mut self,
        offsets: &mut Offsets,
        changes: Vec<OffsetChange>,
        replies: Vec<(u64, GroupResponse)>,
    ) {
        let records = changes.iter().map(OffsetChange::record).collect();
        for change in &changes {
            offsets.begin(change);
        }
        self.append(
            records,
            PendingAppend {
                offsets: changes,
                replies,
                ..PendingAppend::default()
            },
        );
    }

    /// Hands a group's metadata to the log.
    pub fn append_group(
        &mut self,
        id: &str,
        value: Option<&GroupMetadataValue>,
        change: GroupChange,
    ) {
        self.append(
            vec![group_record(id, value)],
            PendingAppend {
                groups: vec![change],
                ..PendingAppend::default()
            },
        );
    }

    /// Answers now, or with the append of this id if there was one: it was the next when the handler began.
    pub fn reply_after(&mut self, append_id: u64, token: u64, response: GroupResponse) {
        match self.appends.get_mut(&append_id) {
            Some(pending) => pending.replies.push((token, response)),
            None => self.reply(token, response),
        }
    }

    pub fn take_append(&mut self, append_id: u64) -> Option<PendingAppend> {
        self.appends.remove(&append_id)
    }

    pub fn take_appends(&mut self) -> BTreeMap<u64, PendingAppend> {
        std::mem::take(&mut self.appends)
    }

    pub fn schedule_session(&mut self, group: &Arc<str>, member: &Arc<str>, timeout_ms: i32) {
        self.timers.schedule(
            self.now_ms,
            i64::from(timeout_ms),
            TimerKey::Session {
                group: Arc::clone(group),
                member: Arc::clone(member),
            },
        );
    }

    /// A sign of life from a member: its session begins anew.
    pub fn renew_session(&mut self, group: &Group, member_id: &str) {
        if let Some(member) = group.members.get(member_id) {
            self.schedule_session(&group.id, &member.id, member.session_timeout_ms);
        }
    }

    pub fn cancel_session(&mut self, group: &Arc<str>, member: &Arc<str>) {
        self.timers.cancel(&TimerKey::Session {
            group: Arc::clone(group),
            member: Arc::clone(member),
        });
    }

    pub fn schedule_join(&mut self, group: &Group, delay_ms: i32) {
        self.timers.schedule(
            self.now_ms,
            i64::from(delay_ms),
            TimerKey::Join {
                group: Arc::clone(&group.id),
            },
        );
    }

    /// Takes a member out and answers what it waits for.
    pub fn remove_member(&mut self, group: &mut Group, member_id: &str, error: KafkaError) {
        let id: Arc<str> = Arc::from(member_id);
        self.cancel_session(&group.id, &id);
        if let Some(member) = group.remove(member_id) {
            self.fail_join(member.awaiting_join, "", error);
            self.fail_sync(member.awaiting_sync, error);
        }
    }

    pub fn fail_join(&mut self, waiter: Option<Waiter>, member_id: &str, error: KafkaError) {
        if let Some(waiter) = waiter {
            self.reply(
                waiter.token,
                reply::join_error(waiter.version, member_id, error),
            );
        }
    }

    pub fn fail_sync(&mut self, waiter: Option<Waiter>, error: KafkaError) {
        if let Some(waiter) = waiter {
            self.reply(waiter.token, reply::sync_error(error));
        }
    }

    /// Forgets a group's deadlines.
    pub fn cancel_timers(&mut self, group: &Group) {
        let id = &group.id;
        self.timers.cancel(&TimerKey::Join {
            group: Arc::clone(id),
        });
        self.timers.cancel(&TimerKey::Sync {
            group: Arc::clone(id),
        });
        for member in group.members.keys().chain(&group.pending_join) {
            self.cancel_session(id, member);
        }
    }
}

pub fn group_record(id: &str, value: Option<&GroupMetadataValue>) -> CoordinatorRecord {
    CoordinatorRecord {
        key: GroupMetadataKey {
            group: id.to_owned(),
        }
        .encode(),
        value: value.map(GroupMetadataValue::encode),
    }
}
