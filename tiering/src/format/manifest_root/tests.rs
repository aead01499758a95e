use proptest::prelude::*;
use strandline_log::TopicId;

use super::super::manifest_page::tests::any_entries;
use super::*;
use crate::manifest::tests::{entry, key};

#[test]
fn golden_bytes() {
    let manifest = Manifest {
        partition: PartitionKey::new("cl", TopicId::from_u128(0x0102), 3),
        fence: Fence::new(1, 4),
        generation: 9,
        nonces: vec![[0xAA; 16], [0xBB; 16]],
        deleted_ms: None,
        log_start: 105,
        end: 140,
        collection_floor: 2,
        epochs: vec![EpochEntry {
            epoch: 4,
            start_offset: 90,
        }],
        gaps: vec![Gap {
            start: 120,
            end: 130,
            cause: GapCause::TieringOff,
        }],
        pages: vec![PageRef {
            start: 50,
            end: 120,
            live_start: 100,
            live_entries: 2,
            live_bytes: 300,
            max_timestamp: -1,
            generation: 7,
            random: 0x0506,
            crc: 0x0708_090A,
        }],
        entries: vec![crate::manifest::ManifestEntry {
            max_timestamp: 1,
            has_aborted: false,
            footer_crc: 1,
            ..entry(130, 140)
        }],
    };
    let golden = concat!(
        "5354524e444d414e",
        "00010000",
        "0002636c",
        "00000000000000000000000000000102",
        "00000003",
        // Fence, generation, nonces.
        "000000000000000100000004",
        "0000000000000009",
        "02",
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
        "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb",
        // Not deleted, log start, end, floor, bytes.
        "ffffffffffffffff",
        "0000000000000069",
        "000000000000008c",
        "0000000000000002",
        "000000000000051e",
        // Epochs, gaps.
        "01085a",
        "01780a01",
        // One page: 50 + 70, live from 100.
        "01324632",
        "02ac02",
        "01",
        "07",
        "0000000000000506",
        "0708090a",
        // One entry: skips 130, 10 offsets, counter 100, random 4030.
        "01",
        "088201",
        "0a",
        "64",
        "0000000000000fbe",
        "f2078407",
        "02",
        "0100",
        "00000001",
        // Checksum.
        "9cdbd5e2",
    );
    let bytes = encode(&manifest);
    let text: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
    assert_eq!(text, golden);
    assert_eq!(decode(bytes), Ok(manifest));
}

prop_compose! {
    fn any_manifest()(
        paged in any_entries(1..6), fences: (u64, i32), generation in 1..u64::MAX, floor: prop::sample::Index,
        nonces in prop::collection::vec(any::<[u8; 16]>(), 1..=NONCES_KEPT), deleted_ms in prop::option::of(0..i64::MAX),
        inline in any_entries(0..6), epochs in prop::collection::btree_map(any::<i32>(), Just(()), 0..6),
        random: u64,
    ) -> Manifest {
        let mut m = Manifest::new(key(), Fence::new(fences.0, fences.1), 0, [0; 16]);
        m.generation = generation;
        m.nonces = nonces;
        m.deleted_ms = deleted_ms;
        m.collection_floor = floor.index(generation.min(1 << 40) as usize) as u64;
        m.epochs = epochs.into_keys().enumerate()
            .map(|(i, epoch)| EpochEntry { epoch, start_offset: i as i64 * 3 }).collect();
        let append = |m: &mut Manifest, entries: Vec<crate::manifest::ManifestEntry>| {
            let base = m.end;
            for mut entry in entries {
                // Sizes that add up.
                entry.bytes %= 1 << 40;
                entry.log_bytes = entry.log_bytes.min(entry.bytes);
                entry.start += base;
                entry.end += base;
                if entry.start > m.end {
                    m.gaps.push(Gap { start: m.end, end: entry.start, cause: GapCause::LossAccepted });
                }
                m.end = entry.end;
                m.entries.push(entry);
            }
        };
        append(&mut m, paged);
        m.log_start = m.entries[0].start;
        let entries = std::mem::take(&mut m.entries);
        m.pages.push(PageRef {
            generation, random, crc: random as u32,
            start: entries[0].start, end: m.end, live_start: entries[0].start,
            live_entries: entries.len() as u32, live_bytes: entries.iter().map(|e| e.bytes).sum(),
            max_timestamp: entries[0].max_timestamp,
        });
        append(&mut m, inline);
        m
    }
}

proptest! {
    #[test]
    fn round_trips(manifest in any_manifest()) {
        prop_assert_eq!(manifest.check(), Ok(()));
        prop_assert_eq!(decode(encode(&manifest)), Ok(manifest));
    }

    #[test]
    fn a_changed_byte_is_noticed(manifest in any_manifest(), at: prop::sample::Index, flip in 1..=255u8) {
        let mut bytes = encode(&manifest).to_vec();
        let at = at.index(bytes.len());
        bytes[at] ^= flip;
        prop_assert!(decode(bytes.into()).is_err());
    }

    #[test]
    fn garbage_with_a_right_checksum_never_panics_and_is_sound_if_it_decodes(
        manifest in any_manifest(), at: prop::sample::Index, junk in prop::collection::vec(any::<u8>(), 1..24),
    ) {
        let mut bytes = encode(&manifest).to_vec();
        bytes.truncate(bytes.len() - 4);
        let at = at.index(bytes.len());
        for (to, from) in bytes[at..].iter_mut().zip(&junk) {
            *to = *from;
        }
        put_crc(&mut bytes);
        if let Ok(decoded) = decode(bytes.into()) {
            prop_assert_eq!(decoded.check(), Ok(()));
        }
    }
}
