//! Keeps a reserve of disk free while the object store is away: producers of tiered topics get a retriable error, before
//! a full disk stops everybody.
//!
//! A thread looks at the free bytes of each log folder's file system. Below remote.log.outage.disk.reserve.bytes, with
//! uploads in trouble, overdue, or so far behind that what waits for them would fill a good part of the reserve, it refuses
//! appends to tiered partitions of that folder. It lets them in again when there is room, or when the uploads have caught
//! up. Nothing is lost and nothing needs a restart: what was acknowledged is in
//! the log, what was refused is tried again by its producer.
//!
//! What is not here: what the tier gives up meanwhile (the tier's `uploader/away`).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use prometheus::{IntCounter, IntGauge, IntGaugeVec, Opts, Registry};
use strandline_log::LogManager;
use strandline_tiering::Tier;
use strandline_tiering::health::DiskPressure;

use crate::partition::Partition;

/// Where a second's writes cannot reach the reserve the look comes each second, else often.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
const LOOK_INTERVAL_NEAR: Duration = Duration::from_millis(50);
const FAR_BYTES: u64 = 4 << 30;

/// What a folder's disk was like when it was looked at last.
#[derive(Clone, Copy, Debug, Default)]
struct Disk {
    free_bytes: u64,
    pressure: DiskPressure,
    refusing: bool,
}

struct Shared {
    logs: Arc<LogManager>,
    tier: Arc<Tier>,
    reserve_bytes: u64,
    /// Any folder: all that a produce looks at while nothing is wrong.
    refusing: AtomicBool,
    disks: Mutex<BTreeMap<PathBuf, Disk>>,
    stopping: Mutex<bool>,
    stop: Condvar,
    free_gauge: IntGaugeVec,
    refusing_gauge: IntGauge,
    refused: IntCounter,
}

pub struct OutageGuard {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// Whether appends are to be refused from now on.
fn must_refuse(
    refusing: bool,
    free_bytes: u64,
    reserve_bytes: u64,
    pressure: DiskPressure,
) -> bool {
    let much = if refusing {
        reserve_bytes / 4
    } else {
        reserve_bytes / 2
    };
    let behind = pressure.overdue > 0 || pressure.waiting_bytes > much;
    free_bytes < reserve_bytes && behind
}

impl OutageGuard {
    pub fn start(
        logs: &Arc<LogManager>,
        tier: &Arc<Tier>,
        registry: &Registry,
    ) -> anyhow::Result<Self> {
        let free_gauge = IntGaugeVec::new(
            Opts::new(
                "strandline_log_dir_free_bytes",
                "Bytes that are free on the file system of a log folder.",
            ),
            &["dir"],
        )?;
        registry.register(Box::new(free_gauge.clone()))?;
        let refusing_gauge = IntGauge::new(
            "strandline_remote_outage_refusing_dirs",
            "Number of log folders whose tiered topics take no records, because uploads are stuck and the disk's reserve is reached.",
        )?;
        registry.register(Box::new(refusing_gauge.clone()))?;
        let refused = IntCounter::new(
            "strandline_remote_outage_refused_batches_total",
            "Batches for tiered topics that were refused because uploads are stuck and the disk's reserve is reached.",
        )?;
        registry.register(Box::new(refused.clone()))?;
        let shared = Arc::new(Shared {
            logs: Arc::clone(logs),
            tier: Arc::clone(tier),
            reserve_bytes: tier.config().outage_reserve_bytes,
            refusing: AtomicBool::new(false),
            disks: Mutex::default(),
            stopping: Mutex::new(false),
            stop: Condvar::new(),
            free_gauge,
            refusing_gauge,
            refused,
        });
        let runs = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("outage-guard".to_owned())
            .spawn(move || runs.run())?;
        Ok(Self {
            shared,
            thread: Mutex::new(Some(thread)),
        })
    }

    /// Why a partition takes no records now. Costs one load while nothing is wrong.
    pub fn refusal(&self, partition: &Partition) -> Option<String> {
        if !self.shared.refusing.load(Ordering::Relaxed)
            || !partition.log().config().remote_storage_enable
        {
            return None;
        }
        let dir = partition.log().parent_dir();
        let disk = *self.shared.disks.lock().get(&dir)?;
        if !disk.refusing {
            return None;
        }
        self.shared.refused.inc();
        Some(format!(
            "Uploads to the object store are stuck and {} bytes of disk are free, {} are kept in reserve: try again later",
            disk.free_bytes, self.shared.reserve_bytes
        ))
    }

    /// For the health report.
    pub fn problems(&self) -> Vec<String> {
        let disks = self.shared.disks.lock();
        let refusing = disks.iter().filter(|(_, disk)| disk.refusing);
        refusing
            .map(|(dir, disk)| {
                format!(
                    "producers of tiered topics in {} get KAFKA_STORAGE_ERROR: {} bytes are free, \
                     remote.log.outage.disk.reserve.bytes is {}, {} bytes wait for the object store; it heals by itself",
                    dir.display(),
                    disk.free_bytes,
                    self.shared.reserve_bytes,
                    disk.pressure.waiting_bytes
                )
            })
            .collect()
    }

    /// Ends the thread. It only waits for a look at the disks that is under way.
    pub fn shutdown(&self) {
        *self.shared.stopping.lock() = true;
        self.shared.stop.notify_all();
        if let Some(thread) = self.thread.lock().take()
            && thread.join().is_err()
        {
            tracing::error!("the outage guard had panicked");
        }
    }
}

impl Shared {
    fn run(&self) {
        loop {
            let mut near = false;
            for dir in self.logs.dirs() {
                near |= self.look(&dir);
            }
            let interval = if near {
                LOOK_INTERVAL_NEAR
            } else {
                LOOK_INTERVAL
            };
            let mut stopping = self.stopping.lock();
            if !*stopping {
                self.stop.wait_for(&mut stopping, interval);
            }
            if *stopping {
                return;
            }
        }
    }

    /// Tells whether the reserve may be reached soon.
    fn look(&self, dir: &Path) -> bool {
        let free_bytes = match rustix::fs::statvfs(dir) {
            Ok(stat) => stat.f_bavail.saturating_mul(stat.f_frsize),
            Err(error) => {
                tracing::debug!(dir = %dir.display(), %error, "cannot tell how much is free");
                return false;
            }
        };
        self.free_gauge
            .with_label_values(&[&dir.display().to_string()])
            .set(i64::try_from(free_bytes).unwrap_or(i64::MAX));
        let before = self.disks.lock().get(dir).copied().unwrap_or_default();
        let mut after = Disk {
            free_bytes,
            ..Disk::default()
        };
        if free_bytes < self.reserve_bytes {
            after.pressure = self.tier.disk_pressure(dir);
            after.refusing = must_refuse(
                before.refusing,
                free_bytes,
                self.reserve_bytes,
                after.pressure,
            );
        }
        let any = {
            let mut disks = self.disks.lock();
            disks.insert(dir.to_path_buf(), after);
            disks.values().filter(|disk| disk.refusing).count()
        };
        self.refusing.store(any > 0, Ordering::Relaxed);
        self.refusing_gauge.set(i64::try_from(any).unwrap_or(0));
        if after.refusing != before.refusing {
            if after.refusing {
                tracing::warn!(
                    dir = %dir.display(), free_bytes, reserve_bytes = self.reserve_bytes,
                    waiting_bytes = after.pressure.waiting_bytes,
                    "uploads are stuck and the disk's reserve is reached: tiered topics take no records until that is over"
                );
            } else {
                tracing::info!(dir = %dir.display(), free_bytes, "tiered topics take records again");
            }
        }
        free_bytes < self.reserve_bytes.saturating_add(FAR_BYTES) && self.reserve_bytes > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_stuck_uploads_on_a_short_disk_refuse_and_what_waits_keeps_refusing() {
        let pressure = |overdue, waiting_bytes| DiskPressure {
            overdue,
            waiting_bytes,
        };
        let table = [
            // refusing before, free, overdue partitions, bytes that wait, expected
            (false, 99, 1, 0, true),
            (false, 100, 1, 90, false),
            // Behind, though nothing has failed yet.
            (false, 99, 0, 51, true),
            // Short of disk, but not because of the store.
            (false, 10, 0, 50, false),
            // The store is back, the uploads are not done.
            (true, 99, 0, 26, true),
            (true, 99, 0, 25, false),
            (true, 100, 1, 90, false),
        ];
        for (refusing, free, overdue, waiting, expected) in table {
            assert_eq!(
                must_refuse(refusing, free, 100, pressure(overdue, waiting)),
                expected,
                "{refusing} {free} {overdue} {waiting}"
            );
        }
    }
}
