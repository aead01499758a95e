//! Which bytes of which object a chunk is, and the file name that says so.
//!
//! The name carries everything, so that a restart needs no index of the folder: `OBJECT+POSITION+LENGTH.chunk`, slashes of
//! the object's key written as `,`. A key too long for a file name keeps its end, where what is unique about it stands,
//! behind a checksum of the whole. What a chunk holds is checked by CRC before its first use, whatever its name says.

use std::sync::Arc;

pub const SUFFIX: &str = ".chunk";
pub const UNFINISHED_SUFFIX: &str = ".chunk.tmp";
/// Leaves room for position, length and suffix in the 255 bytes of a file name.
const KEY_BYTES_MAX: usize = 190;

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct ChunkId {
    pub object: Arc<str>,
    pub position: u64,
    pub len: u32,
}

impl ChunkId {
    pub fn file_name(&self) -> String {
        let mut key: String = self
            .object
            .chars()
            .map(|c| match c {
                '/' => ',',
                c if c.is_ascii_alphanumeric() || "-_.=".contains(c) => c,
                _ => '~',
            })
            .collect();
        if key.len() > KEY_BYTES_MAX || key != self.object.replace('/', ",") {
            let tail = key.split_off(key.len().saturating_sub(KEY_BYTES_MAX));
            key = format!("{:08x}~{tail}", crc32c::crc32c(self.object.as_bytes()));
        }
        format!("{key}+{}+{}{SUFFIX}", self.position, self.len)
    }

    /// The length that a chunk's file must have; `None` when the name is not a chunk's.
    pub fn len_from_file_name(name: &str) -> Option<u32> {
        let mut parts = name.strip_suffix(SUFFIX)?.rsplitn(3, '+');
        let len = parts.next()?.parse().ok()?;
        parts.next()?.parse::<u64>().ok()?;
        parts.next().filter(|key| !key.is_empty())?;
        Some(len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_short_and_read_back() {
        let long = format!("a/{}/end", "x".repeat(400));
        let other_long = format!("b/{}/end", "x".repeat(400));
        let keys = ["k/3/b", "k,3,b", "k/3,b", "ключ", &long, &other_long];
        let names: std::collections::HashSet<_> = keys
            .iter()
            .map(|key| {
                let id = ChunkId {
                    object: Arc::from(*key),
                    position: 4 << 20,
                    len: 77,
                };
                let name = id.file_name();
                assert!(name.len() < 255, "{name}");
                assert_eq!(ChunkId::len_from_file_name(&name), Some(77));
                name
            })
            .collect();
        assert_eq!(names.len(), keys.len());
    }

    #[test]
    fn what_others_left_in_the_folder_is_not_a_chunk() {
        for name in ["a.chunk", "a+1.chunk", "+1+2.chunk", "a+1+2", "a+x+2.chunk"] {
            assert_eq!(ChunkId::len_from_file_name(name), None, "{name}");
        }
    }
}
