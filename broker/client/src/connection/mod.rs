//! One connection to one broker.
//!
//! Requests are pipelined: the writer sends them in the order of [`Connection::submit`], the reader matches answers in
//! that same order, as brokers give them. A permit bounds what is in flight. When anything goes wrong (the peer closes,
//! an answer is overdue or carries another correlation id) the connection is closed and every waiter is told why.
//!
//! Versions are negotiated once, when the connection is opened.

mod api_versions;
mod tasks;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::{Buf, Bytes};
use kafka_protocol::messages::ResponseHeader;
use kafka_protocol::protocol::{Decodable, HeaderVersion, Request};
use strandline_wire::{Api, encode_request};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};

pub use api_versions::ApiVersionTable;

use crate::{ConnectionConfig, ConnectionError};

type Answer = Result<Bytes, ConnectionError>;

/// A connection to one broker; clones share it. It closes when the last clone and the last [`Reply`] are gone.
#[derive(Clone)]
pub struct Connection {
    inner: Arc<Inner>,
}

struct Inner {
    shared: Arc<Shared>,
    config: ConnectionConfig,
    versions: ApiVersionTable,
    next_correlation_id: AtomicI32,
    in_flight: Arc<Semaphore>,
    outgoing: mpsc::UnboundedSender<Bytes>,
}

/// What the tasks of a connection know of it.
struct Shared {
    address: String,
    pending: Mutex<Pending>,
    /// Turns true when the connection is to end.
    stop: watch::Sender<bool>,
}

#[derive(Default)]
struct Pending {
    waiting: VecDeque<Waiting>,
    closed: Option<ConnectionError>,
}

struct Waiting {
    correlation_id: i32,
    answer: oneshot::Sender<Answer>,
}

impl Shared {
    fn pending(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the connection; the first reason counts. Everyone who waits is told.
    fn close(&self, error: ConnectionError) {
        let waiting = {
            let mut pending = self.pending();
            pending.closed.get_or_insert(error.clone());
            std::mem::take(&mut pending.waiting)
        };
        for waiting in waiting {
            // A waiter that is gone needs no answer.
            let _ = waiting.answer.send(Err(error.clone()));
        }
        self.stop.send_replace(true);
    }

    fn close_because(&self, reason: impl Into<String>) {
        self.close(ConnectionError::Closed {
            address: self.address.clone(),
            reason: reason.into(),
        });
    }
}

impl Connection {
    /// Connects to `host:port` and negotiates versions.
    pub async fn open(
        address: &str,
        config: ConnectionConfig,
    ) -> Result<Connection, ConnectionError> {
        let connect_error = |reason: String| ConnectionError::Connect {
            address: address.to_owned(),
            reason,
        };
        let timeout = config.connect_timeout;
        let stream = match tokio::time::timeout(timeout, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return Err(connect_error(error.to_string())),
            Err(_) => {
                return Err(connect_error(format!(
                    "no answer within {} ms",
                    timeout.as_millis()
                )));
            }
        };
        stream
            .set_nodelay(true)
            .map_err(|error| connect_error(error.to_string()))?;
        let mut connection = Self::over(stream, address, config);
        let versions = api_versions::negotiate(&connection).await?;
        let inner = Arc::get_mut(&mut connection.inner);
        inner
            .expect("nobody else has seen the connection yet")
            .versions = versions;
        Ok(connection)
    }

    fn over(stream: TcpStream, address: &str, config: ConnectionConfig) -> Connection {
        let (stop, _) = watch::channel(false);
        let shared = Arc::new(Shared {
            address: address.to_owned(),
            pending: Mutex::default(),
            stop,
        });
        let (outgoing, queue) = mpsc::unbounded_channel();
        let (read_half, write_half) = stream.into_split();
        tokio::spawn(tasks::write(Arc::clone(&shared), write_half, queue));
        tokio::spawn(tasks::read(
            Arc::clone(&shared),
            read_half,
            config.response_bytes_max,
        ));
        let inner = Inner {
            in_flight: Arc::new(Semaphore::new(config.in_flight_max.max(1))),
            shared,
            config,
            versions: ApiVersionTable::default(),
            next_correlation_id: AtomicI32::new(0),
            outgoing,
        };
        Connection {
            inner: Arc::new(inner),
        }
    }

    pub fn address(&self) -> &str {
        &self.inner.shared.address
    }

    /// What the broker said about its versions.
    pub fn versions(&self) -> &ApiVersionTable {
        &self.inner.versions
    }

    pub fn is_closed(&self) -> bool {
        self.inner.shared.pending().closed.is_some()
    }

    /// Ends the connection now; requests in flight fail.
    pub fn close(&self) {
        self.inner.shared.close_because("we closed it");
    }

    /// The newest version of `R` that both sides speak.
    pub fn version_of<R: Request>(&self) -> Result<i16, ConnectionError> {
        let ours = Api::from_key(R::KEY).map_or((R::VERSIONS.min, R::VERSIONS.max), |api| {
            (api.served().min, api.served().max)
        });
        self.versions().newest_common(R::KEY, ours).ok_or_else(|| {
            ConnectionError::UnsupportedVersion {
                address: self.address().to_owned(),
                api: api_name::<R>(),
            }
        })
    }

    /// Sends a request in the newest common version and waits for the answer.
    pub async fn send<R: Request>(&self, request: &R) -> Result<R::Response, ConnectionError> {
        self.send_version(self.version_of::<R>()?, request).await
    }

    /// Sends a request in a given version and waits for the answer.
    pub async fn send_version<R: Request>(
        &self,
        version: i16,
        request: &R,
    ) -> Result<R::Response, ConnectionError> {
        self.submit(version, request).await?.wait().await
    }

    /// Queues a request; requests reach the broker in the order of these calls. Waits while too many are in flight.
    pub async fn submit<R: Request>(
        &self,
        version: i16,
        request: &R,
    ) -> Result<Reply<R>, ConnectionError> {
        let permit = self.permit().await;
        let correlation_id = self.next_correlation_id();
        let frame = encode_request(
            correlation_id,
            Some(&self.inner.config.client_id),
            version,
            request,
        )?;
        let answer = self.queue(frame, Some(correlation_id))?;
        Ok(Reply {
            connection: self.clone(),
            answer: answer.expect("a receiver comes with a correlation id"),
            timeout: self.inner.config.request_timeout,
            version,
            _permit: permit,
            request: std::marker::PhantomData,
        })
    }

    /// Queues a request that brokers do not answer: Produce with acks=0.
    pub async fn submit_unanswered<R: Request>(
        &self,
        version: i16,
        request: &R,
    ) -> Result<(), ConnectionError> {
        let _permit = self.permit().await;
        let correlation_id = self.next_correlation_id();
        let frame = encode_request(
            correlation_id,
            Some(&self.inner.config.client_id),
            version,
            request,
        )?;
        self.queue(frame, None).map(|_| ())
    }

    async fn permit(&self) -> OwnedSemaphorePermit {
        let permit = Arc::clone(&self.inner.in_flight).acquire_owned().await;
        permit.expect("the semaphore is never closed")
    }

    fn next_correlation_id(&self) -> i32 {
        self.inner
            .next_correlation_id
            .fetch_add(1, Ordering::Relaxed)
    }

    /// Puts the frame and its waiter in line together: under the lock, so that both lines have one order.
    fn queue(
        &self,
        frame: Bytes,
        correlation_id: Option<i32>,
    ) -> Result<Option<oneshot::Receiver<Answer>>, ConnectionError> {
        let mut pending = self.inner.shared.pending();
        if let Some(error) = &pending.closed {
            return Err(error.clone());
        }
        let receiver = correlation_id.map(|correlation_id| {
            let (answer, receiver) = oneshot::channel();
            pending.waiting.push_back(Waiting {
                correlation_id,
                answer,
            });
            receiver
        });
        // The writer ends only after `closed` is set, so a frame that it no longer takes has an error waiting.
        let _ = self.inner.outgoing.send(frame);
        Ok(receiver)
    }
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection")
            .field("address", &self.address())
            .finish_non_exhaustive()
    }
}

/// An answer that is on its way.
pub struct Reply<R: Request> {
    connection: Connection,
    answer: oneshot::Receiver<Answer>,
    timeout: Duration,
    version: i16,
    _permit: OwnedSemaphorePermit,
    request: std::marker::PhantomData<fn() -> R>,
}

impl<R: Request> Reply<R> {
    /// For requests that the broker may hold for a while, such as long polls.
    pub fn with_timeout(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }

    pub async fn wait(self) -> Result<R::Response, ConnectionError> {
        let version = self.version;
        let bytes = self.wait_bytes().await?;
        decode_answer::<R>(version, bytes)
    }

    /// The answer's frame, from its correlation id on.
    async fn wait_bytes(self) -> Answer {
        let shared = &self.connection.inner.shared;
        match tokio::time::timeout(self.timeout, self.answer).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(ConnectionError::Closed {
                address: shared.address.clone(),
                reason: "its reader ended".to_owned(),
            }),
            Err(_) => {
                let timeout = self.timeout;
                let error = ConnectionError::Timeout {
                    address: shared.address.clone(),
                    api: api_name::<R>(),
                    timeout,
                };
                shared.close(error.clone());
                Err(error)
            }
        }
    }
}

fn decode_answer<R: Request>(
    version: i16,
    mut frame: Bytes,
) -> Result<R::Response, ConnectionError> {
    let fail = |reason: String| ConnectionError::Decode {
        api: api_name::<R>(),
        version,
        reason,
    };
    let codec_version = Api::from_key(R::KEY).map_or(version, |api| api.codec_version(version));
    ResponseHeader::decode(&mut frame, R::Response::header_version(codec_version))
        .map_err(|error| fail(format!("{error:#}")))?;
    let response = R::Response::decode(&mut frame, codec_version)
        .map_err(|error| fail(format!("{error:#}")))?;
    match frame.remaining() {
        0 => Ok(response),
        left => Err(fail(format!("{left} bytes are left over"))),
    }
}

fn api_name<R: Request>() -> &'static str {
    Api::from_key(R::KEY).map_or("an API outside our table", Api::name)
}
