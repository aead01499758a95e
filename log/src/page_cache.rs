//! Asks the kernel whether bytes of a file are in the page cache, without waiting for the disk.
//!
//! `cachestat` counts the pages of a range in one call; a page that is being read in counts as well. `preadv2` with
//! `RWF_NOWAIT` fails with `EAGAIN` where a read would block, so it tells of those too, and it is all there is before
//! Linux 6.5. A file system that cannot say so answers `EOPNOTSUPP`: then everything counts as cached, because there is
//! nothing better to do than to read. The answer is a hint, pages may go at any time, and nothing here reads ahead.

use std::fs::File;
use std::io::IoSliceMut;

use rustix::io::{Errno, ReadWriteFlags};

/// Samples are this far apart at most: the kernel reads ahead in runs, so that a few tell for all.
const SAMPLE_STRIDE: u64 = 64 * 1024;
/// Never more probes than this for one slice.
const SAMPLES_MAX: u64 = 16;

/// Whether `[position, position + len)` can be read without waiting: all its pages are there, and the sampled ones are
/// not just on their way. An empty range can.
pub fn in_page_cache(file: &File, position: u64, len: usize) -> bool {
    if len == 0 {
        return true;
    }
    if all_pages_present(file, position, len) == Some(false) {
        return false;
    }
    let last = position + len as u64 - 1;
    let stride = SAMPLE_STRIDE.max((len as u64).div_ceil(SAMPLES_MAX));
    let mut at = position;
    while at < last {
        if !page_is_ready(file, at) {
            return false;
        }
        at += stride;
    }
    page_is_ready(file, last)
}

/// Whether every page of the range is in the page cache, by one call. `None`: this kernel does not say.
pub fn all_pages_present(file: &File, position: u64, len: usize) -> Option<bool> {
    let page = rustix::param::page_size() as u64;
    let first = position / page;
    let pages = (position + len as u64).div_ceil(page) - first;
    Some(cachestat::cached_pages(file, first * page, pages * page)? >= pages)
}

fn page_is_ready(file: &File, position: u64) -> bool {
    let mut byte = [0_u8; 1];
    let mut buffers = [IoSliceMut::new(&mut byte)];
    match rustix::io::preadv2(file, &mut buffers, position, ReadWriteFlags::NOWAIT) {
        // Zero bytes: past the end, nothing to wait for.
        Ok(_) => true,
        Err(Errno::AGAIN) => false,
        // Not supported here, or an error that the read itself will report better.
        Err(_) => true,
    }
}

mod cachestat {
    //! The system call, which no crate wraps yet.
    #![allow(unsafe_code)]

    use std::fs::File;
    use std::os::fd::AsRawFd;
    use std::sync::atomic::{AtomicBool, Ordering};

    /// Its number on every architecture.
    const SYS_CACHESTAT: libc::c_long = 451;

    static UNKNOWN: AtomicBool = AtomicBool::new(false);

    #[repr(C)]
    struct Range {
        offset: u64,
        len: u64,
    }

    #[repr(C)]
    #[derive(Default)]
    struct Counts {
        cached: u64,
        dirty: u64,
        writeback: u64,
        evicted: u64,
        recently_evicted: u64,
    }

    /// Pages of the range that are in the page cache. `None` where the kernel or the file system does not say.
    pub fn cached_pages(file: &File, offset: u64, len: u64) -> Option<u64> {
        if UNKNOWN.load(Ordering::Relaxed) {
            return None;
        }
        let range = Range { offset, len };
        let mut counts = Counts::default();
        // SAFETY: both pointers are to live values of the layouts that cachestat(2) names, the descriptor is open, and
        // the call keeps neither.
        let result = unsafe {
            libc::syscall(
                SYS_CACHESTAT,
                file.as_raw_fd(),
                &raw const range,
                &raw mut counts,
                0,
            )
        };
        if result == 0 {
            return Some(counts.cached);
        }
        let error = std::io::Error::last_os_error();
        if error.raw_os_error() == Some(libc::ENOSYS) {
            UNKNOWN.store(true, Ordering::Relaxed);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn freshly_written_bytes_are_cached_and_the_end_does_not_matter() {
        let mut file = tempfile::tempfile().expect("temp file");
        file.write_all(&vec![7_u8; 1 << 20]).expect("writes");
        assert!(in_page_cache(&file, 0, 1 << 20));
        assert!(in_page_cache(&file, 5, 0));
        assert!(in_page_cache(&file, 4095, 2));
        assert_ne!(all_pages_present(&file, 1, (1 << 20) - 1), Some(false));
    }

    #[test]
    fn one_missing_page_is_seen() {
        let mut file = tempfile::NamedTempFile::new_in(env!("CARGO_MANIFEST_DIR")).expect("a file");
        file.write_all(&vec![7_u8; 1 << 20]).expect("writes");
        let file = file.as_file();
        file.sync_all().expect("syncs");
        let Some(all) = all_pages_present(file, 0, 1 << 20) else {
            return;
        };
        assert!(all);
        // What is dirty or in use stays, so this may have to be said more than once.
        let hole = std::num::NonZeroU64::new(4096);
        for _ in 0..100 {
            rustix::fs::fadvise(file, 300 << 10, hole, rustix::fs::Advice::DontNeed)
                .expect("advice");
            if all_pages_present(file, 0, 1 << 20) == Some(false) {
                break;
            }
        }
        if all_pages_present(file, 300 << 10, 4096) == Some(true) {
            // Large folios: the kernel drops all of one or nothing.
            return;
        }
        assert!(!in_page_cache(file, 0, 1 << 20));
        assert!(in_page_cache(file, 0, 4096));
    }
}
