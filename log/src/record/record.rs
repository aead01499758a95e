//! One record inside a batch.
//!
//! | field            | type                                    |
//! |------------------|-----------------------------------------|
//! | length           | varint, of what follows                 |
//! | attributes       | i8, unused                              |
//! | timestamp delta  | varlong, against the base timestamp     |
//! | offset delta     | varint, against the base offset         |
//! | key              | varint length (-1: null), bytes         |
//! | value            | varint length (-1: null), bytes         |
//! | headers          | varint count, then each                 |
//! | - header key     | varint length, bytes                    |
//! | - header value   | varint length (-1: null), bytes         |
//!
//! Decoding slices, it copies no key and no value. A record must end where its length says.

use std::borrow::Cow;

use bytes::Bytes;

use super::builder::NewRecord;
use super::varint;
use crate::types::{Offset, TimestampMs};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    pub offset: Offset,
    pub timestamp: TimestampMs,
    /// `None` without an idempotent producer.
    pub sequence: Option<i32>,
    pub key: Option<Bytes>,
    pub value: Option<Bytes>,
    pub headers: Vec<RecordHeader>,
}

/// A header's key is text by convention; brokers never look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordHeader {
    pub key: Bytes,
    pub value: Option<Bytes>,
}

impl RecordHeader {
    pub fn new(key: impl Into<Bytes>, value: Option<Bytes>) -> Self {
        Self {
            key: key.into(),
            value,
        }
    }

    /// The key as text; bytes that are not UTF-8 become replacement characters.
    pub fn key_text(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.key)
    }
}

/// A record with its place relative to its batch.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct RawRecord {
    pub timestamp_delta: i64,
    pub offset_delta: i32,
    pub key: Option<Bytes>,
    pub value: Option<Bytes>,
    pub headers: Vec<RecordHeader>,
}

/// The smallest header: two lengths.
const MIN_HEADER_LEN: usize = 2;

struct Reader<'a> {
    bytes: &'a Bytes,
    at: usize,
    end: usize,
}

impl Reader<'_> {
    fn varint(&mut self, what: &'static str) -> Result<i32, &'static str> {
        let (value, taken) = varint::read_i32(&self.bytes[self.at..self.end]).ok_or(what)?;
        self.at += taken;
        Ok(value)
    }

    fn varlong(&mut self, what: &'static str) -> Result<i64, &'static str> {
        let (value, taken) = varint::read_i64(&self.bytes[self.at..self.end]).ok_or(what)?;
        self.at += taken;
        Ok(value)
    }

    fn bytes(&mut self, what: &'static str) -> Result<Option<Bytes>, &'static str> {
        let len = self.varint(what)?;
        if len == -1 {
            return Ok(None);
        }
        let len = usize::try_from(len).map_err(|_| what)?;
        if len > self.end - self.at {
            return Err(what);
        }
        let slice = self.bytes.slice(self.at..self.at + len);
        self.at += len;
        Ok(Some(slice))
    }
}

/// Reads the record at `at` of `body`; also tells where the next one starts.
pub(super) fn decode(body: &Bytes, at: usize) -> Result<(RawRecord, usize), &'static str> {
    let mut r = Reader {
        bytes: body,
        at,
        end: body.len(),
    };
    let len = usize::try_from(r.varint("length")?).map_err(|_| "length is negative")?;
    if len > r.end - r.at {
        return Err("length exceeds the batch");
    }
    r.end = r.at + len;
    if len == 0 {
        return Err("it is empty");
    }
    // Attributes: a byte without meaning.
    r.at += 1;
    let timestamp_delta = r.varlong("timestamp delta")?;
    let offset_delta = r.varint("offset delta")?;
    let key = r.bytes("key")?;
    let value = r.bytes("value")?;
    let count = usize::try_from(r.varint("header count")?).map_err(|_| "header count")?;
    if count > (r.end - r.at) / MIN_HEADER_LEN {
        return Err("header count exceeds the record");
    }
    let mut headers = Vec::with_capacity(count);
    for _ in 0..count {
        let key = r.bytes("header key")?.ok_or("header key is null")?;
        let value = r.bytes("header value")?;
        headers.push(RecordHeader { key, value });
    }
    if r.at != r.end {
        return Err("length exceeds its fields");
    }
    let record = RawRecord {
        timestamp_delta,
        offset_delta,
        key,
        value,
        headers,
    };
    Ok((record, r.end))
}

fn len_of(bytes: Option<&Bytes>) -> usize {
    bytes.map_or(1, |b| varint::len_i32(b.len() as i32) + b.len())
}

/// The record's length field: the bytes after it. Lengths must have been checked to fit 31 bits.
pub(super) fn body_len(record: &NewRecord, timestamp_delta: i64, offset_delta: i32) -> usize {
    let headers: usize = record
        .headers
        .iter()
        .map(|h| len_of(Some(&h.key)) + len_of(h.value.as_ref()))
        .sum();
    1 + varint::len_i64(timestamp_delta)
        + varint::len_i32(offset_delta)
        + len_of(record.key.as_ref())
        + len_of(record.value.as_ref())
        + varint::len_i32(record.headers.len() as i32)
        + headers
}

fn put_bytes(out: &mut Vec<u8>, bytes: Option<&Bytes>) {
    match bytes {
        None => varint::put_i32(out, -1),
        Some(bytes) => {
            varint::put_i32(out, bytes.len() as i32);
            out.extend_from_slice(bytes);
        }
    }
}

pub(super) fn encode(
    out: &mut Vec<u8>,
    record: &NewRecord,
    timestamp_delta: i64,
    offset_delta: i32,
) {
    varint::put_i32(out, body_len(record, timestamp_delta, offset_delta) as i32);
    out.push(0);
    varint::put_i64(out, timestamp_delta);
    varint::put_i32(out, offset_delta);
    put_bytes(out, record.key.as_ref());
    put_bytes(out, record.value.as_ref());
    varint::put_i32(out, record.headers.len() as i32);
    for header in &record.headers {
        put_bytes(out, Some(&header.key));
        put_bytes(out, header.value.as_ref());
    }
}
