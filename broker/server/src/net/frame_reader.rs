//! Reads a connection's frames. Between requests it owns no memory.
//!
//! 1. When bytes arrive they go into a small staging buffer from the pool; many small requests take one system call.
//! 2. A frame's length is checked before anything is reserved for it. Then its bytes are taken from the budget.
//! 3. What has arrived of the frame is copied out of the staging buffer; the rest of a large frame is read from the
//!    socket straight into the frame's own buffer.
//!
//! A Produce is used in place: its buffer is pooled, and its permit lives as long as its last slice. Any other request
//! may leave a slice in some state for long (a member's subscription, say), so it gets a buffer of its own, and its
//! permit lives as long as the request is unanswered.
//!
//! [`FrameReader::poll_next`] keeps all progress in the reader: who polls may do other things in between.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use bytes::{BufMut, Bytes};
use strandline_wire::{Api, FrameError, FrameSplitter};
use tokio::io::Interest;
use tokio::net::TcpStream;

use super::memory_budget::{FrameBuffer, MemoryBudget, MemoryPermit, share_frame};

const STAGING_BYTES: usize = 16 * 1024;
const LENGTH_BYTES: usize = 4;
const API_KEY_BYTES: usize = 2;

/// Why no further frame can be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error("the connection ended within a frame of {size} bytes, {read} of them read")]
    Torn { size: usize, read: usize },
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// A whole frame without its length.
#[derive(Debug)]
pub struct ReadFrame {
    pub bytes: Bytes,
    /// `None` when the bytes themselves hold it.
    pub permit: Option<MemoryPermit>,
}

/// What [`FrameReader::poll_next`] has to tell.
#[derive(Debug)]
pub enum ReadEvent {
    Frame(ReadFrame),
    /// A frame has begun and is not complete: its sender's time runs from now on.
    Begun,
    /// The peer closed between two frames.
    Closed,
}

enum Step {
    Length,
    Budget {
        size: usize,
        waiting: Pin<Box<dyn Future<Output = MemoryPermit> + Send>>,
    },
    Body {
        size: usize,
        buffer: BodyBuffer,
        permit: MemoryPermit,
    },
}

enum BodyBuffer {
    Pooled(FrameBuffer),
    Own(Vec<u8>),
}

impl BodyBuffer {
    fn bytes(&mut self) -> &mut Vec<u8> {
        match self {
            Self::Pooled(buffer) => &mut buffer.bytes,
            Self::Own(bytes) => bytes,
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::Pooled(buffer) => buffer.bytes.len(),
            Self::Own(bytes) => bytes.len(),
        }
    }
}

pub struct FrameReader {
    splitter: FrameSplitter,
    budget: Arc<MemoryBudget>,
    staging: Option<Staging>,
    step: Step,
    /// When the first byte of a frame that is not complete was seen.
    begun: Option<Instant>,
}

struct Staging {
    buffer: FrameBuffer,
    start: usize,
}

impl Staging {
    fn unread(&self) -> &[u8] {
        &self.buffer.bytes[self.start..]
    }
}

enum Filled {
    /// Perhaps none.
    Bytes,
    Begun,
    End,
}

impl FrameReader {
    pub fn new(frame_bytes_max: usize, budget: Arc<MemoryBudget>) -> Self {
        Self {
            splitter: FrameSplitter::new(frame_bytes_max),
            budget,
            staging: None,
            step: Step::Length,
            begun: None,
        }
    }

    /// Since when a frame has been arriving that is not complete. Waiting for the budget does not count: that is our
    /// doing, not the client's.
    pub fn begun(&self) -> Option<Instant> {
        match self.step {
            Step::Budget { .. } => None,
            Step::Length | Step::Body { .. } => self.begun,
        }
    }

    /// The next event on the stream.
    pub fn poll_next(
        &mut self,
        stream: &TcpStream,
        waker: &mut Context<'_>,
    ) -> Poll<Result<ReadEvent, ReadError>> {
        loop {
            match &mut self.step {
                Step::Length => {
                    let unread = self.staging.as_ref().map_or(&[][..], Staging::unread);
                    match self.splitter.peek_size(unread)? {
                        // The API's key decides where the body goes.
                        Some(size) if unread.len() >= LENGTH_BYTES + size.min(API_KEY_BYTES) => {
                            self.begin_frame(size);
                        }
                        _ => match ready!(self.fill_staging(stream, waker))? {
                            Filled::Bytes => {}
                            Filled::Begun => return Poll::Ready(Ok(ReadEvent::Begun)),
                            Filled::End => return Poll::Ready(self.end_of_stream()),
                        },
                    }
                }
                Step::Budget { size, waiting } => {
                    let size = *size;
                    let permit = ready!(waiting.as_mut().poll(waker));
                    if self.begun.is_some() {
                        // The wait was our doing.
                        self.begun = Some(crate::clock::now());
                    }
                    self.begin_body(size, permit);
                }
                Step::Body { size, buffer, .. } => {
                    let missing = *size - buffer.len();
                    if missing == 0 {
                        return Poll::Ready(Ok(ReadEvent::Frame(self.finish_frame())));
                    }
                    match try_read_into(stream, buffer.bytes(), missing) {
                        Ok(0) => return Poll::Ready(self.end_of_stream()),
                        Ok(_) => {}
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                            if self.begun.is_none() {
                                self.begun = Some(crate::clock::now());
                                return Poll::Ready(Ok(ReadEvent::Begun));
                            }
                            ready!(stream.poll_read_ready(waker))?;
                        }
                        Err(error) => return Poll::Ready(Err(error.into())),
                    }
                }
            }
        }
    }

    fn begin_frame(&mut self, size: usize) {
        match self.budget.try_take(size) {
            Some(permit) => self.begin_body(size, permit),
            None => {
                self.step = Step::Budget {
                    size,
                    waiting: Box::pin(self.budget.take(size)),
                };
            }
        }
    }

    fn begin_body(&mut self, size: usize, permit: MemoryPermit) {
        let mut buffer = BodyBuffer::Own(Vec::new());
        if let Some(staging) = &mut self.staging {
            let unread = &staging.unread()[LENGTH_BYTES..];
            let arrived = unread.len().min(size);
            buffer = match unread.first_chunk() {
                Some(key) if i16::from_be_bytes(*key) == Api::Produce.key() => {
                    BodyBuffer::Pooled(self.budget.buffer(size))
                }
                _ => BodyBuffer::Own(Vec::with_capacity(size)),
            };
            buffer.bytes().extend_from_slice(&unread[..arrived]);
            staging.start += LENGTH_BYTES + arrived;
            if staging.unread().is_empty() {
                self.staging = None;
            }
        }
        self.step = Step::Body {
            size,
            buffer,
            permit,
        };
    }

    fn finish_frame(&mut self) -> ReadFrame {
        self.begun = None;
        match std::mem::replace(&mut self.step, Step::Length) {
            Step::Body {
                buffer: BodyBuffer::Pooled(buffer),
                permit,
                ..
            } => ReadFrame {
                bytes: share_frame(buffer, permit),
                permit: None,
            },
            Step::Body {
                buffer: BodyBuffer::Own(bytes),
                permit,
                ..
            } => ReadFrame {
                bytes: Bytes::from(bytes),
                permit: Some(permit),
            },
            Step::Length | Step::Budget { .. } => unreachable!("only a body is finished"),
        }
    }

    /// Reads what has arrived.
    fn fill_staging(
        &mut self,
        stream: &TcpStream,
        waker: &mut Context<'_>,
    ) -> Poll<Result<Filled, ReadError>> {
        if self.staging.is_none() {
            // No buffer while the client is silent.
            ready!(stream.poll_read_ready(waker))?;
            self.staging = Some(Staging {
                buffer: self.budget.buffer(STAGING_BYTES),
                start: 0,
            });
        }
        let Some(staging) = &mut self.staging else {
            return Poll::Ready(Ok(Filled::Bytes));
        };
        staging.buffer.bytes.drain(..staging.start);
        staging.start = 0;
        let room = STAGING_BYTES - staging.buffer.bytes.len();
        let was_empty = staging.buffer.bytes.is_empty();
        match try_read_into(stream, &mut staging.buffer.bytes, room) {
            Ok(0) => {
                if was_empty {
                    self.staging = None;
                }
                Poll::Ready(Ok(Filled::End))
            }
            Ok(_) => Poll::Ready(Ok(Filled::Bytes)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                if was_empty {
                    self.staging = None;
                } else if self.begun.is_none() {
                    // A length that is cut in two.
                    self.begun = Some(crate::clock::now());
                    return Poll::Ready(Ok(Filled::Begun));
                } else {
                    ready!(stream.poll_read_ready(waker))?;
                }
                Poll::Ready(Ok(Filled::Bytes))
            }
            Err(error) => Poll::Ready(Err(error.into())),
        }
    }

    fn end_of_stream(&self) -> Result<ReadEvent, ReadError> {
        match &self.step {
            Step::Body { size, buffer, .. } => Err(ReadError::Torn {
                size: *size,
                read: buffer.len(),
            }),
            _ => match &self.staging {
                Some(staging) if !staging.unread().is_empty() => Err(ReadError::Torn {
                    size: LENGTH_BYTES,
                    read: staging.unread().len(),
                }),
                _ => Ok(ReadEvent::Closed),
            },
        }
    }
}

fn try_read_into(stream: &TcpStream, buffer: &mut Vec<u8>, bytes_max: usize) -> io::Result<usize> {
    let mut short = None;
    let read = stream.try_io(Interest::READABLE, || {
        let count = stream.try_read_buf(&mut buffer.limit(bytes_max))?;
        if 0 < count && count < bytes_max {
            // That was all. Saying so spares the call that would find nothing: an edge tells of more.
            short = Some(count);
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(count)
    });
    short.map_or(read, Ok)
}

#[cfg(test)]
mod tests;
