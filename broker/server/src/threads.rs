//! Keeps the broker's long-lived threads alive, as [`crate::supervisor`] does its tasks: one that dies of a bug is
//! noticed at once, logged, counted, shown by /healthz, and started again after a pause that grows.
//!
//! A thread is told to end by its group's [`ThreadStop`] and returns soon after. Threads whose death leaves something
//! half done that nobody may go on with are no matter of this: they end the process ([`or_end_process`]), and the start
//! after it recovers.

#![allow(clippy::disallowed_methods)] // Reads the clock to space restarts.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use prometheus::{IntCounterVec, Opts, Registry};

const RESTART_PAUSE: Duration = Duration::from_millis(100);
const RESTART_PAUSE_MAX: Duration = Duration::from_secs(30);
/// A thread that ran this long before it died is started again at once.
const HEALTHY_RUN: Duration = Duration::from_secs(60);

/// Tells threads to end. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct ThreadStop(Arc<StopState>);

#[derive(Debug, Default)]
struct StopState {
    is_set: Mutex<bool>,
    set: Condvar,
}

impl ThreadStop {
    pub fn is_set(&self) -> bool {
        *self.0.is_set.lock()
    }

    fn set(&self) {
        *self.0.is_set.lock() = true;
        self.0.set.notify_all();
    }

    /// Waits, unless it is time to end, or becomes so; true then.
    pub fn wait(&self, time: Duration) -> bool {
        let deadline = Instant::now() + time;
        let mut is_set = self.0.is_set.lock();
        while !*is_set {
            if self.0.set.wait_until(&mut is_set, deadline).timed_out() {
                break;
            }
        }
        *is_set
    }
}

/// Makes groups of threads, and knows which are down.
#[derive(Clone, Debug)]
pub struct Threads {
    deaths: IntCounterVec,
    /// The threads that died and wait to be started again.
    down: Arc<Mutex<Vec<String>>>,
}

impl Threads {
    pub fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let deaths = IntCounterVec::new(
            Opts::new(
                "strandline_thread_deaths_total",
                "Background threads that died of a bug and were started again, by their kind.",
            ),
            &["thread"],
        )?;
        registry.register(Box::new(deaths.clone()))?;
        Ok(Self {
            deaths,
            down: Arc::default(),
        })
    }

    /// Threads that are ended together; `kind` is their label in the metric.
    pub fn group(&self, kind: &'static str) -> ThreadGroup {
        // Shown from the start: a count that is absent looks like one that nobody keeps.
        self.deaths.with_label_values(&[kind]);
        ThreadGroup {
            kind,
            threads: self.clone(),
            stop: ThreadStop::default(),
            handles: Mutex::default(),
        }
    }

    /// The threads that are down now.
    pub fn down(&self) -> Vec<String> {
        self.down.lock().clone()
    }
}

#[derive(Debug)]
pub struct ThreadGroup {
    kind: &'static str,
    threads: Threads,
    stop: ThreadStop,
    handles: Mutex<Vec<JoinHandle<()>>>,
}

impl ThreadGroup {
    /// Starts a thread that runs until `run` returns. `run` is called again after each death.
    pub fn spawn(
        &self,
        name: String,
        run: impl Fn(&ThreadStop) + Send + 'static,
    ) -> std::io::Result<()> {
        let (stop, down) = (self.stop.clone(), Arc::clone(&self.threads.down));
        let deaths = self.threads.deaths.with_label_values(&[self.kind]);
        let thread = std::thread::Builder::new().name(name.clone());
        let handle = thread.spawn(move || {
            let mut pause = RESTART_PAUSE;
            loop {
                let begun = Instant::now();
                let Err(panic) = catch_unwind(AssertUnwindSafe(|| run(&stop))) else {
                    return;
                };
                deaths.inc();
                let panic = text_of(panic.as_ref());
                tracing::error!(
                    thread = name,
                    panic,
                    "a background thread died; starting it again"
                );
                down.lock().push(name.clone());
                if begun.elapsed() > HEALTHY_RUN {
                    pause = RESTART_PAUSE;
                }
                let ends = stop.wait(pause);
                down.lock().retain(|thread| *thread != name);
                if ends {
                    return;
                }
                pause = (pause * 2).min(RESTART_PAUSE_MAX);
            }
        })?;
        self.handles.lock().push(handle);
        Ok(())
    }

    /// Tells the threads to end.
    pub fn stop(&self) {
        self.stop.set();
    }

    /// Waits until they have. Blocks.
    pub fn join(&self) {
        for handle in std::mem::take(&mut *self.handles.lock()) {
            if handle.join().is_err() {
                tracing::error!(
                    kind = self.kind,
                    "a supervising thread had died; this is a bug"
                );
            }
        }
    }
}

/// Runs a thread that must not die alone: its panic ends the process. A partition that it had taken would hang for ever
/// with its producers, and what it had begun is for recovery to judge.
pub fn or_end_process(run: impl FnOnce()) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(run)) {
        let thread = std::thread::current();
        tracing::error!(
            thread = thread.name().unwrap_or_default(),
            panic = text_of(panic.as_ref()),
            "died of a bug, and nobody can go on with its work: the broker ends"
        );
        std::process::abort();
    }
}

fn text_of(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    let string = panic.downcast_ref::<String>().map(String::as_str);
    text.or(string).unwrap_or("of unknown kind")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::ExitStatusExt;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::sync::mpsc;

    #[test]
    fn a_thread_that_dies_is_counted_and_started_again() {
        let threads = Threads::new(&Registry::new()).expect("registers");
        let group = threads.group("test");
        let starts = AtomicU32::new(0);
        let (second, started_twice) = mpsc::channel();
        let all = threads.clone();
        group
            .spawn("test-0".to_owned(), move |stop| {
                if starts.fetch_add(1, Ordering::SeqCst) == 0 {
                    panic!("the first run dies");
                }
                second.send(all.down()).expect("the test waits");
                while !stop.wait(Duration::from_secs(20)) {}
            })
            .expect("starts");
        let down = started_twice
            .recv_timeout(Duration::from_secs(20))
            .expect("started again in time");
        assert!(down.is_empty(), "it is up again: {down:?}");
        assert_eq!(threads.deaths.with_label_values(&["test"]).get(), 1);
        group.stop();
        group.join();
    }

    #[test]
    fn the_end_is_not_waited_for_by_one_that_is_down() {
        let threads = Threads::new(&Registry::new()).expect("registers");
        let group = threads.group("test");
        let (died, deaths) = mpsc::channel();
        group
            .spawn("test-0".to_owned(), move |_| {
                died.send(()).expect("the test waits");
                panic!("every run dies");
            })
            .expect("starts");
        for _ in 0..3 {
            deaths
                .recv_timeout(Duration::from_secs(20))
                .expect("dies again");
        }
        group.stop();
        group.join();
    }

    const CHILD: &str = "TEST_STRANDLINE_DIES";

    #[test]
    fn a_thread_that_must_not_die_alone_ends_the_process() {
        if std::env::var_os(CHILD).is_some() {
            let thread = std::thread::spawn(|| or_end_process(|| panic!("a bug")));
            let _ = thread.join();
            std::process::exit(0);
        }
        let name = "threads::tests::a_thread_that_must_not_die_alone_ends_the_process";
        let child = std::process::Command::new(std::env::current_exe().expect("is a program"))
            .args(["--exact", name, "--nocapture"])
            .env(CHILD, "1")
            .output()
            .expect("runs");
        assert_eq!(
            child.status.signal(),
            Some(rustix::process::Signal::ABORT.as_raw())
        );
    }
}
