//! The records of `__consumer_offsets`, in Kafka's formats: a file each.
//!
//! The key's first two bytes tell the kind. Kinds of newer protocols (KIP-848 groups and others) are skipped.

mod group_metadata_key;
mod group_metadata_value;
mod offset_commit_key;
mod offset_commit_value;
mod reader;

pub use group_metadata_key::GroupMetadataKey;
pub use group_metadata_value::{GroupMetadataValue, MemberMetadata};
pub use offset_commit_key::OffsetCommitKey;
pub use offset_commit_value::OffsetCommitValue;
pub use reader::RecordError;

use reader::Reader;

/// A key of `__consumer_offsets`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CoordinatorKey {
    OffsetCommit(OffsetCommitKey),
    GroupMetadata(GroupMetadataKey),
    /// A kind that this coordinator does not keep.
    Other(i16),
}

impl CoordinatorKey {
    pub fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        match Reader::new(bytes).i16()? {
            0 | 1 => OffsetCommitKey::decode(bytes).map(Self::OffsetCommit),
            2 => GroupMetadataKey::decode(bytes).map(Self::GroupMetadata),
            other => Ok(Self::Other(other)),
        }
    }
}
