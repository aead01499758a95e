//! Ports that nobody else of this test run uses.

use std::net::TcpListener;
use std::sync::atomic::{AtomicU16, Ordering};

/// Below the range from which the system takes ports of outgoing connections.
const FIRST: u16 = 12_000;
const LAST: u16 = 30_000;

static NEXT: AtomicU16 = AtomicU16::new(0);

/// A free port on loopback that this process will not be given again. It stays the caller's over restarts of a broker.
pub fn free_port() -> u16 {
    let span = LAST - FIRST;
    // Different processes begin at different places.
    let origin = (std::process::id() % u32::from(span)) as u16;
    for _ in 0..span {
        let step = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = FIRST + (origin + step) % span;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("no free port between {FIRST} and {LAST}");
}
