//! The client libraries of other languages, behind the one command line of `tests/tools/clients`.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde::Deserialize;
use tempfile::{NamedTempFile, TempDir};

use crate::environment::{java, node_modules, python};
use crate::kafka_tools::{JAVA_DRIVER, kafka_tool};
use crate::process::{Process, run_to_end};
use crate::record::{ReadRecord, TestRecord};
use crate::wait::wait_until;
use crate::workspace_root;

/// A driver's own patience for one command is 60 s.
const DEADLINE: Duration = Duration::from_secs(180);

/// A client library that runs in a process of its own.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Driver {
    Java,
    KafkaPython,
    Confluent,
    Aiokafka,
    KafkaJs,
}

/// What `seek` finds.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Deserialize)]
pub struct FoundOffset {
    pub topic: String,
    pub partition: i32,
    pub offset: i64,
}

/// What one of the two members of `pair` did.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
pub struct PairMember {
    pub member: i32,
    pub partitions: Vec<i32>,
    /// Partition and offset.
    pub records: Vec<(i32, i64)>,
}

/// What `static` saw.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
pub struct StaticMembers {
    /// The first member's, the second's, and the second's after its return.
    pub assignments: Vec<Vec<i32>>,
    /// How often the first member's assignment changed meanwhile.
    pub disturbed: i32,
}

/// A line that a driver prints.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(untagged)]
pub enum DriverLine {
    Record(ReadRecord),
    Found(FoundOffset),
    Member(PairMember),
    Static(StaticMembers),
    Ready { ready: String },
}

/// Commands for one process of a driver.
#[derive(Debug, Default)]
pub struct DriverScript {
    words: Vec<String>,
    files: Vec<NamedTempFile>,
}

impl DriverScript {
    pub fn new() -> Self {
        Self::default()
    }

    fn command(mut self, words: &[&str]) -> Self {
        if !self.words.is_empty() {
            self.words.push(",".to_owned());
        }
        self.words
            .extend(words.iter().map(|word| (*word).to_owned()));
        self
    }

    pub fn produce(mut self, topic: &str, codec: &str, records: &[TestRecord]) -> Self {
        use std::io::Write;
        let mut file = NamedTempFile::new().expect("a temporary file");
        for record in records {
            writeln!(file, "{}", record.to_line()).expect("a temporary file can be written");
        }
        let path = file.path().display().to_string();
        self.files.push(file);
        self.command(&["produce", topic, codec, &path])
    }

    pub fn consume(self, topic: &str, count: usize) -> Self {
        self.command(&["consume", topic, &count.to_string()])
    }

    pub fn group(self, topic: &str, count: usize, group: &str) -> Self {
        self.command(&["group", topic, &count.to_string(), group])
    }

    pub fn seek(self, topic: &str, timestamp: i64) -> Self {
        self.command(&["seek", topic, &timestamp.to_string()])
    }

    pub fn pair(self, topic: &str, count: usize, group: &str) -> Self {
        self.command(&["pair", topic, &count.to_string(), group])
    }

    pub fn static_members(self, topic: &str, group: &str) -> Self {
        self.command(&["static", topic, group])
    }
}

/// A driver under way: what it has printed so far can be waited for.
#[derive(Debug)]
pub struct RunningDriver {
    process: Process,
    // Both must live as long as the process.
    _folder: TempDir,
    _script: DriverScript,
}

impl RunningDriver {
    /// Waits for a line that the condition accepts.
    pub fn wait_for<T>(&mut self, what: &str, wanted: impl Fn(&DriverLine) -> Option<T>) -> T {
        wait_until(what, DEADLINE, || {
            let output = self.process.output();
            if let Some(found) = output
                .lines()
                .filter_map(line)
                .find_map(|line| wanted(&line))
            {
                return Ok(found);
            }
            if let Some(status) = self.process.exited() {
                panic!("{what}: the driver ended: {status}\n{output}");
            }
            Err(output)
        })
    }

    /// Waits for the end and returns all lines.
    pub fn finish(mut self) -> Vec<DriverLine> {
        let status = self.process.wait(DEADLINE);
        let output = self.process.output();
        assert!(status.success(), "{status}\n{output}");
        output.lines().filter_map(line).collect()
    }
}

/// Libraries may print lines of their own.
fn line(text: &str) -> Option<DriverLine> {
    serde_json::from_str(text).ok()
}

impl Driver {
    pub const ALL: [Driver; 5] = [
        Driver::Java,
        Driver::KafkaPython,
        Driver::Confluent,
        Driver::Aiokafka,
        Driver::KafkaJs,
    ];

    fn process(self, bootstrap: &str, script: &DriverScript) -> Command {
        let clients = workspace_root().join("tests/tools/clients");
        let python_client = |name: &str| {
            let mut command = python();
            command
                .env("PYTHONUNBUFFERED", "1")
                .arg(clients.join("driver.py"))
                .arg(name);
            command
        };
        let mut command = match self {
            Driver::Java => java(JAVA_DRIVER),
            Driver::KafkaPython => python_client("kafka-python"),
            Driver::Confluent => python_client("confluent"),
            Driver::Aiokafka => python_client("aiokafka"),
            Driver::KafkaJs => {
                let mut command = Command::new("node");
                command
                    .env("NODE_PATH", node_modules())
                    .arg(clients.join("driver.js"));
                command
            }
        };
        command.arg(bootstrap).args(&script.words);
        command
    }

    /// Runs the commands to their end.
    pub fn run(self, bootstrap: &str, script: &DriverScript) -> Vec<DriverLine> {
        let stdout = if self == Driver::Java {
            let words: Vec<&str> = [bootstrap]
                .into_iter()
                .chain(script.words.iter().map(String::as_str))
                .collect();
            kafka_tool(JAVA_DRIVER, &words)
                .expect_success("the Java driver")
                .stdout
        } else {
            run_to_end(&mut self.process(bootstrap, script), DEADLINE)
                .expect_success(&format!("{self:?} {:?}", script.words))
                .stdout
        };
        stdout.lines().filter_map(line).collect()
    }

    /// Starts the commands in a process of their own.
    pub fn spawn(self, bootstrap: &str, script: DriverScript) -> RunningDriver {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let log: &Path = &folder.path().join("driver.log");
        let process = Process::spawn(&mut self.process(bootstrap, &script), log);
        RunningDriver {
            process,
            _folder: folder,
            _script: script,
        }
    }
}
