//! A classic group's metadata: its generation, members and assignments. A tombstone takes the group away.
//!
//! | bytes | type     | field                   | versions              |
//! |-------|----------|-------------------------|-----------------------|
//! | 2     | int16    | version                 |                       |
//! | 2 + n | string   | protocol type           | 0+                    |
//! | 4     | int32    | generation              | 0+                    |
//! | 2 + n | string?  | protocol                | 0+                    |
//! | 2 + n | string?  | leader                  | 0+                    |
//! | 8     | int64    | current state timestamp | 2+, -1 for none       |
//! | 4 + n | array    | members                 | 0+                    |
//!
//! and of each member
//!
//! | bytes | type     | field                   | versions              |
//! |-------|----------|-------------------------|-----------------------|
//! | 2 + n | string   | member id               | 0+                    |
//! | 2 + n | string?  | group instance id       | 3+                    |
//! | 2 + n | string   | client id               | 0+                    |
//! | 2 + n | string   | client host             | 0+                    |
//! | 4     | int32    | rebalance timeout, ms   | 1+                    |
//! | 4     | int32    | session timeout, ms     | 0+                    |
//! | 4 + n | bytes    | subscription            | 0+                    |
//! | 4 + n | bytes    | assignment              | 0+                    |
//!
//! From version 4 on lengths are compact and structs end in tagged fields. Written is version 3, as Kafka does.

use bytes::{BufMut, Bytes, BytesMut};

use super::reader::{Reader, RecordError, put_bytes, put_nullable_string, put_string};

const VERSION: i16 = 3;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupMetadataValue {
    pub protocol_type: String,
    pub generation: i32,
    pub protocol: Option<String>,
    pub leader: Option<String>,
    /// -1 for none.
    pub current_state_timestamp_ms: i64,
    pub members: Vec<MemberMetadata>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberMetadata {
    pub member_id: String,
    pub group_instance_id: Option<String>,
    pub client_id: String,
    pub client_host: String,
    /// -1 for none: the session timeout holds.
    pub rebalance_timeout_ms: i32,
    pub session_timeout_ms: i32,
    pub subscription: Bytes,
    pub assignment: Bytes,
}

impl GroupMetadataValue {
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(64 + 256 * self.members.len());
        out.put_i16(VERSION);
        put_string(&mut out, &self.protocol_type);
        out.put_i32(self.generation);
        put_nullable_string(&mut out, self.protocol.as_deref());
        put_nullable_string(&mut out, self.leader.as_deref());
        out.put_i64(self.current_state_timestamp_ms);
        out.put_i32(i32::try_from(self.members.len()).expect("a group's size is a 32-bit config"));
        for member in &self.members {
            put_string(&mut out, &member.member_id);
            put_nullable_string(&mut out, member.group_instance_id.as_deref());
            put_string(&mut out, &member.client_id);
            put_string(&mut out, &member.client_host);
            out.put_i32(member.rebalance_timeout_ms);
            out.put_i32(member.session_timeout_ms);
            put_bytes(&mut out, &member.subscription);
            put_bytes(&mut out, &member.assignment);
        }
        out.freeze()
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        let mut r = Reader::new(bytes);
        let version = r.i16()?;
        if !(0..=4).contains(&version) {
            return Err(RecordError::UnknownVersion {
                record: "GroupMetadataValue",
                version,
            });
        }
        let flexible = version >= 4;
        let protocol_type = r.string(flexible)?;
        let generation = r.i32()?;
        let protocol = r.nullable_string(flexible)?;
        let leader = r.nullable_string(flexible)?;
        let current_state_timestamp_ms = if version >= 2 { r.i64()? } else { -1 };
        // The count is no more than the bytes left, but an element takes more than one: no capacity from it.
        let mut members = Vec::new();
        for _ in 0..r.count(flexible)? {
            members.push(MemberMetadata::read(&mut r, version)?);
        }
        if flexible {
            r.skip_tags()?;
        }
        Ok(Self {
            protocol_type,
            generation,
            protocol,
            leader,
            current_state_timestamp_ms,
            members,
        })
    }
}

impl MemberMetadata {
    fn read(r: &mut Reader<'_>, version: i16) -> Result<Self, RecordError> {
        let flexible = version >= 4;
        let member = Self {
            member_id: r.string(flexible)?,
            group_instance_id: match version {
                3.. => r.nullable_string(flexible)?,
                _ => None,
            },
            client_id: r.string(flexible)?,
            client_host: r.string(flexible)?,
            rebalance_timeout_ms: if version >= 1 { r.i32()? } else { -1 },
            session_timeout_ms: r.i32()?,
            subscription: r.bytes(flexible)?,
            assignment: r.bytes(flexible)?,
        };
        if flexible {
            r.skip_tags()?;
        }
        Ok(member)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn value() -> GroupMetadataValue {
        GroupMetadataValue {
            protocol_type: "consumer".to_owned(),
            generation: 3,
            protocol: Some("range".to_owned()),
            leader: Some("m1".to_owned()),
            current_state_timestamp_ms: 16,
            members: vec![MemberMetadata {
                member_id: "m1".to_owned(),
                group_instance_id: Some("i1".to_owned()),
                client_id: "c".to_owned(),
                client_host: "/h".to_owned(),
                rebalance_timeout_ms: 1,
                session_timeout_ms: 2,
                subscription: Bytes::from_static(b"\x01\x02"),
                assignment: Bytes::from_static(b"\x03"),
            }],
        }
    }

    #[test]
    fn golden_bytes() {
        let golden: &[u8] = b"\x00\x03\x00\x08consumer\0\0\0\x03\x00\x05range\x00\x02m1\0\0\0\0\0\0\0\x10\
            \0\0\0\x01\x00\x02m1\x00\x02i1\x00\x01c\x00\x02/h\0\0\0\x01\0\0\0\x02\0\0\0\x02\x01\x02\0\0\0\x01\x03";
        assert_eq!(&value().encode()[..], golden);
        assert_eq!(GroupMetadataValue::decode(golden), Ok(value()));
    }

    #[test]
    fn an_empty_group_is_kafkas_bytes() {
        let empty = GroupMetadataValue {
            protocol_type: String::new(),
            generation: 0,
            protocol: None,
            leader: None,
            current_state_timestamp_ms: 16,
            members: Vec::new(),
        };
        let golden: &[u8] = b"\x00\x03\x00\x00\0\0\0\0\xff\xff\xff\xff\0\0\0\0\0\0\0\x10\0\0\0\0";
        assert_eq!(&empty.encode()[..], golden);
        assert_eq!(GroupMetadataValue::decode(golden), Ok(empty));
    }

    #[test]
    fn old_and_flexible_versions_are_read() {
        let mut old = value();
        old.current_state_timestamp_ms = -1;
        old.members[0].group_instance_id = None;
        old.members[0].rebalance_timeout_ms = -1;
        let v0: &[u8] = b"\x00\x00\x00\x08consumer\0\0\0\x03\x00\x05range\x00\x02m1\
            \0\0\0\x01\x00\x02m1\x00\x01c\x00\x02/h\0\0\0\x02\0\0\0\x02\x01\x02\0\0\0\x01\x03";
        assert_eq!(GroupMetadataValue::decode(v0), Ok(old));
        let v4: &[u8] = b"\x00\x04\x09consumer\0\0\0\x03\x06range\x03m1\0\0\0\0\0\0\0\x10\
            \x02\x03m1\x03i1\x02c\x03/h\0\0\0\x01\0\0\0\x02\x03\x01\x02\x02\x03\x00\x00";
        assert_eq!(GroupMetadataValue::decode(v4), Ok(value()));
    }

    prop_compose! {
        fn member()(
            member_id in "[a-z0-9-]{1,40}",
            group_instance_id in prop::option::of("[a-z]{1,8}"),
            client_id in "\\PC{0,10}",
            rebalance_timeout_ms: i32,
            session_timeout_ms: i32,
            subscription in prop::collection::vec(any::<u8>(), 0..20),
            assignment in prop::collection::vec(any::<u8>(), 0..20),
        ) -> MemberMetadata {
            MemberMetadata {
                member_id,
                group_instance_id,
                client_id,
                client_host: "/127.0.0.1".to_owned(),
                rebalance_timeout_ms,
                session_timeout_ms,
                subscription: subscription.into(),
                assignment: assignment.into(),
            }
        }
    }

    proptest! {
        #[test]
        fn round_trip(
            generation: i32,
            protocol in prop::option::of("[a-z]{1,8}"),
            leader in prop::option::of("[a-z]{1,8}"),
            current_state_timestamp_ms: i64,
            members in prop::collection::vec(member(), 0..5),
        ) {
            let value = GroupMetadataValue {
                protocol_type: "consumer".to_owned(),
                generation,
                protocol,
                leader,
                current_state_timestamp_ms,
                members,
            };
            prop_assert_eq!(GroupMetadataValue::decode(&value.encode()), Ok(value));
        }

        #[test]
        fn any_bytes_are_read_or_refused(
            version in 0u8..6,
            rest in prop::collection::vec(any::<u8>(), 0..96),
        ) {
            let _ = GroupMetadataValue::decode(&[&[0, version], &rest[..]].concat());
        }
    }
}
