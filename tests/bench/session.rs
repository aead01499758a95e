//! One contender in one round: its broker, and what rows measure on it.

#![allow(clippy::disallowed_methods)] // A driver reads the clock.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::Context;
use strandline_log::TopicId;
use strandline_log::record::Compression;
use strandline_tests::{Process, now_ms};

use crate::cluster::Cluster;
use crate::contender::{Contender, FloorServer, Server, ServerOptions};
use crate::floor::FloorMode;
use crate::load::{Answers, Fetch, Load, Outcome, Pace, Replay, Shape, produce_frames, run_loads};
use crate::usage::{machine_cpu, reset_peak, usage_of};

/// What all rows know.
#[derive(Clone, Debug)]
pub struct Settings {
    pub server: ServerOptions,
    pub quick: bool,
    /// A shell command that runs beside each measured part, with {pid}, {row} and {contender} replaced.
    pub attach: Option<String>,
    /// Where reports and what `attach` writes go.
    pub output: PathBuf,
}

impl Settings {
    pub fn pick<T>(&self, quick: T, full: T) -> T {
        if self.quick { quick } else { full }
    }
}

/// A piece of work and what its broker spent on it.
#[derive(Clone, Debug)]
pub struct Measured<T> {
    pub value: T,
    pub cpu: Duration,
    pub peak_bytes: u64,
    pub disk_read_bytes: u64,
    /// Of the whole machine.
    pub idle_percent: f64,
}

impl<T> Measured<T> {
    pub fn cpu_per_gib(&self, bytes: u64) -> f64 {
        self.cpu.as_secs_f64() / (bytes as f64 / (1u64 << 30) as f64)
    }

    pub fn cpu_us_per(&self, count: u64) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / count as f64
    }

    pub fn peak_mib(&self) -> f64 {
        self.peak_bytes as f64 / f64::from(1 << 20)
    }
}

/// A topic with one partition of 1 KB records, all of it in the page cache.
#[derive(Clone, Copy, Debug)]
pub struct HotTopic {
    pub id: TopicId,
    pub end: i64,
}

pub const HOT_TOPIC: &str = "hot";

/// A topic larger than other rows write, over some partitions.
#[derive(Clone, Debug)]
pub struct HistoryTopic {
    pub id: TopicId,
    pub ends: Vec<i64>,
}

pub const HISTORY_TOPIC: &str = "history";
pub const HISTORY_BYTES: u64 = 5 << 30;
const HISTORY_PARTITIONS: i32 = 8;

pub struct Session<'a> {
    pub contender: Contender,
    pub settings: &'a Settings,
    /// The row that runs, for `attach`.
    pub row: &'static str,
    server: Option<Server>,
    cluster: Option<Cluster>,
    hot: Option<HotTopic>,
    history: Option<HistoryTopic>,
    /// The largest peak of all rows of this round.
    pub peak_bytes_max: u64,
}

impl<'a> Session<'a> {
    pub fn new(contender: Contender, settings: &'a Settings) -> Session<'a> {
        Session {
            contender,
            settings,
            row: "",
            server: None,
            cluster: None,
            hot: None,
            history: None,
            peak_bytes_max: 0,
        }
    }

    /// Throws the broker and its data away; the next row begins with a fresh one.
    pub fn discard(&mut self) {
        self.cluster = None;
        self.hot = None;
        self.history = None;
        self.server = None;
        rustix::fs::sync();
    }

    /// The end of the broker's log, for a row that failed.
    pub fn last_words(&self) -> String {
        self.server
            .as_ref()
            .map(Server::last_words)
            .unwrap_or_default()
    }

    /// A fresh broker on an empty folder; returns how long it took to answer.
    pub fn start_fresh(&mut self) -> anyhow::Result<Duration> {
        self.start_fresh_with(&self.settings.server.clone())
    }

    pub fn start_fresh_with(&mut self, options: &ServerOptions) -> anyhow::Result<Duration> {
        self.discard();
        let mut server = Server::prepare(self.contender, options)?;
        rustix::fs::sync();
        let took = server.start()?;
        self.cluster = Some(Cluster::new(server.port())?);
        self.server = Some(server);
        Ok(took)
    }

    /// Starts a stopped or killed broker again on its folder.
    pub fn start_again(&mut self) -> anyhow::Result<Duration> {
        let server = self.server.as_mut().context("there is no broker")?;
        let took = server.start()?;
        self.cluster = Some(Cluster::new(server.port())?);
        Ok(took)
    }

    pub fn server(&mut self) -> anyhow::Result<&mut Server> {
        self.server.as_mut().context("there is no broker")
    }

    /// A broker that runs and is warm. Rows share it as long as none fails.
    pub fn ensure_warm(&mut self) -> anyhow::Result<()> {
        if self.server.is_none() {
            self.start_fresh()?;
        }
        if self.hot.is_none() {
            self.warm_up()?;
            self.hot = Some(self.fill_hot_topic()?);
        }
        Ok(())
    }

    pub fn hot_topic(&mut self) -> anyhow::Result<HotTopic> {
        self.ensure_warm()?;
        self.hot.context("it was just filled")
    }

    pub fn history_topic(&mut self) -> anyhow::Result<HistoryTopic> {
        self.ensure_warm()?;
        if self.history.is_none() {
            let partitions = HISTORY_PARTITIONS;
            let id = self
                .cluster()?
                .create_topic(HISTORY_TOPIC, partitions, &[])?;
            self.fill(id, partitions, HISTORY_BYTES)?;
            let ends = self
                .cluster()?
                .wait_until_served(HISTORY_TOPIC, partitions)?;
            self.history = Some(HistoryTopic { id, ends });
        }
        self.history.clone().context("it was just filled")
    }

    pub fn cluster(&self) -> anyhow::Result<&Cluster> {
        self.cluster.as_ref().context("there is no broker")
    }

    pub fn port(&self) -> anyhow::Result<u16> {
        Ok(self.server.as_ref().context("there is no broker")?.port())
    }

    pub fn bootstrap(&self) -> anyhow::Result<String> {
        Ok(format!("127.0.0.1:{}", self.port()?))
    }

    pub fn pid(&mut self) -> anyhow::Result<u32> {
        Ok(self.server()?.pid())
    }

    /// Large and small requests, so that a JVM has compiled what it will run.
    fn warm_up(&mut self) -> anyhow::Result<()> {
        const TOPIC: &str = "warm";
        let id = self.cluster()?.create_topic(TOPIC, 1, &[])?;
        let port = self.port()?;
        let replay = |shape, requests, connections| Load {
            replay: Some(Replay {
                frames: produce_frames(id, 1, 16, shape, -1, now_ms()).into(),
                connections,
                in_flight: 2,
                pace: Pace::Closed { requests },
                answers: Answers::Produce,
            }),
            ..Load::default()
        };
        let large = self.settings.pick(16_000, 32_000);
        let small = self.settings.pick(40_000, 100_000);
        run_loads(port, vec![replay(Shape::KILOBYTE, large, 8)])?;
        run_loads(port, vec![replay(Shape::ONE_RECORD, small, 16)])?;
        let end = self.cluster()?.wait_until_served(TOPIC, 1)?[0];
        let reader = Fetch::new(id, &[(0, 0, Some(end))], 1);
        run_loads(
            port,
            vec![Load {
                fetches: vec![reader.clone(), reader],
                ..Load::default()
            }],
        )?;
        self.delete_topic(TOPIC)
    }

    fn fill_hot_topic(&mut self) -> anyhow::Result<HotTopic> {
        let id = self.cluster()?.create_topic(HOT_TOPIC, 1, &[])?;
        let bytes = self.settings.pick(256u64 << 20, 1 << 30);
        self.fill(id, 1, bytes)?;
        let end = self.cluster()?.wait_until_served(HOT_TOPIC, 1)?[0];
        Ok(HotTopic { id, end })
    }

    /// Writes 1 KB records into a topic, unmeasured.
    pub fn fill(&mut self, id: TopicId, partitions: i32, bytes: u64) -> anyhow::Result<Outcome> {
        let frames = produce_frames(id, partitions, 16, Shape::KILOBYTE, -1, now_ms());
        let requests = bytes / frames[0].batch_bytes;
        let load = Load {
            replay: Some(Replay {
                frames: frames.into(),
                connections: 4,
                in_flight: 2,
                pace: Pace::Closed { requests },
                answers: Answers::Produce,
            }),
            ..Load::default()
        };
        run_loads(self.port()?, vec![load])
    }

    pub fn delete_topic(&self, name: &str) -> anyhow::Result<()> {
        let server = self.server.as_ref().context("there is no broker")?;
        self.cluster()?.delete_topic(name, &server.data())
    }

    /// Runs `work` on a quiet disk and says what the broker spent on it.
    pub fn measure<T>(
        &mut self,
        work: impl FnOnce() -> anyhow::Result<T>,
    ) -> anyhow::Result<Measured<T>> {
        let pid = self.pid()?;
        self.measure_process(pid, work)
    }

    pub fn measure_process<T>(
        &mut self,
        pid: u32,
        work: impl FnOnce() -> anyhow::Result<T>,
    ) -> anyhow::Result<Measured<T>> {
        rustix::fs::sync();
        reset_peak(pid)?;
        let attached = self.attach(pid);
        let before = usage_of(pid)?;
        let machine = machine_cpu()?;
        let value = work()?;
        let after = usage_of(pid)?;
        let idle_percent = machine_cpu()?.idle_percent_since(machine);
        if let Some(mut attached) = attached {
            attached.signal("INT");
            attached.wait(Duration::from_secs(30));
        }
        self.peak_bytes_max = self.peak_bytes_max.max(after.peak_bytes);
        Ok(Measured {
            value,
            cpu: after.cpu_since(&before),
            peak_bytes: after.peak_bytes,
            disk_read_bytes: after.disk_read_bytes - before.disk_read_bytes,
            idle_percent,
        })
    }

    fn attach(&self, pid: u32) -> Option<Process> {
        let command = self
            .settings
            .attach
            .as_ref()?
            .replace("{pid}", &pid.to_string())
            .replace("{row}", self.row)
            .replace("{contender}", self.contender.name());
        let log = self.settings.output.join("attached.log");
        // exec: a signal must reach the command, not the shell.
        Some(Process::spawn(
            Command::new("sh")
                .current_dir(&self.settings.output)
                .arg("-c")
                .arg(format!("exec {command}")),
            &log,
        ))
    }

    /// Runs a load against a floor program and says what that spent on it.
    pub fn measure_floor(
        &mut self,
        mode: FloorMode,
        file_bytes: u64,
        warm_up: Vec<Load>,
        loads: Vec<Load>,
    ) -> anyhow::Result<Measured<Outcome>> {
        let floor = FloorServer::start(mode, file_bytes, &self.settings.server.folder)?;
        run_loads(floor.port, warm_up)?;
        self.measure_process(floor.pid(), || run_loads(floor.port, loads))
    }
}

/// No compression but for the rows that are about it.
pub fn shape(record_bytes: usize, compression: Compression) -> Shape {
    Shape {
        record_bytes,
        compression,
        ..Shape::KILOBYTE
    }
}
