//! Records as they lie in a batch, without taking them apart: what is enough to decide which of them stay.
//!
//! Headers are not looked at, and nothing is copied or counted. Lengths are checked against the record and the body, so
//! that a view never reaches past its record.

use super::error::BatchError;
use super::varint;

/// One record, and where it lies.
#[derive(Clone, Copy, Debug)]
pub struct RecordView<'a> {
    /// All of the record, with its length in front.
    pub bytes: &'a [u8],
    pub timestamp_delta: i64,
    pub offset_delta: i32,
    pub key: Option<&'a [u8]>,
    pub has_value: bool,
    /// Where in `bytes` the timestamp delta begins and ends.
    timestamp_at: (usize, usize),
}

impl RecordView<'_> {
    /// Appends the record to `out` with another timestamp delta.
    pub fn put_with_timestamp_delta(&self, out: &mut Vec<u8>, timestamp_delta: i64) {
        let (from, to) = self.timestamp_at;
        let rest = &self.bytes[to..];
        // The attributes, a byte, lie before the timestamp.
        let len = 1 + varint::len_i64(timestamp_delta) + rest.len();
        varint::put_i32(out, len as i32);
        out.push(self.bytes[from - 1]);
        varint::put_i64(out, timestamp_delta);
        out.extend_from_slice(rest);
    }
}

/// Walks the records of a batch's inflated body. Ends after the first error.
#[derive(Debug)]
pub struct RecordViews<'a> {
    body: &'a [u8],
    at: usize,
    index: i32,
    count: i32,
}

impl<'a> RecordViews<'a> {
    /// `count`: as the batch's header says. Bytes behind the last record are an error.
    pub fn new(body: &'a [u8], count: i32) -> Result<Self, BatchError> {
        if count < 0 {
            return Err(BatchError::Count(count));
        }
        Ok(Self {
            body,
            at: 0,
            index: 0,
            count,
        })
    }

    fn read(&mut self) -> Result<RecordView<'a>, &'static str> {
        let start = self.at;
        let (len, taken) = varint::read_i32(&self.body[start..]).ok_or("length")?;
        let len = usize::try_from(len).map_err(|_| "length is negative")?;
        let body_at = start + taken;
        if len > self.body.len() - body_at {
            return Err("length exceeds the batch");
        }
        if len == 0 {
            return Err("it is empty");
        }
        let bytes = &self.body[start..body_at + len];
        let timestamp_from = taken + 1;
        let (timestamp_delta, n) =
            varint::read_i64(&bytes[timestamp_from..]).ok_or("timestamp delta")?;
        let timestamp_to = timestamp_from + n;
        let (offset_delta, n) = varint::read_i32(&bytes[timestamp_to..]).ok_or("offset delta")?;
        let mut at = timestamp_to + n;
        let (key_len, n) = varint::read_i32(&bytes[at..]).ok_or("key")?;
        at += n;
        let key = match key_len {
            -1 => None,
            len => {
                let len = usize::try_from(len).map_err(|_| "key")?;
                if len > bytes.len() - at {
                    return Err("key");
                }
                at += len;
                Some(&bytes[at - len..at])
            }
        };
        let (value_len, n) = varint::read_i32(&bytes[at..]).ok_or("value")?;
        if value_len < -1 || i64::from(value_len) > (bytes.len() - at - n) as i64 {
            return Err("value");
        }
        self.at = body_at + len;
        Ok(RecordView {
            bytes,
            timestamp_delta,
            offset_delta,
            key,
            has_value: value_len >= 0,
            timestamp_at: (timestamp_from, timestamp_to),
        })
    }
}

impl<'a> Iterator for RecordViews<'a> {
    type Item = Result<RecordView<'a>, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.index >= self.count {
            let rest = self.body.len() - self.at;
            self.at = self.body.len();
            return (rest > 0).then_some(Err(BatchError::TrailingBytes(rest)));
        }
        let index = self.index;
        let read = self.read();
        self.index = match read {
            Ok(_) => index + 1,
            Err(_) => {
                self.at = self.body.len();
                self.count
            }
        };
        Some(read.map_err(|reason| BatchError::Record { index, reason }))
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::super::{Batch, BatchBuilder, BatchOptions, DecodeLimit, NewRecord, RecordHeader};
    use super::*;

    fn records() -> impl Strategy<Value = Vec<NewRecord>> {
        let bytes = || proptest::option::of(proptest::collection::vec(any::<u8>(), 0..40));
        let record = (any::<i64>(), bytes(), bytes(), any::<bool>()).prop_map(
            |(timestamp, key, value, with_header)| NewRecord {
                timestamp,
                key: key.map(Bytes::from),
                value: value.map(Bytes::from),
                headers: with_header
                    .then(|| RecordHeader::new("h", None))
                    .into_iter()
                    .collect(),
            },
        );
        proptest::collection::vec(record, 0..20)
    }

    proptest! {
        #[test]
        fn a_view_agrees_with_the_full_reading(records in records(), shift: i64) {
            let mut builder = BatchBuilder::new(BatchOptions::default());
            for record in &records {
                builder.append(record.clone()).expect("fits");
            }
            let batch = Batch::parse(builder.build()).expect("parses");
            let body = batch.payload();
            let views: Vec<_> = RecordViews::new(&body, batch.header.records_count)
                .expect("a count")
                .collect::<Result<_, _>>()
                .expect("reads");
            let full: Vec<_> = batch.records(DecodeLimit::default()).expect("opens").map(|r| r.expect("reads")).collect();
            prop_assert_eq!(views.len(), full.len());
            let mut shifted = Vec::new();
            for (view, full) in views.iter().zip(&full) {
                prop_assert_eq!(view.key, full.key.as_deref());
                prop_assert_eq!(view.has_value, full.value.is_some());
                prop_assert_eq!(i64::from(view.offset_delta), full.offset);
                prop_assert_eq!(batch.header.base_timestamp.wrapping_add(view.timestamp_delta), full.timestamp);
                view.put_with_timestamp_delta(&mut shifted, view.timestamp_delta.wrapping_sub(shift));
            }
            let moved: Vec<_> = RecordViews::new(&shifted, batch.header.records_count)
                .expect("a count")
                .collect::<Result<_, _>>()
                .expect("reads");
            for (moved, view) in moved.iter().zip(&views) {
                prop_assert_eq!(moved.timestamp_delta, view.timestamp_delta.wrapping_sub(shift));
                prop_assert_eq!(moved.key, view.key);
                prop_assert_eq!(&moved.bytes[moved.timestamp_at.1..], &view.bytes[view.timestamp_at.1..]);
            }
        }

        #[test]
        fn rubbish_is_refused_and_never_panics(body in proptest::collection::vec(any::<u8>(), 0..200), count in -2..20_i32) {
            if let Ok(views) = RecordViews::new(&body, count) {
                let _ = views.collect::<Result<Vec<_>, _>>();
            }
        }
    }
}
