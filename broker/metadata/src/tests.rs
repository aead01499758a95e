//! The quorum as its callers see it, over real files.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use openraft::storage::RaftLogStorage;
use openraft::testing::{StoreBuilder, Suite};
use strandline_core::metadata::*;
use uuid::Uuid;

use crate::raft_log::RaftLog;
use crate::state_machine::StateMachine;
use crate::type_config::{RaftStorageError, TypeConfig};
use crate::*;

struct Stores;

impl StoreBuilder<TypeConfig, RaftLog, StateMachine, tempfile::TempDir> for Stores {
    async fn build(&self) -> Result<(tempfile::TempDir, RaftLog, StateMachine), RaftStorageError> {
        let folder = tempfile::tempdir().expect("a folder");
        let log = RaftLog::open(folder.path(), false).expect("opens");
        let state_machine = StateMachine::open(folder.path()).expect("opens");
        Ok((folder, log, state_machine))
    }
}

#[test]
fn openrafts_own_suite_for_stores() {
    Suite::test_all(Stores).expect("passes");
}

fn init(cluster_id: &str) -> Vec<Command> {
    let incarnation_id = Uuid::from_u128(7);
    vec![
        Command::InitCluster(InitCluster {
            cluster_id: cluster_id.into(),
            incarnation: 1,
            features: [].into(),
        }),
        Command::RegisterBroker(RegisterBroker {
            broker_id: 1,
            incarnation_id,
            endpoints: Vec::new(),
            rack: None,
        }),
        Command::BrokerStarted(BrokerStarted {
            broker_id: 1,
            incarnation_id,
        }),
    ]
}

fn create_topic(number: u32) -> Command {
    Command::CreateTopics(CreateTopics {
        topics: vec![NewTopic {
            name: format!("topic-{number}").into(),
            id: Uuid::from_u128(u128::from(number) + 1),
            assignments: vec![vec![1]],
            configs: [].into(),
        }],
    })
}

fn allocate(count: i32) -> Command {
    Command::AllocateProducerIds(AllocateProducerIds {
        broker_id: 1,
        count,
    })
}

async fn start(dir: &Path) -> MetadataQuorum {
    MetadataQuorum::start(QuorumConfig::new(dir, 1))
        .await
        .expect("starts")
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let wait = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), wait)
        .await
        .unwrap_or_else(|_| panic!("{what}"));
}

/// A process that is gone from one moment to the next: its runtime ends in the middle of whatever it did.
fn killed<T>(act: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let result = runtime.block_on(act);
    runtime.shutdown_timeout(Duration::from_secs(10));
    result
}

/// The lock is given back when the writer's thread has noticed.
async fn start_after_kill(dir: &Path) -> MetadataQuorum {
    let started = async {
        loop {
            match MetadataQuorum::start(QuorumConfig::new(dir, 1)).await {
                Ok(quorum) => return quorum,
                Err(StartError::Storage(MetadataStorageError::Locked { .. })) => {
                    tokio::time::sleep(Duration::from_millis(2)).await;
                }
                Err(error) => panic!("{error}"),
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(20), started)
        .await
        .expect("starts")
}

fn files(dir: &Path, extension: &str) -> Vec<PathBuf> {
    let mut files: Vec<_> = fs::read_dir(dir.join(METADATA_FOLDER))
        .expect("lists")
        .map(|e| e.expect("entry").path())
        .filter(|p| p.extension().is_some_and(|e| e == extension))
        .collect();
    files.sort();
    files
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fresh_quorum_answers_and_a_restart_knows_everything() {
    let dir = tempfile::tempdir().expect("a folder");
    let quorum = start(dir.path()).await;
    assert!(!quorum.image().is_initialized());
    let outcomes = quorum.propose_all(init("one")).await.expect("proposed");
    assert!(matches!(
        &outcomes[0],
        CommandOutcome::Cluster { fresh: true, .. }
    ));
    let outcome = quorum.propose(create_topic(0)).await.expect("proposed");
    assert!(matches!(outcome, CommandOutcome::Topics(t) if t[0].result.is_ok()));
    let refused = quorum.propose(create_topic(0)).await.expect("proposed");
    assert!(matches!(refused, CommandOutcome::Topics(t) if t[0].result.is_err()));
    let image = quorum.image();
    assert_eq!((image.offset, image.topics.len()), (5, 1));
    quorum.shutdown().await;
    assert_eq!(
        quorum.propose(allocate(1)).await,
        Err(ProposeError::Stopped)
    );

    let quorum = start(dir.path()).await;
    assert_eq!(*quorum.image(), *image);
    let outcomes = quorum.propose_all(init("two")).await.expect("proposed");
    assert!(
        matches!(&outcomes[0], CommandOutcome::Cluster { fresh: false, cluster_id, .. } if &**cluster_id == "one")
    );
    assert_eq!(
        outcomes[2],
        CommandOutcome::BrokerStarted { partitions_led: 1 }
    );
    quorum.shutdown().await;

    let other = MetadataQuorum::start(QuorumConfig::new(dir.path(), 2))
        .await
        .err();
    assert!(
        matches!(other, Some(StartError::NodeIdChanged { .. })),
        "{other:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_start_on_the_same_folder_is_refused() {
    let dir = tempfile::tempdir().expect("a folder");
    let quorum = start(dir.path()).await;
    let second = MetadataQuorum::start(QuorumConfig::new(dir.path(), 1))
        .await
        .err();
    assert!(matches!(
        second,
        Some(StartError::Storage(MetadataStorageError::Locked { .. }))
    ));
    quorum.shutdown().await;
    let negative = MetadataQuorum::start(QuorumConfig::new(dir.path(), -1))
        .await
        .err();
    assert!(matches!(negative, Some(StartError::InvalidNodeId(-1))));
}

#[test]
fn what_was_answered_survives_a_kill_between_any_two_steps() {
    let dir = tempfile::tempdir().expect("a folder");
    // Killed before anything was proposed: nothing was promised.
    killed(async { drop(start(dir.path()).await) });
    let mut expected = killed(async {
        let quorum = start_after_kill(dir.path()).await;
        assert_eq!(*quorum.image(), MetadataImage::default());
        quorum.propose_all(init("one")).await.expect("proposed");
        quorum.image()
    });
    for round in 0..10 {
        expected = killed(async {
            let quorum = start_after_kill(dir.path()).await;
            assert_eq!(*quorum.image(), *expected);
            for step in 0..round % 4 {
                quorum
                    .propose(create_topic(round * 4 + step))
                    .await
                    .expect("proposed");
            }
            quorum.image()
        });
    }
    assert_eq!(expected.topics.len(), 13);
}

#[test]
fn a_proposal_torn_by_a_kill_is_there_or_not_at_every_byte() {
    let dir = tempfile::tempdir().expect("a folder");
    let (before, after) = killed(async {
        let quorum = start(dir.path()).await;
        quorum.propose_all(init("one")).await.expect("proposed");
        let before = (quorum.image(), quorum.log_bytes());
        quorum.propose(create_topic(0)).await.expect("proposed");
        (before, (quorum.image(), quorum.log_bytes()))
    });
    let log = files(dir.path(), "log").remove(0);
    let bytes = fs::read(&log).expect("reads");
    assert_eq!(bytes.len() as u64, after.1);
    for cut in (before.1..=after.1).rev() {
        let torn = tempfile::tempdir().expect("a folder");
        let folder = torn.path().join(METADATA_FOLDER);
        fs::create_dir(&folder).expect("makes");
        let name = log.file_name().expect("has a name");
        fs::write(
            folder.join(name),
            &bytes[..usize::try_from(cut).expect("fits")],
        )
        .expect("writes");
        let image = killed(async { start(torn.path()).await.image() });
        let expected = if cut == after.1 { &after.0 } else { &before.0 };
        assert_eq!(*image, **expected, "cut at {cut}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn subscribers_see_every_change_once_and_in_order() {
    let dir = tempfile::tempdir().expect("a folder");
    let quorum = Arc::new(start(dir.path()).await);
    quorum.propose_all(init("one")).await.expect("proposed");
    let mut updates = quorum.subscribe();
    assert_eq!(updates.image.offset, 3);
    assert!(updates.try_recv().is_none());
    let proposers: Vec<_> = (0..8u32)
        .map(|p| {
            let quorum = quorum.clone();
            tokio::spawn(async move {
                for i in 0..25 {
                    let outcome = quorum
                        .propose(create_topic(p * 25 + i))
                        .await
                        .expect("proposed");
                    let CommandOutcome::Topics(topics) = outcome else {
                        panic!("{outcome:?}")
                    };
                    let topic = topics[0].result.as_ref().expect("created");
                    assert_eq!(
                        *topic.name,
                        format!("topic-{}", p * 25 + i),
                        "the outcome is the proposal's own"
                    );
                    assert!(quorum.image().topics.get(&topic.name).is_some());
                }
            })
        })
        .collect();
    let mut image = updates.image.clone();
    for _ in 0..200 {
        let update = updates.recv().await.expect("update");
        assert_eq!(update.image.offset, image.offset + 1);
        assert_eq!(update.delta, MetadataDelta::between(&image, &update.image));
        image = update.image.clone();
    }
    for proposer in proposers {
        proposer.await.expect("runs");
    }
    assert_eq!(image.topics.len(), 200);
    assert_eq!(*image, *quorum.image());
    quorum.shutdown().await;
    assert!(updates.recv().await.is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn snapshots_bound_the_log_by_entries_and_by_bytes() {
    let by_entries = |config: QuorumConfig| QuorumConfig {
        snapshot_entries_max: 20,
        ..config
    };
    let by_bytes = |config: QuorumConfig| QuorumConfig {
        snapshot_bytes_max: 4096,
        ..config
    };
    let limits: [&dyn Fn(QuorumConfig) -> QuorumConfig; 2] = [&by_entries, &by_bytes];
    for limit in limits {
        let dir = tempfile::tempdir().expect("a folder");
        let config = limit(QuorumConfig::new(dir.path(), 1));
        let quorum = MetadataQuorum::start(config.clone()).await.expect("starts");
        quorum.propose_all(init("one")).await.expect("proposed");
        for i in 0..300 {
            quorum.propose(create_topic(i)).await.expect("proposed");
            if i % 50 == 49 {
                // Snapshots are made while proposals go on, so the log may run ahead for a while.
                until("the log is cut", || quorum.log_bytes() < 6 * 1024).await;
            }
        }
        until("one snapshot is kept", || {
            files(dir.path(), "checkpoint").len() == 1
        })
        .await;
        let image = quorum.image();
        quorum.shutdown().await;
        assert_eq!(files(dir.path(), "log").len(), 1);

        let quorum = MetadataQuorum::start(config).await.expect("starts");
        assert_eq!(*quorum.image(), *image);
        quorum.propose(create_topic(300)).await.expect("proposed");
        assert_eq!(quorum.image().topics.len(), 301);
        quorum.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_or_missing_snapshot_is_named() {
    let dir = tempfile::tempdir().expect("a folder");
    let config = QuorumConfig {
        snapshot_entries_max: 5,
        ..QuorumConfig::new(dir.path(), 1)
    };
    let quorum = MetadataQuorum::start(config.clone()).await.expect("starts");
    quorum.propose_all(init("one")).await.expect("proposed");
    for i in 0..20 {
        quorum.propose(create_topic(i)).await.expect("proposed");
    }
    let generations = || {
        files(dir.path(), "log")
            .pop()
            .filter(|p| !p.ends_with("00000000000000000001.log"))
    };
    until("the log was purged", || generations().is_some()).await;
    quorum.shutdown().await;

    let snapshot = files(dir.path(), "checkpoint").pop().expect("one");
    let bytes = fs::read(&snapshot).expect("reads");
    let mut damaged = bytes.clone();
    damaged[bytes.len() / 2] ^= 1;
    fs::write(&snapshot, &damaged).expect("writes");
    match MetadataQuorum::start(config.clone()).await.err() {
        Some(StartError::Storage(MetadataStorageError::Corrupt { path, .. })) => {
            assert_eq!(path, snapshot)
        }
        other => panic!("{other:?}"),
    }
    fs::remove_file(&snapshot).expect("removes");
    let error = start_refused(&config).await;
    assert!(
        matches!(
            error,
            StartError::Storage(MetadataStorageError::SnapshotMissing { .. })
        ),
        "{error}"
    );
    fs::write(&snapshot, &bytes).expect("writes");
    let quorum = start_after_kill(dir.path()).await;
    assert_eq!(quorum.image().topics.len(), 20);
    quorum.shutdown().await;
}

/// A refused start gives its lock back when its log's thread has ended.
async fn start_refused(config: &QuorumConfig) -> StartError {
    loop {
        match MetadataQuorum::start(config.clone()).await.err() {
            Some(StartError::Storage(MetadataStorageError::Locked { .. })) => {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            other => return other.expect("refused"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_too_large_is_refused_before_it_is_logged() {
    let dir = tempfile::tempdir().expect("a folder");
    let quorum = start(dir.path()).await;
    quorum.propose_all(init("one")).await.expect("proposed");
    let large = |len: usize| {
        Command::AlterConfigs(AlterConfigs {
            changes: vec![ConfigChange {
                resource: ConfigResource::ClusterDefault,
                replace: false,
                set: [("k".to_owned(), "v".repeat(len))].into(),
                delete: [].into(),
            }],
        })
    };
    let refused = quorum.propose(large(COMMAND_BYTES_MAX)).await;
    assert!(matches!(
        refused,
        Err(ProposeError::Command(FormatError::TooLarge { .. }))
    ));
    let refused = quorum
        .propose_all(vec![large(COMMAND_BYTES_MAX / 2); 2])
        .await;
    assert!(matches!(
        refused,
        Err(ProposeError::Command(FormatError::TooLarge { .. }))
    ));
    // Several that are large alone take one entry each.
    let quorum = Arc::new(quorum);
    let proposals: Vec<_> = (0..4)
        .map(|_| {
            let quorum = quorum.clone();
            let command = large(COMMAND_BYTES_MAX / 2);
            tokio::spawn(async move { quorum.propose(command).await })
        })
        .collect();
    for proposal in proposals {
        proposal.await.expect("runs").expect("proposed");
    }
    quorum.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_cannot_be_written_fails_loudly_and_stays_failed() {
    let dir = tempfile::tempdir().expect("a folder");
    let quorum = start(dir.path()).await;
    quorum.propose_all(init("one")).await.expect("proposed");
    // As after a failed write: the thread has gone.
    let mut log = quorum.log_for_tests();
    log.close().await.expect("closes");
    for _ in 0..2 {
        let failed = quorum.propose(create_topic(0)).await;
        assert!(matches!(failed, Err(ProposeError::Failed(_))), "{failed:?}");
    }
    assert!(log.save_vote(&openraft::Vote::new(9, 1)).await.is_err());
    assert!(
        quorum.image().topics.is_empty(),
        "what was not acknowledged is not shown"
    );
    quorum.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement: run with --nocapture on a quiet machine"]
async fn how_long_a_start_takes() {
    let dir = tempfile::tempdir().expect("a folder");
    for round in 0..5 {
        let begin = tokio::time::Instant::now();
        let quorum = start(dir.path()).await;
        let started = begin.elapsed();
        quorum.propose_all(init("one")).await.expect("proposed");
        println!(
            "start {round}: leads after {started:?}, first proposal applied after {:?}",
            begin.elapsed()
        );
        quorum.shutdown().await;
    }
}
