//! The threads that serve sockets (num.network.threads): each has an event loop of its own.
//!
//! A connection stays with the thread that it was given to. Its requests are read, checked, mostly worked on and
//! answered there, so that a small request wakes no other thread and its bytes stay in one processor's cache.
//! Everything else runs on the broker's own runtime: see [`super::ConnectionContext::runtime`].

use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;

use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use super::wake_relay::WakeRelay;

struct NetworkThread {
    runtime: Handle,
    relay: Arc<WakeRelay>,
    connections: Arc<AtomicUsize>,
    /// The thread ends when this is dropped, and what still runs on it with it.
    _stop: oneshot::Sender<()>,
}

pub struct NetworkThreads(Vec<NetworkThread>);

/// Counts a connection out.
struct Served(Arc<AtomicUsize>);

impl Drop for Served {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl NetworkThreads {
    pub fn start(count: usize) -> io::Result<Self> {
        let threads = (0..count.max(1)).map(NetworkThread::start);
        Ok(Self(threads.collect::<io::Result<_>>()?))
    }

    /// Serves a connection on the thread that has the fewest.
    pub fn serve<Serving>(
        &self,
        connections: &mut JoinSet<()>,
        connection: impl FnOnce(Arc<WakeRelay>) -> Serving,
    ) where
        Serving: Future<Output = ()> + Send + 'static,
    {
        let least = self
            .0
            .iter()
            .min_by_key(|thread| thread.connections.load(Ordering::Relaxed))
            .expect("there is at least one thread");
        least.connections.fetch_add(1, Ordering::Relaxed);
        let served = Served(Arc::clone(&least.connections));
        let serving = connection(Arc::clone(&least.relay));
        let task = async move {
            let _served = served;
            serving.await;
        };
        connections.spawn_on(task, &least.runtime);
    }
}

impl NetworkThread {
    fn start(number: usize) -> io::Result<Self> {
        let runtime = Builder::new_current_thread()
            .enable_all()
            // Nothing here blocks: that is the broker's runtime's to do.
            .max_blocking_threads(1)
            .build()?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel::<()>();
        let (started, starting) = mpsc::channel();
        std::thread::Builder::new()
            .name(format!("network-{number}"))
            .spawn(move || {
                let relay = WakeRelay::of_this_thread();
                if started.send(Arc::clone(&relay)).is_err() {
                    return;
                }
                let mut stopped = std::pin::pin!(stopped);
                runtime.block_on(poll_fn(|waker| {
                    // Also an error says that the sender is gone.
                    if stopped.as_mut().poll(waker).is_ready() {
                        return std::task::Poll::Ready(());
                    }
                    relay.poll(waker)
                }));
            })?;
        let relay = starting.recv().map_err(io::Error::other)?;
        Ok(Self {
            runtime: handle,
            relay,
            connections: Arc::default(),
            _stop: stop,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use parking_lot::Mutex;

    use super::*;

    #[tokio::test]
    async fn connections_are_spread_and_stay() {
        let threads = NetworkThreads::start(2).expect("starts");
        let mut connections = JoinSet::new();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (go, gone) = tokio::sync::watch::channel(false);
        for _ in 0..4 {
            let (seen, mut gone) = (Arc::clone(&seen), gone.clone());
            threads.serve(&mut connections, |_| async move {
                let before = std::thread::current().id();
                gone.wait_for(|go| *go).await.expect("told");
                assert_eq!(std::thread::current().id(), before);
                seen.lock().push(before);
            });
        }
        let counts = || {
            let count = |thread: &NetworkThread| thread.connections.load(Ordering::Relaxed);
            threads.0.iter().map(count).collect::<Vec<_>>()
        };
        assert_eq!(counts(), [2, 2]);
        go.send_replace(true);
        while let Some(ended) = connections.join_next().await {
            ended.expect("no panic");
        }
        assert_eq!(seen.lock().iter().collect::<HashSet<_>>().len(), 2);
        assert_eq!(counts(), [0, 0]);
    }
}
