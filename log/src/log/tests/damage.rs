//! Damaged batches below the recovery point.

use super::*;
use std::os::unix::fs::FileExt;

/// Sealed segments of one-record batches, all synced, and a log that goes on behind them.
fn sealed(dir: &Path) -> Log {
    let log = open(dir);
    append_all(&log, &vec![batch(1); 60]);
    log.roll(NOW).expect("rolls");
    append_all(&log, &[batch(1)]);
    log.flush().expect("flushes");
    log
}

fn scrub_all(log: &Log, bytes_max: u64) -> (u64, usize) {
    let (mut bytes, mut damages, mut from) = (0, 0, ScrubPoint::default());
    loop {
        let step = log.scrub(from, bytes_max).expect("reads");
        bytes += step.bytes;
        damages += step.damages;
        match step.next {
            Some(next) => from = next,
            None => return (bytes, damages),
        }
    }
}

#[test]
fn a_sound_log_is_read_to_its_end_whatever_the_budget() {
    let dir = tempfile::tempdir().expect("temp dir");
    let log = sealed(dir.path());
    let sealed_bytes = log.size_bytes() - log.segments.active().size();
    for budget in [1, 100, 1_000, u64::MAX] {
        assert_eq!(scrub_all(&log, budget), (sealed_bytes, 0));
    }
    assert!(log.damages().is_empty());
}

#[test]
fn a_damaged_batch_is_reported_and_only_its_offsets_are_refused() {
    // In the records: the CRC tells. In the header's length: the index tells where it goes on.
    for (at, header_is_lost) in [(65_u64, false), (8, true)] {
        let dir = tempfile::tempdir().expect("temp dir");
        let log = sealed(dir.path());
        let offset = 22;
        let read = log.read(offset, 61, 1, true).expect("reads");
        let slice = &read.slices[0];
        let position = slice.position;
        let base = *log
            .segment_metas()
            .expect("tells")
            .iter()
            .map(|meta| &meta.base_offset)
            .filter(|base| **base <= offset)
            .max()
            .expect("is there");
        let path = log_file(dir.path(), base);
        let file = std::fs::File::options()
            .write(true)
            .open(&path)
            .expect("opens");
        file.write_all_at(&[0x7f], position + at).expect("damages");

        let (_, damages) = scrub_all(&log, 200);
        assert_eq!(damages, 1);
        assert_eq!(scrub_all(&log, 200).1, 0, "it is known");
        let found = &log.damages()[0];
        assert_eq!((&found.path, found.position), (&path, position));
        assert_eq!(found.start, offset);
        assert!(
            found.end > offset && (header_is_lost || found.end == offset + 1),
            "{found:?}"
        );

        for from in 0..61 {
            let read = log.read(from, 61, 100_000, true);
            if (found.start..found.end).contains(&from) {
                match read {
                    Err(ReadError::Storage(LogError::Corrupt {
                        path: at,
                        position: p,
                        ..
                    })) => {
                        assert_eq!((&at, p), (&path, position));
                    }
                    other => panic!("at {from}: {other:?}"),
                }
                continue;
            }
            let read = read.unwrap_or_else(|e| panic!("at {from}: {e}"));
            let batches: Vec<_> = crate::record::batches_of(bytes_of(&read))
                .map(|batch| batch.expect("is whole"))
                .collect();
            assert_eq!(batches[0].header.base_offset, from);
            let last = batches.last().expect("has one").header.last_offset();
            if from < offset {
                assert_eq!(last, offset - 1, "a read before it ends at it");
            }
            batches
                .iter()
                .for_each(|b| b.verify_crc().expect("is right"));
        }
        // Appends go on, and retention takes the damage along.
        append_all(&log, &[batch(1)]);
        log.set_high_watermark(log.log_end_offset());
        log.delete_local_segments_below(60).expect("deletes");
        assert!(log.damages().is_empty());
    }
}

#[test]
fn a_wrong_index_costs_time_and_no_record() {
    let dir = tempfile::tempdir().expect("temp dir");
    let log = sealed(dir.path());
    let base = log.segment_metas().expect("tells")[1].base_offset;
    let path = crate::segment_files::segment_path(
        dir.path(),
        base,
        crate::segment_files::SegmentFile::OffsetIndex,
    );
    let good = std::fs::read(&path).expect("reads");
    assert!(good.len() >= 16, "some entries");
    // Positions of no batch, and of the wrong batch.
    for shift in [7_u32, 73, 146] {
        let mut bytes = good.clone();
        for entry in bytes.chunks_exact_mut(8) {
            let position = u32::from_be_bytes([entry[4], entry[5], entry[6], entry[7]]) + shift;
            entry[4..].copy_from_slice(&position.to_be_bytes());
        }
        std::fs::write(&path, bytes).expect("damages");
        for from in 0..61 {
            let read = log.read(from, 61, 1, true).expect("reads");
            let found = Batch::parse(bytes_of(&read)).expect("is whole").header;
            assert_eq!(found.base_offset, from, "shifted by {shift}");
        }
    }
}

/// The first read of each offset: the batch's base, or the damage that it hits.
fn first_reads(log: &Log) -> Vec<Result<Offset, (PathBuf, u64)>> {
    (log.log_start_offset()..log.log_end_offset())
        .map(|from| match log.read(from, log.log_end_offset(), 1, true) {
            Ok(read) => {
                let batch = Batch::parse(bytes_of(&read)).expect("is whole");
                batch.verify_crc().expect("is right");
                Ok(batch.header.base_offset)
            }
            Err(ReadError::Storage(LogError::Corrupt { path, position, .. })) => {
                Err((path, position))
            }
            Err(e) => panic!("at {from}: {e}"),
        })
        .collect()
}

/// Where the batch at `offset` lies.
fn place_of(log: &Log, offset: Offset) -> (Offset, u64) {
    let segments = log.segments.snapshot();
    let segment = &segments[floor(&segments, offset).expect("is there")];
    let batch = segment.find(offset, segment.size()).expect("finds");
    (segment.base_offset(), batch.expect("is there").position)
}

fn flip(dir: &Path, (base, position): (Offset, u64), at: u64, bytes: &[u8]) {
    let file = std::fs::File::options()
        .write(true)
        .open(log_file(dir, base))
        .expect("opens");
    file.write_all_at(bytes, position + at).expect("damages");
}

use crate::segments::floor;

/// Whatever start finds a broken header below the recovery point: the log opens, its batches before and behind are
/// served, appends go on, and the start after it knows without finding it again.
#[test]
fn a_start_passes_over_a_broken_header_and_serves_the_rest() {
    // In a sealed segment, in the last one, and the very last batch; with and without the indexes.
    for (offset, clean, without_indexes) in [
        (22, true, false),
        (22, false, false),
        (22, false, true),
        (22, true, true),
        (66, true, false),
        (66, false, false),
        (66, false, true),
        (69, true, false),
        (69, false, false),
        (60, false, false),
    ] {
        let case = format!("{offset}, clean: {clean}, without indexes: {without_indexes}");
        let dir = tempfile::tempdir().expect("temp dir");
        let log = sealed(dir.path());
        append_all(&log, &vec![batch(1); 9]);
        log.flush().expect("flushes");
        let (recovery_point, end) = (log.recovery_point(), log.log_end_offset());
        assert_eq!((recovery_point, end), (70, 70));
        let place = place_of(&log, offset);
        log.close(clean).expect("closes");
        drop(log);
        // The length and all behind it of the header, and the magic.
        flip(dir.path(), place, 8, &[0xff; 12]);
        let before = std::fs::read(log_file(dir.path(), place.0)).expect("reads");
        if without_indexes {
            for name in file_names(dir.path()) {
                if name.ends_with("index") {
                    std::fs::remove_file(dir.path().join(name)).expect("removes");
                }
            }
        }
        let open_again = |clean_shutdown| {
            let opened = open_with(dir.path(), config(), |open| {
                open.clean_shutdown = clean_shutdown;
                open.recovery_point = recovery_point;
            });
            opened.unwrap_or_else(|e| panic!("{case}: {e}")).0
        };
        let log = open_again(clean);
        let after = std::fs::read(log_file(dir.path(), place.0)).expect("reads");
        assert_eq!(before, after, "{case}: nothing is cut");
        let found_late = log.damages().is_empty();
        if found_late {
            // A start does not read what lies below.
            assert!(offset == 22 && !without_indexes, "{case}");
            assert_eq!(scrub_all(&log, 1_000).1, 1, "{case}");
        }
        let damages = log.damages();
        assert_eq!(damages.len(), 1, "{case}");
        assert_eq!(
            (damages[0].start, damages[0].end),
            (offset, offset + 1),
            "{case}"
        );
        assert_eq!(
            (damages[0].segment_base, damages[0].position),
            place,
            "{case}"
        );
        assert_eq!(log.log_end_offset(), end, "{case}");
        let lost = (log_file(dir.path(), place.0), place.1);
        let expected = |end| -> Vec<_> {
            (0..end)
                .map(|at| {
                    if at == offset {
                        Err(lost.clone())
                    } else {
                        Ok(at)
                    }
                })
                .collect()
        };
        log.set_high_watermark(end);
        assert_eq!(first_reads(&log), expected(end), "{case}");

        append_all(&log, &vec![batch(1); 3]);
        assert_eq!(first_reads(&log), expected(end + 3), "{case}");
        // It is known to the next start, whatever it was that ended this life.
        drop(log);
        let log = open_again(false);
        assert_eq!(log.damages(), damages, "{case}");
        assert_eq!(first_reads(&log), expected(end + 3), "{case}");

        // A cut inside of the damage ends where the last whole batch does.
        log.truncate_to(offset + 1, NOW).expect("cuts");
        log.truncate_to(offset, NOW).expect("cuts");
        assert_eq!(log.log_end_offset(), offset, "{case}");
        assert!(log.damages().is_empty(), "{case}");
        assert!(!dir.path().join("damaged-batches").exists(), "{case}");
        append_all(&log, &[batch(1)]);
        assert_eq!(first_reads(&log).last(), Some(&Ok(offset)), "{case}");
    }
}

#[test]
fn bytes_that_are_put_right_again_are_damaged_no_more() {
    let dir = tempfile::tempdir().expect("temp dir");
    let log = sealed(dir.path());
    let place = place_of(&log, 22);
    let good = std::fs::read(log_file(dir.path(), place.0)).expect("reads");
    flip(dir.path(), place, 65, &[0x7f]);
    assert_eq!(scrub_all(&log, 1_000).1, 1);
    let (log, _) = reopen(log, true);
    assert_eq!(log.damages().len(), 1, "it is kept");
    std::fs::write(log_file(dir.path(), place.0), good).expect("repairs");
    let (log, _) = reopen(log, true);
    assert!(log.damages().is_empty());
    assert!(!dir.path().join("damaged-batches").exists());
    assert!(first_reads(&log).iter().all(Result::is_ok));
}

#[test]
fn what_others_stumble_over_is_looked_at_from_a_batch_that_is_certain() {
    let dir = tempfile::tempdir().expect("temp dir");
    let log = sealed(dir.path());
    let place = place_of(&log, 22);
    flip(dir.path(), place, 65, &[0x7f]);
    // An upload names the batch, a walk that has lost its way some byte behind it.
    assert!(
        log.examine(&log_file(dir.path(), place.0), place.1 + 9)
            .expect("looks")
    );
    assert_eq!(log.damages()[0].position, place.1);
    assert!(
        !log.examine_segment(place.0, place.1).expect("looks"),
        "it is known"
    );
    assert!(
        !log.examine(&log_file(dir.path(), 12_345), 0)
            .expect("looks"),
        "no such segment"
    );
    assert!(dir.path().join("damaged-batches").exists());
}
