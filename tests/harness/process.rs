//! Child processes that end with their owner, and programs that are run to their end.

#![allow(clippy::disallowed_methods)] // Deadlines.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{Read, Seek};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::wait::wait_until;

/// The children that run now, so that a program that is told to end can take them along.
static RUNNING: Mutex<BTreeSet<u32>> = Mutex::new(BTreeSet::new());

fn running() -> MutexGuard<'static, BTreeSet<u32>> {
    RUNNING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Kills every child that runs. For the end of this process by a signal, when nothing is dropped: nobody can start
/// another one from then on.
pub fn kill_all() {
    let running = running();
    for pid in running.iter() {
        // One that has just ended is what was wanted.
        let _ = Command::new("kill")
            .arg("-KILL")
            .arg(pid.to_string())
            .status();
    }
    std::mem::forget(running);
}

/// A running child. Dropped, it is killed and reaped.
#[derive(Debug)]
pub struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts it; what it prints is appended to `log`.
    pub fn spawn(command: &mut Command, log: &Path) -> Process {
        let open = || {
            File::options()
                .create(true)
                .append(true)
                .open(log)
                .expect("the log can be written")
        };
        let mut started = running();
        let child = command
            .stdin(Stdio::null())
            .stdout(open())
            .stderr(open())
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?} does not start: {error}"));
        started.insert(child.id());
        Process {
            child,
            log: log.to_path_buf(),
        }
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Everything it has printed so far.
    pub fn output(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    pub fn exited(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("a child can be waited for")
    }

    /// SIGKILL, as a crash would.
    pub fn kill(&mut self) {
        // An error means that it has ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
        running().remove(&self.child.id());
    }

    /// Sends a signal by name, such as TERM.
    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill")
            .args([format!("-{name}"), self.id().to_string()])
            .status();
        assert!(
            sent.is_ok_and(|s| s.success()),
            "cannot signal {}",
            self.id()
        );
    }

    pub fn wait(&mut self, deadline: Duration) -> ExitStatus {
        let what = format!("process {} ends", self.id());
        wait_until(&what, deadline, || {
            self.exited().ok_or_else(|| "still running".to_owned())
        })
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// What a program that has ended left behind.
#[derive(Debug)]
pub struct Finished {
    pub status: ExitStatus,
    /// As text, and as it was.
    pub stdout: String,
    pub stdout_bytes: Vec<u8>,
    pub stderr: String,
}

impl Finished {
    /// Panics with all that was printed unless the status is 0.
    pub fn expect_success(self, what: &str) -> Finished {
        assert!(
            self.status.success(),
            "{what}: {}\n--- stdout\n{}\n--- stderr\n{}",
            self.status,
            self.stdout,
            self.stderr
        );
        self
    }
}

/// Runs a program to its end; it is killed when it takes longer than the deadline.
pub fn run_to_end(command: &mut Command, deadline: Duration) -> Finished {
    let mut stdout = tempfile::tempfile().expect("a temporary file");
    let mut stderr = tempfile::tempfile().expect("a temporary file");
    let mut started = running();
    let child = command
        .stdin(Stdio::null())
        .stdout(stdout.try_clone().expect("a handle"))
        .stderr(stderr.try_clone().expect("a handle"))
        .spawn()
        .unwrap_or_else(|error| panic!("{command:?} does not start: {error}"));
    started.insert(child.id());
    drop(started);
    let mut process = Process {
        child,
        log: PathBuf::new(),
    };
    let end = std::time::Instant::now() + deadline;
    let status = loop {
        if let Some(status) = process.exited() {
            break Some(status);
        }
        if std::time::Instant::now() > end {
            process.kill();
            break None;
        }
        std::thread::sleep(Duration::from_millis(10));
    };
    let stdout_bytes = read_all(&mut stdout);
    let stdout = String::from_utf8_lossy(&stdout_bytes).into_owned();
    let stderr = String::from_utf8_lossy(&read_all(&mut stderr)).into_owned();
    let Some(status) = status else {
        panic!(
            "{command:?} did not end within {deadline:?}\n--- stdout\n{stdout}\n--- stderr\n{stderr}"
        );
    };
    Finished {
        status,
        stdout,
        stdout_bytes,
        stderr,
    }
}

fn read_all(file: &mut File) -> Vec<u8> {
    let mut bytes = Vec::new();
    file.rewind().expect("a file can be rewound");
    file.read_to_end(&mut bytes).expect("a file can be read");
    bytes
}
