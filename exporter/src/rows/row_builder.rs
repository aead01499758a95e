//! Gathers rows and hands them out as one Arrow batch.
//!
//! Everything is copied out of the records, so that no row keeps a whole chunk of the log in memory.

use std::sync::Arc;

use arrow_array::builder::{
    BinaryBuilder, Int64Builder, ListBuilder, StringBuilder, StructBuilder,
    TimestampMillisecondBuilder,
};
use arrow_array::{ArrayRef, DictionaryArray, Int32Array, RecordBatch, StringArray};
use arrow_schema::{ArrowError, DataType, Field, Fields, Schema, SchemaRef, TimeUnit};
use strandline_log::record::Record;
use strandline_log::{NO_TIMESTAMP, Offset};

use super::columns::ColumnValues;
use super::document::Document;
use crate::request::{KeyFormat, TableFormat, ValueFormat};
use crate::schema::{Change, TableSchema};

const TIME_ZONE: &str = "UTC";
/// What a row takes beside its key, headers and value.
const ROW_BYTES: usize = 32;

/// What became of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pushed {
    Row,
    /// It widens a column whose gathered integers no double holds: take the batch, then push it again.
    FlushFirst,
    /// It is no row of this table, and why.
    Reject(String),
}

#[derive(Debug)]
enum Keys {
    Binary(BinaryBuilder),
    Text(StringBuilder),
}

#[derive(Debug)]
enum RowValues {
    Raw(BinaryBuilder),
    /// By the schema's columns.
    Json(Vec<ColumnValues>),
}

#[derive(Debug)]
pub struct RowBuilder {
    topic: Arc<str>,
    partition: i32,
    format: TableFormat,
    rows: usize,
    bytes: usize,
    offsets: Int64Builder,
    timestamps: TimestampMillisecondBuilder,
    keys: Keys,
    headers: ListBuilder<StructBuilder>,
    values: RowValues,
}

impl RowBuilder {
    pub fn new(topic: Arc<str>, partition: i32, format: TableFormat) -> Self {
        let headers = StructBuilder::new(
            header_fields(),
            vec![
                Box::new(StringBuilder::new()),
                Box::new(BinaryBuilder::new()),
            ],
        );
        Self {
            topic,
            partition,
            format,
            rows: 0,
            bytes: 0,
            offsets: Int64Builder::new(),
            timestamps: TimestampMillisecondBuilder::new().with_timezone(TIME_ZONE),
            keys: match format.key {
                KeyFormat::Binary => Keys::Binary(BinaryBuilder::new()),
                KeyFormat::String => Keys::Text(StringBuilder::new()),
            },
            headers: ListBuilder::new(headers).with_field(header_field()),
            values: match format.value {
                ValueFormat::Raw => RowValues::Raw(BinaryBuilder::new()),
                ValueFormat::Json => RowValues::Json(Vec::new()),
            },
        }
    }

    pub fn rows(&self) -> usize {
        self.rows
    }

    /// What the gathered rows take, about.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Adds a record as a row, and to the schema what it brings. Nothing changes unless it becomes a row.
    pub fn push(&mut self, record: &Record, schema: &mut TableSchema) -> Pushed {
        let key = record.key.as_deref();
        if self.format.key == KeyFormat::String
            && let Some(Err(error)) = key.map(std::str::from_utf8)
        {
            return Pushed::Reject(format!("the key is no UTF-8: {error}"));
        }
        if let RowValues::Json(columns) = &mut self.values {
            // A tombstone is a row of nulls.
            let document = match record.value.as_deref().map(Document::parse) {
                None => Document::default(),
                Some(Ok(document)) => document,
                Some(Err(error)) => return Pushed::Reject(format!("the value: {error}")),
            };
            let changes = match schema.check(&document) {
                Ok(changes) => changes,
                Err(conflict) => return Pushed::Reject(conflict.to_string()),
            };
            let loses = |change: &Change| match change {
                Change::Widen { column } => columns
                    .get(*column)
                    .is_some_and(ColumnValues::loses_by_widening),
                _ => false,
            };
            if changes.iter().any(loses) {
                return Pushed::FlushFirst;
            }
            for change in &changes {
                schema.apply(change);
            }
            columns.resize_with(schema.columns().len(), ColumnValues::default);
            for (field, cell) in document.into_fields() {
                let column = schema
                    .column_of(&field)
                    .expect("its column was added above");
                let column_type = schema.columns()[column].column_type;
                self.bytes += columns[column].append(self.rows, column_type, cell);
            }
        }
        self.push_record(record);
        Pushed::Row
    }

    fn push_record(&mut self, record: &Record) {
        self.offsets.append_value(record.offset);
        self.timestamps
            .append_option(Some(record.timestamp).filter(|ms| *ms != NO_TIMESTAMP));
        let key = record.key.as_deref();
        match &mut self.keys {
            Keys::Binary(b) => b.append_option(key),
            Keys::Text(b) => b.append_option(key.map(String::from_utf8_lossy)),
        }
        self.bytes += ROW_BYTES + key.map_or(0, <[u8]>::len);
        if let RowValues::Raw(b) = &mut self.values {
            b.append_option(record.value.as_deref());
            self.bytes += record.value.as_ref().map_or(0, |value| value.len());
        }
        for header in &record.headers {
            let entry = self.headers.values();
            entry
                .field_builder::<StringBuilder>(0)
                .expect("the first field is text")
                .append_value(header.key_text());
            entry
                .field_builder::<BinaryBuilder>(1)
                .expect("the second field is binary")
                .append_option(header.value.as_deref());
            entry.append(true);
            self.bytes += header.key.len() + header.value.as_ref().map_or(0, |v| v.len()) + 16;
        }
        self.headers.append(true);
        self.rows += 1;
    }

    /// The first and the last row's offsets.
    pub fn offsets(&self) -> Option<(Offset, Offset)> {
        let offsets = self.offsets.values_slice();
        Some((*offsets.first()?, *offsets.last()?))
    }

    /// All gathered rows, in the schema of [`file_schema`]. The builder is empty afterwards.
    pub fn finish(&mut self, schema: &TableSchema) -> Result<RecordBatch, ArrowError> {
        let rows = std::mem::take(&mut self.rows);
        self.bytes = 0;
        let topics = DictionaryArray::try_new(
            Int32Array::from(vec![0; rows]),
            Arc::new(StringArray::from(vec![&*self.topic])),
        )?;
        let keys: ArrayRef = match &mut self.keys {
            Keys::Binary(b) => Arc::new(b.finish()),
            Keys::Text(b) => Arc::new(b.finish()),
        };
        let mut arrays: Vec<ArrayRef> = vec![
            Arc::new(topics),
            Arc::new(Int32Array::from(vec![self.partition; rows])),
            Arc::new(self.offsets.finish()),
            Arc::new(self.timestamps.finish()),
            keys,
        ];
        match &mut self.values {
            RowValues::Raw(b) => {
                arrays.push(Arc::new(b.finish()));
                arrays.push(Arc::new(self.headers.finish()));
            }
            RowValues::Json(values) => {
                arrays.push(Arc::new(self.headers.finish()));
                values.resize_with(schema.columns().len(), ColumnValues::default);
                for (values, column) in values.iter_mut().zip(schema.columns()) {
                    if column.column_type.data_type().is_some() {
                        arrays.push(values.finish(rows, column.column_type));
                    }
                }
            }
        }
        RecordBatch::try_new(file_schema(self.format, schema), arrays)
    }
}

fn header_fields() -> Fields {
    Fields::from(vec![
        Field::new("key", DataType::Utf8, false),
        Field::new("value", DataType::Binary, true),
    ])
}

fn header_field() -> Field {
    Field::new("element", DataType::Struct(header_fields()), false)
}

/// The columns of a table's files as its schema now is.
pub fn file_schema(format: TableFormat, schema: &TableSchema) -> SchemaRef {
    let topic = DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8));
    let timestamp = DataType::Timestamp(TimeUnit::Millisecond, Some(TIME_ZONE.into()));
    let key = match format.key {
        KeyFormat::Binary => DataType::Binary,
        KeyFormat::String => DataType::Utf8,
    };
    let headers = Field::new("headers", DataType::List(Arc::new(header_field())), false);
    let mut fields = vec![
        Field::new("topic", topic, false),
        Field::new("partition", DataType::Int32, false),
        Field::new("offset", DataType::Int64, false),
        Field::new("timestamp", timestamp, true),
        Field::new("key", key, true),
    ];
    match format.value {
        ValueFormat::Raw => {
            fields.push(Field::new("value", DataType::Binary, true));
            fields.push(headers);
        }
        ValueFormat::Json => {
            fields.push(headers);
            fields.extend(schema.columns().iter().filter_map(|column| {
                let data_type = column.column_type.data_type()?;
                Some(Field::new(&column.name, data_type, true))
            }));
        }
    }
    Arc::new(Schema::new(fields))
}
