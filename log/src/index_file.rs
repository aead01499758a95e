//! What the offset index and the time index share: a file of fixed-size entries that only grows at its end.
//!
//! Entries are written with plain `pwrite` and read with `pread`, never mapped: a fault would stall a worker and a cut
//! file would kill the process. New entries are kept in memory and written in runs, at the latest when the segment is
//! sealed or flushed; losing them costs nothing, because recovery rebuilds what lies above the recovery point. The
//! newest entries stay in memory also after they were written, for readers at the end of the log.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;

use crate::durable;
use crate::file_cache::{FileCache, FileKey};
use crate::segment_files::{SegmentFile, segment_path};
use crate::types::Offset;

/// This many entries in memory cause a write of those that are not on disk yet.
const RECENT_MAX: usize = 256;
/// This many stay after it.
const RECENT_KEPT: usize = 128;
/// A search reads this many entries at once when it has narrowed down that far.
const BLOCK_ENTRIES: u32 = 512;

#[derive(Debug)]
pub(crate) struct IndexFile<const N: usize> {
    dir: Arc<Path>,
    base_offset: Offset,
    kind: SegmentFile,
    key: FileKey,
    files: Arc<FileCache>,
    /// Held once another file takes this one's name. See [`IndexFile::pin`].
    pinned: OnceLock<Arc<File>>,
    state: Mutex<State<N>>,
    /// One writer of the file at a time: the appender and a flush may meet.
    writing: Mutex<()>,
}

#[derive(Debug)]
struct State<const N: usize> {
    len: u32,
    written: u32,
    /// The last entries, among them all that are not written.
    recent: Vec<[u8; N]>,
}

impl<const N: usize> State<N> {
    fn recent_start(&self) -> u32 {
        self.len - self.recent.len() as u32
    }
}

impl<const N: usize> IndexFile<N> {
    /// An empty index; a file that is there is cut to nothing, for good: a power loss must not bring stale entries
    /// back among the new ones.
    pub fn create(
        dir: Arc<Path>,
        base_offset: Offset,
        kind: SegmentFile,
        files: Arc<FileCache>,
    ) -> io::Result<Self> {
        let path = segment_path(&dir, base_offset, kind);
        let file = File::options()
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)?;
        if file.metadata()?.len() > 0 {
            file.set_len(0)?;
            durable::sync_data(&file, &path)?;
        }
        Ok(Self::with_len(dir, base_offset, kind, files, 0))
    }

    /// The index as it is on disk. `None` when the file is missing or holds a part of an entry.
    pub fn open(
        dir: Arc<Path>,
        base_offset: Offset,
        kind: SegmentFile,
        files: Arc<FileCache>,
    ) -> io::Result<Option<Self>> {
        let bytes = match std::fs::metadata(segment_path(&dir, base_offset, kind)) {
            Ok(metadata) => metadata.len(),
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(e),
        };
        if bytes % N as u64 != 0 {
            return Ok(None);
        }
        let Ok(len) = u32::try_from(bytes / N as u64) else {
            return Ok(None);
        };
        Ok(Some(Self::with_len(dir, base_offset, kind, files, len)))
    }

    fn with_len(
        dir: Arc<Path>,
        base_offset: Offset,
        kind: SegmentFile,
        files: Arc<FileCache>,
        len: u32,
    ) -> Self {
        Self {
            dir,
            base_offset,
            kind,
            key: FileKey::next(),
            files,
            pinned: OnceLock::new(),
            state: Mutex::new(State {
                len,
                written: len,
                recent: Vec::new(),
            }),
            writing: Mutex::new(()),
        }
    }

    pub fn base_offset(&self) -> Offset {
        self.base_offset
    }

    pub fn path(&self) -> PathBuf {
        segment_path(&self.dir, self.base_offset, self.kind)
    }

    pub fn len(&self) -> u32 {
        self.state.lock().len
    }

    fn file(&self) -> io::Result<Arc<File>> {
        if let Some(file) = self.pinned.get() {
            return Ok(Arc::clone(file));
        }
        let opened = self.files.get(self.key, || {
            File::options().read(true).write(true).open(segment_path(
                &self.dir,
                self.base_offset,
                self.kind,
            ))
        });
        // The name may have gone to another file between the look above and the open.
        if let Some(file) = self.pinned.get() {
            self.files.remove(self.key);
            return Ok(Arc::clone(file));
        }
        opened
    }

    /// Keeps the file open from here on, so that whoever still uses this index reads its own file when the name is given
    /// to another one.
    pub fn pin(&self) -> io::Result<()> {
        let file = self.file()?;
        let _ = self.pinned.set(file);
        self.files.remove(self.key);
        Ok(())
    }

    /// Adds an entry, in memory unless many have gathered.
    pub fn append(&self, entry: [u8; N]) -> io::Result<()> {
        let many = {
            let mut state = self.state.lock();
            state.recent.push(entry);
            state.len += 1;
            state.recent.len() >= RECENT_MAX
        };
        if many { self.write_pending() } else { Ok(()) }
    }

    /// Writes what is only in memory. Not a sync.
    pub fn write_pending(&self) -> io::Result<()> {
        let _one = self.writing.lock();
        let (start, bytes) = {
            let state = self.state.lock();
            if state.written == state.len {
                return Ok(());
            }
            let from = (state.written - state.recent_start()) as usize;
            (state.written, state.recent[from..].as_flattened().to_vec())
        };
        self.file()?
            .write_all_at(&bytes, u64::from(start) * N as u64)?;
        let mut state = self.state.lock();
        state.written = start + (bytes.len() / N) as u32;
        if state.recent.len() >= RECENT_MAX {
            let unwritten = (state.len - state.written) as usize;
            let kept = RECENT_KEPT.max(unwritten).min(state.recent.len());
            let dropped = state.recent.len() - kept;
            state.recent.drain(..dropped);
        }
        Ok(())
    }

    /// Writes all, cuts the file to exactly its entries and frees the memory.
    pub fn seal(&self) -> io::Result<()> {
        self.write_pending()?;
        let _one = self.writing.lock();
        let mut state = self.state.lock();
        state.recent = Vec::new();
        let bytes = u64::from(state.len) * N as u64;
        drop(state);
        let file = self.file()?;
        if file.metadata()?.len() != bytes {
            file.set_len(bytes)?;
        }
        Ok(())
    }

    pub fn sync(&self) -> io::Result<()> {
        self.write_pending()?;
        durable::sync_data(&*self.file()?, &self.path())
    }

    /// Keeps the first `len` entries. What goes is gone for good, so that a power loss cannot mix it with what comes
    /// in its place; entries of which none was written cost nothing.
    pub fn truncate(&self, len: u32) -> io::Result<()> {
        let _one = self.writing.lock();
        let cut = {
            let mut state = self.state.lock();
            if len >= state.len {
                return Ok(());
            }
            let start = state.recent_start();
            state.recent.truncate(len.saturating_sub(start) as usize);
            state.len = len;
            let cut = state.written > len;
            state.written = state.written.min(len);
            cut
        };
        if cut {
            let file = self.file()?;
            file.set_len(u64::from(len) * N as u64)?;
            durable::sync_data(&file, &self.path())?;
        }
        Ok(())
    }

    /// The entry at `at`; `None` past the end, also when the index is cut meanwhile.
    pub fn get(&self, at: u32) -> io::Result<Option<[u8; N]>> {
        {
            let state = self.state.lock();
            if at >= state.len {
                return Ok(None);
            }
            if at >= state.recent_start() {
                let index = (at - state.recent_start()) as usize;
                return Ok(Some(state.recent[index]));
            }
        }
        Ok(self.read(at, 1)?.first().copied())
    }

    pub fn last(&self) -> io::Result<Option<[u8; N]>> {
        match self.len() {
            0 => Ok(None),
            len => self.get(len - 1),
        }
    }

    /// How many entries, from the first on, satisfy `low`, which must hold for a prefix of them; and the last of these.
    pub fn partition_point(
        &self,
        low: impl Fn(&[u8; N]) -> bool,
    ) -> io::Result<(u32, Option<[u8; N]>)> {
        let mut high = {
            let state = self.state.lock();
            if state.recent.first().is_some_and(&low) {
                let count = state.recent.partition_point(&low);
                let found = state.recent[count - 1];
                return Ok((state.recent_start() + count as u32, Some(found)));
            }
            state.recent_start()
        };
        let mut from = 0;
        while high - from > BLOCK_ENTRIES {
            let middle = from + (high - from) / 2;
            match self.read(middle, 1)?.first() {
                Some(entry) if low(entry) => from = middle + 1,
                _ => high = middle,
            }
        }
        // One more in front, so that the last low entry is in the block.
        let block_start = from.saturating_sub(1);
        let block = self.read(block_start, high - block_start)?;
        let count = block.partition_point(&low);
        let found = count.checked_sub(1).map(|last| block[last]);
        Ok((block_start + count as u32, found))
    }

    /// All entries from the one at `at` on, for checks.
    pub fn entries_from(&self, at: u32) -> io::Result<Vec<[u8; N]>> {
        self.write_pending()?;
        self.read(at, self.len().saturating_sub(at))
    }

    /// Up to `count` written entries; fewer when the file ends before.
    fn read(&self, at: u32, count: u32) -> io::Result<Vec<[u8; N]>> {
        if count == 0 {
            return Ok(Vec::new());
        }
        let file = self.file()?;
        let mut entries = vec![[0; N]; count as usize];
        let bytes = entries.as_flattened_mut();
        let position = u64::from(at) * N as u64;
        let mut done = 0;
        while done < bytes.len() {
            match file.read_at(&mut bytes[done..], position + done as u64) {
                Ok(0) => break,
                Ok(n) => done += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        entries.truncate(done / N);
        Ok(entries)
    }

    /// Closes the cached descriptor, before the file is renamed or unlinked.
    pub fn forget(&self) {
        self.files.remove(self.key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index(dir: &Path) -> IndexFile<8> {
        IndexFile::create(dir.into(), 0, SegmentFile::OffsetIndex, FileCache::new(4))
            .expect("creates")
    }

    #[test]
    fn entries_are_found_in_memory_and_on_disk_and_survive_a_reopen() {
        let dir = tempfile::tempdir().expect("temp dir");
        let index = index(dir.path());
        for i in 0..2_000_u64 {
            index.append((i * 10).to_be_bytes()).expect("appends");
        }
        for target in [0_u64, 5, 10, 9_999, 10_000, 19_990, 30_000] {
            let expected = (target / 10 + 1).min(2_000) as u32;
            let (count, found) = index
                .partition_point(|e| u64::from_be_bytes(*e) <= target)
                .expect("searches");
            assert_eq!(count, expected, "{target}");
            assert_eq!(
                found.map(u64::from_be_bytes),
                Some(u64::from(expected - 1) * 10)
            );
        }
        index.truncate(1_995).expect("cuts");
        index.seal().expect("seals");
        let again = IndexFile::<8>::open(
            dir.path().into(),
            0,
            SegmentFile::OffsetIndex,
            FileCache::new(4),
        )
        .expect("opens")
        .expect("is whole");
        assert_eq!(again.len(), 1_995);
        assert_eq!(
            again.last().expect("reads"),
            Some((1_994_u64 * 10).to_be_bytes())
        );
    }

    #[test]
    fn a_part_of_an_entry_is_no_index() {
        let dir = tempfile::tempdir().expect("temp dir");
        let index = index(dir.path());
        std::fs::write(index.path(), [0; 9]).expect("writes");
        let again = IndexFile::<8>::open(
            dir.path().into(),
            0,
            SegmentFile::OffsetIndex,
            FileCache::new(4),
        );
        assert!(again.expect("opens").is_none());
    }
}
