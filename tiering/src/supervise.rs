//! Keeps the tier's workers alive: one that dies is logged, counted and started again after a rest.

use std::future::Future;
use std::time::Duration;

use prometheus::IntCounter;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// A worker that dies at once must not spin.
const REST: Duration = Duration::from_millis(if cfg!(test) { 10 } else { 1_000 });

/// Whether the tier is to stop. Read between steps; nothing is cancelled in mid-step.
#[derive(Clone, Debug)]
pub struct Stop(watch::Receiver<bool>);

impl Stop {
    pub fn new(receiver: watch::Receiver<bool>) -> Self {
        Self(receiver)
    }

    pub fn is_set(&self) -> bool {
        *self.0.borrow()
    }

    /// Returns once the tier is to stop.
    pub async fn wait(&self) {
        let mut receiver = self.0.clone();
        // A sender that is gone stops everything as well.
        let _ = receiver.wait_for(|stop| *stop).await;
    }

    /// Sleeps; false when the sleep was cut short by the stop.
    pub async fn sleep(&self, duration: Duration) -> bool {
        tokio::select! {
            () = tokio::time::sleep(duration) => true,
            () = self.wait() => false,
        }
    }
}

/// Runs what `worker` makes until it ends by itself or the stop is set.
pub fn supervise<W, F>(
    name: &'static str,
    stop: Stop,
    restarted: IntCounter,
    worker: W,
) -> JoinHandle<()>
where
    W: Fn() -> F + Send + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    tokio::spawn(async move {
        while let Err(died) = tokio::spawn(worker()).await {
            restarted.inc();
            tracing::error!(worker = name, error = %died, "a worker of the tier died; it is started again");
            if !stop.sleep(REST).await {
                break;
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[tokio::test]
    async fn a_dead_worker_is_started_again_and_counted() {
        let (send, receive) = watch::channel(false);
        let stop = Stop::new(receive);
        let runs = Arc::new(AtomicUsize::new(0));
        let restarted = IntCounter::new("restarted", "restarted").expect("valid");
        let (counted, until) = (Arc::clone(&runs), stop.clone());
        let worker = supervise("test", stop, restarted.clone(), move || {
            let (run, until) = (counted.fetch_add(1, Ordering::SeqCst), until.clone());
            async move {
                assert!(run >= 2, "planted");
                until.wait().await;
            }
        });
        while runs.load(Ordering::SeqCst) < 3 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        send.send(true).expect("heard");
        worker.await.expect("ends");
        assert_eq!(restarted.get(), 2);
    }
}
