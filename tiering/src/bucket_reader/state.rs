//! Reads and writes what the bucket knows of a cluster beside its records.

use bytes::Bytes;
use futures::TryStreamExt;

use super::{BucketError, BucketReader};
use crate::format::cluster_state::StateHead;
use crate::format::object_key::{cluster_state, state_folder};
use crate::format::{ClusterState, FormatError, GroupsState};
use crate::store::{RemoteStore, StoreError};

/// Times that a state object is read again when it changes under our hands.
const ATTEMPTS_MAX: usize = 8;

/// Why a state object was not written.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The cluster was restored elsewhere: what this one is does not count any more.
    #[error("the bucket belongs to incarnation {theirs} of the cluster, this is {ours}")]
    Superseded { ours: u64, theirs: u64 },
}

/// Replaces a state object, unless a newer incarnation has written it. Returns whether it changed.
pub async fn write_state(
    store: &RemoteStore,
    key: &str,
    incarnation: u64,
    bytes: Bytes,
) -> Result<(), StateError> {
    for _ in 0..ATTEMPTS_MAX {
        let written = match store.get(key).await {
            Err(StoreError::NotFound { .. }) => store.put_if_absent(key, bytes.clone()).await,
            Err(e) => return Err(e.into()),
            Ok((there, version)) => {
                if let Ok(head) = StateHead::decode(&there)
                    && head.incarnation > incarnation
                {
                    return Err(StateError::Superseded {
                        ours: incarnation,
                        theirs: head.incarnation,
                    });
                }
                store.put_if_match(key, bytes.clone(), &version).await
            }
        };
        match written {
            Ok(_) => return Ok(()),
            Err(StoreError::Precondition { .. }) => {}
            Err(e) => return Err(e.into()),
        }
    }
    Err(StateError::Store(StoreError::Unavailable {
        key: key.to_owned(),
        cause: "it keeps changing".to_owned(),
    }))
}

impl BucketReader {
    /// What the bucket says the cluster is; `None` when no broker has written it yet.
    pub async fn cluster_state(&self) -> Result<Option<ClusterState>, BucketError> {
        let key = cluster_state(&self.cluster().await?);
        match self.store.get(&key).await {
            Ok((bytes, _)) => damaged(&key, ClusterState::decode(&bytes)).map(Some),
            Err(StoreError::NotFound { .. }) => Ok(None),
            Err(e) => Err(e.into()),
        }
    }

    /// The group offsets of all brokers.
    pub async fn groups_states(&self) -> Result<Vec<GroupsState>, BucketError> {
        let folder = state_folder(&self.cluster().await?);
        let mut found = Vec::new();
        let mut listing = self.store.list(&folder, None);
        while let Some(object) = listing.try_next().await? {
            let name = object.key.rsplit('/').next().unwrap_or_default();
            if !name.starts_with("groups-") {
                continue;
            }
            match self.store.get(&object.key).await {
                Ok((bytes, _)) => found.push(damaged(&object.key, GroupsState::decode(&bytes))?),
                Err(StoreError::NotFound { .. }) => {}
                Err(e) => return Err(e.into()),
            }
        }
        Ok(found)
    }
}

fn damaged<T>(key: &str, decoded: Result<T, FormatError>) -> Result<T, BucketError> {
    decoded.map_err(|cause| BucketError::Damaged {
        key: key.to_owned(),
        cause,
    })
}
