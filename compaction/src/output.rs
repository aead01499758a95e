//! Where a group of segments is copied to: nowhere, until something of it changes.
//!
//! A group of several segments becomes one in any case. Of a single segment, what lies before the first change is copied
//! when that is met; without one the segment stays as it is, and nothing was written.

use std::path::Path;
use std::sync::Arc;

use strandline_log::record::BatchHeader;
use strandline_log::segment::{CleanedSegment, LogSegment};
use strandline_log::txn_index::AbortedTxn;

use crate::batch_reader::BatchReader;
use crate::cleaner::{CleanError, Pace};

pub(crate) struct Output<'a> {
    group: &'a [Arc<LogSegment>],
    index_interval_bytes: u32,
    io_buffer_bytes: usize,
    pub cleaned: Option<CleanedSegment>,
    /// Whose markers stay, in the markers' order.
    pub aborted: Vec<AbortedTxn>,
}

impl<'a> Output<'a> {
    pub fn new(
        group: &'a [Arc<LogSegment>],
        index_interval_bytes: u32,
        io_buffer_bytes: usize,
    ) -> Self {
        Self {
            group,
            index_interval_bytes,
            io_buffer_bytes,
            cleaned: None,
            aborted: Vec::new(),
        }
    }

    /// The batch stays as it is.
    pub fn keep(&mut self, header: &BatchHeader, bytes: &[u8]) -> Result<(), CleanError> {
        if self.cleaned.is_none() && self.group.len() > 1 {
            self.cleaned = Some(self.create()?);
        }
        if let Some(cleaned) = &mut self.cleaned {
            cleaned.append(header, bytes)?;
        }
        Ok(())
    }

    /// The batch at `position` does not stay as it is: from here on, what stays is written.
    pub fn change(
        &mut self,
        position: u64,
        pace: &mut Pace<'_>,
    ) -> Result<&mut CleanedSegment, CleanError> {
        let cleaned = match self.cleaned.take() {
            Some(cleaned) => cleaned,
            None => {
                let mut cleaned = self.create()?;
                match self.copy_up_to(position, &mut cleaned, pace) {
                    Ok(()) => cleaned,
                    Err(e) => {
                        cleaned.abandon();
                        return Err(e);
                    }
                }
            }
        };
        Ok(self.cleaned.insert(cleaned))
    }

    fn create(&self) -> Result<CleanedSegment, CleanError> {
        let first = &self.group[0];
        let path = first.path();
        let dir: Arc<Path> = path.parent().unwrap_or_else(|| Path::new(".")).into();
        Ok(CleanedSegment::create(
            dir,
            first.base_offset(),
            self.index_interval_bytes,
        )?)
    }

    /// Copies what was passed over of a single segment. Of a group of several, nothing ever is.
    fn copy_up_to(
        &self,
        position: u64,
        cleaned: &mut CleanedSegment,
        pace: &mut Pace<'_>,
    ) -> Result<(), CleanError> {
        let [only] = self.group else {
            return Ok(());
        };
        let mut reader = BatchReader::new(only, 0, self.io_buffer_bytes)?;
        while let Some(batch) = reader.next_batch()? {
            if batch.position >= position {
                break;
            }
            cleaned.append(&batch.header, batch.bytes)?;
            pace.add(2 * batch.bytes.len() as u64)?;
        }
        Ok(())
    }
}
