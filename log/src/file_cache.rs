//! A bounded cache of open descriptors for sealed segments and index files.
//!
//! Ten thousand partitions with a hundred segments each cannot all stay open. Whoever uses a file holds its `Arc`, so
//! eviction closes it only after the last use. A key belongs to one file for the life of the process: a file that is
//! deleted or renamed must be forgotten by its owner first ([`FileCache::remove`]).

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

/// Names one file in the cache. Drawn from a counter, never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FileKey(u64);

impl FileKey {
    pub fn next() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

#[derive(Debug)]
pub struct FileCache {
    files_max: usize,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    files: HashMap<FileKey, (Arc<File>, u64)>,
    by_use: BTreeMap<u64, FileKey>,
    clock: u64,
}

impl FileCache {
    pub fn new(files_max: usize) -> Arc<Self> {
        Arc::new(Self {
            files_max: files_max.max(1),
            inner: Mutex::default(),
        })
    }

    /// The open file of `key`, opening it when it is not cached. The disk is not touched under the lock.
    pub fn get(
        &self,
        key: FileKey,
        open: impl FnOnce() -> io::Result<File>,
    ) -> io::Result<Arc<File>> {
        if let Some(file) = self.inner.lock().touch(key) {
            return Ok(file);
        }
        let file = Arc::new(open()?);
        self.insert(key, Arc::clone(&file));
        Ok(file)
    }

    /// Hands over a file that is open already. What it pushes out is closed after the lock is gone.
    pub fn insert(&self, key: FileKey, file: Arc<File>) {
        let evicted = {
            let mut inner = self.inner.lock();
            inner.remove(key);
            let evicted = if inner.files.len() >= self.files_max {
                inner.pop_oldest()
            } else {
                None
            };
            inner.clock += 1;
            let tick = inner.clock;
            inner.files.insert(key, (file, tick));
            inner.by_use.insert(tick, key);
            evicted
        };
        drop(evicted);
    }

    pub fn remove(&self, key: FileKey) {
        let removed = self.inner.lock().remove(key);
        drop(removed);
    }

    pub fn len(&self) -> usize {
        self.inner.lock().files.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Inner {
    fn touch(&mut self, key: FileKey) -> Option<Arc<File>> {
        self.clock += 1;
        let tick = self.clock;
        let (file, used) = self.files.get_mut(&key)?;
        self.by_use.remove(used);
        self.by_use.insert(tick, key);
        *used = tick;
        Some(Arc::clone(file))
    }

    fn remove(&mut self, key: FileKey) -> Option<Arc<File>> {
        let (file, used) = self.files.remove(&key)?;
        self.by_use.remove(&used);
        Some(file)
    }

    fn pop_oldest(&mut self) -> Option<Arc<File>> {
        let (_, key) = self.by_use.pop_first()?;
        self.files.remove(&key).map(|(file, _)| file)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_recently_used_file_goes_first() {
        let cache = FileCache::new(2);
        let keys = [FileKey::next(), FileKey::next(), FileKey::next()];
        let open = || tempfile::tempfile();
        let first = cache.get(keys[0], open).expect("opens");
        cache.get(keys[1], open).expect("opens");
        cache.get(keys[0], open).expect("cached");
        cache.get(keys[2], open).expect("opens");
        assert_eq!(cache.len(), 2);
        let again = cache
            .get(keys[0], || Err(io::Error::other("must be cached")))
            .expect("cached");
        assert!(Arc::ptr_eq(&first, &again));
        assert!(
            cache
                .get(keys[1], || Err(io::Error::other("gone")))
                .is_err()
        );
        cache.remove(keys[0]);
        assert_eq!(cache.len(), 1);
    }
}
