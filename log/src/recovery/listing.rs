//! What lies in a partition's folder.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::remove;
use crate::log_error::{AtPath, StorageError};
use crate::segment_files::{DELETED_SUFFIX, SegmentFile};
use crate::types::Offset;

/// Suffixes of files that never count: deletions that did not finish, and files that were never renamed into place.
const REMAINS: [&str; 3] = [DELETED_SUFFIX, ".tmp", ".cleaned"];

/// The names in the folder, but for those that are no text and so not ours.
pub(super) fn names(dir: &Path) -> Result<Vec<String>, StorageError> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(dir).at("list", dir)? {
        names.extend(entry.at("list", dir)?.file_name().into_string());
    }
    Ok(names)
}

/// What lies in the folder, after the remains are gone.
#[derive(Clone)]
pub(super) struct Listing {
    pub logs: BTreeSet<Offset>,
    pub snapshots: BTreeSet<Offset>,
}

impl Listing {
    pub fn read(dir: &Path, names: &[String]) -> Result<Self, StorageError> {
        let mut listing = Self {
            logs: BTreeSet::new(),
            snapshots: BTreeSet::new(),
        };
        let mut indexes: Vec<(Offset, PathBuf)> = Vec::new();
        for name in names {
            if REMAINS.iter().any(|suffix| name.ends_with(suffix)) {
                remove(&dir.join(name))?;
                continue;
            }
            match SegmentFile::parse(name) {
                Some((offset, SegmentFile::Log)) => {
                    listing.logs.insert(offset);
                }
                Some((offset, SegmentFile::Snapshot)) => {
                    listing.snapshots.insert(offset);
                }
                Some((offset, _)) => indexes.push((offset, dir.join(name))),
                None => {}
            }
        }
        for (offset, path) in indexes {
            if !listing.logs.contains(&offset) {
                tracing::warn!(file = %path.display(), "an index without its log is removed");
                remove(&path)?;
            }
        }
        Ok(listing)
    }
}
