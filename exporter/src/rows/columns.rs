//! One growing column of a JSON field. Rows without the field are filled with nulls when the next value comes.

use std::sync::Arc;

use arrow_array::ArrayRef;
use arrow_array::builder::{BooleanBuilder, Float64Builder, Int64Builder, StringBuilder};

use super::document::Cell;
use crate::schema::{ColumnType, is_exact_double};

#[derive(Debug, Default)]
enum Values {
    /// No value yet.
    #[default]
    None,
    Boolean(BooleanBuilder),
    Int64(Int64Builder),
    Double(Float64Builder),
    Text(StringBuilder),
}

/// The values gathered since the last batch.
#[derive(Debug, Default)]
pub struct ColumnValues {
    values: Values,
    /// Rows filled in so far.
    len: usize,
    /// Whether an integer is among them that no double holds.
    has_inexact: bool,
}

impl ColumnValues {
    /// The schema has checked that the cell fits the type. `row` is at or behind `len`. Returns the bytes it takes.
    pub fn append(&mut self, row: usize, column_type: ColumnType, cell: Cell) -> usize {
        if matches!(cell, Cell::Null) {
            return 0;
        }
        self.become_type(column_type);
        self.pad(row);
        self.len = row + 1;
        match (&mut self.values, cell) {
            (Values::Boolean(b), Cell::Boolean(value)) => b.append_value(value),
            (Values::Int64(b), Cell::Int64(value)) => {
                b.append_value(value);
                self.has_inexact |= !is_exact_double(value);
            }
            (Values::Double(b), Cell::Int64(value)) => b.append_value(value as f64),
            (Values::Double(b), Cell::Double(value)) => b.append_value(value),
            (Values::Text(b), Cell::Text(value) | Cell::Nested(value)) => {
                b.append_value(&value);
                return value.len() + 8;
            }
            _ => unreachable!("the schema lets no cell pass that its column cannot hold"),
        }
        8
    }

    /// Whether the gathered values would change when the column widens to double.
    pub fn loses_by_widening(&self) -> bool {
        self.has_inexact
    }

    /// All rows up to `rows` as an array of the type, which is not `Null`.
    pub fn finish(&mut self, rows: usize, column_type: ColumnType) -> ArrayRef {
        self.become_type(column_type);
        self.pad(rows);
        self.len = 0;
        self.has_inexact = false;
        match std::mem::take(&mut self.values) {
            Values::None => unreachable!("only columns with a type are written"),
            Values::Boolean(mut b) => Arc::new(b.finish()),
            Values::Int64(mut b) => Arc::new(b.finish()),
            Values::Double(mut b) => Arc::new(b.finish()),
            Values::Text(mut b) => Arc::new(b.finish()),
        }
    }

    fn become_type(&mut self, column_type: ColumnType) {
        match (&mut self.values, column_type) {
            (Values::None, _) => {
                self.values = match column_type {
                    ColumnType::Null => Values::None,
                    ColumnType::Boolean => Values::Boolean(BooleanBuilder::new()),
                    ColumnType::Int64 => Values::Int64(Int64Builder::new()),
                    ColumnType::Double => Values::Double(Float64Builder::new()),
                    ColumnType::String | ColumnType::Json => Values::Text(StringBuilder::new()),
                };
                let len = std::mem::take(&mut self.len);
                self.pad(len);
            }
            (Values::Int64(b), ColumnType::Double) => {
                let integers = b.finish();
                let mut doubles = Float64Builder::with_capacity(integers.len());
                for value in &integers {
                    doubles.append_option(value.map(|v| v as f64));
                }
                self.values = Values::Double(doubles);
            }
            _ => {}
        }
    }

    fn pad(&mut self, rows: usize) {
        let missing = rows.saturating_sub(self.len);
        match &mut self.values {
            Values::None => {}
            Values::Boolean(b) => b.append_nulls(missing),
            Values::Int64(b) => b.append_nulls(missing),
            Values::Double(b) => b.append_nulls(missing),
            Values::Text(b) => (0..missing).for_each(|_| b.append_null()),
        }
        self.len = self.len.max(rows);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow_array::Array;
    use arrow_array::cast::AsArray;
    use arrow_array::types::{Float64Type, Int64Type};

    #[test]
    fn rows_without_a_value_are_null_before_between_and_after() {
        let mut column = ColumnValues::default();
        column.append(2, ColumnType::Int64, Cell::Int64(7));
        column.append(4, ColumnType::Int64, Cell::Int64(9));
        let array = column.finish(6, ColumnType::Int64);
        let values: Vec<_> = array.as_primitive::<Int64Type>().iter().collect();
        assert_eq!(values, [None, None, Some(7), None, Some(9), None]);
        let array = column.finish(2, ColumnType::Int64);
        assert_eq!(array.null_count(), 2, "nothing is left from before");
    }

    #[test]
    fn integers_widen_in_place() {
        let mut column = ColumnValues::default();
        column.append(0, ColumnType::Int64, Cell::Int64(7));
        assert!(!column.loses_by_widening());
        column.append(2, ColumnType::Double, Cell::Double(0.5));
        column.append(3, ColumnType::Double, Cell::Int64(3));
        let array = column.finish(4, ColumnType::Double);
        let values: Vec<_> = array.as_primitive::<Float64Type>().iter().collect();
        assert_eq!(values, [Some(7.0), None, Some(0.5), Some(3.0)]);
        column.append(0, ColumnType::Int64, Cell::Int64((1 << 53) + 1));
        assert!(column.loses_by_widening());
    }
}
