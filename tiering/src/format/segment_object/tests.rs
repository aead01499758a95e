use proptest::prelude::*;
use strandline_log::TopicId;
use strandline_log::leader_epoch::EpochEntry;
use strandline_log::txn_index::AbortedTxn;

use super::super::segment_index::IndexBuilder;
use super::*;

fn footer(log_bytes: u64, chunk_bytes: u32) -> SegmentFooter {
    SegmentFooter {
        partition: PartitionKey::new("cl", TopicId::from_u128(0x0102), 3),
        start: 100,
        end: 120,
        max_timestamp: 1_700_000_000_000,
        fence: Fence::new(1, 4),
        created_ms: 1_700_000_000_500,
        log_bytes,
        chunk_bytes,
        chunk_crcs: (0..log_bytes.div_ceil(u64::from(chunk_bytes)))
            .map(|i| i as u32 + 0xA0)
            .collect(),
        sections: Vec::new(),
    }
}

fn indexes(batches: &[(i64, u64, i64)]) -> SegmentIndexes {
    let mut builder = IndexBuilder::default();
    for (base, position, max_timestamp) in batches {
        builder.batch(*base, *position, *max_timestamp, 1);
    }
    builder.finish()
}

#[test]
fn golden_bytes() {
    let mut indexes = indexes(&[(99, 0, 5), (110, 70, 7)]);
    indexes.aborted_txns.push(AbortedTxn {
        producer_id: 9,
        first_offset: 100,
        last_offset: 105,
        last_stable_offset: 106,
    });
    indexes.leader_epochs.push(EpochEntry {
        epoch: 4,
        start_offset: 90,
    });
    indexes.producer_snapshot = Bytes::from_static(b"snap");
    let (tail, bytes) = SegmentTail::encode(footer(150, 100), indexes);
    let golden = concat!(
        // Offset index.
        "00000000000000630000000000000000",
        "000000000000006e0000000000000046",
        // Time index.
        "80000000000000000000000000000063",
        "0000000000000005000000000000006e",
        // Aborted transactions.
        "00000000000000000009000000000000006400000000000000690000000000",
        "00006a",
        // Producer snapshot.
        "736e6170",
        // Leader epochs.
        "00000004000000000000005a",
        // Footer: magic, version, flags, cluster, topic id, partition.
        "5354524e44534547",
        "00010000",
        "0002636c",
        "00000000000000000000000000000102",
        "00000003",
        // Offsets, largest timestamp, fence, created.
        "00000000000000640000000000000078",
        "0000018bcfe56800",
        "000000000000000100000004",
        "0000018bcfe569f4",
        // Log bytes, chunks.
        "00000000000000960000006400000002000000a0000000a1",
        // Sections.
        "0005",
        "000100000000000000960000000000000020574f71e1",
        "000200000000000000b6000000000000002050ef7e37",
        "000300000000000000d60000000000000022e73e4174",
        "000400000000000000f8000000000000000492c562cc",
        "000500000000000000fc000000000000000ccf688585",
        // Checksum and length.
        "2851603e000000dc",
    );
    let text: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
    assert_eq!(text, golden);
    assert_eq!(SegmentTail::decode(&bytes, 150), Ok(tail));
}

#[test]
fn a_suffix_that_is_too_short_says_how_much_is_needed() {
    let (tail, bytes) = SegmentTail::encode(footer(1_000, 1), indexes(&[(100, 0, 1)]));
    let object_bytes = 1_000 + bytes.len() as u64;
    let needs = match SegmentFooter::decode_suffix(&bytes.slice(bytes.len() - 64..), object_bytes) {
        Ok(FooterRead::NeedsLast(needs)) => needs,
        other => panic!("{other:?}"),
    };
    let suffix = bytes.slice(bytes.len() - needs as usize..);
    assert_eq!(
        SegmentFooter::decode_suffix(&suffix, object_bytes),
        Ok(FooterRead::Footer(tail.footer))
    );
    assert!(SegmentFooter::decode_suffix(&bytes.slice(bytes.len() - 3..), object_bytes).is_err());
}

#[test]
fn chunks_cover_ranges_and_vouch_for_bytes() {
    let log: Vec<u8> = (0..250u32).map(|i| i as u8).collect();
    let mut footer = footer(250, 100);
    footer.chunk_crcs = log.chunks(100).map(crc32c::crc32c).collect();
    for (range, chunks) in [
        (0..1, 0..1),
        (0..100, 0..1),
        (99..101, 0..2),
        (200..999, 2..3),
        (250..260, 0..0),
        (7..7, 0..0),
    ] {
        assert_eq!(footer.chunks_covering(&range), chunks, "{range:?}");
    }
    assert_eq!(footer.chunk_range(2), 200..250);
    assert_eq!(footer.verify_chunks(0, &log), Ok(()));
    assert_eq!(footer.verify_chunks(1, &log[100..]), Ok(()));
    assert!(footer.verify_chunks(0, &log[..99]).is_err());
    assert!(footer.verify_chunks(1, &log[..100]).is_err());
    assert!(footer.verify_chunks(3, &log[..1]).is_err());
}

#[test]
fn a_newer_version_is_refused_by_name() {
    let mut encoded = footer(10, 10).encode();
    encoded[9] = 2;
    let body = encoded.len() - 8;
    let crc = crc32c::crc32c(&encoded[..body]).to_be_bytes();
    encoded[body..body + 4].copy_from_slice(&crc);
    let object_bytes = 10 + encoded.len() as u64;
    assert_eq!(
        SegmentFooter::decode_suffix(&encoded.into(), object_bytes),
        Err(FormatError::Version {
            what: WHAT,
            version: 2,
            known: 1
        })
    );
}

prop_compose! {
    fn any_tail()(
        cluster in "[a-zA-Z0-9_-]{0,30}", topic: u128, partition: i32, start in 0..1_000_000i64,
        length in 1..1_000_000i64, log_bytes in 1..5_000u64, chunk_bytes in 1..2_000u32,
        incarnation: u64, leader_epoch: i32, max_timestamp: i64, created_ms: i64,
        steps in prop::collection::vec((1..100i64, 1..100u64, any::<i64>()), 1..40),
        aborted in prop::collection::vec((any::<i64>(), any::<i64>(), any::<i64>(), any::<i64>()), 0..5),
        epochs in prop::collection::vec((any::<i32>(), any::<i64>()), 0..5),
        snapshot: Vec<u8>,
    ) -> (SegmentFooter, SegmentIndexes) {
        let mut batches = vec![(start, 0, 0)];
        for (offset, position, timestamp) in steps {
            let (o, p, _) = *batches.last().expect("one");
            batches.push((o + offset, p + position, timestamp));
        }
        let mut indexes = indexes(&batches);
        indexes.aborted_txns = aborted.into_iter().map(|(producer_id, first_offset, last_offset, last_stable_offset)| {
            AbortedTxn { producer_id, first_offset, last_offset, last_stable_offset }
        }).collect();
        indexes.leader_epochs = epochs.into_iter().map(|(epoch, start_offset)| EpochEntry { epoch, start_offset }).collect();
        indexes.producer_snapshot = snapshot.into();
        let footer = SegmentFooter {
            partition: PartitionKey::new(cluster, TopicId::from_u128(topic), partition),
            start, end: start + length, max_timestamp, created_ms,
            fence: Fence::new(incarnation, leader_epoch),
            ..footer(log_bytes, chunk_bytes)
        };
        (footer, indexes)
    }
}

proptest! {
    #[test]
    fn round_trips((footer, indexes) in any_tail()) {
        let log_bytes = footer.log_bytes;
        let (tail, bytes) = SegmentTail::encode(footer, indexes);
        prop_assert_eq!(SegmentTail::decode(&bytes, log_bytes), Ok(tail));
    }

    #[test]
    fn a_changed_byte_is_noticed((footer, indexes) in any_tail(), at: prop::sample::Index, flip in 1..=255u8) {
        let log_bytes = footer.log_bytes;
        let (_, bytes) = SegmentTail::encode(footer, indexes);
        let mut bytes = bytes.to_vec();
        let at = at.index(bytes.len());
        bytes[at] ^= flip;
        prop_assert!(SegmentTail::decode(&bytes.into(), log_bytes).is_err());
    }

    #[test]
    fn garbage_with_right_checksums_never_panics(
        (footer, indexes) in any_tail(), at: prop::sample::Index, junk in prop::collection::vec(any::<u8>(), 1..24),
    ) {
        let log_bytes = footer.log_bytes;
        let (tail, bytes) = SegmentTail::encode(footer, indexes);
        let mut bytes = bytes.to_vec();
        // The footer begins behind the last section; overwrite within it and seal it again.
        let sections: u64 = tail.footer.sections.iter().map(|s| s.length).sum();
        let (start, end) = (sections as usize, bytes.len() - 8);
        let at = start + at.index(end - start);
        for (to, from) in bytes[at..end].iter_mut().zip(&junk) {
            *to = *from;
        }
        let crc = crc32c::crc32c(&bytes[start..end]).to_be_bytes();
        bytes[end..end + 4].copy_from_slice(&crc);
        let _ = SegmentTail::decode(&bytes.into(), log_bytes);
    }

    #[test]
    fn cut_and_random_bytes_never_panic(bytes: Vec<u8>, log_bytes: u32) {
        let _ = SegmentTail::decode(&bytes.into(), u64::from(log_bytes));
    }
}
