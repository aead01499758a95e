//! A range of a file that someone will send or read later: what a log read hands out instead of bytes.
//!
//! The descriptor is held open, so that a slice stays readable after its segment was deleted. The bytes below a
//! segment's published size never change (I3), hence no lock goes with a slice.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use bytes::Bytes;

#[derive(Clone, Debug)]
pub struct FileSlice {
    pub file: Arc<File>,
    pub position: u64,
    pub len: usize,
}

impl FileSlice {
    /// Reads the whole slice into memory. A file that ends early is an error: someone cut it.
    pub fn read_to_bytes(&self) -> io::Result<Bytes> {
        let mut bytes = vec![0; self.len];
        self.file.read_exact_at(&mut bytes, self.position)?;
        Ok(bytes.into())
    }

    /// Whether a read would be served from memory without a wait.
    pub fn in_page_cache(&self) -> bool {
        crate::page_cache::in_page_cache(&self.file, self.position, self.len)
    }

    /// As [`Self::in_page_cache`] for bytes that were written a moment ago, and so are not just being read in.
    pub fn is_still_in_page_cache(&self) -> bool {
        crate::page_cache::all_pages_present(&self.file, self.position, self.len)
            .unwrap_or_else(|| self.in_page_cache())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn reads_its_range_and_refuses_a_short_file() {
        let mut file = tempfile::tempfile().expect("temp file");
        file.write_all(b"0123456789").expect("writes");
        let file = Arc::new(file);
        let slice = |position, len| FileSlice {
            file: Arc::clone(&file),
            position,
            len,
        };
        assert_eq!(slice(3, 4).read_to_bytes().expect("reads"), &b"3456"[..]);
        assert!(slice(8, 4).read_to_bytes().is_err());
        assert!(slice(0, 10).in_page_cache());
    }
}
