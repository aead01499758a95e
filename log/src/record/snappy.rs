//! Snappy as Kafka's Java clients frame it (xerial's stream format), and raw as some others send it.
//!
//! | at | field                                     |
//! |----|-------------------------------------------|
//! |  0 | 0x82 "SNAPPY" 0x00                        |
//! |  8 | version, i32: 1                           |
//! | 12 | oldest readable version, i32: 1           |
//! | 16 | blocks: length i32, raw snappy            |
//!
//! A header may come again between blocks (concatenated streams).

use super::compression::{Compression, CompressionError, DecodeLimit};

const MAGIC: [u8; 8] = [0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0];
const HEADER_LEN: usize = 16;
/// What xerial's writer cuts its input into.
const BLOCK_BYTES: usize = 32 << 10;
/// The densest element stands for 64 bytes and takes 3.
const EXPANSION_MAX: usize = 22;

pub(super) fn compress(records: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(HEADER_LEN + records.len() / 2);
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&1i32.to_be_bytes());
    out.extend_from_slice(&1i32.to_be_bytes());
    let mut encoder = snap::raw::Encoder::new();
    for block in records.chunks(BLOCK_BYTES) {
        let at = out.len() + 4;
        out.resize(at + snap::raw::max_compress_len(block.len()), 0);
        let len = encoder
            .compress(block, &mut out[at..])
            .expect("the buffer holds the longest result");
        out[at - 4..at].copy_from_slice(&(len as u32).to_be_bytes());
        out.truncate(at + len);
    }
    out
}

pub(super) fn decompress(data: &[u8], limit: DecodeLimit) -> Result<Vec<u8>, CompressionError> {
    let mut out = Vec::new();
    if data.len() < HEADER_LEN || data[..MAGIC.len()] != MAGIC {
        inflate_block(data, limit, &mut out)?;
        return Ok(out);
    }
    let mut rest = &data[HEADER_LEN..];
    while !rest.is_empty() {
        if rest.len() >= HEADER_LEN && rest[..MAGIC.len()] == MAGIC {
            rest = &rest[HEADER_LEN..];
            continue;
        }
        let (len, body) = rest
            .split_first_chunk::<4>()
            .ok_or_else(|| Compression::Snappy.corrupt("a block's length is cut off"))?;
        let len = u32::from_be_bytes(*len) as usize;
        if len > body.len() {
            return Err(Compression::Snappy.corrupt("a block is cut off"));
        }
        inflate_block(&body[..len], limit, &mut out)?;
        rest = &body[len..];
    }
    Ok(out)
}

fn inflate_block(
    block: &[u8],
    limit: DecodeLimit,
    out: &mut Vec<u8>,
) -> Result<(), CompressionError> {
    let corrupt = |e: snap::Error| Compression::Snappy.corrupt(e);
    let len = snap::raw::decompress_len(block).map_err(corrupt)?;
    // The length is a claim: believe it only as far as the block could reach.
    if len > block.len().saturating_mul(EXPANSION_MAX) {
        return Err(Compression::Snappy.corrupt("a block claims more than it can hold"));
    }
    let at = out.len();
    if len > limit.bytes_max.saturating_sub(at) {
        return Err(CompressionError::TooLarge {
            bytes_max: limit.bytes_max,
        });
    }
    out.resize(at + len, 0);
    let written = snap::raw::Decoder::new()
        .decompress(block, &mut out[at..])
        .map_err(corrupt)?;
    out.truncate(at + written);
    Ok(())
}
