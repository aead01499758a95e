//! An HTTP proxy in front of an object store that is slow, answers 503, stalls, or hangs for good.
//!
//! It passes requests on as they are, so that signatures hold. What becomes of a request is drawn from a fixed seed. A
//! stalled request is passed on after its stall, when its sender may have given it up and tried again: it lands late.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// What the proxy does to requests.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    /// To every request.
    pub delay: Duration,
    /// How many of 10,000 are answered 503 and not passed on.
    pub refused: u64,
    /// How many of 10,000 are passed on only after `stall`.
    pub stalled: u64,
    pub stall: Duration,
    /// This one is stalled in any case, counted from 1.
    pub stalled_first: Option<u64>,
}

#[derive(Debug)]
pub struct FaultProxy {
    port: u16,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    store_port: u16,
    faults: Faults,
    random: Mutex<u64>,
    stopping: AtomicBool,
    hanging: AtomicBool,
    requests: AtomicU64,
    refused: AtomicU64,
    stalled: AtomicU64,
    hung: AtomicU64,
}

enum Fate {
    Pass,
    Refuse,
    Stall,
}

impl FaultProxy {
    pub fn start(store_port: u16, faults: Faults) -> FaultProxy {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port is free");
        let port = listener.local_addr().expect("it is bound").port();
        let shared = Arc::new(Shared {
            store_port,
            faults,
            random: Mutex::new(0x9e37_79b9_7f4a_7c15),
            stopping: AtomicBool::new(false),
            hanging: AtomicBool::new(false),
            requests: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            stalled: AtomicU64::new(0),
            hung: AtomicU64::new(0),
        });
        let accepting = Arc::clone(&shared);
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if accepting.stopping.load(Ordering::Relaxed) {
                    return;
                }
                let shared = Arc::clone(&accepting);
                std::thread::spawn(move || {
                    // Either side may go away at any time: that is what this is for.
                    let _ = shared.serve(client);
                });
            }
        });
        FaultProxy { port, shared }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// From here on requests are taken and nothing is done, until it is switched off; then they are dropped.
    pub fn hang(&self, hanging: bool) {
        self.shared.hanging.store(hanging, Ordering::Relaxed);
    }

    pub fn requests(&self) -> u64 {
        self.shared.requests.load(Ordering::Relaxed)
    }

    pub fn refused(&self) -> u64 {
        self.shared.refused.load(Ordering::Relaxed)
    }

    pub fn stalled(&self) -> u64 {
        self.shared.stalled.load(Ordering::Relaxed)
    }

    pub fn hung(&self) -> u64 {
        self.shared.hung.load(Ordering::Relaxed)
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::Relaxed);
        // Wakes the accepting thread.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

impl Shared {
    /// One connection, request after request.
    fn serve(&self, client: TcpStream) -> std::io::Result<()> {
        let mut to_client = client.try_clone()?;
        let mut from_client = BufReader::new(client);
        let mut store: Option<(BufReader<TcpStream>, TcpStream)> = None;
        while let Some(head) = read_head(&mut from_client)? {
            let number = self.requests.fetch_add(1, Ordering::Relaxed) + 1;
            if self.hanging.load(Ordering::Relaxed) {
                self.hung.fetch_add(1, Ordering::Relaxed);
                self.pause_while(Duration::from_secs(600), || {
                    self.hanging.load(Ordering::Relaxed)
                });
                return Ok(());
            }
            let body = content_length(&head).unwrap_or(0);
            self.pause_while(self.faults.delay, || true);
            match self.fate(number) {
                Fate::Pass => {}
                Fate::Refuse => {
                    self.refused.fetch_add(1, Ordering::Relaxed);
                    copy(&mut from_client, &mut std::io::sink(), body)?;
                    to_client.write_all(
                        b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n",
                    )?;
                    continue;
                }
                Fate::Stall => {
                    self.stalled.fetch_add(1, Ordering::Relaxed);
                    self.pause_while(self.faults.stall, || true);
                }
            }
            if self.stopping.load(Ordering::Relaxed) {
                return Ok(());
            }
            let (from_store, to_store) = match &mut store {
                Some(store) => store,
                None => {
                    let stream = TcpStream::connect(("127.0.0.1", self.store_port))?;
                    stream.set_nodelay(true)?;
                    store.insert((BufReader::new(stream.try_clone()?), stream))
                }
            };
            to_store.write_all(&head)?;
            copy(&mut from_client, to_store, body)?;
            let Some(answer) = read_head(from_store)? else {
                return Ok(());
            };
            to_client.write_all(&answer)?;
            let status = status(&answer);
            if head.starts_with(b"HEAD ") || status == 204 || status == 304 {
                continue;
            }
            match content_length(&answer) {
                Some(length) => copy(from_store, &mut to_client, length)?,
                None => copy_chunks(from_store, &mut to_client)?,
            }
        }
        Ok(())
    }

    fn fate(&self, number: u64) -> Fate {
        if self.faults.stalled_first == Some(number) {
            return Fate::Stall;
        }
        let draw = {
            let mut random = self.random.lock().unwrap_or_else(PoisonError::into_inner);
            *random ^= *random << 13;
            *random ^= *random >> 7;
            *random ^= *random << 17;
            *random % 10_000
        };
        if draw < self.faults.stalled {
            Fate::Stall
        } else if draw < self.faults.stalled + self.faults.refused {
            Fate::Refuse
        } else {
            Fate::Pass
        }
    }

    /// The fault itself, not a wait for luck: sleeps that long, or less when the proxy ends.
    #[allow(clippy::disallowed_methods)]
    fn pause_while(&self, duration: Duration, holds: impl Fn() -> bool) {
        let step = Duration::from_millis(20);
        let mut left = duration;
        while !left.is_zero() && holds() && !self.stopping.load(Ordering::Relaxed) {
            std::thread::sleep(left.min(step));
            left = left.saturating_sub(step);
        }
    }
}

/// A request's or an answer's head with its empty line; `None` at the end of the connection.
fn read_head(from: &mut impl BufRead) -> std::io::Result<Option<Vec<u8>>> {
    let mut head = Vec::new();
    loop {
        let before = head.len();
        if from.read_until(b'\n', &mut head)? == 0 {
            return Ok(None);
        }
        if matches!(&head[before..], b"\r\n" | b"\n") {
            return Ok(Some(head));
        }
    }
}

fn header<'a>(head: &'a [u8], name: &str) -> Option<&'a str> {
    let text = std::str::from_utf8(head).ok()?;
    text.lines().skip(1).find_map(|line| {
        let (found, value) = line.split_once(':')?;
        found.eq_ignore_ascii_case(name).then(|| value.trim())
    })
}

fn content_length(head: &[u8]) -> Option<u64> {
    header(head, "content-length")?.parse().ok()
}

fn status(head: &[u8]) -> u16 {
    let text = String::from_utf8_lossy(head);
    let status = text
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok());
    status.unwrap_or(0)
}

fn copy(from: &mut impl Read, to: &mut impl Write, length: u64) -> std::io::Result<()> {
    match std::io::copy(&mut from.take(length), to)? {
        copied if copied == length => Ok(()),
        _ => Err(std::io::ErrorKind::UnexpectedEof.into()),
    }
}

/// A chunked body, its trailer included.
fn copy_chunks(from: &mut impl BufRead, to: &mut impl Write) -> std::io::Result<()> {
    loop {
        let mut line = Vec::new();
        from.read_until(b'\n', &mut line)?;
        to.write_all(&line)?;
        let size = String::from_utf8_lossy(&line);
        let size = u64::from_str_radix(size.split(';').next().unwrap_or("").trim(), 16)
            .map_err(|_| std::io::ErrorKind::InvalidData)?;
        copy(from, to, size + 2)?;
        if size == 0 {
            return Ok(());
        }
    }
}
