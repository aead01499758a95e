//! The states of a classic group, named as Kafka shows them.

/// Where a group is in its rebalance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupState {
    /// No members. It may have committed offsets.
    Empty,
    /// Members are asked to join again; those who do wait.
    PreparingRebalance,
    /// Everyone joined; the leader's assignment is awaited.
    CompletingRebalance,
    /// Everyone has an assignment.
    Stable,
    /// Not here, or gone.
    Dead,
}

impl GroupState {
    pub fn name(self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::PreparingRebalance => "PreparingRebalance",
            Self::CompletingRebalance => "CompletingRebalance",
            Self::Stable => "Stable",
            Self::Dead => "Dead",
        }
    }

    /// Whether a rebalance may begin: not while one is being prepared already.
    pub fn can_rebalance(self) -> bool {
        matches!(self, Self::Stable | Self::CompletingRebalance | Self::Empty)
    }

    fn may_follow(self, before: Self) -> bool {
        match self {
            Self::Empty | Self::CompletingRebalance => before == Self::PreparingRebalance,
            Self::PreparingRebalance => before.can_rebalance(),
            Self::Stable => before == Self::CompletingRebalance,
            Self::Dead => true,
        }
    }

    /// The next state. A wrong step is a bug of ours.
    pub(super) fn step(self, next: Self) -> Self {
        debug_assert!(
            next.may_follow(self),
            "a group went from {self:?} to {next:?}"
        );
        next
    }
}
