//! Damaged requests and record batches, in this process.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use bytes::Bytes;
use strandline_log::record::{
    Batch, BatchBuilder, BatchOptions, Compression, DecodeLimit, NewRecord, ProduceRules,
    RecordHeader, batches_of, records_of, validate_produce,
};
use strandline_tests::{Pattern, now_ms, timed};
use strandline_wire::RequestFrame;

use super::corpus::{TOPIC_ID, sessions};
use super::{Mutator, patience, seed};

/// More than any request of the corpus decodes to.
const MEMORY_BYTES_MAX: usize = 8 << 20;

/// Runs cases until the time is over; a panic names its seed and its bytes.
pub fn run(
    what: &str,
    short: Duration,
    mut case: impl FnMut(&mut Mutator) -> Vec<u8>,
    check: impl Fn(&[u8]),
) {
    let first = seed(what);
    let patience = patience(short, Duration::from_secs(600));
    let mut spent = Duration::ZERO;
    let mut cases = 0u64;
    while spent < patience {
        let mut mutator = Mutator::new(first.wrapping_add(cases));
        let bytes = case(&mut mutator);
        let (result, took) = timed(|| catch_unwind(AssertUnwindSafe(|| check(&bytes))));
        if result.is_err() {
            panic!(
                "{what}: TEST_STRANDLINE_SEED={}: {bytes:02x?}",
                first.wrapping_add(cases)
            );
        }
        assert!(
            took < Duration::from_secs(5),
            "{what}: one case took {took:?}: {bytes:02x?}"
        );
        // The making of the case counts as well; a floor keeps the loop finite.
        spent += took.max(Duration::from_micros(20));
        cases += 1;
    }
    println!("{what}: {cases} cases");
}

#[test]
fn damaged_requests_of_real_clients() {
    let frames: Vec<Vec<u8>> = sessions(TOPIC_ID)
        .into_iter()
        .flat_map(|(_, session)| session.into_iter().flatten())
        .collect();
    for frame in &frames {
        let request = RequestFrame::parse(Bytes::copy_from_slice(&frame[4..])).expect("a header");
        let checked = request.check(MEMORY_BYTES_MAX).expect("a body");
        checked.decode().expect("what the guard lets pass decodes");
    }
    run(
        "requests",
        Duration::from_secs(3),
        |mutator| {
            let frame = &frames[mutator.below(frames.len())];
            mutator.damage_frame(frame)
        },
        |frame| {
            let Some(frame) = frame.get(4..) else { return };
            let Ok(request) = RequestFrame::parse(Bytes::copy_from_slice(frame)) else {
                return;
            };
            if let Ok(checked) = request.check(MEMORY_BYTES_MAX) {
                let estimate = checked.memory_estimate();
                assert!(estimate <= MEMORY_BYTES_MAX);
                checked.decode().expect("what the guard lets pass decodes");
            }
        },
    );
}

const CODECS: [Compression; 5] = [
    Compression::None,
    Compression::Gzip,
    Compression::Snappy,
    Compression::Lz4,
    Compression::Zstd,
];

fn batches() -> Vec<Bytes> {
    let mut pattern = Pattern::new(1);
    let mut all = Vec::new();
    for compression in CODECS {
        for idempotent in [false, true] {
            let mut builder = BatchBuilder::new(BatchOptions {
                compression,
                producer_id: if idempotent { 7 } else { -1 },
                producer_epoch: if idempotent { 0 } else { -1 },
                base_sequence: if idempotent { 0 } else { -1 },
                ..BatchOptions::default()
            });
            for number in 0..12 {
                builder
                    .append(NewRecord {
                        timestamp: now_ms() + number,
                        key: (number % 3 > 0).then(|| pattern.bytes(8).into()),
                        value: (number % 4 > 0).then(|| vec![b'x'; 50].into()),
                        headers: vec![RecordHeader {
                            key: "name".into(),
                            value: Some("value".into()),
                        }],
                    })
                    .expect("a record");
            }
            all.push(builder.build());
        }
    }
    all
}

/// Makes the damaged batch's checksum right again, so that the damage is seen by what comes after.
fn mend_crc(batch: &mut [u8]) {
    if batch.len() > 21 {
        let crc = crc32c::crc32c(&batch[21..]);
        batch[17..21].copy_from_slice(&crc.to_be_bytes());
    }
}

#[test]
fn damaged_batches_before_the_validator() {
    let batches = batches();
    let limit = DecodeLimit::bytes(4 << 20);
    let rules: Vec<ProduceRules> = [false, true]
        .into_iter()
        .flat_map(|deep| {
            [false, true].map(|compacted| ProduceRules {
                deep,
                compacted,
                decode_limit: limit,
                ..ProduceRules::default()
            })
        })
        .collect();
    for batch in &batches {
        let rules = ProduceRules {
            deep: true,
            ..ProduceRules::default()
        };
        validate_produce(batch.clone(), &rules, now_ms()).expect("the batch is good");
    }
    run(
        "batches",
        Duration::from_secs(4),
        |mutator| {
            let mut batch = batches[mutator.below(batches.len())].to_vec();
            let from = [0, 12, 21, 61][mutator.below(4)];
            mutator.damage(&mut batch, from);
            if !mutator.chance(5) {
                mend_crc(&mut batch);
            }
            if !mutator.chance(5) && batch.len() >= 12 {
                let length = (batch.len() - 12) as u32;
                batch[8..12].copy_from_slice(&length.to_be_bytes());
                mend_crc(&mut batch);
            }
            batch
        },
        |batch| {
            let batch = Bytes::copy_from_slice(batch);
            for rules in &rules {
                let Ok(valid) = validate_produce(batch.clone(), rules, now_ms()) else {
                    continue;
                };
                for valid in valid {
                    // What passed can be read again as what it says it is.
                    let again = Batch::parse(valid.batch.bytes.clone()).expect("a batch");
                    again.verify_crc().expect("its checksum");
                    if rules.deep {
                        let records = again.records(limit).expect("records");
                        let records: Vec<_> = records.collect::<Result<_, _>>().expect("each");
                        assert_eq!(records.len(), again.header.records_count as usize);
                    }
                }
            }
            for batch in batches_of(batch.clone()).flatten() {
                let _ = batch.verify_crc();
            }
            let _ = records_of(batch, limit).take_while(Result::is_ok).count();
        },
    );
}
