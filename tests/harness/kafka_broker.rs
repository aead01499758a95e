//! Apache Kafka as a process: one broker that is its own controller, formatted and started as its quickstart does it.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::environment::{java, kafka_classpath};
use crate::ports::free_port;
use crate::process::{Process, run_to_end};

const FORMAT_DEADLINE: Duration = Duration::from_secs(60);
const STOP_DEADLINE: Duration = Duration::from_secs(120);
/// Any will do; one cluster per folder.
const CLUSTER_ID: &str = "MkU3OEVBNTcwNTJENDM2Qk";

/// What a Kafka broker is started with, beside its ports and folders.
#[derive(Clone, Debug)]
pub struct KafkaOptions {
    /// -Xms and -Xmx.
    pub heap_mib: u32,
    /// Lines of server.properties.
    pub properties: String,
}

/// A Kafka broker that keeps its folder and its ports over restarts. Dropped, it is killed; the folder is its caller's.
#[derive(Debug)]
pub struct KafkaBroker {
    options: KafkaOptions,
    folder: PathBuf,
    port: u16,
    controller_port: u16,
    process: Option<Process>,
}

impl KafkaBroker {
    /// Formats `folder`, which must not hold another cluster, and starts nothing.
    pub fn format(folder: &Path, options: KafkaOptions) -> KafkaBroker {
        let broker = Self::at(folder, options);
        let mut command = java("kafka.tools.StorageTool");
        command
            .args(["format", "-t", CLUSTER_ID, "-c"])
            .arg(broker.properties());
        run_to_end(&mut command, FORMAT_DEADLINE).expect_success("formatting Kafka's folder");
        broker
    }

    /// As `format`, with the files of a broker that was formatted and never started: that costs no JVM.
    pub fn copy_of(formatted: &KafkaBroker, folder: &Path, options: KafkaOptions) -> KafkaBroker {
        let broker = Self::at(folder, options);
        std::fs::create_dir_all(broker.data()).expect("a folder can be made");
        for file in std::fs::read_dir(formatted.data()).expect("it is formatted") {
            let file = file.expect("a folder can be read");
            std::fs::copy(file.path(), broker.data().join(file.file_name()))
                .expect("a file can be copied");
        }
        broker
    }

    fn at(folder: &Path, options: KafkaOptions) -> KafkaBroker {
        let broker = KafkaBroker {
            options,
            folder: folder.to_path_buf(),
            port: free_port(),
            controller_port: free_port(),
            process: None,
        };
        std::fs::create_dir_all(folder).expect("a folder can be made");
        broker.write_properties();
        broker
    }

    fn properties(&self) -> PathBuf {
        self.folder.join("server.properties")
    }

    fn write_properties(&self) {
        let properties = format!(
            "process.roles=broker,controller\n\
             node.id=1\n\
             controller.quorum.voters=1@127.0.0.1:{controller}\n\
             listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}\n\
             advertised.listeners=PLAINTEXT://127.0.0.1:{port}\n\
             inter.broker.listener.name=PLAINTEXT\n\
             controller.listener.names=CONTROLLER\n\
             listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT\n\
             offsets.topic.replication.factor=1\n\
             transaction.state.log.replication.factor=1\n\
             transaction.state.log.min.isr=1\n\
             share.coordinator.state.topic.replication.factor=1\n\
             share.coordinator.state.topic.min.isr=1\n\
             log.dirs={data}\n\
             {more}",
            controller = self.controller_port,
            port = self.port,
            data = self.data().display(),
            more = self.options.properties,
        );
        std::fs::write(self.properties(), properties).expect("a file can be written");
    }

    /// The command that `start` runs: the flags of Kafka's own start script.
    pub fn command(&self) -> Command {
        let mut command = Command::new("java");
        command
            .arg(format!("-Xms{}m", self.options.heap_mib))
            .arg(format!("-Xmx{}m", self.options.heap_mib))
            .args([
                "-server",
                "-XX:+UseG1GC",
                "-XX:MaxGCPauseMillis=20",
                "-XX:InitiatingHeapOccupancyPercent=35",
                "-XX:+ExplicitGCInvokesConcurrent",
                "-Djava.awt.headless=true",
                "-cp",
            ])
            .arg(kafka_classpath())
            .arg("kafka.Kafka")
            .arg(self.properties());
        command
    }

    /// Starts the process and waits for nothing.
    pub fn start(&mut self) {
        assert!(self.process.is_none(), "the broker is running");
        self.write_properties();
        self.process = Some(Process::spawn(&mut self.command(), &self.log()));
    }

    pub fn process(&mut self) -> &mut Process {
        self.process.as_mut().expect("the broker is running")
    }

    pub fn is_running(&self) -> bool {
        self.process.is_some()
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// The log folder.
    pub fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// What all runs of this broker have printed.
    pub fn log(&self) -> PathBuf {
        self.folder.join("broker.log")
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        drop(self.process.take());
    }

    /// SIGTERM, and waits for the end.
    pub fn stop(&mut self) {
        let mut process = self.process.take().expect("the broker is running");
        process.signal("TERM");
        // A JVM that ends by SIGTERM says 143.
        process.wait(STOP_DEADLINE);
    }
}
