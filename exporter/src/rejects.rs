//! Records that are no rows of their table, one JSON object per line.
//!
//! | field | type | |
//! |---|---|---|
//! | partition, offset | number | |
//! | last_offset | number | only where a whole batch cannot be read |
//! | timestamp | number | ms; absent where a whole batch cannot be read |
//! | cause | text | |
//! | key | base64 | null when there is none |
//! | value | base64 | null for a tombstone; the batch's bytes where a whole batch cannot be read |

use std::fs::File;
use std::io::{BufWriter, Write};

use serde::Serialize;
use strandline_log::record::{Batch, Record};
use strandline_log::{Offset, TimestampMs};

use crate::data_file::FinishedFile;
use crate::error::WriteError;
use crate::target::{Spool, SpoolFile};

#[derive(Serialize)]
struct Line<'a> {
    partition: i32,
    offset: Offset,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_offset: Option<Offset>,
    #[serde(skip_serializing_if = "Option::is_none")]
    timestamp: Option<TimestampMs>,
    cause: &'a str,
    key: Option<String>,
    value: Option<String>,
}

/// A file of rejects of one partition while it is written.
pub struct RejectsFile {
    writer: BufWriter<File>,
    spool: SpoolFile,
    partition: i32,
    start: Offset,
    end: Offset,
    records: u64,
    bytes: u64,
}

impl RejectsFile {
    pub fn create(spool: &Spool, partition: i32, start: Offset) -> Result<Self, WriteError> {
        let spool = spool.create()?;
        Ok(Self {
            writer: BufWriter::new(spool.file()?),
            spool,
            partition,
            start,
            end: start,
            records: 0,
            bytes: 0,
        })
    }

    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    pub fn record(&mut self, record: &Record, cause: &str) -> Result<(), WriteError> {
        self.line(
            &Line {
                partition: self.partition,
                offset: record.offset,
                last_offset: None,
                timestamp: Some(record.timestamp),
                cause,
                key: record.key.as_deref().map(base64),
                value: record.value.as_deref().map(base64),
            },
            record.offset + 1,
        )
    }

    /// A batch that cannot be read from `offset` on.
    pub fn batch(&mut self, batch: &Batch, offset: Offset, cause: &str) -> Result<(), WriteError> {
        let last_offset = batch.header.last_offset();
        self.line(
            &Line {
                partition: self.partition,
                offset,
                last_offset: Some(last_offset),
                timestamp: None,
                cause,
                key: None,
                value: Some(base64(&batch.bytes)),
            },
            last_offset + 1,
        )
    }

    fn line(&mut self, line: &Line<'_>, end: Offset) -> Result<(), WriteError> {
        let mut json = serde_json::to_vec(line).map_err(std::io::Error::from)?;
        json.push(b'\n');
        self.writer.write_all(&json)?;
        self.bytes += json.len() as u64;
        self.records += 1;
        self.end = end;
        Ok(())
    }

    pub fn finish(mut self) -> Result<FinishedFile, WriteError> {
        self.writer.flush()?;
        Ok(FinishedFile {
            bytes: self.spool.bytes()?,
            spool: self.spool,
            rejects: true,
            partition: self.partition,
            start: self.start,
            end: self.end,
            records: self.records,
        })
    }
}

const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// RFC 4648, padded.
fn base64(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let mut bits = [0; 3];
        bits[..group.len()].copy_from_slice(group);
        let bits = u32::from_be_bytes([0, bits[0], bits[1], bits[2]]);
        for i in 0..4 {
            if i <= group.len() {
                text.push(BASE64[(bits >> (18 - 6 * i)) as usize & 63] as char);
            } else {
                text.push('=');
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::base64;

    #[test]
    fn base64_is_that_of_rfc_4648() {
        for (text, encoded) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(base64(text.as_bytes()), encoded);
        }
        assert_eq!(base64(&[0xff, 0xef, 0xbe]), "/+++");
    }
}
