//! Loads and edits one partition's manifest root.
//!
//! An edit, step by step:
//! 1. Take the root that we saw last, or read it.
//! 2. Ask the caller for its edits, apply them, spill a page if the root grew too long. The page is written first.
//! 3. Write the root if it still is the version from step 1.
//! 4. When the outcome is unknown, or somebody else seems to have been faster, read the root again: if it lists one
//!    of the nonces that we wrote, the edit is done. Otherwise start over with what was read.
//!
//! Always holds: an edit that returns `Ok` is in the root exactly once. One that returns
//! [`ManifestStoreError::Store`] with an ambiguous cause may be in it or may yet get there: until a later edit of the
//! same partition succeeds, its object counts as referenced.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use strandline_log::{Offset, TimestampMs};

use super::edit::{Edit, ManifestError, PageCut};
use super::entry::{ManifestEntry, PageRef};
use super::lookup::{Located, Lookup, entry_at, first_reaching};
use super::pages::{Page, PageCache, live};
use super::state::{ENTRIES_INLINE_MAX, Manifest};
use crate::fence::Fence;
use crate::format::object_key::PartitionKey;
use crate::format::{manifest_page, manifest_root};
use crate::id_source::{IdSource, Nonce};
use crate::store::{Purpose, RemoteStore, StoreError, Version};

/// Times that an edit starts over. Two leaders that both believe cannot hold each other up for long: one is fenced.
const ATTEMPTS_MAX: usize = 16;
/// Times that a write of unknown outcome is repeated. The store's client has retried each already.
const AMBIGUOUS_MAX: usize = 2;

/// Why a manifest could not be read or edited.
#[derive(Debug, thiserror::Error)]
pub enum ManifestStoreError {
    #[error(transparent)]
    Edit(#[from] ManifestError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("{key} is damaged: {cause}")]
    Damaged { key: String, cause: String },
    #[error("the partition has no manifest yet")]
    Absent,
    #[error(
        "the manifest changed {ATTEMPTS_MAX} times while it was edited; it is tried again later"
    )]
    Contended,
}

impl ManifestStoreError {
    pub fn is_fenced(&self) -> bool {
        matches!(self, Self::Edit(ManifestError::Fenced { .. }))
    }

    /// Whether waiting may help.
    pub fn is_retriable(&self) -> bool {
        match self {
            Self::Store(e) => e.is_retriable(),
            Self::Contended => true,
            _ => false,
        }
    }
}

#[derive(Clone, Debug)]
struct Seen {
    manifest: Arc<Manifest>,
    version: Version,
}

/// The manifest of one partition. Keeps the root that it saw last.
#[derive(Debug)]
pub struct ManifestStore {
    store: RemoteStore,
    partition: PartitionKey,
    ids: IdSource,
    pages: PageCache,
    entries_inline_max: usize,
    seen: Mutex<Option<Seen>>,
    /// As `seen`, but kept when that is forgotten: what a lost root is made again from.
    known: Mutex<Option<Arc<Manifest>>>,
    /// The last write of this handle succeeded: none that was sent before can land any more.
    anchored: AtomicBool,
}

/// What [`ManifestStore::plan_remove_expired`] found.
#[derive(Clone, Debug)]
pub struct ExpiredEntries {
    /// Whose objects may be deleted once the edit succeeded.
    pub entries: Vec<ManifestEntry>,
    pub edit: Edit,
}

impl ManifestStore {
    /// Touches nothing.
    pub fn new(
        store: &RemoteStore,
        partition: PartitionKey,
        ids: IdSource,
        pages: PageCache,
    ) -> Self {
        Self {
            store: store.with_purpose(Purpose::Manifest),
            partition,
            ids,
            pages,
            entries_inline_max: ENTRIES_INLINE_MAX,
            seen: Mutex::new(None),
            known: Mutex::new(None),
            anchored: AtomicBool::new(false),
        }
    }

    /// With smaller pages: tests.
    pub fn with_entries_inline_max(mut self, entries_max: usize) -> Self {
        self.entries_inline_max = entries_max;
        self
    }

    pub fn partition(&self) -> &PartitionKey {
        &self.partition
    }

    /// The root as it was seen last, without a request.
    pub fn cached(&self) -> Option<Arc<Manifest>> {
        self.seen.lock().as_ref().map(|s| Arc::clone(&s.manifest))
    }

    /// Drops the cached root; the next use reads it again.
    pub fn forget(&self) {
        *self.seen.lock() = None;
    }

    /// Reads the root. `None` when the partition has none.
    pub async fn load(&self) -> Result<Option<Arc<Manifest>>, ManifestStoreError> {
        Ok(self.read_root().await?.map(|seen| seen.manifest))
    }

    /// The cached root, else a read one; an error when there is none.
    pub async fn current(&self) -> Result<Arc<Manifest>, ManifestStoreError> {
        match self.cached() {
            Some(manifest) => Ok(manifest),
            None => self.load().await?.ok_or(ManifestStoreError::Absent),
        }
    }

    /// Takes the manifest over under a fence: creates it if there is none (the first upload begins at `start`),
    /// else raises its fence. From then on no writer with an older fence succeeds.
    pub async fn claim(
        &self,
        fence: Fence,
        start: Offset,
    ) -> Result<Arc<Manifest>, ManifestStoreError> {
        self.claim_of(fence, start, start).await
    }

    /// [`claim`](Self::claim) of a log that starts at `log_start`, below what is left of it here: if the root was lost, it
    /// is made again from there on.
    pub async fn claim_of(
        &self,
        fence: Fence,
        start: Offset,
        log_start: Offset,
    ) -> Result<Arc<Manifest>, ManifestStoreError> {
        for _ in 0..ATTEMPTS_MAX {
            // Never from the cache: the point is to learn where the manifest ends.
            let damaged = match self.read_root().await {
                Ok(Some(seen)) => {
                    if seen.manifest.fence == fence {
                        return Ok(seen.manifest);
                    }
                    return self.edit(fence, |_| Ok(vec![Edit::Claim])).await;
                }
                Ok(None) => None,
                Err(ManifestStoreError::Damaged { .. }) => self.root_version().await?,
                Err(error) => return Err(error),
            };
            // What is there says whether this is the first root, or the last one was lost.
            let manifest = match self.plan_rebuild(Some(fence), Some(log_start)).await? {
                Some(made) => {
                    tracing::warn!(
                        key = self.partition.manifest_root(),
                        start = made.start_offset(),
                        end = made.end_offset(),
                        objects = made.entry_count(),
                        "the manifest was lost; it was made again from what it named"
                    );
                    made
                }
                // It was something, and nothing tells what.
                None if damaged.is_some() => {
                    return Err(ManifestStoreError::Damaged {
                        key: self.partition.manifest_root(),
                        cause: "there is nothing to make it again from".to_owned(),
                    });
                }
                None => Manifest::new(self.partition.clone(), fence, start, self.ids.nonce()),
            };
            let created = self.create(&manifest, damaged.as_ref()).await;
            match created {
                Ok(version) => {
                    self.anchored.store(true, Ordering::Release);
                    return Ok(self.remember(manifest, version));
                }
                // Somebody else's, or our own whose answer was lost: the next round sees which.
                Err(e) if e.is_ambiguous() => {
                    if self.read_root().await?.is_none() {
                        return Err(e.into());
                    }
                }
                Err(e) => return Err(e.into()),
            }
        }
        Err(ManifestStoreError::Contended)
    }

    /// Of a root that cannot be read; `None`: there is none.
    pub async fn root_version(&self) -> Result<Option<Version>, StoreError> {
        match self.store.get(&self.partition.manifest_root()).await {
            Ok((_, version)) => Ok(Some(version)),
            Err(StoreError::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Writes a root where there is none, or over one that is damaged.
    pub async fn create(
        &self,
        manifest: &Manifest,
        damaged: Option<&Version>,
    ) -> Result<Version, StoreError> {
        let (key, bytes) = (
            self.partition.manifest_root(),
            manifest_root::encode(manifest),
        );
        match damaged {
            None => self.store.put_if_absent(&key, bytes).await,
            Some(version) => self.store.put_if_match(&key, bytes, version).await,
        }
    }

    pub(super) fn raw(&self) -> &RemoteStore {
        &self.store
    }

    pub(super) fn nonce(&self) -> Nonce {
        self.ids.nonce()
    }

    /// Whether there is none where there was one.
    pub fn is_lost(&self) -> bool {
        self.cached().is_none() && self.last_known().is_some()
    }

    /// The newest root that this handle ever saw.
    pub(super) fn last_known(&self) -> Option<Arc<Manifest>> {
        self.known.lock().clone()
    }

    /// Before local records are dropped because the manifest names them: an edit, unless the last thing that this handle
    /// wrote has succeeded. From then on no write that an earlier owner sent, or this one, can land any more and take back
    /// what was relied on ([`Edit::GiveUp`]).
    pub async fn anchor(&self, fence: Fence) -> Result<Arc<Manifest>, ManifestStoreError> {
        if self.anchored.load(Ordering::Acquire)
            && let Some(manifest) = self.cached()
        {
            return Ok(manifest);
        }
        self.edit(fence, |_| Ok(vec![Edit::Claim])).await
    }

    /// Whether [`anchor`](Self::anchor) would find nothing to do.
    pub fn is_anchored(&self) -> bool {
        self.anchored.load(Ordering::Acquire)
    }

    /// Edits the root by compare-and-swap. The closure decides on what it is shown, maybe several times; no edits
    /// mean that nothing is to be done. Returns the manifest after it.
    pub async fn edit(
        &self,
        fence: Fence,
        mut decide: impl FnMut(&Manifest) -> Result<Vec<Edit>, ManifestError>,
    ) -> Result<Arc<Manifest>, ManifestStoreError> {
        let mut written: Vec<Nonce> = Vec::new();
        let mut ambiguous = 0;
        let cached = self.seen.lock().clone();
        let mut may_be_old = cached.is_some();
        let mut seen = match cached {
            Some(seen) => seen,
            None => self.read_root().await?.ok_or(ManifestStoreError::Absent)?,
        };
        for _ in 0..ATTEMPTS_MAX {
            let nonce = self.ids.nonce();
            let planned = decide(&seen.manifest).and_then(|edits| {
                if edits.is_empty() {
                    return Ok(None);
                }
                seen.manifest.apply(fence, &edits, nonce).map(Some)
            });
            let mut next = match planned {
                Ok(Some(next)) => next,
                Ok(None) => return Ok(seen.manifest),
                // The refusal may be about what we had cached.
                Err(_) if may_be_old => {
                    seen = self.read_root().await?.ok_or(ManifestStoreError::Absent)?;
                    may_be_old = false;
                    continue;
                }
                Err(e) => return Err(e.into()),
            };
            self.spill(&seen.manifest, &mut next).await?;
            written.push(nonce);
            self.anchored.store(false, Ordering::Release);
            let put = self
                .store
                .put_if_match(
                    &self.partition.manifest_root(),
                    manifest_root::encode(&next),
                    &seen.version,
                )
                .await;
            let error = match put {
                Ok(version) => {
                    self.anchored.store(true, Ordering::Release);
                    return Ok(self.remember(next, version));
                }
                Err(e) if e.is_ambiguous() => e,
                Err(e) => {
                    self.forget();
                    return Err(e.into());
                }
            };
            self.forget();
            let Ok(now) = self.read_root().await else {
                return Err(error.into());
            };
            let now = now.ok_or(ManifestStoreError::Absent)?;
            if now.manifest.nonces.iter().any(|n| written.contains(n)) {
                self.anchored.store(true, Ordering::Release);
                return Ok(now.manifest);
            }
            if let StoreError::Unavailable { .. } = error {
                ambiguous += 1;
                if ambiguous > AMBIGUOUS_MAX {
                    return Err(error.into());
                }
            }
            seen = now;
            may_be_old = false;
        }
        Err(ManifestStoreError::Contended)
    }

    /// What holds an offset.
    pub async fn entry_for(
        &self,
        manifest: &Manifest,
        offset: Offset,
    ) -> Result<Lookup, ManifestStoreError> {
        match manifest.locate(offset) {
            Located::Done(lookup) => Ok(lookup),
            Located::Page(page) => {
                let entries = self.pages.read(&self.store, &self.partition, page).await?;
                Ok(entry_at(live(page, &entries), offset)
                    .map_or_else(|| manifest.gap_lookup(offset), |e| Lookup::Entry(e.clone())))
            }
        }
    }

    /// What holds an offset of a page, as far as the page knows.
    pub(crate) async fn entry_in_page(
        &self,
        page: &PageRef,
        offset: Offset,
    ) -> Result<Option<Lookup>, ManifestStoreError> {
        let entries = self.pages.read(&self.store, &self.partition, page).await?;
        Ok(entry_at(live(page, &entries), offset).map(|e| Lookup::Entry(e.clone())))
    }

    /// Up to `entries_max` entries in order, from the one that holds `offset`, or the first behind it.
    pub async fn entries_from(
        &self,
        manifest: &Manifest,
        offset: Offset,
        entries_max: usize,
    ) -> Result<Vec<ManifestEntry>, ManifestStoreError> {
        let mut found = Vec::new();
        let mut take = |entries: &[ManifestEntry]| {
            let wanted = entries.iter().filter(|e| e.end > offset);
            found.extend(wanted.take(entries_max - found.len()).cloned());
            found.len() >= entries_max
        };
        for page in manifest.pages_from(offset) {
            let entries = self.pages.read(&self.store, &self.partition, page).await?;
            if take(live(page, &entries)) {
                return Ok(found);
            }
        }
        take(&manifest.entries);
        Ok(found)
    }

    /// The first entry, from the log start on, whose timestamps reach `timestamp`.
    pub async fn entry_for_timestamp(
        &self,
        manifest: &Manifest,
        timestamp: TimestampMs,
    ) -> Result<Option<ManifestEntry>, ManifestStoreError> {
        for page in manifest.pages_from(manifest.log_start) {
            if page.max_timestamp < timestamp {
                continue;
            }
            let entries = self.pages.read(&self.store, &self.partition, page).await?;
            // The page's largest timestamp may be of an entry that is gone.
            if let Some(entry) = first_reaching(live(page, &entries), manifest.log_start, timestamp)
            {
                return Ok(Some(entry.clone()));
            }
        }
        Ok(manifest.inline_entry_for_timestamp(timestamp).cloned())
    }

    /// The bytes of all entries that hold offsets from the log start on: what retention by size counts.
    pub async fn retained_bytes(&self, manifest: &Manifest) -> Result<u64, ManifestStoreError> {
        let mut hidden = 0;
        let below = |entries: &[ManifestEntry]| -> u64 {
            entries
                .iter()
                .filter(|e| e.end <= manifest.log_start)
                .map(|e| e.bytes)
                .sum()
        };
        for page in &manifest.pages {
            if page.end <= manifest.log_start {
                hidden += page.live_bytes;
            } else {
                if page.live_start < manifest.log_start {
                    let entries = self.pages.read(&self.store, &self.partition, page).await?;
                    hidden += below(live(page, &entries));
                }
                break;
            }
        }
        hidden += below(&manifest.entries);
        Ok(manifest.bytes_total().saturating_sub(hidden))
    }

    /// The oldest entries that the log start has passed, up to about `entries_max`, and the edit that forgets them.
    /// `None` when there are none. Reads at most one page more than it needs.
    pub async fn plan_remove_expired(
        &self,
        manifest: &Manifest,
        entries_max: usize,
    ) -> Result<Option<ExpiredEntries>, ManifestStoreError> {
        let limit = if manifest.is_deleted() {
            manifest.end
        } else {
            manifest.log_start
        };
        let mut expired = Vec::new();
        for page in &manifest.pages {
            if page.live_start >= limit {
                return Ok(removal(expired, None));
            }
            let entries = self.pages.read(&self.store, &self.partition, page).await?;
            let page_entries = live(page, &entries);
            let room = entries_max.saturating_sub(expired.len());
            let gone = page_entries
                .iter()
                .take_while(|e| e.end <= limit)
                .count()
                .min(room);
            expired.extend_from_slice(&page_entries[..gone]);
            if let Some(first_live) = page_entries.get(gone) {
                let rest = &page_entries[gone..];
                let cut = (gone > 0).then(|| PageCut {
                    page_start: page.start,
                    live_start: first_live.start,
                    live_entries: rest.len() as u32,
                    live_bytes: rest.iter().map(|e| e.bytes).sum(),
                });
                return Ok(removal(expired, cut));
            }
        }
        let room = entries_max.saturating_sub(expired.len());
        let inline = manifest.entries.iter().take_while(|e| e.end <= limit);
        expired.extend(inline.take(room).cloned());
        Ok(removal(expired, None))
    }

    /// Writes what must be in the store before the next root: a page, when one is due, and then also a copy of the
    /// root that is about to be replaced, for a rebuild to start from.
    async fn spill(&self, base: &Manifest, next: &mut Manifest) -> Result<(), ManifestStoreError> {
        let mut spilled = false;
        while let Some((name, bytes)) = next.spill(self.entries_inline_max, self.ids.random()) {
            let key = self.partition.manifest_page(&name);
            self.store.put_if_absent(&key, bytes).await?;
            spilled = true;
        }
        if !spilled {
            return Ok(());
        }
        let key = self.partition.retired_root(base.generation, &base.nonce());
        match self
            .store
            .put_if_absent(&key, manifest_root::encode(base))
            .await
        {
            // An attempt before this one has written the same copy.
            Ok(_) | Err(StoreError::Precondition { .. }) => Ok(()),
            Err(e) => Err(e.into()),
        }
    }

    pub(super) async fn page(&self, page: &PageRef) -> Result<Page, ManifestStoreError> {
        self.pages.read(&self.store, &self.partition, page).await
    }

    /// A page that a root is to name, for the generation in its name.
    pub(super) async fn write_page(
        &self,
        generation: u64,
        entries: &[ManifestEntry],
    ) -> Result<PageRef, ManifestStoreError> {
        let bytes = manifest_page::encode(entries);
        let page = PageRef::of(entries, generation, self.ids.random(), &bytes);
        let key = self.partition.manifest_page(&page.name());
        self.store.put_if_absent(&key, bytes).await?;
        Ok(page)
    }

    async fn read_root(&self) -> Result<Option<Seen>, ManifestStoreError> {
        let key = self.partition.manifest_root();
        let (bytes, version) = match self.store.get(&key).await {
            Ok(got) => got,
            Err(StoreError::NotFound { .. }) => {
                self.forget();
                return Ok(None);
            }
            Err(e) => return Err(e.into()),
        };
        let damaged = |cause: String| ManifestStoreError::Damaged {
            key: key.clone(),
            cause,
        };
        let manifest = manifest_root::decode(bytes).map_err(|e| damaged(e.to_string()))?;
        if manifest.partition != self.partition {
            return Err(damaged("it belongs to another partition".to_owned()));
        }
        let manifest = self.remember(manifest, version.clone());
        Ok(Some(Seen { manifest, version }))
    }

    fn remember(&self, manifest: Manifest, version: Version) -> Arc<Manifest> {
        let manifest = Arc::new(manifest);
        *self.known.lock() = Some(Arc::clone(&manifest));
        let mut seen = self.seen.lock();
        // An older read must not replace what a concurrent edit saw.
        if seen
            .as_ref()
            .is_none_or(|s| s.manifest.generation <= manifest.generation)
        {
            *seen = Some(Seen {
                manifest: Arc::clone(&manifest),
                version,
            });
        }
        manifest
    }
}

fn removal(entries: Vec<ManifestEntry>, cut: Option<PageCut>) -> Option<ExpiredEntries> {
    let below = entries.last()?.end;
    Some(ExpiredEntries {
        edit: Edit::RemoveExpired { below, cut },
        entries,
    })
}
