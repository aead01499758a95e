//! Who is measured: Apache Kafka, Strandline, and the floor programs; each as one process in a folder of its own.

#![allow(clippy::disallowed_methods)] // It measures time.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use strandline_tests::{KafkaBroker, KafkaOptions, Process, free_port, wait_until};

use crate::floor::FloorMode;

pub const START_DEADLINE: Duration = Duration::from_secs(120);
const STOP_DEADLINE: Duration = Duration::from_secs(120);

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Contender {
    Kafka,
    Strandline,
    Floor,
}

impl Contender {
    pub const ALL: [Contender; 3] = [Contender::Kafka, Contender::Strandline, Contender::Floor];

    pub fn name(self) -> &'static str {
        match self {
            Contender::Kafka => "kafka",
            Contender::Strandline => "strandline",
            Contender::Floor => "floor",
        }
    }
}

/// The same lines of server.properties for both brokers: Kafka's quickstart, but for what says so.
pub const PROPERTIES: &str = "\
num.network.threads=3
num.io.threads=8
socket.send.buffer.bytes=102400
socket.receive.buffer.bytes=102400
socket.request.max.bytes=104857600
num.partitions=1
num.recovery.threads.per.data.dir=1
log.retention.hours=168
log.segment.bytes=1073741824
# Deleted topics leave the disk before the next row.
log.segment.delete.delay.ms=100
auto.create.topics.enable=false
group.initial.rebalance.delay.ms=0
";

/// Asks for Metadata of all topics in version 1, without any library, so that nothing but the broker is timed.
fn ask_metadata(port: u16) -> std::io::Result<()> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let client = b"bench";
    let mut request = vec![0, 3, 0, 1, 0, 0, 0, 7, 0, client.len() as u8];
    request.extend_from_slice(client);
    request.extend_from_slice(&(-1i32).to_be_bytes());
    stream.write_all(&(request.len() as u32).to_be_bytes())?;
    stream.write_all(&request)?;
    let mut head = [0; 8];
    stream.read_exact(&mut head)?;
    Ok(())
}

/// Formatted once, because that takes a JVM.
static FORMATTED: OnceLock<KafkaBroker> = OnceLock::new();

enum Program {
    Kafka(KafkaBroker),
    Strandline {
        binary: PathBuf,
        port: u16,
        folder: PathBuf,
        process: Option<Process>,
    },
}

/// A broker under test, with a folder of its own. Dropped, the process is killed and the folder removed.
pub struct Server {
    program: Program,
    folder: PathBuf,
    start_deadline: Duration,
}

/// How brokers are made.
#[derive(Clone, Debug)]
pub struct ServerOptions {
    pub strandline_binary: PathBuf,
    /// Further lines of server.properties, for every broker.
    pub properties: String,
    /// And for each alone.
    pub strandline_properties: String,
    pub kafka_properties: String,
    pub heap_mib: u32,
    /// Where folders are made.
    pub folder: PathBuf,
    pub start_deadline: Duration,
}

impl Server {
    /// Prepares a broker on an empty folder. Kafka's is formatted; nothing runs yet.
    pub fn prepare(contender: Contender, options: &ServerOptions) -> anyhow::Result<Server> {
        let folder = options.folder.join(contender.name());
        remove(&folder)?;
        std::fs::create_dir_all(&folder)?;
        let program = match contender {
            Contender::Kafka => {
                let kafka = KafkaOptions {
                    heap_mib: options.heap_mib,
                    properties: format!(
                        "{PROPERTIES}{}{}",
                        options.properties, options.kafka_properties
                    ),
                };
                let formatted = FORMATTED.get_or_init(|| {
                    KafkaBroker::format(&options.folder.join("formatted"), kafka.clone())
                });
                Program::Kafka(KafkaBroker::copy_of(formatted, &folder, kafka))
            }
            Contender::Strandline => {
                let port = free_port();
                let properties = format!(
                    "listeners=PLAINTEXT://127.0.0.1:{port}\nhttp.listener=127.0.0.1:{}\nlog.dirs={}\n{PROPERTIES}{}{}",
                    free_port(),
                    folder.join("data").display(),
                    options.properties,
                    options.strandline_properties
                );
                std::fs::write(folder.join("server.properties"), properties)?;
                Program::Strandline {
                    binary: options.strandline_binary.clone(),
                    port,
                    folder: folder.clone(),
                    process: None,
                }
            }
            Contender::Floor => bail!("the floor is no broker"),
        };
        Ok(Server {
            program,
            folder,
            start_deadline: options.start_deadline,
        })
    }

    /// Starts the process; returns how long it took until it answered Metadata.
    pub fn start(&mut self) -> anyhow::Result<Duration> {
        let begin = Instant::now();
        match &mut self.program {
            Program::Kafka(broker) => broker.start(),
            Program::Strandline {
                binary,
                folder,
                process,
                ..
            } => {
                let mut command = Command::new(binary);
                command
                    .current_dir(&folder)
                    .arg("start")
                    .arg("--config")
                    .arg(folder.join("server.properties"));
                *process = Some(Process::spawn(&mut command, &folder.join("broker.log")));
            }
        }
        let port = self.port();
        while ask_metadata(port).is_err() {
            ensure!(
                begin.elapsed() < self.start_deadline,
                "it does not start: {}",
                self.last_words()
            );
            if let Some(status) = self.process().exited() {
                bail!("it ended with {status}: {}", self.last_words());
            }
            std::thread::sleep(Duration::from_micros(500));
        }
        Ok(begin.elapsed())
    }

    fn process(&mut self) -> &mut Process {
        match &mut self.program {
            Program::Kafka(broker) => broker.process(),
            Program::Strandline { process, .. } => process.as_mut().expect("the broker is running"),
        }
    }

    pub fn pid(&mut self) -> u32 {
        self.process().id()
    }

    pub fn port(&self) -> u16 {
        match &self.program {
            Program::Kafka(broker) => broker.port(),
            Program::Strandline { port, .. } => *port,
        }
    }

    pub fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// The end of what it has printed.
    pub fn last_words(&self) -> String {
        let log = std::fs::read_to_string(self.folder.join("broker.log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(12)..].join("\n")
    }

    pub fn kill(&mut self) {
        match &mut self.program {
            Program::Kafka(broker) => broker.kill(),
            Program::Strandline { process, .. } => drop(process.take()),
        }
    }

    /// SIGTERM, and waits for the end.
    pub fn stop(&mut self) {
        match &mut self.program {
            Program::Kafka(broker) => broker.stop(),
            Program::Strandline { process, .. } => {
                let mut process = process.take().expect("the broker is running");
                process.signal("TERM");
                process.wait(STOP_DEADLINE);
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
        // What is left is removed when the next one is prepared.
        let _ = remove(&self.folder);
    }
}

pub fn remove(folder: &Path) -> anyhow::Result<()> {
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("removing {}", folder.display()))
        }
        _ => Ok(()),
    }
}

/// A floor program that runs. Dropped, it is killed and its file removed.
pub struct FloorServer {
    process: Process,
    file: PathBuf,
    pub port: u16,
}

impl FloorServer {
    pub fn start(mode: FloorMode, file_bytes: u64, folder: &Path) -> anyhow::Result<FloorServer> {
        let folder = folder.join("floor");
        remove(&folder)?;
        std::fs::create_dir_all(&folder)?;
        let file = folder.join("bytes");
        let log = folder.join("printed");
        let mut command = Command::new(std::env::current_exe()?);
        command
            .args(["floor", mode.name()])
            .arg(&file)
            .arg(file_bytes.to_string());
        let mut process = Process::spawn(&mut command, &log);
        let port = wait_until("the floor program says its port", START_DEADLINE, || {
            let mut line = String::new();
            let file = std::fs::File::open(&log).map_err(|error| error.to_string())?;
            BufReader::new(file)
                .read_line(&mut line)
                .map_err(|error| error.to_string())?;
            if let Some(status) = process.exited() {
                panic!("the floor program ended: {status} {line}");
            }
            let is_whole = line.ends_with('\n');
            line.trim()
                .parse()
                .ok()
                .filter(|_| is_whole)
                .ok_or_else(|| format!("it said {line:?}"))
        });
        Ok(FloorServer {
            process,
            file: folder,
            port,
        })
    }

    pub fn pid(&self) -> u32 {
        self.process.id()
    }
}

impl Drop for FloorServer {
    fn drop(&mut self) {
        self.process.kill();
        let _ = remove(&self.file);
    }
}
