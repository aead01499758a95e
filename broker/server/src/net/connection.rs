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
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use strandline_wire::{
    Api, DecodeError, GuardError, HeaderError, RequestFrame, encode_response,
    unsupported_api_versions_response,
};
use tokio::net::TcpStream;
use tokio::runtime::Handle;
use tokio::sync::watch;

use super::frame_reader::{FrameReader, ReadError, ReadEvent, ReadFrame};
use super::memory_budget::{MemoryBudget, MemoryPermit};
use super::metrics::NetworkMetrics;
use super::request_metrics::{RequestMetrics, RequestTimes};
use super::response_writer::{ResponseWriter, WriteError};
use super::wake_relay::WakeRelay;
use crate::api::{Answer, Apis, Handled, RequestContext, Response, ResponseBody};
use crate::clock;

/// What all connections of a listener share.
pub struct ConnectionContext {
    pub listener: Arc<str>,
    pub apis: Arc<Apis>,
    pub budget: Arc<MemoryBudget>,
    pub metrics: Arc<NetworkMetrics>,
    pub requests: RequestMetrics,
    pub limits: ConnectionLimits,
    /// Where requests begin tasks, timers and blocking work: none of that belongs on a network thread.
    pub runtime: Handle,
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

/// A connection whose unanswered requests hold this much is read no further.
const IN_FLIGHT_BYTES_MAX: usize = 256 * 1024;
/// How long requests of a client that has gone may still take. They are carried out; who only waits for records or
/// members would hold the connection's place for nobody.
const GONE_PATIENCE: Duration = Duration::from_secs(5);
/// When a connection without a deadline is looked at.
const FAR: Duration = Duration::from_secs(365 * 24 * 3600);

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
    api: Api,
    /// When it had arrived, when work on it began, when it first had to wait.
    received: Instant,
    begun: Option<Instant>,
    parked: Option<Instant>,
    /// The memory of its frame, unless its slices hold that, and of its decoded form.
    permits: [Option<MemoryPermit>; 2],
}

impl InFlight {
    fn poll(&mut self, waker: &mut Context<'_>) -> Poll<Response> {
        self.begun.get_or_insert_with(clock::now);
        let polled = self.answer.as_mut().poll(waker);
        if polled.is_pending() {
            self.parked.get_or_insert_with(clock::now);
        }
        polled
    }

    fn bytes(&self) -> usize {
        self.permits.iter().flatten().map(MemoryPermit::bytes).sum()
    }

    /// Where its time went, once its answer is ready.
    fn times(&self, remote: Option<Duration>) -> (RequestTimes, Instant) {
        let ready = clock::now();
        let begun = self.begun.unwrap_or(ready);
        let work = ready.saturating_duration_since(begun);
        let remote = remote
            .or_else(|| Some(ready.saturating_duration_since(self.parked?)))
            .unwrap_or_default()
            .min(work);
        let times = RequestTimes {
            queue: begun.saturating_duration_since(self.received),
            local: work - remote,
            remote,
            send: Duration::ZERO,
        };
        (times, ready)
    }
}

/// What a connection goes on with.
enum Turn {
    Answer(Response),
    Admitted,
    Read(Result<ReadEvent, ReadError>),
    Time,
    Stop,
}

/// The task's waker as other threads get it.
struct RelayedWaker {
    relay: Arc<WakeRelay>,
    /// The task's own, and the one that was made of it.
    made: Option<(Waker, Waker)>,
}

impl RelayedWaker {
    fn waker(&mut self, task: &Context<'_>) -> &Waker {
        let task = task.waker();
        if !self.made.as_ref().is_some_and(|(of, _)| of.will_wake(task)) {
            self.made = None;
        }
        let make = || (task.clone(), self.relay.waker(task));
        &self.made.get_or_insert_with(make).1
    }
}

type Admission = Pin<Box<dyn Future<Output = ()> + Send>>;

pub struct Connection {
    context: Arc<ConnectionContext>,
    stream: TcpStream,
    id: u64,
    client_host: Arc<str>,
    /// Of the last request: most come from one client.
    client_id: Arc<str>,
    reader: FrameReader,
    in_flight: VecDeque<InFlight>,
    in_flight_bytes: usize,
    relayed: RelayedWaker,
    /// The last request appends to something that has too much waiting: nothing more is read before it is let in.
    stalled: Option<Admission>,
    last_request: Instant,
    /// Since when the client sends nothing any more.
    gone: Option<Instant>,
}

impl Connection {
    pub fn new(
        context: Arc<ConnectionContext>,
        stream: TcpStream,
        peer: SocketAddr,
        id: u64,
        relay: Arc<WakeRelay>,
    ) -> Self {
        let reader = FrameReader::new(context.limits.frame_bytes_max, Arc::clone(&context.budget));
        Self {
            context,
            stream,
            id,
            client_host: peer.ip().to_string().into(),
            client_id: Arc::default(),
            reader,
            in_flight: VecDeque::new(),
            in_flight_bytes: 0,
            relayed: RelayedWaker { relay, made: None },
            stalled: None,
            last_request: clock::now(),
            gone: None,
        }
    }

    /// Serves the connection until the client or the broker closes it.
    pub async fn run(mut self) -> Result<(), ConnectionError> {
        let mut stopping = self.context.stopping.clone();
        let stop = async move {
            // An error says that the broker is gone.
            let _ = stopping.wait_for(|stop| *stop).await;
        };
        let timer = tokio::time::sleep_until(self.deadline().into());
        tokio::pin!(stop, timer);
        let mut stopped = false;
        loop {
            if self.in_flight.is_empty() && (stopped || self.gone.is_some()) {
                return Ok(());
            }
            let turn = poll_fn(|waker| {
                if let Poll::Ready(turn) = self.poll_turn(!stopped, waker) {
                    return Poll::Ready(turn);
                }
                if timer.as_mut().poll(waker).is_ready() {
                    return Poll::Ready(Turn::Time);
                }
                if !stopped && stop.as_mut().poll(waker).is_ready() {
                    return Poll::Ready(Turn::Stop);
                }
                Poll::Pending
            });
            match turn.await {
                Turn::Answer(response) => self.answer_head(response).await?,
                Turn::Admitted => self.stalled = None,
                Turn::Read(event) => {
                    match event? {
                        ReadEvent::Frame(frame) => self.take_request(frame).await?,
                        ReadEvent::Begun => {}
                        ReadEvent::Closed => self.gone = Some(clock::now()),
                    }
                    let deadline = self.deadline().into();
                    if deadline < timer.deadline() {
                        timer.as_mut().reset(deadline);
                    }
                    // A client that sends without a pause must not keep others from this thread.
                    tokio::task::consume_budget().await;
                }
                Turn::Time => {
                    if self.is_over()? {
                        return Ok(());
                    }
                    timer.as_mut().reset(self.deadline().into());
                }
                Turn::Stop => stopped = true,
            }
        }
    }

    /// What the requests and the client bring next; the answer that is due goes first.
    fn poll_turn(&mut self, may_read: bool, waker: &mut Context<'_>) -> Poll<Turn> {
        if let Some(head) = self.in_flight.front_mut() {
            let _entered = self.context.runtime.enter();
            let waker = self.relayed.waker(waker);
            if let Poll::Ready(response) = head.poll(&mut Context::from_waker(waker)) {
                return Poll::Ready(Turn::Answer(response));
            }
        }
        if let Some(admitted) = &mut self.stalled
            && admitted.as_mut().poll(waker).is_ready()
        {
            return Poll::Ready(Turn::Admitted);
        }
        if may_read && self.may_read() {
            return self.reader.poll_next(&self.stream, waker).map(Turn::Read);
        }
        Poll::Pending
    }

    fn may_read(&self) -> bool {
        self.gone.is_none()
            && self.stalled.is_none()
            && self.in_flight.len() < self.context.limits.in_flight_max
            && self.in_flight_bytes < IN_FLIGHT_BYTES_MAX
    }

    /// When the connection is to be looked at next. One that is idle is left alone until its idle time is over.
    fn deadline(&self) -> Instant {
        let limits = &self.context.limits;
        let idle = self.last_request + limits.idle.unwrap_or(FAR);
        let half_sent = self.reader.begun().map(|begun| begun + limits.request_read);
        let gone = self.gone.map(|gone| gone + GONE_PATIENCE);
        half_sent.into_iter().chain(gone).fold(idle, Instant::min)
    }

    /// Whether the connection's time has run out, in one way or another.
    fn is_over(&mut self) -> Result<bool, ConnectionError> {
        let now = clock::now();
        let limits = &self.context.limits;
        if let Some(begun) = self.reader.begun()
            && begun + limits.request_read <= now
        {
            return Err(ConnectionError::HalfSent(limits.request_read));
        }
        if self.gone.is_some_and(|gone| gone + GONE_PATIENCE <= now) {
            tracing::debug!(
                peer = &*self.client_host,
                "dropping the requests of a client that has gone"
            );
            return Ok(true);
        }
        if self.last_request + limits.idle.unwrap_or(FAR) > now {
            return Ok(false);
        }
        if self.in_flight.is_empty() {
            tracing::debug!(peer = &*self.client_host, "closing an idle connection");
            return Ok(true);
        }
        // Who waits for an answer is not idle.
        self.last_request = now;
        Ok(false)
    }

    async fn answer_head(&mut self, response: Response) -> Result<(), ConnectionError> {
        let Some(head) = self.in_flight.pop_front() else {
            return Ok(());
        };
        let (mut times, ready) = head.times(response.remote);
        let api = head.api;
        self.in_flight_bytes -= head.bytes();
        // What the request held is free while the answer goes out.
        drop(head);
        write(&self.context, &self.stream, response.body, ready).await?;
        self.last_request = clock::now();
        times.send = self.last_request.saturating_duration_since(ready);
        self.context.requests.observe(api, times);
        Ok(())
    }

    fn push(&mut self, request: InFlight) {
        self.in_flight_bytes += request.bytes();
        self.in_flight.push_back(request);
    }

    async fn take_request(&mut self, frame: ReadFrame) -> Result<(), ConnectionError> {
        let received = clock::now();
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
                self.push(InFlight {
                    answer: Box::pin(std::future::ready(answer.into())),
                    api: Api::ApiVersions,
                    received,
                    begun: None,
                    parked: None,
                    permits: [frame.permit, None],
                });
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        };
        let client_id = request.header.client_id.as_deref().unwrap_or("");
        if *client_id != *self.client_id {
            self.client_id = client_id.into();
        }
        let context = RequestContext {
            listener: Arc::clone(&self.context.listener),
            client_id: Arc::clone(&self.client_id),
            client_host: Arc::clone(&self.client_host),
            connection_id: self.id,
            api_version: request.header.api_version,
            correlation_id: request.header.correlation_id,
            received,
        };
        let checked = request.check(self.context.limits.request_memory_bytes_max)?;
        let decoded_permit = take_decode_memory(&self.context, checked.memory_estimate()).await?;
        let request = checked.decode()?;
        let api = request.api();
        // A Produce is worked on from here; any other request once it is at the head of the queue.
        let begun = (api == Api::Produce).then(clock::now);
        let answer = match self.context.apis.handle(context, request) {
            Handled::Ready(body) => Box::pin(std::future::ready(body.into())) as Answer,
            Handled::Pending(answer) => answer,
            Handled::Stalled { admitted, answer } => {
                self.stalled = Some(admitted);
                answer
            }
        };
        self.push(InFlight {
            answer,
            api,
            received,
            begun,
            parked: None,
            permits: [frame.permit, decoded_permit],
        });
        Ok(())
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

/// Writes an answer. `ready`: when its slices were seen in the page cache.
async fn write(
    context: &ConnectionContext,
    stream: &TcpStream,
    body: ResponseBody,
    ready: Instant,
) -> Result<(), ConnectionError> {
    let mut writer = ResponseWriter {
        stream,
        metrics: &context.metrics,
        cold_reads: &context.apis.cold_reads,
        send_timeout: context.limits.send,
        seen_in_cache: ready,
        stale: false,
    };
    match body {
        ResponseBody::Bytes(bytes) => writer.write_bytes(&bytes).await?,
        ResponseBody::Fetch(frames) => writer.write_fetch(&frames).await?,
        ResponseBody::None => {}
        ResponseBody::Close(reason) => return Err(ConnectionError::Refused(reason)),
    }
    Ok(())
}
