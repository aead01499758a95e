//! The load generator: many connections on one epoll loop.
//!
//! A paced load is open-loop: request i is due at i intervals after the start, on connection i modulo their number,
//! whether earlier ones are answered or not, and its latency counts from when it was due. So a broker that stalls
//! cannot hide it (no coordinated omission). An unpaced load keeps a number of requests in flight on each connection.
//!
//! It speaks only Produce and Fetch, pre-encoded; everything else a load needs (topics, ids) comes from strandline-client.

#![allow(clippy::disallowed_methods)] // A load generator reads the clock.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use bytes::Bytes;
use rustix::buffer::spare_capacity;
use rustix::event::{PollFd, PollFlags, Timespec, epoll, poll};
use rustix::fd::OwnedFd;

use super::answer;
use super::fetch::Fetch;
use super::frames::Frame;
use super::outcome::Outcome;

/// A load whose answers stop for this long has failed.
const STALL: Duration = Duration::from_secs(30);
const INPUT_BYTES: usize = 64 << 10;
const FRAME_BYTES_MAX: usize = 256 << 20;
const PACED_PRIORITY: i32 = -10;
/// How often an idle loop looks at its flags.
const LOOK_NS: u64 = 100_000_000;

/// How requests of a replay come.
#[derive(Clone, Copy, Debug)]
pub enum Pace {
    /// This many requests in all, as fast as they are answered.
    Closed { requests: u64 },
    /// As many as are answered in this time.
    Timed { duration: Duration },
    /// Open-loop.
    Open { interval_ns: u64, requests: u64 },
}

impl Pace {
    pub fn per_second(rate: u64, duration: Duration) -> Pace {
        Pace::Open {
            interval_ns: 1_000_000_000 / rate,
            requests: rate * duration.as_millis() as u64 / 1000,
        }
    }

    /// Whether connections take the next request as soon as one is answered, and one is left at this time.
    fn follows(self, issued: u64, now_ns: u64) -> bool {
        match self {
            Pace::Closed { requests } => issued < requests,
            Pace::Timed { duration } => u128::from(now_ns) < duration.as_nanos(),
            Pace::Open { .. } => false,
        }
    }

    /// Whether nothing is left to issue.
    fn is_over(self, issued: u64, now_ns: u64) -> bool {
        match self {
            Pace::Closed { requests } | Pace::Open { requests, .. } => issued >= requests,
            Pace::Timed { .. } => !self.follows(issued, now_ns),
        }
    }
}

/// Who answers, and so how answers read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Answers {
    /// A Kafka broker.
    Produce,
    /// A floor program: any frame.
    Any,
}

/// Pre-built requests that some connections send in turn.
#[derive(Clone, Debug)]
pub struct Replay {
    pub frames: Arc<[Frame]>,
    pub connections: usize,
    /// On each connection.
    pub in_flight: usize,
    pub pace: Pace,
    pub answers: Answers,
}

/// All that one loop does.
#[derive(Clone, Debug, Default)]
pub struct Load {
    pub replay: Option<Replay>,
    pub fetches: Vec<Fetch>,
    /// Latencies of what was due before are left out.
    pub warm_up: Duration,
}

enum Role {
    Replay { next_frame: usize },
    Fetch(Fetch),
}

struct Connection {
    stream: TcpStream,
    role: Role,
    outgoing: VecDeque<Bytes>,
    /// Of the first outgoing frame.
    sent: usize,
    /// When the requests in flight were due, and their frame.
    in_flight: VecDeque<(u64, usize)>,
    /// Due, and not sent yet because too many are in flight.
    backlog: VecDeque<u64>,
    input: Vec<u8>,
    filled: usize,
}

pub struct Engine {
    load: Load,
    epoll: OwnedFd,
    connections: Vec<Connection>,
    started: Instant,
    /// Requests of the replay that were given to connections.
    issued: u64,
    last_progress_ns: u64,
    outcome: Outcome,
}

impl Engine {
    /// Connects. Nothing is sent yet.
    pub fn connect(port: u16, load: Load) -> anyhow::Result<Engine> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let mut roles = Vec::new();
        if let Some(replay) = &load.replay {
            for index in 0..replay.connections {
                let next_frame = index * replay.frames.len() / replay.connections;
                roles.push(Role::Replay { next_frame });
            }
        }
        roles.extend(load.fetches.iter().cloned().map(Role::Fetch));
        let mut connections = Vec::new();
        for (index, role) in roles.into_iter().enumerate() {
            let stream =
                TcpStream::connect(("127.0.0.1", port)).context("a connection of the load")?;
            stream.set_nodelay(true)?;
            stream.set_nonblocking(true)?;
            let flags = epoll::EventFlags::IN | epoll::EventFlags::OUT | epoll::EventFlags::ET;
            epoll::add(
                &epoll,
                &stream,
                epoll::EventData::new_u64(index as u64),
                flags,
            )?;
            connections.push(Connection {
                stream,
                role,
                outgoing: VecDeque::new(),
                sent: 0,
                in_flight: VecDeque::new(),
                backlog: VecDeque::new(),
                input: vec![0; INPUT_BYTES],
                filled: 0,
            });
        }
        Ok(Engine {
            load,
            epoll,
            connections,
            started: Instant::now(),
            issued: 0,
            last_progress_ns: 0,
            outcome: Outcome::default(),
        })
    }

    fn now_ns(&self) -> u64 {
        self.started.elapsed().as_nanos() as u64
    }

    /// Runs the load to its end, or until `stop`.
    pub fn run(mut self, stop: &AtomicBool) -> anyhow::Result<Outcome> {
        if let Some(Replay {
            pace: Pace::Open { .. },
            ..
        }) = self.load.replay
        {
            be_punctual();
        }
        self.started = Instant::now();
        let mut events: Vec<epoll::Event> = Vec::with_capacity(1024);
        for index in 0..self.connections.len() {
            self.begin(index)?;
        }
        while !stop.load(Ordering::Relaxed) && !self.is_done() {
            let wake_ns = self.issue_due()?;
            let now_ns = self.now_ns();
            ensure!(
                now_ns.saturating_sub(self.last_progress_ns) < STALL.as_nanos() as u64,
                "no answer for {STALL:?} after {} requests",
                self.outcome.requests
            );
            self.wait(&mut events, wake_ns.saturating_sub(now_ns).min(LOOK_NS))?;
            for event in events.drain(..) {
                let index = event.data.u64() as usize;
                let flags = event.flags;
                if flags.intersects(epoll::EventFlags::ERR | epoll::EventFlags::HUP) {
                    bail!("the broker closed a connection");
                }
                if flags.contains(epoll::EventFlags::OUT) {
                    self.connections[index].flush()?;
                }
                if flags.contains(epoll::EventFlags::IN) {
                    self.receive(index)?;
                }
            }
        }
        self.outcome.elapsed = Duration::from_nanos(self.now_ns());
        Ok(self.outcome)
    }

    /// epoll_wait rounds to milliseconds, so a finer wait polls the epoll descriptor first.
    fn wait(&self, events: &mut Vec<epoll::Event>, wait_ns: u64) -> anyhow::Result<()> {
        let timeout = Timespec {
            tv_sec: 0,
            tv_nsec: i64::try_from(wait_ns)?,
        };
        let ignore_interrupt = |result: rustix::io::Result<usize>| match result {
            Err(rustix::io::Errno::INTR) => Ok(0),
            other => other,
        };
        let is_fine = wait_ns < LOOK_NS;
        if is_fine && wait_ns > 0 {
            let mut fds = [PollFd::new(&self.epoll, PollFlags::IN)];
            if ignore_interrupt(poll(&mut fds, Some(&timeout)))? == 0 {
                return Ok(());
            }
        }
        let timeout = if is_fine {
            Timespec::default()
        } else {
            timeout
        };
        let waited = epoll::wait(&self.epoll, spare_capacity(events), Some(&timeout));
        ignore_interrupt(waited)?;
        Ok(())
    }

    fn is_done(&self) -> bool {
        let replay_done = self
            .load
            .replay
            .as_ref()
            .is_none_or(|replay| replay.pace.is_over(self.issued, self.now_ns()));
        replay_done
            && self
                .connections
                .iter()
                .all(|connection| match &connection.role {
                    Role::Replay { .. } => {
                        connection.in_flight.is_empty() && connection.backlog.is_empty()
                    }
                    Role::Fetch(fetch) => fetch.is_done(),
                })
    }

    fn begin(&mut self, index: usize) -> anyhow::Result<()> {
        match self.connections[index].role {
            Role::Fetch(_) => self.send_fetch(index),
            Role::Replay { .. } => {
                let Some(replay) = &self.load.replay else {
                    return Ok(());
                };
                let (pace, in_flight) = (replay.pace, replay.in_flight);
                for _ in 0..in_flight {
                    if pace.follows(self.issued, self.now_ns()) {
                        self.issued += 1;
                        self.send_frame(index, self.now_ns())?;
                    }
                }
                Ok(())
            }
        }
    }

    /// Issues what is due, and says when the next thing is.
    fn issue_due(&mut self) -> anyhow::Result<u64> {
        let mut wake_ns = u64::MAX;
        if let Some(replay) = &self.load.replay
            && let Pace::Open {
                interval_ns,
                requests,
            } = replay.pace
        {
            let (connections, in_flight) = (replay.connections, replay.in_flight);
            while self.issued < requests {
                let due_ns = self.issued * interval_ns;
                let now_ns = self.now_ns();
                if due_ns > now_ns {
                    wake_ns = due_ns;
                    break;
                }
                let index = (self.issued % connections as u64) as usize;
                self.issued += 1;
                self.outcome.lateness.saturating_record(now_ns - due_ns);
                if self.connections[index].in_flight.len() < in_flight {
                    self.send_frame(index, due_ns)?;
                } else {
                    self.connections[index].backlog.push_back(due_ns);
                }
            }
        }
        // Paced readers are few.
        if self
            .load
            .fetches
            .iter()
            .any(|fetch| fetch.interval_ns.is_some())
        {
            for index in 0..self.connections.len() {
                if let Role::Fetch(fetch) = &self.connections[index].role
                    && self.connections[index].in_flight.is_empty()
                    && !fetch.is_done()
                {
                    if fetch.due_ns <= self.now_ns() {
                        self.send_fetch(index)?;
                    } else {
                        wake_ns = wake_ns.min(fetch.due_ns);
                    }
                }
            }
        }
        Ok(wake_ns)
    }

    fn send_frame(&mut self, index: usize, due_ns: u64) -> anyhow::Result<()> {
        let Some(replay) = &self.load.replay else {
            return Ok(());
        };
        let connection = &mut self.connections[index];
        if let Role::Replay { next_frame } = &mut connection.role {
            let frame = *next_frame;
            *next_frame = (frame + 1) % replay.frames.len();
            connection.in_flight.push_back((due_ns, frame));
            connection
                .outgoing
                .push_back(replay.frames[frame].bytes.clone());
            connection.flush()?;
        }
        Ok(())
    }

    /// Sends the next fetch of an idle reader, when it is due.
    fn send_fetch(&mut self, index: usize) -> anyhow::Result<()> {
        let now_ns = self.now_ns();
        let connection = &mut self.connections[index];
        if let Role::Fetch(fetch) = &mut connection.role
            && !fetch.is_done()
            && fetch.due_ns <= now_ns
        {
            let request = fetch.request()?;
            if let Some(interval_ns) = fetch.interval_ns {
                // A reader that is behind its pace does not catch up.
                fetch.due_ns = (fetch.due_ns + interval_ns).max(now_ns);
            }
            connection.in_flight.push_back((now_ns, 0));
            connection.outgoing.push_back(request);
            connection.flush()?;
        }
        Ok(())
    }

    /// Reads until the socket is empty, and answers each complete frame with what follows it.
    fn receive(&mut self, index: usize) -> anyhow::Result<()> {
        loop {
            let connection = &mut self.connections[index];
            let Connection {
                stream,
                input,
                filled,
                ..
            } = connection;
            match stream.read(&mut input[*filled..]) {
                Ok(0) => bail!("the broker closed a connection"),
                Ok(count) => *filled += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error).context("reading an answer"),
            }
            let mut begin = 0;
            while let Some(length) = self.connections[index].complete(begin)? {
                self.answered(index, begin + 4, length)?;
                begin += 4 + length;
            }
            let connection = &mut self.connections[index];
            connection.input.copy_within(begin..connection.filled, 0);
            connection.filled -= begin;
        }
    }

    fn answered(&mut self, index: usize, begin: usize, length: usize) -> anyhow::Result<()> {
        let now_ns = self.now_ns();
        self.last_progress_ns = now_ns;
        let warm_up_ns = self.load.warm_up.as_nanos() as u64;
        let connection = &mut self.connections[index];
        let (due_ns, frame) = connection
            .in_flight
            .pop_front()
            .context("an answer that nobody asked for")?;
        let answer = &connection.input[begin..begin + length];
        match &mut connection.role {
            Role::Replay { .. } => {
                let Some(replay) = &self.load.replay else {
                    return Ok(());
                };
                let offset = match replay.answers {
                    Answers::Produce => answer::produce(answer)?,
                    Answers::Any => {
                        self.outcome.fetched_bytes += length as u64;
                        0
                    }
                };
                self.outcome.base_offset_max = self.outcome.base_offset_max.max(offset);
                let frame = &replay.frames[frame];
                self.outcome.requests += 1;
                self.outcome.records += frame.records;
                self.outcome.record_bytes += frame.record_bytes;
                self.outcome.batch_bytes += frame.batch_bytes;
                if due_ns >= warm_up_ns {
                    self.outcome.latency.saturating_record(now_ns - due_ns);
                }
                if replay.pace.follows(self.issued, now_ns) {
                    self.issued += 1;
                    self.send_frame(index, now_ns)?;
                } else if let Some(due_ns) = self.connections[index].backlog.pop_front() {
                    self.send_frame(index, due_ns)?;
                }
            }
            Role::Fetch(fetch) => {
                let outcome = &mut self.outcome;
                outcome.fetches += 1;
                outcome.fetch_latency.saturating_record(now_ns - due_ns);
                fetch.take(answer, |fetched| {
                    outcome.fetched_records += fetched.records;
                    outcome.fetched_bytes += fetched.bytes;
                })?;
                if let Some(schedule) = fetch.schedule {
                    for due_ns in fetch.delivered(schedule) {
                        if due_ns >= warm_up_ns {
                            outcome
                                .delivery
                                .saturating_record(now_ns.saturating_sub(due_ns));
                        }
                    }
                }
                self.send_fetch(index)?;
            }
        }
        Ok(())
    }
}

/// The clock of a paced load must not wait for a processor behind what it measures, nor sleep fifty microseconds longer
/// than told. For this thread alone; where it is not allowed, `lateness` shows the price.
fn be_punctual() {
    let _ = rustix::process::setpriority_process(None, PACED_PRIORITY);
    if let Ok(link) = std::fs::read_link("/proc/thread-self")
        && let Some(thread) = link.file_name()
    {
        let slack = Path::new("/proc").join(thread).join("timerslack_ns");
        let _ = std::fs::write(slack, "1");
    }
}

impl Connection {
    /// Writes until nothing is left or the socket is full; then an edge of epoll tells when to go on.
    fn flush(&mut self) -> anyhow::Result<()> {
        while let Some(frame) = self.outgoing.front() {
            match self.stream.write(&frame[self.sent..]) {
                Ok(count) => self.sent += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error).context("sending a request"),
            }
            if self.sent == frame.len() {
                self.outgoing.pop_front();
                self.sent = 0;
            }
        }
        Ok(())
    }

    /// The length of the frame at `begin` when all of it is there. Makes room for it otherwise.
    fn complete(&mut self, begin: usize) -> anyhow::Result<Option<usize>> {
        let Some(head) = self.input[begin..self.filled].first_chunk::<4>() else {
            self.make_room(INPUT_BYTES);
            return Ok(None);
        };
        let length = u32::from_be_bytes(*head) as usize;
        ensure!(
            length <= FRAME_BYTES_MAX,
            "an answer announces {length} bytes"
        );
        if self.filled - begin >= 4 + length {
            return Ok(Some(length));
        }
        self.make_room(4 + length);
        Ok(None)
    }

    /// For a frame that is moved to the front.
    fn make_room(&mut self, needed: usize) {
        if self.input.len() < needed + INPUT_BYTES {
            self.input.resize(needed + INPUT_BYTES, 0);
        }
    }
}
