//! A real MinIO on loopback.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use crate::environment::{minio_binary, python};
use crate::http::http_get;
use crate::ports::free_port;
use crate::process::{Process, run_to_end};
use crate::wait::wait_until;

const START_DEADLINE: Duration = Duration::from_secs(60);
const USER: &str = "strandline";
const PASSWORD: &str = "strandline-secret";

/// A server that keeps its folder and port over restarts.
#[derive(Debug)]
pub struct Minio {
    folder: TempDir,
    port: u16,
    process: Option<Process>,
}

impl Minio {
    pub fn start() -> Minio {
        let mut minio = Minio {
            folder: tempfile::tempdir().expect("a temporary folder"),
            port: free_port(),
            process: None,
        };
        minio.restart();
        minio
    }

    pub fn restart(&mut self) {
        assert!(self.process.is_none(), "MinIO is running");
        let mut command = Command::new(minio_binary());
        command
            .arg("server")
            .arg(self.data())
            .args(["--address", &format!("127.0.0.1:{}", self.port)])
            .args(["--quiet"])
            .env("MINIO_ROOT_USER", USER)
            .env("MINIO_ROOT_PASSWORD", PASSWORD)
            .env("MINIO_BROWSER", "off")
            .env("MINIO_UPDATE", "off");
        self.process = Some(Process::spawn(
            &mut command,
            &self.folder.path().join("minio.log"),
        ));
        wait_until("MinIO is ready", START_DEADLINE, || {
            match http_get(self.port, "/minio/health/ready") {
                Ok((200, _)) => Ok(()),
                other => Err(format!("{other:?}")),
            }
        });
    }

    fn data(&self) -> std::path::PathBuf {
        self.folder.path().join("data")
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        drop(self.process.take());
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// AWS's variables for this server.
    pub fn environment(&self) -> Vec<(String, String)> {
        [
            ("AWS_ACCESS_KEY_ID", USER),
            ("AWS_SECRET_ACCESS_KEY", PASSWORD),
            ("AWS_REGION", "us-east-1"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .to_vec()
    }

    /// The configs that point a broker's tier at a bucket here.
    pub fn configs(&self, bucket: &str) -> Vec<String> {
        vec![
            format!("remote.storage.url=s3://{bucket}/strandline"),
            format!("remote.storage.s3.endpoint={}", self.endpoint()),
        ]
    }

    /// Runs a piece of Python with boto3's client for this server as `s3`, an outside witness of what is stored.
    pub fn boto3(&self, script: &str) -> String {
        let program = format!(
            "import boto3, json\ns3 = boto3.client('s3', endpoint_url='{}')\n{script}",
            self.endpoint()
        );
        let mut command = python();
        command.args(["-c", &program]).envs(self.environment());
        run_to_end(&mut command, Duration::from_secs(60))
            .expect_success("boto3")
            .stdout
    }

    pub fn create_bucket(&self, bucket: &str) {
        self.boto3(&format!("s3.create_bucket(Bucket='{bucket}')"));
    }

    /// MinIO's own folder, to damage objects in.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }
}
