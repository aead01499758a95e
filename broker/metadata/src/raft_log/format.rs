//! The file of the Raft log, version 0. Integers are big-endian; log ids, votes and entries as in `entry_format`.
//!
//! | part   | bytes                                                                                      |
//! |--------|--------------------------------------------------------------------------------------------|
//! | header | `SLRL`, version u16, 0 u16, generation u64, CRC-32C u32 of the 16 bytes before              |
//! | frame  | payload length u32, CRC-32C u32 of number and payload, number u64 (from 0), payload         |
//!
//! A payload is a sequence of records:
//!
//! | kind | record                                                   |
//! |------|----------------------------------------------------------|
//! | 1    | an entry                                                 |
//! | 2    | the vote                                                 |
//! | 3    | truncation: index u64, it and all after it are gone      |
//! | 4    | purge: log id, it and all before it are in a snapshot    |

use std::collections::BTreeMap;
use std::path::Path;

use bytes::{Buf, BufMut, Bytes};
use strandline_core::metadata::FormatError;

use crate::entry_format::{
    get_entry, get_log_id, get_u64, get_vote, len_u32, put_entry, put_log_id, put_vote,
};
use crate::storage_error::MetadataStorageError;
use crate::type_config::{Entry, LogId, Vote};

pub const HEADER_BYTES: usize = 20;
pub const FRAME_HEADER_BYTES: usize = 16;
const MAGIC: &[u8; 4] = b"SLRL";
const VERSION: u16 = 0;

const ENTRY: u8 = 1;
const VOTE: u8 = 2;
const TRUNCATE: u8 = 3;
const PURGE: u8 = 4;

/// What the records of a log add up to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Contents {
    pub vote: Option<Vote>,
    pub purged: Option<LogId>,
    pub entries: BTreeMap<u64, Entry>,
}

impl Contents {
    pub fn last_log_id(&self) -> Option<LogId> {
        self.entries
            .last_key_value()
            .map(|(_, e)| e.log_id)
            .or(self.purged)
    }

    pub fn truncate(&mut self, from: u64) {
        self.entries.split_off(&from);
    }

    pub fn purge(&mut self, upto: LogId) {
        self.entries = self.entries.split_off(&(upto.index + 1));
        self.purged = self.purged.max(Some(upto));
    }

    /// The records that a file of these contents begins with.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        if let Some(purged) = &self.purged {
            out.put_u8(PURGE);
            put_log_id(&mut out, purged);
        }
        if let Some(vote) = &self.vote {
            put_vote_record(&mut out, vote);
        }
        for entry in self.entries.values() {
            put_entry_record(&mut out, entry);
        }
        out
    }

    fn replay(&mut self, mut records: Bytes) -> Result<(), FormatError> {
        while records.has_remaining() {
            match records.get_u8() {
                ENTRY => {
                    let entry = get_entry(&mut records)?;
                    let next = self.last_log_id().map(|id| id.index + 1);
                    if next.is_some_and(|next| next != entry.log_id.index) {
                        return Err(FormatError::Invalid("order of entries"));
                    }
                    self.entries.insert(entry.log_id.index, entry);
                }
                VOTE => self.vote = Some(get_vote(&mut records)?),
                TRUNCATE => self.truncate(get_u64(&mut records)?),
                PURGE => self.purge(get_log_id(&mut records)?),
                _ => return Err(FormatError::Invalid("kind of record")),
            }
        }
        Ok(())
    }
}

pub fn put_entry_record(out: &mut Vec<u8>, entry: &Entry) {
    out.put_u8(ENTRY);
    put_entry(out, entry);
}

pub fn put_vote_record(out: &mut Vec<u8>, vote: &Vote) {
    out.put_u8(VOTE);
    put_vote(out, vote);
}

pub fn put_truncate_record(out: &mut Vec<u8>, from: u64) {
    out.put_u8(TRUNCATE);
    out.put_u64(from);
}

pub fn put_header(out: &mut Vec<u8>, generation: u64) {
    let start = out.len();
    out.put_slice(MAGIC);
    out.put_u16(VERSION);
    out.put_u16(0);
    out.put_u64(generation);
    let crc = crc32c::crc32c(&out[start..]);
    out.put_u32(crc);
}

pub fn put_frame(out: &mut Vec<u8>, number: u64, payload: &[u8]) {
    out.put_u32(len_u32(payload.len()));
    out.put_u32(frame_crc(number, payload));
    out.put_u64(number);
    out.put_slice(payload);
}

fn frame_crc(number: u64, payload: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&number.to_be_bytes()), payload)
}

/// What a file holds.
#[derive(Debug)]
pub struct Scan {
    pub contents: Contents,
    /// Where the last good frame ends. What lies behind it was torn.
    pub good_bytes: usize,
    pub next_frame: u64,
}

/// Reads a whole file. None: not even its header was written, and nothing after it.
pub fn scan(
    path: &Path,
    generation: u64,
    bytes: &Bytes,
) -> Result<Option<Scan>, MetadataStorageError> {
    let corrupt = |position, reason: &dyn ToString| {
        MetadataStorageError::corrupt(path, position, reason.to_string())
    };
    match check_header(generation, bytes) {
        Ok(()) => {}
        // Only the first file is not synced before it gets its name.
        Err(HeaderError::Torn) if generation == 1 && !has_frame_after(bytes, 0, 0) => {
            return Ok(None);
        }
        Err(reason) => return Err(corrupt(0, &reason)),
    }
    let mut scan = Scan {
        contents: Contents::default(),
        good_bytes: HEADER_BYTES,
        next_frame: 0,
    };
    while scan.good_bytes < bytes.len() {
        let Some((number, payload)) = frame_at(bytes, scan.good_bytes) else {
            if has_frame_after(bytes, scan.good_bytes, scan.next_frame + 1) {
                return Err(corrupt(
                    scan.good_bytes,
                    &"a bad frame with good ones behind it",
                ));
            }
            break;
        };
        if number != scan.next_frame {
            let reason = format!("frame {number} where {} belongs", scan.next_frame);
            return Err(corrupt(scan.good_bytes, &reason));
        }
        let end = scan.good_bytes + FRAME_HEADER_BYTES + payload.len();
        scan.contents
            .replay(payload)
            .map_err(|e| corrupt(scan.good_bytes, &e))?;
        scan.good_bytes = end;
        scan.next_frame += 1;
    }
    Ok(Some(scan))
}

#[derive(Debug, thiserror::Error)]
enum HeaderError {
    #[error("not the header of a metadata log")]
    Torn,
    #[error("unknown version {0}")]
    UnknownVersion(u16),
    #[error("this is generation {0} under another's name")]
    OtherGeneration(u64),
}

fn check_header(generation: u64, bytes: &Bytes) -> Result<(), HeaderError> {
    let mut header = bytes.clone();
    if header.len() < HEADER_BYTES {
        return Err(HeaderError::Torn);
    }
    let crc = crc32c::crc32c(&header[..HEADER_BYTES - 4]);
    let magic = header.split_to(MAGIC.len());
    let (version, _) = (header.get_u16(), header.get_u16());
    let (found, stored_crc) = (header.get_u64(), header.get_u32());
    if crc != stored_crc || magic != MAGIC[..] {
        Err(HeaderError::Torn)
    } else if version != VERSION {
        Err(HeaderError::UnknownVersion(version))
    } else if found != generation {
        Err(HeaderError::OtherGeneration(found))
    } else {
        Ok(())
    }
}

/// The good frame that begins at a position.
fn frame_at(bytes: &Bytes, position: usize) -> Option<(u64, Bytes)> {
    let mut rest = bytes.slice(position..);
    if rest.len() < FRAME_HEADER_BYTES {
        return None;
    }
    let (len, crc, number) = (rest.get_u32() as usize, rest.get_u32(), rest.get_u64());
    if len > rest.len() {
        return None;
    }
    let payload = rest.split_to(len);
    (crc == frame_crc(number, &payload)).then_some((number, payload))
}

/// Whether a good frame of at least this number begins anywhere behind a position.
fn has_frame_after(bytes: &Bytes, position: usize, number_min: u64) -> bool {
    // Numbers far beyond what the file can hold are chance: checking their sums could take forever.
    let numbers = number_min..=number_min + bytes.len() as u64 / FRAME_HEADER_BYTES as u64;
    (position..bytes.len().saturating_sub(FRAME_HEADER_BYTES - 1)).any(|at| {
        let number = bytes[at + 8..at + 16].try_into().map(u64::from_be_bytes);
        number.is_ok_and(|n| numbers.contains(&n)) && frame_at(bytes, at).is_some()
    })
}
