//! Where each row of the input goes. Loading and comparing ask the same question, so that both see the same answer.

use strandline_client::partition_for_key;
use strandline_log::TopicPartition;

pub struct Placement {
    pub topic: String,
    pub partitions: i32,
    keyed: bool,
}

impl Placement {
    pub fn new(topic: &str, partitions: i32, keyed: bool) -> Self {
        Self {
            topic: topic.to_owned(),
            partitions,
            keyed,
        }
    }

    /// As Kafka's clients place keys; rows without one go round.
    pub fn partition(&self, row: u64, key: Option<&[u8]>) -> i32 {
        match key {
            Some(key) if self.keyed => partition_for_key(key, self.partitions),
            _ => {
                let partitions = u64::try_from(self.partitions).unwrap_or(1).max(1);
                i32::try_from(row % partitions).unwrap_or(0)
            }
        }
    }

    pub fn topic_partition(&self, partition: i32) -> TopicPartition {
        TopicPartition::new(self.topic.as_str(), partition)
    }

    pub fn all(&self) -> impl Iterator<Item = i32> + use<> {
        0..self.partitions
    }
}

/// A partition's place in a list by partition.
pub fn index(partition: i32) -> usize {
    usize::try_from(partition).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_stay_together_and_rows_without_one_go_round() {
        let keyed = Placement::new("t", 3, true);
        for row in 0..9 {
            assert_eq!(
                keyed.partition(row, Some(b"N14228")),
                partition_for_key(b"N14228", 3)
            );
            assert_eq!(keyed.partition(row, None), (row % 3) as i32);
        }
    }
}
