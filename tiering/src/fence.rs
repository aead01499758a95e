//! Who may write to a partition's remote state: (incarnation, leader epoch), compared in this order.
//!
//! Leader epochs compare only within one Raft history, so a restore raises the incarnation (design, decision 8).

use std::fmt;

use strandline_log::LeaderEpoch;

/// The right to edit a manifest. After an edit of one fence, none of an older one succeeds (I6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fence {
    pub incarnation: u64,
    pub leader_epoch: LeaderEpoch,
}

impl Fence {
    pub fn new(incarnation: u64, leader_epoch: LeaderEpoch) -> Self {
        Self {
            incarnation,
            leader_epoch,
        }
    }
}

impl fmt::Display for Fence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "incarnation {} epoch {}",
            self.incarnation, self.leader_epoch
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_restored_cluster_outranks_every_epoch_of_the_old_one() {
        assert!(Fence::new(2, 0) > Fence::new(1, 900));
        assert!(Fence::new(1, 5) > Fence::new(1, 4));
    }
}
