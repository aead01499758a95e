//! What a log reads as after crashes and damage.

use std::fs;
use std::path::Path;

use openraft::storage::{RaftLogStorage, RaftLogStorageExt};
use openraft::{BasicNode, CommittedLeaderId, EntryPayload};
use proptest::collection::vec;
use proptest::prelude::*;
use strandline_core::metadata::{AllocateProducerIds, Command};

use super::format::*;
use super::store::RaftLog;
use super::writer::scan_bytes;
use crate::entry_format::{encode_commands, join_commands};
use crate::storage_error::MetadataStorageError;
use crate::type_config::{Entry, LogId, Membership, Vote};

fn log_id(index: u64) -> LogId {
    LogId::new(CommittedLeaderId::new(1, 2), index)
}

fn entry(index: u64) -> Entry {
    let command = Command::AllocateProducerIds(AllocateProducerIds {
        broker_id: 1,
        count: 5,
    });
    let payload = match index % 3 {
        0 => EntryPayload::Membership(Membership::new(
            vec![[2].into()],
            std::collections::BTreeMap::from([(2, BasicNode::new("h"))]),
        )),
        1 => EntryPayload::Blank,
        _ => EntryPayload::Normal(join_commands(
            &encode_commands(&[command]).expect("encodes"),
        )),
    };
    Entry {
        log_id: log_id(index),
        payload,
    }
}

/// A file of some frames, and what it reads as after each of them: (its end, the contents).
fn file_of_frames() -> (Vec<u8>, Vec<(usize, Contents)>) {
    let mut file = Vec::new();
    let mut contents = Contents::default();
    put_header(&mut file, 1);
    let mut ends = vec![(file.len(), contents.clone())];
    for number in 0..6 {
        let mut records = Vec::new();
        if number == 0 {
            let vote = Vote::new_committed(1, 2);
            put_vote_record(&mut records, &vote);
            contents.vote = Some(vote);
        } else if number == 4 {
            put_truncate_record(&mut records, 2);
            contents.truncate(2);
        } else {
            for _ in 0..number {
                let next = contents.last_log_id().map_or(0, |id| id.index + 1);
                put_entry_record(&mut records, &entry(next));
                contents.entries.insert(next, entry(next));
            }
        }
        put_frame(&mut file, number, &records);
        ends.push((file.len(), contents.clone()));
    }
    (file, ends)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// These bytes lie on disks: a test that fails here means that old logs could not be opened.
#[test]
fn golden_file() {
    let contents = Contents {
        vote: Some(Vote::new_committed(1, 2)),
        purged: Some(log_id(1)),
        entries: (2..=4).map(|i| (i, entry(i))).collect(),
    };
    let mut file = Vec::new();
    put_header(&mut file, 1);
    put_frame(&mut file, 0, &contents.encode());
    let log_id = "0000000000000001 0000000000000002";
    let expected = [
        "534c524c 0000 0000 0000000000000001 283e0da3".to_owned(),
        "000000b8 af297190 0000000000000000".to_owned(),
        format!("04 {log_id} 0000000000000001"),
        "02 0000000000000001 0000000000000002 01".to_owned(),
        format!(
            "01 {log_id} 0000000000000002 01 00000012 00000001 0000000a 0800 00000001 00000005"
        ),
        format!("01 {log_id} 0000000000000003 02 00000021 00000001 00000001 0000000000000002"),
        "00000001 0000000000000002 00000001 68".to_owned(),
        format!("01 {log_id} 0000000000000004 00 00000000"),
    ];
    assert_eq!(hex(&file), expected.concat().replace(' ', ""));
    let read = scan_bytes(file).expect("reads").expect("has a header");
    assert_eq!(read.contents, contents);
}

#[test]
fn a_log_cut_at_any_byte_keeps_every_whole_frame() {
    let (file, ends) = file_of_frames();
    for cut in 0..=file.len() {
        for tail in [&[][..], &[0; 40]] {
            let mut bytes = file[..cut].to_vec();
            bytes.extend_from_slice(tail);
            let scan = scan_bytes(bytes).unwrap_or_else(|e| panic!("cut at {cut}: {e}"));
            // Zeros may be what the cut took.
            let whole = ends.iter().rev().find(|(end, _)| *end <= cut);
            match (scan, whole) {
                (None, None) => {}
                (Some(scan), Some((end, contents))) => {
                    assert!(scan.good_bytes >= *end);
                    if tail.is_empty() || scan.good_bytes == *end {
                        assert_eq!(
                            (scan.good_bytes, &scan.contents),
                            (*end, contents),
                            "cut at {cut}"
                        );
                    }
                }
                (scan, _) => panic!("cut at {cut}: {scan:?}"),
            }
        }
    }
}

#[test]
fn damage_before_the_last_frame_is_an_error_that_says_where() {
    let (file, ends) = file_of_frames();
    let last_frame = ends[ends.len() - 2].0;
    for at in 0..file.len() {
        let mut bytes = file.clone();
        bytes[at] ^= 0x10;
        let scan = scan_bytes(bytes);
        if at >= last_frame {
            // It cannot be told from a torn write.
            let scan = scan.expect("torn").expect("has a header");
            assert_eq!(scan.good_bytes, last_frame);
            continue;
        }
        let frame = ends
            .iter()
            .rev()
            .map(|(end, _)| *end)
            .find(|end| *end <= at)
            .unwrap_or(0);
        match scan {
            Err(MetadataStorageError::Corrupt { position, path, .. }) => {
                assert_eq!(
                    (position, path.as_path()),
                    (frame as u64, Path::new("log")),
                    "byte {at}"
                );
            }
            other => panic!("byte {at}: {other:?}"),
        }
    }
}

#[test]
fn frames_and_entries_must_follow_each_other() {
    let frames = |frames: &[(u64, Vec<u64>)]| {
        let mut file = Vec::new();
        put_header(&mut file, 1);
        for (number, indexes) in frames {
            let mut records = Vec::new();
            indexes
                .iter()
                .for_each(|i| put_entry_record(&mut records, &entry(*i)));
            put_frame(&mut file, *number, &records);
        }
        scan_bytes(file)
    };
    assert!(frames(&[(0, vec![0]), (1, vec![1])]).is_ok());
    for bad in [
        &[(0, vec![0]), (2, vec![1])][..],
        &[(1, vec![0])],
        &[(0, vec![0, 2])],
        &[(0, vec![1, 1])],
    ] {
        let error = frames(bad).expect_err("damaged");
        assert!(
            matches!(error, MetadataStorageError::Corrupt { .. }),
            "{error}"
        );
    }
    let mut unknown = Vec::new();
    put_header(&mut unknown, 1);
    put_frame(&mut unknown, 0, &[9]);
    assert!(scan_bytes(unknown).is_err());
    let mut header = Vec::new();
    put_header(&mut header, 2);
    assert!(scan_bytes(header).is_err(), "the name says generation 1");
}

#[derive(Clone, Debug)]
enum Step {
    Append(u64),
    Vote(u64),
    Truncate(u64),
    Purge(u64),
    Reopen,
    TornReopen(u8),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (1u64..4).prop_map(Step::Append),
        1 => (1u64..9).prop_map(Step::Vote),
        1 => (0u64..4).prop_map(Step::Truncate),
        1 => (0u64..4).prop_map(Step::Purge),
        1 => Just(Step::Reopen),
        1 => any::<u8>().prop_map(Step::TornReopen),
    ];
    vec(step, 1..25)
}

fn newest_log(folder: &Path) -> std::path::PathBuf {
    let mut logs: Vec<_> = fs::read_dir(folder)
        .expect("lists")
        .map(|e| e.expect("entry").path())
        .filter(|p| p.extension().is_some_and(|e| e == "log"))
        .collect();
    logs.sort();
    assert_eq!(logs.len(), 1, "older generations are removed");
    logs.pop().expect("one")
}

/// A write that never finished, of these bytes.
fn tear(folder: &Path, byte: u8) {
    let path = newest_log(folder);
    let mut bytes = fs::read(&path).expect("reads");
    bytes.extend(vec![byte; usize::from(byte % 40) + 1]);
    fs::write(&path, bytes).expect("writes");
}

async fn check_steps(steps: Vec<Step>) {
    let folder = tempfile::tempdir().expect("a folder");
    let mut log = RaftLog::open(folder.path(), false).expect("opens");
    let mut model = Contents::default();
    for step in steps {
        match step {
            Step::Append(count) => {
                let next = model.last_log_id().map_or(0, |id| id.index + 1);
                let entries: Vec<_> = (next..next + count).map(entry).collect();
                model
                    .entries
                    .extend(entries.iter().map(|e| (e.log_id.index, e.clone())));
                log.blocking_append(entries).await.expect("appends");
            }
            Step::Vote(term) => {
                let vote = Vote::new(term, 2);
                model.vote = Some(vote);
                log.save_vote(&vote).await.expect("saves");
            }
            Step::Truncate(back) => {
                if let Some(from) = model.entries.keys().rev().nth(back as usize).copied() {
                    model.truncate(from);
                    log.truncate(log_id(from)).await.expect("truncates");
                }
            }
            Step::Purge(ahead) => {
                if let Some(upto) = model.entries.keys().nth(ahead as usize).copied() {
                    model.purge(log_id(upto));
                    log.purge(log_id(upto)).await.expect("purges");
                }
            }
            Step::Reopen | Step::TornReopen(_) => {
                log.close().await.expect("closes");
                if let Step::TornReopen(byte) = step {
                    tear(folder.path(), byte);
                }
                log = RaftLog::open(folder.path(), false).expect("opens");
            }
        }
        assert_eq!(log.contents(), model);
        let state = log.get_log_state().await.expect("state");
        assert_eq!(
            (state.last_purged_log_id, state.last_log_id),
            (model.purged, model.last_log_id())
        );
    }
    log.close().await.expect("closes");
    let log = RaftLog::open(folder.path(), false).expect("opens");
    assert_eq!(log.contents(), model);
    log.close().await.expect("closes");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]
    #[test]
    fn what_was_acknowledged_is_there_after_every_reopening(steps in steps()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(check_steps(steps));
    }
}

#[tokio::test]
async fn a_folder_is_used_by_one_process_at_a_time() {
    let folder = tempfile::tempdir().expect("a folder");
    let log = RaftLog::open(folder.path(), true).expect("opens");
    let refused = RaftLog::open(folder.path(), true).err();
    assert!(matches!(refused, Some(MetadataStorageError::Locked { .. })));
    log.close().await.expect("closes");
    let log = RaftLog::open(folder.path(), true).expect("opens");
    log.close().await.expect("closes");
    assert!(matches!(
        log.close().await,
        Err(MetadataStorageError::Closed)
    ));
}

#[tokio::test]
async fn a_crash_while_the_file_is_replaced_leaves_one_of_the_two() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut log = RaftLog::open(folder.path(), false).expect("opens");
    log.blocking_append((0..6).map(entry))
        .await
        .expect("appends");
    let before = fs::read(newest_log(folder.path())).expect("reads");
    log.purge(log_id(3)).await.expect("purges");
    log.close().await.expect("closes");
    let purged = log.contents();
    let after = newest_log(folder.path());

    // The old file was not removed yet; a third was begun.
    fs::write(folder.path().join(format!("{:020}.log", 1)), &before).expect("writes");
    fs::write(folder.path().join(format!("{:020}.log.tmp", 3)), b"half").expect("writes");
    let log = RaftLog::open(folder.path(), false).expect("opens");
    assert_eq!(log.contents(), purged);
    assert_eq!(newest_log(folder.path()), after);
    assert!(!folder.path().join(format!("{:020}.log.tmp", 3)).exists());
    log.close().await.expect("closes");

    // A later file always gets its name after its bytes: half a one is damage.
    fs::write(&after, b"SLRL").expect("writes");
    assert!(matches!(
        RaftLog::open(folder.path(), false),
        Err(MetadataStorageError::Corrupt { .. })
    ));
}

#[tokio::test]
async fn a_lone_voters_election_waits_for_the_next_command() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut log = RaftLog::open(folder.path(), true).expect("opens");
    let empty = log.file_bytes();
    log.save_vote(&Vote::new_committed(1, 2))
        .await
        .expect("saves");
    log.blocking_append([entry(0), entry(1)])
        .await
        .expect("appends");
    assert_eq!(log.file_bytes(), empty);
    log.blocking_append([entry(2)]).await.expect("appends");
    assert!(log.file_bytes() > empty);
    let contents = log.contents();
    assert_eq!(
        (contents.entries.len(), contents.vote),
        (3, Some(Vote::new_committed(1, 2)))
    );
    let on_disk = fs::read(newest_log(folder.path())).expect("reads");
    let scan = scan_bytes(on_disk).expect("reads").expect("has a header");
    assert_eq!((scan.contents, scan.next_frame), (contents, 1));
}
