//! Why bytes are not a batch, or a batch's records cannot be read.

use super::compression::CompressionError;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    #[error("{available} bytes where a batch needs {needed}")]
    Truncated { needed: usize, available: usize },
    #[error("record batch magic {0}, only 2 is supported")]
    Magic(i8),
    #[error("batch length {0} is below the smallest possible")]
    Length(i32),
    #[error("CRC-32C is {computed:#010x}, the batch says {stored:#010x}")]
    Crc { stored: u32, computed: u32 },
    #[error("unknown compression type {0}")]
    UnknownCompression(u8),
    #[error(transparent)]
    Compression(#[from] CompressionError),
    #[error("records count {0} is negative")]
    Count(i32),
    #[error("record {index} of the batch is malformed: {reason}")]
    Record { index: i32, reason: &'static str },
    #[error("{0} bytes follow the last record of the batch")]
    TrailingBytes(usize),
    #[error("control record is malformed: {0}")]
    Control(&'static str),
}
