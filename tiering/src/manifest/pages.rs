//! Reads pages of older entries, through a small cache that all partitions share.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

use super::entry::{ManifestEntry, PageRef};
use super::store::ManifestStoreError;
use crate::format::manifest_page;
use crate::format::object_key::PartitionKey;
use crate::store::RemoteStore;

/// A decoded page.
pub(super) type Page = Arc<Vec<ManifestEntry>>;

/// Keeps the pages that were used last. Clones share it.
#[derive(Clone)]
pub struct PageCache {
    inner: Arc<Mutex<Inner>>,
    pages_max: usize,
}

#[derive(Default)]
struct Inner {
    pages: HashMap<String, (Page, u64)>,
    tick: u64,
}

impl PageCache {
    /// A page takes up to about 60 KiB.
    pub fn new(pages_max: usize) -> Self {
        Self {
            inner: Arc::default(),
            pages_max: pages_max.max(1),
        }
    }

    /// The live entries of a page.
    pub(super) async fn read(
        &self,
        store: &RemoteStore,
        partition: &PartitionKey,
        page: &PageRef,
    ) -> Result<Page, ManifestStoreError> {
        let key = partition.manifest_page(&page.name());
        if let Some(found) = self.get(&key) {
            return Ok(found);
        }
        let (bytes, _) = store.get(&key).await?;
        let damaged = |cause: String| ManifestStoreError::Damaged {
            key: key.clone(),
            cause,
        };
        let crc = page_crc(&bytes);
        let entries = manifest_page::decode(bytes).map_err(|e| damaged(e.to_string()))?;
        let ends = entries.first().map(|e| e.start) == Some(page.start)
            && entries.last().map(|e| e.end) == Some(page.end);
        if crc != page.crc || !ends {
            return Err(damaged("it is not the page that the root names".to_owned()));
        }
        let entries = Arc::new(entries);
        self.put(key, Arc::clone(&entries));
        Ok(entries)
    }

    fn get(&self, key: &str) -> Option<Page> {
        let mut inner = self.inner.lock();
        inner.tick += 1;
        let tick = inner.tick;
        let (page, used) = inner.pages.get_mut(key)?;
        *used = tick;
        Some(Arc::clone(page))
    }

    fn put(&self, key: String, page: Page) {
        let mut inner = self.inner.lock();
        inner.tick += 1;
        let tick = inner.tick;
        if inner.pages.len() >= self.pages_max
            && let Some(oldest) = inner
                .pages
                .iter()
                .min_by_key(|(_, (_, used))| *used)
                .map(|(key, _)| key.clone())
        {
            inner.pages.remove(&oldest);
        }
        inner.pages.insert(key, (page, tick));
    }
}

impl Default for PageCache {
    fn default() -> Self {
        Self::new(64)
    }
}

impl std::fmt::Debug for PageCache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PageCache")
            .field("pages_max", &self.pages_max)
            .finish_non_exhaustive()
    }
}

/// The entries of a page that still belong to the manifest.
pub(super) fn live<'a>(page: &PageRef, entries: &'a [ManifestEntry]) -> &'a [ManifestEntry] {
    &entries[entries.partition_point(|e| e.start < page.live_start)..]
}

/// A page's own checksum: its last four bytes.
pub(super) fn page_crc(bytes: &[u8]) -> u32 {
    bytes.last_chunk().copied().map_or(0, u32::from_be_bytes)
}
