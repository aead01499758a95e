//! Edits by table: what is allowed, what is refused, what they do.

use strandline_log::leader_epoch::EpochEntry;

use super::*;

const FENCE: Fence = Fence {
    incarnation: 1,
    leader_epoch: 0,
};

/// A manifest after edits of the first fence.
fn after(start: Offset, edits: &[Edit]) -> Manifest {
    manifest(start)
        .apply(FENCE, edits, [2; 16])
        .expect("allowed")
}

fn refusal(manifest: &Manifest, edit: Edit) -> ManifestError {
    manifest
        .apply(FENCE, &[edit], [3; 16])
        .expect_err("refused")
}

#[test]
fn older_fences_are_refused_whatever_they_edit() {
    let current = manifest(0)
        .apply(Fence::new(2, 5), &[Edit::Claim], [2; 16])
        .expect("newer");
    for (incarnation, epoch, allowed) in [
        (2, 5, true),
        (2, 6, true),
        (3, 0, true),
        (2, 4, false),
        (1, 99, false),
    ] {
        let fence = Fence::new(incarnation, epoch);
        for edit in [
            Edit::Claim,
            append(0, 10),
            Edit::RaiseFloor,
            Edit::Delete { now_ms: 1 },
        ] {
            let result = current.apply(fence, std::slice::from_ref(&edit), [3; 16]);
            match result {
                Ok(next) => assert!(allowed && next.fence == fence, "{fence} {edit:?}"),
                Err(e) => {
                    assert!(!allowed, "{fence} {edit:?}: {e}");
                    assert!(matches!(e, ManifestError::Fenced { .. }), "{e}");
                }
            }
        }
    }
}

#[test]
fn each_edit_counts_and_leaves_its_nonce() {
    let mut m = manifest(0);
    for i in 2..20u8 {
        m = m.apply(FENCE, &[Edit::Claim], [i; 16]).expect("allowed");
        assert_eq!((m.generation, m.nonce()), (u64::from(i), [i; 16]));
    }
    assert_eq!(m.nonces.len(), NONCES_KEPT);
    assert_eq!(m.nonces[7], [12; 16]);
}

#[test]
fn entries_begin_exactly_at_the_end() {
    let m = after(5, &[append(5, 10), append(10, 12)]);
    assert_eq!((m.start_offset(), m.end_offset()), (5, 12));
    for (start, end) in [(10, 12), (11, 20), (13, 20), (5, 10)] {
        let e = refusal(&m, append(start, end));
        assert!(matches!(e, ManifestError::NotAtEnd { .. }), "{e}");
    }
    for bad in [
        ManifestEntry {
            end: 12,
            ..entry(12, 20)
        },
        ManifestEntry {
            end: 11,
            ..entry(12, 20)
        },
        ManifestEntry {
            log_bytes: 0,
            ..entry(12, 20)
        },
        ManifestEntry {
            log_bytes: 5_000,
            ..entry(12, 20)
        },
    ] {
        let e = refusal(
            &m,
            Edit::Append {
                entry: bad,
                epochs: Vec::new(),
            },
        );
        assert!(matches!(e, ManifestError::BadEntry { .. }), "{e}");
    }
    let newer = ManifestEntry {
        fence: Fence::new(1, 1),
        ..entry(12, 20)
    };
    let e = refusal(
        &m,
        Edit::Append {
            entry: newer,
            epochs: Vec::new(),
        },
    );
    assert!(matches!(e, ManifestError::Fenced { .. }), "{e}");
}

#[test]
fn uploads_begun_below_the_floor_cannot_commit() {
    let m = after(0, &[append(0, 10), Edit::RaiseFloor]);
    assert_eq!(m.collection_floor, m.generation);
    let begun_at = |counter| {
        let object = ObjectRef::Segment { counter, random: 1 };
        Edit::Append {
            entry: ManifestEntry {
                object,
                ..entry(10, 20)
            },
            epochs: Vec::new(),
        }
    };
    let e = refusal(&m, begun_at(m.generation - 1));
    assert!(matches!(e, ManifestError::BelowFloor { .. }), "{e}");
    assert!(m.apply(FENCE, &[begun_at(m.generation)], [3; 16]).is_ok());
}

#[test]
fn gaps_are_recorded_and_found() {
    let cause = GapCause::TieringOff;
    let m = after(
        0,
        &[
            append(0, 10),
            Edit::RecordGap { end: 15, cause },
            append(15, 20),
        ],
    );
    assert_eq!(
        m.gaps,
        [Gap {
            start: 10,
            end: 15,
            cause
        }]
    );
    assert_eq!(m.gap_at(12).map(|g| g.end), Some(15));
    assert_eq!(m.gap_at(15), None);
    for end in [20, 3] {
        let e = refusal(&m, Edit::RecordGap { end, cause });
        assert!(matches!(e, ManifestError::NotAtEnd { .. }), "{e}");
    }
}

#[test]
fn the_log_start_only_advances_and_what_it_passes_unseen_is_a_gap() {
    let m = after(
        0,
        &[
            append(0, 10),
            append(10, 20),
            Edit::AdvanceLogStart { offset: 12 },
        ],
    );
    assert_eq!((m.log_start, m.end, m.entries.len()), (12, 20, 2));
    let m = m
        .apply(FENCE, &[Edit::AdvanceLogStart { offset: 3 }], [3; 16])
        .expect("no effect");
    assert_eq!(m.log_start, 12);
    let beyond = [Edit::AdvanceLogStart { offset: 30 }, append(30, 40)];
    let m = m.apply(FENCE, &beyond, [4; 16]).expect("allowed");
    assert_eq!((m.log_start, m.end), (30, 40));
    assert_eq!(
        m.gaps,
        [Gap {
            start: 20,
            end: 30,
            cause: GapCause::Expired
        }]
    );
}

#[test]
fn only_what_the_log_start_passed_is_removed() {
    let edits = [
        append(0, 10),
        append(10, 20),
        Edit::AdvanceLogStart { offset: 12 },
    ];
    let m = after(0, &edits);
    let remove = |below| Edit::RemoveExpired { below, cut: None };
    let e = refusal(&m, remove(13));
    assert!(matches!(e, ManifestError::NotExpired { .. }), "{e}");
    let m = m.apply(FENCE, &[remove(12)], [3; 16]).expect("allowed");
    assert_eq!(m.entries, [entry(10, 20)]);
    assert_eq!(m.bytes_total(), 1_010);
    let all = [Edit::AdvanceLogStart { offset: 20 }, remove(20)];
    let m = m.apply(FENCE, &all, [4; 16]).expect("allowed");
    assert_eq!((m.entries.len(), m.log_start, m.end), (0, 20, 20));
    let m = m.apply(FENCE, &[append(20, 25)], [5; 16]).expect("goes on");
    assert_eq!(m.end, 25);
}

#[test]
fn a_deleted_topic_takes_nothing_and_is_emptied_before_its_objects_go() {
    let m = after(0, &[append(0, 10)]);
    assert_eq!(refusal(&m, Edit::Purge), ManifestError::NotDeleted);
    let m = m
        .apply(FENCE, &[Edit::Delete { now_ms: 77 }], [3; 16])
        .expect("allowed");
    assert_eq!((m.deleted_ms, m.entries.len()), (Some(77), 1));
    let gap = Edit::RecordGap {
        end: 20,
        cause: GapCause::TieringOff,
    };
    for edit in [append(10, 20), Edit::AdvanceLogStart { offset: 5 }, gap] {
        assert_eq!(refusal(&m, edit), ManifestError::Deleted);
    }
    let again = [Edit::Delete { now_ms: 99 }, Edit::Purge];
    let m = m.apply(FENCE, &again, [4; 16]).expect("allowed");
    assert_eq!((m.deleted_ms, m.entry_count()), (Some(77), 0));
    assert_eq!(
        (m.log_start, m.end, m.collection_floor),
        (10, 10, m.generation)
    );
}

#[test]
fn epochs_follow_the_entries() {
    let epoch = |epoch, start_offset| EpochEntry {
        epoch,
        start_offset,
    };
    let with = |start, end, epochs: &[EpochEntry]| Edit::Append {
        entry: entry(start, end),
        epochs: epochs.to_vec(),
    };
    let m = after(
        10,
        &[
            // The lineage may begin below the log start and go on behind the entry.
            with(10, 20, &[epoch(1, 0), epoch(3, 15), epoch(4, 20)]),
            with(20, 30, &[epoch(3, 15), epoch(4, 20)]),
            with(30, 40, &[epoch(4, 20)]),
        ],
    );
    assert_eq!(m.epochs, [epoch(1, 0), epoch(3, 15), epoch(4, 20)]);
    for (asked, answer) in [
        (0, None),
        (1, Some((1, 15))),
        (2, Some((1, 15))),
        (3, Some((3, 20))),
        (4, Some((4, 40))),
        (5, None),
    ] {
        assert_eq!(m.epoch_end_offset(asked), answer, "epoch {asked}");
    }
    for (offset, answer) in [
        (0, Some(1)),
        (14, Some(1)),
        (15, Some(3)),
        (39, Some(4)),
        (40, None),
    ] {
        assert_eq!(m.epoch_for_offset(offset), answer, "offset {offset}");
    }
    let e = refusal(&m, with(40, 50, &[epoch(2, 40)]));
    assert!(matches!(e, ManifestError::EpochBackwards { .. }), "{e}");
    // Removal keeps the epoch that holds the first entry.
    let cut = [
        Edit::AdvanceLogStart { offset: 25 },
        Edit::RemoveExpired {
            below: 20,
            cut: None,
        },
    ];
    let m = m.apply(FENCE, &cut, [3; 16]).expect("allowed");
    assert_eq!(m.epochs, [epoch(4, 20)]);
}

#[test]
fn broken_states_are_told() {
    let sound = after(0, &[append(0, 10), append(10, 20)]);
    assert_eq!(sound.check(), Ok(()));
    type Breaker = fn(&mut Manifest);
    let breakers: &[Breaker] = &[
        |m| m.entries[1].start = 9,
        |m| m.entries[1].start = 11,
        |m| m.end = 21,
        |m| m.end = 19,
        |m| m.log_start = 21,
        |m| m.log_start = -1,
        |m| m.nonces.clear(),
        |m| m.collection_floor = m.generation + 1,
        |m| m.entries[0].end = 0,
        |m| {
            m.entries.remove(0);
        },
    ];
    for (i, breaker) in breakers.iter().enumerate() {
        let mut broken = sound.clone();
        breaker(&mut broken);
        assert!(broken.check().is_err(), "breaker {i}");
    }
}
