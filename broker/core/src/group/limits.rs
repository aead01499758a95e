//! What a request may ask the coordinator to keep.
//!
//! Records hold texts with 16-bit lengths; flexible requests can carry longer ones. They are refused before they reach a
//! record.

use kafka_protocol::ResponseError as KafkaError;

use super::event::{ClientIdentity, GroupRequest};

/// The longest text of a record.
pub const TEXT_BYTES_MAX: usize = i16::MAX as usize;
/// A member's id is a text and `-` and a UUID.
const ID_PREFIX_BYTES_MAX: usize = TEXT_BYTES_MAX - 37;

pub fn check(client: &ClientIdentity, request: &GroupRequest) -> Result<(), KafkaError> {
    match request {
        GroupRequest::Join(r) => {
            check_group(&r.group_id, false)?;
            let fits = client.client_id.len() <= ID_PREFIX_BYTES_MAX
                && client.client_host.len() <= TEXT_BYTES_MAX
                && r.group_instance_id
                    .as_ref()
                    .is_none_or(|id| id.len() <= ID_PREFIX_BYTES_MAX)
                && r.protocol_type.len() <= TEXT_BYTES_MAX
                && r.protocols.iter().all(|p| p.name.len() <= TEXT_BYTES_MAX);
            if fits {
                Ok(())
            } else {
                Err(KafkaError::InvalidRequest)
            }
        }
        GroupRequest::Sync(r) => check_group(&r.group_id, false),
        GroupRequest::Heartbeat(r) => check_group(&r.group_id, false),
        GroupRequest::Leave(r) => check_group(&r.group_id, false),
        // Offsets may be committed for the group without a name: old clients do.
        GroupRequest::OffsetCommit(r) => {
            check_group(&r.group_id, true)?;
            if r.topics.iter().all(|t| t.name.len() <= TEXT_BYTES_MAX) {
                Ok(())
            } else {
                Err(KafkaError::InvalidTopicException)
            }
        }
        // These write only about what is here already.
        GroupRequest::OffsetFetch { .. }
        | GroupRequest::OffsetDelete(_)
        | GroupRequest::List(_)
        | GroupRequest::Describe(_)
        | GroupRequest::Delete(_) => Ok(()),
    }
}

fn check_group(id: &str, may_be_empty: bool) -> Result<(), KafkaError> {
    if id.len() > TEXT_BYTES_MAX || (id.is_empty() && !may_be_empty) {
        return Err(KafkaError::InvalidGroupId);
    }
    Ok(())
}
