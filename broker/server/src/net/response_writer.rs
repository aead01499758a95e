//! Writes answers to a socket: header bytes with `send`, records with `sendfile`.
//!
//! Slices of [`SENDFILE_BYTES_MIN`] and more go from the page cache to the socket without entering user space; smaller
//! ones are read and joined with the header bytes around them, which saves system calls. Whoever builds the answer has
//! seen to it that the slices are in the page cache: a `sendfile` that waits for the disk would hold its thread. That
//! does not last: once a client has kept its answer waiting, every further piece is looked at again, and read in away
//! from this thread when it is gone.
//!
//! Always: an answer that waits for its client holds its header bytes, at most [`JOINED_BYTES_MAX`] of records, and
//! descriptors.

use std::io::{self, IoSliceMut};
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use rustix::io::{Errno, ReadWriteFlags, preadv2};
use rustix::net::SendFlags;
use strandline_log::FileSlice;
use tokio::io::Interest;
use tokio::net::TcpStream;

use super::metrics::NetworkMetrics;
use crate::api::{FetchFrames, ResponsePart};
use crate::clock;
use crate::cold_reads::ColdReads;

/// From this size on, records are sent from the file.
pub const SENDFILE_BYTES_MIN: usize = 16 * 1024;
/// One `sendfile` call's most bytes: a thread is not held longer than such a copy takes.
const SENDFILE_BYTES_MAX: usize = 1 << 20;
/// The same, when the pages have to be looked at first: about what a socket takes at a time.
const STALE_SENDFILE_BYTES_MAX: usize = 256 * 1024;
/// How much is joined in memory before it is sent.
const JOINED_BYTES_MAX: usize = 64 * 1024;
/// For how long pages are trusted to stay in the page cache.
const PAGES_STAY: Duration = Duration::from_secs(1);

/// Why an answer did not reach the client whole. The connection is of no further use.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    #[error("the client took nothing for {} s (socket.send.timeout.ms)", .0.as_secs())]
    Stalled(Duration),
    #[error("a log file ended {missing} bytes before the records that were promised")]
    FileEnded { missing: usize },
    #[error(transparent)]
    Io(#[from] io::Error),
}

pub struct ResponseWriter<'a> {
    pub stream: &'a TcpStream,
    pub metrics: &'a NetworkMetrics,
    pub cold_reads: &'a ColdReads,
    /// How long the client may take nothing.
    pub send_timeout: Duration,
    pub seen_in_cache: Instant,
    /// The client has kept us waiting: pages may be gone again.
    pub stale: bool,
}

impl ResponseWriter<'_> {
    pub async fn write_bytes(&mut self, bytes: &[u8]) -> Result<(), WriteError> {
        self.send(bytes, SendFlags::empty()).await
    }

    pub async fn write_fetch(&mut self, frames: &FetchFrames) -> Result<(), WriteError> {
        let mut joined = BytesMut::new();
        for part in &frames.parts {
            if joined.len() >= JOINED_BYTES_MAX {
                self.send(&joined, SendFlags::MORE).await?;
                joined.clear();
            }
            match part {
                ResponsePart::Bytes(bytes) => joined.extend_from_slice(bytes),
                ResponsePart::File(slice) if slice.len < SENDFILE_BYTES_MIN => {
                    let start = joined.len();
                    joined.resize(start + slice.len, 0);
                    self.read_slice(slice, &mut joined[start..]).await?;
                }
                ResponsePart::File(slice) => {
                    // MSG_MORE: the header shares a packet with the records that follow.
                    self.send(&joined, SendFlags::MORE).await?;
                    joined.clear();
                    self.send_file(slice).await?;
                }
            }
        }
        self.send(&joined, SendFlags::empty()).await
    }

    async fn send(&mut self, mut bytes: &[u8], flags: SendFlags) -> Result<(), WriteError> {
        while !bytes.is_empty() {
            let sent = self.stream.try_io(Interest::WRITABLE, || {
                Ok(rustix::net::send(
                    self.stream,
                    bytes,
                    flags | SendFlags::NOSIGNAL | SendFlags::DONTWAIT,
                )?)
            });
            match sent {
                Ok(sent) => {
                    self.metrics.sent_copied_bytes.inc_by(sent as u64);
                    bytes = &bytes[sent..];
                }
                Err(error) => self.wait(error).await?,
            }
        }
        Ok(())
    }

    async fn send_file(&mut self, slice: &FileSlice) -> Result<(), WriteError> {
        let mut position = slice.position;
        let mut missing = slice.len;
        while missing > 0 {
            let mut want = missing.min(SENDFILE_BYTES_MAX);
            if self.stale {
                want = want.min(STALE_SENDFILE_BYTES_MAX);
                let next = FileSlice {
                    file: Arc::clone(&slice.file),
                    position,
                    len: want,
                };
                self.see_in_cache(&next).await?;
            }
            let sent = self.stream.try_io(Interest::WRITABLE, || {
                Ok(rustix::fs::sendfile(
                    self.stream,
                    &*slice.file,
                    Some(&mut position),
                    want,
                )?)
            });
            match sent {
                Ok(0) => return Err(WriteError::FileEnded { missing }),
                Ok(sent) => {
                    self.metrics.sent_sendfile_bytes.inc_by(sent as u64);
                    missing -= sent;
                    // A reader with a fast link must not keep the others from this thread.
                    tokio::task::consume_budget().await;
                }
                Err(error) => self.wait(error).await?,
            }
        }
        Ok(())
    }

    /// Reads a small slice; what is not in the page cache is waited for elsewhere.
    async fn read_slice(&self, slice: &FileSlice, into: &mut [u8]) -> Result<(), WriteError> {
        let mut done = 0;
        while done < into.len() {
            let missing = into.len() - done;
            let position = slice.position + done as u64;
            let mut buffers = [IoSliceMut::new(&mut into[done..])];
            match preadv2(&*slice.file, &mut buffers, position, ReadWriteFlags::NOWAIT) {
                Ok(0) => return Err(WriteError::FileEnded { missing }),
                Ok(read) => done += read,
                Err(Errno::INTR) => {}
                Err(error) => {
                    let rest = FileSlice {
                        file: Arc::clone(&slice.file),
                        position,
                        len: missing,
                    };
                    if error == Errno::AGAIN {
                        self.cold_reads.warm(std::slice::from_ref(&rest)).await?;
                    }
                    return read_now(&rest, &mut into[done..]);
                }
            }
        }
        Ok(())
    }

    /// Sees to it that sending the slice will not wait for the disk.
    async fn see_in_cache(&self, slice: &FileSlice) -> Result<(), WriteError> {
        Ok(self.cold_reads.warm(std::slice::from_ref(slice)).await?)
    }

    /// Waits until the socket takes bytes again.
    async fn wait(&mut self, error: io::Error) -> Result<(), WriteError> {
        match error.kind() {
            io::ErrorKind::Interrupted => Ok(()),
            io::ErrorKind::WouldBlock => {
                match tokio::time::timeout(self.send_timeout, self.stream.writable()).await {
                    Ok(ready) => ready?,
                    Err(_) => return Err(WriteError::Stalled(self.send_timeout)),
                }
                self.stale |= clock::now() >= self.seen_in_cache + PAGES_STAY;
                Ok(())
            }
            _ => Err(error.into()),
        }
    }
}

fn read_now(slice: &FileSlice, into: &mut [u8]) -> Result<(), WriteError> {
    let missing = into.len();
    slice
        .file
        .read_exact_at(into, slice.position)
        .map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => WriteError::FileEnded { missing },
            _ => error.into(),
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use std::io::Write;
    use tokio::io::AsyncReadExt;
    use tokio::net::TcpListener;

    #[tokio::test]
    async fn parts_arrive_in_order_and_large_slices_are_counted_as_sendfile() {
        let mut file = tempfile::tempfile().expect("a file");
        let content: Vec<u8> = (0..300_000u32).map(|i| (i % 251) as u8).collect();
        file.write_all(&content).expect("writes");
        let file = Arc::new(file);
        let slice = |position: u64, len: usize| {
            ResponsePart::File(FileSlice {
                file: Arc::clone(&file),
                position,
                len,
            })
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
        let address = listener.local_addr().expect("bound");
        let reader = tokio::spawn(async move {
            let mut all = Vec::new();
            let (mut client, _) = listener.accept().await.expect("accepts");
            client.read_to_end(&mut all).await.expect("reads");
            all
        });
        let stream = TcpStream::connect(address).await.expect("connects");
        let metrics = NetworkMetrics::new(&prometheus::Registry::new()).expect("registers");
        let cold_reads = ColdReads::new(1, &prometheus::Registry::new()).expect("registers");
        let mut writer = ResponseWriter {
            stream: &stream,
            metrics: &metrics,
            cold_reads: &cold_reads,
            send_timeout: Duration::from_secs(10),
            seen_in_cache: clock::now(),
            stale: false,
        };
        let frames = FetchFrames {
            parts: vec![
                ResponsePart::Bytes(Bytes::from_static(b"head")),
                slice(7, 250_000),
                ResponsePart::Bytes(Bytes::from_static(b"mid")),
                slice(100, 50),
                ResponsePart::Bytes(Bytes::from_static(b"tail")),
            ],
        };
        writer.write_fetch(&frames).await.expect("writes");
        let past_the_end = FetchFrames {
            parts: vec![slice(290_000, 20_000)],
        };
        let error = writer.write_fetch(&past_the_end).await.expect_err("ends");
        assert!(
            matches!(error, WriteError::FileEnded { missing: 10_000 }),
            "{error}"
        );
        drop(stream);
        let mut want = b"head".to_vec();
        want.extend_from_slice(&content[7..250_007]);
        want.extend_from_slice(b"mid");
        want.extend_from_slice(&content[100..150]);
        want.extend_from_slice(b"tail");
        want.extend_from_slice(&content[290_000..]);
        assert!(reader.await.expect("reader") == want);
        assert_eq!(metrics.sent_sendfile_bytes.get(), 260_000);
        assert_eq!(metrics.sent_copied_bytes.get(), 61);
    }
}
