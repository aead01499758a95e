//! Random request bodies, written from the guard's tables.
//!
//! That the tables are right is shown elsewhere: the codecs must read every body to its end, and `kafka_messages` holds
//! the tables against Kafka's own.

use strandline_wire::Api;
use strandline_wire::guard::{Field, Item, Kind, Scalar};

/// SplitMix64: a seed in, the same body out.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }
}

/// A body that every reader accepts. With `unknown_tags`, flexible versions carry tagged fields that nobody knows.
pub fn random_body(random: &mut Random, api: Api, version: i16, unknown_tags: bool) -> Vec<u8> {
    let schema = api.schema();
    let flexible = version >= schema.flexible_since;
    let mut writer = Writer {
        random,
        version,
        flexible,
        unknown_tags,
        body: Vec::new(),
    };
    writer.fields(schema.fields);
    writer.body
}

pub fn put_varint(body: &mut Vec<u8>, mut value: u32) {
    while value >= 0x80 {
        body.push(value as u8 | 0x80);
        value >>= 7;
    }
    body.push(value as u8);
}

struct Writer<'a> {
    random: &'a mut Random,
    version: i16,
    flexible: bool,
    unknown_tags: bool,
    body: Vec<u8>,
}

impl Writer<'_> {
    fn fields(&mut self, fields: &'static [Field]) {
        let version = self.version;
        let is_tagged = |field: &Field| {
            field
                .tag
                .is_some_and(|(_, versions)| versions.contains(version))
        };
        for field in fields
            .iter()
            .filter(|field| field.versions.contains(version) && !is_tagged(field))
        {
            self.value(field);
        }
        if self.flexible {
            let tagged = fields.iter().filter(|field| is_tagged(field));
            let tagged: Vec<_> = tagged.filter(|_| self.random.below(2) == 0).collect();
            let unknown = if self.unknown_tags {
                [0, 0, 1, 30][self.random.below(4)]
            } else {
                0
            };
            put_varint(&mut self.body, (tagged.len() + unknown) as u32);
            for field in tagged {
                let outer = std::mem::take(&mut self.body);
                self.value(field);
                let value = std::mem::replace(&mut self.body, outer);
                put_varint(&mut self.body, field.tag.expect("filtered by its tag").0);
                put_varint(&mut self.body, value.len() as u32);
                self.body.extend(value);
            }
            for tag in 0..unknown as u32 {
                put_varint(&mut self.body, 100 + tag);
                let size = self.random.below(20);
                put_varint(&mut self.body, size as u32);
                self.body.extend(std::iter::repeat_n(tag as u8, size));
            }
        }
    }

    fn value(&mut self, field: &'static Field) {
        let null = field.nullable.contains(self.version) && self.random.below(3) == 0;
        match &field.kind {
            Kind::Scalar(scalar) => self.scalar(*scalar),
            Kind::String if null => self.length(None, 2),
            Kind::String => self.string(),
            Kind::Bytes | Kind::Records if null => self.length(None, 4),
            Kind::Bytes | Kind::Records => {
                let length = self.random.below(300);
                self.length(Some(length), 4);
                self.body.extend(std::iter::repeat_n(0xa5, length));
            }
            Kind::Struct(fields) => {
                if field.nullable.contains(self.version) {
                    self.body.push(if null { 0xff } else { 1 });
                }
                if !null {
                    self.fields(fields);
                }
            }
            Kind::Array { .. } if null => self.length(None, 4),
            Kind::Array { item, .. } => {
                let count = [0, 1, 2, 3, 5, 40][self.random.below(if self.body.len() > 2000 {
                    4
                } else {
                    6
                })];
                self.length(Some(count), 4);
                for _ in 0..count {
                    match item {
                        Item::Scalar(scalar) => self.scalar(*scalar),
                        Item::String => self.string(),
                        Item::Struct(fields) => self.fields(fields),
                    }
                }
            }
        }
    }

    fn scalar(&mut self, scalar: Scalar) {
        let bytes =
            (u128::from(self.random.next()) << 64 | u128::from(self.random.next())).to_be_bytes();
        let size = match scalar {
            Scalar::Bool => return self.body.push(bytes[0] & 1),
            Scalar::Int8 => 1,
            Scalar::Int16 => 2,
            Scalar::Int32 => 4,
            Scalar::Int64 => 8,
            Scalar::Uuid => 16,
        };
        self.body.extend(&bytes[..size]);
    }

    fn string(&mut self) {
        let length = self.random.below(12);
        self.length(Some(length), 2);
        for _ in 0..length {
            let letter = b'a' + self.random.below(26) as u8;
            self.body.push(letter);
        }
    }

    fn length(&mut self, length: Option<usize>, size: usize) {
        if self.flexible {
            put_varint(&mut self.body, length.map_or(0, |length| length as u32 + 1));
        } else if size == 2 {
            self.body
                .extend(length.map_or(-1, |length| length as i16).to_be_bytes());
        } else {
            self.body
                .extend(length.map_or(-1, |length| length as i32).to_be_bytes());
        }
    }
}
