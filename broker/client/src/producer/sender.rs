//! The sender: drains the partitions' queues into Produce requests.
//!
//! One task decides what is sent (`run`); per broker one worker opens the connection and submits requests in the order
//! decided, so that a slow broker holds up nobody else; per request one task waits for the answer and hands the batches
//! back to their queues.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use kafka_protocol::messages::{
    InitProducerIdRequest, ProduceRequest, ProducerId as ProducerIdMessage,
};
use strandline_log::{NO_PRODUCER_EPOCH, NO_PRODUCER_ID, ProducerEpoch, ProducerId};
use tokio::sync::mpsc;
use uuid::Uuid;

use super::partition_queue::{AttemptEnd, PartitionQueue};
use super::request::{TOPIC_IDS_SINCE, TakenBatch, attempt_end, produce_request, sent_unanswered};
use super::{Acks, DeliveryError, Shared};
use crate::{ClientError, Connection, ConnectionError};

/// What the broker gets beyond its own time-out before the connection is given up.
const ANSWER_GRACE: Duration = Duration::from_secs(10);

struct Worker {
    jobs: mpsc::UnboundedSender<Vec<TakenBatch>>,
    in_flight: Arc<AtomicUsize>,
}

/// What `run` keeps from pass to pass.
struct Sender {
    shared: Arc<Shared>,
    workers: HashMap<i32, Worker>,
    /// The newest producer id; partitions that gave it up ask for another.
    identity: Arc<std::sync::Mutex<Option<(ProducerId, ProducerEpoch)>>>,
    is_asking_for_identity: Arc<AtomicBool>,
    is_refreshing: Arc<AtomicBool>,
    /// Where a pass begins: with large batches a request does not hold all partitions.
    first: usize,
}

pub(super) async fn run(shared: Arc<Shared>) {
    let mut sender = Sender {
        shared: Arc::clone(&shared),
        workers: HashMap::new(),
        identity: Arc::default(),
        is_asking_for_identity: Arc::default(),
        is_refreshing: Arc::default(),
        first: 0,
    };
    loop {
        let work = shared.work.notified();
        tokio::pin!(work);
        work.as_mut().enable();
        while sender.pass() {}
        let (is_idle, deadline_ms) = {
            let now_ms = shared.now_ms();
            let queues = shared.queues();
            let is_idle = queues.values().all(PartitionQueue::is_idle);
            (
                is_idle,
                queues
                    .values()
                    .filter_map(|queue| queue.next_deadline_ms(now_ms))
                    .min(),
            )
        };
        if is_idle && shared.closed.load(Ordering::SeqCst) {
            return;
        }
        match deadline_ms {
            None => work.await,
            Some(deadline_ms) => {
                let deadline = shared.started + Duration::from_millis(deadline_ms);
                tokio::select! {
                    () = work => {}
                    () = tokio::time::sleep_until(deadline) => {}
                }
            }
        }
    }
}

impl Sender {
    /// Takes at most one batch of each partition and gives each broker at most one request. False when nothing is left
    /// that can be sent now.
    fn pass(&mut self) -> bool {
        let shared = Arc::clone(&self.shared);
        let metadata = shared.client.metadata();
        let hurry = shared.is_hurried();
        let now_ms = shared.now_ms();
        let mut jobs: HashMap<i32, (usize, Vec<TakenBatch>)> = HashMap::new();
        let mut without_leader = HashSet::new();
        let mut needs_identity = false;
        let mut answered = false;
        {
            let mut queues = shared.queues();
            let start = self.first.checked_rem(queues.len()).unwrap_or(0);
            self.first = start + 1;
            let mut order: Vec<_> = queues.iter_mut().collect();
            order.rotate_left(start);
            for (partition, queue) in order {
                answered |= queue.expire(now_ms);
                if !queue.is_ready(now_ms, hurry) {
                    continue;
                }
                if queue.needs_identity() && !self.give_identity(queue) {
                    needs_identity = true;
                    continue;
                }
                let Some(leader) = metadata.leader(&partition.topic, partition.partition) else {
                    without_leader.insert(partition.topic.to_string());
                    continue;
                };
                if self.is_busy(leader.node_id) {
                    continue;
                }
                let (bytes, taken) = jobs.entry(leader.node_id).or_default();
                if *bytes >= shared.config.request_bytes_max {
                    continue;
                }
                if let Some(batch) = queue.take(now_ms, hurry) {
                    *bytes += batch.bytes();
                    let topic_id = metadata
                        .topics
                        .get(&partition.topic)
                        .map_or(Uuid::nil(), |topic| topic.topic_id);
                    taken.push(TakenBatch {
                        partition: partition.clone(),
                        topic_id,
                        batch,
                    });
                }
            }
        }
        if answered {
            shared.answered.notify_waiters();
        }
        if needs_identity {
            self.ask_for_identity();
        }
        if !without_leader.is_empty() {
            self.refresh(without_leader);
        }
        let mut is_sending = false;
        for (node_id, (_, taken)) in jobs {
            if !taken.is_empty() {
                is_sending = true;
                shared.sticky.fetch_add(1, Ordering::Relaxed);
                self.dispatch(node_id, taken);
            }
        }
        is_sending
    }

    fn give_identity(&self, queue: &mut PartitionQueue) -> bool {
        let identity = *self
            .identity
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        identity.is_some_and(|(id, epoch)| queue.set_identity(id, epoch))
    }

    fn is_busy(&self, node_id: i32) -> bool {
        let in_flight_max = self.shared.config.in_flight_max.max(1);
        self.workers
            .get(&node_id)
            .is_some_and(|worker| worker.in_flight.load(Ordering::SeqCst) >= in_flight_max)
    }

    fn dispatch(&mut self, node_id: i32, taken: Vec<TakenBatch>) {
        let worker = self.workers.entry(node_id).or_insert_with(|| {
            let (jobs, queue) = mpsc::unbounded_channel();
            let in_flight = Arc::new(AtomicUsize::new(0));
            tokio::spawn(work(
                Arc::clone(&self.shared),
                node_id,
                queue,
                Arc::clone(&in_flight),
            ));
            Worker { jobs, in_flight }
        });
        worker.in_flight.fetch_add(1, Ordering::SeqCst);
        // The worker ends after this sender.
        let _ = worker.jobs.send(taken);
    }

    fn ask_for_identity(&self) {
        if self.is_asking_for_identity.swap(true, Ordering::SeqCst) {
            return;
        }
        let shared = Arc::clone(&self.shared);
        let identity = Arc::clone(&self.identity);
        let is_asking = Arc::clone(&self.is_asking_for_identity);
        tokio::spawn(async move {
            match init_producer_id(&shared).await {
                Ok(found) => {
                    *identity
                        .lock()
                        .unwrap_or_else(std::sync::PoisonError::into_inner) = Some(found);
                }
                // The batches' own time-out ends this.
                Err(error @ ClientError::TimedOut { .. }) => {
                    tracing::warn!(%error, "no producer id yet")
                }
                Err(error) => {
                    tracing::warn!(%error, "no producer id");
                    let failed = match &error {
                        ClientError::Kafka { error, message, .. } => DeliveryError::Refused {
                            error: *error,
                            message: message.clone(),
                        },
                        other => DeliveryError::Unsendable(other.to_string()),
                    };
                    for queue in shared
                        .queues()
                        .values_mut()
                        .filter(|queue| queue.needs_identity())
                    {
                        queue.fail_all(&failed);
                    }
                    shared.answered.notify_waiters();
                }
            }
            is_asking.store(false, Ordering::SeqCst);
            shared.work.notify_one();
        });
    }

    fn refresh(&self, topics: HashSet<String>) {
        if self.is_refreshing.swap(true, Ordering::SeqCst) {
            return;
        }
        let shared = Arc::clone(&self.shared);
        let is_refreshing = Arc::clone(&self.is_refreshing);
        tokio::spawn(async move {
            refresh_metadata(&shared, &topics).await;
            let metadata = shared.client.metadata();
            let is_known = topics
                .iter()
                .all(|topic| metadata.topics.contains_key(topic.as_str()));
            if !is_known {
                // A topic that is being created, or will never be.
                tokio::time::sleep(shared.client.backoff(3)).await;
            }
            is_refreshing.store(false, Ordering::SeqCst);
            shared.work.notify_one();
        });
    }
}

async fn refresh_metadata(shared: &Shared, topics: &HashSet<String>) {
    let names: Vec<&str> = topics.iter().map(String::as_str).collect();
    if let Err(error) = shared.client.refresh_metadata(Some(&names)).await {
        tracing::debug!(%error, "the metadata cannot be read");
    }
}

async fn init_producer_id(shared: &Shared) -> Result<(ProducerId, ProducerEpoch), ClientError> {
    let request = InitProducerIdRequest::default()
        .with_transactional_id(None)
        .with_transaction_timeout_ms(i32::MAX)
        .with_producer_id(ProducerIdMessage(NO_PRODUCER_ID))
        .with_producer_epoch(NO_PRODUCER_EPOCH);
    shared
        .client
        .retry("a producer id", || async {
            let response = shared.client.send_to_any(&request).await?;
            ClientError::check(response.error_code, None, || "a producer id".to_owned())?;
            Ok((response.producer_id.0, response.producer_epoch))
        })
        .await
}

/// One broker's worker.
async fn work(
    shared: Arc<Shared>,
    node_id: i32,
    mut jobs: mpsc::UnboundedReceiver<Vec<TakenBatch>>,
    in_flight: Arc<AtomicUsize>,
) {
    while let Some(taken) = jobs.recv().await {
        let request = Request {
            shared: Arc::clone(&shared),
            taken,
            in_flight: Arc::clone(&in_flight),
        };
        match shared.client.connection(node_id).await {
            Ok(connection) => request.submit(connection).await,
            Err(error) => {
                request
                    .end(|_| AttemptEnd::NotSent {
                        reason: error.to_string(),
                    })
                    .await
            }
        }
    }
}

/// A Produce request and the batches that it carries.
struct Request {
    shared: Arc<Shared>,
    taken: Vec<TakenBatch>,
    in_flight: Arc<AtomicUsize>,
}

impl Request {
    /// Puts the request in line and leaves the waiting to a task of its own.
    async fn submit(self, connection: Connection) {
        let config = &self.shared.config;
        let version = match connection.version_of::<ProduceRequest>() {
            Ok(version) if self.taken.iter().any(|taken| taken.topic_id.is_nil()) => {
                version.min(TOPIC_IDS_SINCE - 1)
            }
            Ok(version) => version,
            Err(error) => {
                return self
                    .end(|_| AttemptEnd::Unsendable {
                        reason: error.to_string(),
                    })
                    .await;
            }
        };
        let message = match produce_request(config, version, &self.taken) {
            Ok(message) => message,
            Err(error) => {
                return self
                    .end(|_| AttemptEnd::Unsendable {
                        reason: error.to_string(),
                    })
                    .await;
            }
        };
        if config.acks == Acks::None {
            let sent = connection.submit_unanswered(version, &message).await;
            return self.end(|_| sent_unanswered(&sent)).await;
        }
        match connection.submit(version, &message).await {
            Ok(reply) => {
                let timeout = config.request_timeout + ANSWER_GRACE;
                tokio::spawn(async move {
                    let answer = reply.with_timeout(timeout).wait().await;
                    self.end(|taken| attempt_end(version, &answer, taken)).await;
                });
            }
            Err(error @ ConnectionError::Encode(_)) => {
                self.end(|_| AttemptEnd::Unsendable {
                    reason: error.to_string(),
                })
                .await;
            }
            Err(error) => {
                self.end(|_| AttemptEnd::NotSent {
                    reason: error.to_string(),
                })
                .await
            }
        }
    }

    /// Hands each batch back to its queue.
    async fn end(self, end_of: impl Fn(&TakenBatch) -> AttemptEnd) {
        let Request {
            shared,
            taken,
            in_flight,
        } = self;
        let mut suspect = HashSet::new();
        {
            let mut queues = shared.queues();
            let now_ms = shared.now_ms();
            for taken in taken {
                let end = end_of(&taken);
                let TakenBatch {
                    partition, batch, ..
                } = taken;
                let pause = shared.client.backoff(batch.attempts().saturating_sub(1));
                let pause_ms = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX);
                if !matches!(end, AttemptEnd::Stored(_)) {
                    tracing::debug!(%partition, attempt = batch.attempts(), ?end, "a batch was not stored");
                }
                let Some(queue) = queues.get_mut(&partition) else {
                    continue;
                };
                if queue
                    .attempt_ended(now_ms, batch, end, pause_ms)
                    .refresh_metadata
                {
                    suspect.insert(partition.topic.to_string());
                }
            }
        }
        in_flight.fetch_sub(1, Ordering::SeqCst);
        shared.answered.notify_waiters();
        shared.work.notify_one();
        if !suspect.is_empty() {
            refresh_metadata(&shared, &suspect).await;
            shared.work.notify_one();
        }
    }
}
