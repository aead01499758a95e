//! A partition's manifest root: the one object that is changed by compare-and-swap.
//!
//! | field | type | |
//! |---|---|---|
//! | magic | 8 bytes | `STRNDMAN` |
//! | version | u16 | 1 |
//! | flags | u16 | 0 |
//! | cluster id | u16 length, UTF-8 | |
//! | topic id | 16 bytes | |
//! | partition | i32 | |
//! | incarnation, leader epoch | u64, i32 | the fence of the last edit |
//! | generation | u64 | edits so far |
//! | nonces | varint count, 16 bytes each | of the last edits, newest first |
//! | deleted | i64 | when the topic was deleted, ms; -1 while it lives |
//! | log start, end | i64, i64 | |
//! | collection floor | u64 | uploads begun at an older generation cannot commit |
//! | byte total | u64 | of all live entries, also those in pages |
//! | epochs | varint count, each zigzag epoch, varint start offset | the lineage of leader epochs |
//! | gaps | varint count, each varint start, varint length, u8 cause | 1 tiering off, 2 loss accepted, 3 expired |
//! | pages | varint count, then each as below | |
//! | entries | as in a [page](super::manifest_page) | newer than all pages |
//! | checksum | u32 | CRC-32C of all before |
//!
//! | page field | type | |
//! |---|---|---|
//! | start, length | varint, varint | of all its entries |
//! | live from | varint | offsets from start that were removed |
//! | live entries, live bytes | varint, varint | |
//! | max timestamp | zigzag | |
//! | generation, random | varint, u64 | of the page's name |
//! | checksum | u32 | the last four bytes of the page |

use bytes::{BufMut, Bytes};
use strandline_log::leader_epoch::EpochEntry;

use super::bytes_io::{
    FormatError, Reader, checked, put_crc, put_signed_varint, put_string, put_varint,
};
use super::manifest_page::{add, begin, put_entries, read_entries};
use super::object_key::PartitionKey;
use crate::fence::Fence;
use crate::manifest::{Gap, GapCause, Manifest, NONCES_KEPT, PageRef};

pub const MAGIC: &[u8; 8] = b"STRNDMAN";
pub const VERSION: u16 = 1;
const WHAT: &str = "a manifest root";
const EPOCH_BYTES_MIN: usize = 2;
const GAP_BYTES_MIN: usize = 3;
const PAGE_BYTES_MIN: usize = 19;

pub fn encode(manifest: &Manifest) -> Bytes {
    let mut out = Vec::with_capacity(256 + manifest.pages.len() * 56 + manifest.entries.len() * 48);
    out.extend_from_slice(MAGIC);
    out.put_u16(VERSION);
    out.put_u16(0);
    put_string(&mut out, &manifest.partition.cluster_id);
    out.extend_from_slice(manifest.partition.topic_id.as_bytes());
    out.put_i32(manifest.partition.partition);
    out.put_u64(manifest.fence.incarnation);
    out.put_i32(manifest.fence.leader_epoch);
    out.put_u64(manifest.generation);
    put_varint(&mut out, manifest.nonces.len() as u64);
    for nonce in &manifest.nonces {
        out.extend_from_slice(nonce);
    }
    out.put_i64(manifest.deleted_ms.unwrap_or(-1));
    out.put_i64(manifest.log_start);
    out.put_i64(manifest.end);
    out.put_u64(manifest.collection_floor);
    out.put_u64(manifest.bytes_total());
    put_varint(&mut out, manifest.epochs.len() as u64);
    for entry in &manifest.epochs {
        put_signed_varint(&mut out, i64::from(entry.epoch));
        put_varint(&mut out, entry.start_offset.max(0) as u64);
    }
    put_varint(&mut out, manifest.gaps.len() as u64);
    for gap in &manifest.gaps {
        put_varint(&mut out, gap.start as u64);
        put_varint(&mut out, (gap.end - gap.start) as u64);
        out.put_u8(gap.cause.code());
    }
    put_varint(&mut out, manifest.pages.len() as u64);
    for page in &manifest.pages {
        put_varint(&mut out, page.start as u64);
        put_varint(&mut out, (page.end - page.start) as u64);
        put_varint(&mut out, (page.live_start - page.start) as u64);
        put_varint(&mut out, u64::from(page.live_entries));
        put_varint(&mut out, page.live_bytes);
        put_signed_varint(&mut out, page.max_timestamp);
        put_varint(&mut out, page.generation);
        out.put_u64(page.random);
        out.put_u32(page.crc);
    }
    put_entries(&mut out, &manifest.entries);
    put_crc(&mut out);
    out.into()
}

pub fn decode(bytes: Bytes) -> Result<Manifest, FormatError> {
    let mut r = Reader::new(WHAT, checked(WHAT, bytes)?);
    begin(&mut r, WHAT, MAGIC, VERSION)?;
    let cluster_id = r.string()?;
    let topic_id = uuid::Uuid::from_bytes(r.array()?);
    let partition = PartitionKey::new(cluster_id, topic_id, r.i32()?);
    let fence = Fence::new(r.u64()?, r.i32()?);
    let generation = r.u64()?;
    let nonces = (0..r.count(16)?)
        .map(|_| r.array())
        .collect::<Result<Vec<_>, _>>()?;
    if nonces.is_empty() || nonces.len() > NONCES_KEPT {
        return Err(r.malformed("its count of nonces is out of range"));
    }
    let deleted_ms = Some(r.i64()?).filter(|ms| *ms >= 0);
    let (log_start, end) = (r.i64()?, r.i64()?);
    let collection_floor = r.u64()?;
    let bytes_total = r.u64()?;
    let epochs = (0..r.count(EPOCH_BYTES_MIN)?)
        .map(|_| read_epoch(&mut r))
        .collect::<Result<_, _>>()?;
    let gaps = (0..r.count(GAP_BYTES_MIN)?)
        .map(|_| read_gap(&mut r))
        .collect::<Result<_, _>>()?;
    let pages = (0..r.count(PAGE_BYTES_MIN)?)
        .map(|_| read_page(&mut r))
        .collect::<Result<_, _>>()?;
    let entries = read_entries(&mut r)?;
    r.end()?;
    let manifest = Manifest {
        partition,
        fence,
        generation,
        nonces,
        deleted_ms,
        log_start,
        end,
        collection_floor,
        epochs,
        gaps,
        pages,
        entries,
    };
    manifest.check().map_err(|why| r.malformed(why))?;
    if manifest.bytes_total() != bytes_total {
        return Err(r.malformed("its byte total is wrong"));
    }
    Ok(manifest)
}

fn read_epoch(r: &mut Reader) -> Result<EpochEntry, FormatError> {
    let epoch = r.signed_varint()?;
    let start = r.varint()?;
    Ok(EpochEntry {
        epoch: i32::try_from(epoch).map_err(|_| r.malformed("an epoch is out of range"))?,
        start_offset: add(r, 0, start)?,
    })
}

fn read_gap(r: &mut Reader) -> Result<Gap, FormatError> {
    let (start, length) = (r.varint()?, r.varint()?);
    let cause = GapCause::from_code(r.u8()?);
    let start = add(r, 0, start)?;
    Ok(Gap {
        start,
        end: add(r, start, length)?,
        cause: cause.ok_or_else(|| r.malformed("a gap's cause is unknown"))?,
    })
}

fn read_page(r: &mut Reader) -> Result<PageRef, FormatError> {
    let (start, length, removed) = (r.varint()?, r.varint()?, r.varint()?);
    let start = add(r, 0, start)?;
    let live_entries = r.varint()?;
    Ok(PageRef {
        start,
        end: add(r, start, length)?,
        live_start: add(r, start, removed)?,
        live_entries: u32::try_from(live_entries)
            .map_err(|_| r.malformed("a page has too many entries"))?,
        live_bytes: r.varint()?,
        max_timestamp: r.signed_varint()?,
        generation: r.varint()?,
        random: r.u64()?,
        crc: r.u32()?,
    })
}

#[cfg(test)]
mod tests;
