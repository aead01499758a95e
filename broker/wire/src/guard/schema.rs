//! The words that the guard's tables are written in.
//!
//! A table reads like Kafka's own message schema: a field has a type, a name and the versions that have it; `nullable`
//! and `tagged` say the rest. An array of structs also names the Rust type that its elements decode to, whose size is
//! what the decoder reserves per element.

use kafka_protocol::protocol::StrBytes;

/// Versions of a message, both ends included.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Versions {
    pub min: i16,
    pub max: i16,
}

impl Versions {
    pub const fn contains(self, version: i16) -> bool {
        self.min <= version && version <= self.max
    }
}

pub(crate) const ALL: Versions = since(0);
/// No version: of messages that never become flexible.
pub(crate) const NEVER: i16 = i16::MAX;
const NONE: Versions = Versions { min: 1, max: 0 };

pub(crate) const fn since(min: i16) -> Versions {
    Versions { min, max: i16::MAX }
}

pub(crate) const fn between(min: i16, max: i16) -> Versions {
    Versions { min, max }
}

/// One request in all its versions.
#[derive(Debug)]
pub struct Schema {
    pub name: &'static str,
    /// The first version with compact lengths and tagged fields.
    pub flexible_since: i16,
    pub fields: &'static [Field],
}

#[derive(Debug)]
pub struct Field {
    pub name: &'static str,
    pub versions: Versions,
    pub nullable: Versions,
    /// The tag, and the versions that write the field as a tagged one.
    pub tag: Option<(u32, Versions)>,
    pub kind: Kind,
}

#[derive(Debug)]
pub enum Kind {
    Scalar(Scalar),
    /// An i16 length, compact in flexible versions.
    String,
    /// An i32 length, compact in flexible versions.
    Bytes,
    /// As bytes; its content is checked by the log.
    Records,
    Struct(&'static [Field]),
    /// An i32 count, compact in flexible versions.
    Array {
        item: Item,
        item_memory: usize,
    },
}

#[derive(Debug)]
pub enum Item {
    Scalar(Scalar),
    String,
    Struct(&'static [Field]),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scalar {
    Bool,
    Int8,
    Int16,
    Int32,
    Int64,
    Uuid,
}

impl Scalar {
    pub(crate) const fn size(self) -> usize {
        match self {
            Scalar::Bool | Scalar::Int8 => 1,
            Scalar::Int16 => 2,
            Scalar::Int32 => 4,
            Scalar::Int64 => 8,
            Scalar::Uuid => 16,
        }
    }
}

impl Field {
    pub(crate) const fn nullable(self, versions: Versions) -> Field {
        Field {
            nullable: versions,
            ..self
        }
    }

    pub(crate) const fn tagged(self, tag: u32, versions: Versions) -> Field {
        Field {
            tag: Some((tag, versions)),
            ..self
        }
    }

    pub(crate) const fn is_tagged(&self, version: i16) -> bool {
        match self.tag {
            Some((_, versions)) => versions.contains(version),
            None => false,
        }
    }
}

const fn field(name: &'static str, versions: Versions, kind: Kind) -> Field {
    Field {
        name,
        versions,
        nullable: NONE,
        tag: None,
        kind,
    }
}

pub(crate) const fn boolean(name: &'static str, versions: Versions) -> Field {
    field(name, versions, Kind::Scalar(Scalar::Bool))
}

pub(crate) const fn int8(name: &'static str, versions: Versions) -> Field {
    field(name, versions, Kind::Scalar(Scalar::Int8))
}

pub(crate) const fn int16(name: &'static str, versions: Versions) -> Field {
    field(name, versions, Kind::Scalar(Scalar::Int16))
}

pub(crate) const fn int32(name: &'static str, versions: Versions) -> Field {
    field(name, versions, Kind::Scalar(Scalar::Int32))
}

pub(crate) const fn int64(name: &'static str, versions: Versions) -> Field {
    field(name, versions, Kind::Scalar(Scalar::Int64))
}

pub(crate) const fn uuid(name: &'static str, versions: Versions) -> Field {
    field(name, versions, Kind::Scalar(Scalar::Uuid))
}

pub(crate) const fn string(name: &'static str, versions: Versions) -> Field {
    field(name, versions, Kind::String)
}

pub(crate) const fn bytes(name: &'static str, versions: Versions) -> Field {
    field(name, versions, Kind::Bytes)
}

pub(crate) const fn records(name: &'static str, versions: Versions) -> Field {
    field(name, versions, Kind::Records)
}

pub(crate) const fn structure(
    name: &'static str,
    versions: Versions,
    fields: &'static [Field],
) -> Field {
    field(name, versions, Kind::Struct(fields))
}

pub(crate) const fn int32s(name: &'static str, versions: Versions) -> Field {
    field(
        name,
        versions,
        Kind::Array {
            item: Item::Scalar(Scalar::Int32),
            item_memory: 4,
        },
    )
}

pub(crate) const fn strings(name: &'static str, versions: Versions) -> Field {
    field(
        name,
        versions,
        Kind::Array {
            item: Item::String,
            item_memory: size_of::<StrBytes>(),
        },
    )
}

/// An array of structs that decode to `T`.
pub(crate) const fn structs<T>(
    name: &'static str,
    versions: Versions,
    fields: &'static [Field],
) -> Field {
    field(
        name,
        versions,
        Kind::Array {
            item: Item::Struct(fields),
            item_memory: size_of::<T>(),
        },
    )
}
