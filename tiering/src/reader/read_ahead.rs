//! Which chunks a sequential reader will want next: pure bookkeeping of the streams over one partition.
//!
//! A reader is known by where it reads, not by who it is: a read of a chunk, or of the chunk after it, continues the stream
//! that was last seen there. Each step on doubles the stream's window up to the limit, so one look into history fetches
//! nothing extra, and a reader that goes through all of it soon has several requests under way.

use std::collections::VecDeque;

/// Readers of one partition's history that are told apart.
const STREAMS_MAX: usize = 32;

/// A chunk's place: the segment's start offset and the chunk's number within it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct ChunkPlace {
    pub segment_start: i64,
    pub chunk: u64,
}

#[derive(Debug)]
struct Stream {
    at: ChunkPlace,
    next: ChunkPlace,
    window: usize,
}

#[derive(Debug, Default)]
pub struct ReadAhead {
    /// Most recently seen last.
    streams: VecDeque<Stream>,
}

impl ReadAhead {
    /// A read touched `at`; `next` is the chunk after it. Returns how many chunks from `next` on should be under way.
    pub fn window(&mut self, at: ChunkPlace, next: ChunkPlace, window_max: usize) -> usize {
        let known = self
            .streams
            .iter()
            .position(|stream| stream.at == at)
            .or_else(|| self.streams.iter().position(|stream| stream.next == at));
        let window = match known.and_then(|i| self.streams.remove(i)) {
            Some(stream) if stream.at == at => stream.window,
            Some(stream) => (stream.window * 2).max(1),
            None => 0,
        };
        if self.streams.len() >= STREAMS_MAX {
            self.streams.pop_front();
        }
        let window = window.min(window_max);
        self.streams.push_back(Stream { at, next, window });
        window
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(chunk: u64) -> ChunkPlace {
        ChunkPlace {
            segment_start: 0,
            chunk,
        }
    }

    fn read(ahead: &mut ReadAhead, chunk: u64) -> usize {
        ahead.window(place(chunk), place(chunk + 1), 4)
    }

    #[test]
    fn a_sequential_reader_is_read_ahead_further_and_further() {
        let mut ahead = ReadAhead::default();
        let windows: Vec<_> = [0, 0, 1, 1, 2, 3, 4]
            .iter()
            .map(|chunk| read(&mut ahead, *chunk))
            .collect();
        assert_eq!(windows, [0, 0, 1, 1, 2, 4, 4]);
    }

    #[test]
    fn a_jump_starts_over_and_others_do_not_disturb() {
        let mut ahead = ReadAhead::default();
        for chunk in 0..4 {
            read(&mut ahead, chunk);
        }
        assert_eq!(read(&mut ahead, 100), 0);
        assert_eq!(read(&mut ahead, 4), 4);
        assert_eq!(read(&mut ahead, 101), 1);
    }

    #[test]
    fn streams_are_bounded() {
        let mut ahead = ReadAhead::default();
        for chunk in 0..1_000 {
            read(&mut ahead, chunk * 10);
        }
        assert_eq!(ahead.streams.len(), STREAMS_MAX);
    }
}
