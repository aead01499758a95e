//! Loads a coordinator by replaying its partition's log.

use bytes::Bytes;
use strandline_core::group::GroupShard;
use strandline_log::record::{DecodeLimit, batches_of, records_of};
use strandline_log::{Log, Offset};

/// How much is read at a time.
const READ_BYTES: usize = 4 << 20;

/// Replays the log from its start to its end as of now. Reads the disk. A batch or record that cannot be read is
/// reported and left out, as Kafka does.
pub fn load(log: &Log, shard: &mut GroupShard) -> Result<usize, strandline_log::ReadError> {
    let end = log.log_end_offset();
    let mut from = log.log_start_offset();
    let mut records = 0;
    while from < end {
        let read = log.read(from, end, READ_BYTES, true)?;
        let mut bytes = Vec::with_capacity(read.bytes);
        for slice in &read.slices {
            match slice.read_to_bytes() {
                Ok(part) => bytes.extend_from_slice(&part),
                Err(source) => {
                    let error = strandline_log::StorageError::new("read", log.dir(), source);
                    return Err(strandline_log::ReadError::Storage(error.into()));
                }
            }
        }
        let next = replay(Bytes::from(bytes), log, from, shard, &mut records);
        if next <= from {
            break;
        }
        from = next;
    }
    Ok(records)
}

/// Returns the offset behind the last whole batch.
fn replay(
    bytes: Bytes,
    log: &Log,
    from: Offset,
    shard: &mut GroupShard,
    count: &mut usize,
) -> Offset {
    let mut next = from;
    for batch in batches_of(bytes) {
        // The last one may be cut short by the size of the read.
        let Ok(batch) = batch else { break };
        next = next.max(batch.header.next_offset());
        for record in records_of(batch.bytes.clone(), DecodeLimit::default()) {
            let record = match record {
                Ok(record) => record,
                Err(error) => {
                    tracing::error!(partition = %log.topic_partition(), %error, "a batch of the coordinator's log cannot be read");
                    break;
                }
            };
            if record.offset < from {
                continue;
            }
            let Some(key) = &record.key else { continue };
            match shard.replay(key, record.value.as_deref()) {
                Ok(()) => *count += 1,
                Err(error) => {
                    tracing::error!(
                        partition = %log.topic_partition(),
                        offset = record.offset,
                        %error,
                        "a record of the coordinator's log cannot be read"
                    );
                }
            }
        }
    }
    next
}
