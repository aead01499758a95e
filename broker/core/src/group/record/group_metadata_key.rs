//! The key of a classic group's metadata.
//!
//! | bytes | type   | field      |
//! |-------|--------|------------|
//! | 2     | int16  | version: 2 |
//! | 2 + n | string | group      |

use bytes::{BufMut, Bytes, BytesMut};

use super::reader::{Reader, RecordError, put_string};

const VERSION: i16 = 2;

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct GroupMetadataKey {
    pub group: String,
}

impl GroupMetadataKey {
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(4 + self.group.len());
        out.put_i16(VERSION);
        put_string(&mut out, &self.group);
        out.freeze()
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        let mut r = Reader::new(bytes);
        match r.i16()? {
            VERSION => Ok(Self {
                group: r.string(false)?,
            }),
            version => Err(RecordError::UnknownVersion {
                record: "GroupMetadataKey",
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
        let key = GroupMetadataKey {
            group: "g1".to_owned(),
        };
        assert_eq!(&key.encode()[..], b"\x00\x02\x00\x02g1");
        assert_eq!(GroupMetadataKey::decode(b"\x00\x02\x00\x02g1"), Ok(key));
    }

    proptest! {
        #[test]
        fn round_trip(group in "\\PC{0,20}") {
            let key = GroupMetadataKey { group };
            prop_assert_eq!(GroupMetadataKey::decode(&key.encode()), Ok(key));
        }
    }
}
