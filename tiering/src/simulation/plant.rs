//! Bugs planted on purpose, one per invariant, to see that the simulation catches them. Only tests have the switch.

use std::cell::Cell;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plant {
    /// I3: what is not committed yet is uploaded.
    UploadAboveHighWatermark,
    /// I4: local bytes are dropped when they are sealed, uploaded or not.
    DropBeforeUpload,
    /// I5: an object whose edit had an unknown outcome is removed at once.
    RemoveAfterUnknownOutcome,
    /// I5: garbage is deleted before the floor is raised.
    SweepWithoutFloor,
    /// I1: a leader that has lost records does not look at the manifest.
    TrustLocalLog,
    /// I6: an older fence is let through.
    IgnoreFence,
}

thread_local! {
    static PLANTED: Cell<Option<Plant>> = const { Cell::new(None) };
}

pub fn plant(plant: Option<Plant>) {
    PLANTED.set(plant);
}

pub fn is_planted(plant: Plant) -> bool {
    PLANTED.get() == Some(plant)
}
