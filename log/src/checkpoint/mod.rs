//! The small text files of a log folder and of a partition: what was flushed, which topic, whose folder.
//!
//! A checkpoint is replaced whole: written beside, fsynced, renamed, the folder fsynced. A reader therefore sees
//! the old file or the new one. A file that does not parse is an error that names it, never a guess.

mod atomic_file;
mod checkpoint_file;
mod clean_shutdown_file;
mod damage_file;
mod error;
mod meta_properties;
mod offset_checkpoint_file;
mod partition_metadata_file;

#[cfg(test)]
mod tests;

pub use atomic_file::{sync_dir, write_atomically};
pub(crate) use checkpoint_file::{parse_checkpoint, write_checkpoint};
pub use clean_shutdown_file::CleanShutdownFile;
pub use damage_file::{DamageEntry, DamageFile};
pub use error::StateFileError;
pub use meta_properties::MetaProperties;
pub use offset_checkpoint_file::{
    CLEANER_OFFSET_CHECKPOINT, LOG_START_OFFSET_CHECKPOINT, OffsetCheckpointFile,
    RECOVERY_POINT_CHECKPOINT, REPLICATION_OFFSET_CHECKPOINT,
};
pub use partition_metadata_file::PartitionMetadataFile;
