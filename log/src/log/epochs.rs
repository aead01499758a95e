//! The leader epochs of the log.

use super::Log;
use crate::leader_epoch::EpochEntry;
use crate::log_error::LogError;
use crate::types::{LeaderEpoch, Offset};

impl Log {
    /// Notes that the epoch begins at the log's end. In memory only: the first append of the epoch writes it.
    pub fn assign_epoch(&self, epoch: LeaderEpoch) -> Result<(), LogError> {
        self.check_open()?;
        let end = self.log_end_offset();
        let mut epochs = self.epochs.lock();
        if epochs.latest_epoch().is_none_or(|latest| latest < epoch) {
            epochs.assign(epoch, end);
        }
        Ok(())
    }

    /// An append of `epoch` begins at `offset`: its epoch must be on disk before it.
    pub(super) fn note_epoch(&self, epoch: LeaderEpoch, offset: Offset) -> Result<(), LogError> {
        let mut epochs = self.epochs.lock();
        if epoch >= 0 && epochs.latest_epoch().is_none_or(|latest| latest < epoch) {
            epochs.assign(epoch, offset);
        }
        if epochs.is_dirty() {
            epochs.flush(true)?;
        }
        Ok(())
    }

    pub fn latest_epoch(&self) -> Option<LeaderEpoch> {
        self.epochs.lock().latest_epoch()
    }

    /// The largest known epoch that is at most `epoch`, and where it ends.
    pub fn epoch_end_offset(&self, epoch: LeaderEpoch) -> Option<(LeaderEpoch, Offset)> {
        let end = self.log_end_offset();
        self.epochs.lock().end_offset_for(epoch, end)
    }

    /// All epochs from the log start on, oldest first; also of what only the tier holds.
    pub fn epoch_entries(&self) -> Vec<EpochEntry> {
        self.epochs.lock().entries()
    }

    pub fn epoch_for_offset(&self, offset: Offset) -> Option<LeaderEpoch> {
        self.epochs.lock().epoch_for_offset(offset)
    }
}
