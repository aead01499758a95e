//! Batches against bytes that Kafka 4.3.1's MemoryRecordsBuilder wrote, and against hostile ones.

use bytes::Bytes;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::*;

pub(super) fn unhex(text: &str) -> Bytes {
    let digit = |c: u8| (c as char).to_digit(16).expect("a hex digit") as u8;
    text.as_bytes()
        .chunks(2)
        .map(|pair| digit(pair[0]) << 4 | digit(pair[1]))
        .collect()
}

/// The same three records in each codec, as Kafka's Java code writes them.
const KAFKA: [(Compression, &str); 5] = [
    (
        Compression::None,
        "00000000000000640000009d0000000902b45244710000000000020000018bcfe568000000018bcfe568050000\
         000000001b590003000000280000000332000000046b311276616c75652d6f6e65040268040102026e018e0100\
         0a0201800161616161616161616161616161616161616161616161616161616161616161616161616161616161\
         6161616161616161616161616161616161616161616161610010001304046b330100",
    ),
    (
        Compression::Gzip,
        "0000000000000064000000740000000902e48eea4c0001000000020000018bcfe568000000018bcfe568050000\
         000000001b59000300000028000000031f8b08000000000000ff3362606060c936142a4bcc294dd5cdcf4b6561\
         ca60616462ca63ec6364e062626c604ca41030083008b3b0641b33320000963c3eeb6c000000",
    ),
    (
        Compression::Snappy,
        "00000000000000640000007a0000000902c8164d1a0002000000020000018bcfe568000000018bcfe568050000\
         000000001b590003000000280000000382534e41505059000000000100000001000000356c9032000000046b31\
         1276616c75652d6f6e65040268040102026e018e01000a02018001616161f20200240010001304046b330100",
    ),
    (
        Compression::Lz4,
        "0000000000000064000000730000000902a524b3980003000000020000018bcfe568000000018bcfe568050000\
         000000001b590003000000280000000304224d1860408233000000ff1432000000046b311276616c75652d6f6e\
         65040268040102026e018e01000a020180016101002ca00010001304046b33010000000000",
    ),
    (
        Compression::Zstd,
        "0000000000000064000000710000000902c96357250004000000020000018bcfe568000000018bcfe568050000\
         000000001b590003000000280000000328b52ffd0058a40100d40232000000046b311276616c75652d6f6e6504\
         0268040102026e018e01000a02018001610010001304046b3301000100a3049e010000",
    ),
];

fn kafka_options(compression: Compression) -> BatchOptions {
    BatchOptions {
        compression,
        producer_id: 7001,
        producer_epoch: 3,
        base_sequence: 40,
        base_offset: 100,
        leader_epoch: 9,
        ..BatchOptions::default()
    }
}

fn kafka_records() -> Vec<NewRecord> {
    vec![
        NewRecord {
            timestamp: 1_700_000_000_000,
            key: Some(Bytes::from("k1")),
            value: Some(Bytes::from("value-one")),
            headers: vec![
                RecordHeader::new("h", Some(Bytes::from_static(&[1, 2]))),
                RecordHeader::new("n", None),
            ],
        },
        NewRecord {
            timestamp: 1_700_000_000_005,
            key: None,
            value: Some(Bytes::from("a".repeat(64))),
            headers: Vec::new(),
        },
        NewRecord {
            timestamp: 1_699_999_999_990,
            key: Some(Bytes::from("k3")),
            value: None,
            headers: Vec::new(),
        },
    ]
}

fn build(options: BatchOptions, records: &[NewRecord]) -> Bytes {
    let mut builder = BatchBuilder::new(options);
    for record in records {
        builder.append(record.clone()).expect("fits");
    }
    builder.build()
}

fn open(bytes: Bytes) -> Vec<Record> {
    let batch = Batch::parse(bytes).expect("a batch");
    batch.verify_crc().expect("the CRC is right");
    let records = batch.records(DecodeLimit::default()).expect("opens");
    records.map(|r| r.expect("a record")).collect()
}

fn assert_same(read: &[Record], written: &[NewRecord], options: &BatchOptions) {
    assert_eq!(read.len(), written.len());
    for (i, (read, written)) in (0i32..).zip(read.iter().zip(written)) {
        assert_eq!(read.offset, options.base_offset + i64::from(i));
        assert_eq!(read.timestamp, written.timestamp);
        let sequence = (options.producer_id >= 0).then(|| options.base_sequence + i);
        assert_eq!(read.sequence, sequence);
        assert_eq!(
            (&read.key, &read.value, &read.headers),
            (&written.key, &written.value, &written.headers)
        );
    }
}

#[test]
fn what_kafka_wrote_reads_back_in_every_codec() {
    for (codec, hex) in KAFKA {
        let bytes = unhex(hex);
        let batch = Batch::parse(bytes.clone()).expect("a batch");
        let header = batch.header;
        assert_eq!(batch.size(), bytes.len(), "{codec:?}");
        assert_eq!(header.compression(), Ok(codec));
        assert_eq!((header.base_offset, header.last_offset()), (100, 102));
        assert_eq!(header.next_offset(), 103);
        assert_eq!(header.partition_leader_epoch, 9);
        assert_eq!((header.base_sequence, header.last_sequence()), (40, 42));
        assert_eq!((header.producer_id, header.producer_epoch), (7001, 3));
        assert_eq!(header.base_timestamp, 1_700_000_000_000);
        assert_eq!(header.max_timestamp, 1_700_000_000_005);
        assert_same(&open(bytes), &kafka_records(), &kafka_options(codec));
    }
}

#[test]
fn uncompressed_batches_are_kafkas_byte_for_byte() {
    let (codec, hex) = KAFKA[0];
    let built = build(kafka_options(codec), &kafka_records());
    assert_eq!(built, unhex(hex));
}

#[test]
fn every_codec_round_trips_at_every_size() {
    for codec in Compression::ALL {
        for size in [0, 1, 1000, 40_000, 300_000] {
            let data: Vec<u8> = (0..size)
                .map(|i: u32| (i.wrapping_mul(i) / 7) as u8)
                .collect();
            for level in [None, Some(1), Some(9)] {
                let small = Bytes::from(codec.compress(&data, level));
                let back = codec
                    .decompress(&small, DecodeLimit::bytes(data.len()))
                    .expect("fits the limit exactly");
                assert_eq!(back, data, "{codec:?} {size} {level:?}");
            }
        }
    }
}

#[test]
fn raw_snappy_and_concatenated_streams_are_read() {
    let limit = DecodeLimit::bytes(1000);
    let raw = snap::raw::Encoder::new()
        .compress_vec(b"raw as some clients send it")
        .expect("compresses");
    let back = Compression::Snappy.decompress(&Bytes::from(raw), limit);
    assert_eq!(back.expect("raw"), &b"raw as some clients send it"[..]);
    let mut twice = Compression::Snappy.compress(b"ab", None);
    twice.extend(Compression::Snappy.compress(b"cd", None));
    let back = Compression::Snappy.decompress(&Bytes::from(twice), limit);
    assert_eq!(back.expect("two streams"), &b"abcd"[..]);
}

#[test]
fn bombs_stop_at_the_limit() {
    let zeros = vec![0; 8 << 20];
    for codec in [
        Compression::Gzip,
        Compression::Snappy,
        Compression::Lz4,
        Compression::Zstd,
    ] {
        let bomb = Bytes::from(codec.compress(&zeros, None));
        let limit = DecodeLimit::bytes(100_000);
        assert_eq!(
            codec.decompress(&bomb, limit),
            Err(CompressionError::TooLarge { bytes_max: 100_000 }),
            "{codec:?}"
        );
    }
    // Snappy states its length in front: 4 GiB in five bytes.
    let lie = Bytes::from_static(&[0xff, 0xff, 0xff, 0xff, 0x0f, 0]);
    let answer = Compression::Snappy.decompress(&lie, DecodeLimit::bytes(usize::MAX));
    assert!(matches!(answer, Err(CompressionError::Corrupt { .. })));
}

#[test]
fn patching_changes_offset_and_epoch_alone_and_keeps_the_crc() {
    let bytes = unhex(KAFKA[0].1);
    let batch = Batch::parse(bytes.clone()).expect("a batch");
    let mut patched = batch.patched_header(5_000_000_000, 77).to_vec();
    patched.extend_from_slice(&batch.payload());
    let patched = Batch::parse(Bytes::from(patched)).expect("a batch");
    patched.verify_crc().expect("the CRC covers neither");
    assert_eq!(
        patched.header,
        BatchHeader {
            base_offset: 5_000_000_000,
            partition_leader_epoch: 77,
            ..batch.header
        }
    );
}

#[test]
fn markers_are_kafkas_byte_for_byte() {
    for (control_type, hex) in [
        (
            ControlRecordType::Commit,
            "00000000000000370000004200000004026beec2000030000000000000018bcfe568000000018bcfe56800\
             0000000000001b590003ffffffff000000012000000008000000010c00000000000c00",
        ),
        (
            ControlRecordType::Abort,
            "00000000000000370000004200000004029fd014480030000000000000018bcfe568000000018bcfe56800\
             0000000000001b590003ffffffff000000012000000008000000000c00000000000c00",
        ),
    ] {
        let marker = EndTxnMarker {
            control_type,
            coordinator_epoch: 12,
        };
        let bytes = marker.to_batch(7001, 3, 55, 4, 1_700_000_000_000);
        assert_eq!(bytes, unhex(hex));
        let batch = Batch::parse(bytes).expect("a batch");
        assert!(batch.header.is_control() && batch.header.is_transactional());
        assert_eq!(EndTxnMarker::of_batch(&batch), Ok(Some(marker)));
    }
    let snapshot_header = [0, 0, 0, 3];
    assert_eq!(EndTxnMarker::parse(&snapshot_header, &[]), Ok(None));
    assert!(EndTxnMarker::parse(&[0, 0], &[]).is_err());
    assert!(EndTxnMarker::parse(&[0, 0, 0, 1], &[0, 0, 0]).is_err());
}

#[test]
fn headers_are_refused_for_what_is_wrong_first() {
    let good = unhex(KAFKA[0].1);
    let with = |at: usize, bytes: &[u8]| {
        let mut out = good.to_vec();
        out[at..at + bytes.len()].copy_from_slice(bytes);
        Bytes::from(out)
    };
    let table: Vec<(Bytes, BatchError)> = vec![
        (
            Bytes::new(),
            BatchError::Truncated {
                needed: 61,
                available: 0,
            },
        ),
        (with(16, &[1]), BatchError::Magic(1)),
        (with(16, &[1]).slice(..40), BatchError::Magic(1)),
        (with(8, &48i32.to_be_bytes()), BatchError::Length(48)),
        (with(8, &(-1i32).to_be_bytes()), BatchError::Length(-1)),
        (
            with(8, &i32::MAX.to_be_bytes()),
            BatchError::Truncated {
                needed: 12 + i32::MAX as usize,
                available: good.len(),
            },
        ),
    ];
    for (bytes, error) in table {
        assert_eq!(Batch::parse(bytes).expect_err("refused"), error);
    }
    let batch = Batch::parse(with(100, b"!")).expect("parses");
    assert!(matches!(batch.verify_crc(), Err(BatchError::Crc { .. })));
    let batch = Batch::parse(with(22, &[5])).expect("parses");
    assert_eq!(
        batch.header.compression(),
        Err(BatchError::UnknownCompression(5))
    );
}

#[test]
fn counts_and_lengths_of_records_are_not_believed() {
    let mut batch = Batch::parse(unhex(KAFKA[0].1)).expect("a batch");
    let last = |batch: &Batch| {
        batch
            .records(DecodeLimit::default())
            .and_then(|records| records.collect::<Result<Vec<_>, _>>())
            .expect_err("refused")
    };
    batch.header.records_count = i32::MAX;
    assert!(matches!(last(&batch), BatchError::Record { index: 3, .. }));
    batch.header.records_count = 2;
    assert!(matches!(last(&batch), BatchError::TrailingBytes(9)));
    batch.header.records_count = -1;
    assert_eq!(last(&batch), BatchError::Count(-1));
    // A record that claims 2^28 headers in one byte.
    let body = [0x16, 0, 0, 0, 1, 1, 0xfe, 0xff, 0xff, 0xff, 0x0f, 0];
    assert_eq!(
        record::decode(&Bytes::copy_from_slice(&body), 0).expect_err("refused"),
        "header count exceeds the record"
    );
}

#[test]
fn split_wants_an_exact_end_and_records_of_skips_control() {
    let marker = EndTxnMarker {
        control_type: ControlRecordType::Commit,
        coordinator_epoch: 1,
    };
    let mut bytes = Vec::new();
    for (_, hex) in KAFKA {
        bytes.extend_from_slice(&unhex(hex));
        bytes.extend_from_slice(&marker.to_batch(1, 0, 200, 0, 5));
    }
    let bytes = Bytes::from(bytes);
    assert_eq!(split_batches(bytes.clone()).expect("exact").len(), 10);
    assert!(split_batches(bytes.slice(..bytes.len() - 1)).is_err());
    let limit = DecodeLimit::default();
    let count = |records: Records| {
        let all: Result<Vec<_>, _> = records.collect();
        all.expect("records").len()
    };
    assert_eq!(count(records_of(bytes.clone(), limit)), 15);
    assert_eq!(count(records_of(bytes.clone(), limit).with_control()), 20);
    let torn: Vec<_> = records_of(bytes.slice(..bytes.len() - 1), limit).collect();
    assert_eq!(torn.len(), 16);
    assert!(torn[15].is_err());
}

#[test]
fn sequences_wrap_to_zero() {
    for (sequence, by, after) in [
        (0, 1, 1),
        (i32::MAX, 1, 0),
        (i32::MAX - 1, 4, 2),
        (i32::MAX, i32::MAX, i32::MAX - 1),
    ] {
        assert_eq!(increment_sequence(sequence, by), after);
        assert_eq!(decrement_sequence(after, by), sequence);
    }
}

#[test]
fn a_builder_keeps_gaps_and_refuses_steps_back() {
    let mut builder = BatchBuilder::new(BatchOptions {
        base_offset: 10,
        ..BatchOptions::default()
    });
    for offset in [12, 15] {
        builder.append_at(offset, NewRecord::default()).expect("on");
    }
    for offset in [15, 9, i64::MAX] {
        assert_eq!(
            builder.append_at(offset, NewRecord::default()),
            Err(BuildError::Offset { offset })
        );
    }
    let records = open(builder.build());
    assert_eq!([records[0].offset, records[1].offset], [12, 15]);
}

#[test]
fn log_append_time_gives_every_record_the_batchs_time() {
    let options = BatchOptions {
        timestamp_type: TimestampType::LogAppendTime,
        ..BatchOptions::default()
    };
    let records = open(build(options, &kafka_records()));
    assert!(records.iter().all(|r| r.timestamp == 1_700_000_000_005));
}

pub(super) fn any_record() -> impl Strategy<Value = NewRecord> {
    let bytes = || vec(any::<u8>(), 0..40).prop_map(Bytes::from);
    let header = (bytes(), option::of(bytes())).prop_map(|(k, v)| RecordHeader::new(k, v));
    (
        any::<i64>(),
        option::of(bytes()),
        option::of(bytes()),
        vec(header, 0..3),
    )
        .prop_map(|(timestamp, key, value, headers)| NewRecord {
            timestamp,
            key,
            value,
            headers,
        })
}

pub(super) fn any_compression() -> impl Strategy<Value = Compression> {
    (0..Compression::ALL.len()).prop_map(|i| Compression::ALL[i])
}

proptest! {
    #[test]
    fn batches_round_trip(
        codec in any_compression(),
        records in vec(any_record(), 1..20),
        base_offset in 0..i64::MAX / 2,
    ) {
        let options = BatchOptions { base_offset, ..kafka_options(codec) };
        assert_same(&open(build(options, &records)), &records, &options);
    }

    #[test]
    fn header_bytes_round_trip(bytes in vec(any::<u8>(), BATCH_HEADER_LEN)) {
        let mut bytes = bytes;
        bytes[16] = 2;
        bytes[8] &= 0x7f;
        bytes[11] |= 49;
        let header = BatchHeader::parse(&bytes).expect("magic and length are right");
        let mut out = [0; BATCH_HEADER_LEN];
        header.encode(&mut out);
        prop_assert_eq!(&out[..], &bytes[..]);
        // None of these may panic, whatever the fields say.
        let _ = (header.next_offset(), header.last_sequence(), header.size());
    }

    #[test]
    fn mutated_batches_never_panic(
        which in 0..KAFKA.len(),
        changes in vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in option::of(any::<prop::sample::Index>()),
    ) {
        let mut bytes = unhex(KAFKA[which].1).to_vec();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        let bytes = Bytes::from(bytes);
        let limit = DecodeLimit::bytes(1 << 20);
        let _ = split_batches(bytes.clone());
        let _ = records_of(bytes.clone(), limit).with_control().count();
        if let Ok(batch) = Batch::parse(bytes.clone()) {
            let _ = batch.verify_crc();
            let _ = EndTxnMarker::of_batch(&batch);
        }
        for deep in [false, true] {
            let rules = ProduceRules { deep, decode_limit: limit, ..ProduceRules::default() };
            let _ = validate_produce(bytes.clone(), &rules, 1_700_000_000_000);
        }
    }

    #[test]
    fn noise_never_panics_a_decompressor(codec in any_compression(), noise in vec(any::<u8>(), 0..300)) {
        let _ = codec.decompress(&Bytes::from(noise), DecodeLimit::bytes(1 << 16));
    }
}
