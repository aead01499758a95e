//! What becomes of one batch: kept as it is, left out, emptied, or written anew with fewer records. Pure.
//!
//! - A record stays while it is the last of its key, as far as the map has read; without a key it goes.
//! - A tombstone that is the last of its key stays until its batch's delete horizon. A batch gets its horizon, now plus
//!   delete.retention.ms, when a cleaner first meets a tombstone in it; so does a marker whose transaction is gone. It is
//!   the batch's base timestamp then, and bit 6 of the attributes says so (KIP-534).
//! - Offsets, sequences and the batch's last offset never change. A batch that keeps everything is not touched.
//! - Records are copied as they lie; only a new horizon shifts their timestamp deltas.

use strandline_log::record::{
    Attributes, BATCH_HEADER_LEN, BatchError, BatchHeader, Compression, DecodeLimit, RecordViews,
    TimestampType, assemble_in_place,
};
use strandline_log::{NO_TIMESTAMP, Offset, TimestampMs};

use crate::offset_map::OffsetMap;

/// What is known of a batch before its records are looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BatchContext {
    /// Aborted data, or a marker whose time is over: no record stays.
    pub discard_records: bool,
    /// A marker of whose transaction nothing is left.
    pub is_marker_of_nothing: bool,
    /// The batch stays though no record does: it tells a producer's last sequence, or where the cleaned part ends.
    pub keep_empty: bool,
}

/// When the cleaning happens, and how long tombstones are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Horizon {
    pub now_ms: TimestampMs,
    pub delete_retention_ms: TimestampMs,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Keep,
    Drop,
    /// Header and bytes of the batch that takes its place.
    Replace(BatchHeader, Vec<u8>),
}

/// What was seen and kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RecordCounts {
    pub read: u64,
    pub kept: u64,
    /// Without a key: they do not belong into a compacted log.
    pub invalid: u64,
}

/// Reused from batch to batch.
#[derive(Debug, Default)]
pub struct BatchFilter {
    seen: Vec<Seen>,
    /// Bytes that were given back.
    spare: Vec<u8>,
}

#[derive(Clone, Copy, Debug)]
struct Seen {
    offset: Offset,
    hash: Option<u128>,
    has_value: bool,
    keep: bool,
}

/// The delete horizon of a batch.
fn delete_horizon(header: &BatchHeader) -> Option<TimestampMs> {
    header
        .attributes
        .has_delete_horizon()
        .then_some(header.base_timestamp)
}

/// Whether a marker has outlived its horizon.
pub fn is_past_horizon(header: &BatchHeader, now_ms: TimestampMs) -> bool {
    delete_horizon(header).is_some_and(|horizon| horizon <= now_ms)
}

/// The records of a batch, inflated where they must be.
pub fn with_body<T>(
    header: &BatchHeader,
    bytes: &[u8],
    limit: DecodeLimit,
    read: impl FnOnce(&[u8]) -> Result<T, BatchError>,
) -> Result<T, BatchError> {
    let payload = &bytes[BATCH_HEADER_LEN..];
    match header.compression()? {
        Compression::None => read(payload),
        codec => read(&codec.inflate(payload, limit)?),
    }
}

impl BatchFilter {
    /// The bytes of a replacement that are not needed any more: the next one is built in them.
    pub fn give_back(&mut self, bytes: Vec<u8>) {
        self.spare = bytes;
    }

    /// `bytes`: all of the batch, its CRC checked.
    pub fn filter(
        &mut self,
        header: &BatchHeader,
        bytes: &[u8],
        context: BatchContext,
        map: &OffsetMap,
        horizon: Horizon,
        counts: &mut RecordCounts,
    ) -> Result<Verdict, BatchError> {
        let all = u64::try_from(header.records_count).unwrap_or(0);
        if context.discard_records || header.records_count == 0 {
            counts.read += all;
            return Ok(empty(header, context));
        }
        if header.is_control() && (!context.is_marker_of_nothing || has_horizon(header)) {
            counts.read += all;
            counts.kept += all;
            return Ok(Verdict::Keep);
        }
        with_body(header, bytes, DecodeLimit::default(), |body| {
            self.filter_records(header, body, context, map, horizon, counts)
        })
    }

    fn filter_records(
        &mut self,
        header: &BatchHeader,
        body: &[u8],
        context: BatchContext,
        map: &OffsetMap,
        horizon: Horizon,
        counts: &mut RecordCounts,
    ) -> Result<Verdict, BatchError> {
        let is_control = header.is_control();
        self.seen.clear();
        for record in RecordViews::new(body, header.records_count)? {
            let record = record?;
            let offset = header
                .base_offset
                .saturating_add(i64::from(record.offset_delta));
            self.seen.push(Seen {
                offset,
                hash: record.key.map(|key| map.hash(key)),
                has_value: record.has_value,
                keep: is_control || offset > map.latest_offset(),
            });
        }
        // A loop of its own: the look-ups miss the processor's caches, and this way several are under way at a time.
        let tombstones_stay = delete_horizon(header).is_none_or(|at| horizon.now_ms < at);
        for seen in self.seen.iter_mut().filter(|seen| !seen.keep) {
            seen.keep = match seen.hash {
                None => {
                    counts.invalid += 1;
                    false
                }
                Some(hash) => {
                    let is_last = map.get(hash).is_none_or(|last| seen.offset >= last);
                    is_last && (seen.has_value || tombstones_stay)
                }
            };
        }
        let kept = self.seen.iter().filter(|seen| seen.keep).count();
        counts.read += self.seen.len() as u64;
        counts.kept += kept as u64;
        if kept == 0 {
            return Ok(empty(header, context));
        }
        let holds_deletes = context.is_marker_of_nothing
            || !is_control && self.seen.iter().any(|seen| seen.keep && !seen.has_value);
        let sets_horizon = holds_deletes && !has_horizon(header);
        if kept == self.seen.len() && !sets_horizon {
            return Ok(Verdict::Keep);
        }
        let new_horizon =
            sets_horizon.then(|| horizon.now_ms.saturating_add(horizon.delete_retention_ms));
        self.rebuild(header, body, new_horizon)
    }

    /// The batch with the records that are kept.
    fn rebuild(
        &mut self,
        header: &BatchHeader,
        body: &[u8],
        new_horizon: Option<TimestampMs>,
    ) -> Result<Verdict, BatchError> {
        let base_timestamp = new_horizon.unwrap_or(header.base_timestamp);
        // Wrapping on both sides gives every timestamp back.
        let shift = header.base_timestamp.wrapping_sub(base_timestamp);
        let mut records = room_for_header(std::mem::take(&mut self.spare));
        records.reserve(body.len() + self.seen.len());
        let mut max_timestamp = NO_TIMESTAMP;
        let mut kept = 0;
        for (record, seen) in RecordViews::new(body, header.records_count)?.zip(&self.seen) {
            let record = record?;
            if !seen.keep {
                continue;
            }
            kept += 1;
            let timestamp = header.base_timestamp.wrapping_add(record.timestamp_delta);
            max_timestamp = max_timestamp.max(timestamp);
            if shift == 0 {
                records.extend_from_slice(record.bytes);
            } else {
                record.put_with_timestamp_delta(
                    &mut records,
                    record.timestamp_delta.wrapping_add(shift),
                );
            }
        }
        if header.timestamp_type() == TimestampType::LogAppendTime {
            max_timestamp = header.max_timestamp;
        }
        let bytes = match header.compression()? {
            Compression::None => records,
            codec => {
                let payload = codec.compress(&records[BATCH_HEADER_LEN..], None);
                let mut bytes = room_for_header(records);
                bytes.extend_from_slice(&payload);
                bytes
            }
        };
        let attributes = header
            .attributes
            .with_delete_horizon(new_horizon.is_some() || has_horizon(header));
        let header = BatchHeader {
            attributes,
            base_timestamp,
            max_timestamp,
            records_count: kept,
            ..*header
        };
        Ok(replace(header, bytes))
    }
}

fn has_horizon(header: &BatchHeader) -> bool {
    header.attributes.has_delete_horizon()
}

/// A batch of which no record stays.
fn empty(header: &BatchHeader, context: BatchContext) -> Verdict {
    if !context.keep_empty {
        return Verdict::Drop;
    }
    let attributes = Attributes::default()
        .with_timestamp_type(header.timestamp_type())
        .with_transactional(header.is_transactional())
        .with_control(header.is_control());
    let emptied = BatchHeader {
        attributes,
        base_timestamp: NO_TIMESTAMP,
        records_count: 0,
        ..*header
    };
    replace(emptied, room_for_header(Vec::new()))
}

fn room_for_header(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.clear();
    bytes.resize(BATCH_HEADER_LEN, 0);
    bytes
}

/// `bytes`: the payload behind room for a header.
fn replace(header: BatchHeader, mut bytes: Vec<u8>) -> Verdict {
    let header = assemble_in_place(header, &mut bytes);
    Verdict::Replace(header, bytes)
}
