//! Puts other entries in the place of some: the same records in another object, or a gap where nothing is left.
//!
//! Entries of the root are edited in place. Those of a page need a new page, written before the root that names it; the
//! old one is garbage then, as the old objects are. All or nothing: if anything about the old entries has changed, the
//! edit is refused.

use std::sync::Arc;

use super::edit::{Edit, ManifestError, Replacement};
use super::entry::{GapCause, ManifestEntry, PageRef};
use super::pages::live;
use super::state::Manifest;
use super::store::{ManifestStore, ManifestStoreError};
use crate::fence::Fence;

/// What a replacement came to.
#[derive(Clone, Debug)]
pub struct Replaced {
    pub manifest: Arc<Manifest>,
    /// Keys that nothing names any more.
    pub unnamed: Vec<String>,
}

impl ManifestStore {
    /// Names `new` instead of `old`, which follow each other. What `new` leaves out becomes a gap of that cause.
    pub async fn replace(
        &self,
        fence: Fence,
        old: &[ManifestEntry],
        new: &[ManifestEntry],
        gap: Option<GapCause>,
    ) -> Result<Replaced, ManifestStoreError> {
        let (Some(first), Some(last)) = (old.first(), old.last()) else {
            return Err(ManifestError::Refused("there is nothing to replace".to_owned()).into());
        };
        let (start, end) = (first.start, last.end);
        let manifest = self.current().await?;
        let paged = manifest
            .pages
            .iter()
            .find(|page| page.live_start <= start && start < page.end);
        let page = match paged {
            Some(page) => Some((page, self.rewrite(&manifest, page, old, new).await?)),
            None => None,
        };
        let replacement = Replacement {
            start,
            end,
            entries: new.to_vec(),
            gap,
            page: page.as_ref().map(|(old, new)| (old.name(), new.clone())),
        };
        let after = self
            .edit(fence, |m| {
                let holds = replacement.page.is_some() || holds(&m.entries, old);
                if !holds {
                    return Err(ManifestError::NotThere { start, end });
                }
                Ok(vec![Edit::Replace(replacement.clone())])
            })
            .await?;
        let kept = |entry: &ManifestEntry| new.iter().any(|e| e.object == entry.object);
        let mut unnamed: Vec<String> = old
            .iter()
            .filter(|entry| !kept(entry) && entry.position() == 0)
            .map(|entry| entry.key(self.partition()))
            .collect();
        if let Some((old, _)) = page {
            unnamed.push(self.partition().manifest_page(&old.name()));
        }
        Ok(Replaced {
            manifest: after,
            unnamed,
        })
    }

    /// Writes the page that takes the place of one; `None`: nothing is left for it.
    async fn rewrite(
        &self,
        manifest: &Manifest,
        page: &PageRef,
        old: &[ManifestEntry],
        new: &[ManifestEntry],
    ) -> Result<Option<PageRef>, ManifestStoreError> {
        let (start, end) = (old[0].start, old[old.len() - 1].end);
        let all = self.page(page).await?;
        let all = live(page, &all);
        let first = all.partition_point(|entry| entry.start < start);
        if end > page.end || !holds(&all[first..], old) {
            return Err(ManifestError::NotThere { start, end }.into());
        }
        let mut entries = all[..first].to_vec();
        entries.extend_from_slice(new);
        entries.extend_from_slice(&all[first + old.len()..]);
        if entries.is_empty() {
            return Ok(None);
        }
        self.write_page(manifest.generation + 1, &entries)
            .await
            .map(Some)
    }
}

/// Whether the entries are there, one after the other, but for what is said of their objects' state.
fn holds(entries: &[ManifestEntry], wanted: &[ManifestEntry]) -> bool {
    let first = entries.partition_point(|entry| entry.start < wanted[0].start);
    let found = entries[first..].get(..wanted.len());
    found.is_some_and(|found| {
        found
            .iter()
            .zip(wanted)
            .all(|(a, b)| (a.start, a.end, &a.object) == (b.start, b.end, &b.object))
    })
}
