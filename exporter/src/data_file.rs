//! One Parquet file while it is written: to a temporary file, one row group in memory.
//!
//! zstd, row groups bounded in rows and bytes. Offsets and timestamps are delta-encoded and have statistics per page, so
//! that readers skip by them; other columns have statistics per row group.

use std::fs::File;

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::ColumnPath;
use strandline_log::Offset;

use crate::error::WriteError;
use crate::request::ExportLimits;
use crate::target::{Spool, SpoolFile};

/// A level beyond which zstd gets much slower for little.
const ZSTD_LEVEL: i32 = 3;

pub struct DataFile {
    writer: ArrowWriter<File>,
    spool: SpoolFile,
    schema: SchemaRef,
    start: Offset,
    /// Behind the last row.
    end: Offset,
    records: u64,
}

/// A complete file that is not in its place yet.
#[derive(Debug)]
pub struct FinishedFile {
    pub spool: SpoolFile,
    pub rejects: bool,
    pub partition: i32,
    pub start: Offset,
    /// Exclusive.
    pub end: Offset,
    pub records: u64,
    pub bytes: u64,
}

impl DataFile {
    pub fn create(
        spool: &Spool,
        schema: SchemaRef,
        start: Offset,
        limits: &ExportLimits,
    ) -> Result<Self, WriteError> {
        let spool = spool.create()?;
        let writer = ArrowWriter::try_new(
            spool.file()?,
            SchemaRef::clone(&schema),
            Some(properties(limits)?),
        )?;
        Ok(Self {
            writer,
            spool,
            schema,
            start,
            end: start,
            records: 0,
        })
    }

    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Rows that begin behind those before; `end` is behind the last.
    pub fn write(&mut self, batch: &RecordBatch, end: Offset) -> Result<(), WriteError> {
        self.writer.write(batch)?;
        self.records += batch.num_rows() as u64;
        self.end = end;
        Ok(())
    }

    /// What the file would take if it ended now, about.
    pub fn bytes(&self) -> u64 {
        (self.writer.bytes_written() + self.writer.in_progress_size()) as u64
    }

    /// `provenance` goes into the file's footer, so that a file that was moved still says where it is from.
    pub fn finish(
        mut self,
        partition: i32,
        provenance: &[(&str, String)],
    ) -> Result<FinishedFile, WriteError> {
        let offsets = ("strandline.offsets", format!("{}-{}", self.start, self.end));
        for (key, value) in provenance.iter().chain([&offsets]) {
            self.writer
                .append_key_value_metadata(KeyValue::new((*key).to_owned(), value.clone()));
        }
        self.writer.close()?;
        Ok(FinishedFile {
            bytes: self.spool.bytes()?,
            spool: self.spool,
            rejects: false,
            partition,
            start: self.start,
            end: self.end,
            records: self.records,
        })
    }
}

fn properties(limits: &ExportLimits) -> Result<WriterProperties, WriteError> {
    let mut properties = WriterProperties::builder()
        .set_created_by(format!("strandline {}", env!("CARGO_PKG_VERSION")))
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(ZSTD_LEVEL)?))
        .set_max_row_group_row_count(Some(limits.row_group_rows_max.max(1)))
        .set_max_row_group_bytes(Some(limits.row_group_bytes_max.max(1)))
        .set_statistics_enabled(EnabledStatistics::Chunk);
    for name in ["offset", "timestamp"] {
        let column = ColumnPath::from(name);
        properties = properties
            .set_column_statistics_enabled(column.clone(), EnabledStatistics::Page)
            .set_column_dictionary_enabled(column.clone(), false)
            .set_column_encoding(column, Encoding::DELTA_BINARY_PACKED);
    }
    Ok(properties.build())
}
