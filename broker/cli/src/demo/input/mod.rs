//! The demo's input: rows of a CSV or an NDJSON file as records, streamed.
//!
//! - `origin`: bytes, decompressed by what they begin with.
//! - `csv_rows`, `columns`: rows with a header, and the types of their columns.
//! - `json_lines`: one JSON object a line.
//! - `chunks`: rows from a thread that may block to a task that may not.
//!
//! Always holds: reading twice gives the same rows; memory is bounded by the largest row, which is bounded too.
//!
//! What it does not do: guess. What is not clear is an error that names the row.

mod chunks;
mod columns;
mod csv_rows;
mod json_lines;
mod origin;
#[cfg(test)]
mod tests;

use std::fmt;

use anyhow::{Context, bail, ensure};
use indicatif::ProgressBar;

pub use chunks::row_chunks;
pub use columns::{Column, summary};
pub use origin::Origin;

use columns::ColumnTypes;
use csv_rows::{CsvRows, CsvScan};
use json_lines::JsonLines;
use origin::Opened;

/// A record's value must fit the broker's max.message.bytes with some room.
const VALUE_BYTES_MAX: usize = 900_000;
/// What one row may take of the input.
const ROW_BYTES_MAX: usize = 1 << 20;
const PROGRESS_ROWS: u64 = 4096;

/// One record to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    pub key: Option<Vec<u8>>,
    /// A JSON object.
    pub value: Vec<u8>,
}

impl Row {
    pub fn key(&self) -> Option<&[u8]> {
        self.key.as_deref()
    }
}

/// How rows are written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    Csv { delimiter: u8 },
    JsonLines,
}

/// What one pass over the input told.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    pub rows: u64,
    /// Rows whose key field has a value.
    pub keyed_rows: u64,
    /// Of a CSV.
    pub columns: Option<Vec<Column>>,
}

/// An input that was looked at as a whole: it can be read, and its columns have types.
pub struct Input {
    origin: Origin,
    compression: &'static str,
    layout: Layout,
    stored_bytes: u64,
    key_field: Option<String>,
    facts: Facts,
}

impl Input {
    /// Reads everything once.
    pub fn inspect(
        origin: Origin,
        key_field: Option<&str>,
        bar: &ProgressBar,
    ) -> anyhow::Result<Self> {
        let opened = origin.open()?;
        let mut input = Self {
            compression: opened.compression,
            layout: Layout::Csv { delimiter: b',' },
            stored_bytes: opened.stored_bytes,
            key_field: key_field.map(str::to_owned),
            facts: Facts::default(),
            origin,
        };
        input.layout = Layout::of(opened.start()).with_context(|| input.origin.to_string())?;
        input.facts = match input.layout {
            Layout::Csv { delimiter } => input.scan_csv(opened, delimiter, bar),
            Layout::JsonLines => input.scan_json(opened, bar),
        }
        .with_context(|| input.origin.to_string())?;
        ensure!(input.facts.rows > 0, "{}: no rows", input.origin);
        Ok(input)
    }

    fn scan_csv(&self, opened: Opened, delimiter: u8, bar: &ProgressBar) -> anyhow::Result<Facts> {
        let mut scan = CsvScan::open(opened.bytes, delimiter)?;
        let key = scan.names().position_of(self.key_field.as_deref())?;
        let mut types = ColumnTypes::new(scan.names().len());
        let mut facts = Facts::default();
        while let Some(cells) = scan.next_row()? {
            types.widen(cells);
            facts.rows += 1;
            if key.is_some_and(|key| !cells.get(key).unwrap_or_default().is_empty()) {
                facts.keyed_rows += 1;
            }
            if facts.rows.is_multiple_of(PROGRESS_ROWS) {
                bar.set_position(facts.rows);
            }
        }
        facts.columns = Some(types.columns(scan.names()));
        Ok(facts)
    }

    fn scan_json(&self, opened: Opened, bar: &ProgressBar) -> anyhow::Result<Facts> {
        let mut facts = Facts::default();
        for row in JsonLines::new(opened.bytes, self.key_field.clone()) {
            let row = row?;
            facts.rows += 1;
            facts.keyed_rows += u64::from(row.key.is_some());
            if facts.rows.is_multiple_of(PROGRESS_ROWS) {
                bar.set_position(facts.rows);
            }
        }
        if let (Some(field), 1.., 0) = (&self.key_field, facts.rows, facts.keyed_rows) {
            bail!("no row has the key field {field}");
        }
        Ok(facts)
    }

    /// All rows, from the first. Read until the end or an error.
    pub fn rows(&self) -> anyhow::Result<Box<dyn Iterator<Item = anyhow::Result<Row>> + Send>> {
        let opened = self.origin.open()?;
        let origin = self.origin.to_string();
        let rows: Box<dyn Iterator<Item = _> + Send> = match (self.layout, &self.facts.columns) {
            (Layout::Csv { delimiter }, Some(columns)) => {
                let scan = CsvScan::open(opened.bytes, delimiter)?;
                let key = scan.names().position_of(self.key_field.as_deref())?;
                Box::new(CsvRows::new(scan, columns, key))
            }
            _ => Box::new(JsonLines::new(opened.bytes, self.key_field.clone())),
        };
        Ok(Box::new(
            rows.map(move |row| row.with_context(|| origin.clone())),
        ))
    }

    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// What the input takes where it lies, compressed as it is.
    pub fn stored_bytes(&self) -> u64 {
        self.stored_bytes
    }

    pub fn key_field(&self) -> Option<&str> {
        self.key_field.as_deref()
    }

    pub fn keyed(&self) -> bool {
        self.key_field.is_some()
    }

    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    /// For people: `CSV, zstd`.
    pub fn layout(&self) -> String {
        format!("{}{}", self.layout, self.compression)
    }
}

impl Layout {
    /// By the first bytes that are not blank.
    fn of(start: &[u8]) -> anyhow::Result<Self> {
        let text = start.trim_ascii_start();
        match text.first() {
            None => bail!("it is empty"),
            Some(b'{') => Ok(Self::JsonLines),
            Some(b'[') => {
                bail!("it is a JSON array: write one object a line (jq -c '.[]')")
            }
            Some(_) => Ok(Self::Csv {
                delimiter: csv_rows::delimiter(text),
            }),
        }
    }
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Csv { .. } => "CSV",
            Self::JsonLines => "NDJSON",
        })
    }
}
