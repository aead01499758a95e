//! Rows of a CSV as JSON objects, with the columns in their order.

use std::io::{self, Read};

use anyhow::{Context, ensure};
use csv::{Reader, ReaderBuilder, StringRecord};

use super::columns::{Column, ColumnNames, ColumnType, Number, number};
use super::origin::Bytes;
use super::{ROW_BYTES_MAX, Row, VALUE_BYTES_MAX};

const BUFFER_BYTES: usize = 64 << 10;

/// The delimiter that a header has most of; a comma when it has none.
pub fn delimiter(start: &[u8]) -> u8 {
    let header = start
        .split(|byte| matches!(byte, b'\n' | b'\r'))
        .next()
        .unwrap_or_default();
    let count = |delimiter: u8| header.iter().filter(|byte| **byte == delimiter).count();
    let mut best = b',';
    for delimiter in [b';', b'\t', b'|'] {
        if count(delimiter) > count(best) {
            best = delimiter;
        }
    }
    best
}

/// Cells by row.
pub struct CsvScan {
    reader: Reader<Bounded>,
    names: ColumnNames,
    cells: StringRecord,
    rows: u64,
}

impl CsvScan {
    pub fn open(bytes: Bytes, delimiter: u8) -> anyhow::Result<Self> {
        let bounded = Bounded {
            bytes,
            left: ROW_BYTES_MAX + BUFFER_BYTES,
        };
        let mut reader = ReaderBuilder::new()
            .delimiter(delimiter)
            .buffer_capacity(BUFFER_BYTES)
            .from_reader(bounded);
        let names = ColumnNames::of(reader.headers().context("the header")?)?;
        Ok(Self {
            reader,
            names,
            cells: StringRecord::new(),
            rows: 0,
        })
    }

    pub fn names(&self) -> &ColumnNames {
        &self.names
    }

    pub fn next_row(&mut self) -> anyhow::Result<Option<&StringRecord>> {
        self.reader.get_mut().left = ROW_BYTES_MAX + BUFFER_BYTES;
        self.rows += 1;
        let rows = self.rows;
        let is_row = self
            .reader
            .read_record(&mut self.cells)
            .with_context(|| format!("row {rows}"))?;
        Ok(is_row.then_some(&self.cells))
    }
}

/// Ends in an error when one row takes too much: a quote that is never closed would else take all that follows.
struct Bounded {
    bytes: Bytes,
    left: usize,
}

impl Read for Bounded {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 && !buffer.is_empty() {
            return Err(io::Error::other(format!(
                "takes more than {ROW_BYTES_MAX} bytes; is a quote not closed?"
            )));
        }
        let length = buffer.len().min(self.left);
        let read = self.bytes.read(&mut buffer[..length])?;
        self.left -= read;
        Ok(read)
    }
}

pub struct CsvRows {
    scan: CsvScan,
    /// `"name":` as JSON, and the column's type.
    columns: Vec<(Vec<u8>, ColumnType)>,
    key: Option<usize>,
}

impl CsvRows {
    pub fn new(scan: CsvScan, columns: &[Column], key: Option<usize>) -> Self {
        let columns = columns
            .iter()
            .map(|column| {
                let mut name = Vec::new();
                push_text(&mut name, &column.name);
                name.push(b':');
                (name, column.column_type)
            })
            .collect();
        Self { scan, columns, key }
    }

    fn next_row(&mut self) -> anyhow::Result<Option<Row>> {
        let Some(cells) = self.scan.next_row()? else {
            return Ok(None);
        };
        let mut value = vec![b'{'];
        for ((name, column_type), cell) in self.columns.iter().zip(cells) {
            if value.len() > 1 {
                value.push(b',');
            }
            value.extend_from_slice(name);
            push_cell(&mut value, *column_type, cell);
        }
        value.push(b'}');
        let key = self
            .key
            .and_then(|key| cells.get(key))
            .filter(|key| !key.is_empty())
            .map(|key| key.as_bytes().to_vec());
        ensure!(
            value.len() <= VALUE_BYTES_MAX,
            "row {}: {} bytes as JSON; at most {VALUE_BYTES_MAX} fit a record",
            self.scan.rows,
            value.len()
        );
        Ok(Some(Row { key, value }))
    }
}

impl Iterator for CsvRows {
    type Item = anyhow::Result<Row>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_row().transpose()
    }
}

fn push_cell(value: &mut Vec<u8>, column_type: ColumnType, cell: &str) {
    match (column_type, number(cell.as_bytes())) {
        _ if cell.is_empty() => value.extend_from_slice(b"null"),
        (ColumnType::Integer, Some(Number::Whole))
        | (ColumnType::Float, Some(Number::Fractional)) => value.extend_from_slice(cell.as_bytes()),
        // So that readers of single rows see the column's type as well.
        (ColumnType::Float, Some(Number::Whole)) => {
            value.extend_from_slice(cell.as_bytes());
            value.extend_from_slice(b".0");
        }
        _ => push_text(value, cell),
    }
}

fn push_text(value: &mut Vec<u8>, text: &str) {
    serde_json::to_writer(value, text).expect("text can be written to memory as JSON");
}
