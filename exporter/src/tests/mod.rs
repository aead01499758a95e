//! Exports from real buckets into real tables, read back with Parquet's own reader.

mod exactly_once;
mod harness;
mod json;
mod raw;
