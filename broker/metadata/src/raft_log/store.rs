//! The log as openraft uses it: the retained entries in memory, the file behind the writer's thread.

use std::fmt::Debug;
use std::ops::RangeBounds;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread;

use openraft::storage::{LogFlushed, RaftLogStorage};
use openraft::{EntryPayload, LogState, OptionalSend, RaftLogReader, StorageIOError};
use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::format::{Contents, put_entry_record, put_truncate_record, put_vote_record};
use super::writer::{Done, Operation, Writer};
use crate::storage_error::MetadataStorageError;
use crate::type_config::{Entry, LogId, RaftStorageError, TypeConfig, Vote};

/// A handle; clones are the same log.
#[derive(Clone)]
pub struct RaftLog {
    contents: Arc<Mutex<Contents>>,
    /// Never long: openraft has one write under way at a time.
    operations: mpsc::Sender<Operation>,
    file_bytes: Arc<AtomicU64>,
    /// Whether this node is the only voter: see the head of `raft_log`.
    lone_voter: bool,
}

impl RaftLog {
    pub fn open(folder: &Path, lone_voter: bool) -> Result<Self, MetadataStorageError> {
        let (writer, contents) = Writer::open(folder)?;
        let file_bytes = writer.file_bytes();
        let (operations, receiver) = mpsc::channel();
        thread::Builder::new()
            .name("metadata-log".to_owned())
            .spawn(move || writer.run(&receiver))
            .map_err(MetadataStorageError::io("start the thread of", folder))?;
        Ok(Self {
            contents: Arc::new(Mutex::new(contents)),
            operations,
            file_bytes,
            lone_voter,
        })
    }

    pub fn file_bytes(&self) -> u64 {
        self.file_bytes.load(Ordering::Relaxed)
    }

    pub fn purged(&self) -> Option<LogId> {
        self.contents.lock().purged
    }

    #[cfg(test)]
    pub fn contents(&self) -> Contents {
        self.contents.lock().clone()
    }

    /// Afterwards the log refuses everything, and another process may open it.
    pub async fn close(&self) -> Result<(), MetadataStorageError> {
        self.perform(|done| Operation::Close { done }).await
    }

    async fn perform(
        &self,
        operation: impl FnOnce(Done) -> Operation,
    ) -> Result<(), MetadataStorageError> {
        let (reply, answer) = oneshot::channel();
        self.operations
            .send(operation(Done::Reply(reply)))
            .map_err(|_| MetadataStorageError::Closed)?;
        answer.await.unwrap_or(Err(MetadataStorageError::Closed))
    }
}

fn write_error(error: &MetadataStorageError) -> RaftStorageError {
    StorageIOError::write_logs(error.to_any_error()).into()
}

impl RaftLogReader<TypeConfig> for RaftLog {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry>, RaftStorageError> {
        let contents = self.contents.lock();
        Ok(contents
            .entries
            .range(range)
            .map(|(_, entry)| entry.clone())
            .collect())
    }
}

impl RaftLogStorage<TypeConfig> for RaftLog {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<TypeConfig>, RaftStorageError> {
        let contents = self.contents.lock();
        Ok(LogState {
            last_purged_log_id: contents.purged,
            last_log_id: contents.last_log_id(),
        })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), RaftStorageError> {
        let mut records = Vec::new();
        put_vote_record(&mut records, vote);
        self.contents.lock().vote = Some(*vote);
        let sync = !self.lone_voter;
        self.perform(|done| Operation::Write {
            records,
            sync,
            done,
        })
        .await
        .map_err(|e| StorageIOError::write_vote(e.to_any_error()).into())
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, RaftStorageError> {
        Ok(self.contents.lock().vote)
    }

    async fn append<I>(
        &mut self,
        entries: I,
        callback: LogFlushed<TypeConfig>,
    ) -> Result<(), RaftStorageError>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut records = Vec::new();
        let mut sync = !self.lone_voter;
        {
            let mut contents = self.contents.lock();
            for entry in entries {
                sync |= matches!(entry.payload, EntryPayload::Normal(_));
                put_entry_record(&mut records, &entry);
                contents.entries.insert(entry.log_id.index, entry);
            }
        }
        let done = Done::Append(callback);
        self.operations
            .send(Operation::Write {
                records,
                sync,
                done,
            })
            .map_err(|_| write_error(&MetadataStorageError::Closed))
    }

    async fn truncate(&mut self, log_id: LogId) -> Result<(), RaftStorageError> {
        self.contents.lock().truncate(log_id.index);
        let mut records = Vec::new();
        put_truncate_record(&mut records, log_id.index);
        self.perform(|done| Operation::Write {
            records,
            sync: true,
            done,
        })
        .await
        .map_err(|e| write_error(&e))
    }

    async fn purge(&mut self, log_id: LogId) -> Result<(), RaftStorageError> {
        let records = {
            let mut contents = self.contents.lock();
            contents.purge(log_id);
            contents.encode()
        };
        self.perform(|done| Operation::Rewrite { records, done })
            .await
            .map_err(|e| write_error(&e))
    }
}
