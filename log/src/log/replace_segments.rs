//! Putting a cleaned segment in the place of those that it was made of: Kafka's protocol of suffixes.
//!
//! 1. `.cleaned` files become `.swap`, the log last. From then on the swap is decided: the next start completes it.
//! 2. The old segments' files become `.deleted`.
//! 3. `.swap` files take their final names; memory follows: readers get the new list.
//! 4. Transaction indexes of segments that are no more go, and producer snapshots at their bases.
//!
//! Between the steps the folder is synced, so that a crash finds the renames of at most one step half done, in any
//! order; `recovery/swap.rs` copes with each. Readers that hold the old segments go on undisturbed: those are pinned to
//! their open files first. Appends are not held up; whoever takes segments out of the list is.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Log;
use super::delete::DeletedFile;
use crate::checkpoint::sync_dir;
use crate::log_error::{AtPath, LogError, StorageError};
use crate::segment::cleaned::{CleanedSegment, suffixed};
use crate::segment::{CLEANED_SUFFIX, LogSegment, SWAP_SUFFIX};
use crate::segment_files::{DELETED_SUFFIX, SegmentFile, segment_path};
use crate::segments::place_of;
use crate::types::Offset;

#[derive(Clone, Debug, thiserror::Error)]
pub enum ReplaceError {
    /// Retention, truncation or the partition's end came first. Nothing was changed.
    #[error("the segments at {0} are not there any more")]
    Gone(Offset),
    #[error(transparent)]
    Log(#[from] LogError),
}

impl From<StorageError> for ReplaceError {
    fn from(e: StorageError) -> Self {
        Self::Log(e.into())
    }
}

/// One change of the folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SwapOp {
    Rename { from: PathBuf, to: PathBuf },
    SyncDir,
}

/// What is to become of an operation: tests of crashes lose some.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SwapStep {
    Do,
    /// A power failure will have taken it.
    Lose,
    /// It ends here.
    Crash,
}

const LOG_AND_INDEXES: [SegmentFile; 3] = [
    SegmentFile::OffsetIndex,
    SegmentFile::TimeIndex,
    SegmentFile::Log,
];

/// The operations of a swap, up to where the new segment has its names. Pure.
fn plan_swap(dir: &Path, base: Offset, has_txn_index: bool, old_bases: &[Offset]) -> Vec<SwapOp> {
    // The transaction index first, the log last when it is the log that decides.
    let mut kinds = Vec::from(LOG_AND_INDEXES);
    if has_txn_index {
        kinds.insert(0, SegmentFile::TxnIndex);
    }
    let mut ops = vec![SwapOp::SyncDir];
    ops.extend(kinds.iter().map(|kind| SwapOp::Rename {
        from: suffixed(dir, base, *kind, CLEANED_SUFFIX),
        to: suffixed(dir, base, *kind, SWAP_SUFFIX),
    }));
    ops.push(SwapOp::SyncDir);
    for old in old_bases {
        ops.extend(LOG_AND_INDEXES.iter().map(|kind| SwapOp::Rename {
            from: segment_path(dir, *old, *kind),
            to: suffixed(dir, *old, *kind, DELETED_SUFFIX),
        }));
    }
    ops.push(SwapOp::SyncDir);
    // The log first: from then on no start takes this for a swap, and none removes indexes that are in place.
    ops.extend(kinds.iter().rev().map(|kind| SwapOp::Rename {
        from: suffixed(dir, base, *kind, SWAP_SUFFIX),
        to: segment_path(dir, base, *kind),
    }));
    ops.push(SwapOp::SyncDir);
    ops
}

impl Log {
    /// Puts `cleaned` in the place of `old`, which are sealed neighbours in this log, the first at its base offset.
    pub fn replace_segments(
        &self,
        cleaned: CleanedSegment,
        old: &[Arc<LogSegment>],
    ) -> Result<Arc<LogSegment>, ReplaceError> {
        self.replace_segments_by(cleaned, old, &mut |_| SwapStep::Do)
    }

    /// As [`Self::replace_segments`], asking before each operation whether it is to happen. After a crash the log must
    /// be dropped and opened again.
    pub fn replace_segments_by(
        &self,
        cleaned: CleanedSegment,
        old: &[Arc<LogSegment>],
        step: &mut dyn FnMut(&SwapOp) -> SwapStep,
    ) -> Result<Arc<LogSegment>, ReplaceError> {
        let base = cleaned.base_offset();
        let Some(last) = old.last() else {
            return Err(ReplaceError::Gone(base));
        };
        self.check_open()?;
        // Syncing what was written takes long: nobody waits for it.
        let finished = cleaned.finish(last.last_modified_ms()).inspect_err(|e| {
            if !e.is_full() && !e.is_harmless() {
                self.health.mark_offline(e);
            }
        })?;

        let _taking_out = self.taking_out.lock();
        if let Err(e) = self.check_open() {
            finished.abandon();
            return Err(e.into());
        }
        let list = self.segments.snapshot();
        let place = place_of(&list, old).filter(|at| at + old.len() < list.len());
        if place.is_none() || old[0].base_offset() != base {
            finished.abandon();
            return Err(ReplaceError::Gone(base));
        }
        drop(list);
        for segment in old {
            segment.pin()?;
        }
        let old_bases: Vec<Offset> = old.iter().map(|segment| segment.base_offset()).collect();
        for op in plan_swap(&finished.dir, base, finished.has_txn_index, &old_bases) {
            match step(&op) {
                SwapStep::Do => self.carry_out(&op)?,
                SwapStep::Lose => {}
                SwapStep::Crash => return Err(ReplaceError::Gone(base)),
            }
        }
        let (new, rebuild) =
            LogSegment::open(Arc::clone(&self.dir), base, Arc::clone(&self.files))?;
        debug_assert!(!rebuild, "the indexes were just written");
        new.set_next_offset(last.next_offset());
        new.mark_synced();
        let new = Arc::new(new);
        self.tail.write().forget(&old_bases);
        self.segments
            .splice(old, Arc::clone(&new))
            .ok_or(ReplaceError::Gone(base))?;
        self.note_change();
        self.forget_replaced(&finished.dir, finished.has_txn_index, &old_bases)?;
        Ok(new)
    }

    fn carry_out(&self, op: &SwapOp) -> Result<(), ReplaceError> {
        let done = match op {
            SwapOp::SyncDir => sync_dir(&self.dir).map_err(|e| match LogError::from(e) {
                LogError::Storage(cause) => {
                    self.health.mark_offline(&cause);
                    cause
                }
                other => StorageError::new(
                    "sync",
                    self.dir.to_path_buf(),
                    std::io::Error::other(other.to_string()),
                ),
            }),
            SwapOp::Rename { from, to } => std::fs::rename(from, to).at("rename", from),
        };
        match done {
            // The partition's folder has another name: it is being deleted.
            Err(e) if e.is_not_found() && !self.dir.exists() => {
                Err(ReplaceError::Gone(self.segments.first_base_offset()))
            }
            done => Ok(done?),
        }
        .inspect(|()| {
            if let SwapOp::Rename { to, .. } = op
                && to.extension().is_some_and(|e| e == "deleted")
            {
                self.deleted.lock().push(DeletedFile::new(to.clone()));
            }
        })
    }

    /// What else belonged to the old segments.
    fn forget_replaced(
        &self,
        dir: &Path,
        has_txn_index: bool,
        old_bases: &[Offset],
    ) -> Result<(), ReplaceError> {
        // The first one's was overwritten if the new segment has one.
        let stale = &old_bases[usize::from(has_txn_index)..];
        for base in stale {
            let path = segment_path(dir, *base, SegmentFile::TxnIndex);
            match std::fs::remove_file(&path).at("remove", &path) {
                Err(e) if !e.is_not_found() => return Err(e.into()),
                _ => {}
            }
        }
        let mut snapshots = self.snapshots.lock();
        for base in &old_bases[1..] {
            snapshots.delete(*base).map_err(LogError::from)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(path: &Path) -> &str {
        path.file_name().and_then(|n| n.to_str()).expect("a name")
    }

    #[test]
    fn a_swap_is_decided_before_the_old_goes_and_the_old_is_gone_before_the_new_comes() {
        let ops = plan_swap(Path::new("/d"), 5, true, &[5, 9]);
        let text: Vec<String> = ops
            .iter()
            .map(|op| match op {
                SwapOp::SyncDir => "sync".to_owned(),
                SwapOp::Rename { from, to } => format!("{} > {}", name(from), name(to)),
            })
            .collect();
        let at = |what: &str| {
            text.iter()
                .position(|t| t.starts_with(what))
                .unwrap_or_else(|| panic!("{what} in {text:#?}"))
        };
        let syncs: Vec<usize> = (0..text.len()).filter(|i| text[*i] == "sync").collect();
        assert_eq!(syncs.len(), 4);
        assert_eq!(
            at("00000000000000000005.log.cleaned"),
            syncs[1] - 1,
            "the log decides"
        );
        for old in ["00000000000000000005.log >", "00000000000000000009.index >"] {
            assert!(syncs[1] < at(old) && at(old) < syncs[2]);
        }
        assert_eq!(at("00000000000000000005.log.swap"), syncs[2] + 1);
        assert!(at("00000000000000000005.txnindex.swap") < syncs[3]);
        assert_eq!(text.len() - 1, syncs[3]);
    }
}
