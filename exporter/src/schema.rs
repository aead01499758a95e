//! The columns that JSON fields become: inferred from the data, kept by the commits, changed only in ways that every
//! file already written agrees with.
//!
//! - A field's first value that is not null decides its column's type. A field that was only null so far has no column in
//!   the files yet: any type could still turn out right.
//! - A new field adds a column; older files read it as null.
//! - int64 widens to double. Every other change of type is a conflict: the record is a reject.
//! - Objects and arrays are kept as JSON text, under a type of their own: a text is not an array.
//! - A field whose name a record's own column has, or that differs from another only in case, gets a column name of
//!   its own: engines compare names without case.

use std::collections::{HashMap, HashSet};

use arrow_schema::DataType;
use serde::{Deserialize, Serialize};

use crate::rows::document::{Cell, Document};

/// Columns that every table of JSON fields has of its own.
pub const RECORD_COLUMNS: [&str; 6] = [
    "topic",
    "partition",
    "offset",
    "timestamp",
    "key",
    "headers",
];
const FIELD_NAME_BYTES_MAX: usize = 1_024;

/// A column's type. `Null`: no value has shown it yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ColumnType {
    Null,
    Boolean,
    Int64,
    Double,
    String,
    /// An object or array, as text.
    Json,
}

impl ColumnType {
    pub fn of(cell: &Cell) -> Self {
        match cell {
            Cell::Null => Self::Null,
            Cell::Boolean(_) => Self::Boolean,
            Cell::Int64(_) => Self::Int64,
            Cell::Double(_) => Self::Double,
            Cell::Text(_) => Self::String,
            Cell::Nested(_) => Self::Json,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Boolean => "boolean",
            Self::Int64 => "int64",
            Self::Double => "double",
            Self::String => "string",
            Self::Json => "json",
        }
    }

    /// `None` while there is no type to write.
    pub fn data_type(self) -> Option<DataType> {
        match self {
            Self::Null => None,
            Self::Boolean => Some(DataType::Boolean),
            Self::Int64 => Some(DataType::Int64),
            Self::Double => Some(DataType::Float64),
            Self::String | Self::Json => Some(DataType::Utf8),
        }
    }
}

/// A JSON field and its column.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Column {
    pub name: String,
    pub field: String,
    #[serde(rename = "type")]
    pub column_type: ColumnType,
}

/// Why a record does not fit its table.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Conflict {
    #[error("field \"{field}\" is {found}, its column is {column}")]
    Type {
        field: String,
        found: &'static str,
        column: &'static str,
    },
    #[error("field \"{field}\" is {value}, which its column of doubles cannot hold exactly")]
    Inexact { field: String, value: i64 },
    #[error("field \"{field}\" would be column {columns_max} + 1, the most a table may have")]
    TooManyColumns { field: String, columns_max: usize },
    #[error("a field's name is longer than {FIELD_NAME_BYTES_MAX} bytes")]
    LongName,
}

/// What a record asks of the schema.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    Add {
        field: String,
        column_type: ColumnType,
    },
    /// A column's first value.
    Settle {
        column: usize,
        column_type: ColumnType,
    },
    /// int64 to double.
    Widen { column: usize },
}

/// All columns of a table's fields, in the order in which they were met.
#[derive(Clone, Debug, Default)]
pub struct TableSchema {
    columns: Vec<Column>,
    by_field: HashMap<String, usize>,
    /// In lower case.
    names: HashSet<String>,
    columns_max: usize,
}

impl TableSchema {
    pub fn new(columns: Vec<Column>, columns_max: usize) -> Self {
        let by_field = columns
            .iter()
            .enumerate()
            .map(|(i, column)| (column.field.clone(), i))
            .collect();
        let names = RECORD_COLUMNS
            .into_iter()
            .map(str::to_owned)
            .chain(columns.iter().map(|column| column.name.to_lowercase()))
            .collect();
        Self {
            columns,
            by_field,
            names,
            columns_max,
        }
    }

    pub fn columns(&self) -> &[Column] {
        &self.columns
    }

    pub fn column_of(&self, field: &str) -> Option<usize> {
        self.by_field.get(field).copied()
    }

    /// What must change for a record to fit; nothing is changed yet, so that a reject leaves no trace.
    pub fn check(&self, document: &Document) -> Result<Vec<Change>, Conflict> {
        let mut changes = Vec::new();
        let mut added = 0;
        for (field, cell) in document.fields() {
            let found = ColumnType::of(cell);
            let Some(column) = self.column_of(field) else {
                if field.len() > FIELD_NAME_BYTES_MAX {
                    return Err(Conflict::LongName);
                }
                added += 1;
                if self.columns.len() + added > self.columns_max {
                    return Err(Conflict::TooManyColumns {
                        field: field.to_owned(),
                        columns_max: self.columns_max,
                    });
                }
                changes.push(Change::Add {
                    field: field.to_owned(),
                    column_type: found,
                });
                continue;
            };
            match (self.columns[column].column_type, found) {
                (_, ColumnType::Null) => {}
                (there, found) if there == found => {}
                (ColumnType::Null, column_type) => changes.push(Change::Settle {
                    column,
                    column_type,
                }),
                (ColumnType::Int64, ColumnType::Double) => changes.push(Change::Widen { column }),
                (ColumnType::Double, ColumnType::Int64) => {
                    if let Cell::Int64(value) = cell
                        && !is_exact_double(*value)
                    {
                        return Err(Conflict::Inexact {
                            field: field.to_owned(),
                            value: *value,
                        });
                    }
                }
                (there, found) => {
                    return Err(Conflict::Type {
                        field: field.to_owned(),
                        found: found.name(),
                        column: there.name(),
                    });
                }
            }
        }
        Ok(changes)
    }

    pub fn apply(&mut self, change: &Change) {
        match change {
            Change::Add { field, column_type } => {
                let name = self.free_name(field);
                self.names.insert(name.to_lowercase());
                self.by_field.insert(field.clone(), self.columns.len());
                self.columns.push(Column {
                    name,
                    field: field.clone(),
                    column_type: *column_type,
                });
            }
            Change::Settle {
                column,
                column_type,
            } => self.columns[*column].column_type = *column_type,
            Change::Widen { column } => self.columns[*column].column_type = ColumnType::Double,
        }
    }

    fn free_name(&self, field: &str) -> String {
        let mut base = if field.is_empty() { "_" } else { field }.to_owned();
        if RECORD_COLUMNS.contains(&base.to_lowercase().as_str()) {
            base = format!("value_{base}");
        }
        let mut name = base.clone();
        let mut n = 2;
        while self.names.contains(&name.to_lowercase()) {
            name = format!("{base}_{n}");
            n += 1;
        }
        name
    }
}

/// Whether a double has this very value.
pub fn is_exact_double(value: i64) -> bool {
    (value as f64) as i128 == i128::from(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(json: &str) -> Document {
        Document::parse(json.as_bytes()).expect("parses")
    }

    fn admit(schema: &mut TableSchema, json: &str) -> Result<(), Conflict> {
        for change in schema.check(&document(json))? {
            schema.apply(&change);
        }
        Ok(())
    }

    fn types(schema: &TableSchema) -> Vec<(&str, ColumnType)> {
        let columns = schema.columns().iter();
        columns.map(|c| (c.name.as_str(), c.column_type)).collect()
    }

    #[test]
    fn types_come_from_the_first_value_and_only_widen() {
        use ColumnType::*;
        let mut schema = TableSchema::new(Vec::new(), 100);
        let first = r#"{"a":1,"b":"x","c":null,"d":true,"e":[1],"f":2.5}"#;
        admit(&mut schema, first).expect("new");
        let expected = [
            ("a", Int64),
            ("b", String),
            ("c", Null),
            ("d", Boolean),
            ("e", Json),
            ("f", Double),
        ];
        assert_eq!(types(&schema), expected);
        for fits in [
            r#"{"c":"now a text"}"#,
            r#"{"a":null,"b":null,"d":null,"e":null,"f":null}"#,
            r#"{"a":1.5}"#,
            r#"{"f":7,"a":7}"#,
            r#"{"e":{"x":1},"g":0}"#,
            "{}",
        ] {
            admit(&mut schema, fits).expect(fits);
        }
        let expected = [
            ("a", Double),
            ("b", String),
            ("c", String),
            ("d", Boolean),
            ("e", Json),
            ("f", Double),
            ("g", Int64),
        ];
        assert_eq!(types(&schema), expected);
        for conflict in [
            r#"{"a":"1"}"#,
            r#"{"b":1}"#,
            r#"{"b":[1]}"#,
            r#"{"d":1}"#,
            r#"{"e":"[1]"}"#,
            r#"{"g":true,"new":1}"#,
            r#"{"f":9007199254740993}"#,
        ] {
            let before = schema.columns().to_vec();
            admit(&mut schema, conflict).expect_err(conflict);
            assert_eq!(schema.columns(), before, "a reject leaves no trace");
        }
    }

    #[test]
    fn names_are_told_apart_without_case() {
        let mut schema = TableSchema::new(Vec::new(), 100);
        admit(
            &mut schema,
            r#"{"offset":1,"Key":2,"id":3,"ID":4,"":5,"value_offset":6}"#,
        )
        .expect("new");
        let names: Vec<_> = schema.columns().iter().map(|c| c.name.as_str()).collect();
        assert_eq!(
            names,
            [
                "value_offset",
                "value_Key",
                "id",
                "ID_2",
                "_",
                "value_offset_2"
            ]
        );
        let restored = TableSchema::new(schema.columns().to_vec(), 100);
        assert_eq!(restored.column_of("ID"), Some(3));
        assert_eq!(restored.free_name("Id"), "Id_3");
    }

    #[test]
    fn columns_and_names_have_limits() {
        let mut schema = TableSchema::new(Vec::new(), 2);
        admit(&mut schema, r#"{"a":1}"#).expect("one");
        admit(&mut schema, r#"{"b":1,"c":1}"#).expect_err("three");
        admit(&mut schema, r#"{"b":1,"a":1}"#).expect("two");
        let long = format!("{{\"{}\":1}}", "x".repeat(FIELD_NAME_BYTES_MAX + 1));
        assert_eq!(
            TableSchema::new(Vec::new(), 2).check(&document(&long)),
            Err(Conflict::LongName)
        );
    }

    #[test]
    fn doubles_hold_integers_exactly_or_not() {
        for (value, exact) in [
            (0, true),
            (1 << 53, true),
            ((1 << 53) + 1, false),
            (i64::MIN, true),
            (i64::MAX, false),
        ] {
            assert_eq!(is_exact_double(value), exact, "{value}");
        }
    }
}
