//! Exports what was tiered as Parquet: manifests and segments are read from the bucket alone, no broker is asked.
//!
//! [`export`] is the way in. A run goes in steps:
//! 1. Find the topic and its manifests in the bucket ([`source`]) and what the table has already ([`commit`]).
//! 2. Decide per partition what to read ([`plan`]): pure.
//! 3. Claim the table, so that no earlier run can commit any more, and delete what a crashed one left.
//! 4. Stream segments in chunks through rows ([`rows`], [`schema`]) into Parquet ([`data_file`]).
//! 5. Commit files and source offsets together, as one object created only if it is not there yet.
//!
//! Always holds (I8): each exported (partition, offset) is in the files that the commits name exactly once, as a row or
//! as a reject, whatever crashed or was retried. Memory is bounded by [`ExportLimits`], whatever the topic's size.
//!
//! What this package does not do: write to the bucket it reads, talk to a broker, or compact what it wrote.

pub mod aborted;
pub mod commit;
pub mod data_file;
mod error;
pub mod plan;
mod rejects;
mod request;
pub mod rows;
mod run;
pub mod schema;
pub mod source;
mod summary;
mod table_writer;
pub mod target;

pub use error::{ExportError, WriteError};
pub use request::{
    ExportLimits, ExportRequest, ExportSource, ExportTarget, KeyFormat, TableFormat, ValueFormat,
};
pub use run::export;
pub use summary::{ExportSummary, FileSummary, GapSummary, PartitionSummary, Progress};

#[cfg(test)]
mod tests;
