//! Kafka's codecs and framings: gzip, snappy in xerial's stream framing, LZ4 frames, zstd.
//!
//! Inflating stops at the caller's limit, and memory grows with what really came out, so that a bomb costs its
//! sender a request and us at most the limit. Does not pool buffers.

use std::io::{self, Read, Write};

use bytes::Bytes;
use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;
use lz4_flex::frame::{BlockMode, BlockSize, FrameDecoder, FrameEncoder, FrameInfo};

use super::snappy;

/// The codec of a batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Compression {
    #[default]
    None,
    Gzip,
    Snappy,
    Lz4,
    Zstd,
}

/// The most bytes that the records of one batch may inflate to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DecodeLimit {
    pub bytes_max: usize,
}

impl DecodeLimit {
    pub const fn bytes(bytes_max: usize) -> Self {
        Self { bytes_max }
    }
}

impl Default for DecodeLimit {
    /// 128 MiB: far above what producers batch, far below what would hurt.
    fn default() -> Self {
        Self::bytes(128 << 20)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CompressionError {
    #[error("the batch inflates to more than {bytes_max} bytes")]
    TooLarge { bytes_max: usize },
    #[error("the {} data is corrupt: {reason}", codec.name())]
    Corrupt { codec: Compression, reason: String },
}

/// Kafka's block size for LZ4, and what its Java client accepts everywhere.
const LZ4_BLOCK: BlockSize = BlockSize::Max64KB;
/// zstd's own default limit for windows: 128 MiB, as zstd-jni takes it.
const ZSTD_WINDOW_LOG_MAX: u32 = 27;
const GZIP_LEVEL_DEFAULT: u32 = 6;
const ZSTD_LEVEL_DEFAULT: i32 = 3;
/// The first reservation for inflated bytes; beyond it the buffer grows with what arrives.
const FIRST_RESERVATION_MAX: usize = 256 << 10;

impl Compression {
    pub const ALL: [Self; 5] = [Self::None, Self::Gzip, Self::Snappy, Self::Lz4, Self::Zstd];

    pub fn id(self) -> u8 {
        match self {
            Self::None => 0,
            Self::Gzip => 1,
            Self::Snappy => 2,
            Self::Lz4 => 3,
            Self::Zstd => 4,
        }
    }

    pub fn from_id(id: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|c| c.id() == id)
    }

    /// Kafka's name, as in `compression.type`.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Snappy => "snappy",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }

    /// Reads a codec's name; `uncompressed` is what topics call none.
    pub fn from_name(name: &str) -> Option<Self> {
        if name == "uncompressed" {
            return Some(Self::None);
        }
        Self::ALL.into_iter().find(|c| c.name() == name)
    }

    /// Compresses the records of a batch. `level`: the codec's own scale; `None` is its default.
    pub fn compress(self, records: &[u8], level: Option<i32>) -> Vec<u8> {
        // All sinks are vectors, which take every write; the encoders have no other way to fail.
        let result = match self {
            Self::None => Ok(records.to_vec()),
            Self::Gzip => gzip(records, level),
            Self::Snappy => Ok(snappy::compress(records)),
            Self::Lz4 => lz4(records),
            Self::Zstd => zstd::bulk::compress(records, level.unwrap_or(ZSTD_LEVEL_DEFAULT)),
        };
        result.expect("compressing into memory cannot fail")
    }

    /// Inflates the records of a batch; without compression this is the input itself, uncopied.
    pub fn decompress(self, data: &Bytes, limit: DecodeLimit) -> Result<Bytes, CompressionError> {
        match self {
            Self::None => Ok(data.clone()),
            codec => codec.inflate(data, limit).map(Bytes::from),
        }
    }

    /// Inflates the records of a batch into memory of their own, also those that are not compressed.
    pub fn inflate(self, data: &[u8], limit: DecodeLimit) -> Result<Vec<u8>, CompressionError> {
        let inflated = match self {
            Self::None => data.to_vec(),
            Self::Gzip => self.read(MultiGzDecoder::new(data), data.len(), limit)?,
            Self::Snappy => snappy::decompress(data, limit)?,
            Self::Lz4 => self.read(FrameDecoder::new(data), data.len(), limit)?,
            Self::Zstd => {
                let decoder = zstd::stream::read::Decoder::with_buffer(data)
                    .and_then(|mut d| d.window_log_max(ZSTD_WINDOW_LOG_MAX).map(|()| d))
                    .map_err(|e| self.corrupt(e))?;
                self.read(decoder, data.len(), limit)?
            }
        };
        Ok(inflated)
    }

    fn read(
        self,
        decoder: impl Read,
        input_len: usize,
        limit: DecodeLimit,
    ) -> Result<Vec<u8>, CompressionError> {
        let bytes_max = limit.bytes_max;
        let first = input_len
            .saturating_mul(4)
            .min(bytes_max)
            .min(FIRST_RESERVATION_MAX);
        let mut out = Vec::with_capacity(first);
        // One byte more than allowed tells "just fits" from "too large".
        decoder
            .take((bytes_max as u64).saturating_add(1))
            .read_to_end(&mut out)
            .map_err(|e| self.corrupt(e))?;
        if out.len() > bytes_max {
            return Err(CompressionError::TooLarge { bytes_max });
        }
        Ok(out)
    }

    pub(super) fn corrupt(self, reason: impl ToString) -> CompressionError {
        CompressionError::Corrupt {
            codec: self,
            reason: reason.to_string(),
        }
    }
}

fn gzip(records: &[u8], level: Option<i32>) -> io::Result<Vec<u8>> {
    let level = level
        .and_then(|l| u32::try_from(l).ok())
        .map_or(GZIP_LEVEL_DEFAULT, |l| l.clamp(1, 9));
    let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::new(level));
    encoder.write_all(records)?;
    encoder.finish()
}

fn lz4(records: &[u8]) -> io::Result<Vec<u8>> {
    // Kafka's Java reader takes independent blocks only.
    let info = FrameInfo::new()
        .block_size(LZ4_BLOCK)
        .block_mode(BlockMode::Independent);
    let mut encoder = FrameEncoder::with_frame_info(info, Vec::new());
    encoder.write_all(records)?;
    encoder.finish().map_err(io::Error::from)
}
