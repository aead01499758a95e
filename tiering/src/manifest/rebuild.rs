//! Makes a root again that was lost or damaged (design, decision 7).
//!
//! 1. All that the partition has is listed. Nothing there at all: it never had a root.
//! 2. The base is the newest root that is still known: the one that this process saw last, or the newest retired one that
//!    is readable. Without any, it is an empty one that begins where the log does, or where the oldest object does.
//! 3. Objects that begin at the base's end continue it, as long as their lineage of leader epochs continues its; and so
//!    on. Of several for one offset the one counts that leads farthest, then the newest writer's, if they agree: records are
//!    in objects only when they are committed.
//! 4. What does not fit is told, and nothing is written: a hole between objects, or two that contradict each other.
//!
//! The new root has a generation beyond all names, and a floor at it: no upload that was begun before can be added to it.

use std::collections::HashMap;
use std::sync::Arc;

use futures::{StreamExt, TryStreamExt};
use strandline_log::Offset;
use strandline_log::leader_epoch::EpochEntry;

use super::edit::Edit;
use super::entry::{ManifestEntry, ObjectRef};
use super::state::Manifest;
use super::store::{ManifestStore, ManifestStoreError};
use crate::bucket_reader::{SegmentReadError, read_object_tail};
use crate::fence::Fence;
use crate::format::manifest_root;
use crate::format::object_key::{ObjectName, PartitionKey, SegmentName};
use crate::id_source::Nonce;
use crate::store::{RemoteStore, StoreError};
use crate::uploader::sweep;

const TAILS_AT_A_TIME: usize = 16;

/// An object that may continue a root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Candidate {
    pub entry: ManifestEntry,
    /// The lineage up to its end.
    pub epochs: Vec<EpochEntry>,
}

impl Candidate {
    fn epoch_at(&self, offset: Offset) -> Option<i32> {
        let after = self.epochs.partition_point(|e| e.start_offset <= offset);
        Some(self.epochs.get(after.checked_sub(1)?)?.epoch)
    }
}

/// Why a root cannot be made again without guessing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Ambiguous {
    #[error("no object begins at offset {at}, the next one begins at {next}")]
    Hole { at: Offset, next: Offset },
    #[error("the objects that begin at offset {at} contradict what is before them, or each other")]
    Contradiction { at: Offset },
    #[error("{0}")]
    Broken(String),
}

/// Continues a root with objects. Pure.
pub(super) fn chain(
    mut base: Manifest,
    fence: Fence,
    mut candidates: Vec<Candidate>,
    generation: u64,
    nonce: Nonce,
) -> Result<Manifest, Ambiguous> {
    candidates.retain(|c| c.entry.start >= base.end);
    base.fence = base.fence.max(fence);
    // The floor comes last: what is added now was begun before.
    base.collection_floor = 0;
    // How far one gets from an offset: what was uploaded twice may have been cut differently.
    candidates.sort_by_key(|c| std::cmp::Reverse(c.entry.start));
    let mut reached: HashMap<Offset, Offset> = HashMap::new();
    let reach = |reached: &HashMap<Offset, Offset>, end| reached.get(&end).copied().unwrap_or(end);
    for candidate in &candidates {
        let far = reach(&reached, candidate.entry.end);
        let from = reached.entry(candidate.entry.start).or_insert(far);
        *from = far.max(*from);
    }
    loop {
        let at = base.end;
        let here: Vec<&Candidate> = candidates.iter().filter(|c| c.entry.start == at).collect();
        let Some(newest) = here.iter().max_by_key(|c| {
            let entry = &c.entry;
            (reach(&reached, entry.end), entry.fence, entry.end)
        }) else {
            match candidates
                .iter()
                .map(|c| c.entry.start)
                .filter(|s| *s > at)
                .min()
            {
                Some(next) => return Err(Ambiguous::Hole { at, next }),
                None => break,
            }
        };
        let before = (base.epoch_for_offset(at - 1), newest.epoch_at(at - 1));
        let continues = !matches!(before, (Some(known), Some(theirs)) if known != theirs);
        let agree = here.iter().all(|c| c.epoch_at(at) == newest.epoch_at(at));
        if !continues || !agree {
            return Err(Ambiguous::Contradiction { at });
        }
        let append = Edit::Append {
            entry: newest.entry.clone(),
            epochs: newest.epochs.clone(),
        };
        base = base
            .apply(base.fence, &[append], nonce)
            .map_err(|error| Ambiguous::Broken(error.to_string()))?;
        candidates.retain(|c| c.entry.start >= base.end);
    }
    base.fence = fence;
    base.generation = generation.max(base.generation);
    base.collection_floor = base.generation;
    base.nonces = vec![nonce];
    base.check()
        .map_err(|why| Ambiguous::Broken(why.to_owned()))?;
    Ok(base)
}

impl ManifestStore {
    /// What a root that is lost can be made of again; `None`: there is nothing, and never was. Writes nothing. `fence`:
    /// the leader's; without one, the newest that is known. `log_start`: where the log is known to start.
    pub async fn plan_rebuild(
        &self,
        fence: Option<Fence>,
        log_start: Option<Offset>,
    ) -> Result<Option<Manifest>, ManifestStoreError> {
        let key = self.partition();
        let mut names = Vec::new();
        let mut after: Option<String> = None;
        loop {
            let listing = sweep::list(self.raw(), key, after.as_deref()).await?;
            names.extend(
                listing
                    .objects
                    .into_iter()
                    .map(|o| (o.name, o.key, o.bytes)),
            );
            after = listing.next;
            if after.is_none() {
                break;
            }
        }
        names.retain(|(name, ..)| *name != ObjectName::Root);
        let known = self.last_known();
        if names.is_empty() && known.is_none() {
            return Ok(None);
        }
        let newest_name = names.iter().map(|(name, ..)| match name {
            ObjectName::Segment(name) => name.counter,
            ObjectName::Page(name) => name.generation,
            ObjectName::RetiredRoot { generation } => *generation,
            ObjectName::Root => 0,
        });
        let newest_name = newest_name.max().unwrap_or(0);
        let base = self.base(known, &names).await?;
        let from = base.as_ref().map(|b| b.end).or(log_start).unwrap_or(0);
        let mut segments: Vec<(SegmentName, String, u64)> = Vec::new();
        for (name, key, bytes) in &names {
            // Without a base, the one that holds the log start comes first.
            if let ObjectName::Segment(name) = name
                && (base.is_none() || name.start >= from)
            {
                segments.push((*name, key.clone(), *bytes));
            }
        }
        let mut candidates: Vec<Candidate> = futures::stream::iter(segments)
            .map(|(name, object, bytes)| read_candidate(self.raw(), key, name, object, bytes))
            .buffered(TAILS_AT_A_TIME)
            .try_filter_map(|found| async move { Ok(found) })
            .try_collect()
            .await?;
        let fences = candidates.iter().map(|c| c.entry.fence);
        let newest = fences.chain(base.as_ref().map(|b| b.fence)).max();
        let fence = match (fence, newest) {
            (Some(ours), Some(newest)) if newest > ours => {
                return Err(super::ManifestError::Fenced {
                    ours,
                    current: newest,
                }
                .into());
            }
            (Some(fence), _) | (None, Some(fence)) => fence,
            (None, None) => Fence::new(1, 0),
        };
        let nonce = self.nonce();
        let base = base.unwrap_or_else(|| {
            candidates.retain(|c| c.entry.end > from);
            let first = candidates.iter().map(|c| c.entry.start).min();
            let first = first.unwrap_or(from);
            let mut empty = Manifest::new(key.clone(), fence, first, nonce);
            empty.log_start = first;
            empty
        });
        let generation = newest_name.max(base.generation) + 1;
        let mut made = chain(base, fence, candidates, generation, nonce).map_err(|ambiguous| {
            ManifestStoreError::Damaged {
                key: key.manifest_root(),
                cause: format!(
                    "it was lost and cannot be made again without guessing: {ambiguous}"
                ),
            }
        })?;
        if let Some(log_start) = log_start {
            made.log_start = made.log_start.max(log_start.min(made.end));
        }
        Ok(Some(made))
    }

    /// The newest root that is still known.
    async fn base(
        &self,
        known: Option<Arc<Manifest>>,
        names: &[(ObjectName, String, u64)],
    ) -> Result<Option<Manifest>, ManifestStoreError> {
        let mut retired: Vec<(u64, &String)> = names
            .iter()
            .filter_map(|(name, key, _)| match name {
                ObjectName::RetiredRoot { generation } => Some((*generation, key)),
                _ => None,
            })
            .collect();
        retired.sort_unstable_by(|a, b| b.cmp(a));
        for (generation, key) in retired {
            if known.as_ref().is_some_and(|k| k.generation >= generation) {
                break;
            }
            match self.raw().get(key).await {
                Ok((bytes, _)) => match manifest_root::decode(bytes) {
                    Ok(root) if root.partition == *self.partition() => return Ok(Some(root)),
                    _ => {
                        tracing::warn!(key, "a retired root is damaged; an older one is looked for")
                    }
                },
                Err(StoreError::NotFound { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(known.map(|known| (*known).clone()))
    }
}

/// `None`: what is there is no whole object, and was never named.
async fn read_candidate(
    store: &RemoteStore,
    partition: &PartitionKey,
    name: SegmentName,
    key: String,
    bytes: u64,
) -> Result<Option<Candidate>, ManifestStoreError> {
    let (tail, footer_crc) = match read_object_tail(store, &key, bytes).await {
        Ok(read) => read,
        Err(SegmentReadError::Store(error)) if !error.is_lost() => return Err(error.into()),
        Err(error) => {
            tracing::warn!(key, %error, "an object cannot be used to make the root again");
            return Ok(None);
        }
    };
    let footer = &tail.footer;
    if footer.partition != *partition || footer.start != name.start {
        return Ok(None);
    }
    let epochs = tail.indexes.leader_epochs.iter().map(|e| EpochEntry {
        epoch: e.epoch,
        start_offset: e.start_offset,
    });
    Ok(Some(Candidate {
        epochs: epochs.collect(),
        entry: ManifestEntry {
            start: footer.start,
            end: footer.end,
            object: ObjectRef::Segment {
                counter: name.counter,
                random: name.random,
            },
            bytes,
            log_bytes: footer.log_bytes,
            max_timestamp: footer.max_timestamp,
            has_aborted: !tail.indexes.aborted_txns.is_empty(),
            damaged: false,
            fence: footer.fence,
            footer_crc,
        },
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::tests::{key, manifest};

    fn candidate(start: Offset, end: Offset, epoch: i32, lineage: &[(i32, Offset)]) -> Candidate {
        Candidate {
            entry: ManifestEntry {
                start,
                end,
                object: ObjectRef::Segment {
                    counter: 3,
                    random: start as u64 ^ u64::from(epoch as u32) << 32,
                },
                bytes: 200,
                log_bytes: 100,
                max_timestamp: 1,
                has_aborted: false,
                damaged: false,
                fence: Fence::new(1, epoch),
                footer_crc: 0,
            },
            epochs: lineage
                .iter()
                .map(|(epoch, start_offset)| EpochEntry {
                    epoch: *epoch,
                    start_offset: *start_offset,
                })
                .collect(),
        }
    }

    fn run(candidates: Vec<Candidate>) -> Result<Manifest, Ambiguous> {
        chain(manifest(0), Fence::new(1, 9), candidates, 50, [7; 16])
    }

    #[test]
    fn objects_are_added_as_long_as_they_continue_each_other() {
        let first = candidate(0, 10, 1, &[(1, 0)]);
        let retry = candidate(0, 7, 1, &[(1, 0)]);
        let second = candidate(10, 25, 2, &[(1, 0), (2, 12)]);
        let made = run(vec![second.clone(), retry.clone(), first.clone()]).expect("made");
        assert_eq!(made.entries, [first.entry.clone(), second.entry.clone()]);
        assert_eq!(
            (made.end, made.generation, made.collection_floor),
            (25, 50, 50)
        );
        assert_eq!(made.fence, Fence::new(1, 9));
        assert_eq!(made.partition, key());
        // A longer one of a newer writer, which leads nowhere.
        let astray = candidate(0, 15, 4, &[(1, 0), (2, 12)]);
        let again = run(vec![astray, second.clone(), first.clone()]).expect("made");
        assert_eq!(again.entries, made.entries);
        let late = candidate(30, 40, 2, &[(1, 0), (2, 12)]);
        assert_eq!(
            run(vec![first.clone(), second, late]),
            Err(Ambiguous::Hole { at: 25, next: 30 })
        );
        let stranger = candidate(10, 25, 5, &[(3, 0), (5, 10)]);
        assert_eq!(
            run(vec![first.clone(), stranger]),
            Err(Ambiguous::Contradiction { at: 10 })
        );
        let (one, other) = (
            candidate(10, 20, 2, &[(1, 0), (2, 10)]),
            candidate(10, 20, 3, &[(1, 0), (3, 10)]),
        );
        assert_eq!(
            run(vec![first, one, other]),
            Err(Ambiguous::Contradiction { at: 10 })
        );
        assert_eq!(run(Vec::new()).expect("empty").end, 0);
    }
}
