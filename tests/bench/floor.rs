//! The floor: programs that move the same bytes with the plain syscalls that they need, and nothing else.
//!
//! - `ingest`: recv a frame, CRC-32C over it, one write of it to a file, a small answer;
//! - `egress`: for each request one MiB of a file by sendfile;
//! - `small`: as ingest, for requests of some hundred bytes: one epoll loop, answers of one wake-up sent together;
//! - `sync`: as small, with one fdatasync for all requests of a wake-up before their answers.
//!
//! Each runs as a process of its own, so that its CPU and memory are read as a broker's are. One thread: what counts is
//! the CPU for the bytes, and one thread is the cheapest.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;

use anyhow::{Context, bail};
use rustix::buffer::spare_capacity;
use rustix::event::epoll;

/// What a floor program does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FloorMode {
    Ingest,
    Egress,
    Small,
    Sync,
}

impl FloorMode {
    pub fn name(self) -> &'static str {
        match self {
            FloorMode::Ingest => "ingest",
            FloorMode::Egress => "egress",
            FloorMode::Small => "small",
            FloorMode::Sync => "sync",
        }
    }

    pub fn parse(name: &str) -> Option<FloorMode> {
        [
            FloorMode::Ingest,
            FloorMode::Egress,
            FloorMode::Small,
            FloorMode::Sync,
        ]
        .into_iter()
        .find(|mode| mode.name() == name)
    }
}

/// As long as a Produce answer is.
const ANSWER_BYTES: usize = 60;
/// What one fetch gets.
pub const EGRESS_CHUNK_BYTES: usize = 1 << 20;
const INPUT_BYTES: usize = 256 << 10;

struct Peer {
    stream: TcpStream,
    input: Vec<u8>,
    filled: usize,
    /// How much of the input is read into: large frames are read to their end and no further, so that nothing is moved.
    limit: usize,
    /// Answers that are due.
    output: Vec<u8>,
    sent: usize,
    /// Egress: where in the file the chunk in hand goes on, and what is left of it.
    at: u64,
    left: usize,
    asked: usize,
}

/// Serves until it is killed. Prints its port first.
pub fn serve(mode: FloorMode, file: &Path, file_bytes: u64) -> anyhow::Result<()> {
    let file = File::options()
        .create(true)
        .read(true)
        .append(true)
        .open(file)
        .context("the floor's file")?;
    if mode == FloorMode::Egress {
        let chunk = vec![0x5a; EGRESS_CHUNK_BYTES];
        for _ in 0..file_bytes / EGRESS_CHUNK_BYTES as u64 {
            (&file).write_all(&chunk)?;
        }
        file.sync_all()?;
    }
    let listener = TcpListener::bind("127.0.0.1:0")?;
    listener.set_nonblocking(true)?;
    println!("{}", listener.local_addr()?.port());
    std::io::stdout().flush()?;

    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    epoll::add(
        &epoll,
        &listener,
        epoll::EventData::new_u64(u64::MAX),
        epoll::EventFlags::IN,
    )?;
    let mut peers: Vec<Option<Peer>> = Vec::new();
    let mut events: Vec<epoll::Event> = Vec::with_capacity(1024);
    loop {
        match epoll::wait(&epoll, spare_capacity(&mut events), None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let mut wrote = BTreeSet::new();
        for event in events.drain(..) {
            let index = event.data.u64();
            if index == u64::MAX {
                while let Ok((stream, _)) = listener.accept() {
                    stream.set_nonblocking(true)?;
                    stream.set_nodelay(true)?;
                    epoll::add(
                        &epoll,
                        &stream,
                        epoll::EventData::new_u64(peers.len() as u64),
                        epoll::EventFlags::IN | epoll::EventFlags::OUT | epoll::EventFlags::ET,
                    )?;
                    peers.push(Some(Peer {
                        stream,
                        input: vec![0; INPUT_BYTES],
                        filled: 0,
                        limit: match mode {
                            FloorMode::Ingest => 64 << 10,
                            _ => INPUT_BYTES,
                        },
                        output: Vec::new(),
                        sent: 0,
                        at: 0,
                        left: 0,
                        asked: 0,
                    }));
                }
                continue;
            }
            let Some(Some(peer)) = peers.get_mut(index as usize) else {
                continue;
            };
            let goes_on = match mode {
                FloorMode::Egress => peer.egress(&file, file_bytes),
                FloorMode::Ingest | FloorMode::Small => peer.ingest(&file).and_then(|is_open| {
                    peer.flush()?;
                    Ok(is_open)
                }),
                FloorMode::Sync => peer.ingest(&file).inspect(|_| {
                    if !peer.output.is_empty() {
                        wrote.insert(index);
                    }
                }),
            };
            if !goes_on.unwrap_or(false) {
                peers[index as usize] = None;
            }
        }
        if !wrote.is_empty() {
            file.sync_data()?;
            for index in wrote {
                if let Some(Some(peer)) = peers.get_mut(index as usize) {
                    peer.flush()?;
                }
            }
        }
    }
}

impl Peer {
    /// Takes in what has come: each complete frame is checked, written and answered. False at the end of the stream.
    fn ingest(&mut self, mut file: &File) -> anyhow::Result<bool> {
        loop {
            match self.stream.read(&mut self.input[self.filled..self.limit]) {
                Ok(0) => return Ok(false),
                Ok(count) => self.filled += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(true),
                Err(error) => return Err(error.into()),
            }
            let is_drained = self.filled < self.limit;
            let mut begin = 0;
            while let Some(length) = frame_at(&self.input[begin..self.filled])? {
                let frame = &self.input[begin + 4..begin + 4 + length];
                std::hint::black_box(crc32c::crc32c(frame));
                file.write_all(frame)?;
                self.output
                    .extend_from_slice(&(ANSWER_BYTES as u32).to_be_bytes());
                self.output.extend_from_slice(&[0; ANSWER_BYTES]);
                begin += 4 + length;
            }
            self.input.copy_within(begin..self.filled, 0);
            self.filled -= begin;
            if self.limit < INPUT_BYTES
                && let Some(head) = self.input[..self.filled].first_chunk::<4>()
            {
                self.limit = (u32::from_be_bytes(*head) as usize + 4).min(INPUT_BYTES - 1);
            }
            // A read that did not fill the buffer has emptied the socket; an edge tells of more.
            if is_drained {
                return Ok(true);
            }
        }
    }

    fn flush(&mut self) -> anyhow::Result<()> {
        while self.sent < self.output.len() {
            match self.stream.write(&self.output[self.sent..]) {
                Ok(count) => self.sent += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
        self.output.clear();
        self.sent = 0;
        Ok(())
    }

    fn egress(&mut self, file: &File, file_bytes: u64) -> anyhow::Result<bool> {
        loop {
            match self.stream.read(&mut self.input[self.filled..]) {
                Ok(0) => return Ok(false),
                Ok(count) => self.filled += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error.into()),
            }
            while let Some(length) = frame_at(&self.input[..self.filled])? {
                self.asked += 1;
                self.input.copy_within(4 + length..self.filled, 0);
                self.filled -= 4 + length;
            }
        }
        while self.asked > 0 {
            if self.left == 0 {
                let length = (EGRESS_CHUNK_BYTES as u32).to_be_bytes();
                // Four bytes find room: the last answer was taken in full.
                self.stream.write_all(&length)?;
                self.left = EGRESS_CHUNK_BYTES;
                if self.at + EGRESS_CHUNK_BYTES as u64 > file_bytes {
                    self.at = 0;
                }
            }
            match rustix::fs::sendfile(&self.stream, file, Some(&mut self.at), self.left) {
                Ok(0) => bail!("the floor's file is short"),
                Ok(count) => self.left -= count,
                Err(rustix::io::Errno::AGAIN) => return Ok(true),
                Err(error) => return Err(error.into()),
            }
            if self.left == 0 {
                self.asked -= 1;
            }
        }
        Ok(true)
    }
}

/// The length of the complete frame at the front.
fn frame_at(input: &[u8]) -> anyhow::Result<Option<usize>> {
    let Some(head) = input.first_chunk::<4>() else {
        return Ok(None);
    };
    let length = u32::from_be_bytes(*head) as usize;
    if length + 4 > INPUT_BYTES {
        bail!("a frame of {length} bytes");
    }
    Ok((input.len() >= 4 + length).then_some(length))
}
