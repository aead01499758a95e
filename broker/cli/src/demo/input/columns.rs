//! The columns of a CSV: names, and the type that all cells of a column agree on.
//!
//! A column is of integers when every cell is one, of floats when every cell is a number, else of text. Empty cells are
//! null and decide nothing. Only what JSON writes the same way counts as a number: 007 and +5 stay text, so that
//! nothing is lost.

use anyhow::bail;
use csv::StringRecord;

/// Beyond it an input is hardly a table.
const COLUMNS_MAX: usize = 1000;
const NAMES_SHOWN_MAX: usize = 40;

/// From narrow to wide.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ColumnType {
    /// Only empty cells.
    Null,
    Integer,
    Float,
    Text,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    pub name: String,
    pub column_type: ColumnType,
}

/// A CSV's header.
pub struct ColumnNames(Vec<String>);

impl ColumnNames {
    /// Columns without a name get one; one that was there before gets a number.
    pub fn of(header: &StringRecord) -> anyhow::Result<Self> {
        if header.len() > COLUMNS_MAX {
            bail!("{} columns; at most {COLUMNS_MAX} are read", header.len());
        }
        let mut names: Vec<String> = Vec::with_capacity(header.len());
        for (index, name) in header.iter().enumerate() {
            let name = match name.trim() {
                "" => format!("column_{}", index + 1),
                name => name.to_owned(),
            };
            let mut unique = name.clone();
            let mut number = 2;
            while names.contains(&unique) {
                unique = format!("{name}_{number}");
                number += 1;
            }
            names.push(unique);
        }
        Ok(Self(names))
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn position_of(&self, field: Option<&str>) -> anyhow::Result<Option<usize>> {
        let Some(field) = field else {
            return Ok(None);
        };
        let position = self.0.iter().position(|name| name == field);
        if position.is_none() {
            let mut shown = self.0.clone();
            shown.truncate(NAMES_SHOWN_MAX);
            bail!("there is no column {field}; there are {}", shown.join(", "));
        }
        Ok(position)
    }
}

/// What the cells so far agree on.
pub struct ColumnTypes(Vec<ColumnType>);

impl ColumnTypes {
    pub fn new(columns: usize) -> Self {
        Self(vec![ColumnType::Null; columns])
    }

    pub fn widen(&mut self, cells: &StringRecord) {
        for (column, cell) in self.0.iter_mut().zip(cells) {
            if *column != ColumnType::Text {
                *column = (*column).max(ColumnType::of(cell));
            }
        }
    }

    pub fn columns(&self, names: &ColumnNames) -> Vec<Column> {
        let column = |(name, column_type): (&String, &ColumnType)| Column {
            name: name.clone(),
            column_type: *column_type,
        };
        names.0.iter().zip(&self.0).map(column).collect()
    }
}

impl ColumnType {
    pub fn of(cell: &str) -> Self {
        if cell.is_empty() {
            return Self::Null;
        }
        match number(cell.as_bytes()) {
            // -0 is an integer to JSON's grammar and a float to its readers.
            Some(Number::Whole) if cell != "-0" => match cell.parse::<i64>() {
                Ok(_) => Self::Integer,
                // A float would not hold its digits.
                Err(_) => Self::Text,
            },
            Some(_) if cell.parse::<f64>().is_ok_and(f64::is_finite) => Self::Float,
            _ => Self::Text,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Number {
    Whole,
    /// With a fraction or an exponent.
    Fractional,
}

/// A number by JSON's grammar.
pub fn number(cell: &[u8]) -> Option<Number> {
    let digits = |text: &[u8]| text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let mut rest = cell.strip_prefix(b"-").unwrap_or(cell);
    let mut kind = Number::Whole;
    let whole = digits(rest);
    if whole == 0 || (whole > 1 && rest[0] == b'0') {
        return None;
    }
    rest = &rest[whole..];
    if let Some(fraction) = rest.strip_prefix(b".") {
        kind = Number::Fractional;
        let length = digits(fraction);
        if length == 0 {
            return None;
        }
        rest = &fraction[length..];
    }
    if let [b'e' | b'E', exponent @ ..] = rest {
        kind = Number::Fractional;
        let exponent = match exponent {
            [b'+' | b'-', exponent @ ..] => exponent,
            exponent => exponent,
        };
        let length = digits(exponent);
        if length == 0 {
            return None;
        }
        rest = &exponent[length..];
    }
    rest.is_empty().then_some(kind)
}

/// For people: `14 integer, 5 text`.
pub fn summary(columns: &[Column]) -> String {
    let kinds = [
        (ColumnType::Integer, "integer"),
        (ColumnType::Float, "float"),
        (ColumnType::Text, "text"),
        (ColumnType::Null, "empty"),
    ];
    let parts: Vec<String> = kinds
        .iter()
        .filter_map(|(kind, name)| {
            let count = columns
                .iter()
                .filter(|column| column.column_type == *kind)
                .count();
            (count > 0).then(|| format!("{count} {name}"))
        })
        .collect();
    parts.join(", ")
}
