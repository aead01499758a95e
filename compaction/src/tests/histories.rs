//! I7 over random keyed histories, with crashes at every step of every swap, against a plain history in memory.

use std::collections::{BTreeMap, HashMap};

use proptest::prelude::*;
use strandline_log::log::{SwapOp, SwapStep};

use super::*;

const RETENTION_MS: TimestampMs = 10_000;

/// Where in a round it crashes: in the swap of this number, before this sync of the folder, with these renames of those
/// since the sync before lost.
#[derive(Clone, Copy, Debug)]
struct Crash {
    swap: usize,
    sync: usize,
    lost: u32,
}

#[derive(Clone, Debug)]
enum Event {
    Put {
        /// A key and whether it is a tombstone.
        records: Vec<(u8, bool)>,
        codec: usize,
        idempotent: bool,
    },
    Roll,
    Wait(TimestampMs),
    Clean {
        keys_max: usize,
        crash: Option<Crash>,
    },
    Reopen,
}

fn event() -> impl Strategy<Value = Event> {
    let crash = (0..3_usize, 0..5_usize, any::<u32>()).prop_map(|(swap, sync, lost)| Crash {
        swap,
        sync,
        lost,
    });
    prop_oneof![
        8 => (prop::collection::vec((0..12_u8, prop::bool::weighted(0.25)), 1..6), 0..5_usize, any::<bool>())
            .prop_map(|(records, codec, idempotent)| Event::Put { records, codec, idempotent }),
        2 => Just(Event::Roll),
        1 => (1..8_000_i64).prop_map(Event::Wait),
        3 => (1..20_usize, prop::option::of(crash)).prop_map(|(keys_max, crash)| Event::Clean { keys_max, crash }),
        1 => Just(Event::Reopen),
    ]
}

#[derive(Clone, Debug, PartialEq)]
struct Written {
    key: Vec<u8>,
    value: Option<Vec<u8>>,
    timestamp: TimestampMs,
}

struct World {
    dir: tempfile::TempDir,
    config: LogConfig,
    log: Option<Log>,
    history: BTreeMap<Offset, Written>,
    now_ms: TimestampMs,
    checkpoint: Option<Offset>,
    sequence: i32,
    crashes: usize,
}

impl World {
    fn new(segment_bytes: u32) -> Self {
        // In memory where there is such a folder: nothing here needs a disk, and syncs are dear.
        let dir = tempfile::tempdir_in("/dev/shm")
            .or_else(|_| tempfile::tempdir())
            .expect("temp dir");
        let bytes = segment_bytes.to_string();
        let config = config(&[("internal.segment.bytes", bytes.as_str())]);
        let log = open(dir.path(), &config, 0);
        Self {
            dir,
            config,
            log: Some(log),
            history: BTreeMap::new(),
            now_ms: NOW,
            checkpoint: None,
            sequence: 0,
            crashes: 0,
        }
    }

    fn log(&self) -> &Log {
        self.log.as_ref().expect("is open")
    }

    fn crash(&mut self) {
        let recovery_point = self.log().recovery_point();
        self.log = None;
        self.log = Some(open(self.dir.path(), &self.config, recovery_point));
    }

    fn apply(&mut self, event: &Event) -> Result<(), TestCaseError> {
        self.now_ms += 1;
        match event {
            Event::Put {
                records,
                codec,
                idempotent,
            } => self.put(records, Compression::ALL[*codec], *idempotent),
            Event::Roll => {
                self.log().roll(self.now_ms).expect("rolls");
            }
            Event::Wait(ms) => self.now_ms += ms,
            Event::Clean { keys_max, crash } => {
                self.clean(*keys_max, *crash);
                self.check()?;
            }
            Event::Reopen => {
                self.crash();
                self.check()?;
            }
        }
        Ok(())
    }

    fn put(&mut self, records: &[(u8, bool)], compression: Compression, idempotent: bool) {
        let offsets = self.log().log_end_offset()..;
        let mut new = Vec::new();
        for ((key, deletes), offset) in records.iter().zip(offsets) {
            let written = Written {
                key: vec![b'k', *key],
                value: (!deletes).then(|| format!("value {offset}").into_bytes()),
                timestamp: self.now_ms,
            };
            new.push(NewRecord {
                timestamp: written.timestamp,
                key: Some(written.key.clone().into()),
                value: written.value.clone().map(Bytes::from),
                headers: Vec::new(),
            });
            self.history.insert(offset, written);
        }
        let mut options = BatchOptions {
            compression,
            ..BatchOptions::default()
        };
        if idempotent {
            options.producer_id = 5;
            options.producer_epoch = 0;
            options.base_sequence = self.sequence;
            self.sequence += records.len() as i32;
        }
        append(self.log(), &new, options, self.now_ms);
    }

    fn clean(&mut self, keys_max: usize, crash: Option<Crash>) {
        let plan = plan(self.log(), self.checkpoint, self.now_ms);
        let (mut swap, mut sync) = (0, 0);
        let mut rename = 0;
        let mut crashed = false;
        let mut step = |op: &SwapOp| {
            let Some(crash) = crash.filter(|c| c.swap == swap) else {
                if *op == SwapOp::SyncDir {
                    sync += 1;
                    if sync == 4 {
                        (swap, sync) = (swap + 1, 0);
                    }
                }
                return SwapStep::Do;
            };
            match op {
                SwapOp::SyncDir if sync == crash.sync => {
                    crashed = true;
                    SwapStep::Crash
                }
                SwapOp::SyncDir => {
                    (sync, rename) = (sync + 1, 0);
                    if sync == 4 {
                        (swap, sync) = (swap + 1, 0);
                    }
                    SwapStep::Do
                }
                SwapOp::Rename { .. } if sync == crash.sync => {
                    rename += 1;
                    if crash.lost & (1 << (rename % 32)) != 0 {
                        SwapStep::Lose
                    } else {
                        SwapStep::Do
                    }
                }
                SwapOp::Rename { .. } => SwapStep::Do,
            }
        };
        let result = cleaner(keys_max).clean_by(
            self.log(),
            &plan,
            self.now_ms,
            &mut |_| ControlFlow::Continue(()),
            &mut step,
        );
        if crashed {
            self.crashes += 1;
            self.crash();
            return;
        }
        let cleaned = result.expect("cleans");
        assert!(cleaned.end_offset >= plan.first_dirty);
        self.checkpoint = Some(cleaned.end_offset);
        self.check_cleaned(cleaned.end_offset);
    }

    /// After a whole round no key is left twice below its end.
    fn check_cleaned(&self, end_offset: Offset) {
        let mut seen: HashMap<Bytes, Offset> = HashMap::new();
        for record in records(self.log()) {
            if record.offset >= end_offset {
                break;
            }
            let before = seen.insert(record.key.clone().expect("a key"), record.offset);
            // Only what earlier rounds could not know may be left; a round knows everything below its end but what
            // lies beyond where earlier rounds stopped, so the checkpoint is where to look.
            assert_eq!(before, None, "{record:?} below {end_offset}");
        }
    }

    fn check(&self) -> Result<(), TestCaseError> {
        let found = records(self.log());
        // What is there was written, at that offset, in order.
        let mut last_offset = -1;
        for record in &found {
            prop_assert!(record.offset > last_offset);
            last_offset = record.offset;
            let expected = self.history.get(&record.offset);
            let read = Written {
                key: record.key.clone().expect("a key").to_vec(),
                value: record.value.clone().map(|v| v.to_vec()),
                timestamp: record.timestamp,
            };
            prop_assert_eq!(expected, Some(&read), "at {}", record.offset);
        }
        // Every batch is whole, and says where it ends.
        let mut next = 0;
        for header in headers(self.log()) {
            prop_assert!(header.base_offset >= next);
            next = header.next_offset();
        }
        let end = self.history.len() as i64;
        prop_assert_eq!(self.log().log_end_offset(), end);
        // The last of every key is there, or was a tombstone whose time is over.
        let mut last: HashMap<&[u8], Offset> = HashMap::new();
        for (offset, written) in &self.history {
            last.insert(&written.key, *offset);
        }
        let kept: HashMap<Offset, &Record> = found.iter().map(|r| (r.offset, r)).collect();
        for (key, offset) in last {
            let written = &self.history[&offset];
            let gone_for_good =
                written.value.is_none() && self.now_ms - written.timestamp >= RETENTION_MS;
            prop_assert!(
                kept.contains_key(&offset) || gone_for_good,
                "key {key:?} at {offset} is gone"
            );
            // And nothing that was deleted comes back to life.
            let read_last = found.iter().rev().find(|r| r.key.as_deref() == Some(key));
            match read_last {
                Some(record) => prop_assert_eq!(
                    record.value.is_some(),
                    written.value.is_some(),
                    "key {:?}: {} for {}",
                    key,
                    record.offset,
                    offset
                ),
                None => prop_assert!(gone_for_good),
            }
        }
        // The active segment is as it was written.
        let active = self.log().active_segment_base_offset();
        prop_assert_eq!(
            found.iter().filter(|r| r.offset >= active).count() as i64,
            end - active
        );
        // A retry of the producer's last batch would be known.
        let producers = self.log().producers();
        if let Some(producer) = producers.iter().find(|p| p.producer_id == 5) {
            prop_assert_eq!(producer.last_sequence(), self.sequence - 1);
        } else {
            prop_assert_eq!(self.sequence, 0);
        }
        // By time, the first record that is young enough.
        for record in found.iter().step_by(7) {
            let at = self
                .log()
                .offset_for_timestamp(record.timestamp)
                .expect("finds");
            let expected = found.iter().find(|r| r.timestamp >= record.timestamp);
            prop_assert_eq!(at.map(|at| at.offset), expected.map(|r| r.offset));
        }
        Ok(())
    }
}

/// Every crash point of one swap that puts three segments together, with every set of lost renames.
#[test]
fn no_crash_point_of_a_swap_loses_a_key() {
    let roomy = config(&[("internal.segment.bytes", "100000")]);
    let mut crashes = 0;
    for sync in 0..4 {
        // Nine renames at most lie between two syncs.
        for lost in 0..if sync == 2 { 1 << 9 } else { 1 << 4 } {
            let mut world = World::new(100_000);
            let put = |key: u8, deletes: bool| Event::Put {
                records: vec![(key, deletes), (key + 1, false)],
                codec: 0,
                idempotent: true,
            };
            for segment in 0..3_u8 {
                for key in [1, 2, 4] {
                    world.apply(&put(key, segment == key)).expect("puts");
                }
                world.apply(&Event::Roll).expect("rolls");
            }
            world.config = roomy.clone();
            let crash = Some(Crash {
                swap: 0,
                sync,
                // The first rename is counted as 1.
                lost: lost << 1,
            });
            world
                .apply(&Event::Clean {
                    keys_max: 50,
                    crash,
                })
                .unwrap_or_else(|e| panic!("before sync {sync}, {lost:b} lost: {e}"));
            crashes += world.crashes;
            world
                .apply(&Event::Clean {
                    keys_max: 50,
                    crash: None,
                })
                .unwrap_or_else(|e| panic!("after sync {sync}, {lost:b} lost: {e}"));
            assert_eq!(world.log().segment_count(), 2, "three became one");
            let names = std::fs::read_dir(world.dir.path()).expect("lists");
            for name in names {
                let name = name
                    .expect("lists")
                    .file_name()
                    .into_string()
                    .expect("text");
                assert!(
                    !name.ends_with(".swap") && !name.ends_with(".cleaned"),
                    "{name}"
                );
            }
        }
    }
    assert_eq!(crashes, 3 * 16 + 512);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(
        std::env::var("TEST_STRANDLINE_LONG").map_or(1_500, |_| 100_000)
    ))]

    #[test]
    fn the_last_value_of_every_key_survives_crashes_of_the_cleaner(
        events in prop::collection::vec(event(), 1..80),
        segment_bytes in 200..1_500_u32,
    ) {
        let mut world = World::new(segment_bytes);
        for event in &events {
            world.apply(event)?;
        }
        // Whatever happened, the cleaner gets to the end.
        world.apply(&Event::Roll)?;
        for _ in 0..200 {
            let plan = plan(world.log(), world.checkpoint, world.now_ms);
            if plan.cleanable_bytes == 0 {
                break;
            }
            world.apply(&Event::Clean { keys_max: 9, crash: None })?;
        }
        world.crash();
        world.check()?;
    }
}
