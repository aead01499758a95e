//! Reads that would miss the page cache, brought into memory away from the threads that serve hot traffic.
//!
//! A bounded number of them runs at a time, on threads of their own; whoever asks for more waits its turn, and only it.
//! A reader of history is read ahead, so that its next fetch finds what it asks for. Between the look and the sending
//! the pages may be gone again: the sender looks again when its client keeps it waiting.

use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use prometheus::{IntCounter, IntGauge, Registry};
use rustix::fs::Advice;
use strandline_log::FileSlice;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;

/// How much is read at a time.
const STEP_BYTES: usize = 256 * 1024;
/// How far a reader of history is read ahead, once less than half of it is there.
const READAHEAD_BYTES: u64 = 2 << 20;

pub struct ColdReads {
    permits: Arc<Semaphore>,
    /// Whose blocking threads read, wherever the caller runs.
    runtime: Handle,
    misses: IntCounter,
    bytes: IntCounter,
    readaheads: IntCounter,
    waiting: IntGauge,
}

impl ColdReads {
    pub fn new(concurrency: usize, registry: &Registry) -> prometheus::Result<Self> {
        let misses = IntCounter::new(
            "strandline_fetch_page_cache_misses_total",
            "Slices of fetches that were not in the page cache and were read ahead on threads of their own.",
        )?;
        let bytes = IntCounter::new(
            "strandline_fetch_cold_bytes_total",
            "Bytes of slices that were not in the page cache when they were fetched.",
        )?;
        let waiting = IntGauge::new(
            "strandline_fetch_cold_reads_waiting",
            "Fetches that wait for their bytes to be read from disk.",
        )?;
        registry.register(Box::new(misses.clone()))?;
        registry.register(Box::new(bytes.clone()))?;
        let readaheads = IntCounter::new(
            "strandline_fetch_readaheads_total",
            "Times that the disk was told what a reader of history will ask for next.",
        )?;
        registry.register(Box::new(readaheads.clone()))?;
        registry.register(Box::new(waiting.clone()))?;
        Ok(Self {
            permits: Arc::new(Semaphore::new(concurrency.max(1))),
            runtime: Handle::current(),
            misses,
            bytes,
            readaheads,
            waiting,
        })
    }

    /// Runs something that may read the disk on a thread where that is allowed.
    pub async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        let _waiting = Waiting::new(&self.waiting);
        let permit = Arc::clone(&self.permits).acquire_owned().await;
        let spawned = self.runtime.spawn_blocking(move || {
            let _permit = permit;
            work()
        });
        let done = spawned.await;
        // A panic has been reported by the panic hook; the caller answers with an error.
        done.ok()
    }

    /// Sees to it that sending these slices will not wait for the disk.
    pub async fn warm(&self, slices: &[FileSlice]) -> io::Result<()> {
        let cold = slices.iter().filter(|slice| !slice.in_page_cache());
        self.read_in(cold.cloned().collect()).await
    }

    /// The same for what was appended not long ago: it is where it was put, unless memory is short.
    pub async fn warm_recent<'a>(
        &self,
        slices: impl Iterator<Item = &'a FileSlice>,
    ) -> io::Result<()> {
        let cold = slices.filter(|slice| !slice.is_still_in_page_cache());
        self.read_in(cold.cloned().collect()).await
    }

    async fn read_in(&self, cold: Vec<FileSlice>) -> io::Result<()> {
        if cold.is_empty() {
            return Ok(());
        }
        self.misses.inc_by(cold.len() as u64);
        self.bytes
            .inc_by(cold.iter().map(|slice| slice.len as u64).sum());
        self.run(move || cold.iter().try_for_each(read_into_page_cache))
            .await
            .unwrap_or_else(|| Err(io::Error::other("the reading thread failed")))
    }

    /// The reader of this slice will go on behind it. Waits for nothing; when all threads are busy it is left out.
    pub fn read_ahead(&self, slice: &FileSlice) {
        let position = slice.position + slice.len as u64;
        let left = slice
            .file
            .metadata()
            .map_or(0, |file| file.len().saturating_sub(position));
        let next = FileSlice {
            file: Arc::clone(&slice.file),
            position,
            len: left.min(READAHEAD_BYTES) as usize,
        };
        let near = FileSlice {
            len: next.len.min(READAHEAD_BYTES as usize / 2),
            ..next.clone()
        };
        if next.len == 0 || near.is_still_in_page_cache() {
            return;
        }
        if let Ok(permit) = Arc::clone(&self.permits).try_acquire_owned() {
            self.readaheads.inc();
            self.runtime.spawn_blocking(move || {
                let _permit = permit;
                advise(&next);
            });
        }
    }
}

fn advise(slice: &FileSlice) {
    let len = std::num::NonZeroU64::new(slice.len as u64);
    // Only advice: reading is what counts.
    let _ = rustix::fs::fadvise(&*slice.file, slice.position, len, Advice::WillNeed);
}

/// Counts one who waits, also when its connection goes away meanwhile.
struct Waiting<'a>(&'a IntGauge);

impl<'a> Waiting<'a> {
    fn new(gauge: &'a IntGauge) -> Self {
        gauge.inc();
        Self(gauge)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.dec();
    }
}

fn read_into_page_cache(slice: &FileSlice) -> io::Result<()> {
    advise(slice);
    let mut buffer = vec![0; STEP_BYTES.min(slice.len)];
    let mut done = 0;
    while done < slice.len {
        let want = buffer.len().min(slice.len - done);
        let got = slice
            .file
            .read_at(&mut buffer[..want], slice.position + done as u64)?;
        if got == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        done += got;
    }
    Ok(())
}
