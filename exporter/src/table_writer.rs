//! Turns chunks of the log into files: blocking work, driven by the run.
//!
//! Rows are gathered, then encoded into the partition's current file. A file ends at its size limit, when the table's
//! columns change, at a commit and at the partition's end.

use std::sync::Arc;

use strandline_log::Offset;
use strandline_log::record::{Batch, DecodeLimit, batches_of};

use crate::data_file::{DataFile, FinishedFile};
use crate::error::WriteError;
use crate::rejects::RejectsFile;
use crate::request::{ExportLimits, TableFormat};
use crate::rows::{Pushed, RowBuilder};
use crate::schema::TableSchema;
use crate::source::Chunk;
use crate::target::Spool;

/// Since they were taken last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub records: u64,
    pub rejects: u64,
    pub aborted: u64,
}

pub struct TableWriter {
    topic: Arc<str>,
    format: TableFormat,
    limits: ExportLimits,
    spool: Spool,
    provenance: Vec<(&'static str, String)>,
    schema: TableSchema,
    partition: i32,
    rows: RowBuilder,
    /// Offsets below are done: none may come twice.
    next: Offset,
    file: Option<DataFile>,
    rejects: Option<RejectsFile>,
    finished: Vec<FinishedFile>,
    counts: Counts,
}

impl TableWriter {
    pub fn new(
        topic: &str,
        format: TableFormat,
        schema: TableSchema,
        limits: ExportLimits,
        spool: Spool,
        provenance: Vec<(&'static str, String)>,
    ) -> Self {
        let topic: Arc<str> = topic.into();
        Self {
            rows: RowBuilder::new(Arc::clone(&topic), 0, format),
            topic,
            format,
            limits,
            spool,
            provenance,
            schema,
            partition: 0,
            next: 0,
            file: None,
            rejects: None,
            finished: Vec::new(),
            counts: Counts::default(),
        }
    }

    pub fn schema(&self) -> &TableSchema {
        &self.schema
    }

    /// Files of the partition before must have been ended.
    pub fn begin_partition(&mut self, partition: i32) {
        self.partition = partition;
        self.next = 0;
        self.rows = RowBuilder::new(Arc::clone(&self.topic), partition, self.format);
    }

    pub fn take_finished(&mut self) -> Vec<FinishedFile> {
        std::mem::take(&mut self.finished)
    }

    pub fn take_counts(&mut self) -> Counts {
        std::mem::take(&mut self.counts)
    }

    pub fn write(&mut self, chunk: &Chunk) -> Result<(), WriteError> {
        self.next = self.next.max(chunk.from);
        for batch in batches_of(chunk.bytes.clone()) {
            // The chunk holds whole batches: their headers were read when it was cut.
            let Ok(batch) = batch else { break };
            self.write_batch(&batch, chunk)?;
        }
        Ok(())
    }

    fn write_batch(&mut self, batch: &Batch, chunk: &Chunk) -> Result<(), WriteError> {
        let header = &batch.header;
        if header.is_control() || header.last_offset() < self.next || header.base_offset >= chunk.to
        {
            return Ok(());
        }
        if chunk.aborted.hides(header) {
            self.counts.aborted += u64::try_from(header.records_count).unwrap_or(0);
            return Ok(());
        }
        let limit = DecodeLimit::bytes(self.limits.decode_bytes_max);
        let records = match batch.records(limit) {
            Ok(records) => records,
            Err(error) => return self.reject_batch(batch, &error.to_string()),
        };
        for record in records {
            let record = match record {
                Ok(record) => record,
                Err(error) => return self.reject_batch(batch, &error.to_string()),
            };
            if record.offset < chunk.from {
                continue;
            }
            if record.offset >= chunk.to {
                break;
            }
            if record.offset < self.next || record.offset > header.last_offset() {
                return self
                    .reject_batch(batch, "its offsets do not rise within the batch's range");
            }
            let mut pushed = self.rows.push(&record, &mut self.schema);
            if pushed == Pushed::FlushFirst {
                self.flush_rows()?;
                pushed = self.rows.push(&record, &mut self.schema);
            }
            match pushed {
                Pushed::Row => self.counts.records += 1,
                Pushed::Reject(cause) => {
                    self.counts.rejects += 1;
                    self.rejects_from(record.offset)?.record(&record, &cause)?;
                }
                Pushed::FlushFirst => unreachable!("nothing is gathered that could be lost"),
            }
            self.next = record.offset + 1;
            if self.rows.rows() >= self.limits.gather_rows_max
                || self.rows.bytes() >= self.limits.gather_bytes_max
            {
                self.flush_rows()?;
            }
        }
        Ok(())
    }

    /// What is left of a batch that cannot be read.
    fn reject_batch(&mut self, batch: &Batch, cause: &str) -> Result<(), WriteError> {
        let offset = self.next.max(batch.header.base_offset);
        if offset > batch.header.last_offset() {
            return Ok(());
        }
        let cause = format!("the batch cannot be read from this offset on: {cause}");
        self.counts.rejects += 1;
        self.rejects_from(offset)?.batch(batch, offset, &cause)?;
        self.next = batch.header.next_offset();
        Ok(())
    }

    fn rejects_from(&mut self, offset: Offset) -> Result<&mut RejectsFile, WriteError> {
        if let Some(full) = self
            .rejects
            .take_if(|rejects| rejects.bytes() >= self.limits.file_bytes_max)
        {
            self.finished.push(full.finish()?);
        }
        match &mut self.rejects {
            Some(rejects) => Ok(rejects),
            none => Ok(none.insert(RejectsFile::create(&self.spool, self.partition, offset)?)),
        }
    }

    fn flush_rows(&mut self) -> Result<(), WriteError> {
        let Some((first, last)) = self.rows.offsets() else {
            return Ok(());
        };
        let batch = self.rows.finish(&self.schema)?;
        if let Some(other) = self.file.take_if(|file| *file.schema() != batch.schema()) {
            self.finish(other)?;
        }
        let file = match &mut self.file {
            Some(file) => file,
            none => none.insert(DataFile::create(
                &self.spool,
                batch.schema(),
                first,
                &self.limits,
            )?),
        };
        file.write(&batch, last + 1)?;
        if let Some(full) = self
            .file
            .take_if(|file| file.bytes() >= self.limits.file_bytes_max)
        {
            self.finish(full)?;
        }
        Ok(())
    }

    fn finish(&mut self, file: DataFile) -> Result<(), WriteError> {
        self.finished
            .push(file.finish(self.partition, &self.provenance)?);
        Ok(())
    }

    /// Ends the partition's files: at a commit and at the partition's end.
    pub fn end_files(&mut self) -> Result<(), WriteError> {
        self.flush_rows()?;
        if let Some(file) = self.file.take() {
            self.finish(file)?;
        }
        if let Some(rejects) = self.rejects.take() {
            self.finished.push(rejects.finish()?);
        }
        Ok(())
    }
}
