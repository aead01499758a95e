//! The files against what Kafka 4.3.1 writes and reads.

use std::collections::BTreeMap;
use std::fs;

use proptest::prelude::*;

use super::*;
use crate::types::TopicPartition;

const ID: uuid::Uuid = uuid::Uuid::from_u128(0x0123_4567_89ab_cdef_fedc_ba98_7654_3210);

#[test]
fn offset_checkpoints_are_kafkas_text() {
    let dir = tempfile::tempdir().expect("a folder");
    let file = OffsetCheckpointFile::new(dir.path(), RECOVERY_POINT_CHECKPOINT);
    assert_eq!(file.read().expect("none yet"), BTreeMap::new());
    let offsets = BTreeMap::from([
        (TopicPartition::new("a-b", 0), 7),
        (TopicPartition::new("a-b", 12), 9_000_000_000),
        (TopicPartition::new("z", 1), 0),
    ]);
    file.write(&offsets).expect("writes");
    let text = fs::read_to_string(file.path()).expect("is there");
    assert_eq!(text, "0\n3\na-b 0 7\na-b 12 9000000000\nz 1 0\n");
    assert_eq!(file.read().expect("reads"), offsets);
    assert_eq!(fs::read_dir(dir.path()).expect("lists").count(), 1);
}

#[test]
fn malformed_checkpoints_are_refused_by_name() {
    let dir = tempfile::tempdir().expect("a folder");
    let file = OffsetCheckpointFile::new(dir.path(), REPLICATION_OFFSET_CHECKPOINT);
    for text in [
        "",
        "1\n0\n",
        "0\n",
        "0\nx\n",
        "0\n2\na 0 1\n",
        "0\n0\na 0 1\n",
        "0\n1\na 0\n",
        "0\n1\na b 1\n",
        "0\n1\na 0 -1\n",
        "0\n1\na 0 1 2\n",
        "0\n1\na 0 99999999999999999999\n",
    ] {
        fs::write(file.path(), text).expect("writes");
        let error = file.read().expect_err(text).to_string();
        assert!(error.contains(REPLICATION_OFFSET_CHECKPOINT), "{error}");
    }
    fs::write(file.path(), [0xff, 0xfe]).expect("writes");
    assert!(file.read().is_err());
}

#[test]
fn partition_metadata_is_kafkas_bytes() {
    let dir = tempfile::tempdir().expect("a folder");
    let file = PartitionMetadataFile::new(dir.path());
    assert_eq!(file.read().expect("none yet"), None);
    file.write(&ID, true).expect("writes");
    let path = dir.path().join("partition.metadata");
    let text = fs::read_to_string(&path).expect("is there");
    assert_eq!(text, "version: 0\ntopic_id: ASNFZ4mrze_-3LqYdlQyEA");
    assert_eq!(file.read().expect("reads"), Some(ID));
    for bad in [
        "",
        "version: 0",
        "version: 1\ntopic_id: ASNFZ4mrze_-3LqYdlQyEA",
        "version: 0\ntopic_id: short",
        "version: 0\ntopic_id: AAAAAAAAAAAAAAAAAAAAAA",
        "nonsense",
    ] {
        fs::write(&path, bad).expect("writes");
        assert!(file.read().is_err(), "{bad}");
    }
}

#[test]
fn meta_properties_read_what_java_wrote_and_we_wrote() {
    let dir = tempfile::tempdir().expect("a folder");
    assert_eq!(MetaProperties::read(dir.path()).expect("none yet"), None);
    let java = "#\n#Sat Nov 22 10:00:00 UTC 2025\ncluster.id=a\\:b\\=c\ndirectory.id=ASNFZ4mrze_-3LqYdlQyEA\n\
                node.id=3\nversion=1\n";
    fs::write(dir.path().join(MetaProperties::NAME), java).expect("writes");
    let read = MetaProperties::read(dir.path()).expect("reads");
    let expected = MetaProperties {
        cluster_id: "a:b=c".to_owned(),
        node_id: 3,
        directory_id: ID,
    };
    assert_eq!(read.as_ref(), Some(&expected));
    expected.write(dir.path()).expect("writes");
    let text = fs::read_to_string(dir.path().join(MetaProperties::NAME)).expect("is there");
    assert_eq!(
        text,
        "#\ncluster.id=a\\:b\\=c\ndirectory.id=ASNFZ4mrze_-3LqYdlQyEA\nnode.id=3\nversion=1\n"
    );
    for (bad, named) in [
        ("version=0\n", "version"),
        ("version=1\nnode.id=1\ndirectory.id=x\n", "cluster.id"),
        (
            "version=1\nnode.id=x\ncluster.id=c\ndirectory.id=x\n",
            "node.id",
        ),
    ] {
        fs::write(dir.path().join(MetaProperties::NAME), bad).expect("writes");
        let error = MetaProperties::read(dir.path()).expect_err(bad).to_string();
        assert!(
            error.contains("meta.properties") || error.contains(named),
            "{error}"
        );
    }
}

#[test]
fn the_clean_shutdown_mark_comes_and_goes() {
    let dir = tempfile::tempdir().expect("a folder");
    let file = CleanShutdownFile::new(dir.path());
    assert!(!file.exists());
    file.write(17).expect("writes");
    let text = fs::read_to_string(dir.path().join(".kafka_cleanshutdown")).expect("is there");
    assert_eq!(text, "{\"version\":0,\"brokerEpoch\":17}");
    assert!(file.exists());
    assert_eq!(file.read(), Some(17));
    fs::write(dir.path().join(".kafka_cleanshutdown"), "").expect("writes");
    assert!(file.exists(), "an older version's mark is empty");
    assert_eq!(file.read(), None);
    file.delete().expect("deletes");
    file.delete().expect("again");
    assert!(!file.exists());
}

proptest! {
    #[test]
    fn cluster_ids_round_trip(cluster_id in "[ -~]{0,30}", node_id: i32) {
        let dir = tempfile::tempdir().expect("a folder");
        let written = MetaProperties {
            cluster_id: cluster_id.trim().to_owned(),
            node_id,
            directory_id: ID,
        };
        written.write(dir.path()).expect("writes");
        prop_assert_eq!(MetaProperties::read(dir.path()).expect("reads"), Some(written));
    }

    #[test]
    fn noise_never_panics_a_reader(text in ".{0,200}") {
        let dir = tempfile::tempdir().expect("a folder");
        for name in [RECOVERY_POINT_CHECKPOINT, PartitionMetadataFile::NAME, MetaProperties::NAME, CleanShutdownFile::NAME] {
            fs::write(dir.path().join(name), &text).expect("writes");
        }
        let _ = OffsetCheckpointFile::new(dir.path(), RECOVERY_POINT_CHECKPOINT).read();
        let _ = PartitionMetadataFile::new(dir.path()).read();
        let _ = MetaProperties::read(dir.path());
        let _ = CleanShutdownFile::new(dir.path()).read();
    }
}
