//! Reads and writes the primitives of our formats. All numbers are big-endian, as Kafka's.

use bytes::{BufMut, Bytes};

/// Why bytes are not what they claim to be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    #[error("{what} ends early")]
    Truncated { what: &'static str },
    #[error("{what} does not start with its magic bytes")]
    Magic { what: &'static str },
    #[error("{what} has format version {version}, this version of Strandline reads up to {known}")]
    Version {
        what: &'static str,
        version: u16,
        known: u16,
    },
    #[error("{what} fails its checksum")]
    Checksum { what: &'static str },
    #[error("{what} is malformed: {why}")]
    Malformed {
        what: &'static str,
        why: &'static str,
    },
}

/// A cursor that refuses to pass the end.
#[derive(Clone, Debug)]
pub(crate) struct Reader {
    what: &'static str,
    rest: Bytes,
}

impl Reader {
    pub(crate) fn new(what: &'static str, bytes: Bytes) -> Self {
        Self { what, rest: bytes }
    }

    pub(crate) fn remaining(&self) -> usize {
        self.rest.len()
    }

    pub(crate) fn take(&mut self, n: usize) -> Result<Bytes, FormatError> {
        if n > self.rest.len() {
            return Err(FormatError::Truncated { what: self.what });
        }
        Ok(self.rest.split_to(n))
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], FormatError> {
        let mut out = [0; N];
        out.copy_from_slice(&self.take(N)?);
        Ok(out)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, FormatError> {
        Ok(self.array::<1>()?[0])
    }

    pub(crate) fn u16(&mut self) -> Result<u16, FormatError> {
        self.array().map(u16::from_be_bytes)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, FormatError> {
        self.array().map(u32::from_be_bytes)
    }

    pub(crate) fn i32(&mut self) -> Result<i32, FormatError> {
        self.array().map(i32::from_be_bytes)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, FormatError> {
        self.array().map(u64::from_be_bytes)
    }

    pub(crate) fn i64(&mut self) -> Result<i64, FormatError> {
        self.array().map(i64::from_be_bytes)
    }

    /// Unsigned LEB128, at most ten bytes, in its shortest form.
    pub(crate) fn varint(&mut self) -> Result<u64, FormatError> {
        let mut value = 0u64;
        for shift in (0..70).step_by(7) {
            let byte = self.u8()?;
            let bits = u64::from(byte & 0x7f);
            if (shift == 63 && bits > 1) || (shift > 0 && byte == 0) {
                break;
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(self.malformed("a varint is too long"))
    }

    /// ZigZag-coded.
    pub(crate) fn signed_varint(&mut self) -> Result<i64, FormatError> {
        let raw = self.varint()?;
        Ok((raw >> 1) as i64 ^ -((raw & 1) as i64))
    }

    /// A count whose items take at least `bytes_min` each: more than fit the rest are refused before anything
    /// is allocated for them.
    pub(crate) fn count(&mut self, bytes_min: usize) -> Result<usize, FormatError> {
        let count = self.varint()?;
        let fit = (self.rest.len() / bytes_min.max(1)) as u64;
        if count > fit {
            return Err(FormatError::Truncated { what: self.what });
        }
        Ok(count as usize)
    }

    /// UTF-8 with a u16 length.
    pub(crate) fn string(&mut self) -> Result<String, FormatError> {
        let length = self.u16()?;
        let bytes = self.take(usize::from(length))?;
        String::from_utf8(bytes.to_vec()).map_err(|_| self.malformed("a text is not UTF-8"))
    }

    pub(crate) fn end(&self) -> Result<(), FormatError> {
        if self.rest.is_empty() {
            return Ok(());
        }
        Err(self.malformed("there are bytes behind its end"))
    }

    pub(crate) fn malformed(&self, why: &'static str) -> FormatError {
        FormatError::Malformed {
            what: self.what,
            why,
        }
    }
}

pub(crate) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

pub(crate) fn put_signed_varint(out: &mut Vec<u8>, value: i64) {
    put_varint(out, ((value << 1) ^ (value >> 63)) as u64);
}

/// Texts of ours are names and ids, far below the limit; what is longer is cut.
pub(crate) fn put_string(out: &mut Vec<u8>, text: &str) {
    let text = &text[..text.floor_char_boundary(usize::from(u16::MAX))];
    out.put_u16(text.len() as u16);
    out.extend_from_slice(text.as_bytes());
}

/// Appends the CRC-32C of everything before it.
pub(crate) fn put_crc(out: &mut Vec<u8>) {
    let crc = crc32c::crc32c(out);
    out.put_u32(crc);
}

/// Splits off and checks the trailing CRC-32C.
pub(crate) fn checked(what: &'static str, mut bytes: Bytes) -> Result<Bytes, FormatError> {
    let Some(body_len) = bytes.len().checked_sub(4) else {
        return Err(FormatError::Truncated { what });
    };
    let crc = bytes.split_off(body_len);
    if crc32c::crc32c(&bytes).to_be_bytes() != crc[..] {
        return Err(FormatError::Checksum { what });
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn varints_round_trip(value: u64, signed: i64) {
            let mut out = Vec::new();
            put_varint(&mut out, value);
            put_signed_varint(&mut out, signed);
            let mut reader = Reader::new("test", out.into());
            prop_assert_eq!(reader.varint(), Ok(value));
            prop_assert_eq!(reader.signed_varint(), Ok(signed));
            prop_assert_eq!(reader.end(), Ok(()));
        }
    }

    #[test]
    fn lying_counts_and_long_varints_are_refused() {
        let mut lying = Vec::new();
        put_varint(&mut lying, u64::MAX);
        assert!(Reader::new("test", lying.into()).count(8).is_err());
        assert!(Reader::new("test", vec![0x80; 11].into()).varint().is_err());
        assert!(Reader::new("test", vec![0x80, 0].into()).varint().is_err());
    }
}
