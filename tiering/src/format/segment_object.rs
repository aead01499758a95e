//! One uploaded range: its exact log bytes, then its index section, then a footer that vouches for both.
//!
//! | part | content |
//! |---|---|
//! | log bytes | whole record batches, as in the `.log` file; the first may begin below the range's start |
//! | sections | see [`segment_index`](super::segment_index), in the order of their kinds |
//! | footer | below |
//!
//! | footer field | type | |
//! |---|---|---|
//! | magic | 8 bytes | `STRNDSEG` |
//! | version | u16 | 1 |
//! | flags | u16 | 0; a set bit that a reader does not know means that it must not read the object |
//! | cluster id | u16 length, UTF-8 | |
//! | topic id | 16 bytes | |
//! | partition | i32 | |
//! | start, end | i64, i64 | the logical range, end exclusive |
//! | max timestamp | i64 | the largest of all batches |
//! | incarnation, leader epoch | u64, i32 | the fence of the writer |
//! | created | i64 | the writer's clock, ms |
//! | log bytes | u64 | |
//! | chunk bytes | u32 | |
//! | chunks | u32 count, u32 each | CRC-32C of each chunk of the log bytes; the last may be short |
//! | sections | u16 count, each kind u16, position u64, length u64, CRC-32C u32 | |
//! | checksum | u32 | CRC-32C of the footer up to here |
//! | length | u32 | of the footer with checksum, without this field: the last four bytes |
//!
//! Always holds: positions count from the range's first byte, so that a range can be moved into a shared object as it
//! is; with one GET of the last bytes a reader finds everything.

use std::ops::Range;

use bytes::{BufMut, Bytes};
use strandline_log::{Offset, TimestampMs};

use super::bytes_io::{FormatError, Reader, checked, put_crc, put_string};
use super::object_key::PartitionKey;
use super::segment_index::SegmentIndexes;
use crate::fence::Fence;

pub const MAGIC: &[u8; 8] = b"STRNDSEG";
pub const VERSION: u16 = 1;
/// Of log bytes per CRC; also the smallest read that can be checked.
pub const CHUNK_BYTES_DEFAULT: u32 = 1 << 20;
/// A first suffix read of this size holds the footer of all but giant objects.
pub const FOOTER_BYTES_GUESS: u64 = 64 << 10;
const WHAT: &str = "a segment object's footer";
const LENGTH_LEN: usize = 4;

/// What a segment object says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentFooter {
    pub partition: PartitionKey,
    pub start: Offset,
    /// Exclusive.
    pub end: Offset,
    pub max_timestamp: TimestampMs,
    pub fence: Fence,
    pub created_ms: TimestampMs,
    pub log_bytes: u64,
    pub chunk_bytes: u32,
    pub chunk_crcs: Vec<u32>,
    pub sections: Vec<Section>,
}

/// One entry of the footer's table of sections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Section {
    pub kind: u16,
    pub position: u64,
    pub length: u64,
    pub crc: u32,
}

/// Everything behind the log bytes, decoded and checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentTail {
    pub footer: SegmentFooter,
    pub indexes: SegmentIndexes,
}

/// A footer, or how much of the object's end must be read to get it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FooterRead {
    Footer(SegmentFooter),
    NeedsLast(u64),
}

impl SegmentFooter {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(256 + self.chunk_crcs.len() * 4);
        out.extend_from_slice(MAGIC);
        out.put_u16(VERSION);
        out.put_u16(0);
        put_string(&mut out, &self.partition.cluster_id);
        out.extend_from_slice(self.partition.topic_id.as_bytes());
        out.put_i32(self.partition.partition);
        out.put_i64(self.start);
        out.put_i64(self.end);
        out.put_i64(self.max_timestamp);
        out.put_u64(self.fence.incarnation);
        out.put_i32(self.fence.leader_epoch);
        out.put_i64(self.created_ms);
        out.put_u64(self.log_bytes);
        out.put_u32(self.chunk_bytes);
        out.put_u32(self.chunk_crcs.len() as u32);
        for crc in &self.chunk_crcs {
            out.put_u32(*crc);
        }
        out.put_u16(self.sections.len() as u16);
        for section in &self.sections {
            out.put_u16(section.kind);
            out.put_u64(section.position);
            out.put_u64(section.length);
            out.put_u32(section.crc);
        }
        put_crc(&mut out);
        let length = out.len() as u32;
        out.put_u32(length);
        out
    }

    /// Decodes from the last bytes of a range; `range_bytes` is the length of the whole range.
    pub fn decode_suffix(suffix: &Bytes, range_bytes: u64) -> Result<FooterRead, FormatError> {
        let truncated = FormatError::Truncated { what: WHAT };
        let Some(length_at) = suffix.len().checked_sub(LENGTH_LEN) else {
            return Err(truncated);
        };
        let length = Reader::new(WHAT, suffix.slice(length_at..)).u32()?;
        let with_length = u64::from(length) + LENGTH_LEN as u64;
        if with_length > range_bytes {
            return Err(truncated);
        }
        if with_length > suffix.len() as u64 {
            return Ok(FooterRead::NeedsLast(with_length));
        }
        let footer = suffix.slice(length_at - length as usize..length_at);
        Self::decode(footer, range_bytes - with_length).map(FooterRead::Footer)
    }

    /// `footer_position` is where the footer starts in the range: all sections lie before it.
    fn decode(footer: Bytes, footer_position: u64) -> Result<Self, FormatError> {
        let body = checked(WHAT, footer)?;
        let mut r = Reader::new(WHAT, body);
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
        let topic_id = uuid::Uuid::from_bytes(r.array()?);
        let partition = PartitionKey::new(cluster_id, topic_id, r.i32()?);
        let (start, end, max_timestamp) = (r.i64()?, r.i64()?, r.i64()?);
        let fence = Fence::new(r.u64()?, r.i32()?);
        let created_ms = r.i64()?;
        let (log_bytes, chunk_bytes, chunks) = (r.u64()?, r.u32()?, r.u32()?);
        if start < 0 || start >= end {
            return Err(r.malformed("its offsets are no range"));
        }
        if chunk_bytes == 0 || log_bytes.div_ceil(u64::from(chunk_bytes)) != u64::from(chunks) {
            return Err(r.malformed("its chunks do not cover its log bytes"));
        }
        if (chunks as usize) > r.remaining() / 4 {
            return Err(FormatError::Truncated { what: WHAT });
        }
        let chunk_crcs = (0..chunks).map(|_| r.u32()).collect::<Result<_, _>>()?;
        let mut sections = Vec::new();
        let mut section_end = log_bytes;
        for _ in 0..r.u16()? {
            let section = Section {
                kind: r.u16()?,
                position: r.u64()?,
                length: r.u64()?,
                crc: r.u32()?,
            };
            let end = section.position.checked_add(section.length);
            if section.position < section_end || end.is_none_or(|end| end > footer_position) {
                return Err(r.malformed("a section lies outside of the index section"));
            }
            section_end = section.position + section.length;
            sections.push(section);
        }
        r.end()?;
        if log_bytes > footer_position {
            return Err(r.malformed("its log bytes are longer than the object"));
        }
        Ok(Self {
            partition,
            start,
            end,
            max_timestamp,
            fence,
            created_ms,
            log_bytes,
            chunk_bytes,
            chunk_crcs,
            sections,
        })
    }

    pub fn chunk_count(&self) -> u32 {
        self.chunk_crcs.len() as u32
    }

    /// Where a chunk lies in the range's log bytes.
    pub fn chunk_range(&self, chunk: u32) -> Range<u64> {
        let start = (u64::from(chunk) * u64::from(self.chunk_bytes)).min(self.log_bytes);
        start
            ..start
                .saturating_add(u64::from(self.chunk_bytes))
                .min(self.log_bytes)
    }

    /// The chunks that hold a range of log bytes.
    pub fn chunks_covering(&self, range: &Range<u64>) -> Range<u32> {
        let end = range.end.min(self.log_bytes);
        if range.start >= end {
            return 0..0;
        }
        let size = u64::from(self.chunk_bytes);
        (range.start / size) as u32..end.div_ceil(size) as u32
    }

    /// Checks whole chunks, `first` and on, as they were read.
    pub fn verify_chunks(&self, first: u32, bytes: &[u8]) -> Result<(), FormatError> {
        let mut rest = bytes;
        for chunk in first.. {
            if rest.is_empty() {
                break;
            }
            let (Some(crc), range) = (self.chunk_crcs.get(chunk as usize), self.chunk_range(chunk))
            else {
                return Err(FormatError::Malformed {
                    what: "log bytes",
                    why: "there are more than the footer knows",
                });
            };
            let length = (range.end - range.start) as usize;
            let Some((chunk_bytes, after)) = rest.split_at_checked(length) else {
                return Err(FormatError::Truncated {
                    what: "a chunk of log bytes",
                });
            };
            if crc32c::crc32c(chunk_bytes) != *crc {
                return Err(FormatError::Checksum {
                    what: "a chunk of log bytes",
                });
            }
            rest = after;
        }
        Ok(())
    }
}

impl SegmentTail {
    /// Lays out sections and footer. `footer.sections` is filled in here.
    pub(super) fn encode(mut footer: SegmentFooter, indexes: SegmentIndexes) -> (Self, Bytes) {
        let mut out = Vec::new();
        footer.sections.clear();
        for (kind, bytes) in indexes.encode() {
            footer.sections.push(Section {
                kind,
                position: footer.log_bytes + out.len() as u64,
                length: bytes.len() as u64,
                crc: crc32c::crc32c(&bytes),
            });
            out.extend_from_slice(&bytes);
        }
        out.extend_from_slice(&footer.encode());
        (Self { footer, indexes }, out.into())
    }

    /// Decodes everything behind the log bytes: `bytes` starts at position `log_bytes` of the range.
    pub fn decode(bytes: &Bytes, log_bytes: u64) -> Result<Self, FormatError> {
        // What a manifest says of an object may be anything.
        let Some(range_bytes) = log_bytes.checked_add(bytes.len() as u64) else {
            return Err(FormatError::Malformed {
                what: WHAT,
                why: "its log bytes cannot be as long as the manifest says",
            });
        };
        let footer = match SegmentFooter::decode_suffix(bytes, range_bytes)? {
            FooterRead::Footer(footer) if footer.log_bytes == log_bytes => footer,
            FooterRead::Footer(_) => {
                return Err(FormatError::Malformed {
                    what: WHAT,
                    why: "its log bytes are not as long as the manifest says",
                });
            }
            FooterRead::NeedsLast(_) => return Err(FormatError::Truncated { what: WHAT }),
        };
        let mut indexes = SegmentIndexes::default();
        for section in &footer.sections {
            // Within the bytes: the footer was checked to lie behind all of its sections.
            let start = (section.position - log_bytes) as usize;
            let data = bytes.slice(start..start + section.length as usize);
            if crc32c::crc32c(&data) != section.crc {
                return Err(FormatError::Checksum {
                    what: "a section of a segment object",
                });
            }
            indexes.decode_section(section.kind, data)?;
        }
        indexes.check()?;
        Ok(Self { footer, indexes })
    }
}

#[cfg(test)]
mod tests;
