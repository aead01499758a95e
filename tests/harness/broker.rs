//! A broker process of the finished binary.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use crate::http::http_get;
use crate::ports::free_port;
use crate::process::Process;
use crate::strandline_binary;
use crate::wait::wait_until;

const START_DEADLINE: Duration = Duration::from_secs(60);
const STOP_DEADLINE: Duration = Duration::from_secs(60);

/// What a broker is started with, beside its ports and folders.
#[derive(Clone, Debug, Default)]
pub struct BrokerOptions {
    /// `key=value`, as for -o.
    pub configs: Vec<String>,
    /// Environment variables.
    pub environment: Vec<(String, String)>,
    /// The soft and the hard limit of open files that it is started with.
    pub open_files: Option<(u64, u64)>,
}

impl BrokerOptions {
    pub fn with(configs: &[&str]) -> Self {
        Self {
            configs: configs.iter().map(|config| (*config).to_owned()).collect(),
            ..Self::default()
        }
    }
}

/// A broker that keeps its folder and its ports over restarts.
#[derive(Debug)]
pub struct Broker {
    options: BrokerOptions,
    folder: TempDir,
    port: u16,
    http_port: u16,
    process: Option<Process>,
}

impl Broker {
    /// Starts a broker in a fresh folder and waits until it is ready.
    pub fn start(options: BrokerOptions) -> Broker {
        let mut broker = Broker {
            options,
            folder: tempfile::tempdir().expect("a temporary folder"),
            port: free_port(),
            http_port: free_port(),
            process: None,
        };
        broker.restart();
        broker
    }

    /// Starts the process again on the same folder and ports, after `kill` or `stop`.
    pub fn restart(&mut self) {
        assert!(self.process.is_none(), "the broker is running");
        let mut command = self.command();
        self.process = Some(Process::spawn(&mut command, &self.log()));
        let http_port = self.http_port;
        let log = self.log();
        let process = self.process.as_mut();
        let process = process.expect("just started");
        wait_until("the broker is ready", START_DEADLINE, || {
            if let Some(status) = process.exited() {
                panic!("the broker ended: {status}\n{}", process.output());
            }
            match http_get(http_port, "/readyz") {
                Ok((200, _)) => Ok(()),
                Ok((status, body)) => Err(format!("{status} {body}")),
                Err(error) => Err(format!("{error}; log: {}", log.display())),
            }
        });
    }

    /// The command that `restart` runs.
    pub fn command(&self) -> Command {
        let mut command = match self.options.open_files {
            // It becomes the broker: the process id stays.
            Some((soft, hard)) => {
                let mut command = Command::new("prlimit");
                command
                    .arg(format!("--nofile={soft}:{hard}"))
                    .arg(strandline_binary());
                command
            }
            None => Command::new(strandline_binary()),
        };
        command
            .arg("start")
            .args([
                "-o",
                &format!("listeners=PLAINTEXT://127.0.0.1:{}", self.port),
            ])
            .args(["-o", &format!("http.listener=127.0.0.1:{}", self.http_port)])
            .args(["-o", &format!("log.dirs={}", self.data().display())]);
        for config in &self.options.configs {
            command.args(["-o", config]);
        }
        for (name, value) in &self.options.environment {
            command.env(name, value);
        }
        command
    }

    pub fn bootstrap(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn http_port(&self) -> u16 {
        self.http_port
    }

    /// A folder of this broker's that is no log folder; tests may put files there.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The log folder.
    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// What all runs of this broker have printed.
    pub fn log(&self) -> PathBuf {
        self.folder.path().join("broker.log")
    }

    pub fn pid(&self) -> u32 {
        self.process.as_ref().expect("the broker is running").id()
    }

    /// Changes what the next start is given.
    pub fn set_options(&mut self, options: BrokerOptions) {
        self.options = options;
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        drop(self.process.take());
    }

    /// SIGTERM, and waits for a clean end.
    pub fn stop(&mut self) {
        let mut process = self.process.take().expect("the broker is running");
        process.signal("TERM");
        let status = process.wait(STOP_DEADLINE);
        assert!(status.success(), "{status}\n{}", process.output());
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        if std::thread::panicking()
            && let Ok(log) = std::fs::read_to_string(self.log())
        {
            let tail: Vec<&str> = log.lines().rev().take(60).collect();
            eprintln!("--- the broker's last lines");
            for line in tail.iter().rev() {
                eprintln!("{line}");
            }
        }
    }
}
