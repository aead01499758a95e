//! Damaged objects of a bucket and damaged files of the chunk cache: each is refused by name or read right.
//!
//! What is damaged was written by a live broker. Checksums are mostly made right again, so that what is behind them gets
//! its share. A cache's files are damaged under a broker that is down: all history reads as before, from the bucket.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use strandline_tests::{
    Broker, BrokerOptions, ReadRecord, TestRecord, metric, now_ms, wait_until_tiered,
};
use strandline_tiering::format::segment_object::FooterRead;
use strandline_tiering::format::{
    ClusterState, GroupsState, SegmentFooter, SegmentTail, TopicMarker, manifest_page,
    manifest_root,
};
use strandline_tiering::manifest::{Manifest, ManifestEntry};

use super::batches::run;
use super::{Mutator, patience};
use crate::librdkafka;

const TOPIC: &str = "fuzzed-history";
const RECORDS: usize = 1_200;
/// As `batches` has it: what no decoder may need more time for than this is checked there.
const SHORT: Duration = Duration::from_millis(500);

/// A broker that has tiered a topic and is down, and what it held.
fn tiered() -> (Broker, Vec<TestRecord>) {
    let mut broker = Broker::start(BrokerOptions::with(&[
        "log.retention.check.interval.ms=100",
        "remote.log.manager.task.interval.ms=100",
    ]));
    let configs = [
        ("remote.storage.enable", "true"),
        ("internal.segment.bytes", "131072"),
        ("local.retention.ms", "1"),
        ("retention.ms", "-1"),
        ("file.delete.delay.ms", "0"),
    ];
    librdkafka::create_topic(&broker.bootstrap(), TOPIC, 1, &configs);
    let first_ms = now_ms() - 1_000_000;
    let written: Vec<TestRecord> = (0..RECORDS)
        .map(|number| TestRecord {
            partition: 0,
            timestamp: first_ms + number as i64,
            key: Some(number.to_string().into_bytes()),
            value: Some(vec![number as u8; 700]),
            headers: Vec::new(),
        })
        .collect();
    librdkafka::produce(&broker.bootstrap(), TOPIC, "none", &written);
    wait_until_tiered(&broker, TOPIC, 1);
    check(
        &librdkafka::consume(&broker.bootstrap(), TOPIC, RECORDS),
        &written,
    );
    broker.stop();
    (broker, written)
}

fn check(read: &[ReadRecord], written: &[TestRecord]) {
    assert_eq!(read.len(), written.len());
    for (offset, (read, written)) in read.iter().zip(written).enumerate() {
        assert_eq!(read.offset, offset as i64);
        assert!(read.record == *written, "offset {offset}");
    }
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("a folder").flatten() {
            match entry.file_type().expect("a type").is_dir() {
                true => folders.push(entry.path()),
                false => files.push(entry.path()),
            }
        }
    }
    files.sort();
    files
}

/// The end of an object that is checked by its last four bytes.
fn seal(bytes: &mut [u8]) {
    if let Some(body) = bytes.len().checked_sub(4) {
        let crc = crc32c::crc32c(&bytes[..body]);
        bytes[body..].copy_from_slice(&crc.to_be_bytes());
    }
}

/// Bytes in, whether they were taken.
type Decode = fn(&[u8]) -> bool;

/// Damages one of `originals`; `seals` says how its checksum is made right again.
fn fuzz(what: &str, originals: &[Vec<u8>], seals: fn(&mut [u8]), decode: Decode) {
    assert!(!originals.is_empty(), "{what}: nothing was found");
    for bytes in originals {
        assert!(decode(bytes), "{what}: what was written is read");
    }
    let case = |mutator: &mut Mutator| {
        let mut bytes = originals[mutator.below(originals.len())].clone();
        mutator.damage(&mut bytes, 0);
        if !mutator.chance(5) {
            seals(&mut bytes);
        }
        bytes
    };
    run(what, SHORT, case, |bytes| {
        decode(bytes);
    });
}

fn fits(manifest: &Manifest, bytes: usize) {
    // Nothing is made of a count alone: each entry takes bytes.
    assert!(manifest.entries.len() + manifest.pages.len() + manifest.epochs.len() <= bytes);
}

fn entries_fit(entries: &[ManifestEntry], bytes: usize) {
    assert!(entries.len() <= bytes / 16);
}

/// A tail as one piece of input: the length of the log bytes, as a manifest says it, then what is behind them.
fn tail_input(log_bytes: u64, tail: &[u8]) -> Vec<u8> {
    [&log_bytes.to_be_bytes()[..], tail].concat()
}

fn decode_tail(input: &[u8]) -> bool {
    let Some((log_bytes, tail)) = input.split_first_chunk::<8>() else {
        return false;
    };
    let tail = Bytes::copy_from_slice(tail);
    // As a reader does that knows only the object's length.
    for range in [tail.len() as u64, u64::MAX] {
        if let Ok(FooterRead::Footer(footer)) = SegmentFooter::decode_suffix(&tail, range) {
            let _ = footer.verify_chunks(0, &tail);
            let _ = footer.verify_chunks(footer.chunk_crcs.len() as u32, &tail);
        }
    }
    let Ok(tail) = SegmentTail::decode(&tail, u64::from_be_bytes(*log_bytes)) else {
        return false;
    };
    assert!(tail.indexes.aborted_txns.len() <= input.len());
    true
}

/// The checksums of the sections in the footer's table, then that of the footer; its length is taken as it stands.
fn seal_tail(input: &mut [u8]) {
    const LENGTH_LEN: usize = 4;
    const CRC_LEN: usize = 4;
    const SECTION_LEN: usize = 22;
    let Some((log_bytes, tail)) = input.split_first_chunk_mut::<8>() else {
        return;
    };
    let log_bytes = u64::from_be_bytes(*log_bytes);
    let Some(length_at) = tail.len().checked_sub(LENGTH_LEN) else {
        return;
    };
    let length: [u8; 4] = tail[length_at..].try_into().expect("four bytes");
    let Some(footer_at) = length_at.checked_sub(u32::from_be_bytes(length) as usize) else {
        return;
    };
    let Some(crc_at) = length_at.checked_sub(CRC_LEN).filter(|at| *at > footer_at) else {
        return;
    };
    // As many sections as fit, from the last: those that are none have no place in the bytes.
    for number in 1..=6 {
        let Some(at) = crc_at
            .checked_sub(number * SECTION_LEN)
            .filter(|at| *at > footer_at)
        else {
            break;
        };
        let word = |at: usize| u64::from_be_bytes(tail[at..at + 8].try_into().expect("8 bytes"));
        let start = word(at + 2).checked_sub(log_bytes);
        let end = start.and_then(|start| start.checked_add(word(at + 10)));
        let (Some(start), Some(end)) = (start, end.filter(|end| *end <= footer_at as u64)) else {
            continue;
        };
        let crc = crc32c::crc32c(&tail[start as usize..end as usize]);
        tail[at + 18..at + SECTION_LEN].copy_from_slice(&crc.to_be_bytes());
    }
    let crc = crc32c::crc32c(&tail[footer_at..crc_at]);
    tail[crc_at..length_at].copy_from_slice(&crc.to_be_bytes());
}

#[test]
fn damaged_objects_of_a_bucket() {
    let (broker, _) = tiered();
    let (mut roots, mut pages, mut tails, mut states, mut groups, mut markers) =
        (vec![], vec![], vec![], vec![], vec![], vec![]);
    for path in files_below(&broker.data().join("remote-storage")) {
        let bytes = std::fs::read(&path).expect("an object");
        let all = Bytes::from(bytes.clone());
        if let Ok(manifest) = manifest_root::decode(all.clone()) {
            if !manifest.entries.is_empty() {
                pages.push(manifest_page::encode(&manifest.entries).to_vec());
            }
            roots.push(bytes);
        } else if let Ok(FooterRead::Footer(footer)) =
            SegmentFooter::decode_suffix(&all, all.len() as u64)
        {
            let tail = &bytes[footer.log_bytes as usize..];
            tails.push(tail_input(footer.log_bytes, tail));
        } else if TopicMarker::decode(&bytes).is_ok() {
            markers.push(bytes);
        } else if ClusterState::decode(&bytes).is_ok() {
            states.push(bytes);
        } else if GroupsState::decode(&bytes).is_ok() {
            groups.push(bytes);
        }
    }
    fuzz("manifest roots", &roots, seal, |bytes| {
        let decoded = manifest_root::decode(Bytes::copy_from_slice(bytes));
        if let Ok(manifest) = &decoded {
            fits(manifest, bytes.len());
            // What was taken can be written again.
            manifest_root::encode(manifest);
        }
        decoded.is_ok()
    });
    fuzz("manifest pages", &pages, seal, |bytes| {
        let decoded = manifest_page::decode(Bytes::copy_from_slice(bytes));
        if let Ok(entries) = &decoded {
            entries_fit(entries, bytes.len());
            manifest_page::encode(entries);
        }
        decoded.is_ok()
    });
    fuzz("segment tails", &tails, seal_tail, decode_tail);
    // These are JSON, without a checksum.
    fuzz(
        "topic markers",
        &markers,
        |_| (),
        |bytes| TopicMarker::decode(bytes).is_ok(),
    );
    fuzz(
        "cluster states",
        &states,
        |_| (),
        |bytes| ClusterState::decode(bytes).is_ok(),
    );
    if !groups.is_empty() {
        fuzz(
            "group states",
            &groups,
            |_| (),
            |bytes| GroupsState::decode(bytes).is_ok(),
        );
    }
}

#[test]
fn damaged_files_of_the_chunk_cache() {
    let (mut broker, written) = tiered();
    let folder = broker.data().join("remote-cache");
    let rounds = match patience(Duration::ZERO, Duration::from_secs(1)) {
        Duration::ZERO => 2,
        _ => 60,
    };
    let first = super::seed("chunk cache");
    let mut damaged = 0;
    for round in 0..rounds {
        let mut mutator = Mutator::new(first.wrapping_add(round));
        for path in files_below(&folder) {
            let mut bytes = std::fs::read(&path).expect("a chunk");
            match mutator.below(6) {
                0 => continue,
                // A name that is a chunk's, of bytes that nobody has.
                1 => {
                    let name = format!("k,{}+{}+{}.chunk", round, i64::MAX, bytes.len());
                    std::fs::rename(&path, folder.join(name)).expect("renamed");
                }
                2 => std::fs::write(&path, b"").expect("written"),
                _ => {
                    let length = bytes.len();
                    mutator.damage(&mut bytes, 0);
                    if mutator.chance(2) {
                        // The right length, so that only its checksum can tell.
                        bytes.resize(length, 0);
                    }
                    std::fs::write(&path, bytes).expect("written");
                }
            }
            damaged += 1;
        }
        broker.restart();
        let read = librdkafka::consume(&broker.bootstrap(), TOPIC, RECORDS);
        check(&read, &written);
        let errors = metric(broker.http_port(), "strandline_task_deaths_total", &[]);
        assert_eq!(errors, 0.0, "nothing has died");
        broker.stop();
    }
    assert!(damaged > 0, "there was a cache to damage");
    println!("chunk cache: {damaged} files damaged in {rounds} rounds");
}
