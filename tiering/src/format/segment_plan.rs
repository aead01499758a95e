//! Plans the object for a range of a local log: one pass over the bytes makes indexes, checksums and footer; then the
//! body can be streamed, any number of times, in bounded memory.
//!
//! Always holds: every batch's own CRC was checked, and what is streamed later is checked against the plan, so a
//! damaged disk never becomes a good-looking object. Blocking: it reads files.

use std::io;
use std::os::unix::fs::FileExt;

use bytes::Bytes;
use strandline_log::record::{BATCH_HEADER_LEN, BatchHeader};
use strandline_log::{FileSlice, Offset, TimestampMs};

use super::object_key::PartitionKey;
use super::segment_index::{AbortedTxn, EpochEntry, IndexBuilder};
use super::segment_object::{CHUNK_BYTES_DEFAULT, SegmentFooter, SegmentTail};
use crate::fence::Fence;
use crate::manifest::{ManifestEntry, ObjectRef};

/// A batch's CRC covers what follows it: from the attributes on.
const CRC_COVERS_FROM: usize = 21;
/// Index density that suits chunks of this size; local logs use a finer one.
pub const INDEX_INTERVAL_BYTES_DEFAULT: u64 = 32 << 10;

/// What the log knows of a range beside its bytes.
#[derive(Clone, Debug)]
pub struct SegmentMeta {
    pub partition: PartitionKey,
    /// The manifest's end; the first batch holds it.
    pub start: Offset,
    /// Exclusive: behind the last batch.
    pub end: Offset,
    pub fence: Fence,
    pub created_ms: TimestampMs,
    /// All that overlap the range, wherever their markers lie.
    pub aborted_txns: Vec<AbortedTxn>,
    pub leader_epochs: Vec<EpochEntry>,
    /// At `end`; empty when the log has none.
    pub producer_snapshot: Bytes,
    pub index_interval_bytes: u64,
    pub chunk_bytes: u32,
}

impl SegmentMeta {
    /// With the default densities and nothing beside the bytes.
    pub fn new(partition: PartitionKey, start: Offset, end: Offset, fence: Fence) -> Self {
        Self {
            partition,
            start,
            end,
            fence,
            created_ms: strandline_log::NO_TIMESTAMP,
            aborted_txns: Vec::new(),
            leader_epochs: Vec::new(),
            producer_snapshot: Bytes::new(),
            index_interval_bytes: INDEX_INTERVAL_BYTES_DEFAULT,
            chunk_bytes: CHUNK_BYTES_DEFAULT,
        }
    }
}

/// Why a range cannot be uploaded.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    #[error("reading the local log failed: {0}")]
    Io(#[from] io::Error),
    #[error("the batch at position {position} of the range is damaged: {why}")]
    DamagedBatch { position: u64, why: String },
    #[error("the range's bytes do not hold offsets {start} to {end}: {why}")]
    WrongRange {
        start: Offset,
        end: Offset,
        why: String,
    },
    #[error("the local log changed while it was uploaded: bytes from position {position} differ")]
    Changed { position: u64 },
}

/// A segment object that is ready to be streamed.
#[derive(Clone, Debug)]
pub struct SegmentObjectPlan {
    slices: Vec<FileSlice>,
    tail: SegmentTail,
    tail_bytes: Bytes,
    footer_crc: u32,
}

impl SegmentObjectPlan {
    /// Reads the slices once.
    pub fn compute(slices: Vec<FileSlice>, meta: SegmentMeta) -> Result<Self, PlanError> {
        let chunk_bytes = meta.chunk_bytes.max(1);
        let mut scanner = BatchScanner::new(&meta);
        let mut chunk_crcs = Vec::new();
        let mut log_bytes = 0;
        for chunk in Chunks::new(slices.clone(), chunk_bytes as usize) {
            let chunk = chunk?;
            chunk_crcs.push(crc32c::crc32c(&chunk));
            log_bytes += chunk.len() as u64;
            scanner.feed(&chunk)?;
        }
        let max_timestamp = scanner.check_end()?;
        let mut indexes = scanner.index.finish();
        indexes.aborted_txns = meta.aborted_txns;
        indexes.leader_epochs = meta.leader_epochs;
        indexes.producer_snapshot = meta.producer_snapshot;
        let footer = SegmentFooter {
            partition: meta.partition,
            start: meta.start,
            end: meta.end,
            max_timestamp,
            fence: meta.fence,
            created_ms: meta.created_ms,
            log_bytes,
            chunk_bytes,
            chunk_crcs,
            sections: Vec::new(),
        };
        let (tail, tail_bytes) = SegmentTail::encode(footer, indexes);
        let footer_crc = footer_crc(&tail_bytes);
        Ok(Self {
            slices,
            tail,
            tail_bytes,
            footer_crc,
        })
    }

    pub fn footer(&self) -> &SegmentFooter {
        &self.tail.footer
    }

    /// What a reader would decode: a cache may keep it and spare the first GET.
    pub fn tail(&self) -> &SegmentTail {
        &self.tail
    }

    /// Index section and footer as they are sent.
    pub fn tail_bytes(&self) -> &Bytes {
        &self.tail_bytes
    }

    pub fn object_bytes(&self) -> u64 {
        self.tail.footer.log_bytes + self.tail_bytes.len() as u64
    }

    /// Of the whole object, put together from what is known of its parts.
    pub fn object_crc32c(&self) -> u32 {
        let footer = self.footer();
        let log = (0..).zip(&footer.chunk_crcs).fold(0, |crc, (i, chunk)| {
            let range = footer.chunk_range(i);
            crc32c::crc32c_combine(crc, *chunk, (range.end - range.start) as usize)
        });
        let tail = crc32c::crc32c(&self.tail_bytes);
        crc32c::crc32c_combine(log, tail, self.tail_bytes.len())
    }

    /// Ties a manifest entry to this very content.
    pub fn footer_crc(&self) -> u32 {
        self.footer_crc
    }

    /// What the manifest will say of it. `counter` is the manifest's generation when the upload began; together with
    /// `random` it makes the object's name.
    pub fn entry(&self, counter: u64, random: u64) -> ManifestEntry {
        let footer = self.footer();
        ManifestEntry {
            start: footer.start,
            end: footer.end,
            object: ObjectRef::Segment { counter, random },
            bytes: self.object_bytes(),
            log_bytes: footer.log_bytes,
            max_timestamp: footer.max_timestamp,
            has_aborted: !self.tail.indexes.aborted_txns.is_empty(),
            damaged: false,
            fence: footer.fence,
            footer_crc: self.footer_crc,
        }
    }

    /// The object's bytes in order, a chunk at a time, checked against the plan.
    pub fn body(&self) -> impl Iterator<Item = Result<Bytes, PlanError>> + Send + use<> {
        let footer = self.tail.footer.clone();
        let tail = self.tail_bytes.clone();
        let chunks = Chunks::new(self.slices.clone(), footer.chunk_bytes as usize);
        chunks
            .enumerate()
            .map(move |(i, chunk)| {
                let chunk = chunk?;
                if footer.verify_chunks(i as u32, &chunk).is_err() {
                    let position = footer.chunk_range(i as u32).start;
                    return Err(PlanError::Changed { position });
                }
                Ok(chunk)
            })
            .chain(std::iter::once(Ok(tail)))
    }
}

/// The checksum field of an encoded footer: the second last four bytes.
pub(crate) fn footer_crc(tail: &[u8]) -> u32 {
    let mut crc = [0; 4];
    crc.copy_from_slice(&tail[tail.len() - 8..tail.len() - 4]);
    u32::from_be_bytes(crc)
}

/// Reads slices as one stream, cut at equal sizes.
struct Chunks {
    slices: std::vec::IntoIter<FileSlice>,
    current: Option<(FileSlice, usize)>,
    chunk_bytes: usize,
}

impl Chunks {
    fn new(slices: Vec<FileSlice>, chunk_bytes: usize) -> Self {
        Self {
            slices: slices.into_iter(),
            current: None,
            chunk_bytes,
        }
    }

    fn read(&mut self) -> io::Result<Bytes> {
        let mut chunk = Vec::with_capacity(self.chunk_bytes);
        while chunk.len() < self.chunk_bytes {
            let Some((slice, done)) = &mut self.current else {
                match self.slices.next() {
                    Some(slice) => self.current = Some((slice, 0)),
                    None => break,
                }
                continue;
            };
            let take = (slice.len - *done).min(self.chunk_bytes - chunk.len());
            let filled = chunk.len();
            chunk.resize(filled + take, 0);
            slice
                .file
                .read_exact_at(&mut chunk[filled..], slice.position + *done as u64)?;
            *done += take;
            if *done == slice.len {
                self.current = None;
            }
        }
        Ok(chunk.into())
    }
}

impl Iterator for Chunks {
    type Item = io::Result<Bytes>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.read() {
            Ok(chunk) if chunk.is_empty() => None,
            other => Some(other),
        }
    }
}

/// Finds the batches in a stream of bytes and checks each, whatever the cuts between chunks.
struct BatchScanner {
    start: Offset,
    end: Offset,
    interval: u64,
    index: IndexBuilder,
    position: u64,
    /// Where the batch that is being read began.
    batch_position: u64,
    header: Vec<u8>,
    current: Option<Current>,
    next_offset: Option<Offset>,
    max_timestamp: TimestampMs,
}

struct Current {
    expected_crc: u32,
    crc: u32,
    left: usize,
}

impl BatchScanner {
    fn new(meta: &SegmentMeta) -> Self {
        Self {
            start: meta.start,
            end: meta.end,
            interval: meta.index_interval_bytes,
            index: IndexBuilder::default(),
            position: 0,
            batch_position: 0,
            header: Vec::with_capacity(BATCH_HEADER_LEN),
            current: None,
            next_offset: None,
            max_timestamp: strandline_log::NO_TIMESTAMP,
        }
    }

    fn feed(&mut self, mut bytes: &[u8]) -> Result<(), PlanError> {
        while !bytes.is_empty() {
            let used = match &mut self.current {
                Some(batch) => {
                    let take = batch.left.min(bytes.len());
                    batch.crc = crc32c::crc32c_append(batch.crc, &bytes[..take]);
                    batch.left -= take;
                    take
                }
                None => {
                    if self.header.is_empty() {
                        self.batch_position = self.position;
                    }
                    let take = (BATCH_HEADER_LEN - self.header.len()).min(bytes.len());
                    self.header.extend_from_slice(&bytes[..take]);
                    if self.header.len() == BATCH_HEADER_LEN {
                        self.begin_batch()?;
                    }
                    take
                }
            };
            bytes = &bytes[used..];
            self.position += used as u64;
            if let Some(batch) = &self.current
                && batch.left == 0
            {
                if batch.crc != batch.expected_crc {
                    return Err(PlanError::DamagedBatch {
                        position: self.batch_position,
                        why: "its CRC does not match".to_owned(),
                    });
                }
                self.current = None;
            }
        }
        Ok(())
    }

    fn begin_batch(&mut self) -> Result<(), PlanError> {
        let position = self.batch_position;
        let damaged = |why: &str| PlanError::DamagedBatch {
            position,
            why: why.to_owned(),
        };
        let header = BatchHeader::parse(&self.header).map_err(|e| damaged(&e.to_string()))?;
        if header.last_offset_delta < 0 || header.base_offset < 0 {
            return Err(damaged("its offsets are negative"));
        }
        match self.next_offset {
            None if header.base_offset > self.start || header.next_offset() <= self.start => {
                return Err(self.wrong_range("the first batch does not hold the start"));
            }
            Some(next) if header.base_offset < next => {
                return Err(damaged("its offsets go backwards"));
            }
            _ => {}
        }
        self.next_offset = Some(header.next_offset());
        self.max_timestamp = self.max_timestamp.max(header.max_timestamp);
        self.index.batch(
            header.base_offset,
            position,
            header.max_timestamp,
            self.interval,
        );
        self.current = Some(Current {
            expected_crc: header.crc,
            crc: crc32c::crc32c(&self.header[CRC_COVERS_FROM..]),
            left: header.size() - BATCH_HEADER_LEN,
        });
        self.header.clear();
        Ok(())
    }

    /// The largest timestamp, once the bytes held exactly the range.
    fn check_end(&self) -> Result<TimestampMs, PlanError> {
        if self.current.is_some() || !self.header.is_empty() {
            return Err(self.wrong_range("they end within a batch"));
        }
        // A log may have lost its last offsets to compaction or to a control batch's removal, never gained some.
        match self.next_offset {
            None => Err(self.wrong_range("there are none")),
            Some(next) if next > self.end => Err(self.wrong_range("they go on behind the end")),
            Some(_) => Ok(self.max_timestamp),
        }
    }

    fn wrong_range(&self, why: &str) -> PlanError {
        PlanError::WrongRange {
            start: self.start,
            end: self.end,
            why: why.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests;
