//! A partition's part in the scrub: a few objects per turn of its task.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use strandline_log::{Offset, TimestampMs};

use super::copies;
use crate::blocking;
use crate::bucket_reader::{SegmentReadError, read_log_bytes, read_segment_tail, verify_object};
use crate::format::SegmentTail;
use crate::format::object_key::SegmentName;
use crate::manifest::{Lookup, Manifest, ManifestEntry};
use crate::reader::SegmentRef;
use crate::remote_partition::RemotePartition;
use crate::store::Purpose;
use crate::uploader::TaskError;
use crate::uploader::segment_upload::{self, UploadError};

/// Objects that one turn looks at.
const OBJECTS_PER_TURN: usize = 16;
/// Log bytes that are asked for at once.
const PIECE_BYTES: u64 = 1 << 20;
/// Pieces that one turn reads.
const PIECES_PER_TURN: usize = 16;
/// What readers have stumbled over and nobody has looked at yet.
const SUSPECTS_MAX: usize = 64;
/// The first walk begins within this time after the start, or within the interval, if that is shorter.
const FIRST_WALK_MS_MAX: i64 = 600_000;

/// An object that cannot be read and could not be made again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Damage {
    pub end: Offset,
    pub key: String,
    pub cause: String,
    pub since_ms: TimestampMs,
}

/// Where a partition's walk is.
#[derive(Debug, Default)]
pub(crate) struct ScrubTurn {
    due_ms: Option<TimestampMs>,
    /// The walk goes on here; `None`: none is under way.
    next: Option<Offset>,
    /// The root was read for this walk.
    has_root: bool,
    /// Log bytes of that entry that were read.
    read_bytes: u64,
    suspects: BTreeSet<Offset>,
    /// By first offset.
    pub damaged: BTreeMap<Offset, Damage>,
}

impl RemotePartition {
    /// A reader could not read the object that holds an offset.
    pub(crate) fn suspect(&self, offset: Offset) {
        let mut turn = self.scrub.lock();
        let known = turn.damaged.range(..=offset).next_back();
        let is_known = known.is_some_and(|(_, damage)| offset < damage.end);
        if !is_known && turn.suspects.len() < SUSPECTS_MAX && turn.suspects.insert(offset) {
            drop(turn);
            self.wake();
        }
    }

    pub(crate) fn damages(&self) -> Vec<(Offset, Damage)> {
        let turn = self.scrub.lock();
        turn.damaged
            .iter()
            .map(|(start, damage)| (*start, damage.clone()))
            .collect()
    }

    /// What readers have stumbled over, then the walk, as far as the budget goes.
    pub(crate) async fn scrub_if_due(
        &self,
        mut manifest: Arc<Manifest>,
    ) -> Result<Arc<Manifest>, TaskError> {
        let suspects = std::mem::take(&mut self.scrub.lock().suspects);
        for offset in suspects {
            let found = self.manifests.entry_for(&manifest, offset).await?;
            if let Lookup::Entry(entry) = found {
                let error = self.look(&entry, true).await;
                manifest = self.act_on(manifest, &entry, error).await?;
            }
        }
        if !self.is_walking() {
            return Ok(manifest);
        }
        if !self.scrub.lock().has_root {
            // Somebody may have edited it: an operator who accepted a loss.
            let now_ms = self.core.clock.now_ms();
            if !self.core.scrub_budget.lock().take(0, now_ms) {
                return Ok(manifest);
            }
            self.manifests.forget();
            manifest = self.manifests.current().await?;
            self.scrub.lock().has_root = true;
        }
        let mut pieces_left = PIECES_PER_TURN;
        for _ in 0..OBJECTS_PER_TURN {
            let Some(from) = self.scrub.lock().next.filter(|_| !self.is_gone()) else {
                break;
            };
            let entries = self.manifests.entries_from(&manifest, from, 1).await?;
            let Some(entry) = entries.into_iter().next() else {
                self.end_walk(&manifest).await?;
                break;
            };
            let Some(found) = self.walk_over(&entry, &mut pieces_left).await else {
                break;
            };
            manifest = self.act_on(manifest, &entry, found).await?;
            let mut turn = self.scrub.lock();
            turn.next = Some(entry.end);
            turn.read_bytes = 0;
        }
        Ok(manifest)
    }

    /// Whether a walk is under way or begins now.
    fn is_walking(&self) -> bool {
        let (off, config) = (self.core.scrub_budget.lock().is_off(), &self.core.config);
        let now_ms = self.core.clock.now_ms();
        let mut turn = self.scrub.lock();
        let due_ms = *turn.due_ms.get_or_insert_with(|| {
            let within_ms = config.scrub_interval_ms.min(FIRST_WALK_MS_MAX);
            now_ms.saturating_add((within_ms as f64 * self.core.random_fraction()) as i64)
        });
        if !off && turn.next.is_none() && now_ms >= due_ms {
            turn.next = Some(0);
            turn.has_root = false;
            turn.read_bytes = 0;
            turn.due_ms = Some(now_ms.saturating_add(config.scrub_interval_ms));
        }
        !off && turn.next.is_some()
    }

    /// What has expired, was given up or has another object by now is no damage any more.
    async fn end_walk(&self, manifest: &Manifest) -> Result<(), TaskError> {
        for (start, damage) in self.damages() {
            let live = start.max(manifest.start_offset());
            let named = match self.manifests.entry_for(manifest, live).await? {
                Lookup::Entry(entry) => entry.key(&self.key) == damage.key,
                _ => false,
            };
            if !named {
                self.forget_damage(start);
            }
        }
        self.scrub.lock().next = None;
        Ok(())
    }

    /// Looks at one object within the budget. `None`: the budget is spent, the walk goes on here later.
    async fn walk_over(
        &self,
        entry: &ManifestEntry,
        pieces_left: &mut usize,
    ) -> Option<Result<(), SegmentReadError>> {
        let may = |bytes| {
            let now_ms = self.core.clock.now_ms();
            self.core.scrub_budget.lock().take(bytes, now_ms)
        };
        if !may(0) {
            return None;
        }
        let store = self.core.store.with_purpose(Purpose::Scrub);
        let footer = match verify_object(&store, &self.key, entry).await {
            Ok(footer) => footer,
            Err(error) => return Some(Err(error)),
        };
        while self.core.scrub_budget.lock().reads_bytes() {
            let at = self.scrub.lock().read_bytes;
            if at >= footer.log_bytes {
                break;
            }
            let to = (at + PIECE_BYTES).min(footer.log_bytes);
            if *pieces_left == 0 || self.must_end() || !may(to - at) {
                return None;
            }
            *pieces_left -= 1;
            if let Err(error) = read_log_bytes(&store, &self.key, entry, &footer, at..to).await {
                return Some(Err(error));
            }
            self.core.metrics.remote_scrub_bytes.inc_by(to - at);
            self.scrub.lock().read_bytes = to;
        }
        self.core.metrics.remote_scrub_objects.inc();
        Some(Ok(()))
    }

    /// Reads an object, all of it or its end.
    async fn look(&self, entry: &ManifestEntry, all: bool) -> Result<(), SegmentReadError> {
        let store = self.core.store.with_purpose(Purpose::Scrub);
        let footer = verify_object(&store, &self.key, entry).await?;
        read_segment_tail(&store, &self.key, entry).await?;
        let mut at = 0;
        while all && at < footer.log_bytes {
            let to = (at + PIECE_BYTES).min(footer.log_bytes);
            read_log_bytes(&store, &self.key, entry, &footer, at..to).await?;
            at = to;
        }
        Ok(())
    }

    async fn act_on(
        &self,
        manifest: Arc<Manifest>,
        entry: &ManifestEntry,
        found: Result<(), SegmentReadError>,
    ) -> Result<Arc<Manifest>, TaskError> {
        match found {
            Ok(()) if entry.damaged => self.mark(manifest, entry, false).await,
            Ok(()) => Ok(manifest),
            Err(error) if error.is_loss() => self.mend(entry).await,
            // The store is away: nothing is known. A later walk asks again.
            Err(error) => {
                tracing::debug!(partition = %self.leader.tp, %error, "the scrub could not look at an object");
                Ok(manifest)
            }
        }
    }

    /// Nothing is concluded before the root was read again, and the object was, too.
    async fn mend(&self, entry: &ManifestEntry) -> Result<Arc<Manifest>, TaskError> {
        self.manifests.forget();
        let manifest = self.manifests.current().await?;
        let live = entry.start.max(manifest.start_offset());
        let now = self.manifests.entry_for(&manifest, live).await?;
        let Lookup::Entry(entry) = now else {
            return Ok(manifest);
        };
        let cause = match self.look(&entry, true).await {
            Err(error) if error.is_loss() => error.to_string(),
            _ => return Ok(manifest),
        };
        let topic = [&*self.leader.tp.topic];
        match self.make_again(&manifest, &entry).await? {
            Some(after) => {
                let healed = &self.core.metrics.remote_healed_objects;
                healed.with_label_values(&topic).inc();
                tracing::warn!(
                    partition = %self.leader.tp, start = entry.start, end = entry.end, %cause,
                    "an object was lost in the store; it was uploaded again from a local copy"
                );
                self.forget_damage(entry.start);
                Ok(after)
            }
            None => {
                let known = self.scrub.lock().damaged.contains_key(&entry.start);
                if !known {
                    tracing::error!(
                        partition = %self.leader.tp, start = entry.start, end = entry.end,
                        key = entry.key(&self.key), %cause,
                        "an object is lost in the store and there is no local copy: its offsets cannot be read; bring the \
                         object back, or accept the loss with `strandline tier repair --accept-loss`"
                    );
                }
                let damage = Damage {
                    end: entry.end,
                    key: entry.key(&self.key),
                    cause,
                    since_ms: self.core.clock.now_ms(),
                };
                self.note_damage(entry.start, damage);
                match entry.damaged {
                    true => Ok(manifest),
                    false => self.mark(manifest, &entry, true).await,
                }
            }
        }
    }

    /// Uploads what an entry names again, if it is still somewhere here, and names it instead.
    async fn make_again(
        &self,
        manifest: &Manifest,
        entry: &ManifestEntry,
    ) -> Result<Option<Arc<Manifest>>, TaskError> {
        let Some(plan) = self.plan_again(entry).await? else {
            return Ok(None);
        };
        let fence = self.leader.fence;
        let name = SegmentName {
            start: entry.start,
            epoch: fence.leader_epoch,
            counter: manifest.generation,
            random: self.core.ids.random(),
        };
        let store = self.core.store.with_purpose(Purpose::Scrub);
        segment_upload::put(&store, &self.key, &name, &plan, &self.core.pace()).await?;
        let new = plan.entry(name.counter, name.random);
        let replaced = self
            .manifests
            .replace(fence, std::slice::from_ref(entry), &[new], None)
            .await?;
        for key in replaced.unnamed {
            self.remove_later(key);
        }
        Ok(Some(replaced.manifest))
    }

    async fn plan_again(
        &self,
        entry: &ManifestEntry,
    ) -> Result<Option<crate::format::SegmentObjectPlan>, TaskError> {
        let segment = SegmentRef::of(entry, &self.key);
        let store = self.core.store.with_purpose(Purpose::Scrub);
        let tail: Option<Arc<SegmentTail>> = match self.core.reader.tails().cached(&segment.object)
        {
            Some(tail) => Some(tail),
            None => read_segment_tail(&store, &self.key, entry)
                .await
                .ok()
                .map(Arc::new),
        };
        let (log, key, fence) = (Arc::clone(self.log()), self.key.clone(), self.leader.fence);
        let now_ms = self.core.clock.now_ms();
        let (wanted, known) = (entry.clone(), tail.clone());
        let local = blocking::run(move || {
            copies::from_log(&log, &key, fence, &wanted, known.as_deref(), now_ms)
        });
        match local.await? {
            Ok(Some(plan)) => return Ok(Some(plan)),
            Ok(None) => {}
            // The local copy is damaged, too.
            Err(error @ UploadError::Plan(_)) => {
                tracing::error!(partition = %self.leader.tp, %error, "the local copy is of no use");
            }
            Err(error) => return Err(error.into()),
        }
        let Some(tail) = tail else { return Ok(None) };
        let Some(slices) = self.core.reader.cached_slices(&segment, &tail).await else {
            return Ok(None);
        };
        let (key, fence) = (self.key.clone(), self.leader.fence);
        let cached =
            blocking::run(move || copies::from_chunks(slices, &key, fence, &tail, now_ms)).await?;
        Ok(cached.unwrap_or_default())
    }

    /// Says in the manifest whether an object is known to be lost.
    async fn mark(
        &self,
        manifest: Arc<Manifest>,
        entry: &ManifestEntry,
        damaged: bool,
    ) -> Result<Arc<Manifest>, TaskError> {
        let _ = manifest;
        let marked = ManifestEntry {
            damaged,
            ..entry.clone()
        };
        let replaced = self
            .manifests
            .replace(
                self.leader.fence,
                std::slice::from_ref(entry),
                &[marked],
                None,
            )
            .await?;
        for key in replaced.unnamed {
            self.remove_later(key);
        }
        if !damaged {
            tracing::info!(partition = %self.leader.tp, start = entry.start, end = entry.end, "an object that was lost is whole again");
            self.forget_damage(entry.start);
        }
        Ok(replaced.manifest)
    }

    fn note_damage(&self, start: Offset, damage: Damage) {
        self.scrub.lock().damaged.entry(start).or_insert(damage);
        self.show_damage();
    }

    fn forget_damage(&self, start: Offset) {
        self.scrub.lock().damaged.remove(&start);
        self.show_damage();
    }
}
