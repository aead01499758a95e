//! Keeps the broker's long-lived tasks alive: one that dies is noticed, logged, counted and started again.
//!
//! A task gets a [`StopFlag`] and returns once it is set. It is never cancelled: what it has begun it ends.

#![allow(clippy::disallowed_methods)] // Reads the clock to space restarts.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use prometheus::{IntCounterVec, Opts, Registry};
use tokio::sync::watch;
use tokio::task::JoinHandle;

const RESTART_PAUSE: Duration = Duration::from_millis(100);
const RESTART_PAUSE_MAX: Duration = Duration::from_secs(30);
/// A task that ran this long before it died is started again at once.
const HEALTHY_RUN: Duration = Duration::from_secs(60);

/// Tells a task to end.
#[derive(Clone, Debug)]
pub struct StopFlag(watch::Receiver<bool>);

impl StopFlag {
    pub fn is_set(&self) -> bool {
        *self.0.borrow()
    }

    /// Resolves when the flag is set.
    pub async fn wait(&mut self) {
        // An error means that the supervisor is gone: time to end as well.
        let _ = self.0.wait_for(|stop| *stop).await;
    }

    /// Waits for the time, or less when the flag is set; true when the task is to go on.
    pub async fn sleep(&mut self, time: Duration) -> bool {
        tokio::time::timeout(time, self.wait()).await.is_err()
    }
}

#[derive(Debug)]
pub struct Supervisor {
    stop: watch::Sender<bool>,
    tasks: Mutex<Vec<(&'static str, JoinHandle<()>)>>,
    deaths: IntCounterVec,
    /// The tasks that died and wait to be started again.
    down: Arc<Mutex<Vec<&'static str>>>,
}

impl Supervisor {
    pub fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let deaths = IntCounterVec::new(
            Opts::new(
                "strandline_task_deaths_total",
                "Background tasks that died of a bug and were started again, by task.",
            ),
            &["task"],
        )?;
        registry.register(Box::new(deaths.clone()))?;
        Ok(Self {
            stop: watch::channel(false).0,
            tasks: Mutex::default(),
            deaths,
            down: Arc::default(),
        })
    }

    pub fn stop_flag(&self) -> StopFlag {
        StopFlag(self.stop.subscribe())
    }

    /// Runs a task until it returns. `make` is called again after each death.
    pub fn spawn<F, Fut>(&self, name: &'static str, make: F)
    where
        F: Fn(StopFlag) -> Fut + Send + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        let mut flag = self.stop_flag();
        let deaths = self.deaths.with_label_values(&[name]);
        let down = Arc::clone(&self.down);
        let handle = tokio::spawn(async move {
            let mut pause = RESTART_PAUSE;
            loop {
                let begun = Instant::now();
                let Err(error) = tokio::spawn(make(flag.clone())).await else {
                    return;
                };
                deaths.inc();
                tracing::error!(task = name, %error, "a background task died; starting it again");
                down.lock().push(name);
                if begun.elapsed() > HEALTHY_RUN {
                    pause = RESTART_PAUSE;
                }
                let go_on = flag.sleep(pause).await;
                down.lock().retain(|task| *task != name);
                if !go_on {
                    return;
                }
                pause = (pause * 2).min(RESTART_PAUSE_MAX);
            }
        });
        self.tasks.lock().push((name, handle));
    }

    /// The tasks that are down now, for /healthz.
    pub fn down(&self) -> Vec<&'static str> {
        self.down.lock().clone()
    }

    /// Sets the flag and waits until every task has ended, at most `patience` for all of them.
    pub async fn stop(&self, patience: Duration) {
        self.stop.send_replace(true);
        let tasks = std::mem::take(&mut *self.tasks.lock());
        let deadline = tokio::time::Instant::now() + patience;
        for (name, handle) in tasks {
            if tokio::time::timeout_at(deadline, handle).await.is_err() {
                tracing::warn!(task = name, "a background task did not end in time");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    #[tokio::test]
    async fn a_task_that_dies_is_counted_and_started_again() {
        let registry = Registry::new();
        let supervisor = Supervisor::new(&registry).expect("registers");
        let starts = Arc::new(AtomicU32::new(0));
        let (second, mut started_twice) = watch::channel(false);
        let counted = Arc::clone(&starts);
        supervisor.spawn("test", move |mut stop| {
            let start = counted.fetch_add(1, Ordering::SeqCst);
            let second = second.clone();
            async move {
                assert!(start > 0, "the first run dies");
                second.send_replace(true);
                stop.wait().await;
            }
        });
        let again = started_twice.wait_for(|started| *started);
        tokio::time::timeout(Duration::from_secs(20), again)
            .await
            .expect("started again in time")
            .expect("the task lives");
        assert_eq!(supervisor.deaths.with_label_values(&["test"]).get(), 1);
        assert!(supervisor.down().is_empty());
        supervisor.stop(Duration::from_secs(20)).await;
        assert_eq!(starts.load(Ordering::SeqCst), 2);
    }
}
