//! Writes answers to a socket: header bytes with `send`, records with `sendfile`.
//!
//! Slices of [`SENDFILE_BYTES_MIN`] and more go from the page cache to the socket without entering user space; smaller
//! ones are read and joined with the header bytes around them, which saves system calls. Whoever builds the answer has
//! seen to it that the slices are in the page cache: a `sendfile` that waits for the disk would hold its thread.

use std::io;
use std::os::unix::fs::FileExt;
use std::time::Duration;

use bytes::BytesMut;
use rustix::net::SendFlags;
use strandline_log::FileSlice;
use tokio::io::Interest;
use tokio::net::TcpStream;

use super::metrics::NetworkMetrics;
use crate::api::{FetchFrames, ResponsePart};

/// From this size on, records are sent from the file.
pub const SENDFILE_BYTES_MIN: usize = 16 * 1024;
/// One `sendfile` call's most bytes: a thread is not held longer than such a copy takes.
const SENDFILE_BYTES_MAX: usize = 1 << 20;

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
    /// How long the client may take nothing.
    pub send_timeout: Duration,
}

impl ResponseWriter<'_> {
    pub async fn write_bytes(&self, bytes: &[u8]) -> Result<(), WriteError> {
        self.send(bytes, SendFlags::empty()).await
    }

    pub async fn write_fetch(&self, frames: &FetchFrames) -> Result<(), WriteError> {
        let mut joined = BytesMut::new();
        for part in &frames.parts {
            match part {
                ResponsePart::Bytes(bytes) => joined.extend_from_slice(bytes),
                ResponsePart::File(slice) if slice.len < SENDFILE_BYTES_MIN => {
                    let start = joined.len();
                    joined.resize(start + slice.len, 0);
                    read_slice(slice, &mut joined[start..])?;
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

    async fn send(&self, mut bytes: &[u8], flags: SendFlags) -> Result<(), WriteError> {
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

    async fn send_file(&self, slice: &FileSlice) -> Result<(), WriteError> {
        let mut position = slice.position;
        let mut missing = slice.len;
        while missing > 0 {
            let sent = self.stream.try_io(Interest::WRITABLE, || {
                Ok(rustix::fs::sendfile(
                    self.stream,
                    &*slice.file,
                    Some(&mut position),
                    missing.min(SENDFILE_BYTES_MAX),
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

    /// Waits until the socket takes bytes again.
    async fn wait(&self, error: io::Error) -> Result<(), WriteError> {
        match error.kind() {
            io::ErrorKind::Interrupted => Ok(()),
            io::ErrorKind::WouldBlock => {
                match tokio::time::timeout(self.send_timeout, self.stream.writable()).await {
                    Ok(ready) => Ok(ready?),
                    Err(_) => Err(WriteError::Stalled(self.send_timeout)),
                }
            }
            _ => Err(error.into()),
        }
    }
}

fn read_slice(slice: &FileSlice, into: &mut [u8]) -> Result<(), WriteError> {
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
    use std::sync::Arc;
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
        let writer = ResponseWriter {
            stream: &stream,
            metrics: &metrics,
            send_timeout: Duration::from_secs(10),
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
