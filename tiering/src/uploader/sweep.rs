//! Finds what nobody names and nobody ever will: remains of crashes, of fenced leaders, of failed edits.
//!
//! 1. List the partition's objects. Young ones are passed over, unknown ones too.
//! 2. If anything may be garbage, raise the collection floor by an edit. From then on no upload or page that was begun
//!    before can be named any more, whatever request is still under way.
//! 3. What was listed, lies below the floor and is not in the manifest after that edit is garbage.
//!
//! A partition's own task sweeps, so that no upload of its leader runs meanwhile. Nothing is decided from a listing alone:
//! a stale one can only miss garbage.

use std::collections::HashSet;
use std::sync::Arc;

use futures::TryStreamExt;
use strandline_log::{Offset, TimestampMs};

use crate::fence::Fence;
use crate::format::PartitionKey;
use crate::format::object_key::{ObjectName, PageName, SegmentName};
use crate::manifest::{Edit, Manifest, ManifestStore, ManifestStoreError, ObjectRef};
use crate::store::{RemoteStore, StoreError};

/// Copies of former roots that are kept: a rebuild starts from the newest that is readable.
pub const RETIRED_ROOTS_KEPT: usize = 4;
/// Objects that one sweep looks at; the next goes on behind them.
const OBJECTS_PER_SWEEP: usize = 50_000;
const ENTRIES_AT_A_TIME: usize = 1_024;

/// An object of a partition as a listing shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    pub key: String,
    pub name: ObjectName,
    pub bytes: u64,
    pub modified_ms: TimestampMs,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listing {
    pub objects: Vec<Listed>,
    /// Keys that are none of ours.
    pub unknown: Vec<String>,
    /// Where the next listing goes on; `None` at the end.
    pub next: Option<String>,
}

/// All objects of a partition behind a key, up to a limit.
pub async fn list(
    store: &RemoteStore,
    partition: &PartitionKey,
    after: Option<&str>,
) -> Result<Listing, StoreError> {
    let folder = partition.folder();
    let mut listing = Listing::default();
    let mut objects = store.list(&folder, after);
    while let Some(object) = objects.try_next().await? {
        let below = object
            .key
            .strip_prefix(&folder)
            .map_or("", |key| key.trim_start_matches('/'));
        match ObjectName::parse(below) {
            Some(name) => listing.objects.push(Listed {
                name,
                bytes: object.bytes,
                modified_ms: object.last_modified_ms,
                key: object.key,
            }),
            None => listing.unknown.push(object.key),
        }
        if listing.objects.len() + listing.unknown.len() >= OBJECTS_PER_SWEEP {
            listing.next = listing.objects.last().map(|last| last.key.clone());
            break;
        }
    }
    Ok(listing)
}

/// What a manifest names.
#[derive(Clone, Debug, Default)]
pub struct Referenced {
    segments: HashSet<(Offset, u64, u64)>,
    pages: HashSet<PageName>,
    /// Of the manifest that was looked at.
    floor: u64,
}

impl Referenced {
    pub async fn by(
        manifests: &ManifestStore,
        manifest: &Manifest,
    ) -> Result<Self, ManifestStoreError> {
        let mut referenced = Self {
            pages: manifest.pages.iter().map(|page| page.name()).collect(),
            floor: manifest.collection_floor,
            ..Self::default()
        };
        // From the first entry on, also those that the log start has passed.
        let mut from = 0;
        loop {
            let entries = manifests
                .entries_from(manifest, from, ENTRIES_AT_A_TIME)
                .await?;
            let Some(last) = entries.last() else { break };
            from = last.end;
            for entry in &entries {
                if let ObjectRef::Segment { counter, random } = entry.object {
                    referenced.segments.insert((entry.start, counter, random));
                }
            }
        }
        Ok(referenced)
    }

    fn names(&self, name: &SegmentName) -> bool {
        self.segments
            .contains(&(name.start, name.counter, name.random))
    }

    fn is_garbage(&self, name: &ObjectName, oldest_retired_kept: u64) -> bool {
        match name {
            ObjectName::Segment(name) => name.counter < self.floor && !self.names(name),
            // A page is written for the generation in its name: the floor's edit was one of its own.
            ObjectName::Page(name) => name.generation <= self.floor && !self.pages.contains(name),
            ObjectName::RetiredRoot { generation } => *generation < oldest_retired_kept,
            ObjectName::Root => false,
        }
    }
}

/// What of a listing is garbage under a manifest that was edited after it.
pub fn garbage<'a>(
    listing: &'a Listing,
    referenced: &Referenced,
    old_before_ms: TimestampMs,
) -> Vec<&'a Listed> {
    let mut retired: Vec<u64> = listing
        .objects
        .iter()
        .filter_map(|object| match object.name {
            ObjectName::RetiredRoot { generation } => Some(generation),
            _ => None,
        })
        .collect();
    retired.sort_unstable_by(|a, b| b.cmp(a));
    let oldest_kept = retired
        .get(RETIRED_ROOTS_KEPT - 1)
        .copied()
        .unwrap_or_default();
    listing
        .objects
        .iter()
        .filter(|object| object.modified_ms < old_before_ms)
        .filter(|object| referenced.is_garbage(&object.name, oldest_kept))
        .collect()
}

/// What a sweep of one partition came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    pub garbage: Vec<Listed>,
    pub unknown: Vec<String>,
    pub next: Option<String>,
    /// As edited, when the floor was raised.
    pub manifest: Option<Arc<Manifest>>,
}

/// Finds garbage; the caller deletes it. Without a fence nothing is edited, and what would be garbage after the edit is
/// told: a dry run.
pub async fn sweep(
    store: &RemoteStore,
    manifests: &ManifestStore,
    fence: Option<Fence>,
    old_before_ms: TimestampMs,
    after: Option<&str>,
) -> Result<Swept, ManifestStoreError> {
    let listing = list(store, manifests.partition(), after).await?;
    manifests.forget();
    let Some(manifest) = manifests.load().await? else {
        // Without a root nothing tells what is garbage.
        return Ok(Swept {
            unknown: listing.unknown,
            next: listing.next,
            ..Swept::default()
        });
    };
    // As if the floor were raised now.
    let mut referenced = Referenced::by(manifests, &manifest).await?;
    referenced.floor = manifest.generation + 1;
    let found = |referenced: &Referenced| -> Vec<Listed> {
        garbage(&listing, referenced, old_before_ms)
            .into_iter()
            .cloned()
            .collect()
    };
    let mut swept = Swept {
        garbage: found(&referenced),
        unknown: listing.unknown.clone(),
        next: listing.next.clone(),
        manifest: None,
    };
    let raise = !swept.garbage.is_empty() && !is_planted!(SweepWithoutFloor);
    let Some(fence) = fence.filter(|_| raise) else {
        return Ok(swept);
    };
    let raised = manifests
        .edit(fence, |_| Ok(vec![Edit::RaiseFloor]))
        .await?;
    let referenced = Referenced::by(manifests, &raised).await?;
    swept.garbage = found(&referenced);
    swept.manifest = Some(raised);
    Ok(swept)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::tests::key;

    fn listed(name: ObjectName, modified_ms: TimestampMs) -> Listed {
        Listed {
            key: format!("{name:?}"),
            name,
            bytes: 1,
            modified_ms,
        }
    }

    fn segment(start: Offset, counter: u64, random: u64) -> ObjectName {
        ObjectName::Segment(SegmentName {
            start,
            epoch: 1,
            counter,
            random,
        })
    }

    #[test]
    fn only_what_is_old_unnamed_and_below_the_floor_goes() {
        let page = |generation, random| {
            ObjectName::Page(PageName {
                start: 0,
                generation,
                random,
            })
        };
        let mut referenced = Referenced {
            floor: 10,
            ..Referenced::default()
        };
        referenced.segments.insert((0, 3, 1));
        referenced.pages.insert(PageName {
            start: 0,
            generation: 4,
            random: 1,
        });
        let table = [
            (segment(0, 3, 1), 5, false),
            // Another try of the same range.
            (segment(0, 3, 2), 5, true),
            (segment(0, 3, 2), 50, false),
            // Begun when the floor was raised, or later.
            (segment(0, 10, 2), 5, false),
            (page(4, 1), 5, false),
            (page(10, 2), 5, true),
            (page(11, 2), 5, false),
            (ObjectName::Root, 5, false),
        ];
        for (name, modified_ms, expected) in table {
            let listing = Listing {
                objects: vec![listed(name, modified_ms)],
                ..Listing::default()
            };
            let found = garbage(&listing, &referenced, 50);
            assert_eq!(!found.is_empty(), expected, "{name:?} {modified_ms}");
        }
    }

    #[test]
    fn the_newest_retired_roots_stay() {
        let objects = (1..=6)
            .map(|generation| listed(ObjectName::RetiredRoot { generation }, 0))
            .collect();
        let listing = Listing {
            objects,
            ..Listing::default()
        };
        let found = garbage(&listing, &Referenced::default(), 50);
        let found: Vec<_> = found.iter().map(|object| object.name).collect();
        let retired = |generation| ObjectName::RetiredRoot { generation };
        assert_eq!(found, [retired(1), retired(2)]);
    }

    #[test]
    fn names_are_told_apart() {
        let folder = key().folder();
        let name = PageName {
            start: 7,
            generation: 8,
            random: 9,
        };
        let keys = [
            (key().manifest_root(), Some(ObjectName::Root)),
            (key().manifest_page(&name), Some(ObjectName::Page(name))),
            (
                key().retired_root(12, &[3; 16]),
                Some(ObjectName::RetiredRoot { generation: 12 }),
            ),
            (format!("{folder}/manifest/other"), None),
            (format!("{folder}/segment/other"), None),
            (format!("{folder}/manifest/page-1-2-3"), None),
        ];
        for (full, expected) in keys {
            let below = full[folder.len()..].trim_start_matches('/');
            assert_eq!(ObjectName::parse(below), expected, "{full}");
        }
    }
}
