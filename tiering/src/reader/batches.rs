//! Finds batches in a span of chunks, and where a read of whole batches begins and ends. Reads headers only.

use std::io;
use std::ops::Range;

use bytes::Bytes;
use strandline_log::Offset;
use strandline_log::record::{BATCH_HEADER_LEN, BatchError, BatchHeader};

use super::span::Span;
use crate::format::SegmentIndexes;

/// Headers are looked for in steps of this: about as far apart as indexed batches are.
const WINDOW_BYTES: usize = 32 << 10;

#[derive(Debug, thiserror::Error)]
pub enum BatchesError {
    #[error("reading a cached chunk failed: {0}")]
    Io(#[from] io::Error),
    #[error("no batch at position {position}: {source}")]
    Malformed { position: u64, source: BatchError },
}

/// What a search came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found<T> {
    Here(T),
    /// The span must reach up to here for an answer.
    NeedsUpTo(u64),
    /// The segment's log bytes end before.
    Nowhere,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchPlace {
    pub position: u64,
    pub header: BatchHeader,
}

impl BatchPlace {
    pub fn end(&self) -> u64 {
        self.position + self.header.size() as u64
    }
}

/// The first batch from `position` on that is `wanted`. `position` must be where a batch begins.
pub fn find_batch(
    span: &Span,
    mut position: u64,
    log_bytes: u64,
    mut wanted: impl FnMut(&BatchHeader) -> bool,
) -> Result<Found<BatchPlace>, BatchesError> {
    let mut window = vec![0; WINDOW_BYTES];
    let mut window_start = position;
    let mut window_len = 0;
    loop {
        if position >= log_bytes {
            return Ok(Found::Nowhere);
        }
        let header_end = position + BATCH_HEADER_LEN as u64;
        if header_end > window_start + window_len as u64 {
            window_start = position;
            window_len = span.read_at(position, &mut window)?;
            if window_len < BATCH_HEADER_LEN {
                return Ok(Found::NeedsUpTo(header_end));
            }
        }
        let at = (position - window_start) as usize;
        let header = BatchHeader::parse(&window[at..at + BATCH_HEADER_LEN])
            .map_err(|source| BatchesError::Malformed { position, source })?;
        if wanted(&header) {
            return Ok(Found::Here(BatchPlace { position, header }));
        }
        position += header.size() as u64;
    }
}

/// A read of whole batches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchRange {
    pub positions: Range<u64>,
    /// `None`: up to the segment's end.
    pub end_bound: Option<Offset>,
}

/// The batches from the one that holds `from` on: about `bytes_max`, as far as the span goes, at least one.
pub fn plan_read(
    span: &Span,
    indexes: &SegmentIndexes,
    log_bytes: u64,
    from: Offset,
    bytes_max: u64,
) -> Result<Found<BatchRange>, BatchesError> {
    let floor = indexes.position_for(from);
    let first = match find_batch(span, floor.position, log_bytes, |header| {
        header.last_offset() >= from
    })? {
        Found::Here(place) => place,
        Found::NeedsUpTo(position) => return Ok(Found::NeedsUpTo(position)),
        Found::Nowhere => return Ok(Found::Nowhere),
    };
    let start = first.position;
    let limit = start
        .saturating_add(bytes_max)
        .min(span.end())
        .min(log_bytes);
    if limit == log_bytes {
        return Ok(Found::Here(BatchRange {
            positions: start..log_bytes,
            end_bound: None,
        }));
    }
    let last = indexes.batch_at_or_before(limit);
    if last.position > start {
        return Ok(Found::Here(BatchRange {
            positions: start..last.position,
            end_bound: Some(last.offset),
        }));
    }
    if first.end() > span.end() {
        return Ok(Found::NeedsUpTo(first.end().min(log_bytes)));
    }
    Ok(Found::Here(BatchRange {
        positions: start..first.end(),
        end_bound: Some(first.header.next_offset()),
    }))
}

/// One batch's bytes.
pub fn read_batch(span: &Span, place: &BatchPlace) -> Result<Found<Bytes>, BatchesError> {
    if place.end() > span.end() {
        return Ok(Found::NeedsUpTo(place.end()));
    }
    let mut bytes = vec![0; place.header.size()];
    let filled = span.read_at(place.position, &mut bytes)?;
    if filled < bytes.len() {
        return Ok(Found::NeedsUpTo(place.end()));
    }
    Ok(Found::Here(bytes.into()))
}
