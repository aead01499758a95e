//! `sync_file_range`, which no safe crate wraps: asks the kernel to begin writing dirty pages, and does not wait.
//!
//! A hint and never a promise: it flushes no metadata and no disk cache. An error is of no interest, because the sync
//! that follows meets it again.
#![allow(unsafe_code)]

use std::fs::File;
use std::os::fd::AsRawFd;

pub(crate) fn start(file: &File, position: u64, len: u64) {
    let (Ok(position), Ok(len)) = (i64::try_from(position), i64::try_from(len)) else {
        return;
    };
    // SAFETY: takes a descriptor that `file` keeps open and plain numbers; touches no memory of ours.
    unsafe {
        libc::sync_file_range(file.as_raw_fd(), position, len, libc::SYNC_FILE_RANGE_WRITE);
    }
}
