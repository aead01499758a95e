//! What a leader does before its first append (design, decision 8): it goes on at the manifest's end.
//!
//! The manifest names only committed records, so it wins over a local log that ends below it, or whose records there are
//! of another epoch: power loss, an unclean election, a lost disk. Then the local records are dropped, and the log goes on
//! at the manifest's end with its epochs and its producers.
//!
//! 1. [`RemotePartition::is_covered`]: the partition's folder proves that the log holds all that a manifest may name.
//!    The proof is a checkpoint that is written and synced before each edit that moves the manifest's end, as long as no
//!    other broker led meanwhile. No request. An in-sync follower needs no proof: it has all that is committed.
//! 2. Else [`RemotePartition::settle`] claims the manifest, so that edits of older leaders that are still under way
//!    cannot land any more, compares, cuts, and writes the proof.

use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use strandline_log::checkpoint::{StateFileError, write_atomically};
use strandline_log::{LeaderEpoch, LogError, Offset, TierStart};

use super::RemotePartition;
use crate::blocking;
use crate::bucket_reader::{BucketError, SegmentReadError, read_segment_tail};
use crate::core::ProbeError;
use crate::manifest::{Lookup, Manifest, ManifestEntry, ManifestStoreError};
use crate::store::Purpose;

/// In the partition's folder: the version, then the largest offset at which this broker's edits let the manifest end, and
/// the last term in which it led.
const CHECKPOINT: &str = "remote-end-checkpoint";
const VERSION: &str = "0";

#[derive(Debug, thiserror::Error)]
pub enum SettleError {
    #[error("{0}")]
    Store(String),
    #[error(transparent)]
    Manifest(#[from] ManifestStoreError),
    #[error(transparent)]
    Segment(#[from] SegmentReadError),
    #[error(transparent)]
    Log(#[from] LogError),
    #[error(transparent)]
    Checkpoint(#[from] StateFileError),
    #[error("a blocking task died: {0}")]
    Died(#[from] tokio::task::JoinError),
}

impl From<ProbeError> for SettleError {
    fn from(error: ProbeError) -> Self {
        Self::Store(error.to_string())
    }
}

impl From<BucketError> for SettleError {
    fn from(error: BucketError) -> Self {
        Self::Store(error.to_string())
    }
}

impl SettleError {
    /// A newer leader has the manifest: this one should not be.
    pub fn is_fenced(&self) -> bool {
        matches!(self, Self::Manifest(error) if error.is_fenced())
    }
}

/// What became of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settled {
    /// It holds everything up to the manifest's end.
    Covered,
    /// It had lost records: it goes on at this offset.
    StartedAt(Offset),
}

/// Whether a log must go on at the manifest's end instead of at its own. `epoch_of` is the log's.
fn must_start_anew(
    manifest: &Manifest,
    entries_end: Option<Offset>,
    log_start: Offset,
    log_end: Offset,
    epoch_of: impl Fn(Offset) -> Option<LeaderEpoch>,
) -> bool {
    if log_end < manifest.end_offset() {
        return true;
    }
    // Records of one epoch and offset are the same records, and so are all before them.
    let Some(last) = entries_end.map(|end| end - 1).filter(|l| *l >= log_start) else {
        return false;
    };
    match (manifest.epoch_for_offset(last), epoch_of(last)) {
        (Some(theirs), Some(ours)) => theirs != ours,
        // Without epochs nothing tells them apart.
        _ => false,
    }
}

impl RemotePartition {
    fn checkpoint_path(&self) -> PathBuf {
        self.log().dir().join(CHECKPOINT)
    }

    /// Whether the local log provably holds everything that the manifest may name; then it is settled. `only_replica`:
    /// no other broker can have led since the checkpoint was written. Blocks on a small file.
    pub fn is_covered(&self, only_replica: bool) -> bool {
        let known = read_checkpoint(&self.checkpoint_path());
        let epoch = self.leader.fence.leader_epoch;
        let covered = known.is_some_and(|known| {
            known.end <= self.log().log_end_offset()
                // Terms are numbered one by one: between these two nobody else led.
                && (only_replica || known.leader_epoch.checked_add(1) == Some(epoch))
        }) || is_planted!(TrustLocalLog);
        if let Some(known) = known
            && covered
            && !only_replica
        {
            // Lost with the power, it proves nothing; that costs a look at the manifest.
            let term = Checkpoint {
                leader_epoch: epoch,
                ..known
            };
            if let Err(error) = term.write(&self.checkpoint_path(), false) {
                tracing::warn!(partition = %self.leader.tp, %error, "the next term has to ask the tier");
            }
        }
        if covered {
            self.set_settled(true);
        }
        covered
    }

    /// For a log that holds all that its manifest can name, because nothing was tiered yet, or because it was in sync
    /// until now. Blocks.
    pub fn assume_covered(&self) -> Result<(), SettleError> {
        let path = self.checkpoint_path();
        let known = read_checkpoint(&path).map_or(0, |known| known.end);
        let term = Checkpoint {
            // Others may have moved the manifest's end up to here.
            end: known.max(self.log().log_end_offset()),
            leader_epoch: self.leader.fence.leader_epoch,
        };
        term.write(&path, true)?;
        self.assumed.store(true, Ordering::Release);
        self.set_settled(true);
        Ok(())
    }

    pub(super) fn has_checkpoint(&self) -> bool {
        self.checkpoint_path().exists()
    }

    /// Whether the manifest names other records than a log that was assumed to hold all that was ever committed. Asked
    /// once.
    pub(super) fn contradicts(&self, manifest: &Manifest) -> bool {
        if !self.assumed.swap(false, Ordering::AcqRel) {
            return false;
        }
        let log = self.log();
        let contradicts = must_start_anew(
            manifest,
            manifest.entries_end(),
            log.log_start_offset(),
            log.log_end_offset(),
            |offset| log.epoch_for_offset(offset),
        );
        if contradicts {
            tracing::warn!(
                partition = %self.leader.tp, manifest_end = manifest.end_offset(), local_end = log.log_end_offset(),
                "the manifest names records of before tiering was switched off; it begins anew"
            );
        }
        contradicts
    }

    /// Before an edit that may move the manifest's end there.
    pub(crate) async fn intend_end(&self, end: Offset) -> Result<(), SettleError> {
        let path = self.checkpoint_path();
        let leader_epoch = self.leader.fence.leader_epoch;
        blocking::run(move || {
            let known = read_checkpoint(&path);
            let term = Checkpoint {
                end: known.map_or(end, |known| known.end.max(end)),
                leader_epoch,
            };
            if known == Some(term) {
                return Ok(());
            }
            term.write(&path, true)
        })
        .await??;
        Ok(())
    }

    /// Claims the manifest and makes the log go on at its end. Nothing may be appended to the log meanwhile.
    pub async fn settle(&self, now_ms: i64) -> Result<Settled, SettleError> {
        let settled = self.compare_and_cut(now_ms).await;
        match &settled {
            Ok(_) => self.set_settled(true),
            Err(error) => self.status.lock().failed(error.to_string(), now_ms),
        }
        settled
    }

    async fn compare_and_cut(&self, now_ms: i64) -> Result<Settled, SettleError> {
        self.core.probe().await?;
        let tp = &self.leader.tp;
        let fence = self.leader.fence;
        let known = match self.manifests.load().await {
            // The claim makes it again.
            Err(ManifestStoreError::Damaged { .. }) => None,
            known => known?,
        };
        if known.as_ref().is_some_and(|m| m.is_deleted()) {
            return Ok(Settled::Covered);
        }
        self.core
            .ensure_marker(&tp.topic, self.leader.topic_id, tp.partition + 1)
            .await?;
        let log = self.log();
        let begin = log.log_start_offset().max(log.local_log_start_offset());
        if let Some(known) = known {
            self.give_up_if_due(known).await?;
        }
        let manifest = self
            .manifests
            .claim_of(fence, begin, log.log_start_offset())
            .await?;
        let last = self.last_entry(&manifest).await?;
        let anew = must_start_anew(
            &manifest,
            last.as_ref().map(|entry| entry.end),
            log.log_start_offset(),
            log.log_end_offset(),
            |offset| log.epoch_for_offset(offset),
        );
        let end = manifest.end_offset();
        let path = self.checkpoint_path();
        let term = Checkpoint {
            end,
            leader_epoch: fence.leader_epoch,
        };
        if !anew {
            blocking::run(move || term.write(&path, true)).await??;
            return Ok(Settled::Covered);
        }
        let start = TierStart {
            log_start: manifest.start_offset(),
            offset: end,
            epochs: manifest.epochs.clone(),
            producer_snapshot: self.producers_after(last.as_ref()).await?,
        };
        tracing::warn!(
            partition = %tp, local_end = log.log_end_offset(), manifest_end = end,
            "the local log has lost records that the tier holds: it goes on at the manifest's end"
        );
        let log = log.clone();
        blocking::run(move || {
            log.start_from_tier(&start, now_ms)?;
            term.write(&path, true)?;
            Ok::<_, SettleError>(())
        })
        .await??;
        Ok(Settled::StartedAt(end))
    }

    async fn last_entry(
        &self,
        manifest: &Manifest,
    ) -> Result<Option<ManifestEntry>, ManifestStoreError> {
        if let Some(last) = manifest.entries.last() {
            return Ok(Some(last.clone()));
        }
        let Some(page) = manifest.pages.last() else {
            return Ok(None);
        };
        let from = page.end - 1;
        Ok(match self.manifests.entry_in_page(page, from).await? {
            Some(Lookup::Entry(entry)) => Some(entry),
            _ => None,
        })
    }

    /// The producers' state behind the last entry.
    async fn producers_after(
        &self,
        last: Option<&ManifestEntry>,
    ) -> Result<bytes::Bytes, SegmentReadError> {
        let Some(entry) = last else {
            return Ok(bytes::Bytes::new());
        };
        let store = self.core.store.with_purpose(Purpose::Read);
        match read_segment_tail(&store, &self.key, entry).await {
            Ok(tail) => Ok(tail.indexes.producer_snapshot),
            Err(error) if error.is_loss() => {
                tracing::error!(
                    partition = %self.leader.tp, %error,
                    "the producers' state is lost: a retry of an idempotent producer may be stored twice"
                );
                Ok(bytes::Bytes::new())
            }
            Err(error) => Err(error),
        }
    }
}

/// What a partition's folder knows of its manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Checkpoint {
    /// No edit of this broker moved the manifest's end beyond it.
    end: Offset,
    /// The last term in which this broker led.
    leader_epoch: LeaderEpoch,
}

impl Checkpoint {
    fn write(self, path: &Path, sync: bool) -> Result<(), StateFileError> {
        let text = format!("{VERSION}\n{} {}\n", self.end, self.leader_epoch);
        write_atomically(path, text.as_bytes(), sync)
    }
}

fn read_checkpoint(path: &Path) -> Option<Checkpoint> {
    let text = std::fs::read_to_string(path).ok()?;
    let (version, rest) = text.split_once('\n')?;
    let (end, leader_epoch) = rest.strip_suffix('\n')?.split_once(' ')?;
    (version == VERSION).then_some(Checkpoint {
        end: end.parse().ok()?,
        leader_epoch: leader_epoch.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use strandline_log::leader_epoch::EpochEntry;

    use super::*;
    use crate::manifest::tests::manifest;

    #[test]
    fn a_log_goes_on_at_the_manifests_end_unless_it_holds_what_is_there() {
        let mut tiered = manifest(0);
        tiered.end = 100;
        tiered.epochs = vec![
            EpochEntry {
                epoch: 1,
                start_offset: 0,
            },
            EpochEntry {
                epoch: 3,
                start_offset: 80,
            },
        ];
        let table = [
            // entries' end, log start, log end, the log's epoch at the last entry, expected
            (Some(100), 0, 99, Some(3), true),
            (Some(100), 0, 100, Some(3), false),
            (Some(100), 0, 150, Some(3), false),
            // An unclean election: other records at the same offsets.
            (Some(100), 0, 150, Some(2), true),
            (Some(80), 0, 150, Some(1), false),
            (Some(100), 120, 150, None, false),
            (None, 0, 150, Some(9), false),
            (None, 0, 50, None, true),
        ];
        for (entries_end, log_start, log_end, epoch, expected) in table {
            assert_eq!(
                must_start_anew(&tiered, entries_end, log_start, log_end, |_| epoch),
                expected,
                "{entries_end:?} {log_start} {log_end} {epoch:?}"
            );
        }
    }

    #[test]
    fn a_checkpoint_that_does_not_parse_proves_nothing() {
        let dir = tempfile::tempdir().expect("dir");
        let path = dir.path().join(CHECKPOINT);
        assert_eq!(read_checkpoint(&path), None);
        let checkpoint = Checkpoint {
            end: 77,
            leader_epoch: 3,
        };
        checkpoint.write(&path, true).expect("writes");
        assert_eq!(read_checkpoint(&path), Some(checkpoint));
        for text in ["", "0\n", "1\n7 3\n", "0\nx 3\n", "0\n7 3", "0\n7\n"] {
            std::fs::write(&path, text).expect("writes");
            assert_eq!(read_checkpoint(&path), None, "{text:?}");
        }
    }
}
