//! One coordinator's task.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use strandline_core::group::{
    ClientIdentity, CoordinatorRecord, GroupConfig, GroupEffect, GroupEvent, GroupRequest,
    GroupResponse, GroupShard,
};
use strandline_log::record::{Batch, BatchBuilder, BatchOptions, NewRecord, ValidBatch};
use strandline_wire::KafkaError;
use tokio::sync::{mpsc, oneshot};

use super::{load, new_shard};
use crate::clock;
use crate::partition::{
    AppendFailure, AppendOutcome, AppendReplies, Partition, RequiredAcks, Schedule,
};

pub enum Message {
    Request {
        client: ClientIdentity,
        version: i16,
        request: GroupRequest,
        reply: oneshot::Sender<GroupResponse>,
    },
    Event(GroupEvent),
}

pub struct ShardTask {
    index: i32,
    partition: Arc<Partition>,
    /// Of the loading shard's stand-in until the load is done.
    shard: GroupShard,
    loading: Option<GroupShard>,
    messages: mpsc::Receiver<Message>,
    next_token: u64,
    replies: HashMap<u64, oneshot::Sender<GroupResponse>>,
    /// In the order of the log, which is that of their commits.
    appends: VecDeque<(u64, Append)>,
}

/// An append under way, or what became of it at once.
enum Append {
    Waiting(Arc<AppendReplies>),
    Failed(AppendFailure),
}

impl ShardTask {
    pub fn new(
        config: &GroupConfig,
        index: i32,
        partition: Arc<Partition>,
        messages: mpsc::Receiver<Message>,
    ) -> Self {
        Self {
            index,
            partition,
            shard: new_shard(config, index),
            loading: Some(new_shard(config, index)),
            messages,
            next_token: 0,
            replies: HashMap::new(),
            appends: VecDeque::new(),
        }
    }

    pub async fn run(mut self) {
        if self.load().await {
            self.serve().await;
        }
        self.handle(GroupEvent::Unload);
        self.messages.close();
        while let Some(message) = self.messages.recv().await {
            if let Message::Request {
                client,
                version,
                request,
                reply,
            } = message
            {
                self.request(client, version, request, reply);
            }
        }
    }

    /// False when the partition was given up before it was loaded.
    async fn load(&mut self) -> bool {
        let Some(mut loading) = self.loading.take() else {
            return true;
        };
        let log = Arc::clone(self.partition.log());
        let mut done = tokio::task::spawn_blocking(move || {
            let loaded = load::load(&log, &mut loading);
            (loading, loaded)
        });
        let mut deleted = Vec::new();
        loop {
            tokio::select! {
                loaded = &mut done => {
                    match loaded {
                        Ok((shard, Ok(records))) => {
                            if records > 0 {
                                tracing::info!(partition = self.index, records, "loaded groups and offsets");
                            }
                            self.shard = shard;
                        }
                        Ok((_, Err(error))) => {
                            tracing::error!(partition = self.index, %error, "the coordinator cannot load its log");
                            return false;
                        }
                        Err(_) => {
                            tracing::error!(partition = self.index, "loading the coordinator failed by a bug");
                            return false;
                        }
                    }
                    self.shard.finish_replay(clock::now_ms());
                    for event in deleted {
                        self.handle(event);
                    }
                    return true;
                }
                message = self.messages.recv() => match message {
                    None => return false,
                    // The stand-in answers that the load is under way.
                    Some(Message::Request { client, version, request, reply }) => {
                        self.request(client, version, request, reply);
                    }
                    Some(Message::Event(event)) => deleted.push(event),
                },
            }
        }
    }

    async fn serve(&mut self) {
        loop {
            let wait_ms = self
                .shard
                .next_deadline()
                .map(|at| (at - clock::now_ms()).max(0));
            tokio::select! {
                biased;
                committed = first_append(&mut self.appends), if !self.appends.is_empty() => {
                    let (append_id, outcome) = committed;
                    self.handle(match outcome {
                        Ok(_) => GroupEvent::Committed { append_id },
                        Err(failure) => GroupEvent::AppendFailed { append_id, error: failure.error },
                    });
                }
                message = self.messages.recv() => match message {
                    None => return,
                    Some(Message::Request { client, version, request, reply }) => {
                        self.request(client, version, request, reply);
                    }
                    Some(Message::Event(event)) => self.handle(event),
                },
                () = sleep(wait_ms) => self.handle(GroupEvent::Tick),
            }
        }
    }

    fn request(
        &mut self,
        client: ClientIdentity,
        version: i16,
        request: GroupRequest,
        reply: oneshot::Sender<GroupResponse>,
    ) {
        let token = self.next_token;
        self.next_token += 1;
        self.replies.insert(token, reply);
        self.handle(GroupEvent::Request {
            token,
            client,
            version,
            request,
        });
    }

    fn handle(&mut self, event: GroupEvent) {
        let effects = self.shard.handle(clock::now_ms(), event);
        self.perform(effects);
    }

    fn perform(&mut self, effects: Vec<GroupEffect>) {
        for effect in effects {
            match effect {
                GroupEffect::Reply { token, response } => {
                    if let Some(reply) = self.replies.remove(&token) {
                        // The client may be gone.
                        let _ = reply.send(response);
                    }
                }
                GroupEffect::Append { append_id, records } => {
                    let outcome = self.append(records);
                    self.appends.push_back((append_id, outcome));
                }
            }
        }
    }

    fn append(&self, records: Vec<CoordinatorRecord>) -> Append {
        let replies = AppendReplies::new(1);
        let appended = build(records, clock::now_ms()).and_then(|batch| {
            self.partition.append(
                batch,
                RequiredAcks::All,
                replies.reply(0),
                &mut Schedule::default(),
            )
        });
        match appended {
            Ok(_) => Append::Waiting(replies),
            Err(failure) => Append::Failed(failure),
        }
    }
}

fn build(records: Vec<CoordinatorRecord>, now_ms: i64) -> Result<ValidBatch, AppendFailure> {
    let failure = |message: String| AppendFailure {
        error: KafkaError::MessageTooLarge,
        message: Some(message),
    };
    let mut builder = BatchBuilder::new(BatchOptions::default());
    for record in records {
        let record = NewRecord {
            timestamp: now_ms,
            key: Some(record.key),
            value: record.value,
            headers: Vec::new(),
        };
        builder
            .append(record)
            .map_err(|error| failure(error.to_string()))?;
    }
    let batch = Batch::parse(builder.build()).map_err(|error| failure(error.to_string()))?;
    Ok(ValidBatch { batch })
}

/// Waits for the oldest append. Cancelled safely: it is only taken out once it is answered.
async fn first_append(appends: &mut VecDeque<(u64, Append)>) -> (u64, AppendOutcome) {
    let Some((append_id, append)) = appends.front_mut() else {
        return std::future::pending().await;
    };
    let append_id = *append_id;
    let outcome = match append {
        Append::Failed(failure) => Err(failure.clone()),
        Append::Waiting(replies) => {
            replies.complete().await;
            // The append threads end only when the broker does.
            replies
                .outcome(0)
                .cloned()
                .unwrap_or_else(|| Err(AppendFailure::of(KafkaError::NotLeaderOrFollower)))
        }
    };
    appends.pop_front();
    (append_id, outcome)
}

async fn sleep(wait_ms: Option<i64>) {
    match wait_ms {
        Some(ms) => tokio::time::sleep(Duration::from_millis(u64::try_from(ms).unwrap_or(0))).await,
        None => std::future::pending().await,
    }
}
