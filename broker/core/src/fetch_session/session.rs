//! One client's session: its partitions, what it was told of each, and which of them are marked.

use std::collections::{BTreeMap, BTreeSet};

use super::key::{FetchPosition, SessionTopic, WantedPartition};

/// A partition's place within its session. Stable until the client forgets the partition; then it may be given to
/// another, so that a mark that comes late costs one look and nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Slot(pub u32);

/// A partition to look at for the next answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    pub slot: Slot,
    pub topic: SessionTopic,
    pub partition: i32,
    pub position: FetchPosition,
    /// The partition's marks so far: a look takes back only those that came before it.
    pub(super) marks: u64,
}

/// What a look at a partition found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PartitionResult {
    pub error_code: i16,
    pub high_watermark: i64,
    pub log_start_offset: i64,
    pub records_len: usize,
    /// There are records that were left out for lack of room.
    pub more: bool,
    /// The answer carries a diverging epoch or a preferred replica.
    pub directive: bool,
}

#[derive(Clone, Debug)]
struct Part {
    topic: SessionTopic,
    partition: i32,
    position: FetchPosition,
    /// What the client was told last; -1 before the first time and after an error.
    high_watermark: i64,
    log_start_offset: i64,
    /// Where it stands in line: who got records goes to the end.
    turn: u64,
    marks: u64,
}

/// What a request changed in its session.
#[derive(Debug, Default)]
pub struct Changes {
    pub added: Vec<Candidate>,
    pub forgotten: Vec<Candidate>,
}

#[derive(Debug)]
pub struct FetchSession {
    pub id: i32,
    pub privileged: bool,
    pub uses_topic_ids: bool,
    pub created_ms: i64,
    pub last_used_ms: i64,
    /// The epoch that the next request must carry.
    pub epoch: i32,
    /// The size under which the cache keeps it.
    pub cached_size: usize,
    parts: Vec<Option<Part>>,
    free: Vec<Slot>,
    slots: BTreeMap<(SessionTopic, i32), Slot>,
    /// Marked partitions in line.
    dirty: BTreeSet<(u64, Slot)>,
    next_turn: u64,
}

impl FetchSession {
    pub fn new(id: i32, privileged: bool, uses_topic_ids: bool, now_ms: i64) -> Self {
        Self {
            id,
            privileged,
            uses_topic_ids,
            created_ms: now_ms,
            last_used_ms: now_ms,
            epoch: 1,
            cached_size: 0,
            parts: Vec::new(),
            free: Vec::new(),
            slots: BTreeMap::new(),
            dirty: BTreeSet::new(),
            next_turn: 0,
        }
    }

    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Adds, moves and forgets partitions. What is added or moved is marked.
    pub fn update(
        &mut self,
        wanted: Vec<WantedPartition>,
        forgotten: Vec<(SessionTopic, i32)>,
    ) -> Changes {
        let mut changes = Changes::default();
        for wanted in wanted {
            let key = (wanted.topic, wanted.partition);
            if let Some(slot) = self.slots.get(&key).copied() {
                if let Some(part) = self.part_mut(slot) {
                    part.position = wanted.position;
                }
                self.mark(slot);
            } else {
                let slot = self.add(key, wanted.position);
                changes.added.extend(self.candidate(slot));
            }
        }
        for key in forgotten {
            if let Some(slot) = self.slots.remove(&key) {
                changes.forgotten.extend(self.candidate(slot));
                if let Some(part) = self.parts[slot.0 as usize].take() {
                    self.dirty.remove(&(part.turn, slot));
                }
                self.free.push(slot);
            }
        }
        changes
    }

    fn add(&mut self, key: (SessionTopic, i32), position: FetchPosition) -> Slot {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.parts.push(None);
            Slot((self.parts.len() - 1) as u32)
        });
        let turn = self.take_turn();
        self.parts[slot.0 as usize] = Some(Part {
            topic: key.0.clone(),
            partition: key.1,
            position,
            high_watermark: -1,
            log_start_offset: -1,
            turn,
            marks: 0,
        });
        self.dirty.insert((turn, slot));
        self.slots.insert(key, slot);
        slot
    }

    /// The marked partitions, in line. Costs what it returns.
    pub fn candidates(&self) -> Vec<Candidate> {
        self.dirty
            .iter()
            .filter_map(|(_, slot)| self.candidate(*slot))
            .collect()
    }

    pub fn all(&self) -> Vec<Candidate> {
        self.slots
            .values()
            .filter_map(|slot| self.candidate(*slot))
            .collect()
    }

    /// False: the slot is empty.
    pub fn mark(&mut self, slot: Slot) -> bool {
        let Some(part) = self.part_mut(slot) else {
            return false;
        };
        part.marks += 1;
        let turn = part.turn;
        self.dirty.insert((turn, slot));
        true
    }

    /// Takes back the mark of a partition where nothing is new. True when it was marked again since the look: look again.
    pub fn park(&mut self, candidate: &Candidate, result: &PartitionResult) -> bool {
        let slot = candidate.slot;
        let Some(part) = self.part(slot) else {
            return false;
        };
        if part.marks != candidate.marks {
            return true;
        }
        if !part.has_news(result) && !result.more {
            let turn = part.turn;
            self.dirty.remove(&(turn, slot));
        }
        false
    }

    /// Notes what the client is told. True when it is told anything.
    pub fn settle(&mut self, candidate: &Candidate, result: &PartitionResult) -> bool {
        let slot = candidate.slot;
        let next_turn = self.next_turn;
        let Some(part) = self.part_mut(slot) else {
            return false;
        };
        let has_news = part.has_news(result);
        part.high_watermark = match result.error_code {
            0 => result.high_watermark,
            // So that the partition is told again when the error is gone.
            _ => -1,
        };
        part.log_start_offset = result.log_start_offset;
        // A client that was given records may ask for them again, from the same position: without a word, since nothing
        // changed. An error may be over without a mark.
        let stays = part.marks != candidate.marks
            || result.more
            || result.records_len > 0
            || result.error_code != 0
            || result.directive;
        let old_turn = part.turn;
        if result.records_len > 0 {
            part.turn = next_turn;
            self.next_turn += 1;
            self.dirty.remove(&(old_turn, slot));
            self.dirty.insert((next_turn, slot));
        } else if !stays {
            self.dirty.remove(&(old_turn, slot));
        }
        has_news
    }

    fn take_turn(&mut self) -> u64 {
        self.next_turn += 1;
        self.next_turn - 1
    }

    fn part(&self, slot: Slot) -> Option<&Part> {
        self.parts.get(slot.0 as usize)?.as_ref()
    }

    fn part_mut(&mut self, slot: Slot) -> Option<&mut Part> {
        self.parts.get_mut(slot.0 as usize)?.as_mut()
    }

    fn candidate(&self, slot: Slot) -> Option<Candidate> {
        self.part(slot).map(|part| Candidate {
            slot,
            topic: part.topic.clone(),
            partition: part.partition,
            position: part.position,
            marks: part.marks,
        })
    }
}

impl Part {
    fn has_news(&self, result: &PartitionResult) -> bool {
        result.records_len > 0
            || result.error_code != 0
            || result.directive
            || result.high_watermark != self.high_watermark
            || result.log_start_offset != self.log_start_offset
    }
}
