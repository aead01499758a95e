//! Why a run failed.

use crate::commit::CommitError;
use crate::plan::PlanError;
use crate::source::SourceError;
use crate::target::TargetError;

/// A failed export. What earlier commits hold stays valid; the next run goes on behind them.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    #[error("cannot read the topic from the object store: {0}")]
    Source(#[from] SourceError),
    #[error(transparent)]
    Plan(#[from] PlanError),
    #[error("cannot write the table: {0}")]
    Target(#[from] TargetError),
    #[error(transparent)]
    Commit(#[from] CommitError),
    #[error("cannot encode the table's files: {0}")]
    Write(#[from] WriteError),
    #[error(
        "\"{table}\" cannot name a table: it must be one folder's name, without slashes, not beginning with a dot"
    )]
    InvalidTable { table: String },
}

/// A file could not be encoded or spooled.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    #[error(transparent)]
    Parquet(#[from] parquet::errors::ParquetError),
    #[error(transparent)]
    Arrow(#[from] arrow_schema::ArrowError),
    #[error("the temporary file: {0}")]
    Io(#[from] std::io::Error),
}
