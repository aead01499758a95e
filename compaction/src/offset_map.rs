//! From keys to the last offsets at which they were seen, in a bounded amount of memory.
//!
//! Keys are not kept, only 128 bits of a seeded hash; that two keys of one partition share them is as good as
//! impossible, as it is for Kafka's MD5. Open addressing with linear probing: an entry is a hash and an offset, 24 bytes
//! that lie together, since what a look-up costs is memory that no cache of the processor has.
//! Nothing is ever removed. The map refuses a new key once it is as full as the load factor allows; a key that is there
//! can always be updated.
//!
//! Memory is asked for zeroed, so that the system provides only the pages that are touched.

use strandline_log::Offset;
use xxhash_rust::xxh3::xxh3_128_with_seed;

/// The halves of a hash, the low one first, and an offset.
type Entry = [u64; 3];
pub const ENTRY_BYTES: usize = size_of::<Entry>();
/// Stands for an empty slot. A key that hashes to it gets the next hash.
const EMPTY: u128 = 0;

#[derive(Debug)]
pub struct OffsetMap {
    entries: Vec<Entry>,
    len: usize,
    len_max: usize,
    /// As many as the memory that it may take would hold.
    allowed: f64,
    latest_offset: Offset,
    seed: u64,
}

impl OffsetMap {
    /// A map of at most `memory_bytes`, filled to at most `load_factor`; smaller when no more than `keys_max` keys can
    /// come. At least one key fits, so that every round of cleaning gets on.
    pub fn new(memory_bytes: usize, load_factor: f64, keys_max: u64, seed: u64) -> Self {
        let load_factor = load_factor.clamp(0.1, 0.95);
        let wanted = (keys_max as f64 / load_factor).ceil() as usize + 2;
        let slots = (memory_bytes / ENTRY_BYTES).min(wanted).max(2);
        Self {
            entries: vec![[0; 3]; slots],
            len: 0,
            allowed: (memory_bytes / ENTRY_BYTES) as f64 * load_factor,
            len_max: ((slots as f64 * load_factor) as usize).clamp(1, slots - 1),
            latest_offset: -1,
            seed,
        }
    }

    /// The key as the map knows it.
    pub fn hash(&self, key: &[u8]) -> u128 {
        match xxh3_128_with_seed(key, self.seed) {
            EMPTY => 1,
            hash => hash,
        }
    }

    fn slot_of(&self, hash: u128) -> usize {
        // The low half, scaled to the number of slots.
        ((u128::from(hash as u64) * self.entries.len() as u128) >> 64) as usize
    }

    fn hash_at(&self, at: usize) -> u128 {
        let [low, high, _] = self.entries[at];
        u128::from(high) << 64 | u128::from(low)
    }

    /// Where the hash is, or the empty slot where it would go.
    fn find(&self, hash: u128) -> usize {
        let mut at = self.slot_of(hash);
        // Ends: one slot is always empty.
        loop {
            let found = self.hash_at(at);
            if found == EMPTY || found == hash {
                return at;
            }
            at += 1;
            if at == self.entries.len() {
                at = 0;
            }
        }
    }

    /// Notes the offset, which must not be below earlier ones. False: the map is full, and nothing was changed.
    #[must_use]
    pub fn put(&mut self, hash: u128, offset: Offset) -> bool {
        let at = self.find(hash);
        if self.hash_at(at) == EMPTY {
            if self.len == self.len_max {
                return false;
            }
            self.len += 1;
        }
        self.entries[at] = [hash as u64, (hash >> 64) as u64, offset as u64];
        self.latest_offset = offset;
        true
    }

    /// The last offset of the key.
    pub fn get(&self, hash: u128) -> Option<Offset> {
        let at = self.find(hash);
        (self.hash_at(at) != EMPTY).then(|| self.entries[at][2] as Offset)
    }

    /// Up to here the map knows the log; -1 at first.
    pub fn latest_offset(&self) -> Offset {
        self.latest_offset
    }

    /// The log was looked at up to `offset`, though no key may have come of it.
    pub fn update_latest_offset(&mut self, offset: Offset) {
        self.latest_offset = self.latest_offset.max(offset);
    }

    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// How much of what it may take is in use.
    pub fn utilization(&self) -> f64 {
        self.len as f64 / self.allowed.max(1.0)
    }

    pub fn memory_bytes(&self) -> usize {
        self.entries.len() * ENTRY_BYTES
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn it_holds_what_the_memory_allows_and_no_more() {
        let mut map = OffsetMap::new(100 * ENTRY_BYTES, 0.9, u64::MAX >> 12, 7);
        let mut put = 0;
        while map.put(map.hash(&[put]), i64::from(put)) {
            put += 1;
        }
        assert_eq!(put, 90);
        assert_eq!(map.memory_bytes(), 100 * ENTRY_BYTES);
        assert!((map.utilization() - 1.0).abs() < 1e-9);
        // A key that is there is updated all the same.
        assert!(map.put(map.hash(&[3]), 1_000));
        assert_eq!(map.get(map.hash(&[3])), Some(1_000));
        assert_eq!(map.latest_offset(), 1_000);
        map.update_latest_offset(5);
        assert_eq!(map.latest_offset(), 1_000);
    }

    #[test]
    fn it_is_no_larger_than_the_keys_that_can_come_and_never_too_small_for_one() {
        let map = OffsetMap::new(1 << 30, 0.9, 1_000, 7);
        assert!(map.memory_bytes() < 30_000, "{}", map.memory_bytes());
        let mut tiny = OffsetMap::new(0, 0.9, 1_000, 7);
        assert!(tiny.put(tiny.hash(b"a"), 1));
        assert!(!tiny.put(tiny.hash(b"b"), 2));
        assert_eq!(tiny.get(tiny.hash(b"b")), None);
    }

    proptest! {
        #[test]
        fn it_agrees_with_a_plain_map(keys in proptest::collection::vec(0..50_u8, 0..300), seed: u64) {
            let mut map = OffsetMap::new(60 * ENTRY_BYTES, 0.9, 1 << 20, seed);
            let mut model = HashMap::new();
            for (offset, key) in keys.iter().enumerate() {
                prop_assert!(map.put(map.hash(&[*key]), offset as i64));
                model.insert(*key, offset as i64);
            }
            for key in 0..60_u8 {
                prop_assert_eq!(map.get(map.hash(&[key])), model.get(&key).copied());
            }
            prop_assert_eq!(map.len(), model.len());
        }
    }
}
