//! Snapshot files: an image, and how far in the log it reaches. One is kept.
//!
//! `{index}-{term}.checkpoint`, version 0. Integers are big-endian; log ids and memberships as in `entry_format`:
//!
//! | part       | bytes                                                                  |
//! |------------|------------------------------------------------------------------------|
//! | header     | `SLMC`, version u16, 0 u16                                              |
//! | last       | optional log id: the last entry in the image                            |
//! | membership | optional log id, membership                                             |
//! | image      | as `strandline_core::metadata::encode_image` writes it                  |
//! | checksum   | CRC-32C u32 of all before                                               |

use std::fs;
use std::path::{Path, PathBuf};

use bytes::{Buf, BufMut, Bytes};
use strandline_core::metadata::{FormatError, MetadataImage, decode_image};

use crate::entry_format::{
    get_log_id, get_membership, get_optional, put_log_id, put_membership, put_optional,
};
use crate::raft_log::{file_names, remove, write_file_durably};
use crate::storage_error::MetadataStorageError;
use crate::type_config::{LogId, SnapshotMeta, StoredMembership};

const MAGIC: &[u8; 4] = b"SLMC";
const VERSION: u16 = 0;
const SUFFIX: &str = ".checkpoint";

pub fn snapshot_meta(last: Option<LogId>, membership: &StoredMembership) -> SnapshotMeta {
    let (index, term) = last.map_or((0, 0), |id| (id.index, id.leader_id.term));
    SnapshotMeta {
        last_log_id: last,
        last_membership: membership.clone(),
        snapshot_id: format!("{index:020}-{term:010}"),
    }
}

pub fn encode_snapshot(meta: &SnapshotMeta, image: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(256 + image.len());
    out.put_slice(MAGIC);
    out.put_u16(VERSION);
    out.put_u16(0);
    put_optional(&mut out, meta.last_log_id.as_ref(), put_log_id);
    put_optional(&mut out, meta.last_membership.log_id().as_ref(), put_log_id);
    put_membership(&mut out, meta.last_membership.membership());
    out.put_slice(image);
    let crc = crc32c::crc32c(&out);
    out.put_u32(crc);
    out
}

/// The meta and the bytes of the image.
pub fn decode_snapshot(mut bytes: Bytes) -> Result<(SnapshotMeta, Bytes), FormatError> {
    let body = bytes.len().checked_sub(4).ok_or(FormatError::Truncated)?;
    let crc = bytes.split_off(body).get_u32();
    if crc != crc32c::crc32c(&bytes) {
        return Err(FormatError::Invalid("checksum"));
    }
    if bytes.len() < 8 || bytes.split_to(MAGIC.len()) != MAGIC[..] {
        return Err(FormatError::NotASnapshot);
    }
    let (version, _) = (bytes.get_u16(), bytes.get_u16());
    if version != VERSION {
        return Err(FormatError::UnknownSnapshotVersion(version));
    }
    let last = get_optional(&mut bytes, get_log_id)?;
    let membership_id = get_optional(&mut bytes, get_log_id)?;
    let membership = StoredMembership::new(membership_id, get_membership(&mut bytes)?);
    Ok((snapshot_meta(last, &membership), bytes))
}

/// Writes a snapshot and removes those before it.
pub fn save(folder: &Path, meta: &SnapshotMeta, image: &[u8]) -> Result<(), MetadataStorageError> {
    let path = snapshot_path(folder, meta);
    write_file_durably(&path, &encode_snapshot(meta, image))?;
    for name in snapshot_names(folder)? {
        if folder.join(&name) != path {
            remove(&folder.join(name))?;
        }
    }
    Ok(())
}

/// The newest snapshot. An older one is no substitute for a damaged one: the log between them is gone.
pub fn load(folder: &Path) -> Result<Option<(SnapshotMeta, MetadataImage)>, MetadataStorageError> {
    let Some(name) = snapshot_names(folder)?.pop() else {
        return Ok(None);
    };
    let path = folder.join(name);
    let (meta, image) = read(&path)?;
    let image = decode_image(&image).map_err(|e| MetadataStorageError::corrupt(&path, 0, e))?;
    Ok(Some((meta, image)))
}

pub fn snapshot_path(folder: &Path, meta: &SnapshotMeta) -> PathBuf {
    folder.join(format!("{}{SUFFIX}", meta.snapshot_id))
}

pub fn read(path: &Path) -> Result<(SnapshotMeta, Bytes), MetadataStorageError> {
    let bytes = fs::read(path).map_err(MetadataStorageError::io("read", path))?;
    decode_snapshot(bytes.into()).map_err(|e| MetadataStorageError::corrupt(path, 0, e))
}

/// Sorted from oldest to newest.
fn snapshot_names(folder: &Path) -> Result<Vec<String>, MetadataStorageError> {
    let mut names = file_names(folder)?;
    names.retain(|name| name.ends_with(SUFFIX));
    names.sort();
    Ok(names)
}
