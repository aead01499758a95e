//! I8: whatever crashes, each offset is in the table exactly once.

use std::fs;

use proptest::prelude::Rng;
use proptest::test_runner::{RngAlgorithm, TestRng};

use super::harness::{TOPIC, World};
use crate::commit::{CommitError, Entry, RunState};
use crate::target::{Target, TargetError};
use crate::{ExportError, ExportLimits, ExportRequest, ExportTarget};

/// Lets a run's commit fail after its files are in place, as a crash would: something that cannot be read lies where the
/// commit would be. Afterwards it is gone again.
async fn export_and_crash(world: &World, request: &ExportRequest) {
    let next = world.table().entries().len() as u64 + 1;
    let path = world.table().commit_path(next + 1);
    let mut broken = false;
    let result = world
        .export_with(request, &mut |_| {
            if !broken {
                fs::write(&path, b"torn").expect("writes");
                broken = true;
            }
        })
        .await;
    let error = result.expect_err("could not commit");
    assert!(matches!(error, ExportError::Commit(_)), "{error}");
    fs::remove_file(path).expect("was there");
}

#[tokio::test]
async fn files_of_a_crashed_run_are_not_part_of_the_table_and_go_with_the_next_run() {
    let world = World::new(2).await;
    world.tier_numbers(0, 20).await;
    world.tier_numbers(1, 20).await;
    export_and_crash(&world, &world.request()).await;
    let table = world.table();
    assert_eq!(table.rows().len(), 0, "nothing was committed");
    assert_eq!(table.files().len(), 2, "but the files are there");
    let summary = world.export(&world.request()).await.expect("exports");
    assert_eq!((summary.records, summary.swept_files), (40, 2));
    assert!(table.is_clean(), "a glob sees what the commits name");
    assert_eq!(table.places().len(), 40);
    assert_eq!(
        table.entries().last().expect("commits").state,
        RunState::Ended
    );
    // Also when there is nothing new to export.
    world.tier_numbers(0, 5).await;
    export_and_crash(&world, &world.request()).await;
    let stray = table.files();
    world.export(&world.request()).await.expect("exports");
    assert_ne!(table.files(), stray);
    assert!(table.is_clean());
}

#[tokio::test]
async fn a_torn_commit_is_told_and_not_overwritten() {
    let world = World::new(1).await;
    world.tier_numbers(0, 5).await;
    world.export(&world.request()).await.expect("exports");
    fs::write(world.table().commit_path(3), b"{").expect("writes");
    let error = world
        .export(&world.request())
        .await
        .expect_err("is damaged");
    assert!(
        matches!(error, ExportError::Commit(CommitError::Damaged { .. })),
        "{error}"
    );
    fs::remove_file(world.table().commit_path(3)).expect("was there");
    fs::remove_file(world.table().commit_path(1)).expect("was there");
    let error = world
        .export(&world.request())
        .await
        .expect_err("is missing");
    assert!(
        matches!(error, ExportError::Commit(CommitError::Missing { .. })),
        "{error}"
    );
    fs::remove_file(world.table().commit_path(2)).expect("was there");
    let error = world
        .export(&world.request())
        .await
        .expect_err("files without commits");
    assert!(
        matches!(error, ExportError::Commit(CommitError::NoCommits { .. })),
        "{error}"
    );
}

#[tokio::test]
async fn a_second_exporter_into_a_folder_is_refused() {
    let world = World::new(1).await;
    world.tier_numbers(0, 5).await;
    let target = ExportTarget::new(world.lake().to_string_lossy());
    let first = Target::open(&target, TOPIC, None).await.expect("opens");
    let error = world.export(&world.request()).await.expect_err("is locked");
    assert!(
        matches!(error, ExportError::Target(TargetError::Busy { .. })),
        "{error}"
    );
    drop(first);
    world.export(&world.request()).await.expect("exports");
}

#[tokio::test]
async fn where_nothing_can_be_locked_the_later_run_wins_and_the_earlier_adds_nothing() {
    let world = World::new(1).await;
    world.tier_numbers(0, 40).await;
    let target = Target::in_memory();
    let request = world.request();
    // The later run comes and goes while the earlier one is at its first chunk.
    let mut later = None;
    let earlier = world
        .export_to(&target, &request, &mut |_| {
            if later.is_none() {
                let run = || {
                    let runtime = tokio::runtime::Runtime::new().expect("starts");
                    runtime.block_on(world.export_to(&target, &request, &mut |_| {}))
                };
                later = std::thread::scope(|scope| scope.spawn(run).join().ok());
            }
        })
        .await;
    let error = earlier.expect_err("lost");
    assert!(
        matches!(error, ExportError::Commit(CommitError::Lost { .. })),
        "{error}"
    );
    let later = later.expect("ran without a panic").expect("exports");
    assert_eq!(later.records, 40);
    assert_eq!(records_of(&target).await, 40);
    // The later run could not know that the earlier one was dead: one more run looks after it.
    let states = states_of(&target).await;
    assert_eq!(states.last(), Some(&RunState::Settling));
    world
        .export_to(&target, &request, &mut |_| {})
        .await
        .expect("settles");
    assert_eq!(states_of(&target).await.last(), Some(&RunState::Ended));
    assert_eq!(target.list("data/").await.expect("lists").len(), 1);
    let idle = world
        .export_to(&target, &request, &mut |_| {})
        .await
        .expect("idle");
    assert_eq!(idle.commits, 0);
}

async fn entries_of(target: &Target) -> Vec<Entry> {
    let mut listed = target.list("_strandline/commits/").await.expect("lists");
    listed.sort_by(|a, b| a.path.cmp(&b.path));
    let mut entries = Vec::new();
    for file in listed {
        let bytes = target.read(&file.path).await.expect("reads");
        entries.push(Entry::decode(&bytes).expect("decodes"));
    }
    entries
}

async fn records_of(target: &Target) -> u64 {
    entries_of(target)
        .await
        .iter()
        .map(|entry| entry.records)
        .sum()
}

async fn states_of(target: &Target) -> Vec<RunState> {
    entries_of(target)
        .await
        .iter()
        .map(|entry| entry.state)
        .collect()
}

#[tokio::test]
async fn large_files_reach_an_object_store_in_parts() {
    use std::io::Write;
    let target = Target::in_memory();
    let content: Vec<u8> = (0..(20_u32 << 20)).map(|i| (i % 251) as u8).collect();
    for bytes in [0, 1, 8 << 20, content.len()] {
        let spool = target.spool().create().expect("spools");
        spool
            .file()
            .expect("opens")
            .write_all(&content[..bytes])
            .expect("writes");
        target.put("data/x", spool).await.expect("uploads");
        assert!(
            target.read("data/x").await.expect("reads") == content[..bytes],
            "{bytes} bytes"
        );
    }
    target.probe(1).await.expect("honours conditions");
}

#[tokio::test]
async fn random_crashes_and_uploads_lose_and_repeat_nothing() {
    for seed in 0..6 {
        let mut random = TestRng::from_seed(RngAlgorithm::ChaCha, &[seed; 32]);
        let world = World::new(2).await;
        let mut ends = [0_i64; 2];
        let request = ExportRequest {
            limits: ExportLimits {
                chunk_bytes: 1,
                file_bytes_max: 1_500,
                gather_rows_max: 7,
                ..ExportLimits::default()
            },
            ..world.json()
        };
        for _ in 0..10 {
            let partition = random.next_u32() % 2;
            match random.next_u32() % 3 {
                0 => {
                    let count = 1 + i64::from(random.next_u32() % 40);
                    world.tier_numbers(partition as i32, count).await;
                    ends[partition as usize] += count;
                }
                1 if world.table().places().len() < ends.iter().sum::<i64>() as usize => {
                    export_and_crash(&world, &request).await;
                }
                _ => {
                    world.export(&request).await.expect("exports");
                }
            }
        }
        world.export(&request).await.expect("exports");
        let expected: Vec<_> = (0..2)
            .flat_map(|p| (0..ends[p as usize]).map(move |offset| (p, offset)))
            .collect();
        assert_eq!(world.table().places(), expected, "seed {seed}");
        assert!(world.table().is_clean(), "seed {seed}");
    }
}
