//! What one process and the machine have used, from /proc.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Context;

/// Of one process, since it began.
#[derive(Clone, Debug, Default)]
pub struct Usage {
    /// In user and system mode, of all its threads that ever were, in ticks of 10 ms.
    ticks: Duration,
    /// Of each thread that is there, in nanoseconds.
    threads: BTreeMap<String, u64>,
    /// Bytes that were really read from disk for it.
    pub disk_read_bytes: u64,
    /// The largest resident size since `reset_peak`.
    pub peak_bytes: u64,
    pub resident_bytes: u64,
}

impl Usage {
    /// CPU time since it began.
    pub fn cpu(&self) -> Duration {
        self.ticks
    }

    /// CPU time since `begin`. The threads' own clocks are finer than ticks, but those of threads that ended meanwhile are
    /// lost; then ticks count.
    pub fn cpu_since(&self, begin: &Usage) -> Duration {
        const TICKS_ERROR: Duration = Duration::from_millis(20);
        let ticks = self.ticks - begin.ticks;
        let ns = self.threads.iter().map(|(thread, now)| {
            let before = begin.threads.get(thread).copied().unwrap_or(0);
            now.saturating_sub(before)
        });
        let fine = Duration::from_nanos(ns.sum());
        if fine.abs_diff(ticks) <= TICKS_ERROR {
            fine
        } else {
            ticks
        }
    }
}

fn field(text: &str, name: &str) -> Option<u64> {
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    line.split_whitespace().next()?.parse().ok()
}

pub fn usage_of(pid: u32) -> anyhow::Result<Usage> {
    let read = |file: &str| {
        std::fs::read_to_string(format!("/proc/{pid}/{file}"))
            .with_context(|| format!("/proc/{pid}/{file}"))
    };
    let stat = read("stat")?;
    // The name is in parentheses and may hold spaces; utime and stime are fields 14 and 15.
    let (_, rest) = stat
        .rsplit_once(')')
        .context("/proc/PID/stat has no name")?;
    let ticks: Vec<u64> = rest
        .split_whitespace()
        .skip(11)
        .take(2)
        .map(str::parse)
        .collect::<Result<_, _>>()?;
    let per_second = rustix::param::clock_ticks_per_second();
    let ticks = Duration::from_secs_f64(ticks.iter().sum::<u64>() as f64 / per_second as f64);
    let status = read("status")?;
    let kib =
        |name| field(&status, name).with_context(|| format!("no {name} in /proc/{pid}/status"));
    Ok(Usage {
        ticks,
        threads: threads_of(pid)?,
        disk_read_bytes: field(&read("io")?, "read_bytes").context("no read_bytes")?,
        peak_bytes: kib("VmHWM")? << 10,
        resident_bytes: kib("VmRSS")? << 10,
    })
}

/// The first field of each thread's schedstat.
fn threads_of(pid: u32) -> anyhow::Result<BTreeMap<String, u64>> {
    let mut threads = BTreeMap::new();
    for task in std::fs::read_dir(format!("/proc/{pid}/task"))? {
        let task = task?;
        // One that ends just now is gone.
        let Ok(text) = std::fs::read_to_string(task.path().join("schedstat")) else {
            continue;
        };
        if let Some(ns) = text
            .split_whitespace()
            .next()
            .and_then(|ns| ns.parse().ok())
        {
            threads.insert(task.file_name().to_string_lossy().into_owned(), ns);
        }
    }
    Ok(threads)
}

/// Makes the peak start again from what is resident now.
pub fn reset_peak(pid: u32) -> anyhow::Result<()> {
    std::fs::write(format!("/proc/{pid}/clear_refs"), "5").context("resetting the peak of memory")
}

/// The machine's CPU time since boot, in ticks.
#[derive(Clone, Copy, Debug)]
pub struct MachineCpu {
    idle: u64,
    all: u64,
}

pub fn machine_cpu() -> anyhow::Result<MachineCpu> {
    let stat = std::fs::read_to_string("/proc/stat")?;
    let line = stat.lines().next().context("/proc/stat is empty")?;
    let ticks: Vec<u64> = line
        .split_whitespace()
        .skip(1)
        .filter_map(|field| field.parse().ok())
        .collect();
    // user nice system idle iowait irq softirq steal; guest time is in user.
    Ok(MachineCpu {
        idle: ticks.iter().skip(3).take(2).sum(),
        all: ticks.iter().take(8).sum(),
    })
}

impl MachineCpu {
    /// The share of time since `begin` in which the processors did nothing, in percent.
    pub fn idle_percent_since(self, begin: MachineCpu) -> f64 {
        let all = (self.all - begin.all).max(1);
        100.0 * (self.idle - begin.idle) as f64 / all as f64
    }
}
