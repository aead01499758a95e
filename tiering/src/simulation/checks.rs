//! What must hold after each step.

use std::collections::HashMap;

use bytes::Bytes;
use strandline_log::Offset;
use strandline_log::record::split_batches;

use super::store::Change;
use super::world::{Tiering, World, key, local_batches};
use crate::format::{SegmentTail, manifest_root};
use crate::manifest::{GapCause, Manifest, ManifestEntry};
use crate::remote_partition::give_up::is_blank;

/// What a segment object was found to hold: its log bytes as batches by first offset.
struct Checked {
    start: Offset,
    end: Offset,
    batches: Vec<(Offset, Offset, Bytes)>,
}

#[derive(Default)]
pub struct Checks {
    /// By key: an object never changes.
    objects: HashMap<String, Checked>,
    pages: HashMap<String, Vec<ManifestEntry>>,
    /// Where the manifest ended when it was given up last: what lay below and was remote only is gone by intent.
    given_up_end: Offset,
}

impl Checks {
    /// Everything that must hold now; the first thing that does not.
    pub fn check(&mut self, world: &mut World, thorough: bool) -> Result<(), String> {
        let changes: Vec<Change> = world.store.lock().changes.drain(..).collect();
        for (key, before, after) in changes {
            self.check_change(world, &key, before, after)?;
        }
        let manifest = world.manifest();
        let mut entries = Vec::new();
        if let Some(manifest) = &manifest {
            world.bring_back(manifest.end_offset());
            manifest.check().map_err(|why| format!("I5: {why}"))?;
            entries = self.live_entries(world, manifest)?;
            self.check_gaps(world, manifest)?;
            for entry in entries.iter().filter(|_| !world.is_stale) {
                self.check_entry(world, manifest, entry)?;
            }
            world.log_start = world.log_start.max(manifest.start_offset());
        }
        for broker in &world.brokers {
            let Some(log) = &broker.log else { continue };
            let (start, local) = (log.log_start_offset(), log.local_log_start_offset());
            let named = manifest.as_ref().map_or(0, |m| m.end_offset());
            let live = start.max(world.log_start).max(self.given_up_end.min(local));
            if world.tiering != Tiering::GivenUp && live < local && named < local {
                return Err(format!(
                    "I4: broker {} dropped up to {local}, the manifest ends at {named}, the log starts at {live}",
                    broker.id
                ));
            }
        }
        self.check_readable(world, manifest.as_ref(), &entries, thorough)
    }

    fn check_change(
        &mut self,
        world: &mut World,
        changed: &str,
        before: Option<Bytes>,
        after: Option<Bytes>,
    ) -> Result<(), String> {
        if changed != key().manifest_root() {
            return match (before, after) {
                (Some(_), Some(_)) if changed.starts_with(&key().folder()) => {
                    Err(format!("{changed} was overwritten"))
                }
                _ => Ok(()),
            };
        }
        let decode = |bytes| manifest_root::decode(bytes).map_err(|e| format!("I5: a root: {e}"));
        let after = decode(after.ok_or("the root was deleted")?)?;
        if let Some(lost) = world.lost_root.take() {
            // Made again: nothing that was named is missing. Who was the last to claim it is lost with it: until the
            // leader claims it again, an older one may come first, who can only add what is committed.
            if after.end_offset() < lost.end_offset()
                || after.start_offset() > lost.start_offset().max(world.log_start)
            {
                return Err(format!(
                    "I5: the root was made again with {} to {}, and had {} to {}",
                    after.start_offset(),
                    after.end_offset(),
                    lost.start_offset(),
                    lost.end_offset()
                ));
            }
            return Ok(());
        }
        let Some(before) = before.map(decode).transpose()? else {
            return Ok(());
        };
        if after.fence < before.fence {
            return Err(format!(
                "I6: an edit of {} succeeded after one of {}",
                after.fence, before.fence
            ));
        }
        if after.generation != before.generation + 1 {
            return Err("I6: two edits of one generation".to_owned());
        }
        if world.was_given_up && is_blank(&after) && !is_blank(&before) {
            world.is_stale = false;
            self.given_up_end = self.given_up_end.max(before.end_offset());
            return Ok(());
        }
        if after.end_offset() < before.end_offset() || after.start_offset() < before.start_offset()
        {
            return Err("I3: the manifest went back".to_owned());
        }
        Ok(())
    }

    fn live_entries(
        &mut self,
        world: &World,
        manifest: &Manifest,
    ) -> Result<Vec<ManifestEntry>, String> {
        let mut entries = Vec::new();
        for page in &manifest.pages {
            let name = key().manifest_page(&page.name());
            if !world.store.lock().objects.contains_key(&name) {
                return Err(format!("I5: the page {name} is not there"));
            }
            let all = match self.pages.get(&name) {
                Some(all) => all,
                None => {
                    let bytes = world.store.lock().objects[&name].bytes.clone();
                    let all = crate::format::manifest_page::decode(bytes)
                        .map_err(|e| format!("I5: a page: {e}"))?;
                    self.pages.entry(name).or_insert(all)
                }
            };
            entries.extend(all.iter().filter(|e| e.start >= page.live_start).cloned());
        }
        entries.extend(manifest.entries.iter().cloned());
        Ok(entries)
    }

    /// What was not copied has expired, while copying was off.
    fn check_gaps(&self, world: &World, manifest: &Manifest) -> Result<(), String> {
        for gap in &manifest.gaps {
            let young = world.committed.iter().find(|batch| {
                let inside = gap.start.max(world.log_start) <= batch.base && batch.base < gap.end;
                inside && !batch.is_old(world.now_ms())
            });
            if gap.cause == GapCause::LossAccepted {
                let lost = world
                    .rotten
                    .iter()
                    .any(|key| self.objects.get(key).is_some_and(|o| o.start <= gap.start));
                if !lost {
                    return Err(format!("I5: nothing was lost where {gap:?} is"));
                }
                continue;
            }
            match (gap.cause, young) {
                (GapCause::Expired, _) => {}
                (GapCause::TieringOff, None) if world.was_off => {}
                _ => return Err(format!("I4: a gap for no reason: {gap:?}, {young:?}")),
            }
        }
        Ok(())
    }

    /// The object is there, in its length, with the committed records of its range.
    fn check_entry(
        &mut self,
        world: &World,
        manifest: &Manifest,
        entry: &ManifestEntry,
    ) -> Result<(), String> {
        let name = entry.key(&key());
        if world.rotten.contains(&name) {
            return Ok(());
        }
        let state = world.store.lock();
        let Some(object) = state.objects.get(&name) else {
            return Err(format!("I5: the manifest names {name}, which is not there"));
        };
        if object.bytes.len() as u64 != entry.bytes {
            return Err(format!(
                "I5: {name} has another length than the manifest says"
            ));
        }
        if !self.objects.contains_key(&name) {
            let checked =
                read_object(&object.bytes, entry).map_err(|e| format!("I5: {name}: {e}"))?;
            self.objects.insert(name.clone(), checked);
        }
        let checked = &self.objects[&name];
        if (checked.start, checked.end) != (entry.start, entry.end) {
            return Err(format!(
                "I5: {name} holds another range than the manifest says"
            ));
        }
        if entry.end > world.committed_end() {
            return Err(format!(
                "I3: the manifest names offsets up to {}, committed are those below {}",
                entry.end,
                world.committed_end()
            ));
        }
        let from = manifest.start_offset().max(entry.start);
        let first = world.committed.partition_point(|batch| batch.end <= from);
        let mut stored = checked.batches.iter().filter(|(_, end, _)| *end > from);
        for batch in world.committed[first..]
            .iter()
            .take_while(|batch| batch.base < entry.end)
        {
            match stored.next() {
                Some((base, _, bytes)) if *base == batch.base && *bytes == batch.bytes => {}
                _ => {
                    return Err(format!(
                        "I3: {name} holds something else at {} than was committed",
                        batch.base
                    ));
                }
            }
        }
        Ok(())
    }

    /// I1: every committed record from the log start on is in the leader's log or in the manifest.
    fn check_readable(
        &self,
        world: &World,
        manifest: Option<&Manifest>,
        entries: &[ManifestEntry],
        thorough: bool,
    ) -> Result<(), String> {
        let Some((leader, log)) = world.live_leader() else {
            return Ok(());
        };
        let committed = world.committed_end();
        if log.log_end_offset() < committed {
            return Err(format!(
                "I1: broker {} leads with records up to {}, committed are those below {committed}",
                leader.id,
                log.log_end_offset()
            ));
        }
        let local = log.local_log_start_offset();
        let mut at = log.log_start_offset().max(world.log_start);
        at = at.max(self.given_up_end.min(local));
        let gaps = manifest.map_or(&[][..], |m| &m.gaps);
        let mut named: Vec<_> = entries.iter().map(|e| (e.start, e.end)).collect();
        named.extend(gaps.iter().map(|gap| (gap.start, gap.end)));
        named.sort_unstable();
        for (start, end) in named {
            if start <= at && at < end {
                at = end;
            }
        }
        if at < local.min(committed) {
            return Err(format!(
                "I1: offset {at} is in neither tier: the local log starts at {local}, the manifest is {:?}",
                manifest.map(|m| (m.start_offset(), m.end_offset()))
            ));
        }
        if !thorough {
            return Ok(());
        }
        let local_from = local.max(world.log_start);
        let batches = local_batches(log, local_from);
        let first = world.committed.partition_point(|b| b.end <= local_from);
        for (batch, local) in world.committed[first..].iter().zip(&batches) {
            if local.bytes != batch.bytes {
                return Err(format!(
                    "I3: broker {} has something else at {} than was committed",
                    leader.id, batch.base
                ));
            }
        }
        Ok(())
    }
}

fn read_object(bytes: &Bytes, entry: &ManifestEntry) -> Result<Checked, String> {
    let log_bytes = bytes.slice(..entry.log_bytes as usize);
    let tail = SegmentTail::decode(&bytes.slice(entry.log_bytes as usize..), entry.log_bytes)
        .map_err(|e| e.to_string())?;
    tail.footer
        .verify_chunks(0, &log_bytes)
        .map_err(|e| e.to_string())?;
    let batches = split_batches(log_bytes).map_err(|e| e.to_string())?;
    Ok(Checked {
        start: tail.footer.start,
        end: tail.footer.end,
        batches: batches
            .into_iter()
            .map(|b| (b.header.base_offset, b.header.next_offset(), b.bytes))
            .collect(),
    })
}
