//! Appends that are written and wait for the disk, where a topic's `flush.messages` or `flush.ms` asks for that.
//!
//! While one sync runs, the next appends are written and gather here; the sync after it serves them all. Always: groups
//! are settled in the order in which they were appended; one that needs no sync does not overtake one that does.

use strandline_log::{AppendError, AppendInfo, Offset};

use super::{AppendReply, RequiredAcks};

/// Who waits for an answer, the batch's bytes and its records.
pub type Waiting = (RequiredAcks, AppendReply, usize, i32);

/// What one call of the log has appended.
pub struct AppendedGroup {
    pub answers: Vec<(Result<AppendInfo, AppendError>, Waiting)>,
    /// The log's end after it.
    pub end: Offset,
    /// The answers hold once the log is synced up to here.
    pub flush_to: Option<Offset>,
}

#[derive(Default)]
pub struct CommitQueue {
    waiting: Vec<AppendedGroup>,
    /// A commit thread has the partition, or will.
    scheduled: bool,
}

impl CommitQueue {
    /// Gives the group back when it may be settled at once. Else it waits, and `schedule` is called if nobody is at it.
    #[must_use]
    pub fn push(&mut self, group: AppendedGroup, schedule: impl FnOnce()) -> Option<AppendedGroup> {
        if group.flush_to.is_none() && !self.scheduled {
            return Some(group);
        }
        self.waiting.push(group);
        if !std::mem::replace(&mut self.scheduled, true) {
            schedule();
        }
        None
    }

    /// All that waits. `None` ends the commit thread's turn: everything that it took before must be settled by then.
    pub fn take(&mut self) -> Option<Vec<AppendedGroup>> {
        if self.waiting.is_empty() {
            self.scheduled = false;
            return None;
        }
        Some(std::mem::take(&mut self.waiting))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(end: Offset, flush_to: Option<Offset>) -> AppendedGroup {
        AppendedGroup {
            answers: Vec::new(),
            end,
            flush_to,
        }
    }

    #[test]
    fn nothing_overtakes_what_waits_for_the_disk() {
        let mut queue = CommitQueue::default();
        let never = || panic!("nobody is needed");
        assert!(queue.push(group(1, None), never).is_some());
        let mut scheduled = 0;
        assert!(queue.push(group(2, Some(2)), || scheduled += 1).is_none());
        assert!(queue.push(group(3, None), never).is_none());
        assert!(queue.push(group(4, Some(4)), never).is_none());
        let ends = |groups: Option<Vec<AppendedGroup>>| {
            groups.map(|groups| groups.iter().map(|g| g.end).collect::<Vec<_>>())
        };
        assert_eq!(ends(queue.take()), Some(vec![2, 3, 4]));
        assert!(
            queue.push(group(5, None), never).is_none(),
            "those are not settled yet"
        );
        assert_eq!(ends(queue.take()), Some(vec![5]));
        assert_eq!(ends(queue.take()), None);
        assert!(queue.push(group(6, None), never).is_some());
        assert_eq!(scheduled, 1);
    }
}
