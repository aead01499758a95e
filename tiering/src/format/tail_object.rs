//! A tail object: what many partitions have committed and not sealed yet, in one object per broker and interval.
//!
//! The parts' log bytes come first, one part after the other, then the index:
//!
//! | field | type | |
//! |---|---|---|
//! | magic | 8 bytes | `STRNDTAI` |
//! | version, flags | u16, u16 | 1, 0 |
//! | cluster id | u16 length and UTF-8 | |
//! | created | i64 | the writer's clock, milliseconds |
//! | parts | varint count, then each as below | in the order of their bytes |
//! | checksum | u32 | CRC-32C of the index up to here |
//! | length | u32 | of the index, checksum included, this field not |
//!
//! | part | type | |
//! |---|---|---|
//! | topic id, partition | 16 bytes, i32 | |
//! | start, end | i64, i64 | the first batch holds start; end is exclusive |
//! | incarnation, leader epoch | u64, i32 | the writer's fence |
//! | bytes | varint | of whole record batches |
//! | checksum | u32 | CRC-32C of these bytes |
//! | epochs | varint count, then epoch zigzag, start offset varint | the lineage up to end |

use bytes::{BufMut, Bytes};
use strandline_log::{Offset, TopicId};

use super::bytes_io::{
    FormatError, Reader, checked, put_crc, put_signed_varint, put_string, put_varint,
};
use super::segment_index::EpochEntry;
use crate::fence::Fence;

pub const MAGIC: &[u8; 8] = b"STRNDTAI";
pub const VERSION: u16 = 1;
const WHAT: &str = "a tail object";
const LENGTH_LEN: usize = 4;
/// The fewest bytes that a part takes in the index.
const PART_BYTES_MIN: usize = 16 + 4 + 16 + 12 + 1 + 4 + 1;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TailPart {
    pub topic_id: TopicId,
    pub partition: i32,
    pub start: Offset,
    pub end: Offset,
    pub fence: Fence,
    pub bytes: u64,
    pub crc32c: u32,
    pub epochs: Vec<EpochEntry>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TailIndex {
    pub cluster_id: String,
    pub created_ms: i64,
    pub parts: Vec<TailPart>,
}

/// What came of decoding the end of an object.
pub enum TailRead {
    Index(TailIndex),
    /// So many last bytes are needed.
    NeedsLast(u64),
}

impl TailIndex {
    pub fn encode(&self) -> Bytes {
        let mut out = Vec::with_capacity(64 + self.parts.len() * 96);
        out.extend_from_slice(MAGIC);
        out.put_u16(VERSION);
        out.put_u16(0);
        put_string(&mut out, &self.cluster_id);
        out.put_i64(self.created_ms);
        put_varint(&mut out, self.parts.len() as u64);
        for part in &self.parts {
            out.extend_from_slice(part.topic_id.as_bytes());
            out.put_i32(part.partition);
            out.put_i64(part.start);
            out.put_i64(part.end);
            out.put_u64(part.fence.incarnation);
            out.put_i32(part.fence.leader_epoch);
            put_varint(&mut out, part.bytes);
            out.put_u32(part.crc32c);
            put_varint(&mut out, part.epochs.len() as u64);
            for epoch in &part.epochs {
                put_signed_varint(&mut out, i64::from(epoch.epoch));
                put_varint(&mut out, epoch.start_offset as u64);
            }
        }
        put_crc(&mut out);
        let length = out.len() as u32;
        out.put_u32(length);
        out.into()
    }

    /// From the last bytes of an object of that length.
    pub fn decode_suffix(suffix: &Bytes, object_bytes: u64) -> Result<TailRead, FormatError> {
        let truncated = FormatError::Truncated { what: WHAT };
        let Some(length_at) = suffix.len().checked_sub(LENGTH_LEN) else {
            return Err(truncated);
        };
        let length = Reader::new(WHAT, suffix.slice(length_at..)).u32()?;
        let with_length = u64::from(length) + LENGTH_LEN as u64;
        if with_length > object_bytes {
            return Err(truncated);
        }
        if with_length > suffix.len() as u64 {
            return Ok(TailRead::NeedsLast(with_length));
        }
        let index = suffix.slice(length_at - length as usize..length_at);
        Self::decode(index, object_bytes - with_length).map(TailRead::Index)
    }

    fn decode(index: Bytes, log_bytes: u64) -> Result<Self, FormatError> {
        let mut r = Reader::new(WHAT, checked(WHAT, index)?);
        if &r.array::<8>()? != MAGIC {
            return Err(FormatError::Magic { what: WHAT });
        }
        let version = r.u16()?;
        if version != VERSION {
            return Err(FormatError::Version {
                what: WHAT,
                version,
                known: VERSION,
            });
        }
        if r.u16()? != 0 {
            return Err(r.malformed("it has flags that this version does not know"));
        }
        let cluster_id = r.string()?;
        let created_ms = r.i64()?;
        let mut parts = Vec::new();
        let mut total = 0u64;
        for _ in 0..r.count(PART_BYTES_MIN)? {
            let topic_id = TopicId::from_bytes(r.array()?);
            let partition = r.i32()?;
            let (start, end) = (r.i64()?, r.i64()?);
            let fence = Fence::new(r.u64()?, r.i32()?);
            let (bytes, crc32c) = (r.varint()?, r.u32()?);
            let mut epochs = Vec::new();
            for _ in 0..r.count(2)? {
                let epoch = i32::try_from(r.signed_varint()?);
                let start_offset = i64::try_from(r.varint()?);
                let (Ok(epoch), Ok(start_offset)) = (epoch, start_offset) else {
                    return Err(r.malformed("an epoch is out of range"));
                };
                epochs.push(EpochEntry {
                    epoch,
                    start_offset,
                });
            }
            if start < 0 || start >= end {
                return Err(r.malformed("the offsets of a part are no range"));
            }
            total = total.saturating_add(bytes);
            parts.push(TailPart {
                topic_id,
                partition,
                start,
                end,
                fence,
                bytes,
                crc32c,
                epochs,
            });
        }
        r.end()?;
        if total != log_bytes {
            return Err(r.malformed("its parts do not fill it"));
        }
        Ok(Self {
            cluster_id,
            created_ms,
            parts,
        })
    }

    /// The parts with where their bytes begin.
    pub fn positions(&self) -> impl Iterator<Item = (u64, &TailPart)> {
        self.parts.iter().scan(0, |at, part| {
            let position = *at;
            *at += part.bytes;
            Some((position, part))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index() -> TailIndex {
        let part = |partition: i32, start: Offset, bytes: u64| TailPart {
            topic_id: TopicId::from_u128(7),
            partition,
            start,
            end: start + 50,
            fence: Fence::new(2, 1 << 20),
            bytes,
            crc32c: 0xdead_beef,
            epochs: vec![EpochEntry {
                epoch: 3,
                start_offset: 10,
            }],
        };
        TailIndex {
            cluster_id: "cluster".to_owned(),
            created_ms: 1_700_000_000_000,
            parts: vec![part(0, 100, 5_000), part(3, 0, 61)],
        }
    }

    #[test]
    fn what_is_encoded_comes_back_and_what_is_damaged_does_not() {
        let index = index();
        let bytes = index.encode();
        let object_bytes = bytes.len() as u64 + 5_061;
        match TailIndex::decode_suffix(&bytes, object_bytes).expect("decodes") {
            TailRead::Index(read) => assert_eq!(read, index),
            TailRead::NeedsLast(_) => panic!("all of it is there"),
        }
        let positions: Vec<_> = index
            .positions()
            .map(|(at, part)| (at, part.bytes))
            .collect();
        assert_eq!(positions, [(0, 5_000), (5_000, 61)]);
        let short = bytes.slice(bytes.len() - 20..);
        assert!(matches!(
            TailIndex::decode_suffix(&short, object_bytes),
            Ok(TailRead::NeedsLast(last)) if last == bytes.len() as u64
        ));
        assert!(TailIndex::decode_suffix(&bytes, object_bytes + 1).is_err());
        for at in 0..bytes.len() {
            let mut damaged = bytes.to_vec();
            damaged[at] ^= 0x10;
            let read = TailIndex::decode_suffix(&damaged.into(), object_bytes);
            assert!(
                !matches!(read, Ok(TailRead::Index(_))),
                "a flip at {at} went unnoticed"
            );
        }
    }

    #[test]
    fn the_bytes_are_those_of_the_specification() {
        let bytes = TailIndex {
            cluster_id: "c".to_owned(),
            created_ms: 1,
            parts: Vec::new(),
        }
        .encode();
        assert_eq!(
            bytes[..24],
            *b"STRNDTAI\x00\x01\x00\x00\x00\x01c\x00\x00\x00\x00\x00\x00\x00\x01\x00"
        );
        assert_eq!(bytes[28..], [0, 0, 0, 28]);
    }
}
