//! One record's JSON value, its top level taken apart into typed cells.
//!
//! Nested objects and arrays become their compact JSON text. Of a field that is there twice the last counts, as most
//! readers have it. The parser bounds the depth; the record's size bounds the rest.

use std::fmt;

use indexmap::IndexMap;
use serde::Deserialize;
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{Deserializer, Error, MapAccess, SeqAccess, Visitor};

/// Fields of one object; more are rejected before they take memory.
const FIELDS_MAX: usize = 10_000;

/// One field's value.
#[derive(Clone, Debug, PartialEq)]
pub enum Cell {
    Null,
    Boolean(bool),
    Int64(i64),
    Double(f64),
    Text(String),
    /// The JSON text of an object or array.
    Nested(String),
}

/// The fields of an object, in its order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Document {
    fields: IndexMap<String, Cell>,
}

impl Document {
    /// The error says what is wrong and where.
    pub fn parse(json: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(json)
    }

    pub fn fields(&self) -> impl Iterator<Item = (&str, &Cell)> {
        self.fields
            .iter()
            .map(|(field, cell)| (field.as_str(), cell))
    }

    pub fn into_fields(self) -> impl Iterator<Item = (String, Cell)> {
        self.fields.into_iter()
    }
}

impl<'de> Deserialize<'de> for Document {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(DocumentVisitor)
    }
}

struct DocumentVisitor;

impl<'de> Visitor<'de> for DocumentVisitor {
    type Value = Document;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Document, A::Error> {
        let mut fields = IndexMap::new();
        while let Some((field, cell)) = map.next_entry()? {
            if fields.len() >= FIELDS_MAX {
                return Err(A::Error::custom(format!("more than {FIELDS_MAX} fields")));
            }
            fields.insert(field, cell);
        }
        Ok(Document { fields })
    }
}

impl<'de> Deserialize<'de> for Cell {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(CellVisitor)
    }
}

struct CellVisitor;

impl<'de> Visitor<'de> for CellVisitor {
    type Value = Cell;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E: Error>(self) -> Result<Cell, E> {
        Ok(Cell::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Cell, E> {
        Ok(Cell::Boolean(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Cell, E> {
        Ok(Cell::Int64(value))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Cell, E> {
        i64::try_from(value).map(Cell::Int64).map_err(|_| {
            E::custom(format!(
                "the integer {value} does not fit a column of int64"
            ))
        })
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Cell, E> {
        Ok(Cell::Double(value))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Cell, E> {
        Ok(Cell::Text(value.to_owned()))
    }

    fn visit_string<E: Error>(self, value: String) -> Result<Cell, E> {
        Ok(Cell::Text(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Cell, A::Error> {
        let value = serde_json::Value::deserialize(SeqAccessDeserializer::new(seq))?;
        Ok(Cell::Nested(value.to_string()))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Cell, A::Error> {
        let value = serde_json::Value::deserialize(MapAccessDeserializer::new(map))?;
        Ok(Cell::Nested(value.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_object_becomes_cells_in_its_order() {
        let json = r#"{"z":1,"a":-2.5,"t":"x\u00e9","n":null,"b":true,"l":[1, {"k":"v"}],"o":{"x":1},"z":9}"#;
        let document = Document::parse(json.as_bytes()).expect("parses");
        let text = |s: &str| Cell::Text(s.to_owned());
        let nested = |s: &str| Cell::Nested(s.to_owned());
        let fields: Vec<_> = document.fields().map(|(f, c)| (f, c.clone())).collect();
        assert_eq!(
            fields,
            [
                ("z", Cell::Int64(9)),
                ("a", Cell::Double(-2.5)),
                ("t", text("xé")),
                ("n", Cell::Null),
                ("b", Cell::Boolean(true)),
                ("l", nested(r#"[1,{"k":"v"}]"#)),
                ("o", nested(r#"{"x":1}"#)),
            ]
        );
    }

    #[test]
    fn what_is_no_object_is_refused_with_a_cause() {
        for (json, cause) in [
            ("", "EOF"),
            ("5", "expected a JSON object"),
            ("[1]", "expected a JSON object"),
            ("null", "expected a JSON object"),
            ("\"text\"", "expected a JSON object"),
            ("{\"a\":1", "EOF"),
            ("{\"a\":1} x", "trailing"),
            ("{\"a\":18446744073709551615}", "does not fit"),
            ("{\"a\":\"\\ud800\"}", "hex escape"),
        ] {
            let error = Document::parse(json.as_bytes())
                .expect_err(json)
                .to_string();
            assert!(error.contains(cause), "{json}: {error}");
        }
        assert!(Document::parse(b"{\"a\":\"\xff\"}").is_err());
        let deep = format!("{{\"a\":{}{}}}", "[".repeat(10_000), "]".repeat(10_000));
        assert!(Document::parse(deep.as_bytes()).is_err());
        let many: Vec<_> = (0..=FIELDS_MAX).map(|i| format!("\"f{i}\":1")).collect();
        assert!(Document::parse(format!("{{{}}}", many.join(",")).as_bytes()).is_err());
    }

    proptest! {
        #[test]
        fn garbage_never_panics(bytes: Vec<u8>) {
            let _ = Document::parse(&bytes);
        }
    }
}
