//! The two tasks of a connection: one writes what is queued, one reads answers.

use std::sync::Arc;

use bytes::{Buf, Bytes, BytesMut};
use strandline_wire::{FrameError, FrameSplitter};
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufWriter};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc;

use super::Shared;

/// Small requests that queue up together leave in one write.
const WRITE_BUFFER_BYTES: usize = 32 << 10;
const READ_BUFFER_BYTES: usize = 16 << 10;

pub(super) async fn write(
    shared: Arc<Shared>,
    socket: OwnedWriteHalf,
    mut queue: mpsc::UnboundedReceiver<Bytes>,
) {
    let mut stop = shared.stop.subscribe();
    let mut socket = BufWriter::with_capacity(WRITE_BUFFER_BYTES, socket);
    loop {
        let frame = tokio::select! {
            frame = queue.recv() => frame,
            _ = stop.wait_for(|stop| *stop) => None,
        };
        let Some(frame) = frame else {
            // Every handle is gone and all that they queued is sent.
            shared.close_because("it is no longer used");
            break;
        };
        let written = tokio::select! {
            written = write_all_queued(&mut socket, frame, &mut queue) => written,
            // What is half written is lost with the connection.
            _ = stop.wait_for(|stop| *stop) => break,
        };
        if let Err(error) = written {
            shared.close_because(error.to_string());
            break;
        }
    }
}

async fn write_all_queued(
    socket: &mut BufWriter<OwnedWriteHalf>,
    first: Bytes,
    queue: &mut mpsc::UnboundedReceiver<Bytes>,
) -> std::io::Result<()> {
    socket.write_all(&first).await?;
    while let Ok(frame) = queue.try_recv() {
        socket.write_all(&frame).await?;
    }
    socket.flush().await
}

pub(super) async fn read(
    shared: Arc<Shared>,
    mut socket: OwnedReadHalf,
    response_bytes_max: usize,
) {
    let mut stop = shared.stop.subscribe();
    let splitter = FrameSplitter::new(response_bytes_max);
    let mut buffer = BytesMut::new();
    loop {
        match splitter.next_frame(&mut buffer) {
            Ok(Some(frame)) => {
                if !hand_over(&shared, frame) {
                    return;
                }
                continue;
            }
            Ok(None) => {}
            Err(FrameError::Negative { size }) => {
                return shared.close_because(format!("it sent an answer of size {size}"));
            }
            Err(FrameError::TooLarge { size, size_max }) => {
                return shared.close_because(format!(
                    "it sent an answer of {size} bytes, {size_max} are allowed"
                ));
            }
        }
        // A frame whose size is known gets its room at once.
        let size = splitter.peek_size(&buffer).ok().flatten().unwrap_or(0);
        buffer.reserve(
            (size + 4)
                .saturating_sub(buffer.len())
                .max(READ_BUFFER_BYTES),
        );
        let received = tokio::select! {
            received = socket.read_buf(&mut buffer) => received,
            _ = stop.wait_for(|stop| *stop) => return,
        };
        match received {
            Ok(0) => return shared.close_because("the peer closed it"),
            Ok(_) => {}
            Err(error) => return shared.close_because(error.to_string()),
        }
    }
}

/// Gives an answer to the request that is first in line; false when it is not for it.
fn hand_over(shared: &Shared, frame: Bytes) -> bool {
    let correlation_id = (&frame[..]).try_get_i32().ok();
    let first = shared.pending().waiting.pop_front();
    match (first, correlation_id) {
        (Some(waiting), Some(id)) if waiting.correlation_id == id => {
            // A waiter that gave up is no reason to stop.
            let _ = waiting.answer.send(Ok(frame));
            true
        }
        (waiting, id) => {
            let expected = waiting.as_ref().map(|waiting| waiting.correlation_id);
            shared.close_because(format!(
                "an answer has correlation id {id:?}, {expected:?} was expected"
            ));
            if let (Some(waiting), Some(error)) = (waiting, shared.pending().closed.clone()) {
                let _ = waiting.answer.send(Err(error));
            }
            false
        }
    }
}
