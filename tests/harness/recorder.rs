//! A TCP recorder between clients and a broker: passes everything on and keeps what clients send, frame by frame.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// What one connection sent: whole frames, lengths included.
pub type RecordedConnection = Vec<Vec<u8>>;

#[derive(Debug)]
pub struct Recorder {
    port: u16,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    stopping: AtomicBool,
    connections: Mutex<Vec<Arc<Mutex<RecordedConnection>>>>,
}

impl Recorder {
    /// Listens on `port` and connects each client to `broker_port`.
    pub fn start(port: u16, broker_port: u16) -> Recorder {
        let listener = TcpListener::bind(("127.0.0.1", port)).expect("the port is free");
        let shared = Arc::new(Shared::default());
        let accepting = Arc::clone(&shared);
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if accepting.stopping.load(Ordering::Relaxed) {
                    return;
                }
                let Ok(broker) = TcpStream::connect(("127.0.0.1", broker_port)) else {
                    continue;
                };
                let frames = Arc::new(Mutex::default());
                let mut connections = accepting
                    .connections
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner);
                connections.push(Arc::clone(&frames));
                drop(connections);
                pass(client, broker, frames);
            }
        });
        Recorder { port, shared }
    }

    /// Everything recorded so far; connections that sent nothing are left out.
    pub fn connections(&self) -> Vec<RecordedConnection> {
        let connections = self
            .shared
            .connections
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        connections
            .iter()
            .map(|frames| {
                frames
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .clone()
            })
            .filter(|frames| !frames.is_empty())
            .collect()
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::Relaxed);
        // Wakes the accepting thread.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

fn pass(client: TcpStream, broker: TcpStream, frames: Arc<Mutex<RecordedConnection>>) {
    let (mut to_client, mut from_broker) = (
        client.try_clone().expect("a handle"),
        broker.try_clone().expect("a handle"),
    );
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut from_broker, &mut to_client);
        let _ = to_client.shutdown(Shutdown::Both);
    });
    let (mut from_client, mut to_broker) = (client, broker);
    std::thread::spawn(move || {
        while let Ok(frame) = read_frame(&mut from_client) {
            if to_broker.write_all(&frame).is_err() {
                break;
            }
            frames
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(frame);
        }
        let _ = to_broker.shutdown(Shutdown::Both);
    });
}

fn read_frame(stream: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let mut frame = vec![0; 4];
    stream.read_exact(&mut frame)?;
    let length = u32::from_be_bytes([frame[0], frame[1], frame[2], frame[3]]) as usize;
    frame.resize(4 + length, 0);
    stream.read_exact(&mut frame[4..])?;
    Ok(frame)
}
