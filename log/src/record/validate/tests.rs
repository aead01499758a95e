//! Kafka's answers to batches of producers, by tables.

use proptest::collection::vec;
use proptest::prelude::*;

use super::super::builder::{BatchBuilder, BatchOptions, NewRecord};
use super::super::tests::{any_compression, any_record};
use super::*;

const NOW: TimestampMs = 1_700_000_000_000;

fn record(timestamp: TimestampMs, key: Option<&str>) -> NewRecord {
    NewRecord {
        timestamp,
        key: key.map(|k| Bytes::copy_from_slice(k.as_bytes())),
        value: Some(Bytes::from_static(b"value")),
        headers: Vec::new(),
    }
}

fn build(options: BatchOptions, records: &[NewRecord]) -> Bytes {
    let mut builder = BatchBuilder::new(options);
    for record in records {
        builder.append(record.clone()).expect("fits");
    }
    builder.build()
}

fn plain() -> Bytes {
    build(
        BatchOptions::default(),
        &[record(NOW, Some("a")), record(NOW + 1, Some("b"))],
    )
}

/// Changes the header and makes the CRC right again.
fn edited(bytes: &Bytes, edit: impl FnOnce(&mut BatchHeader)) -> Bytes {
    let mut header = BatchHeader::parse(bytes).expect("a header");
    edit(&mut header);
    let mut bytes = bytes.to_vec();
    seal(&mut header, &mut bytes);
    Bytes::from(bytes)
}

/// The error's variant, and whether it names records.
fn code(result: Result<Vec<ValidBatch>, ProduceError>) -> (&'static str, usize) {
    match result {
        Ok(_) => ("NONE", 0),
        Err(ProduceError::CorruptMessage(_)) => ("CORRUPT_MESSAGE", 0),
        Err(ProduceError::MessageTooLarge { .. }) => ("MESSAGE_TOO_LARGE", 0),
        Err(ProduceError::InvalidTimestamp { records, .. }) => ("INVALID_TIMESTAMP", records.len()),
        Err(ProduceError::InvalidRecord { records, .. }) => ("INVALID_RECORD", records.len()),
        Err(ProduceError::UnsupportedCompressionType(_)) => ("UNSUPPORTED_COMPRESSION_TYPE", 0),
        Err(ProduceError::InvalidTxnState(_)) => ("INVALID_TXN_STATE", 0),
    }
}

#[test]
fn a_plain_batch_passes_as_the_very_same_bytes() {
    for compression in Compression::ALL {
        let options = BatchOptions {
            compression,
            ..BatchOptions::default()
        };
        let bytes = build(options, &[record(NOW, Some("a")), record(NOW, None)]);
        for deep in [false, true] {
            let rules = ProduceRules {
                deep,
                ..ProduceRules::default()
            };
            let valid = validate_produce(bytes.clone(), &rules, NOW).expect("valid");
            assert_eq!(valid.len(), 1);
            assert_eq!(valid[0].batch.bytes.as_ptr(), bytes.as_ptr(), "not a copy");
            assert_eq!(valid[0].batch.bytes, bytes);
        }
    }
}

#[test]
fn every_fault_of_a_header_has_kafkas_code() {
    let rules = ProduceRules::default();
    let good = plain();
    let mut magic = good.to_vec();
    magic[16] = 1;
    let mut crc = good.to_vec();
    crc[70] ^= 1;
    let twice = [good.clone(), good.clone()].concat();
    let trailing = [&good[..], b"x"].concat();
    let edit = |f: fn(&mut BatchHeader)| edited(&good, f);
    let table: Vec<(&str, Bytes, &str)> = vec![
        ("nothing", Bytes::new(), "INVALID_RECORD"),
        ("magic 1", Bytes::from(magic), "INVALID_RECORD"),
        ("wrong CRC", Bytes::from(crc), "CORRUPT_MESSAGE"),
        ("cut off", good.slice(..good.len() - 1), "INVALID_RECORD"),
        ("cut in the header", good.slice(..30), "INVALID_RECORD"),
        ("two batches", Bytes::from(twice), "INVALID_RECORD"),
        ("bytes after it", Bytes::from(trailing), "INVALID_RECORD"),
        ("base offset", edit(|h| h.base_offset = 5), "INVALID_RECORD"),
        ("count 0", edit(|h| h.records_count = 0), "INVALID_RECORD"),
        ("count -1", edit(|h| h.records_count = -1), "INVALID_RECORD"),
        ("count 3", edit(|h| h.records_count = 3), "INVALID_RECORD"),
        (
            "delta -1",
            edit(|h| h.last_offset_delta = -1),
            "INVALID_RECORD",
        ),
        (
            "count beyond the bytes",
            edit(|h| {
                h.records_count = i32::MAX;
                h.last_offset_delta = i32::MAX - 1;
            }),
            "INVALID_RECORD",
        ),
        (
            "control",
            edit(|h| h.attributes = h.attributes.with_control(true)),
            "INVALID_RECORD",
        ),
        (
            "no sequence",
            edit(|h| {
                h.producer_id = 1;
                h.producer_epoch = 0;
            }),
            "INVALID_RECORD",
        ),
        (
            "no epoch",
            edit(|h| {
                h.producer_id = 1;
                h.base_sequence = 0;
            }),
            "INVALID_RECORD",
        ),
        (
            "transactional",
            edit(|h| h.attributes = h.attributes.with_transactional(true)),
            "INVALID_TXN_STATE",
        ),
        (
            "codec 5",
            edit(|h| h.attributes = h.attributes.with_compression_id(5)),
            "UNSUPPORTED_COMPRESSION_TYPE",
        ),
        (
            "broker's timestamp type",
            edit(|h| {
                h.attributes = h
                    .attributes
                    .with_timestamp_type(TimestampType::LogAppendTime);
            }),
            "INVALID_TIMESTAMP",
        ),
        (
            "in the future, by the header alone: the records are right, and it is put right",
            edit(|h| h.max_timestamp = NOW + 3_600_001),
            "NONE",
        ),
        (
            "base offset and CRC: the first check wins",
            {
                let mut both = edit(|h| h.base_offset = 5).to_vec();
                both[70] ^= 1;
                Bytes::from(both)
            },
            "INVALID_RECORD",
        ),
        (
            "an hour ahead",
            edit(|h| h.max_timestamp = NOW + 3_600_000),
            "NONE",
        ),
        (
            "no timestamp",
            edit(|h| {
                h.base_timestamp = -1;
                h.max_timestamp = -1;
            }),
            "NONE",
        ),
        (
            "idempotent",
            edit(|h| {
                h.producer_id = 1;
                h.producer_epoch = 0;
                h.base_sequence = 0;
            }),
            "NONE",
        ),
    ];
    for (what, bytes, expected) in table {
        assert_eq!(
            code(validate_produce(bytes, &rules, NOW)).0,
            expected,
            "{what}"
        );
    }
}

#[test]
fn limits_are_inclusive() {
    let bytes = plain();
    let with = |max_message_bytes| ProduceRules {
        max_message_bytes,
        ..ProduceRules::default()
    };
    let size = bytes.len();
    assert!(validate_produce(bytes.clone(), &with(size), NOW).is_ok());
    assert_eq!(
        validate_produce(bytes.clone(), &with(size - 1), NOW).expect_err("too large"),
        ProduceError::MessageTooLarge {
            size,
            max: size - 1
        }
    );
    let old = |before| ProduceRules {
        timestamp_before_max_ms: before,
        ..ProduceRules::default()
    };
    assert!(validate_produce(bytes.clone(), &old(10), NOW + 10).is_ok());
    assert_eq!(
        code(validate_produce(bytes, &old(10), NOW + 11)).0,
        "INVALID_TIMESTAMP"
    );
}

#[test]
fn zstd_is_refused_to_old_clients() {
    let options = BatchOptions {
        compression: Compression::Zstd,
        ..BatchOptions::default()
    };
    let rules = ProduceRules {
        allow_zstd: false,
        ..ProduceRules::default()
    };
    let bytes = build(options, &[record(NOW, None)]);
    assert_eq!(
        code(validate_produce(bytes, &rules, NOW)).0,
        "UNSUPPORTED_COMPRESSION_TYPE"
    );
}

#[test]
fn compacted_topics_demand_keys_and_name_the_records() {
    let rules = ProduceRules {
        compacted: true,
        ..ProduceRules::default()
    };
    for compression in Compression::ALL {
        let options = BatchOptions {
            compression,
            ..BatchOptions::default()
        };
        let bytes = build(
            options,
            &[
                record(NOW, Some("a")),
                record(NOW, None),
                record(NOW, Some("")),
                record(NOW, None),
            ],
        );
        match validate_produce(bytes, &rules, NOW).expect_err("no key") {
            ProduceError::InvalidRecord { records, .. } => {
                let indexes: Vec<_> = records.iter().map(|r| r.batch_index).collect();
                assert_eq!(indexes, [1, 3]);
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn deep_checks_open_every_record() {
    let shallow = ProduceRules::default();
    let deep = ProduceRules {
        deep: true,
        ..shallow
    };
    // Offsets 0, 2: the header agrees with the count, the records do not.
    let mut gap = BatchBuilder::new(BatchOptions::default());
    gap.append(record(NOW, None)).expect("fits");
    gap.append_at(2, record(NOW, None)).expect("fits");
    let bytes = edited(&gap.build(), |h| h.last_offset_delta = 1);
    assert!(validate_produce(bytes.clone(), &shallow, NOW).is_ok());
    assert_eq!(
        code(validate_produce(bytes, &deep, NOW)),
        ("INVALID_RECORD", 1)
    );
    // A header that states a wrong largest timestamp is put right.
    let bytes = edited(&plain(), |h| h.max_timestamp = NOW);
    let valid = validate_produce(bytes, &deep, NOW).expect("valid");
    assert_eq!(valid[0].batch.header.max_timestamp, NOW + 1);
    valid[0].batch.verify_crc().expect("right again");
}

#[test]
fn records_outside_of_the_limits_of_time_are_named() {
    let rules = ProduceRules {
        timestamp_before_max_ms: 1_000,
        timestamp_after_max_ms: 500,
        ..ProduceRules::default()
    };
    let stamped = ProduceRules {
        timestamp_type: TimestampType::LogAppendTime,
        ..rules
    };
    let table: &[(&[TimestampMs], &[i32])] = &[
        (&[NOW, NOW - 1_000, NOW + 500], &[]),
        // Only the records show it, the header names the first and the largest.
        (&[NOW, NOW - 1_001, NOW], &[1]),
        (&[NOW - 1_001, NOW, NOW + 501], &[0, 2]),
        (&[-1, NOW, -1], &[]),
        (&[-1, NOW + 501], &[1]),
    ];
    for compression in Compression::ALL {
        for (timestamps, faulty) in table {
            let options = BatchOptions {
                compression,
                ..BatchOptions::default()
            };
            let records: Vec<_> = timestamps.iter().map(|t| record(*t, Some("k"))).collect();
            let bytes = build(options, &records);
            assert!(validate_produce(bytes.clone(), &stamped, NOW).is_ok());
            match validate_produce(bytes, &rules, NOW) {
                Ok(_) => assert!(faulty.is_empty(), "{timestamps:?}"),
                Err(ProduceError::InvalidTimestamp { message, records }) => {
                    let indexes: Vec<_> = records.iter().map(|r| r.batch_index).collect();
                    assert_eq!(indexes, *faulty, "{timestamps:?}");
                    assert_eq!(
                        message,
                        "One or more records have been rejected due to invalid timestamp"
                    );
                    assert!(
                        records[0].message.ends_with(&format!(
                            "is out of range. The timestamp should be within [{}, {}]",
                            NOW - 1_000,
                            NOW + 500
                        )),
                        "{}",
                        records[0].message
                    );
                }
                Err(other) => panic!("{other:?}"),
            }
        }
    }
}

#[test]
fn one_wrong_timestamp_decides_whatever_else_is_wrong() {
    let rules = ProduceRules {
        compacted: true,
        ..ProduceRules::default()
    };
    let with = |second| {
        build(
            BatchOptions::default(),
            &[record(NOW, None), record(second, Some("k"))],
        )
    };
    assert_eq!(
        code(validate_produce(with(NOW), &rules, NOW)),
        ("INVALID_RECORD", 1)
    );
    assert_eq!(
        code(validate_produce(with(NOW + 3_600_001), &rules, NOW)),
        ("INVALID_TIMESTAMP", 2)
    );
}

#[test]
fn a_bomb_is_refused_where_it_would_be_opened() {
    let mut builder = BatchBuilder::new(BatchOptions {
        compression: Compression::Zstd,
        ..BatchOptions::default()
    });
    builder
        .append(NewRecord {
            timestamp: NOW,
            value: Some(Bytes::from(vec![0; 4 << 20])),
            ..NewRecord::default()
        })
        .expect("fits");
    let rules = ProduceRules {
        deep: true,
        decode_limit: DecodeLimit::bytes(1 << 20),
        ..ProduceRules::default()
    };
    assert_eq!(
        code(validate_produce(builder.build(), &rules, NOW)).0,
        "INVALID_RECORD"
    );
}

#[test]
fn log_append_time_rewrites_the_header_alone() {
    let bytes = plain();
    let rules = ProduceRules {
        timestamp_type: TimestampType::LogAppendTime,
        // Limits are about the producer's time, which is not used.
        timestamp_after_max_ms: 0,
        timestamp_before_max_ms: 0,
        ..ProduceRules::default()
    };
    let valid = validate_produce(bytes.clone(), &rules, NOW + 500).expect("valid");
    let batch = &valid[0].batch;
    batch.verify_crc().expect("computed anew");
    assert_eq!(batch.header.timestamp_type(), TimestampType::LogAppendTime);
    assert_eq!(batch.header.max_timestamp, NOW + 500);
    assert_eq!(batch.payload(), bytes.slice(BATCH_HEADER_LEN..));
    let records = batch.records(DecodeLimit::default()).expect("opens");
    assert!(
        records
            .map(|r| r.expect("a record").timestamp)
            .all(|t| t == NOW + 500)
    );
}

#[test]
fn a_topics_codec_recompresses_and_keeps_the_records() {
    for from in Compression::ALL {
        for to in Compression::ALL {
            let options = BatchOptions {
                compression: from,
                producer_id: 9,
                producer_epoch: 1,
                base_sequence: 3,
                ..BatchOptions::default()
            };
            let bytes = build(options, &[record(NOW, Some("a")), record(NOW - 5, None)]);
            let rules = ProduceRules {
                compression: TopicCompression::Fixed(to, None),
                ..ProduceRules::default()
            };
            let valid = validate_produce(bytes.clone(), &rules, NOW).expect("valid");
            let batch = &valid[0].batch;
            batch.verify_crc().expect("right");
            assert_eq!(batch.header.compression(), Ok(to));
            let open = |b: &Batch| -> Vec<_> {
                let records = b.records(DecodeLimit::default()).expect("opens");
                records.map(|r| r.expect("a record")).collect()
            };
            let original = Batch::parse(bytes.clone()).expect("a batch");
            assert_eq!(open(batch), open(&original), "{from:?} to {to:?}");
            assert_eq!(from == to, batch.bytes.as_ptr() == bytes.as_ptr());
        }
    }
}

#[test]
fn topic_compression_reads_kafkas_words() {
    for (word, expected) in [
        ("producer", Some(TopicCompression::Producer)),
        (
            "uncompressed",
            Some(TopicCompression::Fixed(Compression::None, None)),
        ),
        ("lz4", Some(TopicCompression::Fixed(Compression::Lz4, None))),
        ("none", None),
        ("brotli", None),
    ] {
        assert_eq!(TopicCompression::from_name(word), expected, "{word}");
    }
}

proptest! {
    #[test]
    fn what_passes_deep_opens_without_an_error(
        codec in any_compression(),
        records in vec(any_record(), 1..10),
        at in any::<prop::sample::Index>(),
        byte: u8,
    ) {
        let options = BatchOptions { compression: codec, ..BatchOptions::default() };
        let mut bytes = build(options, &records).to_vec();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        // A mutation that keeps its CRC right reaches the deep checks.
        if let Ok(mut header) = BatchHeader::parse(&bytes) {
            seal(&mut header, &mut bytes);
        }
        let rules = ProduceRules {
            deep: true,
            timestamp_after_max_ms: i64::MAX,
            ..ProduceRules::default()
        };
        if let Ok(valid) = validate_produce(Bytes::from(bytes), &rules, NOW) {
            let batch = &valid[0].batch;
            let opened = batch.records(DecodeLimit::default()).expect("opens");
            let opened: Vec<_> = opened.collect::<Result<_, _>>().expect("all records");
            prop_assert_eq!(opened.len(), batch.header.records_count as usize);
            prop_assert_eq!(opened[opened.len() - 1].offset, batch.header.last_offset());
        }
    }
}

/// As Kafka 4.3.1 says it; taken from the strings of its class files.
#[test]
fn the_words_are_kafkas() {
    let keyless = ProduceRules {
        compacted: true,
        ..ProduceRules::default()
    };
    let good = plain();
    let edit = |f: fn(&mut BatchHeader)| edited(&good, f);
    let mut crc = good.to_vec();
    crc[70] ^= 1;
    let stored = BatchHeader::parse(&crc).expect("a header").crc;
    let rules = ProduceRules::default();
    let no_key = build(BatchOptions::default(), &[record(NOW, None)]);
    let table: Vec<(Bytes, ProduceRules, String)> = vec![
        (
            Bytes::new(),
            rules,
            "Produce requests must have at least one record batch per partition".into(),
        ),
        (
            Bytes::from([&good[..], &good[..]].concat()),
            rules,
            "Produce requests are only allowed to contain exactly one record batch per partition"
                .into(),
        ),
        (
            crc.into(),
            rules,
            format!("Record is corrupt (stored crc = {stored}) in topic partition t-3"),
        ),
        (
            edit(|h| h.last_offset_delta = -1),
            rules,
            "Batch has an invalid offset range: [0, -1] in topic partition t-3".into(),
        ),
        (
            edit(|h| h.records_count = 0),
            rules,
            "Invalid reported count for record batch: 0 in topic partition t-3".into(),
        ),
        (
            edit(|h| h.records_count = 3),
            rules,
            "Inconsistent batch offset range [0, 1] and count of records 3 in topic partition t-3"
                .into(),
        ),
        (
            edit(|h| {
                h.producer_id = 9;
                h.producer_epoch = 0;
                h.base_sequence = -1;
            }),
            rules,
            "Invalid sequence number -1 in record batch with producerId 9 in topic partition t-3"
                .into(),
        ),
        (
            no_key,
            keyless,
            "One or more records have been rejected due to 1 record errors in total, and only showing the first three \
             errors at most: [ApiRecordError[apiError=INVALID_RECORD, recordError=RecordError(batchIndex=0, \
             message='Compacted topic cannot accept message without key in topic partition t-3')]]"
                .into(),
        ),
    ];
    let tp = TopicPartition::new("t", 3);
    for (bytes, rules, words) in table {
        let error = validate_produce(bytes, &rules, NOW).expect_err(&words);
        assert_eq!(error.in_partition(&tp).to_string(), words);
    }
}
