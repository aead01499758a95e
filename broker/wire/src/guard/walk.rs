//! The walk over a request body.

use super::schema::{Field, Item, Kind, Schema};
use crate::Api;

/// What decoding any body may allocate: bookkeeping of shared bytes, and the text of a codec's error.
const MEMORY_BASE: usize = 1024;
/// An allocation's own cost.
const MEMORY_PER_ALLOCATION: usize = 16;
/// Unknown tagged fields are kept in a B-tree map: its first node, then what each entry adds when nodes are as empty as
/// they can be.
const MEMORY_TAG_MAP: usize = 512;
const MEMORY_PER_TAG: usize = 128;

/// Why a body was refused, and where.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{request} version {version} is damaged at byte {position}, field {field}: {fault}")]
pub struct GuardError {
    pub request: &'static str,
    pub version: i16,
    pub field: &'static str,
    pub position: usize,
    pub fault: GuardFault,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum GuardFault {
    #[error("it needs {needed} bytes and {remaining} are left")]
    Truncated { needed: usize, remaining: usize },
    #[error("its length is {0}")]
    NegativeLength(i32),
    #[error("it is null and must not be")]
    Null,
    #[error("{count} elements cannot fit the {remaining} bytes that are left")]
    Count { count: usize, remaining: usize },
    #[error("its varint does not fit 32 bits")]
    Varint,
    #[error("its {size} bytes hold a value of {used} bytes")]
    TagSize { size: usize, used: usize },
    #[error("{0} bytes are left over")]
    LeftOver(usize),
    #[error("decoding takes {estimate} bytes of memory and {memory_max} are allowed")]
    Memory { estimate: usize, memory_max: usize },
}

/// Walks a body and returns the most bytes that decoding it allocates.
pub(crate) fn check(
    api: Api,
    version: i16,
    body: &[u8],
    memory_max: usize,
) -> Result<usize, GuardError> {
    let schema: &'static Schema = api.schema();
    let mut walk = Walk {
        body,
        position: 0,
        version,
        flexible: version >= schema.flexible_since,
        memory: MEMORY_BASE,
        memory_max,
        field: schema.name,
    };
    let walked = walk
        .fields(schema.fields)
        .and_then(|()| match walk.remaining() {
            0 => Ok(walk.memory),
            left => Err(GuardFault::LeftOver(left)),
        });
    walked.map_err(|fault| GuardError {
        request: schema.name,
        version,
        field: walk.field,
        position: walk.position,
        fault,
    })
}

/// The length of a section of tagged fields at the start of `bytes`, when it is whole.
pub(crate) fn walk_tags(bytes: &[u8]) -> Option<usize> {
    let mut walk = Walk {
        body: bytes,
        position: 0,
        version: 0,
        flexible: true,
        memory: 0,
        memory_max: usize::MAX,
        field: "tagged fields",
    };
    walk.tags(&[]).ok()?;
    Some(walk.position)
}

struct Walk<'a> {
    body: &'a [u8],
    position: usize,
    version: i16,
    flexible: bool,
    memory: usize,
    memory_max: usize,
    /// The field that is being walked, for errors.
    field: &'static str,
}

impl Walk<'_> {
    fn remaining(&self) -> usize {
        self.body.len() - self.position
    }

    fn fields(&mut self, fields: &'static [Field]) -> Result<(), GuardFault> {
        for field in fields {
            if field.versions.contains(self.version) && !field.is_tagged(self.version) {
                self.value(field)?;
            }
        }
        if self.flexible {
            self.tags(fields)
        } else {
            Ok(())
        }
    }

    fn value(&mut self, field: &'static Field) -> Result<(), GuardFault> {
        self.field = field.name;
        match &field.kind {
            Kind::Scalar(scalar) => self.skip(scalar.size()),
            Kind::String => {
                let length = self.string_length()?;
                self.skip_nullable(length, field)
            }
            Kind::Bytes | Kind::Records => {
                let length = self.long_length()?;
                self.skip_nullable(length, field)
            }
            Kind::Struct(fields) => {
                // A nullable struct starts with a byte that says whether it is there.
                if field.nullable.contains(self.version) {
                    self.skip(1)?;
                    if self.body[self.position - 1] as i8 == -1 {
                        return Ok(());
                    }
                }
                self.fields(fields)
            }
            Kind::Array { item, item_memory } => {
                let Some(count) = self.long_length()? else {
                    return self.null(field);
                };
                let item_size_min = self.item_size_min(item);
                if count
                    .checked_mul(item_size_min)
                    .is_none_or(|size_min| size_min > self.remaining())
                {
                    return Err(GuardFault::Count {
                        count,
                        remaining: self.remaining(),
                    });
                }
                if count > 0 {
                    self.reserve(
                        count
                            .saturating_mul(*item_memory)
                            .saturating_add(MEMORY_PER_ALLOCATION),
                    )?;
                }
                match item {
                    Item::Scalar(scalar) => self.skip(count * scalar.size()),
                    Item::String => {
                        for _ in 0..count {
                            let length = self.string_length()?.ok_or(GuardFault::Null)?;
                            self.skip(length)?;
                        }
                        Ok(())
                    }
                    Item::Struct(fields) => {
                        for _ in 0..count {
                            self.fields(fields)?;
                        }
                        Ok(())
                    }
                }
            }
        }
    }

    /// Tagged fields: a count, then tag, size and value of each.
    fn tags(&mut self, fields: &'static [Field]) -> Result<(), GuardFault> {
        self.field = "tagged fields";
        let count = self.varint()? as usize;
        if count.saturating_mul(2) > self.remaining() {
            return Err(GuardFault::Count {
                count,
                remaining: self.remaining(),
            });
        }
        let mut unknown = 0usize;
        for _ in 0..count {
            self.field = "tagged fields";
            let tag = self.varint()?;
            let size = self.varint()? as usize;
            if size > self.remaining() {
                return Err(GuardFault::Truncated {
                    needed: size,
                    remaining: self.remaining(),
                });
            }
            let version = self.version;
            let known = fields
                .iter()
                .find(|field| matches!(field.tag, Some((known, versions)) if known == tag && versions.contains(version)));
            match known {
                Some(field) => {
                    let start = self.position;
                    self.value(field)?;
                    let used = self.position - start;
                    if used != size {
                        return Err(GuardFault::TagSize { size, used });
                    }
                }
                None => {
                    unknown += 1;
                    self.skip(size)?;
                }
            }
        }
        if unknown > 0 {
            self.reserve(
                unknown
                    .saturating_mul(MEMORY_PER_TAG)
                    .saturating_add(MEMORY_TAG_MAP),
            )?;
        }
        Ok(())
    }

    fn skip(&mut self, needed: usize) -> Result<(), GuardFault> {
        let remaining = self.remaining();
        if needed > remaining {
            return Err(GuardFault::Truncated { needed, remaining });
        }
        self.position += needed;
        Ok(())
    }

    fn skip_nullable(&mut self, length: Option<usize>, field: &Field) -> Result<(), GuardFault> {
        match length {
            Some(length) => self.skip(length),
            None => self.null(field),
        }
    }

    fn null(&self, field: &Field) -> Result<(), GuardFault> {
        if field.nullable.contains(self.version) {
            Ok(())
        } else {
            Err(GuardFault::Null)
        }
    }

    fn reserve(&mut self, bytes: usize) -> Result<(), GuardFault> {
        self.memory = self.memory.saturating_add(bytes);
        if self.memory > self.memory_max {
            return Err(GuardFault::Memory {
                estimate: self.memory,
                memory_max: self.memory_max,
            });
        }
        Ok(())
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], GuardFault> {
        let remaining = self.remaining();
        match self.body[self.position..].first_chunk::<N>() {
            Some(chunk) => {
                self.position += N;
                Ok(*chunk)
            }
            None => Err(GuardFault::Truncated {
                needed: N,
                remaining,
            }),
        }
    }

    fn varint(&mut self) -> Result<u32, GuardFault> {
        let mut value = 0u32;
        for shift in [0, 7, 14, 21, 28] {
            let [byte] = self.take::<1>()?;
            if shift == 28 && byte > 0x0f {
                return Err(GuardFault::Varint);
            }
            value |= u32::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                break;
            }
        }
        Ok(value)
    }

    fn string_length(&mut self) -> Result<Option<usize>, GuardFault> {
        if self.flexible {
            return self.compact_length();
        }
        let length = i16::from_be_bytes(self.take()?);
        length_of(i32::from(length))
    }

    /// The length of bytes or the count of an array.
    fn long_length(&mut self) -> Result<Option<usize>, GuardFault> {
        if self.flexible {
            return self.compact_length();
        }
        length_of(i32::from_be_bytes(self.take()?))
    }

    fn compact_length(&mut self) -> Result<Option<usize>, GuardFault> {
        Ok((self.varint()? as usize).checked_sub(1))
    }

    /// The fewest bytes that an array's element takes in this version.
    fn item_size_min(&self, item: &Item) -> usize {
        match item {
            Item::Scalar(scalar) => scalar.size(),
            Item::String => self.length_size_min(2),
            Item::Struct(fields) => self.fields_size_min(fields),
        }
    }

    fn fields_size_min(&self, fields: &[Field]) -> usize {
        let version = self.version;
        let present = fields
            .iter()
            .filter(|field| field.versions.contains(version) && !field.is_tagged(version));
        let sizes = present.map(|field| match &field.kind {
            Kind::Scalar(scalar) => scalar.size(),
            Kind::String => self.length_size_min(2),
            Kind::Bytes | Kind::Records | Kind::Array { .. } => self.length_size_min(4),
            Kind::Struct(_) if field.nullable.contains(version) => 1,
            Kind::Struct(fields) => self.fields_size_min(fields),
        });
        sizes.sum::<usize>() + usize::from(self.flexible)
    }

    fn length_size_min(&self, fixed: usize) -> usize {
        if self.flexible { 1 } else { fixed }
    }
}

fn length_of(length: i32) -> Result<Option<usize>, GuardFault> {
    match length {
        -1 => Ok(None),
        length => usize::try_from(length)
            .map(Some)
            .map_err(|_| GuardFault::NegativeLength(length)),
    }
}
