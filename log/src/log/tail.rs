//! The published end of a log: its offset, and where the last appends ended in their segment.
//!
//! Fetches at the end of the log begin and end at the end of some append, so their positions are found here, without
//! a read of the file. The log end and its position are published together: a reader who is bounded by the log end
//! never sees bytes behind it.

use std::collections::VecDeque;

use crate::types::Offset;

/// Appends that are remembered.
const POINTS_MAX: usize = 64;

/// `offset` begins at `position` of the segment at `segment_base`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct TailPoint {
    offset: Offset,
    segment_base: Offset,
    position: u64,
}

#[derive(Debug)]
pub(super) struct Tail {
    end_offset: Offset,
    /// By offset and position, oldest first.
    points: VecDeque<TailPoint>,
}

impl Tail {
    pub fn new(end_offset: Offset, segment_base: Offset, position: u64) -> Self {
        let mut tail = Self {
            end_offset,
            points: VecDeque::new(),
        };
        tail.publish(end_offset, segment_base, position);
        tail
    }

    pub fn end_offset(&self) -> Offset {
        self.end_offset
    }

    /// The log ends at `offset` now, which is `position` of the active segment.
    pub fn publish(&mut self, offset: Offset, segment_base: Offset, position: u64) {
        if self.points.len() == POINTS_MAX {
            self.points.pop_front();
        }
        self.end_offset = offset;
        self.points.push_back(TailPoint {
            offset,
            segment_base,
            position,
        });
    }

    /// The segments at these bases got other bytes: no position in them holds any more.
    pub fn forget(&mut self, segment_bases: &[Offset]) {
        self.points
            .retain(|point| !segment_bases.contains(&point.segment_base));
    }

    /// Where `offset` begins in the segment at `segment_base`, if an append ended there.
    pub fn position_of(&self, offset: Offset, segment_base: Offset) -> Option<u64> {
        self.points
            .iter()
            .rev()
            .take_while(|p| p.offset >= offset && p.segment_base >= segment_base)
            .find(|p| p.offset == offset && p.segment_base == segment_base)
            .map(|p| p.position)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ends_of_the_last_appends_are_known() {
        let mut tail = Tail::new(10, 0, 100);
        tail.publish(20, 0, 300);
        tail.publish(20, 20, 0);
        tail.publish(25, 20, 80);
        assert_eq!(tail.end_offset(), 25);
        assert_eq!(tail.position_of(10, 0), Some(100));
        assert_eq!(tail.position_of(20, 0), Some(300));
        assert_eq!(tail.position_of(20, 20), Some(0));
        assert_eq!(tail.position_of(25, 20), Some(80));
        assert_eq!(tail.position_of(15, 0), None);
        for i in 0..100 {
            tail.publish(100 + i, 20, 1_000);
        }
        assert_eq!(tail.position_of(25, 20), None, "forgotten");
    }
}
