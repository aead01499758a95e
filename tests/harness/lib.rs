//! What the tests stand on: the finished binary as a process, real MinIO, Kafka's tools, and clients of many languages.
//!
//! Everything binds to loopback, lives in a temporary folder and ends with its owner. Nothing sleeps for luck:
//! [`wait_until`] waits for a condition, with a deadline.

mod broker;
mod clock;
mod drivers;
mod environment;
mod exposition;
mod fault_proxy;
mod http;
mod kafka_broker;
mod kafka_tools;
mod minio;
mod pattern;
mod ports;
mod proc;
mod process;
mod record;
mod recorder;
mod small_disk;
mod tiered;
mod wait;

pub use broker::{Broker, BrokerOptions};
pub use clock::{now_ms, timed};
pub use drivers::{
    Driver, DriverLine, DriverScript, FoundOffset, PairMember, RunningDriver, StaticMembers,
};
pub use environment::{
    java, java_tool, kafka_classpath, minio_binary, node_modules, python, require_env,
};
pub use exposition::{Exposition, Family, Sample};
pub use fault_proxy::{FaultProxy, Faults};
pub use http::{http_get, metric};
pub use kafka_broker::{KafkaBroker, KafkaOptions};
pub use kafka_tools::{ToolOutput, kafka_tool};
pub use minio::Minio;
pub use pattern::Pattern;
pub use ports::free_port;
pub use proc::{cpu_seconds, memory_bytes, open_files, voluntary_switches};
pub use process::{Finished, Process, kill_all, run_to_end};
pub use record::{ReadRecord, TestHeader, TestRecord};
pub use recorder::{RecordedConnection, Recorder};
pub use small_disk::SmallDisk;
pub use tiered::{local_segments, wait_until_tiered};
pub use wait::wait_until;

use std::path::PathBuf;

/// The finished binary, built beside the tests.
pub fn strandline_binary() -> PathBuf {
    let program = std::env::current_exe().expect("a program has a path");
    let folder = program.parent().expect("a program lies in a folder");
    // Tests run from target/PROFILE/deps, the benchmark from target/PROFILE.
    let folder = match folder.file_name() {
        Some(name) if name == "deps" => folder.parent().expect("deps lies in a folder"),
        _ => folder,
    };
    let binary = folder.join("strandline");
    assert!(
        binary.exists(),
        "{} is missing: build it first with `cargo build --release`",
        binary.display()
    );
    binary
}

/// The checkout's root.
pub fn workspace_root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the package lies in the workspace")
        .to_path_buf()
}
