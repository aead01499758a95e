//! The walk over a request body.

use super::schema::{Field, Item, Kind, Schema};
use crate::Api;

/// What decoding any body may allocate: bookkeeping of shared bytes.
const MEMORY_BASE: usize = 256;
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
    #[error("it is not UTF-8")]
    NotUtf8,
    #[error("tag {0} does not exist in this version")]
    Tag(u32),
    #[error("its presence byte is {0}")]
    Presence(i8),
    #[error("{count} elements cannot fit the {remaining} bytes that are left")]
    Count { count: usize, remaining: usize },
    #[error("its varint does not fit 32 bits")]
    Varint,
    #[error("its {size} bytes hold a value of {used} bytes")]
    TagSize { size: usize, used: usize },
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
    let walked = walk.fields(schema.fields);
    walked.map(|()| walk.memory).map_err(|fault| GuardError {
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
            Kind::String => match self.string_length()? {
                Some(length) => self.text(length),
                None => self.null(field),
            },
            Kind::Bytes | Kind::Records => match self.long_length()? {
                Some(length) => self.skip(length),
                None => self.null(field),
            },
            Kind::Struct(fields) => {
                // A nullable struct starts with a byte that says whether it is there.
                if field.nullable.contains(self.version) {
                    let [presence] = self.take::<1>()?;
                    match presence as i8 {
                        -1 => return Ok(()),
                        1 => {}
                        presence => return Err(GuardFault::Presence(presence)),
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
                            self.text(length)?;
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
            let known = fields
                .iter()
                .find(|field| matches!(field.tag, Some((known, _)) if known == tag));
            match known {
                // Kafka skips such a tag; the codecs cannot, and no client sends one.
                Some(field) if !field.is_tagged(self.version) => return Err(GuardFault::Tag(tag)),
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

    /// The codecs refuse other text too, but with errors that allocate, and after what stands before it is decoded.
    fn text(&mut self, length: usize) -> Result<(), GuardFault> {
        let start = self.position;
        self.skip(length)?;
        std::str::from_utf8(&self.body[start..self.position])
            .map(|_| ())
            .map_err(|_| GuardFault::NotUtf8)
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

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(api: Api, version: i16, body: &[u8]) -> (&'static str, GuardFault) {
        let error = check(api, version, body, usize::MAX).unwrap_err();
        (error.field, error.fault)
    }

    #[test]
    fn twelve_hostile_bytes_are_refused() {
        // A null transactional id, acks, a timeout, then 2^31 - 1 topics.
        let body = [0xff, 0xff, 0, 1, 0, 0, 0, 1, 0x7f, 0xff, 0xff, 0xff];
        let count = i32::MAX as usize;
        assert_eq!(
            fault(Api::Produce, 3, &body),
            (
                "TopicData",
                GuardFault::Count {
                    count,
                    remaining: 0
                }
            )
        );
        let error = check(Api::Produce, 3, &body, usize::MAX).unwrap_err();
        assert_eq!(
            error.to_string(),
            "ProduceRequest version 3 is damaged at byte 12, field TopicData: \
             2147483647 elements cannot fit the 0 bytes that are left"
        );
    }

    #[test]
    fn bytes_behind_the_last_field_are_left_alone() {
        // librdkafka 2.16 asks for all topics so, in Metadata 13: null as four bytes where one says it.
        assert!(check(Api::Metadata, 13, &[0, 0, 0, 0, 1, 0, 0], usize::MAX).is_ok());
    }

    #[test]
    fn faults_are_told_apart() {
        assert_eq!(
            fault(Api::Metadata, 0, &[0xff; 4]),
            ("Topics", GuardFault::Null)
        );
        assert_eq!(
            fault(Api::Metadata, 1, &[0xff, 0xff, 0xff, 0xfe]),
            ("Topics", GuardFault::NegativeLength(-2))
        );
        assert_eq!(
            fault(Api::Metadata, 1, &[0, 0]),
            (
                "Topics",
                GuardFault::Truncated {
                    needed: 4,
                    remaining: 2
                }
            )
        );
        assert_eq!(
            fault(Api::Metadata, 9, &[0xff, 0xff, 0xff, 0xff, 0x7f]),
            ("Topics", GuardFault::Varint)
        );
        // Fetch 12: a null cluster id whose tag claims one byte too many.
        let fetch = [&[0; 21][..], &[0, 0, 0, 0, 1, 1, 1, 1, 0, 2, 0, 0]].concat();
        assert_eq!(
            fault(Api::Fetch, 12, &fetch),
            ("ClusterId", GuardFault::TagSize { size: 2, used: 1 })
        );
        // DescribeTopicPartitions: no topics, a limit, a cursor that is neither there nor not there.
        assert_eq!(
            fault(Api::DescribeTopicPartitions, 0, &[1, 0, 0, 0, 9, 5]),
            ("Cursor", GuardFault::Presence(5))
        );
    }

    #[test]
    fn memory_is_held_against_the_budget() {
        let mut body = 1000i32.to_be_bytes().to_vec();
        body.extend(std::iter::repeat_n([0, 1, b't'], 1000).flatten());
        let estimate = check(Api::Metadata, 1, &body, usize::MAX).unwrap();
        assert_eq!(check(Api::Metadata, 1, &body, estimate), Ok(estimate));
        let error = check(Api::Metadata, 1, &body, estimate - 1).unwrap_err();
        assert_eq!(
            error.fault,
            GuardFault::Memory {
                estimate,
                memory_max: estimate - 1
            }
        );
    }
}
