//! Reading and writing the primitive types of Kafka's records. Lengths are held against the bytes that are there.

use bytes::{BufMut, Bytes, BytesMut};

/// A record of `__consumer_offsets` that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    #[error("the record is cut short")]
    Truncated,
    #[error("the record's text is not UTF-8")]
    NotUtf8,
    #[error("version {version} of {record} is unknown")]
    UnknownVersion { record: &'static str, version: i16 },
    #[error("a length of {length} is not possible")]
    BadLength { length: i64 },
}

pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub fn new(rest: &'a [u8]) -> Self {
        Self { rest }
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], RecordError> {
        let (taken, rest) = self
            .rest
            .split_at_checked(len)
            .ok_or(RecordError::Truncated)?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], RecordError> {
        let (taken, rest) = self
            .rest
            .split_first_chunk()
            .ok_or(RecordError::Truncated)?;
        self.rest = rest;
        Ok(*taken)
    }

    pub fn i16(&mut self) -> Result<i16, RecordError> {
        self.array().map(i16::from_be_bytes)
    }

    pub fn i32(&mut self) -> Result<i32, RecordError> {
        self.array().map(i32::from_be_bytes)
    }

    pub fn i64(&mut self) -> Result<i64, RecordError> {
        self.array().map(i64::from_be_bytes)
    }

    /// An unsigned varint of at most 32 bits.
    pub fn uvarint(&mut self) -> Result<u32, RecordError> {
        let mut value: u64 = 0;
        for shift in (0..35).step_by(7) {
            let [byte] = self.array()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return u32::try_from(value).map_err(|_| RecordError::BadLength {
                    length: value as i64,
                });
            }
        }
        Err(RecordError::BadLength {
            length: value as i64,
        })
    }

    /// A length of `None` is null. Compact lengths are one more than they say, 0 for null.
    fn length(&mut self, flexible: bool, wide: bool) -> Result<Option<usize>, RecordError> {
        let length = if flexible {
            i64::from(self.uvarint()?) - 1
        } else if wide {
            i64::from(self.i32()?)
        } else {
            i64::from(self.i16()?)
        };
        match length {
            -1 => Ok(None),
            0.. if length as usize <= self.rest.len() => Ok(Some(length as usize)),
            0.. => Err(RecordError::Truncated),
            _ => Err(RecordError::BadLength { length }),
        }
    }

    pub fn nullable_string(&mut self, flexible: bool) -> Result<Option<String>, RecordError> {
        let Some(len) = self.length(flexible, false)? else {
            return Ok(None);
        };
        let text = std::str::from_utf8(self.take(len)?).map_err(|_| RecordError::NotUtf8)?;
        Ok(Some(text.to_owned()))
    }

    pub fn string(&mut self, flexible: bool) -> Result<String, RecordError> {
        self.nullable_string(flexible)?
            .ok_or(RecordError::BadLength { length: -1 })
    }

    pub fn bytes(&mut self, flexible: bool) -> Result<Bytes, RecordError> {
        let len = self
            .length(flexible, true)?
            .ok_or(RecordError::BadLength { length: -1 })?;
        Ok(Bytes::copy_from_slice(self.take(len)?))
    }

    /// The count of an array whose elements take at least a byte each.
    pub fn count(&mut self, flexible: bool) -> Result<usize, RecordError> {
        self.length(flexible, true)?
            .ok_or(RecordError::BadLength { length: -1 })
    }

    /// Skips the tagged fields that end a struct of a flexible version.
    pub fn skip_tags(&mut self) -> Result<(), RecordError> {
        for _ in 0..self.uvarint()? {
            self.uvarint()?;
            let len = self.uvarint()?;
            self.take(len as usize)?;
        }
        Ok(())
    }
}

/// Writes a string with its 16-bit length. Texts come from the wire or are made of such, so they fit.
pub(super) fn put_string(out: &mut BytesMut, text: &str) {
    out.put_i16(i16::try_from(text.len()).expect("texts from the wire have 16-bit lengths"));
    out.put_slice(text.as_bytes());
}

pub(super) fn put_nullable_string(out: &mut BytesMut, text: Option<&str>) {
    match text {
        Some(text) => put_string(out, text),
        None => out.put_i16(-1),
    }
}

pub(super) fn put_bytes(out: &mut BytesMut, bytes: &[u8]) {
    out.put_i32(i32::try_from(bytes.len()).expect("bytes from the wire have 32-bit lengths"));
    out.put_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lying_lengths_are_refused_without_allocation() {
        let huge = [0x7f, 0xff, 0xff, 0xff];
        assert_eq!(Reader::new(&huge).bytes(false), Err(RecordError::Truncated));
        assert_eq!(Reader::new(&huge).count(false), Err(RecordError::Truncated));
        assert_eq!(
            Reader::new(&[0xff, 0xfe]).nullable_string(false),
            Err(RecordError::BadLength { length: -2 })
        );
        assert_eq!(
            Reader::new(&[0xff; 5]).uvarint(),
            Err(RecordError::BadLength {
                length: 0x7_ffff_ffff
            })
        );
        assert_eq!(
            Reader::new(&[0, 2, 0xff, 0xff]).string(false),
            Err(RecordError::NotUtf8)
        );
    }

    #[test]
    fn tags_of_later_versions_are_skipped() {
        let mut r = Reader::new(&[1, 0, 2, 9, 9, 7]);
        assert_eq!(r.skip_tags(), Ok(()));
        assert_eq!(r.rest, &[7]);
    }
}
