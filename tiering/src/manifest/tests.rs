//! The pure manifest by tables and against a naive model, then its store: races, lost answers, pages.

mod edits;
mod model;
mod racing;
mod replacing;

use strandline_log::{Offset, TopicId};

use super::*;
use crate::fence::Fence;
use crate::format::PartitionKey;
use crate::id_source::IdSource;
use crate::store::{FolderStore, RemoteStore, StoreMetrics};

pub(crate) fn key() -> PartitionKey {
    PartitionKey::new("cluster", TopicId::from_u128(7), 2)
}

pub(crate) fn entry(start: Offset, end: Offset) -> ManifestEntry {
    ManifestEntry {
        start,
        end,
        object: ObjectRef::Segment {
            counter: 100,
            random: start as u64 * 31,
        },
        bytes: 1_000 + (end - start) as u64,
        log_bytes: 900,
        max_timestamp: start * 10,
        has_aborted: start % 2 == 0,
        damaged: false,
        fence: Fence::new(1, 0),
        footer_crc: end as u32,
    }
}

pub(crate) fn append(start: Offset, end: Offset) -> Edit {
    Edit::Append {
        entry: entry(start, end),
        epochs: Vec::new(),
    }
}

pub(crate) fn manifest(start: Offset) -> Manifest {
    Manifest::new(key(), Fence::new(1, 0), start, [1; 16])
}

fn folder_store() -> (RemoteStore, tempfile::TempDir) {
    let folder = tempfile::tempdir().expect("temp folder");
    let store = std::sync::Arc::new(FolderStore::new(folder.path()));
    (
        RemoteStore::from_object_store(store, "", StoreMetrics::unregistered()),
        folder,
    )
}

fn manifest_store(store: &RemoteStore, seed: u8) -> ManifestStore {
    let ids = IdSource::from_seed([seed; 32]);
    ManifestStore::new(store, key(), ids, PageCache::new(4)).with_entries_inline_max(3)
}
