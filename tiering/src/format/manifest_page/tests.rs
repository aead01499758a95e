use proptest::prelude::*;

use super::*;

prop_compose! {
    fn any_object()(shared: bool, counter: u64, random: u64, key in "[a-z/]{1,40}", position in 0..u64::MAX / 4)
        -> ObjectRef {
        if shared { ObjectRef::Shared { key, position } } else { ObjectRef::Segment { counter, random } }
    }
}

/// Entries that follow each other, most without a gap.
pub(in crate::format) fn any_entries(
    count: impl Into<prop::collection::SizeRange>,
) -> impl Strategy<Value = Vec<ManifestEntry>> {
    let one = (
        prop_oneof![3 => Just(0i64), 1 => 1..1_000i64],
        1..1_000_000i64,
        any_object(),
        (1..u64::MAX / 4, any::<prop::sample::Index>()),
        any::<i64>(),
        any::<(bool, bool, u64, i32, u32)>(),
    );
    prop::collection::vec(one, count).prop_map(|parts| {
        let mut end_before = 0;
        parts
            .into_iter()
            .map(
                |(skip, length, object, (bytes, log), max_timestamp, rest)| {
                    let (has_aborted, damaged, incarnation, epoch, footer_crc) = rest;
                    let start = end_before + skip;
                    end_before = start + length;
                    ManifestEntry {
                        start,
                        end: end_before,
                        object,
                        bytes,
                        log_bytes: log.index(bytes.min(usize::MAX as u64) as usize) as u64,
                        max_timestamp,
                        has_aborted,
                        damaged,
                        fence: Fence::new(incarnation, epoch),
                        footer_crc,
                    }
                },
            )
            .collect()
    })
}

#[test]
fn golden_bytes() {
    let entry = |start, end, object| ManifestEntry {
        start,
        end,
        object,
        bytes: 1_000,
        log_bytes: 900,
        max_timestamp: -1,
        has_aborted: false,
        damaged: false,
        fence: Fence::new(1, 5),
        footer_crc: 0xAABB_CCDD,
    };
    let mut entries = vec![
        entry(
            100,
            228,
            ObjectRef::Segment {
                counter: 3,
                random: 0x0102,
            },
        ),
        entry(
            228,
            230,
            ObjectRef::Shared {
                key: "a/b".to_owned(),
                position: 300,
            },
        ),
    ];
    entries[1].has_aborted = true;
    entries[1].damaged = true;
    let bytes = encode(&entries);
    let golden = concat!(
        "5354524e44504147",
        "00010000",
        "02",
        // Skips 100, 128 offsets, counter 3, random.
        "0864",
        "8001",
        "03",
        "0000000000000102",
        // 1,000 bytes, 900 of them log; no timestamp; fence; footer.
        "e8078407",
        "01",
        "010a",
        "aabbccdd",
        // Aborted, damaged, shared; 2 offsets; key and position.
        "0702",
        "0003612f62ac02",
        "e8078407",
        "01",
        "010a",
        "aabbccdd",
        // Checksum.
        "3457e7f9",
    );
    let text: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
    assert_eq!(text, golden);
    assert_eq!(decode(bytes), Ok(entries));
}

proptest! {
    #[test]
    fn round_trips(entries in any_entries(1..20)) {
        prop_assert_eq!(decode(encode(&entries)), Ok(entries));
    }

    #[test]
    fn a_changed_byte_is_noticed(entries in any_entries(1..5), at: prop::sample::Index, flip in 1..=255u8) {
        let mut bytes = encode(&entries).to_vec();
        let at = at.index(bytes.len());
        bytes[at] ^= flip;
        prop_assert!(decode(bytes.into()).is_err());
    }

    #[test]
    fn garbage_with_a_right_checksum_never_panics(
        entries in any_entries(1..5), at: prop::sample::Index, junk in prop::collection::vec(any::<u8>(), 1..24),
    ) {
        let mut bytes = encode(&entries).to_vec();
        bytes.truncate(bytes.len() - 4);
        let at = at.index(bytes.len());
        for (to, from) in bytes[at..].iter_mut().zip(&junk) {
            *to = *from;
        }
        put_crc(&mut bytes);
        let _ = decode(bytes.into());
    }
}
