//! Going on where the tier ends: for a log that has lost records which the tier still holds.

use bytes::Bytes;

use super::Log;
use crate::checkpoint::sync_dir;
use crate::leader_epoch::EpochEntry;
use crate::log_error::LogError;
use crate::types::{Offset, TimestampMs};

/// What the tier knows of the log at the offset where its local part is to begin anew.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TierStart {
    /// The first offset that may be read, from the tier.
    pub log_start: Offset,
    /// Where the local part begins.
    pub offset: Offset,
    /// Oldest first, of everything below `offset`.
    pub epochs: Vec<EpochEntry>,
    /// The producers' state at `offset`, in the format of `.snapshot` files; empty: none are known.
    pub producer_snapshot: Bytes,
}

impl Log {
    /// Drops all local records and goes on at `start.offset` with the tier's epochs and producers. All that was
    /// dropped below that offset is either in the tier or was never committed: the caller answers for it.
    ///
    /// A crash in between leaves a log that still ends below the tier: the next start does it again. The caller writes
    /// the checkpoints before it appends, so that a crash does not forget the log start.
    pub fn start_from_tier(&self, start: &TierStart, now_ms: TimestampMs) -> Result<(), LogError> {
        let _writer = self.writer.lock();
        let _flushing = self.flushing.lock();
        self.check_open()?;
        self.start_anew(start.offset, now_ms)?;
        {
            let mut producers = self.producers.lock();
            let mut snapshots = self.snapshots.lock();
            if !start.producer_snapshot.is_empty() {
                snapshots.write(start.offset, &start.producer_snapshot, true)?;
            }
            snapshots.load_latest(
                &mut producers,
                start.offset,
                start.offset,
                now_ms,
                self.producer_id_expiration_ms,
            )?;
            producers.set_map_end_offset(start.offset);
            producers.on_high_watermark(start.offset);
            self.note_first_unstable(&producers);
        }
        {
            let mut epochs = self.epochs.lock();
            epochs.replace(&start.epochs);
            epochs.truncate_from_end(start.offset);
            epochs.truncate_from_start(start.log_start);
            epochs.flush(true)?;
        }
        sync_dir(&self.dir)?;
        self.log_start.store(
            start.log_start.min(start.offset),
            std::sync::atomic::Ordering::Release,
        );
        self.note_change();
        Ok(())
    }
}
