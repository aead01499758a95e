//! Records to rows: the columns of a record itself, and those of its value.
//!
//! - [`document`] parses one JSON value into typed cells.
//! - [`columns`] holds one growing column per JSON field.
//! - [`row_builder`] gathers rows and hands them out as an Arrow batch.

pub mod columns;
pub mod document;
pub mod row_builder;

pub use row_builder::{Pushed, RowBuilder, file_schema};
