//! The segments of a log in order. Readers take a snapshot and keep it; a change makes a new list.

use std::sync::Arc;

use parking_lot::RwLock;

use crate::segment::LogSegment;
use crate::types::Offset;

/// Never empty, sorted by base offset, the active segment last.
pub type SegmentList = Arc<Vec<Arc<LogSegment>>>;

#[derive(Debug)]
pub struct LogSegments {
    list: RwLock<SegmentList>,
}

impl LogSegments {
    /// `segments` must hold at least the active one.
    pub fn new(segments: Vec<Arc<LogSegment>>) -> Self {
        debug_assert!(!segments.is_empty());
        Self {
            list: RwLock::new(Arc::new(segments)),
        }
    }

    pub fn snapshot(&self) -> SegmentList {
        Arc::clone(&self.list.read())
    }

    pub fn active(&self) -> Arc<LogSegment> {
        let list = self.list.read();
        Arc::clone(list.last().expect("a log always has an active segment"))
    }

    pub fn first_base_offset(&self) -> Offset {
        self.list
            .read()
            .first()
            .map_or(0, |segment| segment.base_offset())
    }

    pub fn push(&self, segment: Arc<LogSegment>) {
        let mut list = self.list.write();
        let mut changed = list.to_vec();
        changed.push(segment);
        *list = Arc::new(changed);
    }

    /// Replaces all segments.
    pub fn replace(&self, segments: Vec<Arc<LogSegment>>) {
        debug_assert!(!segments.is_empty());
        *self.list.write() = Arc::new(segments);
    }

    /// Puts `new` in the place of `old`, which must be neighbours; `None` when they are not there as they were.
    pub fn splice(&self, old: &[Arc<LogSegment>], new: Arc<LogSegment>) -> Option<()> {
        let mut list = self.list.write();
        let at = place_of(&list, old)?;
        let mut changed = list.to_vec();
        changed.splice(at..at + old.len(), [new]);
        *list = Arc::new(changed);
        Some(())
    }

    /// Takes out the leading segments that end at or below `offset`, never the active one.
    pub fn remove_below(&self, offset: Offset) -> Vec<Arc<LogSegment>> {
        let mut list = self.list.write();
        let count = list[..list.len() - 1]
            .iter()
            .take_while(|segment| segment.next_offset() <= offset)
            .count();
        if count == 0 {
            return Vec::new();
        }
        let removed = list[..count].to_vec();
        *list = Arc::new(list[count..].to_vec());
        removed
    }
}

/// Where `run` begins in the list; `None` when the list does not hold exactly these segments side by side.
pub fn place_of(list: &[Arc<LogSegment>], run: &[Arc<LogSegment>]) -> Option<usize> {
    let first = run.first()?;
    let at = list
        .iter()
        .position(|segment| Arc::ptr_eq(segment, first))?;
    let found = list.get(at..at + run.len())?;
    found
        .iter()
        .zip(run)
        .all(|(a, b)| Arc::ptr_eq(a, b))
        .then_some(at)
}

/// The place of the segment that `offset` falls into: the last that begins at or below it.
pub fn floor(list: &[Arc<LogSegment>], offset: Offset) -> Option<usize> {
    list.partition_point(|segment| segment.base_offset() <= offset)
        .checked_sub(1)
}
