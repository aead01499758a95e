//! Every answer fits every version that its request can have.

use bytes::BytesMut;
use kafka_protocol::ResponseError as KafkaError;
use kafka_protocol::messages::{
    DeleteGroupsRequest, DescribeGroupsRequest, GroupId, LeaveGroupRequest, ListGroupsRequest,
    SyncGroupRequest,
};
use kafka_protocol::protocol::{Encodable, Message};

use super::bench::{Bench, GROUP, join_request, str_bytes};
use crate::group::{GroupRequest, GroupResponse};

fn encodes<T: Encodable + Message>(response: &T, version: i16) {
    let mut out = BytesMut::new();
    if let Err(error) = response.encode(&mut out, version) {
        panic!("version {version}: {error}");
    }
}

#[test]
fn join_and_sync_and_leave() {
    for version in 0..=9 {
        let mut b = Bench::new();
        let instance = (version >= 5).then_some("i");
        let refused = b.join(version, join_request("stranger", None, &["range"]));
        encodes(&b.joined(refused), version);
        let mut token = b.join(version, join_request("", instance, &["range"]));
        b.pass(1);
        let mut joined = b.joined(token);
        encodes(&joined, version);
        if joined.error_code == KafkaError::MemberIdRequired.code() {
            token = b.join(version, join_request(&joined.member_id, None, &["range"]));
            b.pass(1);
            joined = b.joined(token);
            encodes(&joined, version);
        }
        assert_eq!(joined.error_code, 0, "version {version}");
        let sync_version = version.min(5);
        let request = SyncGroupRequest::default()
            .with_group_id(GroupId(str_bytes(GROUP)))
            .with_generation_id(1)
            .with_member_id(joined.member_id.clone())
            .with_protocol_type((sync_version == 5).then(|| str_bytes("consumer")))
            .with_protocol_name((sync_version == 5).then(|| str_bytes("range")));
        let token = b.send(sync_version, GroupRequest::Sync(request));
        let synced = b.synced(token);
        assert_eq!(synced.error_code, 0, "version {sync_version}");
        encodes(&synced, sync_version);

        let leave_version = version.min(5);
        let member = kafka_protocol::messages::leave_group_request::MemberIdentity::default()
            .with_member_id(joined.member_id.clone());
        let request = LeaveGroupRequest::default().with_group_id(GroupId(str_bytes(GROUP)));
        let request = if leave_version < 3 {
            request.with_member_id(joined.member_id.clone())
        } else {
            request.with_members(vec![member])
        };
        let token = b.send(leave_version, GroupRequest::Leave(request));
        let GroupResponse::Leave(left) = b.reply(token) else {
            panic!("not a Leave");
        };
        assert_eq!(left.error_code, 0);
        encodes(&left, leave_version);
    }
}

#[test]
fn offsets_and_administration() {
    let mut b = Bench::new();
    b.stable_single();
    for version in 2..=9 {
        let token = b.commit(version, "nobody", 1, &[("t", 0, 1)]);
        let GroupResponse::OffsetCommit(response) = b.reply(token) else {
            panic!("not an OffsetCommit");
        };
        encodes(&response, version);
    }
    for version in 0..=6 {
        let request = DescribeGroupsRequest::default().with_groups(vec![
            GroupId(str_bytes(GROUP)),
            GroupId(str_bytes("missing")),
        ]);
        let token = b.send(version, GroupRequest::Describe(request));
        let GroupResponse::Describe(response) = b.reply(token) else {
            panic!("not a DescribeGroups");
        };
        encodes(&response, version);
    }
    for version in 0..=5 {
        let token = b.send(version, GroupRequest::List(ListGroupsRequest::default()));
        let GroupResponse::List(response) = b.reply(token) else {
            panic!("not a ListGroups");
        };
        encodes(&response, version);
    }
    for version in 0..=2 {
        let request =
            DeleteGroupsRequest::default().with_groups_names(vec![GroupId(str_bytes(GROUP))]);
        let token = b.send(version, GroupRequest::Delete(request));
        let GroupResponse::Delete(response) = b.reply(token) else {
            panic!("not a DeleteGroups");
        };
        encodes(&response, version);
    }
}
