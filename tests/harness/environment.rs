//! Where `tests/tools/install` has put things. Its variables come through the environment.

use std::path::PathBuf;
use std::process::Command;

/// A variable that `tests/run` sets.
pub fn require_env(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| {
        panic!("{name} is not set: run the tests with tests/run, or export what tests/tools/install prints")
    })
}

/// Java's class path: Kafka's jars and our driver.
pub fn kafka_classpath() -> String {
    format!(
        "{}:{}/*",
        require_env("TEST_STRANDLINE_JAVA_DRIVER"),
        require_env("TEST_STRANDLINE_KAFKA_LIBS")
    )
}

/// A Java program of Kafka's or ours, quiet, with a small heap.
pub fn java(class: &str) -> Command {
    let mut command = Command::new("java");
    command
        .args([
            "-Xmx256m",
            "-XX:+UseSerialGC",
            "-XX:TieredStopAtLevel=1",
            "-cp",
        ])
        .arg(kafka_classpath())
        .arg(class);
    command
}

/// A tool of Kafka's at full speed, as its start script runs it.
pub fn java_tool(class: &str) -> Command {
    let mut command = Command::new("java");
    command
        .args(["-Xmx512m", "-server", "-XX:+UseG1GC", "-cp"])
        .arg(kafka_classpath())
        .arg(class);
    command
}

/// The Python with the clients and readers.
pub fn python() -> Command {
    Command::new(require_env("TEST_STRANDLINE_PYTHON"))
}

pub fn node_modules() -> PathBuf {
    PathBuf::from(require_env("TEST_STRANDLINE_NODE_MODULES"))
}

pub fn minio_binary() -> PathBuf {
    PathBuf::from(require_env("TEST_STRANDLINE_MINIO"))
}
