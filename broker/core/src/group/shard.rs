//! One partition's coordinator.

use uuid::Uuid;

use super::{GroupConfig, GroupEffect, GroupEvent};

/// Draws the random part of a new member's id. The driver passes one over the real generator, tests a seeded one.
pub type MemberIdSource = Box<dyn FnMut() -> Uuid + Send>;

/// A record of `__consumer_offsets` that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReplayError {
    #[error("the record is cut short")]
    Truncated,
    #[error("the record's text is not UTF-8")]
    NotUtf8,
    #[error("version {version} of {record} is unknown")]
    UnknownVersion { record: &'static str, version: i16 },
    #[error("the record's length of {length} is not possible")]
    BadLength { length: i64 },
}

/// The coordinator for the groups of one partition of `__consumer_offsets`.
pub struct GroupShard {
    config: GroupConfig,
    partition: i32,
    ids: MemberIdSource,
}

impl GroupShard {
    /// An empty shard that still has to load: requests are answered COORDINATOR_LOAD_IN_PROGRESS until
    /// [`finish_replay`](Self::finish_replay).
    pub fn new(config: GroupConfig, partition: i32, ids: MemberIdSource) -> Self {
        Self {
            config,
            partition,
            ids,
        }
    }

    pub fn partition(&self) -> i32 {
        self.partition
    }

    /// Takes one record of the partition, in log order. An unreadable record changes nothing; the driver logs it and
    /// goes on. Records of kinds that this coordinator does not keep are skipped.
    pub fn replay(&mut self, key: &[u8], value: Option<&[u8]>) -> Result<(), ReplayError> {
        let _ = (key, value);
        Ok(())
    }

    /// The log has been read to its end: members get a fresh session, requests are served.
    pub fn finish_replay(&mut self, now_ms: i64) {
        let _ = now_ms;
    }

    pub fn handle(&mut self, now_ms: i64, event: GroupEvent) -> Vec<GroupEffect> {
        let _ = (now_ms, event, &self.config, (self.ids)());
        Vec::new()
    }

    /// When the next [`GroupEvent::Tick`] is due.
    pub fn next_deadline(&self) -> Option<i64> {
        None
    }
}

/// The partition of `__consumer_offsets` that a group belongs to: Java's `String.hashCode`, made non-negative as Kafka
/// does, modulo the partitions.
pub fn partition_for_group(group_id: &str, partitions: i32) -> i32 {
    let hash = group_id.encode_utf16().fold(0i32, |hash, unit| {
        hash.wrapping_mul(31).wrapping_add(i32::from(unit))
    });
    let positive = if hash == i32::MIN { 0 } else { hash.abs() };
    positive % partitions.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_land_where_kafka_puts_them() {
        // "polygenelubricants" hashes to Integer.MIN_VALUE, which Kafka maps to 0.
        assert_eq!(partition_for_group("polygenelubricants", 50), 0);
        assert_eq!(partition_for_group("", 50), 0);
        assert_eq!(partition_for_group("a", 50), 97 % 50);
        // "test".hashCode() == 3556498.
        assert_eq!(partition_for_group("test", 50), 3_556_498 % 50);
    }
}
