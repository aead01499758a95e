//! Asks the kernel whether bytes of a file are in the page cache, without waiting for the disk.
//!
//! `preadv2` with `RWF_NOWAIT` fails with `EAGAIN` where a read would block. A file system that cannot say so answers
//! `EOPNOTSUPP`: then everything counts as cached, because there is nothing better to do than to read. The answer is
//! a hint, pages may go at any time, and nothing here reads ahead.

use std::fs::File;
use std::io::IoSliceMut;

use rustix::io::{Errno, ReadWriteFlags};

/// Samples are this far apart at most: the kernel reads ahead and evicts in runs, so that a few tell for all.
const SAMPLE_STRIDE: u64 = 256 * 1024;
/// Never more probes than this for one slice.
const SAMPLES_MAX: u64 = 16;

/// Whether the sampled pages of `[position, position + len)` are in memory. An empty range is.
pub fn in_page_cache(file: &File, position: u64, len: usize) -> bool {
    if len == 0 {
        return true;
    }
    let last = position + len as u64 - 1;
    let stride = SAMPLE_STRIDE.max((len as u64).div_ceil(SAMPLES_MAX));
    let mut at = position;
    while at < last {
        if !page_is_cached(file, at) {
            return false;
        }
        at += stride;
    }
    page_is_cached(file, last)
}

fn page_is_cached(file: &File, position: u64) -> bool {
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
        assert!(in_page_cache(&file, 1 << 20, 10), "past the end");
    }
}
