//! This node's member of the quorum: start, propose, read, follow, stop.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use openraft::error::{ClientWriteError, Fatal, RaftError};
use openraft::{BasicNode, ServerState, SnapshotPolicy};
use parking_lot::Mutex;
use strandline_core::metadata::{
    BrokerId, COMMAND_BYTES_MAX, Command, CommandOutcome, FormatError, MetadataImage,
};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use crate::entry_format::{encode_commands, join_commands};
use crate::network::NoNetwork;
use crate::raft_log::RaftLog;
use crate::state_machine::StateMachine;
use crate::storage_error::MetadataStorageError;
use crate::type_config::{Outcomes, Raft};
use crate::updates::{MetadataUpdates, Publisher};

/// The folder of the quorum's files inside `metadata.log.dir`. Kafka's name for it; the files are ours.
pub const METADATA_FOLDER: &str = "__cluster_metadata-0";

/// Proposals that wait for a turn. Whoever comes then waits to be let in.
const PROPOSALS_WAITING_MAX: usize = 1024;

/// How long a lone voter may take to read its own log and lead.
const START_TIMEOUT: Duration = Duration::from_secs(60);

#[derive(Clone, Debug)]
pub struct QuorumConfig {
    /// `metadata.log.dir`; the quorum makes its own folder in it.
    pub dir: PathBuf,
    pub node_id: BrokerId,
    pub propose_timeout: Duration,
    /// A snapshot is made, and the log cut, after so many entries or when the log's file has grown to so many bytes.
    pub snapshot_entries_max: u64,
    pub snapshot_bytes_max: u64,
}

impl QuorumConfig {
    pub fn new(dir: impl Into<PathBuf>, node_id: BrokerId) -> Self {
        Self {
            dir: dir.into(),
            node_id,
            propose_timeout: Duration::from_secs(30),
            snapshot_entries_max: 10_000,
            snapshot_bytes_max: 8 << 20,
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Storage(#[from] MetadataStorageError),
    #[error("{0} cannot be a node id")]
    InvalidNodeId(BrokerId),
    #[error("the metadata log belongs to node {stored:?}, not to node {configured}")]
    NodeIdChanged {
        stored: Vec<u64>,
        configured: BrokerId,
    },
    #[error("the metadata quorum does not start: {0}")]
    Raft(String),
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    #[error("no answer within {0:?}; whether the change was made is not known")]
    Timeout(Duration),
    #[error("this node does not lead the metadata quorum")]
    NotLeader { leader: Option<BrokerId> },
    #[error("the metadata quorum has shut down")]
    Stopped,
    #[error(transparent)]
    Command(#[from] FormatError),
    /// The log can no longer be written. Only a restart, after repair, helps.
    #[error("the metadata quorum has failed: {0}")]
    Failed(String),
}

pub struct MetadataQuorum {
    publisher: Arc<Publisher>,
    raft: Raft,
    log: RaftLog,
    propose_timeout: Duration,
    /// Gone after the shutdown.
    proposals: Mutex<Option<mpsc::Sender<Proposed>>>,
    proposer: Mutex<Option<JoinHandle<()>>>,
}

/// Encoded commands, and who waits for their outcomes.
struct Proposed {
    commands: Vec<Bytes>,
    bytes: usize,
    answer: oneshot::Sender<Result<Vec<CommandOutcome>, ProposeError>>,
}

impl MetadataQuorum {
    /// Opens the log, leads, and has applied everything when it returns. A fresh quorum has an empty image: propose
    /// `InitCluster` first.
    pub async fn start(config: QuorumConfig) -> Result<Self, StartError> {
        let node =
            u64::try_from(config.node_id).map_err(|_| StartError::InvalidNodeId(config.node_id))?;
        let folder = config.dir.join(METADATA_FOLDER);
        let (log, state_machine) = tokio::task::spawn_blocking(move || {
            let log = RaftLog::open(&folder, true)?;
            let state_machine = StateMachine::open(&folder)?;
            let purged = log.purged().map(|id| id.index);
            match purged.filter(|purged| {
                state_machine
                    .last_applied()
                    .is_none_or(|last| last.index < *purged)
            }) {
                Some(purged) => Err(MetadataStorageError::SnapshotMissing {
                    path: folder,
                    purged,
                }),
                None => Ok((log, state_machine)),
            }
        })
        .await
        .map_err(|e| StartError::Raft(e.to_string()))??;

        let publisher = state_machine.publisher();
        let raft_config = openraft::Config {
            cluster_name: "strandline".to_owned(),
            // A lone voter needs no heartbeats and no election timeouts: it is told when to elect itself.
            enable_tick: false,
            snapshot_policy: SnapshotPolicy::LogsSinceLast(config.snapshot_entries_max),
            max_in_snapshot_log_to_keep: 0,
            ..openraft::Config::default()
        };
        let raft = Raft::new(
            node,
            Arc::new(raft_config),
            NoNetwork,
            log.clone(),
            state_machine,
        )
        .await
        .map_err(|e| StartError::Raft(e.to_string()))?;
        lead(&raft, node, config.node_id).await?;

        let (proposals, waiting) = mpsc::channel(PROPOSALS_WAITING_MAX);
        let proposer = Proposer {
            raft: raft.clone(),
            log: log.clone(),
            snapshot_bytes_max: config.snapshot_bytes_max,
        };
        Ok(Self {
            publisher,
            raft,
            log,
            propose_timeout: config.propose_timeout,
            proposals: Mutex::new(Some(proposals)),
            proposer: Mutex::new(Some(tokio::spawn(proposer.run(waiting)))),
        })
    }

    /// Answered when the command is on disk and applied. A refusal is an outcome, not an error.
    pub async fn propose(&self, command: Command) -> Result<CommandOutcome, ProposeError> {
        let mut outcomes = self.propose_all(vec![command]).await?;
        outcomes.pop().ok_or(ProposeError::Stopped)
    }

    /// All in one log entry, for one fsync, with one outcome each. They are applied in order; one that is refused does
    /// not stop the next.
    pub async fn propose_all(
        &self,
        commands: Vec<Command>,
    ) -> Result<Vec<CommandOutcome>, ProposeError> {
        let commands = encode_commands(&commands)?;
        let bytes = commands.iter().map(Bytes::len).sum();
        if bytes > COMMAND_BYTES_MAX {
            let limit = COMMAND_BYTES_MAX;
            return Err(FormatError::TooLarge { bytes, limit }.into());
        }
        let proposals = self.proposals.lock().clone().ok_or(ProposeError::Stopped)?;
        let (answer, outcomes) = oneshot::channel();
        let proposed = Proposed {
            commands,
            bytes,
            answer,
        };
        let answered = async {
            proposals
                .send(proposed)
                .await
                .map_err(|_| ProposeError::Stopped)?;
            outcomes.await.unwrap_or(Err(ProposeError::Stopped))
        };
        tokio::time::timeout(self.propose_timeout, answered)
            .await
            .unwrap_or(Err(ProposeError::Timeout(self.propose_timeout)))
    }

    /// The newest image. It shows at least everything that was answered so far.
    pub fn image(&self) -> Arc<MetadataImage> {
        self.publisher.image()
    }

    /// Follows the changes from the image as it is now.
    pub fn subscribe(&self) -> MetadataUpdates {
        self.publisher.subscribe()
    }

    #[cfg(test)]
    pub(crate) fn log_for_tests(&self) -> RaftLog {
        self.log.clone()
    }

    /// The size of the log's file, which snapshots bound.
    pub fn log_bytes(&self) -> u64 {
        self.log.file_bytes()
    }

    /// Ends proposals (those under way are answered) and subscriptions, syncs the log, and gives the folder free.
    pub async fn shutdown(&self) {
        drop(self.proposals.lock().take());
        let proposer = self.proposer.lock().take();
        if let Some(proposer) = proposer
            && let Err(error) = proposer.await
        {
            tracing::error!(%error, "the metadata proposer failed");
        }
        if let Err(error) = self.raft.shutdown().await {
            tracing::error!(%error, "the metadata quorum failed while it stopped");
        }
        match self.log.close().await {
            Ok(()) | Err(MetadataStorageError::Closed) => {}
            Err(error) => tracing::error!(%error, "the metadata log could not be closed"),
        }
        self.publisher.close();
    }
}

/// Makes this node the leader and waits until all of its log is applied.
async fn lead(raft: &Raft, node: u64, configured: BrokerId) -> Result<(), StartError> {
    let failed = |e: &dyn ToString| StartError::Raft(e.to_string());
    if raft.is_initialized().await.map_err(|e| failed(&e))? {
        let voters: Vec<u64> = raft
            .metrics()
            .borrow()
            .membership_config
            .voter_ids()
            .collect();
        if voters != [node] {
            return Err(StartError::NodeIdChanged {
                stored: voters,
                configured,
            });
        }
        raft.trigger().elect().await.map_err(|e| failed(&e))?;
    } else {
        let nodes = BTreeMap::from([(node, BasicNode::default())]);
        raft.initialize(nodes).await.map_err(|e| failed(&e))?;
    }
    raft.wait(Some(START_TIMEOUT))
        .metrics(
            |m| {
                m.state == ServerState::Leader
                    && m.last_log_index == m.last_applied.map(|id| id.index)
            },
            "a lone voter leads",
        )
        .await
        .map_err(|e| failed(&e))?;
    Ok(())
}

/// Writes what is proposed while one write is under way as the next one: many proposals share an fsync.
struct Proposer {
    raft: Raft,
    log: RaftLog,
    snapshot_bytes_max: u64,
}

impl Proposer {
    async fn run(self, mut waiting: mpsc::Receiver<Proposed>) {
        let mut carried = None;
        while let Some(first) = match carried.take() {
            Some(proposed) => Some(proposed),
            None => waiting.recv().await,
        } {
            let mut bytes = first.bytes;
            let mut batch = vec![first];
            while let Ok(next) = waiting.try_recv() {
                bytes += next.bytes;
                if bytes > COMMAND_BYTES_MAX {
                    carried = Some(next);
                    break;
                }
                batch.push(next);
            }
            self.write(batch).await;
            if self.log.file_bytes() > self.snapshot_bytes_max {
                // Ignored while one is being built; a raft that has failed answers the next proposal.
                drop(self.raft.trigger().snapshot().await);
            }
        }
    }

    async fn write(&self, batch: Vec<Proposed>) {
        let commands: Vec<Bytes> = batch
            .iter()
            .flat_map(|p| p.commands.iter().cloned())
            .collect();
        let written = self.raft.client_write(join_commands(&commands)).await;
        let mut result = written.map(|w| w.data).map_err(propose_error);
        for proposed in batch {
            let share = match &mut result {
                Ok(Outcomes(outcomes)) => Ok(outcomes.drain(..proposed.commands.len()).collect()),
                Err(error) => Err(error.clone()),
            };
            // Whoever asked may have given up.
            drop(proposed.answer.send(share));
        }
    }
}

fn propose_error(error: RaftError<u64, ClientWriteError<u64, BasicNode>>) -> ProposeError {
    match error {
        RaftError::APIError(ClientWriteError::ForwardToLeader(forward)) => {
            ProposeError::NotLeader {
                leader: forward.leader_id.and_then(|id| BrokerId::try_from(id).ok()),
            }
        }
        RaftError::Fatal(Fatal::Stopped) => ProposeError::Stopped,
        other => ProposeError::Failed(other.to_string()),
    }
}
