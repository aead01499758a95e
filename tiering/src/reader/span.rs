//! Chunk files side by side: a part of a segment's log bytes that can be read locally.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use strandline_log::FileSlice;

#[derive(Clone)]
struct Part {
    position: u64,
    len: u64,
    file: Arc<File>,
}

/// Positions count from the start of the segment's log bytes.
#[derive(Clone, Default)]
pub struct Span {
    parts: Vec<Part>,
}

impl Span {
    /// Adds the chunk that follows the last one.
    pub fn push(&mut self, position: u64, len: u64, file: Arc<File>) {
        debug_assert!(self.parts.is_empty() || self.end() == position);
        self.parts.push(Part {
            position,
            len,
            file,
        });
    }

    pub fn end(&self) -> u64 {
        self.parts.last().map_or(0, |part| part.position + part.len)
    }

    /// Fills `buffer` as far as the span goes; returns how far.
    pub fn read_at(&self, position: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let mut filled = 0;
        for part in self.from(position) {
            let at = position + filled as u64;
            let left = (part.position + part.len).saturating_sub(at);
            let take = usize::try_from(left)
                .unwrap_or(usize::MAX)
                .min(buffer.len() - filled);
            if take == 0 {
                break;
            }
            part.file
                .read_exact_at(&mut buffer[filled..filled + take], at - part.position)?;
            filled += take;
        }
        Ok(filled)
    }

    /// The range as slices of the chunks' files. What lies outside of the span is left out.
    pub fn slices(&self, range: Range<u64>) -> Vec<FileSlice> {
        self.parts
            .iter()
            .filter_map(|part| {
                let start = range.start.max(part.position);
                let end = range.end.min(part.position + part.len);
                (start < end).then(|| FileSlice {
                    file: Arc::clone(&part.file),
                    position: start - part.position,
                    len: (end - start) as usize,
                })
            })
            .collect()
    }

    fn from(&self, position: u64) -> impl Iterator<Item = &Part> {
        // Before the first chunk there is nothing, and nothing may be taken for it.
        let first_position = self.parts.first().map_or(0, |part| part.position);
        self.parts
            .iter()
            .skip_while(move |part| part.position + part.len <= position)
            .take_while(move |part| part.position <= position || part.position > first_position)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    /// Positions 10 to 30 in chunks of 5; every byte is its own position.
    fn span() -> Span {
        let mut span = Span::default();
        for start in (10..30).step_by(5) {
            let mut file = tempfile::tempfile().expect("temp file");
            let bytes: Vec<u8> = (start..start + 5).collect();
            file.write_all(&bytes).expect("writes");
            span.push(u64::from(start), 5, Arc::new(file));
        }
        span
    }

    #[test]
    fn reads_go_over_chunks_and_end_with_the_span() {
        let span = span();
        assert_eq!(span.end(), 30);
        for (position, len, expected) in [
            (10, 3, 10..13),
            (13, 4, 13..17),
            (14, 16, 14..30),
            (28, 10, 28..30),
            (30, 5, 30..30),
            (90, 5, 90..90),
            // What lies before the span is not taken for its start.
            (8, 5, 8..8),
        ] {
            let mut buffer = vec![0; len];
            let filled = span.read_at(position, &mut buffer).expect("reads");
            let expected: Vec<u8> = expected.collect();
            assert_eq!(buffer[..filled], expected, "{len} at {position}");
        }
    }

    #[test]
    fn slices_hold_the_range_and_no_more() {
        for (range, expected) in [
            (12..26, 12..26u8),
            (10..30, 10..30),
            (0..12, 10..12),
            (15..15, 0..0),
        ] {
            let mut bytes = Vec::new();
            for slice in span().slices(range.clone()) {
                bytes.extend_from_slice(&slice.read_to_bytes().expect("reads"));
            }
            assert_eq!(bytes, expected.collect::<Vec<u8>>(), "{range:?}");
        }
    }
}
