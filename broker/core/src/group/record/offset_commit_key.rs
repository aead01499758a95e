//! The key of a committed offset.
//!
//! | bytes | type   | field                                   |
//! |-------|--------|-----------------------------------------|
//! | 2     | int16  | version: 1; 0 is read, it has the same layout |
//! | 2 + n | string | group                                   |
//! | 2 + n | string | topic                                   |
//! | 4     | int32  | partition                               |

use bytes::{BufMut, Bytes, BytesMut};

use super::reader::{Reader, RecordError, put_string};

const VERSION: i16 = 1;

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct OffsetCommitKey {
    pub group: String,
    pub topic: String,
    pub partition: i32,
}

impl OffsetCommitKey {
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(10 + self.group.len() + self.topic.len());
        out.put_i16(VERSION);
        put_string(&mut out, &self.group);
        put_string(&mut out, &self.topic);
        out.put_i32(self.partition);
        out.freeze()
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        let mut r = Reader::new(bytes);
        match r.i16()? {
            0 | 1 => Ok(Self {
                group: r.string(false)?,
                topic: r.string(false)?,
                partition: r.i32()?,
            }),
            version => Err(RecordError::UnknownVersion {
                record: "OffsetCommitKey",
                version,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn golden_bytes() {
        let key = OffsetCommitKey {
            group: "g1".to_owned(),
            topic: "orders".to_owned(),
            partition: 7,
        };
        let golden = b"\x00\x01\x00\x02g1\x00\x06orders\x00\x00\x00\x07";
        assert_eq!(&key.encode()[..], golden);
        assert_eq!(OffsetCommitKey::decode(golden), Ok(key));
    }

    proptest! {
        #[test]
        fn round_trip(group in "\\PC{0,20}", topic in "[a-z._-]{1,40}", partition: i32) {
            let key = OffsetCommitKey { group, topic, partition };
            prop_assert_eq!(OffsetCommitKey::decode(&key.encode()), Ok(key));
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = OffsetCommitKey::decode(&bytes);
        }
    }
}
