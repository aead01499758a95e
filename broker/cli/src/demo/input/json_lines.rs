//! Rows of an NDJSON file: each line is a JSON object and becomes a value as it is.

use std::io::{BufRead, BufReader, Read};

use anyhow::{Context, bail};
use serde_json::Value;

use super::origin::Bytes;
use super::{Row, VALUE_BYTES_MAX};

pub struct JsonLines {
    bytes: BufReader<Bytes>,
    key_field: Option<String>,
    line: u64,
}

impl JsonLines {
    pub fn new(bytes: Bytes, key_field: Option<String>) -> Self {
        Self {
            bytes: BufReader::with_capacity(64 << 10, bytes),
            key_field,
            line: 0,
        }
    }

    /// Blank lines are no rows.
    fn next_row(&mut self) -> anyhow::Result<Option<Row>> {
        loop {
            let mut text = Vec::new();
            self.line += 1;
            let line = self.line;
            // One byte more than allowed tells a line that is too long.
            self.bytes
                .by_ref()
                .take(VALUE_BYTES_MAX as u64 + 1)
                .read_until(b'\n', &mut text)
                .with_context(|| format!("line {line}"))?;
            if text.is_empty() {
                return Ok(None);
            }
            if text.len() > VALUE_BYTES_MAX {
                bail!("line {line}: more than {VALUE_BYTES_MAX} bytes do not fit a record");
            }
            let value = text.trim_ascii();
            if value.is_empty() {
                continue;
            }
            let parsed: Value = serde_json::from_slice(value)
                .with_context(|| format!("line {line} is not a JSON object on one line"))?;
            let Value::Object(fields) = parsed else {
                bail!("line {line} is JSON, but not an object");
            };
            let key = self
                .key_field
                .as_ref()
                .and_then(|field| key_of(fields.get(field)?));
            return Ok(Some(Row {
                key,
                value: value.to_vec(),
            }));
        }
    }
}

/// Text as it is, anything else as JSON; null and empty text are no key.
fn key_of(value: &Value) -> Option<Vec<u8>> {
    match value {
        Value::Null => None,
        Value::String(text) if text.is_empty() => None,
        Value::String(text) => Some(text.clone().into_bytes()),
        other => Some(other.to_string().into_bytes()),
    }
}

impl Iterator for JsonLines {
    type Item = anyhow::Result<Row>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_row().transpose()
    }
}
