//! Giving the remote log of a live topic up: remote.storage.enable is off, remote.log.delete.on.disable is on (KIP-950).
//!
//! 1. A note in the partition's folder, with the leader's fence. From then on the local log is what counts: if it loses
//!    records now and goes on, the manifest must not win over it when tiering is switched on again before the store has
//!    answered. A note is void once a newer leader has edited the manifest.
//! 2. The log starts where its local part does.
//! 3. One edit of the manifest forgets everything; the next upload, if there ever is one, begins at the log start.
//! 4. The note goes, for good, before anything is uploaded. After remote.log.delete.delay.ms a sweep finds the objects,
//!    which nobody names any more.
//!
//! The topic lives: there is no tombstone, and tiering may begin again in the same manifest. What the local log holds is
//! not touched. An edit of step 3 of unknown outcome may land late: `ManifestStore::anchor` stands against it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use strandline_log::checkpoint::{StateFileError, sync_dir, write_atomically};

use super::{RemotePartition, SettleError};
use crate::blocking;
use crate::fence::Fence;
use crate::manifest::{Edit, Manifest};

const NOTE: &str = "remote-given-up";

impl RemotePartition {
    fn note_path(&self) -> PathBuf {
        self.log().dir().join(NOTE)
    }

    /// Whether the settings say that there is to be no remote log.
    pub(crate) fn is_unwanted(&self) -> bool {
        let config = self.log().config();
        !config.remote_storage_enable && config.remote_log_delete_on_disable
    }

    /// Tiering is switched off, and its remote log is to be deleted. Before anything else is appended. Blocks.
    pub fn begin_to_give_up(&self) -> Result<(), SettleError> {
        let path = self.note_path();
        if self.has_checkpoint() && read_note(&path).is_none() {
            let fence = self.leader.fence;
            let text = format!("{} {}\n", fence.incarnation, fence.leader_epoch);
            write_atomically(&path, text.as_bytes(), true)?;
        }
        *self.is_noted.lock() = None;
        // Another leader may not have heard, and upload.
        self.assumed.store(true, Ordering::Release);
        self.set_settled(true);
        Ok(())
    }

    /// Under which fence the remote log was given up by this broker, and is to be forgotten still. A manifest of a newer
    /// one is another leader's, who knew better. Costs nothing where there is no note.
    async fn given_up(&self) -> Result<Option<Fence>, SettleError> {
        if *self.is_noted.lock() == Some(false) {
            return Ok(None);
        }
        let path = self.note_path();
        let note = blocking::run(move || read_note(&path)).await?;
        *self.is_noted.lock() = Some(note.is_some());
        Ok(note)
    }

    /// What was given up before tiering was switched on again is forgotten first. So is a manifest that a log contradicts
    /// which has all that was ever committed: it is what another leader was still to give up.
    pub(crate) async fn give_up_if_due(
        &self,
        mut manifest: Arc<Manifest>,
    ) -> Result<Arc<Manifest>, SettleError> {
        let given_up = self.given_up().await?;
        if given_up.is_some_and(|fence| manifest.fence <= fence) {
            return self.give_up(manifest, given_up).await;
        }
        let fence = self.leader.fence;
        if self.assumed.load(Ordering::Acquire) && manifest.fence < fence {
            // From here on nobody else can add to it.
            let (end, log_start) = (manifest.end_offset(), self.log().log_start_offset());
            manifest = self.manifests.claim_of(fence, end, log_start).await?;
        }
        if self.contradicts(&manifest) {
            return self.give_up(manifest, None).await;
        }
        self.remove_note().await?;
        Ok(manifest)
    }

    /// `of`: only a manifest of this fence or an older one.
    pub(crate) async fn give_up(
        &self,
        manifest: Arc<Manifest>,
        of: Option<Fence>,
    ) -> Result<Arc<Manifest>, SettleError> {
        if is_blank(&manifest) {
            self.remove_note().await?;
            return Ok(manifest);
        }
        let log = Arc::clone(self.log());
        let start = blocking::run(move || {
            let start = log.local_log_start_offset().max(log.log_start_offset());
            // Else it follows the manifest's as soon as the high watermark is known.
            if start <= log.high_watermark() {
                log.increment_log_start_offset(start)?;
            }
            Ok::<_, SettleError>(start)
        })
        .await??;
        let is_due = |m: &Manifest| !is_blank(m) && of.is_none_or(|of| m.fence <= of);
        let after = self
            .manifests
            .edit(self.leader.fence, |m| {
                Ok(match is_due(m) {
                    true => vec![Edit::GiveUp { start }],
                    false => Vec::new(),
                })
            })
            .await?;
        self.remove_note().await?;
        tracing::info!(
            partition = %self.leader.tp, log_start = start, objects = manifest.entry_count(),
            "the remote log is given up; its objects are removed"
        );
        let delay_ms = self.core.config.delete_delay_ms;
        let mut sweep = self.sweep.lock();
        sweep.due_ms = Some(self.core.clock.now_ms().saturating_add(delay_ms));
        sweep.after = None;
        sweep.age_ms = Some(delay_ms);
        Ok(after)
    }

    async fn remove_note(&self) -> Result<(), SettleError> {
        if *self.is_noted.lock() == Some(false) {
            return Ok(());
        }
        let path = self.note_path();
        blocking::run(move || remove(&path)).await??;
        *self.is_noted.lock() = Some(false);
        Ok(())
    }
}

/// It names nothing.
pub(crate) fn is_blank(manifest: &Manifest) -> bool {
    manifest.entry_count() == 0 && manifest.gaps.is_empty()
}

/// Who gave the remote log up.
fn read_note(path: &Path) -> Option<Fence> {
    let text = std::fs::read_to_string(path).ok()?;
    let (incarnation, leader_epoch) = text.strip_suffix('\n')?.split_once(' ')?;
    Some(Fence::new(
        incarnation.parse().ok()?,
        leader_epoch.parse().ok()?,
    ))
}

fn remove(path: &Path) -> Result<(), StateFileError> {
    match std::fs::remove_file(path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(source) => {
            return Err(StateFileError::Io {
                path: path.to_owned(),
                source,
            });
        }
        Ok(()) => {}
    }
    path.parent().map_or(Ok(()), sync_dir)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_that_does_not_parse_gives_nothing_up() {
        let dir = tempfile::tempdir().expect("dir");
        let path = dir.path().join(NOTE);
        assert_eq!(read_note(&path), None);
        for (text, expected) in [
            ("2 7\n", Some(Fence::new(2, 7))),
            ("2 7", None),
            ("2\n", None),
            ("x 7\n", None),
            ("", None),
        ] {
            std::fs::write(&path, text).expect("writes");
            assert_eq!(read_note(&path), expected, "{text:?}");
        }
        remove(&path).expect("removes");
        remove(&path).expect("is gone already");
        assert!(!path.exists());
    }
}
