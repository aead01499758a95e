//! The alphabet of our metadata bytes: what commands and snapshots are spelled with.
//!
//! | type      | bytes                                                                    |
//! |-----------|--------------------------------------------------------------------------|
//! | u8 … i64  | big-endian, fixed width                                                  |
//! | count     | unsigned LEB128, at most 5 bytes; never more than the bytes that follow  |
//! | string    | count, then UTF-8                                                        |
//! | optional  | u8 0 or 1, then the value if 1                                           |
//! | uuid      | 16 bytes                                                                 |
//! | list      | count, then the items                                                    |

use std::collections::BTreeMap;
use std::sync::Arc;

use uuid::Uuid;

/// Why bytes are not what this version of the program understands.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    #[error("the bytes end early")]
    Truncated,
    #[error("{0} bytes too many")]
    TrailingBytes(usize),
    #[error("unknown command {0}")]
    UnknownCommand(u8),
    #[error("command {command} has unknown version {version}")]
    UnknownCommandVersion { command: u8, version: u8 },
    #[error("unknown snapshot version {0}")]
    UnknownSnapshotVersion(u16),
    #[error("not a metadata snapshot")]
    NotASnapshot,
    #[error("invalid {0}")]
    Invalid(&'static str),
    #[error("a command of {bytes} bytes is above the limit of {limit}")]
    TooLarge { bytes: usize, limit: usize },
}

#[derive(Debug, Default)]
pub(super) struct Writer {
    pub bytes: Vec<u8>,
}

impl Writer {
    pub fn u8(&mut self, value: u8) {
        self.bytes.push(value);
    }

    pub fn u16(&mut self, value: u16) {
        self.bytes.extend_from_slice(&value.to_be_bytes());
    }

    pub fn i16(&mut self, value: i16) {
        self.bytes.extend_from_slice(&value.to_be_bytes());
    }

    pub fn u32(&mut self, value: u32) {
        self.bytes.extend_from_slice(&value.to_be_bytes());
    }

    pub fn i32(&mut self, value: i32) {
        self.bytes.extend_from_slice(&value.to_be_bytes());
    }

    pub fn i64(&mut self, value: i64) {
        self.bytes.extend_from_slice(&value.to_be_bytes());
    }

    pub fn bool(&mut self, value: bool) {
        self.u8(u8::from(value));
    }

    pub fn uuid(&mut self, value: &Uuid) {
        self.bytes.extend_from_slice(value.as_bytes());
    }

    pub fn count(&mut self, mut value: usize) {
        while value >= 0x80 {
            self.u8((value & 0x7f) as u8 | 0x80);
            value >>= 7;
        }
        self.u8(value as u8);
    }

    pub fn string(&mut self, value: &str) {
        self.count(value.len());
        self.bytes.extend_from_slice(value.as_bytes());
    }

    pub fn optional<T>(&mut self, value: Option<T>, write: impl FnOnce(&mut Self, T)) {
        self.bool(value.is_some());
        if let Some(value) = value {
            write(self, value);
        }
    }

    pub fn list<T>(
        &mut self,
        items: impl ExactSizeIterator<Item = T>,
        mut write: impl FnMut(&mut Self, T),
    ) {
        self.count(items.len());
        for item in items {
            write(self, item);
        }
    }

    pub fn string_map(&mut self, map: &BTreeMap<String, String>) {
        self.list(map.iter(), |w, (name, value)| {
            w.string(name);
            w.string(value);
        });
    }

    pub fn i32_list(&mut self, items: &[i32]) {
        self.list(items.iter(), |w, id| w.i32(*id));
    }
}

#[derive(Debug)]
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub fn finish(self) -> Result<(), FormatError> {
        match self.rest.len() {
            0 => Ok(()),
            more => Err(FormatError::TrailingBytes(more)),
        }
    }

    pub fn bytes(&mut self, len: usize) -> Result<&'a [u8], FormatError> {
        let (head, rest) = self
            .rest
            .split_at_checked(len)
            .ok_or(FormatError::Truncated)?;
        self.rest = rest;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], FormatError> {
        let (head, rest) = self
            .rest
            .split_first_chunk()
            .ok_or(FormatError::Truncated)?;
        self.rest = rest;
        Ok(*head)
    }

    pub fn u8(&mut self) -> Result<u8, FormatError> {
        Ok(u8::from_be_bytes(self.array()?))
    }

    pub fn u16(&mut self) -> Result<u16, FormatError> {
        Ok(u16::from_be_bytes(self.array()?))
    }

    pub fn i16(&mut self) -> Result<i16, FormatError> {
        Ok(i16::from_be_bytes(self.array()?))
    }

    pub fn u32(&mut self) -> Result<u32, FormatError> {
        Ok(u32::from_be_bytes(self.array()?))
    }

    pub fn i32(&mut self) -> Result<i32, FormatError> {
        Ok(i32::from_be_bytes(self.array()?))
    }

    pub fn i64(&mut self) -> Result<i64, FormatError> {
        Ok(i64::from_be_bytes(self.array()?))
    }

    pub fn bool(&mut self) -> Result<bool, FormatError> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(FormatError::Invalid("boolean")),
        }
    }

    pub fn uuid(&mut self) -> Result<Uuid, FormatError> {
        Ok(Uuid::from_bytes(self.array()?))
    }

    /// Each counted thing takes at least one byte, so a count beyond the rest is a lie: memory is never reserved for it.
    pub fn count(&mut self) -> Result<usize, FormatError> {
        let mut value = 0u64;
        for shift in (0..35).step_by(7) {
            let byte = self.u8()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                let count = usize::try_from(value).map_err(|_| FormatError::Invalid("count"))?;
                if count > self.rest.len() {
                    return Err(FormatError::Truncated);
                }
                return Ok(count);
            }
        }
        Err(FormatError::Invalid("count"))
    }

    pub fn str(&mut self) -> Result<&'a str, FormatError> {
        let len = self.count()?;
        std::str::from_utf8(self.bytes(len)?).map_err(|_| FormatError::Invalid("UTF-8"))
    }

    pub fn arc_str(&mut self) -> Result<Arc<str>, FormatError> {
        Ok(self.str()?.into())
    }

    pub fn string(&mut self) -> Result<String, FormatError> {
        Ok(self.str()?.to_owned())
    }

    pub fn optional<T>(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<T, FormatError>,
    ) -> Result<Option<T>, FormatError> {
        self.bool()?.then(|| read(self)).transpose()
    }

    pub fn list<T, L: FromIterator<T>>(
        &mut self,
        mut read: impl FnMut(&mut Self) -> Result<T, FormatError>,
    ) -> Result<L, FormatError> {
        let count = self.count()?;
        (0..count).map(|_| read(self)).collect()
    }

    pub fn string_map(&mut self) -> Result<BTreeMap<String, String>, FormatError> {
        self.list(|r| Ok((r.string()?, r.string()?)))
    }

    pub fn i32_list(&mut self) -> Result<Vec<i32>, FormatError> {
        self.list(Self::i32)
    }
}
