//! The in-sync set: committed, or with a change on its way to the metadata quorum.

use std::collections::BTreeSet;

/// A change of the ISR to propose. It is valid only against `partition_epoch`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IsrChange {
    pub isr: Vec<i32>,
    pub leader_epoch: i32,
    pub partition_epoch: i32,
}

/// The in-sync set. At most one change is in flight.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IsrState {
    Committed {
        isr: BTreeSet<i32>,
    },
    PendingExpand {
        isr: BTreeSet<i32>,
        joining: i32,
    },
    PendingShrink {
        isr: BTreeSet<i32>,
        leaving: BTreeSet<i32>,
    },
}

impl IsrState {
    /// The set that the quorum last committed.
    pub fn committed(&self) -> &BTreeSet<i32> {
        match self {
            Self::Committed { isr }
            | Self::PendingExpand { isr, .. }
            | Self::PendingShrink { isr, .. } => isr,
        }
    }

    /// Whether a replica must be waited for: in the committed set, or perhaps in the next one. The larger set is the
    /// safe one while nobody knows which holds.
    pub fn maximal_contains(&self, replica: i32) -> bool {
        self.committed().contains(&replica)
            || matches!(self, Self::PendingExpand { joining, .. } if *joining == replica)
    }

    pub fn maximal_len(&self) -> usize {
        self.committed().len() + usize::from(matches!(self, Self::PendingExpand { .. }))
    }

    pub fn is_in_flight(&self) -> bool {
        !matches!(self, Self::Committed { .. })
    }
}
