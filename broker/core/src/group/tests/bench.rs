//! A shard with a log beside it: it numbers requests, keeps answers, and commits or fails appends.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use kafka_protocol::ResponseError as KafkaError;
use kafka_protocol::messages::describe_groups_response::DescribedGroup;
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use kafka_protocol::messages::offset_fetch_request::OffsetFetchRequestGroup;
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::messages::{
    DescribeGroupsRequest, GroupId, HeartbeatRequest, JoinGroupRequest, JoinGroupResponse,
    LeaveGroupRequest, OffsetCommitRequest, SyncGroupRequest, SyncGroupResponse, TopicName,
};
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

use crate::group::{
    ClientIdentity, CoordinatorRecord, GroupConfig, GroupEffect, GroupEvent, GroupRequest,
    GroupResponse, GroupShard,
};

pub const GROUP: &str = "g";
pub const SESSION_MS: i32 = 10_000;
pub const REBALANCE_MS: i32 = 60_000;

pub struct Bench {
    pub shard: GroupShard,
    pub now_ms: i64,
    /// What was committed, in order.
    pub log: Vec<CoordinatorRecord>,
    /// Appends that are neither committed nor failed.
    pub in_flight: VecDeque<(u64, Vec<CoordinatorRecord>)>,
    pub auto_commit: bool,
    pub replies: BTreeMap<u64, GroupResponse>,
    /// Tokens in the order of their answers.
    pub answered: Vec<u64>,
    pub open: BTreeSet<u64>,
    next_token: u64,
}

pub fn config() -> GroupConfig {
    GroupConfig {
        initial_rebalance_delay_ms: 0,
        ..GroupConfig::default()
    }
}

pub fn seeded_ids() -> impl FnMut() -> Uuid + Send {
    let mut last = 0;
    move || {
        last += 1;
        Uuid::from_u128(last)
    }
}

pub fn str_bytes(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

/// A consumer's subscription to one topic.
pub fn subscription(topic: &str) -> Bytes {
    let mut bytes = vec![0, 1, 0, 0, 0, 1, 0, topic.len() as u8];
    bytes.extend_from_slice(topic.as_bytes());
    bytes.extend_from_slice(&[0, 0, 0, 0]);
    bytes.into()
}

pub fn join_request(
    member_id: &str,
    instance: Option<&str>,
    protocols: &[&str],
) -> JoinGroupRequest {
    JoinGroupRequest::default()
        .with_group_id(GroupId(str_bytes(GROUP)))
        .with_session_timeout_ms(SESSION_MS)
        .with_rebalance_timeout_ms(REBALANCE_MS)
        .with_member_id(str_bytes(member_id))
        .with_group_instance_id(instance.map(str_bytes))
        .with_protocol_type(str_bytes("consumer"))
        .with_protocols(
            protocols
                .iter()
                .map(|name| {
                    JoinGroupRequestProtocol::default()
                        .with_name(str_bytes(name))
                        .with_metadata(subscription("t"))
                })
                .collect(),
        )
}

impl Bench {
    pub fn new() -> Self {
        Self::with(config())
    }

    pub fn with(config: GroupConfig) -> Self {
        let mut bench = Self::loading(config);
        bench.shard.finish_replay(0);
        bench
    }

    pub fn loading(config: GroupConfig) -> Self {
        Self {
            shard: GroupShard::new(config, 0, Box::new(seeded_ids())),
            now_ms: 0,
            log: Vec::new(),
            in_flight: VecDeque::new(),
            auto_commit: true,
            replies: BTreeMap::new(),
            answered: Vec::new(),
            open: BTreeSet::new(),
            next_token: 1,
        }
    }

    /// The log, read by a new coordinator.
    pub fn replayed(&self, config: GroupConfig) -> Self {
        let mut bench = Self::loading(config);
        bench.now_ms = self.now_ms;
        for record in &self.log {
            bench
                .shard
                .replay(&record.key, record.value.as_deref())
                .expect("own records are readable");
        }
        bench.shard.finish_replay(self.now_ms);
        bench
    }

    pub fn event(&mut self, event: GroupEvent) {
        let effects = self.shard.handle(self.now_ms, event);
        for effect in effects {
            match effect {
                GroupEffect::Reply { token, response } => {
                    assert!(self.open.remove(&token), "token {token} is answered once");
                    self.answered.push(token);
                    self.replies.insert(token, response);
                }
                GroupEffect::Append { append_id, records } => {
                    assert!(!records.is_empty());
                    self.in_flight.push_back((append_id, records));
                }
            }
        }
        while self.auto_commit && !self.in_flight.is_empty() {
            self.commit_one();
        }
    }

    pub fn commit_one(&mut self) {
        let (append_id, records) = self.in_flight.pop_front().expect("something is in flight");
        self.log.extend(records);
        self.event(GroupEvent::Committed { append_id });
    }

    pub fn fail_one(&mut self, error: KafkaError) {
        let (append_id, _) = self.in_flight.pop_front().expect("something is in flight");
        self.event(GroupEvent::AppendFailed { append_id, error });
    }

    pub fn send_as(&mut self, client_id: &str, version: i16, request: GroupRequest) -> u64 {
        let token = self.next_token;
        self.next_token += 1;
        self.open.insert(token);
        let client = ClientIdentity {
            client_id: client_id.to_owned(),
            client_host: "/127.0.0.1".to_owned(),
        };
        self.event(GroupEvent::Request {
            token,
            client,
            version,
            request,
        });
        token
    }

    pub fn send(&mut self, version: i16, request: GroupRequest) -> u64 {
        self.send_as("c", version, request)
    }

    /// Lets time pass, with a tick at every deadline.
    pub fn pass(&mut self, ms: i64) {
        let until = self.now_ms + ms;
        while let Some(at) = self.shard.next_deadline().filter(|at| *at <= until) {
            self.now_ms = at.max(self.now_ms);
            self.event(GroupEvent::Tick);
        }
        self.now_ms = until;
    }

    pub fn reply(&mut self, token: u64) -> GroupResponse {
        self.replies
            .remove(&token)
            .expect("the request is answered")
    }

    pub fn is_waiting(&self, token: u64) -> bool {
        self.open.contains(&token)
    }

    pub fn joined(&mut self, token: u64) -> JoinGroupResponse {
        match self.reply(token) {
            GroupResponse::Join(response) => response,
            other => panic!("{other:?}"),
        }
    }

    pub fn synced(&mut self, token: u64) -> SyncGroupResponse {
        match self.reply(token) {
            GroupResponse::Sync(response) => response,
            other => panic!("{other:?}"),
        }
    }

    pub fn join(&mut self, version: i16, request: JoinGroupRequest) -> u64 {
        self.send(version, GroupRequest::Join(request))
    }

    /// A dynamic member's first two requests.
    pub fn join_dynamic(&mut self, client_id: &str) -> (String, u64) {
        let first = join_request("", None, &["range"]);
        let token = self.send_as(client_id, 9, GroupRequest::Join(first));
        let response = self.joined(token);
        assert_eq!(response.error_code, KafkaError::MemberIdRequired.code());
        let member_id = response.member_id.to_string();
        let second = join_request(&member_id, None, &["range"]);
        let token = self.send_as(client_id, 9, GroupRequest::Join(second));
        (member_id, token)
    }

    pub fn sync(
        &mut self,
        member_id: &str,
        generation: i32,
        assignments: &[(&str, &'static str)],
    ) -> u64 {
        let assignments = assignments.iter().map(|(member, assignment)| {
            SyncGroupRequestAssignment::default()
                .with_member_id(str_bytes(member))
                .with_assignment(Bytes::from_static(assignment.as_bytes()))
        });
        let request = SyncGroupRequest::default()
            .with_group_id(GroupId(str_bytes(GROUP)))
            .with_generation_id(generation)
            .with_member_id(str_bytes(member_id))
            .with_protocol_type(Some(str_bytes("consumer")))
            .with_protocol_name(Some(str_bytes("range")))
            .with_assignments(assignments.collect());
        self.send(5, GroupRequest::Sync(request))
    }

    pub fn heartbeat(&mut self, member_id: &str, generation: i32) -> i16 {
        let request = HeartbeatRequest::default()
            .with_group_id(GroupId(str_bytes(GROUP)))
            .with_generation_id(generation)
            .with_member_id(str_bytes(member_id));
        let token = self.send(4, GroupRequest::Heartbeat(request));
        match self.reply(token) {
            GroupResponse::Heartbeat(response) => response.error_code,
            other => panic!("{other:?}"),
        }
    }

    pub fn leave(&mut self, member_id: &str, instance: Option<&str>) -> u64 {
        let member = MemberIdentity::default()
            .with_member_id(str_bytes(member_id))
            .with_group_instance_id(instance.map(str_bytes));
        let request = LeaveGroupRequest::default()
            .with_group_id(GroupId(str_bytes(GROUP)))
            .with_members(vec![member]);
        self.send(5, GroupRequest::Leave(request))
    }

    pub fn commit(
        &mut self,
        version: i16,
        member_id: &str,
        generation: i32,
        offsets: &[(&str, i32, i64)],
    ) -> u64 {
        let topics = offsets.iter().map(|(topic, partition, offset)| {
            OffsetCommitRequestTopic::default()
                .with_name(TopicName(str_bytes(topic)))
                .with_partitions(vec![
                    OffsetCommitRequestPartition::default()
                        .with_partition_index(*partition)
                        .with_committed_offset(*offset)
                        .with_committed_leader_epoch(3)
                        .with_committed_metadata(Some(str_bytes("m"))),
                ])
        });
        let request = OffsetCommitRequest::default()
            .with_group_id(GroupId(str_bytes(GROUP)))
            .with_member_id(str_bytes(member_id))
            .with_generation_id_or_member_epoch(generation)
            .with_topics(topics.collect());
        self.send(version, GroupRequest::OffsetCommit(request))
    }

    /// The error of the first partition of an OffsetCommit.
    pub fn commit_error(&mut self, token: u64) -> i16 {
        match self.reply(token) {
            GroupResponse::OffsetCommit(response) => response.topics[0].partitions[0].error_code,
            other => panic!("{other:?}"),
        }
    }

    /// All committed offsets of a group.
    pub fn fetch(&mut self, group: &str) -> Vec<(String, i32, i64)> {
        let group = OffsetFetchRequestGroup::default()
            .with_group_id(GroupId(str_bytes(group)))
            .with_topics(None);
        let token = self.send(
            9,
            GroupRequest::OffsetFetch {
                group,
                require_stable: true,
            },
        );
        let GroupResponse::OffsetFetch(response) = self.reply(token) else {
            panic!("not an OffsetFetch");
        };
        assert_eq!(response.error_code, 0);
        let mut offsets = Vec::new();
        for topic in &response.topics {
            for p in &topic.partitions {
                offsets.push((
                    topic.name.to_string(),
                    p.partition_index,
                    p.committed_offset,
                ));
            }
        }
        offsets
    }

    pub fn describe(&mut self, group: &str) -> DescribedGroup {
        let request = DescribeGroupsRequest::default().with_groups(vec![GroupId(str_bytes(group))]);
        let token = self.send(6, GroupRequest::Describe(request));
        match self.reply(token) {
            GroupResponse::Describe(mut response) => response.groups.remove(0),
            other => panic!("{other:?}"),
        }
    }

    pub fn state(&mut self) -> String {
        self.describe(GROUP).group_state.to_string()
    }

    /// Two dynamic members, synced: the first leads.
    pub fn stable_pair(&mut self) -> (String, String) {
        let (a, first) = self.join_dynamic("a");
        self.pass(0);
        self.pass(1);
        let (b, second) = self.join_dynamic("b");
        let generation = self.joined(first).generation_id;
        let again = self.join(9, join_request(&a, None, &["range"]));
        assert_eq!(self.joined(again).generation_id, generation + 1);
        assert_eq!(self.joined(second).generation_id, generation + 1);
        let sync_b = self.sync(&b, generation + 1, &[]);
        let sync_a = self.sync(&a, generation + 1, &[(&a, "A"), (&b, "B")]);
        assert_eq!(self.synced(sync_a).assignment, "A");
        assert_eq!(self.synced(sync_b).assignment, "B");
        assert_eq!(self.state(), "Stable");
        (a, b)
    }

    /// One dynamic member, synced, in generation 1.
    pub fn stable_single(&mut self) -> String {
        let (a, token) = self.join_dynamic("a");
        self.pass(1);
        let response = self.joined(token);
        assert_eq!((response.error_code, response.generation_id), (0, 1));
        let token = self.sync(&a, 1, &[(&a, "A")]);
        assert_eq!(self.synced(token).error_code, 0);
        a
    }
}
