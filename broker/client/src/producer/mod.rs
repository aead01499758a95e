//! The producer: records in, batches out, each with its place in the log.
//!
//! Records gather in one open batch per partition, which is sent when it is full, when `linger` is over, or on a flush.
//! The parts:
//!
//! - `partition_queue`: one partition's batches, their sequences and retries. Pure.
//! - `partitioner`: which partition a key belongs to. Pure.
//! - `request`: batches to a Produce request, and its answer to what became of each.
//! - `sender`: the task that drains queues into Produce requests, one worker per broker.
//!
//! What always holds: a record's delivery is answered exactly once; unanswered bytes are bounded by `buffer_bytes_max`;
//! with idempotence (the default) a batch keeps its producer id and sequence through every retry whose first outcome is
//! unknown, so it is stored once.

mod config;
mod delivery;
mod partition_queue;
mod partitioner;
mod request;
mod sender;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use strandline_log::TopicPartition;
use strandline_log::record::NewRecord;
use tokio::sync::{Notify, Semaphore};
use tokio::time::Instant;

pub use config::{Acks, ProducerConfig};
pub use delivery::{Delivery, DeliveryError, RecordAck};
pub use partitioner::partition_for_key;

use crate::{Client, ClientError};
use partition_queue::{PartitionQueue, QueueConfig, record_bytes};

/// Sends records. Dropping it lets what was taken in go out, as far as the runtime lives on; `close` waits for that.
pub struct Producer {
    shared: Arc<Shared>,
}

/// What the producer, its sender task and the brokers' workers share.
struct Shared {
    client: Client,
    config: ProducerConfig,
    queue_config: QueueConfig,
    queues: Mutex<HashMap<TopicPartition, PartitionQueue>>,
    /// Bytes that may still be taken in.
    buffer: Arc<Semaphore>,
    /// Callers that wait for buffer space: batches do not linger while somebody waits.
    waiting_for_buffer: AtomicUsize,
    /// Wakes the sender.
    work: Notify,
    /// Wakes flushes: some batch was answered.
    answered: Notify,
    /// The producer is gone; the sender ends when the queues are empty.
    closed: AtomicBool,
    flushing: AtomicUsize,
    /// Records without a key stay on one partition until its batch is sent.
    sticky: AtomicUsize,
    started: Instant,
}

impl Shared {
    fn queues(&self) -> MutexGuard<'_, HashMap<TopicPartition, PartitionQueue>> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Whether open batches go out although they are neither full nor old.
    fn is_hurried(&self) -> bool {
        self.flushing.load(Ordering::SeqCst) > 0
            || self.waiting_for_buffer.load(Ordering::SeqCst) > 0
            || self.closed.load(Ordering::SeqCst)
    }
}

impl Producer {
    /// Must be called on a runtime: it starts the sender.
    pub fn new(client: Client, config: ProducerConfig) -> Producer {
        let queue_config = config.queue_config();
        let buffer_permits = config.buffer_bytes_max.clamp(1, u32::MAX as usize >> 3);
        let shared = Arc::new(Shared {
            client,
            queue_config,
            queues: Mutex::default(),
            buffer: Arc::new(Semaphore::new(buffer_permits)),
            waiting_for_buffer: AtomicUsize::new(0),
            work: Notify::new(),
            answered: Notify::new(),
            closed: AtomicBool::new(false),
            flushing: AtomicUsize::new(0),
            sticky: AtomicUsize::new(0),
            started: Instant::now(),
            config: ProducerConfig {
                buffer_bytes_max: buffer_permits,
                ..config
            },
        });
        tokio::spawn(sender::run(Arc::clone(&shared)));
        Producer { shared }
    }

    /// Takes a record in. Waits for the topic's metadata at first, and while the buffer is full. The partition is the
    /// one given, else the key's, else one that changes from batch to batch.
    pub async fn send(
        &self,
        topic: &str,
        partition: Option<i32>,
        record: NewRecord,
    ) -> Result<Delivery, ClientError> {
        let (topic, metadata) = self.shared.client.named_topic(topic).await?;
        let count = metadata.partitions.len().max(1);
        let partition = match (partition, &record.key) {
            (Some(partition), _) => partition,
            (None, Some(key)) => partition_for_key(key, count as i32),
            (None, None) => (self.shared.sticky.load(Ordering::Relaxed) % count) as i32,
        };
        Ok(self
            .send_to(TopicPartition::new(topic, partition), record)
            .await)
    }

    /// Takes a record in for a known partition.
    pub async fn send_to(&self, partition: TopicPartition, record: NewRecord) -> Delivery {
        let shared = &self.shared;
        let bytes = record_bytes(&record);
        let permit = match shared.reserve(bytes).await {
            Ok(permit) => permit,
            Err(error) => return Delivery::refused(error),
        };
        let now_ms = shared.now_ms();
        let (delivery, wakes) = {
            let mut queues = shared.queues();
            let queue = queues
                .entry(partition)
                .or_insert_with(|| PartitionQueue::new(shared.queue_config));
            queue.append(now_ms, record, Some(permit))
        };
        // A record that joins an open batch changes nothing that the sender waits for.
        if wakes {
            shared.work.notify_one();
        }
        delivery
    }

    /// Sends what was taken in before this call, and waits until all of it is answered.
    pub async fn flush(&self) {
        let shared = &self.shared;
        let marks: Vec<(TopicPartition, u64)> = {
            let queues = shared.queues();
            queues
                .iter()
                .map(|(partition, queue)| (partition.clone(), queue.batches_count()))
                .collect()
        };
        shared.flushing.fetch_add(1, Ordering::SeqCst);
        shared.work.notify_one();
        loop {
            let answered = shared.answered.notified();
            tokio::pin!(answered);
            answered.as_mut().enable();
            let is_flushed = {
                let queues = shared.queues();
                marks.iter().all(|(partition, mark)| {
                    queues
                        .get(partition)
                        .is_none_or(|queue| queue.is_answered_below(*mark))
                })
            };
            if is_flushed {
                break;
            }
            answered.await;
        }
        shared.flushing.fetch_sub(1, Ordering::SeqCst);
    }

    /// Flushes and ends the sender.
    pub async fn close(self) {
        self.flush().await;
    }
}

impl Drop for Producer {
    fn drop(&mut self) {
        self.shared.closed.store(true, Ordering::SeqCst);
        self.shared.work.notify_one();
    }
}

impl Shared {
    async fn reserve(
        &self,
        bytes: usize,
    ) -> Result<tokio::sync::OwnedSemaphorePermit, DeliveryError> {
        let too_large = || DeliveryError::TooLarge {
            bytes,
            bytes_max: self.config.buffer_bytes_max,
        };
        let permits = u32::try_from(bytes).map_err(|_| too_large())?;
        if bytes > self.config.buffer_bytes_max {
            return Err(too_large());
        }
        if let Ok(permit) = Arc::clone(&self.buffer).try_acquire_many_owned(permits) {
            return Ok(permit);
        }
        self.waiting_for_buffer.fetch_add(1, Ordering::SeqCst);
        self.work.notify_one();
        let permit = Arc::clone(&self.buffer).acquire_many_owned(permits).await;
        self.waiting_for_buffer.fetch_sub(1, Ordering::SeqCst);
        Ok(permit.expect("the semaphore is never closed"))
    }
}

impl std::fmt::Debug for Producer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Producer")
            .field("client", &self.shared.client)
            .finish_non_exhaustive()
    }
}
