//! The applied image: entries in, images and deltas out, snapshots to disk.

use std::io::Cursor;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use openraft::storage::RaftStateMachine;
use openraft::{EntryPayload, OptionalSend, RaftSnapshotBuilder, StorageIOError};
use parking_lot::Mutex;
use strandline_core::metadata::{MetadataDelta, MetadataImage, apply, decode_image, encode_image};

use crate::entry_format::decode_commands;
use crate::snapshot::{self, snapshot_meta, snapshot_path};
use crate::storage_error::MetadataStorageError;
use crate::type_config::{
    Entry, LogId, Outcomes, Proposal, RaftStorageError, Snapshot, SnapshotMeta, StoredMembership,
    TypeConfig,
};
use crate::updates::Publisher;

/// The image itself lives in the publisher: only the state machine changes it.
pub struct StateMachine {
    publisher: Arc<Publisher>,
    snapshots: Arc<Snapshots>,
    last_applied: Option<LogId>,
    membership: StoredMembership,
}

/// The folder of snapshots, and which is the current one.
struct Snapshots {
    folder: PathBuf,
    current: Mutex<Option<SnapshotMeta>>,
}

impl StateMachine {
    /// Begins at the newest snapshot.
    pub fn open(folder: &Path) -> Result<Self, MetadataStorageError> {
        let (meta, image) = snapshot::load(folder)?.unzip();
        let current = meta.clone();
        let meta = meta.unwrap_or_default();
        Ok(Self {
            publisher: Arc::new(Publisher::new(Arc::new(image.unwrap_or_default()))),
            snapshots: Arc::new(Snapshots {
                folder: folder.to_owned(),
                current: Mutex::new(current),
            }),
            last_applied: meta.last_log_id,
            membership: meta.last_membership,
        })
    }

    pub fn publisher(&self) -> Arc<Publisher> {
        self.publisher.clone()
    }

    pub fn last_applied(&self) -> Option<LogId> {
        self.last_applied
    }

    fn apply_proposal(
        &self,
        index: u64,
        proposal: &Proposal,
    ) -> Result<Outcomes, MetadataStorageError> {
        let commands = decode_commands(proposal)
            .map_err(|source| MetadataStorageError::Command { index, source })?;
        let mut outcomes = Vec::with_capacity(commands.len());
        let mut image = self.publisher.image();
        for command in &commands {
            let applied = apply(&image, command);
            image = Arc::new(applied.image);
            self.publisher.publish(applied.delta, image.clone());
            outcomes.push(applied.outcome);
        }
        Ok(Outcomes(outcomes))
    }
}

impl RaftStateMachine<TypeConfig> for StateMachine {
    type SnapshotBuilder = SnapshotBuilder;

    async fn applied_state(
        &mut self,
    ) -> Result<(Option<LogId>, StoredMembership), RaftStorageError> {
        Ok((self.last_applied, self.membership.clone()))
    }

    async fn apply<I>(&mut self, entries: I) -> Result<Vec<Outcomes>, RaftStorageError>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut all = Vec::new();
        for entry in entries {
            let outcomes = match entry.payload {
                EntryPayload::Blank => Outcomes(Vec::new()),
                EntryPayload::Normal(proposal) => self
                    .apply_proposal(entry.log_id.index, &proposal)
                    .map_err(|e| StorageIOError::apply(entry.log_id, e.to_any_error()))?,
                EntryPayload::Membership(membership) => {
                    self.membership = StoredMembership::new(Some(entry.log_id), membership);
                    Outcomes(Vec::new())
                }
            };
            self.last_applied = Some(entry.log_id);
            all.push(outcomes);
        }
        Ok(all)
    }

    async fn get_snapshot_builder(&mut self) -> SnapshotBuilder {
        SnapshotBuilder {
            image: self.publisher.image(),
            meta: snapshot_meta(self.last_applied, &self.membership),
            snapshots: self.snapshots.clone(),
        }
    }

    async fn begin_receiving_snapshot(&mut self) -> Result<Box<Cursor<Vec<u8>>>, RaftStorageError> {
        Ok(Box::default())
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        snapshot: Box<Cursor<Vec<u8>>>,
    ) -> Result<(), RaftStorageError> {
        let bytes = snapshot.into_inner();
        let image = decode_image(&bytes).map_err(|e| {
            StorageIOError::read_snapshot(Some(meta.signature()), openraft::AnyError::new(&e))
        })?;
        let meta = snapshot_meta(meta.last_log_id, &meta.last_membership);
        save(self.snapshots.clone(), meta.clone(), bytes).await?;
        self.last_applied = meta.last_log_id;
        self.membership = meta.last_membership;
        let delta = MetadataDelta::between(&self.publisher.image(), &image);
        self.publisher.publish(delta, Arc::new(image));
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot>, RaftStorageError> {
        let Some(meta) = self.snapshots.current.lock().clone() else {
            return Ok(None);
        };
        let path = snapshot_path(&self.snapshots.folder, &meta);
        let (meta, image) = on_disk_thread(move || snapshot::read(&path))
            .await
            .map_err(|e| StorageIOError::read_snapshot(Some(meta.signature()), e.to_any_error()))?;
        Ok(Some(Snapshot {
            meta,
            snapshot: Box::new(Cursor::new(image.into())),
        }))
    }
}

/// Holds the image as it was when the snapshot was asked for; applying goes on meanwhile.
pub struct SnapshotBuilder {
    image: Arc<MetadataImage>,
    meta: SnapshotMeta,
    snapshots: Arc<Snapshots>,
}

impl RaftSnapshotBuilder<TypeConfig> for SnapshotBuilder {
    async fn build_snapshot(&mut self) -> Result<Snapshot, RaftStorageError> {
        let bytes = encode_image(&self.image);
        save(self.snapshots.clone(), self.meta.clone(), bytes.clone()).await?;
        Ok(Snapshot {
            meta: self.meta.clone(),
            snapshot: Box::new(Cursor::new(bytes)),
        })
    }
}

async fn save(
    snapshots: Arc<Snapshots>,
    meta: SnapshotMeta,
    image: Vec<u8>,
) -> Result<(), RaftStorageError> {
    let signature = meta.signature();
    on_disk_thread(move || {
        snapshot::save(&snapshots.folder, &meta, &image)?;
        *snapshots.current.lock() = Some(meta);
        Ok(())
    })
    .await
    .map_err(|e| StorageIOError::write_snapshot(Some(signature), e.to_any_error()).into())
}

async fn on_disk_thread<T: Send + 'static>(
    act: impl FnOnce() -> Result<T, MetadataStorageError> + Send + 'static,
) -> Result<T, MetadataStorageError> {
    // It fails only when it panics or the runtime is going down.
    tokio::task::spawn_blocking(act)
        .await
        .unwrap_or(Err(MetadataStorageError::Closed))
}
