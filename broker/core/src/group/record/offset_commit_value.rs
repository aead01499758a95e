//! The value of a committed offset. No value at all, a tombstone, takes the offset away.
//!
//! | bytes | type   | field            | versions            |
//! |-------|--------|------------------|---------------------|
//! | 2     | int16  | version          |                     |
//! | 8     | int64  | offset           | 0+                  |
//! | 4     | int32  | leader epoch     | 3+, -1 for none     |
//! | 2 + n | string | metadata         | 0+; compact from 4  |
//! | 8     | int64  | commit timestamp | 0+                  |
//! | 8     | int64  | expire timestamp | 1 alone, -1 for none|
//! | 1 + n | tags   |                  | 4+                  |
//!
//! Written is version 3, or 1 when the client set its own retention (which drops the leader epoch), as Kafka does.

use bytes::{BufMut, Bytes, BytesMut};

use super::reader::{Reader, RecordError, put_string};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OffsetCommitValue {
    pub offset: i64,
    /// -1 for none.
    pub leader_epoch: i32,
    pub metadata: String,
    pub commit_timestamp_ms: i64,
    pub expire_timestamp_ms: Option<i64>,
}

impl OffsetCommitValue {
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(32 + self.metadata.len());
        out.put_i16(if self.expire_timestamp_ms.is_some() {
            1
        } else {
            3
        });
        out.put_i64(self.offset);
        if self.expire_timestamp_ms.is_none() {
            out.put_i32(self.leader_epoch);
        }
        put_string(&mut out, &self.metadata);
        out.put_i64(self.commit_timestamp_ms);
        if let Some(expire) = self.expire_timestamp_ms {
            out.put_i64(expire);
        }
        out.freeze()
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        let mut r = Reader::new(bytes);
        let version = r.i16()?;
        if !(0..=4).contains(&version) {
            return Err(RecordError::UnknownVersion {
                record: "OffsetCommitValue",
                version,
            });
        }
        let flexible = version >= 4;
        let offset = r.i64()?;
        let leader_epoch = if version >= 3 { r.i32()? } else { -1 };
        let metadata = r.string(flexible)?;
        let commit_timestamp_ms = r.i64()?;
        let expire_timestamp_ms = match version {
            1 => Some(r.i64()?).filter(|at| *at != -1),
            _ => None,
        };
        if flexible {
            r.skip_tags()?;
        }
        Ok(Self {
            offset,
            leader_epoch,
            metadata,
            commit_timestamp_ms,
            expire_timestamp_ms,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn value() -> OffsetCommitValue {
        OffsetCommitValue {
            offset: 258,
            leader_epoch: 5,
            metadata: "m".to_owned(),
            commit_timestamp_ms: 16,
            expire_timestamp_ms: None,
        }
    }

    #[test]
    fn golden_bytes() {
        let golden: &[u8] = b"\x00\x03\0\0\0\0\0\0\x01\x02\0\0\0\x05\x00\x01m\0\0\0\0\0\0\0\x10";
        assert_eq!(&value().encode()[..], golden);
        let expiring = OffsetCommitValue {
            leader_epoch: -1,
            expire_timestamp_ms: Some(17),
            ..value()
        };
        let golden: &[u8] =
            b"\x00\x01\0\0\0\0\0\0\x01\x02\x00\x01m\0\0\0\0\0\0\0\x10\0\0\0\0\0\0\0\x11";
        assert_eq!(&expiring.encode()[..], golden);
    }

    #[test]
    fn every_version_is_read() {
        let no_epoch = OffsetCommitValue {
            leader_epoch: -1,
            ..value()
        };
        let table: &[(&[u8], OffsetCommitValue)] = &[
            (b"\x00\x00\0\0\0\0\0\0\x01\x02\x00\x01m\0\0\0\0\0\0\0\x10", no_epoch.clone()),
            (
                b"\x00\x01\0\0\0\0\0\0\x01\x02\x00\x01m\0\0\0\0\0\0\0\x10\xff\xff\xff\xff\xff\xff\xff\xff",
                no_epoch.clone(),
            ),
            (b"\x00\x02\0\0\0\0\0\0\x01\x02\x00\x01m\0\0\0\0\0\0\0\x10", no_epoch),
            (
                b"\x00\x04\0\0\0\0\0\0\x01\x02\0\0\0\x05\x02m\0\0\0\0\0\0\0\x10\x00",
                value(),
            ),
            // A tagged field of a later Kafka (a topic id).
            (
                b"\x00\x04\0\0\0\0\0\0\x01\x02\0\0\0\x05\x02m\0\0\0\0\0\0\0\x10\x01\x00\x02\x07\x07",
                value(),
            ),
        ];
        for (bytes, want) in table {
            assert_eq!(OffsetCommitValue::decode(bytes).as_ref(), Ok(want));
        }
        assert_eq!(
            OffsetCommitValue::decode(b"\x00\x05"),
            Err(RecordError::UnknownVersion {
                record: "OffsetCommitValue",
                version: 5
            })
        );
    }

    proptest! {
        #[test]
        fn round_trip(
            offset: i64,
            leader_epoch: i32,
            metadata in "\\PC{0,30}",
            commit_timestamp_ms: i64,
            expire in prop::option::of(0i64..),
        ) {
            let value = OffsetCommitValue {
                offset,
                leader_epoch: if expire.is_some() { -1 } else { leader_epoch },
                metadata,
                commit_timestamp_ms,
                expire_timestamp_ms: expire,
            };
            prop_assert_eq!(OffsetCommitValue::decode(&value.encode()), Ok(value));
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = OffsetCommitValue::decode(&bytes);
        }
    }
}
