//! One client's connection: reads requests, hands them to the APIs, writes the answers in order.
//!
//! 1. While fewer than `max.in.flight.requests.per.connection` requests wait for their answers, the next frame is read.
//! 2. Its header is parsed, the guard walks its body, memory for decoding is taken from the budget, the body decoded.
//! 3. [`Apis::handle`] takes it. A Produce begins there and then; any other request is worked on when it is at the
//!    head of the queue, so requests of one connection take effect and are answered in order.
//! 4. The answer at the head of the queue is written as soon as it is ready.
//!
//! A frame that is torn, lies or names what we do not serve closes the connection, with a line in the log that says why;
//! it costs nobody else anything (I10).

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use strandline_wire::{
    Api, DecodeError, GuardError, HeaderError, RequestFrame, encode_response,
    unsupported_api_versions_response,
};
use tokio::net::TcpStream;
use tokio::sync::watch;

use super::frame_reader::{FrameReader, ReadError, ReadFrame};
use super::memory_budget::{MemoryBudget, MemoryPermit};
use super::metrics::NetworkMetrics;
use super::response_writer::{ResponseWriter, WriteError};
use crate::api::{Answer, Apis, Handled, RequestContext, ResponseBody};

/// What all connections of a listener share.
pub struct ConnectionContext {
    pub listener: Arc<str>,
    pub apis: Arc<Apis>,
    pub budget: Arc<MemoryBudget>,
    pub metrics: Arc<NetworkMetrics>,
    pub limits: ConnectionLimits,
    /// True once the broker stops: what is in flight is answered, nothing more is read.
    pub stopping: watch::Receiver<bool>,
}

#[derive(Clone, Copy, Debug)]
pub struct ConnectionLimits {
    pub frame_bytes_max: usize,
    pub in_flight_max: usize,
    pub request_memory_bytes_max: usize,
    /// `None`: idle connections stay.
    pub idle: Option<Duration>,
    pub request_read: Duration,
    pub send: Duration,
    /// How long requests in flight may take to be answered once the broker stops.
    pub drain: Duration,
}

/// Why the broker closed a connection. `cause` is the metric's label.
#[derive(Debug, thiserror::Error)]
pub enum ConnectionError {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Header(#[from] HeaderError),
    #[error(transparent)]
    Guard(#[from] GuardError),
    #[error(transparent)]
    Decode(#[from] DecodeError),
    #[error(transparent)]
    Write(#[from] WriteError),
    #[error("a request did not arrive whole within {} s (request.read.timeout.ms)", .0.as_secs())]
    HalfSent(Duration),
    #[error("no memory for the {bytes} bytes that a request decodes to (queued.max.request.bytes)")]
    NoMemory { bytes: usize },
    #[error("{0}")]
    Refused(String),
}

/// Up to here a request's decoded form is let in when the budget is spent.
const DECODE_BYTES_UNCOUNTED: usize = 64 * 1024;

impl ConnectionError {
    pub fn cause(&self) -> &'static str {
        match self {
            Self::Read(ReadError::Io(_)) | Self::Write(WriteError::Io(_)) => "io",
            Self::Read(_) => "frame",
            Self::Header(_) => "header",
            Self::Guard(_) => "guard",
            Self::Decode(_) => "decode",
            Self::Write(_) => "write",
            Self::HalfSent(_) => "half-sent",
            Self::NoMemory { .. } => "memory",
            Self::Refused(_) => "refused",
        }
    }

    /// A peer that went away is no news.
    pub fn is_disconnect(&self) -> bool {
        use std::io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset};
        match self {
            Self::Read(ReadError::Io(error)) | Self::Write(WriteError::Io(error)) => {
                matches!(
                    error.kind(),
                    BrokenPipe | ConnectionAborted | ConnectionReset
                )
            }
            _ => false,
        }
    }
}

/// A request that is not answered yet.
struct InFlight {
    answer: Answer,
    /// The memory of its frame, unless its slices hold that, and of its decoded form.
    _permits: [Option<MemoryPermit>; 2],
}

type Admission = Pin<Box<dyn Future<Output = ()> + Send>>;

pub struct Connection {
    context: Arc<ConnectionContext>,
    stream: TcpStream,
    id: u64,
    client_host: String,
    reader: FrameReader,
    in_flight: VecDeque<InFlight>,
    /// The last request appends to something that has too much waiting: nothing more is read before it is let in.
    stalled: Option<Admission>,
    last_request: Instant,
}

impl Connection {
    pub fn new(
        context: Arc<ConnectionContext>,
        stream: TcpStream,
        peer: SocketAddr,
        id: u64,
    ) -> Self {
        let reader = FrameReader::new(context.limits.frame_bytes_max, Arc::clone(&context.budget));
        Self {
            context,
            stream,
            id,
            client_host: peer.ip().to_string(),
            reader,
            in_flight: VecDeque::new(),
            stalled: None,
            last_request: crate::clock::now(),
        }
    }

    /// Serves the connection until the client or the broker closes it.
    pub async fn run(mut self) -> Result<(), ConnectionError> {
        let mut stopping = self.context.stopping.clone();
        let timer = tokio::time::sleep_until(self.deadline().into());
        tokio::pin!(timer);
        let mut reading = true;
        loop {
            let stopped = *stopping.borrow();
            if self.in_flight.is_empty() && (stopped || !reading) {
                return Ok(());
            }
            let may_read = reading
                && !stopped
                && self.stalled.is_none()
                && self.in_flight.len() < self.context.limits.in_flight_max;
            tokio::select! {
                biased;
                body = head_answer(&mut self.in_flight) => {
                    self.in_flight.pop_front();
                    write(&self.context, &self.stream, body).await?;
                    self.last_request = crate::clock::now();
                }
                () = admission(&mut self.stalled) => self.stalled = None,
                frame = self.reader.next(&self.stream), if may_read => match frame? {
                    Some(frame) => self.take_request(frame).await?,
                    None => reading = false,
                },
                () = &mut timer => {
                    self.check_deadline()?;
                    if self.is_idle() {
                        tracing::debug!(peer = self.client_host, "closing an idle connection");
                        return Ok(());
                    }
                    timer.as_mut().reset(self.deadline().into());
                }
                _ = stopping.changed(), if !stopped => {}
            }
        }
    }

    async fn take_request(&mut self, frame: ReadFrame) -> Result<(), ConnectionError> {
        let received = crate::clock::now();
        self.last_request = received;
        self.context
            .metrics
            .received_bytes
            .inc_by(frame.bytes.len() as u64 + 4);
        let request = match RequestFrame::parse(frame.bytes) {
            Ok(request) => request,
            Err(HeaderError::UnsupportedApiVersions { correlation_id, .. }) => {
                // Version 0, which every client reads.
                let answer = unsupported_api_versions_response();
                let answer = match encode_response(correlation_id, Api::ApiVersions, 0, &answer) {
                    Ok(frame) => ResponseBody::Bytes(frame),
                    Err(error) => ResponseBody::Close(error.to_string()),
                };
                self.in_flight.push_back(InFlight {
                    answer: Box::pin(std::future::ready(answer)),
                    _permits: [None, None],
                });
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        };
        let context = RequestContext {
            listener: Arc::clone(&self.context.listener),
            client_id: request.header.client_id.as_deref().unwrap_or("").to_owned(),
            client_host: self.client_host.clone(),
            connection_id: self.id,
            api_version: request.header.api_version,
            correlation_id: request.header.correlation_id,
            received,
        };
        let checked = request.check(self.context.limits.request_memory_bytes_max)?;
        let decoded_permit = take_decode_memory(&self.context, checked.memory_estimate()).await?;
        let request = checked.decode()?;
        let answer = match self.context.apis.handle(context, request) {
            Handled::Ready(body) => Box::pin(std::future::ready(body)) as Answer,
            Handled::Pending(answer) => answer,
            Handled::Stalled { admitted, answer } => {
                self.stalled = Some(admitted);
                answer
            }
        };
        self.in_flight.push_back(InFlight {
            answer,
            _permits: [frame.permit, decoded_permit],
        });
        Ok(())
    }

    /// When the connection is to be looked at again.
    fn deadline(&self) -> Instant {
        let limits = &self.context.limits;
        let idle = limits.idle.map(|idle| self.last_request + idle);
        let read = self.reader.begun().unwrap_or_else(crate::clock::now) + limits.request_read;
        idle.map_or(read, |idle| idle.min(read))
    }

    fn check_deadline(&self) -> Result<(), ConnectionError> {
        let limit = self.context.limits.request_read;
        match self.reader.begun() {
            Some(begun) if begun + limit <= crate::clock::now() => {
                Err(ConnectionError::HalfSent(limit))
            }
            _ => Ok(()),
        }
    }

    fn is_idle(&self) -> bool {
        self.in_flight.is_empty()
            && self
                .context
                .limits
                .idle
                .is_some_and(|idle| self.last_request + idle <= crate::clock::now())
    }
}

/// The answer to the oldest request; pending forever when there is none.
async fn head_answer(in_flight: &mut VecDeque<InFlight>) -> ResponseBody {
    match in_flight.front_mut() {
        Some(head) => head.answer.as_mut().await,
        None => std::future::pending().await,
    }
}

async fn admission(stalled: &mut Option<Admission>) {
    match stalled {
        Some(admitted) => admitted.as_mut().await,
        None => std::future::pending().await,
    }
}

/// Takes the memory of a request's decoded form. Little is not waited for: who holds a frame and waits for more
/// would hold up whoever waits for the frame. Much is, and not forever.
async fn take_decode_memory(
    context: &ConnectionContext,
    bytes: usize,
) -> Result<Option<MemoryPermit>, ConnectionError> {
    let budget = &context.budget;
    let permit = budget.try_take(bytes);
    if permit.is_some() || bytes <= DECODE_BYTES_UNCOUNTED {
        return Ok(permit);
    }
    let patience = context.limits.request_read;
    match tokio::time::timeout(patience, budget.take(bytes)).await {
        Ok(permit) => Ok(Some(permit)),
        Err(_) => Err(ConnectionError::NoMemory { bytes }),
    }
}

async fn write(
    context: &ConnectionContext,
    stream: &TcpStream,
    body: ResponseBody,
) -> Result<(), ConnectionError> {
    let writer = ResponseWriter {
        stream,
        metrics: &context.metrics,
        send_timeout: context.limits.send,
    };
    match body {
        ResponseBody::Bytes(bytes) => writer.write_bytes(&bytes).await?,
        ResponseBody::Fetch(frames) => writer.write_fetch(&frames).await?,
        ResponseBody::None => {}
        ResponseBody::Close(reason) => return Err(ConnectionError::Refused(reason)),
    }
    Ok(())
}
