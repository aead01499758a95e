//! Kafka's tools and our Java driver, all in one JVM that lives as long as the test run, because starting one takes seconds.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::sync::{LazyLock, Mutex, PoisonError};

use serde::Deserialize;

use crate::environment::java;

/// The class of our driver of the Java clients.
pub const JAVA_DRIVER: &str = "Driver";

/// What a tool printed before it ended.
#[derive(Debug, Deserialize)]
pub struct ToolOutput {
    pub status: i32,
    pub stdout: String,
    pub stderr: String,
}

impl ToolOutput {
    /// Panics with all that was printed unless the status is 0.
    pub fn expect_success(self, what: &str) -> ToolOutput {
        assert_eq!(
            self.status, 0,
            "{what}\n--- stdout\n{}\n--- stderr\n{}",
            self.stdout, self.stderr
        );
        self
    }
}

struct Jvm {
    child: Child,
    commands: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Jvm {
    fn start() -> Jvm {
        let mut child = java("KafkaTools")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("java starts");
        let commands = child.stdin.take().expect("a pipe was asked for");
        let answers = child.stdout.take().expect("a pipe was asked for");
        Jvm {
            child,
            commands,
            answers: BufReader::new(answers),
        }
    }

    fn run(&mut self, command: &str) -> Option<String> {
        writeln!(self.commands, "{command}").ok()?;
        self.commands.flush().ok()?;
        let mut answer = String::new();
        let read = self.answers.read_line(&mut answer).ok()?;
        (read > 0).then_some(answer)
    }
}

/// It ends by itself when this process and with it the pipe is gone.
static JVM: LazyLock<Mutex<Jvm>> = LazyLock::new(|| Mutex::new(Jvm::start()));

/// Runs a Java class's `main`, one at a time.
pub fn kafka_tool(class: &str, arguments: &[&str]) -> ToolOutput {
    let words: Vec<&str> = [class]
        .into_iter()
        .chain(arguments.iter().copied())
        .collect();
    let command = serde_json::to_string(&words).expect("words are JSON");
    // A test that panicked left no half-read answer: the lock is held for one whole exchange that does not panic.
    let mut jvm = JVM.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(answer) = jvm.run(&command) else {
        let status = jvm.child.wait();
        panic!("the JVM ended at {command}: {status:?}");
    };
    serde_json::from_str(&answer).unwrap_or_else(|error| panic!("{error} in {answer}"))
}
