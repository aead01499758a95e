//! A page of older manifest entries: written once, before the root that names it.
//!
//! | field | type | |
//! |---|---|---|
//! | magic | 8 bytes | `STRNDPAG` |
//! | version | u16 | 1 |
//! | flags | u16 | 0 |
//! | entries | varint count, then each as below | |
//! | checksum | u32 | CRC-32C of all before |
//!
//! An entry, here and in the root. `varint` is unsigned LEB128, `zigzag` the same over ZigZag:
//!
//! | field | type | |
//! |---|---|---|
//! | flags | varint | 1 has aborted transactions, 2 damaged, 4 shared object, 8 does not begin at the end before it |
//! | skip | varint | with flag 8: from the end of the entry before (0 for the first) to the start |
//! | length | varint | end minus start |
//! | counter, random | varint, u64 | without flag 4: of the object's name |
//! | key, position | u16 length and UTF-8, varint | with flag 4 |
//! | bytes, log bytes | varint, varint | |
//! | max timestamp | zigzag | |
//! | incarnation, leader epoch | varint, zigzag | |
//! | footer checksum | u32 | |

use bytes::{BufMut, Bytes};
use strandline_log::Offset;

use super::bytes_io::{
    FormatError, Reader, checked, put_crc, put_signed_varint, put_string, put_varint,
};
use crate::fence::Fence;
use crate::manifest::{ManifestEntry, ObjectRef};

pub const MAGIC: &[u8; 8] = b"STRNDPAG";
pub const VERSION: u16 = 1;
const WHAT: &str = "a manifest page";
/// The fewest bytes that an entry takes.
pub(super) const ENTRY_BYTES_MIN: usize = 16;

const HAS_ABORTED: u64 = 1;
const DAMAGED: u64 = 2;
const SHARED: u64 = 4;
const SKIPS: u64 = 8;

pub fn encode(entries: &[ManifestEntry]) -> Bytes {
    let mut out = Vec::with_capacity(64 + entries.len() * 48);
    out.extend_from_slice(MAGIC);
    out.put_u16(VERSION);
    out.put_u16(0);
    put_entries(&mut out, entries);
    put_crc(&mut out);
    out.into()
}

pub fn decode(bytes: Bytes) -> Result<Vec<ManifestEntry>, FormatError> {
    let mut r = Reader::new(WHAT, checked(WHAT, bytes)?);
    begin(&mut r, WHAT, MAGIC, VERSION)?;
    let entries = read_entries(&mut r)?;
    r.end()?;
    if entries.is_empty() {
        return Err(r.malformed("it has no entries"));
    }
    Ok(entries)
}

/// Magic, version and flags, as all manifest formats begin.
pub(super) fn begin(
    r: &mut Reader,
    what: &'static str,
    magic: &[u8; 8],
    known: u16,
) -> Result<(), FormatError> {
    if &r.array::<8>()? != magic {
        return Err(FormatError::Magic { what });
    }
    let version = r.u16()?;
    if version != known {
        return Err(FormatError::Version {
            what,
            version,
            known,
        });
    }
    if r.u16()? != 0 {
        return Err(r.malformed("it has flags that this version does not know"));
    }
    Ok(())
}

pub(super) fn put_entries(out: &mut Vec<u8>, entries: &[ManifestEntry]) {
    put_varint(out, entries.len() as u64);
    let mut end_before: Offset = 0;
    for entry in entries {
        let skip = entry.start - end_before;
        let mut flags = 0;
        for (set, flag) in [
            (entry.has_aborted, HAS_ABORTED),
            (entry.damaged, DAMAGED),
            (matches!(entry.object, ObjectRef::Shared { .. }), SHARED),
            (skip != 0, SKIPS),
        ] {
            if set {
                flags |= flag;
            }
        }
        put_varint(out, flags);
        if skip != 0 {
            put_varint(out, skip as u64);
        }
        put_varint(out, (entry.end - entry.start) as u64);
        match &entry.object {
            ObjectRef::Segment { counter, random } => {
                put_varint(out, *counter);
                out.put_u64(*random);
            }
            ObjectRef::Shared { key, position } => {
                put_string(out, key);
                put_varint(out, *position);
            }
        }
        put_varint(out, entry.bytes);
        put_varint(out, entry.log_bytes);
        put_signed_varint(out, entry.max_timestamp);
        put_varint(out, entry.fence.incarnation);
        put_signed_varint(out, i64::from(entry.fence.leader_epoch));
        out.put_u32(entry.footer_crc);
        end_before = entry.end;
    }
}

pub(super) fn read_entries(r: &mut Reader) -> Result<Vec<ManifestEntry>, FormatError> {
    let count = r.count(ENTRY_BYTES_MIN)?;
    let mut entries = Vec::with_capacity(count);
    let mut end_before: Offset = 0;
    for _ in 0..count {
        let flags = r.varint()?;
        if flags > HAS_ABORTED | DAMAGED | SHARED | SKIPS {
            return Err(r.malformed("an entry has flags that this version does not know"));
        }
        let skip = if flags & SKIPS != 0 { r.varint()? } else { 0 };
        let start = add(r, end_before, skip)?;
        let length = r.varint()?;
        let end = add(r, start, length)?;
        if length == 0 {
            return Err(r.malformed("an entry holds no offsets"));
        }
        let object = if flags & SHARED == 0 {
            ObjectRef::Segment {
                counter: r.varint()?,
                random: r.u64()?,
            }
        } else {
            ObjectRef::Shared {
                key: r.string()?,
                position: r.varint()?,
            }
        };
        let (bytes, log_bytes) = (r.varint()?, r.varint()?);
        let entry = ManifestEntry {
            start,
            end,
            object,
            bytes,
            log_bytes,
            max_timestamp: r.signed_varint()?,
            has_aborted: flags & HAS_ABORTED != 0,
            damaged: flags & DAMAGED != 0,
            fence: read_fence(r)?,
            footer_crc: r.u32()?,
        };
        if log_bytes > bytes || entry.position().checked_add(bytes).is_none() {
            return Err(r.malformed("an entry's byte ranges contradict each other"));
        }
        end_before = end;
        entries.push(entry);
    }
    Ok(entries)
}

fn read_fence(r: &mut Reader) -> Result<Fence, FormatError> {
    let incarnation = r.varint()?;
    let epoch = r.signed_varint()?;
    let leader_epoch =
        i32::try_from(epoch).map_err(|_| r.malformed("a leader epoch is out of range"))?;
    Ok(Fence::new(incarnation, leader_epoch))
}

/// An offset some way on; refused where offsets end.
pub(super) fn add(r: &Reader, offset: Offset, by: u64) -> Result<Offset, FormatError> {
    i64::try_from(by)
        .ok()
        .and_then(|by| offset.checked_add(by))
        .ok_or_else(|| r.malformed("an offset is out of range"))
}

#[cfg(test)]
pub(in crate::format) mod tests;
