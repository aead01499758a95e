//! Kafka's LeaderEpochFileCache, by tables.

use std::fs;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

fn cache(entries: &[(LeaderEpoch, Offset)]) -> LeaderEpochFileCache {
    let mut cache = LeaderEpochFileCache::empty(Path::new("unused"));
    for (epoch, start) in entries {
        cache.assign(*epoch, *start);
    }
    cache.dirty = false;
    cache
}

fn pairs(cache: &LeaderEpochFileCache) -> Vec<(LeaderEpoch, Offset)> {
    let entries = cache.entries().into_iter();
    entries.map(|e| (e.epoch, e.start_offset)).collect()
}

type Pairs<'a> = &'a [(LeaderEpoch, Offset)];

#[test]
fn assigning_keeps_epochs_and_offsets_rising() {
    let table: &[(Pairs<'_>, (LeaderEpoch, Offset), Pairs<'_>)] = &[
        (&[], (0, 0), &[(0, 0)]),
        (&[(0, 0)], (1, 10), &[(0, 0), (1, 10)]),
        // The same epoch goes on.
        (&[(0, 0), (1, 10)], (1, 20), &[(0, 0), (1, 10)]),
        // An epoch without records gives way.
        (&[(0, 0), (1, 10)], (2, 10), &[(0, 0), (2, 10)]),
        // What contradicts the newest word goes.
        (&[(0, 0), (5, 10), (6, 20)], (5, 8), &[(0, 0), (5, 8)]),
        (&[(2, 6), (3, 9)], (1, 7), &[(1, 7)]),
        (&[(1, 10)], (-1, 20), &[(1, 10)]),
        (&[(1, 10)], (2, -1), &[(1, 10)]),
    ];
    for (before, (epoch, start), after) in table {
        let mut cache = cache(before);
        let changed = cache.assign(*epoch, *start);
        assert_eq!(pairs(&cache), *after, "{before:?} + {epoch} at {start}");
        assert_eq!(changed, before != after);
        assert_eq!(cache.is_dirty(), changed);
    }
}

#[test]
fn end_offsets_answer_as_kafka_does() {
    let cache = cache(&[(2, 10), (4, 20), (7, 50)]);
    let table = [
        (-1, None),
        // Older than all: it ended where the known ones begin.
        (0, Some((0, 10))),
        (1, Some((1, 10))),
        (2, Some((2, 20))),
        // Unknown, between: the one before it.
        (3, Some((2, 20))),
        (4, Some((4, 50))),
        (6, Some((4, 50))),
        (7, Some((7, 99))),
        (8, None),
        (i32::MAX, None),
    ];
    for (requested, answer) in table {
        assert_eq!(cache.end_offset_for(requested, 99), answer, "{requested}");
    }
    assert_eq!(self::cache(&[]).end_offset_for(0, 5), None);
}

#[test]
fn offsets_find_their_epoch() {
    let cache = cache(&[(2, 10), (4, 20)]);
    for (offset, epoch) in [(9, None), (10, Some(2)), (19, Some(2)), (20, Some(4))] {
        assert_eq!(cache.epoch_for_offset(offset), epoch, "{offset}");
    }
    assert_eq!(cache.previous_epoch(4), Some(2));
    assert_eq!(cache.previous_epoch(2), None);
}

#[test]
fn truncation_cuts_at_either_end() {
    let all: Pairs<'_> = &[(2, 10), (4, 20), (7, 50)];
    let end: &[(Offset, Pairs<'_>)] = &[
        (51, all),
        (50, &[(2, 10), (4, 20)]),
        (20, &[(2, 10)]),
        (0, &[]),
    ];
    for (offset, after) in end {
        let mut cache = cache(all);
        cache.truncate_from_end(*offset);
        assert_eq!(pairs(&cache), *after, "end {offset}");
        assert_eq!(cache.is_dirty(), all != *after);
    }
    let start: &[(Offset, Pairs<'_>)] = &[
        (5, all),
        (10, all),
        (15, &[(2, 15), (4, 20), (7, 50)]),
        (20, &[(4, 20), (7, 50)]),
        (60, &[(7, 60)]),
    ];
    for (offset, after) in start {
        let mut cache = cache(all);
        cache.truncate_from_start(*offset);
        assert_eq!(pairs(&cache), *after, "start {offset}");
        assert_eq!(cache.is_dirty(), all != *after);
    }
}

#[test]
fn the_file_is_kafkas_text_and_written_only_when_dirty() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("leader-epoch-checkpoint");
    let mut cache = LeaderEpochFileCache::open(dir.path()).expect("none yet");
    cache.flush(true).expect("nothing to do");
    assert!(!path.exists());
    cache.assign(0, 0);
    cache.assign(3, 120);
    cache.flush(true).expect("writes");
    assert!(!cache.is_dirty());
    assert_eq!(
        fs::read_to_string(&path).expect("is there"),
        "0\n2\n0 0\n3 120\n"
    );
    let read = LeaderEpochFileCache::open(dir.path()).expect("reads");
    assert_eq!(read.entries(), cache.entries());
    assert!(!read.is_dirty());
    for bad in ["0\n1\n1\n", "0\n1\n-1 0\n", "0\n1\n1 -5\n", "2\n0\n"] {
        fs::write(&path, bad).expect("writes");
        assert!(LeaderEpochFileCache::open(dir.path()).is_err(), "{bad}");
    }
}

proptest! {
    #[test]
    fn any_history_stays_strictly_rising_and_round_trips(
        assigns in vec((-2..50i32, -2..500i64), 0..40),
        cut_end in 0..500i64,
        cut_start in 0..500i64,
    ) {
        let dir = tempfile::tempdir().expect("a folder");
        let mut cache = LeaderEpochFileCache::empty(dir.path());
        for (epoch, start) in assigns {
            cache.assign(epoch, start);
        }
        cache.truncate_from_end(cut_end);
        cache.truncate_from_start(cut_start);
        let entries = cache.entries();
        let rising = entries.windows(2).all(|w| {
            w[0].epoch < w[1].epoch && w[0].start_offset < w[1].start_offset
        });
        prop_assert!(rising);
        cache.flush(false).expect("writes");
        let read = LeaderEpochFileCache::open(dir.path()).expect("reads");
        prop_assert_eq!(read.entries(), entries);
    }
}
