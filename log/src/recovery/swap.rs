//! Completes or undoes a swap of cleaned segments that a crash has interrupted.
//!
//! 1. A `.swap` file at or above the base of a `.cleaned` one belongs to a swap that was not decided: it goes, and the
//!    `.cleaned` files with it.
//! 2. A `.log.swap` that is left was decided: the segments that it stands for go, the swap files take their final names.
//! 3. Index `.swap` files without a log are of a swap that was all but done: they take their final names too.
//!
//! The rules are Kafka's, so that either of us finishes what the other has begun. Old segments behind a cleaned one that
//! ends early stay: all they hold is superseded, and the next cleaning takes it.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::remove;
use crate::checkpoint::sync_dir;
use crate::log_error::{AtPath, LogError};
use crate::segment::{BatchScan, CLEANED_SUFFIX, SWAP_SUFFIX};
use crate::segment_files::SegmentFile;
use crate::types::Offset;

/// What lies in the folder, by base offset.
#[derive(Default)]
struct Found {
    cleaned: Vec<(Offset, PathBuf)>,
    swaps: Vec<(Offset, SegmentFile, PathBuf)>,
    segments: Vec<(Offset, SegmentFile, PathBuf)>,
}

impl Found {
    fn read(dir: &Path) -> Result<Self, LogError> {
        let mut found = Self::default();
        for entry in std::fs::read_dir(dir).at("list", dir)? {
            let path = entry.at("list", dir)?.path();
            let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
                continue;
            };
            let parsed = |suffix: &str| name.strip_suffix(suffix).and_then(SegmentFile::parse);
            if let Some((base, _)) = parsed(CLEANED_SUFFIX) {
                found.cleaned.push((base, path));
            } else if let Some((base, kind)) = parsed(SWAP_SUFFIX) {
                found.swaps.push((base, kind, path));
            } else if let Some((base, kind)) = SegmentFile::parse(name) {
                found.segments.push((base, kind, path));
            }
        }
        Ok(found)
    }
}

/// Whether a cleaning was at work when the log was left.
pub(super) fn is_pending(names: &[String]) -> bool {
    let suffixed = |name: &String| name.ends_with(CLEANED_SUFFIX) || name.ends_with(SWAP_SUFFIX);
    names.iter().any(suffixed)
}

pub(super) fn complete(dir: &Path) -> Result<(), LogError> {
    let mut found = Found::read(dir)?;
    if found.cleaned.is_empty() && found.swaps.is_empty() {
        return Ok(());
    }
    if let Some(undecided) = found.cleaned.iter().map(|(base, _)| *base).min() {
        for (_, path) in &found.cleaned {
            remove(path)?;
        }
        for (_, _, path) in found.swaps.iter().filter(|(base, ..)| *base >= undecided) {
            tracing::info!(file = %path.display(), "a cleaning that had not come to its end is undone");
            remove(path)?;
        }
        found.swaps.retain(|(base, ..)| *base < undecided);
    }
    let mut replaced: BTreeMap<Offset, Offset> = BTreeMap::new();
    for (base, kind, path) in &found.swaps {
        if *kind == SegmentFile::Log {
            replaced.insert(*base, end_of(path, *base)?);
        }
    }
    for (base, kind, path) in &found.segments {
        let gone = replaced
            .range(..=*base)
            .next_back()
            .is_some_and(|(first, end)| base == first || base < end);
        // Producers' snapshots are looked after elsewhere.
        if gone && *kind != SegmentFile::Snapshot {
            tracing::info!(file = %path.display(), "replaced by a cleaned segment");
            remove(path)?;
        }
    }
    // Gone for good before others take their names.
    sync_dir(dir)?;
    for (_, _, path) in &found.swaps {
        let to = path.with_extension("");
        std::fs::rename(path, &to).at("rename", path)?;
    }
    sync_dir(dir)?;
    Ok(())
}

/// The offset behind the last batch of a log file that was synced as a whole.
fn end_of(path: &Path, base: Offset) -> Result<Offset, LogError> {
    let file = File::open(path).at("open", path)?;
    let size = file.metadata().at("look at", path)?.len();
    let mut scan = BatchScan::new(Arc::new(file), path.to_owned(), 0, size);
    let mut end = base;
    while let Some(batch) = scan.next_batch()? {
        end = batch.header.next_offset();
    }
    Ok(end)
}
