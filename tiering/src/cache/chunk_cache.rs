//! Files of verified chunks under a byte limit.
//!
//! - No reader sees a byte whose checksum was not verified since this process started: fetched chunks are checked before
//!   they are written, those of an earlier run before their first use, and a bad one is fetched again.
//! - Readers of one chunk share one fetch, which goes on when they give up waiting.
//! - The files' bytes stay at or below the limit: room is made before a chunk is written.
//! - Readers hold open files, so eviction and a deleted folder never disturb one who has begun. What is gone is fetched
//!   again.
//! - The files need no fsync and no index: names say what they are, checksums whether they are whole.
//!
//! Disk work happens on tokio's blocking threads, a bounded number at a time.

use std::collections::{HashMap, VecDeque};
use std::fs::{self, File};
use std::future::Future;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};

use bytes::Bytes;
use parking_lot::Mutex;
use prometheus::{IntCounter, IntGauge};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::chunk_id::UNFINISHED_SUFFIX;
use super::{ChunkId, TwoQueue};
use crate::metrics::TierMetrics;
use crate::single_flight::SingleFlight;

/// Files that stay open between reads.
const OPEN_FILES_MAX: usize = 256;
/// Disk operations at a time: enough to fill an NVMe drive's queue, few enough to leave blocking threads to others.
const DISK_OPERATIONS_MAX: usize = 4;

/// A connection may damage what a store sent; twice in a row, and the object itself is to blame.
const FETCHES_MAX: usize = 2;

/// A chunk as the store sent it, with what it took to have it in memory.
pub struct Fetched {
    pub bytes: Bytes,
    /// Given back once the bytes are on disk.
    pub permit: Option<OwnedSemaphorePermit>,
}

/// Why a chunk could not be had. Shared by all who waited for it.
#[derive(Clone, Debug, thiserror::Error)]
pub enum FetchError {
    #[error("the object is not in the store")]
    NotFound,
    #[error("{0}")]
    Unavailable(Arc<str>),
    #[error("{0}")]
    Corrupt(Arc<str>),
}

impl FetchError {
    pub fn unavailable(error: impl std::fmt::Display) -> Self {
        Self::Unavailable(error.to_string().into())
    }
}

#[derive(Clone)]
pub struct CacheMetrics {
    pub hits: IntCounter,
    pub misses: IntCounter,
    pub corrupt: IntCounter,
    pub errors: IntCounter,
    pub bytes: IntGauge,
    pub evicted_bytes: IntCounter,
}

impl From<&TierMetrics> for CacheMetrics {
    fn from(metrics: &TierMetrics) -> Self {
        Self {
            hits: metrics.cache_hits.clone(),
            misses: metrics.cache_misses.clone(),
            corrupt: metrics.cache_corrupt.clone(),
            errors: metrics.cache_errors.clone(),
            bytes: metrics.cache_bytes.clone(),
            evicted_bytes: metrics.cache_evicted_bytes.clone(),
        }
    }
}

struct Held {
    len: u32,
    verified: bool,
    file: Weak<File>,
}

struct State {
    order: TwoQueue<Arc<str>>,
    held: HashMap<Arc<str>, Held>,
    /// Keeps the files of `held` open that were used last.
    open: VecDeque<Arc<File>>,
}

pub struct ChunkCache {
    dir: PathBuf,
    state: Mutex<State>,
    flights: SingleFlight<Arc<str>, Result<Arc<File>, FetchError>>,
    disk: Semaphore,
    metrics: CacheMetrics,
}

impl ChunkCache {
    /// Touches nothing; [`scan`](Self::scan) finds what an earlier run left.
    pub fn new(dir: PathBuf, bytes_max: u64, metrics: CacheMetrics) -> Self {
        Self {
            dir,
            state: Mutex::new(State {
                order: TwoQueue::new(bytes_max),
                held: HashMap::new(),
                open: VecDeque::new(),
            }),
            flights: SingleFlight::default(),
            disk: Semaphore::new(DISK_OPERATIONS_MAX),
            metrics,
        }
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    pub fn bytes(&self) -> u64 {
        self.state.lock().order.bytes()
    }

    pub fn chunks(&self) -> usize {
        self.state.lock().order.len()
    }

    /// Whether the chunk is here or on its way.
    pub fn contains(&self, id: &ChunkId) -> bool {
        let name: Arc<str> = id.file_name().into();
        self.state.lock().order.contains(&name) || self.flights.is_under_way(&name)
    }

    /// Takes over the chunks of an earlier run, oldest first, and removes what it left unfinished. Files with names that
    /// are not chunks' are left alone. Blocks.
    pub fn scan(&self) -> io::Result<usize> {
        fs::create_dir_all(&self.dir)?;
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.dir)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.ends_with(UNFINISHED_SUFFIX) {
                fs::remove_file(entry.path())?;
            } else if let Some(len) = ChunkId::len_from_file_name(&name) {
                let metadata = entry.metadata()?;
                if metadata.len() == u64::from(len) {
                    found.push((metadata.modified()?, name, len));
                } else {
                    fs::remove_file(entry.path())?;
                }
            }
        }
        found.sort();
        let count = found.len();
        for (_, name, len) in found {
            let name: Arc<str> = name.into();
            let evicted = self.admit(&name, len, false, Weak::new());
            self.unlink(&evicted);
        }
        Ok(count)
    }

    /// The chunk's file, fetched with `fetch` when it is not here. `verify` says whether bytes are the chunk's.
    pub async fn get<V, F, R>(
        self: &Arc<Self>,
        id: &ChunkId,
        verify: V,
        fetch: F,
    ) -> Result<Arc<File>, FetchError>
    where
        V: Fn(&[u8]) -> bool + Send + Sync + 'static,
        F: Fn() -> R + Send + 'static,
        R: Future<Output = Result<Fetched, FetchError>> + Send + 'static,
    {
        let name: Arc<str> = id.file_name().into();
        if let Some(file) = self.open_file(&name) {
            self.metrics.hits.inc();
            return Ok(file);
        }
        let (cache, len, key) = (Arc::clone(self), id.len, Arc::clone(&name));
        self.flights
            .run(key, move || cache.obtain(name, len, verify, fetch))
            .await
            .unwrap_or_else(|| {
                Err(FetchError::unavailable(
                    "the task that fetched the chunk died",
                ))
            })
    }

    /// As [`get`](Self::get), for a reader who will come later.
    pub fn prefetch<V, F, R>(self: &Arc<Self>, id: &ChunkId, verify: V, fetch: F)
    where
        V: Fn(&[u8]) -> bool + Send + Sync + 'static,
        F: Fn() -> R + Send + 'static,
        R: Future<Output = Result<Fetched, FetchError>> + Send + 'static,
    {
        if self.contains(id) {
            return;
        }
        let name: Arc<str> = id.file_name().into();
        let (cache, len, key) = (Arc::clone(self), id.len, Arc::clone(&name));
        self.flights
            .start(key, move || cache.obtain(name, len, verify, fetch));
    }

    /// Fetches that are under way.
    pub fn under_way(&self) -> usize {
        self.flights.under_way()
    }

    fn open_file(&self, name: &Arc<str>) -> Option<Arc<File>> {
        let mut state = self.state.lock();
        let held = state.held.get(name).filter(|held| held.verified)?;
        let file = held.file.upgrade()?;
        state.order.touch(name);
        Some(file)
    }

    /// The work of one flight.
    async fn obtain<V, F, R>(
        self: Arc<Self>,
        name: Arc<str>,
        len: u32,
        verify: V,
        fetch: F,
    ) -> Result<Arc<File>, FetchError>
    where
        V: Fn(&[u8]) -> bool + Send + Sync + 'static,
        F: Fn() -> R + Send + 'static,
        R: Future<Output = Result<Fetched, FetchError>> + Send + 'static,
    {
        let verify = Arc::new(verify);
        let verified = self.state.lock().held.get(&name).map(|held| held.verified);
        if let Some(verified) = verified {
            let (cache, key, check) = (Arc::clone(&self), Arc::clone(&name), Arc::clone(&verify));
            let reopened = self
                .on_disk(move || cache.reopen(&key, len, verified, &*check))
                .await?;
            if let Some(file) = reopened {
                self.metrics.hits.inc();
                return Ok(file);
            }
        }
        self.metrics.misses.inc();
        for _ in 0..FETCHES_MAX {
            let fetched = fetch().await?;
            let (cache, name, verify) = (Arc::clone(&self), Arc::clone(&name), Arc::clone(&verify));
            let stored = self
                .on_disk(move || {
                    let bytes = &fetched.bytes;
                    if bytes.len() != len as usize || !verify(bytes) {
                        tracing::warn!(chunk = %name, "what the store sent fails its checksum");
                        return Ok(None);
                    }
                    cache.store(&name, bytes).map(Some).map_err(|error| {
                        cache.metrics.errors.inc();
                        tracing::warn!(%error, dir = %cache.dir.display(), "cannot write a chunk to the cache");
                        FetchError::unavailable(format_args!("the chunk cache: {error}"))
                    })
                })
                .await??;
            if let Some(file) = stored {
                return Ok(file);
            }
        }
        Err(FetchError::Corrupt(
            format!("{name}: what the store sends fails its checksum").into(),
        ))
    }

    async fn on_disk<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, FetchError> {
        let _permit = self.disk.acquire().await.map_err(FetchError::unavailable)?;
        tokio::task::spawn_blocking(work)
            .await
            .map_err(FetchError::unavailable)
    }

    /// Opens a chunk that should be here. `None`: it is gone or bad, and forgotten.
    fn reopen(
        &self,
        name: &Arc<str>,
        len: u32,
        verified: bool,
        verify: &(impl Fn(&[u8]) -> bool + ?Sized),
    ) -> Option<Arc<File>> {
        let path = self.dir.join(&**name);
        let opened = File::open(&path).and_then(|file| {
            let mut whole = file.metadata()?.len() == u64::from(len);
            if whole && !verified {
                let mut bytes = vec![0; len as usize];
                file.read_exact_at(&mut bytes, 0)?;
                whole = verify(&bytes);
            }
            Ok((file, whole))
        });
        match opened {
            Ok((file, true)) => {
                let file = Arc::new(file);
                let mut state = self.state.lock();
                if let Some(held) = state.held.get_mut(name) {
                    held.verified = true;
                    held.file = Arc::downgrade(&file);
                }
                state.order.touch(name);
                state.keep_open(&file);
                return Some(file);
            }
            Ok((_, false)) => {
                self.metrics.corrupt.inc();
                tracing::warn!(chunk = %name, "a cached chunk fails its checksum; it is fetched again");
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                self.metrics.errors.inc();
                tracing::warn!(chunk = %name, %error, "cannot read a cached chunk; it is fetched again");
            }
        }
        self.forget(name);
        self.unlink(std::slice::from_ref(name));
        None
    }

    /// Writes a verified chunk, after room was made for it.
    fn store(&self, name: &Arc<str>, bytes: &Bytes) -> io::Result<Arc<File>> {
        let len = u32::try_from(bytes.len()).map_err(io::Error::other)?;
        let evicted = self.admit(name, len, true, Weak::new());
        self.unlink(&evicted);
        let written = self.write(name, bytes);
        let mut state = self.state.lock();
        match written {
            Ok(file) => {
                // Others may have evicted it before the file was there to be unlinked.
                match state.held.get_mut(name) {
                    Some(held) => held.file = Arc::downgrade(&file),
                    None => {
                        drop(state);
                        self.unlink(std::slice::from_ref(name));
                        return Ok(file);
                    }
                }
                state.keep_open(&file);
                Ok(file)
            }
            Err(error) => {
                drop(state);
                self.forget(name);
                Err(error)
            }
        }
    }

    fn write(&self, name: &str, bytes: &[u8]) -> io::Result<Arc<File>> {
        let stem = name.strip_suffix(super::chunk_id::SUFFIX).unwrap_or(name);
        let unfinished = self.dir.join(format!("{stem}{UNFINISHED_SUFFIX}"));
        let create = || {
            File::options()
                .read(true)
                .write(true)
                .create(true)
                .truncate(true)
                .open(&unfinished)
        };
        let file = match create() {
            // The folder may have been deleted under us.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                fs::create_dir_all(&self.dir)?;
                create()?
            }
            other => other?,
        };
        let renamed = file
            .write_all_at(bytes, 0)
            .and_then(|()| fs::rename(&unfinished, self.dir.join(name)));
        if let Err(error) = renamed {
            // The first error tells more than a failure to clean up.
            let _ = fs::remove_file(&unfinished);
            return Err(error);
        }
        Ok(Arc::new(file))
    }

    /// Counts a chunk in; returns those that must be unlinked for it.
    fn admit(&self, name: &Arc<str>, len: u32, verified: bool, file: Weak<File>) -> Vec<Arc<str>> {
        let mut state = self.state.lock();
        let evicted = state.order.insert(Arc::clone(name), u64::from(len));
        for gone in &evicted {
            if let Some(held) = state.held.remove(gone) {
                self.metrics.evicted_bytes.inc_by(u64::from(held.len));
            }
        }
        state.held.entry(Arc::clone(name)).or_insert(Held {
            len,
            verified,
            file,
        });
        self.show_bytes(&state);
        evicted
    }

    fn forget(&self, name: &Arc<str>) {
        let mut state = self.state.lock();
        state.order.remove(name);
        state.held.remove(name);
        self.show_bytes(&state);
    }

    fn unlink(&self, names: &[Arc<str>]) {
        for name in names {
            match fs::remove_file(self.dir.join(&**name)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    self.metrics.errors.inc();
                    tracing::warn!(chunk = %name, %error, "cannot remove a cached chunk");
                }
                _ => {}
            }
        }
    }

    fn show_bytes(&self, state: &State) {
        self.metrics
            .bytes
            .set(i64::try_from(state.order.bytes()).unwrap_or(i64::MAX));
    }
}

impl State {
    fn keep_open(&mut self, file: &Arc<File>) {
        if self.open.len() >= OPEN_FILES_MAX {
            self.open.pop_front();
        }
        self.open.push_back(Arc::clone(file));
    }
}

#[cfg(test)]
mod tests;
