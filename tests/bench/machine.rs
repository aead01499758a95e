//! The machine: what it is, and making it even for all contenders.

use std::fs::File;
use std::io::Write;
use std::process::Command;

use rustix::fs::{MemfdFlags, memfd_create};
use serde::Serialize;

/// What a report says of where it was made.
#[derive(Clone, Debug, Serialize)]
pub struct Machine {
    pub processor: String,
    pub processors: usize,
    pub memory_mib: u64,
    pub kernel: String,
    pub file_system: String,
    pub date: String,
    pub kafka: String,
    pub java: String,
    pub rust: String,
    pub commit: String,
}

/// What a command says, in one line.
fn said(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    let output = output.map_or_else(
        |error| error.to_string(),
        |output| {
            let said = if output.stdout.is_empty() {
                output.stderr
            } else {
                output.stdout
            };
            String::from_utf8_lossy(&said).into_owned()
        },
    );
    output.lines().next().unwrap_or_default().trim().to_owned()
}

fn line_of(file: &str, name: &str) -> Option<String> {
    let text = std::fs::read_to_string(file).ok()?;
    let line = text.lines().find(|line| line.starts_with(name))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

fn memory_mib(name: &str) -> u64 {
    line_of("/proc/meminfo", name)
        .and_then(|value| value.trim_end_matches(" kB").trim().parse::<u64>().ok())
        .unwrap_or(0)
        >> 10
}

pub fn machine(folder: &std::path::Path) -> Machine {
    let checkout = strandline_tests::workspace_root();
    let checkout = checkout.to_string_lossy();
    let libs = std::env::var("TEST_STRANDLINE_KAFKA_LIBS").unwrap_or_default();
    let kafka = std::fs::read_dir(libs)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .find_map(|name| {
            let version = name.strip_prefix("kafka-clients-")?.strip_suffix(".jar")?;
            Some(version.to_owned())
        });
    Machine {
        processor: line_of("/proc/cpuinfo", "model name").unwrap_or_default(),
        processors: std::thread::available_parallelism().map_or(0, |count| count.get()),
        memory_mib: memory_mib("MemTotal"),
        kernel: said("uname", &["-sr"]),
        file_system: said("stat", &["-f", "-c", "%T", &folder.to_string_lossy()]),
        date: said("date", &["-u", "+%Y-%m-%d %H:%M UTC"]),
        kafka: kafka.unwrap_or_else(|| "not installed".to_owned()),
        java: said("java", &["-version"]),
        rust: said("rustc", &["--version"]),
        commit: said("git", &["-C", &checkout, "describe", "--always", "--dirty"]),
    }
}

/// Writes to all memory that is free, but for a gigabyte, and gives it back. The first write to memory that a virtual
/// machine has never used is dear, and without this the first contender would pay for the second.
pub fn touch_memory() -> anyhow::Result<u64> {
    const LEFT_MIB: u64 = 1024;
    let touched_mib = memory_mib("MemFree").saturating_sub(LEFT_MIB);
    let mut file = File::from(memfd_create("touch", MemfdFlags::CLOEXEC)?);
    let chunk = vec![0u8; 1 << 20];
    for _ in 0..touched_mib {
        file.write_all(&chunk)?;
    }
    Ok(touched_mib)
}
