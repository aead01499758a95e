//! What is ready for upload: ranges of sealed segments that are safe on disk.

use super::{Log, ReadError, SealedRange};
use crate::file_slice::FileSlice;
use crate::log_error::LogError;
use crate::segments::floor;
use crate::types::Offset;

impl Log {
    /// The log from `from`, which must be a batch's first offset, to the end of that sealed segment. `None` when it is
    /// the active segment's, or when the segment ends above `below` (the high watermark or the last stable offset).
    /// A segment that is not synced yet is synced here first, by the caller's thread.
    pub fn sealed_range(
        &self,
        from: Offset,
        below: Offset,
    ) -> Result<Option<SealedRange>, LogError> {
        let segments = self.segments.snapshot();
        let Some(first) = floor(&segments, from) else {
            return Err(LogError::BelowLocal {
                offset: from,
                local_start: segments[0].base_offset(),
            });
        };
        // Sealed segments without records are passed over.
        for segment in &segments[first..segments.len() - 1] {
            let end = segment.next_offset();
            if end > below {
                return Ok(None);
            }
            if end <= from || segment.size() == 0 {
                continue;
            }
            let size = segment.size();
            let start = from.max(segment.base_offset());
            let Some(position) = self
                .start_position(segment, start, size)
                .map_err(read_error)?
                .filter(|position| *position < size)
            else {
                continue;
            };
            if self.recovery_point() < end {
                self.flush_sealed()?;
            }
            return Ok(Some(SealedRange {
                start,
                end,
                slices: vec![FileSlice {
                    file: segment.file()?,
                    position,
                    len: (size - position) as usize,
                }],
                bytes: size - position,
                max_timestamp: segment.max_timestamp()?.timestamp,
                segment_base_offset: segment.base_offset(),
            }));
        }
        Ok(None)
    }
}

fn read_error(e: ReadError) -> LogError {
    match e {
        ReadError::Storage(e) => e,
        ReadError::OutOfRange {
            offset,
            log_start,
            log_end,
        } => LogError::OutOfRange {
            offset,
            log_start,
            log_end,
        },
        ReadError::BelowLocal { local_start } => LogError::BelowLocal {
            offset: local_start,
            local_start,
        },
    }
}
