//! A client of a cluster: it knows the brokers and the partitions' leaders, and sends each request where it belongs.
//!
//! Connections are opened on first use, one per broker, and replaced when they close. Metadata is cached and read again
//! when it is old, or when an answer shows that it is wrong.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::{MetadataRequest, TopicName};
use kafka_protocol::protocol::{Request, StrBytes};
use strandline_wire::KafkaError;
use tokio::time::Instant;

use crate::backoff::{backoff, jitter};
use crate::{ClientConfig, ClientError, Connection, Metadata, TopicMetadata};

/// A client of a cluster; clones share it.
#[derive(Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

struct Inner {
    config: ClientConfig,
    metadata: RwLock<CachedMetadata>,
    /// By address. The async lock makes one caller connect while others of that broker wait.
    connections: Mutex<HashMap<String, Arc<ConnectionSlot>>>,
}

#[derive(Default)]
struct CachedMetadata {
    metadata: Arc<Metadata>,
    read_at: HashMap<Arc<str>, Instant>,
}

type ConnectionSlot = tokio::sync::Mutex<Option<Connection>>;

pub(crate) fn topic_name(topic: &str) -> TopicName {
    TopicName(StrBytes::from_string(topic.to_owned()))
}

impl Client {
    /// Connects to nobody yet.
    pub fn new(config: ClientConfig) -> Client {
        let inner = Inner {
            config,
            metadata: RwLock::default(),
            connections: Mutex::default(),
        };
        Client {
            inner: Arc::new(inner),
        }
    }

    pub fn config(&self) -> &ClientConfig {
        &self.inner.config
    }

    /// What is known now.
    pub fn metadata(&self) -> Arc<Metadata> {
        let cached = self
            .inner
            .metadata
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&cached.metadata)
    }

    /// Reads the metadata of some topics, or of all with `None`. Topics' own errors do not fail the call: they are
    /// returned with their names.
    pub async fn refresh_metadata(
        &self,
        topics: Option<&[&str]>,
    ) -> Result<Vec<(String, KafkaError)>, ClientError> {
        let names = topics.map(|topics| {
            let topics = topics
                .iter()
                .map(|topic| MetadataRequestTopic::default().with_name(Some(topic_name(topic))));
            topics.collect::<Vec<_>>()
        });
        let request = MetadataRequest::default()
            .with_topics(names)
            .with_allow_auto_topic_creation(self.config().allow_auto_create_topics);
        let response = self.any_connection().await?.send(&request).await?;
        let mut cached = self
            .inner
            .metadata
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        let errors = Arc::make_mut(&mut cached.metadata).merge(&response, topics.is_none());
        let now = Instant::now();
        for topic in response.topics.iter().filter(|topic| topic.error_code == 0) {
            if let Some(name) = &topic.name {
                cached.read_at.insert(Arc::from(name.0.as_str()), now);
            }
        }
        Ok(errors)
    }

    /// A topic's metadata, from the cache while it is fresh. Waits for a topic that is being created.
    pub async fn topic(&self, topic: &str) -> Result<Arc<TopicMetadata>, ClientError> {
        Ok(self.named_topic(topic).await?.1)
    }

    /// With the shared copy of its name.
    pub(crate) async fn named_topic(
        &self,
        topic: &str,
    ) -> Result<(Arc<str>, Arc<TopicMetadata>), ClientError> {
        if let Some(found) = self.fresh_topic(topic) {
            return Ok(found);
        }
        self.retry(&format!("metadata of topic {topic}"), || async {
            let errors = self.refresh_metadata(Some(&[topic])).await?;
            match self.metadata().topics.get_key_value(topic) {
                Some((name, found)) => Ok((Arc::clone(name), Arc::clone(found))),
                None => {
                    let what = format!("topic {topic}");
                    let error = errors.into_iter().find(|(name, _)| name == topic);
                    let Some((_, error)) = error else {
                        return Err(ClientError::Missing { what });
                    };
                    Err(ClientError::Kafka {
                        what,
                        error,
                        message: None,
                    })
                }
            }
        })
        .await
    }

    fn fresh_topic(&self, topic: &str) -> Option<(Arc<str>, Arc<TopicMetadata>)> {
        let cached = self
            .inner
            .metadata
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        let read_at = cached.read_at.get(topic)?;
        if read_at.elapsed() > self.config().metadata_max_age {
            return None;
        }
        let (name, found) = cached.metadata.topics.get_key_value(topic)?;
        Some((Arc::clone(name), Arc::clone(found)))
    }

    /// The broker that leads a partition.
    pub async fn leader(&self, topic: &str, partition: i32) -> Result<i32, ClientError> {
        let leader_in = |metadata: &TopicMetadata| metadata.partitions.get(&partition)?.leader;
        let no_leader = || ClientError::NoLeader {
            topic: topic.to_owned(),
            partition,
        };
        let found = self.topic(topic).await?;
        if !found.partitions.contains_key(&partition) {
            let what = format!("{topic}-{partition}");
            return Err(ClientError::Kafka {
                what,
                error: KafkaError::UnknownTopicOrPartition,
                message: None,
            });
        }
        match leader_in(&found) {
            Some(leader) => Ok(leader),
            None => {
                self.refresh_metadata(Some(&[topic])).await?;
                self.metadata()
                    .topics
                    .get(topic)
                    .and_then(|found| leader_in(found))
                    .ok_or_else(no_leader)
            }
        }
    }

    /// A connection to a broker of the cluster.
    pub async fn connection(&self, node_id: i32) -> Result<Connection, ClientError> {
        let address = |metadata: &Metadata| {
            metadata
                .brokers
                .get(&node_id)
                .map(|broker| broker.address())
        };
        let known = address(&self.metadata());
        let found = match known {
            Some(found) => found,
            None => {
                self.refresh_metadata(Some(&[])).await?;
                address(&self.metadata()).ok_or(ClientError::UnknownBroker(node_id))?
            }
        };
        self.connection_to(&found).await
    }

    /// A connection to any broker: one that is known, else a bootstrap server.
    pub async fn any_connection(&self) -> Result<Connection, ClientError> {
        let known: Vec<String> = self
            .metadata()
            .brokers
            .values()
            .map(|broker| broker.address())
            .collect();
        let bootstrap = self.config().bootstrap_servers.iter().cloned();
        let mut last = ClientError::NoBootstrapServer;
        for address in known.into_iter().chain(bootstrap) {
            match self.connection_to(&address).await {
                Ok(connection) => return Ok(connection),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// A connection to `host:port`.
    pub async fn connection_to(&self, address: &str) -> Result<Connection, ClientError> {
        let slot = {
            let mut connections = self
                .inner
                .connections
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            Arc::clone(connections.entry(address.to_owned()).or_default())
        };
        let mut slot = slot.lock().await;
        if let Some(connection) = slot.as_ref().filter(|connection| !connection.is_closed()) {
            return Ok(connection.clone());
        }
        let opened = Connection::open(address, self.config().connection.clone()).await?;
        tracing::debug!(address, "connected");
        *slot = Some(opened.clone());
        Ok(opened)
    }

    /// Sends a request to any broker.
    pub async fn send_to_any<R: Request>(&self, request: &R) -> Result<R::Response, ClientError> {
        Ok(self.any_connection().await?.send(request).await?)
    }

    /// Sends a request to one broker.
    pub async fn send_to<R: Request>(
        &self,
        node_id: i32,
        request: &R,
    ) -> Result<R::Response, ClientError> {
        Ok(self.connection(node_id).await?.send(request).await?)
    }

    /// Sends a request to the controller, which changes the cluster.
    pub async fn send_to_controller<R: Request>(
        &self,
        request: &R,
    ) -> Result<R::Response, ClientError> {
        if self.metadata().controller_id.is_none() {
            self.refresh_metadata(Some(&[])).await?;
        }
        match self.metadata().controller_id {
            Some(controller) => self.send_to(controller, request).await,
            None => self.send_to_any(request).await,
        }
    }

    /// Runs an operation until it succeeds, fails for good, or `default_api_timeout` is over. Between attempts it waits
    /// longer and longer, and forgets what metadata said about leaders.
    pub async fn retry<T, F>(&self, what: &str, operation: impl Fn() -> F) -> Result<T, ClientError>
    where
        F: Future<Output = Result<T, ClientError>>,
    {
        let timeout = self.config().default_api_timeout;
        let deadline = Instant::now() + timeout;
        let mut attempt = 0;
        loop {
            let error = match operation().await {
                Ok(value) => return Ok(value),
                Err(error) if error.is_retriable() => error,
                Err(error) => return Err(error),
            };
            let pause = self.backoff(attempt);
            attempt += 1;
            if Instant::now() + pause >= deadline {
                return Err(ClientError::TimedOut {
                    what: what.to_owned(),
                    timeout,
                    last: Box::new(error),
                });
            }
            tracing::debug!(what, attempt, %error, "trying again");
            self.forget_freshness();
            tokio::time::sleep(pause).await;
        }
    }

    pub(crate) fn backoff(&self, attempt: u32) -> Duration {
        let config = self.config();
        backoff(
            attempt,
            config.retry_backoff,
            config.retry_backoff_max,
            jitter(),
        )
    }

    /// Makes the next look at any topic read it again.
    pub(crate) fn forget_freshness(&self) {
        self.inner
            .metadata
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .read_at
            .clear();
    }

    /// Makes the next look at this topic read it again.
    pub fn invalidate(&self, topic: &str) {
        self.inner
            .metadata
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .read_at
            .remove(topic);
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client")
            .field("bootstrap_servers", &self.config().bootstrap_servers)
            .finish_non_exhaustive()
    }
}
