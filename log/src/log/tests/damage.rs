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
