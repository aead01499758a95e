//! Damages bytes, the same way for the same seed.

use strandline_tests::Pattern;

/// Numbers at the edges of what lengths, counts and offsets can be.
const EDGES: [i64; 14] = [
    0,
    1,
    -1,
    2,
    127,
    128,
    255,
    32_767,
    65_535,
    i32::MAX as i64,
    i32::MIN as i64,
    i64::MAX,
    i64::MIN,
    1 << 20,
];

pub struct Mutator(Pattern);

impl Mutator {
    pub fn new(seed: u64) -> Self {
        Self(Pattern::new(seed))
    }

    pub fn below(&mut self, end: usize) -> usize {
        self.0.below(end.max(1) as u64) as usize
    }

    /// One time in `out_of`.
    pub fn chance(&mut self, out_of: usize) -> bool {
        self.below(out_of) == 0
    }

    /// Damages some places of `bytes` at or after `from`.
    pub fn damage(&mut self, bytes: &mut Vec<u8>, from: usize) {
        for _ in 0..=self.below(4) {
            self.damage_once(bytes, from);
        }
    }

    fn damage_once(&mut self, bytes: &mut Vec<u8>, from: usize) {
        if bytes.len() <= from {
            bytes.extend(self.0.bytes(8));
            return;
        }
        let at = from + self.below(bytes.len() - from);
        match self.below(9) {
            0 => bytes[at] ^= 1 << self.below(8),
            1 => bytes[at] = self.0.number() as u8,
            // A number at the edge, in one of the widths of the protocol.
            2 | 3 => {
                let edge = EDGES[self.below(EDGES.len())].to_be_bytes();
                let width = [1, 2, 4, 8][self.below(4)];
                for (byte, edge) in bytes[at..].iter_mut().zip(&edge[8 - width..]) {
                    *byte = *edge;
                }
            }
            // The longest number of variable length.
            4 => {
                let end = bytes.len().min(at + 5);
                bytes[at..end].fill(0xff);
            }
            5 => bytes.truncate(at),
            6 => {
                let count = self.below(40);
                let more = self.0.bytes(count);
                bytes.splice(at..at, more);
            }
            7 => {
                let end = (at + self.below(64)).min(bytes.len());
                let again = bytes[at..end].to_vec();
                bytes.splice(at..at, again);
            }
            _ => {
                let end = (at + 1 + self.below(16)).min(bytes.len());
                bytes.drain(at..end);
            }
        }
    }

    /// Damages a frame of the protocol. Mostly its length stays true and its header whole, so that the damage gets as far
    /// as possible.
    pub fn damage_frame(&mut self, frame: &[u8]) -> Vec<u8> {
        let mut damaged = frame.to_vec();
        let from = match self.below(10) {
            // The length, the header, the body.
            0 => 0,
            1 => 4,
            _ => 12,
        };
        self.damage(&mut damaged, from);
        if from > 0 && damaged.len() >= 4 && !self.chance(20) {
            let length = (damaged.len() - 4) as u32;
            damaged[..4].copy_from_slice(&length.to_be_bytes());
        }
        damaged
    }
}
