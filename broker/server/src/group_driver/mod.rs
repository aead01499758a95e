//! Drives the group coordinators: one task per partition of `__consumer_offsets` that this broker leads.
//!
//! The task owns the pure shard (`strandline_core::group`), loads it from the partition's log, hands it requests and
//! the time, and performs its effects: answers, and appends with acks=all whose commit it reports back. What it does
//! not do: decide anything about groups.

mod load;
mod shard_task;

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::{Mutex, RwLock};
use strandline_core::group::{
    ClientIdentity, GroupConfig, GroupEffect, GroupEvent, GroupRequest, GroupResponse, GroupShard,
};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};

use self::shard_task::{Message, ShardTask};
use crate::partition::Partition;
use crate::{clock, ids};

/// Requests that wait for one coordinator. Beyond that, connections wait.
const QUEUE_MAX: usize = 1024;

pub struct GroupDriver {
    config: GroupConfig,
    runtime: Handle,
    shards: RwLock<HashMap<i32, mpsc::Sender<Message>>>,
    /// Answers for partitions that this broker does not lead.
    not_coordinator: Mutex<GroupShard>,
}

impl GroupDriver {
    pub fn new(config: GroupConfig, runtime: Handle) -> Arc<Self> {
        let mut not_coordinator = new_shard(&config, -1);
        not_coordinator.handle(clock::now_ms(), GroupEvent::Unload);
        Arc::new(Self {
            config,
            runtime,
            shards: RwLock::default(),
            not_coordinator: Mutex::new(not_coordinator),
        })
    }

    /// A term has begun: loads the partition's groups. Replaces the coordinator of an earlier term.
    pub fn lead(&self, index: i32, partition: Arc<Partition>) {
        let (sender, receiver) = mpsc::channel(QUEUE_MAX);
        let task = ShardTask::new(&self.config, index, partition, receiver);
        // Dropping the earlier sender ends the earlier task.
        self.shards.write().insert(index, sender);
        self.runtime.spawn(task.run());
    }

    /// The partition is led elsewhere, or gone.
    pub fn resign(&self, index: i32) {
        self.shards.write().remove(&index);
    }

    /// Committed offsets of these topics get tombstones.
    pub fn topics_deleted(&self, topics: Vec<String>) {
        let senders: Vec<_> = self.shards.read().values().cloned().collect();
        for sender in senders {
            let topics = topics.clone();
            self.runtime.spawn(async move {
                // A coordinator that ended has no offsets to delete.
                let _ = sender
                    .send(Message::Event(GroupEvent::TopicsDeleted { topics }))
                    .await;
            });
        }
    }

    /// Puts a request to the coordinator of one partition.
    pub async fn request(
        &self,
        index: i32,
        client: ClientIdentity,
        version: i16,
        request: GroupRequest,
    ) -> Option<GroupResponse> {
        let sender = self.shards.read().get(&index).cloned();
        let Some(sender) = sender else {
            return self.refuse(client, version, request);
        };
        let (reply, response) = oneshot::channel();
        let message = Message::Request {
            client,
            version,
            request,
            reply,
        };
        match sender.send(message).await {
            // A task that ends answers what it still finds in its queue.
            Ok(()) => response.await.ok(),
            Err(mpsc::error::SendError(Message::Request {
                client,
                version,
                request,
                ..
            })) => self.refuse(client, version, request),
            Err(_) => None,
        }
    }

    /// The partitions that are coordinated here, for requests about all groups.
    pub fn shards(&self) -> Vec<i32> {
        let mut shards: Vec<i32> = self.shards.read().keys().copied().collect();
        shards.sort_unstable();
        shards
    }

    /// Ends all coordinators; whoever waits is told to look elsewhere.
    pub fn shutdown(&self) {
        self.shards.write().clear();
    }

    fn refuse(
        &self,
        client: ClientIdentity,
        version: i16,
        request: GroupRequest,
    ) -> Option<GroupResponse> {
        let event = GroupEvent::Request {
            token: 0,
            client,
            version,
            request,
        };
        let effects = self.not_coordinator.lock().handle(clock::now_ms(), event);
        effects.into_iter().find_map(|effect| match effect {
            GroupEffect::Reply { response, .. } => Some(response),
            GroupEffect::Append { .. } => None,
        })
    }
}

fn new_shard(config: &GroupConfig, index: i32) -> GroupShard {
    GroupShard::new(config.clone(), index, Box::new(ids::new_uuid))
}
