//! Producer ids are handed to brokers in blocks; each broker numbers its producers from its block.

use strandline_log::ProducerId;

use super::BrokerId;

/// Ids `first .. first + count`, for one broker's use and never handed out again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProducerIdBlock {
    pub broker_id: BrokerId,
    pub first: ProducerId,
    pub count: i32,
}

impl ProducerIdBlock {
    pub fn contains(&self, id: ProducerId) -> bool {
        id >= self.first && id - self.first < i64::from(self.count)
    }
}
