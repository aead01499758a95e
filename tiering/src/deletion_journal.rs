//! Deleted topics that the bucket has not been told of yet, on local disk: a crash right after a deletion loses none.
//!
//! Lines of `topic id, partitions, topic`, replaced whole and synced. A line that does not parse is passed over: what it
//! meant stays in the bucket, where it costs room and nothing else.

use std::path::{Path, PathBuf};

use parking_lot::Mutex;
use strandline_log::checkpoint::{StateFileError, write_atomically};
use strandline_log::{TopicId, uuid_from_base64, uuid_to_base64};

const FILE: &str = "remote-deleted-topics";

type Line = (String, TopicId, i32);

#[derive(Debug)]
pub struct DeletionJournal {
    path: PathBuf,
    /// One writer at a time.
    lock: Mutex<()>,
}

impl DeletionJournal {
    pub fn new(dir: &Path) -> Self {
        Self {
            path: dir.join(FILE),
            lock: Mutex::new(()),
        }
    }

    pub fn read(&self) -> Vec<Line> {
        let text = std::fs::read_to_string(&self.path).unwrap_or_default();
        text.lines().filter_map(parse).collect()
    }

    pub fn note(
        &self,
        topic: &str,
        topic_id: TopicId,
        partitions: i32,
    ) -> Result<(), StateFileError> {
        self.change(|lines| lines.push((topic.to_owned(), topic_id, partitions)))
    }

    pub fn forget(&self, topic_id: TopicId) -> Result<(), StateFileError> {
        self.change(|lines| lines.retain(|(_, id, _)| *id != topic_id))
    }

    fn change(&self, change: impl FnOnce(&mut Vec<Line>)) -> Result<(), StateFileError> {
        let _writer = self.lock.lock();
        let before = self.read();
        let mut lines = before.clone();
        change(&mut lines);
        if lines == before {
            return Ok(());
        }
        let text: String = lines
            .iter()
            .map(|(topic, id, partitions)| format!("{} {partitions} {topic}\n", uuid_to_base64(id)))
            .collect();
        write_atomically(&self.path, text.as_bytes(), true)
    }
}

fn parse(line: &str) -> Option<Line> {
    let mut words = line.splitn(3, ' ');
    let id = uuid_from_base64(words.next()?)?;
    let partitions = words.next()?.parse().ok()?;
    Some((words.next()?.to_owned(), id, partitions))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_noted_is_there_until_it_is_forgotten() {
        let dir = tempfile::tempdir().expect("dir");
        let journal = DeletionJournal::new(dir.path());
        assert_eq!(journal.read(), []);
        let (a, b) = (TopicId::from_u128(1), TopicId::from_u128(2));
        journal.note("a", a, 3).expect("writes");
        journal.note("b", b, 1).expect("writes");
        let again = DeletionJournal::new(dir.path());
        let lines = [("a".to_owned(), a, 3), ("b".to_owned(), b, 1)];
        assert_eq!(again.read(), lines);
        again.forget(a).expect("writes");
        assert_eq!(journal.read(), lines[1..]);
        std::fs::write(dir.path().join(FILE), "torn\nAAAA 1").expect("writes");
        assert_eq!(journal.read(), []);
    }
}
