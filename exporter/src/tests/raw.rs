//! Records as they are, batches as producers send them.

use bytes::Bytes;
use strandline_log::TopicId;
use strandline_log::record::{
    BatchOptions, Compression, ControlRecordType, EndTxnMarker, NewRecord, RecordHeader,
};
use strandline_log::txn_index::AbortedTxn;
use strandline_tiering::manifest::{Edit, GapCause};

use super::harness::{TOPIC, World, batch, read_rows, record};
use crate::commit::FileKind;
use crate::plan::PlanError;
use crate::source::SourceError;
use crate::{ExportError, ExportLimits, ExportRequest, KeyFormat};

fn at(base_offset: i64, compression: Compression) -> BatchOptions {
    BatchOptions {
        base_offset,
        compression,
        ..BatchOptions::default()
    }
}

#[tokio::test]
async fn every_field_of_every_record_comes_back() {
    let world = World::new(2).await;
    let full = |i: i64| NewRecord {
        timestamp: 1_000 + i,
        key: Some(Bytes::from(format!("key {i}"))),
        value: Some(Bytes::from(format!("value {i}"))),
        headers: vec![
            RecordHeader::new("a", Some(Bytes::from_static(b"\xff"))),
            RecordHeader::new("b", None),
        ],
    };
    let bare = NewRecord {
        timestamp: -1,
        ..NewRecord::default()
    };
    let mut batches = Vec::new();
    let codecs = [
        Compression::None,
        Compression::Gzip,
        Compression::Snappy,
        Compression::Lz4,
        Compression::Zstd,
    ];
    for (i, codec) in (0..).zip(codecs) {
        batches.push(batch(at(i * 3, codec), [full(i), bare.clone(), full(i)]));
    }
    world.tier(0, &batches[..2], 6, &[]).await;
    world.tier(0, &batches[2..], 15, &[]).await;
    world.tier_numbers(1, 25).await;
    let summary = world.export(&world.request()).await.expect("exports");
    assert_eq!((summary.records, summary.rejects), (40, 0));
    assert_eq!(summary.partitions.len(), 2);
    assert_eq!(
        (summary.partitions[0].end, summary.partitions[1].end),
        (15, 25)
    );
    let rows = world.table().rows();
    assert_eq!(rows.len(), 40);
    let row = &rows[3];
    for (column, value) in [
        ("topic", Some(TOPIC)),
        ("partition", Some("0")),
        ("offset", Some("3")),
        ("timestamp", Some("1001")),
        ("key", Some("b\"key 1\"")),
        ("value", Some("b\"value 1\"")),
        ("headers", Some("a=b\"\\xff\",b=null")),
    ] {
        assert_eq!(row.get(column), value, "{column}");
    }
    let bare = &rows[4];
    assert_eq!(
        bare.0.len(),
        4,
        "topic, partition, offset, headers: {bare:?}"
    );
    assert_eq!(rows[39].get("value"), Some("b\"{\\\"n\\\":24}\""));
    assert!(world.table().is_clean());
}

#[tokio::test]
async fn a_second_run_adds_only_what_is_new() {
    let world = World::new(1).await;
    world.tier_numbers(0, 30).await;
    let first = world.export(&world.request()).await.expect("exports");
    let entries = world.table().entries();
    let again = world
        .export(&world.request())
        .await
        .expect("has nothing to do");
    assert_eq!((first.records, again.records, again.commits), (30, 0, 0));
    assert_eq!(world.table().entries(), entries, "not even a claim");
    world.tier_numbers(0, 12).await;
    let more = world.export(&world.request()).await.expect("exports");
    assert_eq!(more.records, 12);
    assert_eq!((more.partitions[0].start, more.partitions[0].end), (30, 42));
    let expected: Vec<_> = (0..42).map(|offset| (0, offset)).collect();
    assert_eq!(world.table().places(), expected);
}

#[tokio::test]
async fn files_chunks_and_commits_are_bounded() {
    let world = World::new(1).await;
    for _ in 0..3 {
        let values: Vec<_> = (0..400_u64)
            .map(|i| format!("{:016x}", i.wrapping_mul(0x9e37_79b9_7f4a_7c15)).repeat(20))
            .collect();
        let values: Vec<_> = values.iter().map(|value| Some(value.as_str())).collect();
        world.tier_values(0, &values).await;
    }
    let request = ExportRequest {
        limits: ExportLimits {
            chunk_bytes: 1,
            gather_rows_max: 25,
            row_group_rows_max: 50,
            file_bytes_max: 2_000,
            commit_log_bytes: 100_000,
            ..ExportLimits::default()
        },
        ..world.request()
    };
    let summary = world.export(&request).await.expect("exports");
    assert_eq!(summary.records, 1_200);
    assert!(summary.commits >= 4, "{} commits", summary.commits);
    assert!(summary.files.len() >= 10, "{} files", summary.files.len());
    assert!(summary.files.iter().all(|file| file.bytes < 10_000));
    let expected: Vec<_> = (0..1_200).map(|offset| (0, offset)).collect();
    assert_eq!(world.table().places(), expected);
    // The ranges of the commits follow each other.
    let mut end = 0;
    for range in world
        .table()
        .entries()
        .iter()
        .flat_map(|entry| entry.ranges.clone())
    {
        assert_eq!(range.start, end);
        end = range.end;
    }
    assert_eq!(end, 1_200);
}

#[tokio::test]
async fn markers_and_aborted_records_are_left_out() {
    let world = World::new(1).await;
    let transactional = |base_offset, producer_id| BatchOptions {
        base_offset,
        producer_id,
        producer_epoch: 0,
        base_sequence: 0,
        is_transactional: true,
        ..BatchOptions::default()
    };
    let two = || [record("k", Some("a")), record("k", Some("b"))];
    let marker = |control_type, offset, producer_id| {
        let marker = EndTxnMarker {
            control_type,
            coordinator_epoch: 0,
        };
        marker.to_batch(producer_id, 0, offset, 0, 1_000)
    };
    let batches = [
        batch(transactional(0, 1), two()),
        batch(transactional(2, 2), two()),
        batch(at(4, Compression::None), two()),
        marker(ControlRecordType::Abort, 6, 1),
        marker(ControlRecordType::Commit, 7, 2),
        batch(transactional(8, 1), two()),
        marker(ControlRecordType::Commit, 10, 1),
    ];
    let aborted = AbortedTxn {
        producer_id: 1,
        first_offset: 0,
        last_offset: 6,
        last_stable_offset: 7,
    };
    world.tier(0, &batches, 11, &[aborted]).await;
    let summary = world.export(&world.request()).await.expect("exports");
    assert_eq!((summary.records, summary.aborted), (6, 2));
    let offsets: Vec<_> = world
        .table()
        .places()
        .iter()
        .map(|(_, offset)| *offset)
        .collect();
    assert_eq!(offsets, [2, 3, 4, 5, 8, 9]);
    assert_eq!(
        summary.partitions[0].end, 11,
        "the marker at the end counts as exported"
    );
    assert_eq!(
        world.export(&world.request()).await.expect("idle").commits,
        0
    );
}

#[tokio::test]
async fn gaps_and_retention_are_told_and_stepped_over() {
    let world = World::new(1).await;
    world.tier_numbers(0, 20).await;
    world.export(&world.request()).await.expect("exports");
    let gap = Edit::RecordGap {
        end: 25,
        cause: GapCause::TieringOff,
    };
    world.edit(0, gap).await;
    world.tier_numbers(0, 10).await;
    world.tier_numbers(0, 10).await;
    // Retention takes offsets that were never exported.
    world.edit(0, Edit::AdvanceLogStart { offset: 32 }).await;
    let summary = world.export(&world.request()).await.expect("exports");
    let gaps: Vec<_> = summary
        .gaps
        .iter()
        .map(|gap| (gap.start, gap.end, gap.cause.as_str()))
        .collect();
    assert_eq!(gaps, [(20, 25, "tiering was off"), (25, 32, "expired")]);
    assert_eq!(summary.records, 13);
    let last = world.table().entries().pop().expect("commits");
    assert_eq!(last.progress[0].end, 45);
    assert_eq!(last.gaps.len(), 2);
    let fresh = ExportRequest {
        table: Some("fresh".to_owned()),
        ..world.request()
    };
    let summary = world.export(&fresh).await.expect("exports");
    assert_eq!(
        (summary.records, summary.gaps.len()),
        (13, 0),
        "a new table begins at the log start"
    );
}

#[tokio::test]
async fn a_batch_that_cannot_be_read_is_a_reject_and_the_rest_goes_on() {
    let world = World::new(1).await;
    let mut torn = batch(
        at(2, Compression::Zstd),
        [record("k", Some("x")), record("k", Some("y"))],
    )
    .to_vec();
    // No zstd frame begins like this. The CRC is right: so it came from the producer.
    torn[61..65].fill(0xff);
    let crc = crc32c::crc32c(&torn[21..]);
    torn[17..21].copy_from_slice(&crc.to_be_bytes());
    let batches = [
        batch(
            at(0, Compression::None),
            [record("k", Some("a")), record("k", Some("b"))],
        ),
        Bytes::from(torn),
        batch(at(4, Compression::None), [record("k", Some("c"))]),
    ];
    world.tier(0, &batches, 5, &[]).await;
    let summary = world.export(&world.request()).await.expect("exports");
    assert_eq!((summary.records, summary.rejects), (3, 1));
    let rejects = world.table().rejects();
    assert_eq!((rejects[0].0, rejects[0].1), (0, 2));
    assert!(rejects[0].2.contains("cannot be read"), "{}", rejects[0].2);
    let inflated = ExportRequest {
        table: Some("small".to_owned()),
        limits: ExportLimits {
            decode_bytes_max: 1,
            ..ExportLimits::default()
        },
        ..world.request()
    };
    let summary = world.export(&inflated).await.expect("exports");
    assert_eq!(
        summary.rejects, 1,
        "only what must be inflated has the limit"
    );
}

#[tokio::test]
async fn damage_in_the_store_stops_the_run_and_keeps_what_was_committed() {
    let world = World::new(1).await;
    world.tier_numbers(0, 20).await;
    world.export(&world.request()).await.expect("exports");
    let bytes = batch(at(20, Compression::None), [record("k", Some("a"))]);
    let object = world.tier(0, &[bytes], 21, &[]).await;
    let sound = std::fs::read(&object).expect("reads");
    let mut damaged = sound.clone();
    damaged[70] ^= 1;
    std::fs::write(&object, damaged).expect("writes");
    let error = world
        .export(&world.request())
        .await
        .expect_err("is damaged");
    assert!(
        matches!(
            error,
            ExportError::Source(SourceError::Segment { offset: 20, .. })
        ),
        "{error}"
    );
    assert!(world.table().is_clean());
    std::fs::write(&object, sound).expect("writes");
    assert_eq!(
        world
            .export(&world.request())
            .await
            .expect("exports")
            .records,
        1
    );
    assert_eq!(world.table().places().len(), 21);
}

#[tokio::test]
async fn what_does_not_go_together_is_refused_with_a_reason() {
    let mut world = World::new(1).await;
    let unknown = ExportRequest {
        topic: "other".to_owned(),
        ..world.request()
    };
    let error = world
        .export(&unknown)
        .await
        .expect_err("unknown")
        .to_string();
    assert!(error.contains("other") && error.contains(TOPIC), "{error}");
    for table in ["", "..", "a/b", ".hidden"] {
        let request = ExportRequest {
            table: Some(table.to_owned()),
            ..world.request()
        };
        assert!(
            matches!(
                world.export(&request).await,
                Err(ExportError::InvalidTable { .. })
            ),
            "{table}"
        );
    }
    world.tier_numbers(0, 5).await;
    world.export(&world.request()).await.expect("exports");
    let error = world.export(&world.json()).await.expect_err("is raw");
    assert!(
        matches!(error, ExportError::Plan(PlanError::OtherFormat { .. })),
        "{error}"
    );
    // Deleted, then created again under the same name.
    world.mark(world.topic_id, 1, Some(9)).await;
    let error = world
        .export(&world.request())
        .await
        .expect_err("is deleted");
    assert!(
        matches!(error, ExportError::Source(SourceError::Deleted { .. })),
        "{error}"
    );
    world.topic_id = TopicId::from_u128(43);
    world.mark(world.topic_id, 1, None).await;
    world.tier_numbers(0, 3).await;
    let error = world
        .export(&world.request())
        .await
        .expect_err("is another topic");
    assert!(
        matches!(error, ExportError::Plan(PlanError::OtherTopicId { .. })),
        "{error}"
    );
    let beside = ExportRequest {
        table: Some("flights-again".to_owned()),
        ..world.request()
    };
    assert_eq!(world.export(&beside).await.expect("exports").records, 3);
}

#[tokio::test]
async fn string_keys_must_be_text() {
    let world = World::new(1).await;
    let binary = NewRecord {
        key: Some(Bytes::from_static(b"\xff")),
        ..NewRecord::default()
    };
    let batches = [batch(
        at(0, Compression::None),
        [record("text", None), binary],
    )];
    world.tier(0, &batches, 2, &[]).await;
    let request = ExportRequest {
        key_format: Some(KeyFormat::String),
        ..world.request()
    };
    world.export(&request).await.expect("exports");
    assert_eq!(world.table().rows()[0].get("key"), Some("text"));
    assert!(world.table().rejects()[0].2.contains("UTF-8"));
}

#[tokio::test]
async fn files_say_where_they_are_from_and_can_be_skipped_by_offset() {
    use parquet::file::reader::{FileReader, SerializedFileReader};
    let world = World::new(1).await;
    world.tier_numbers(0, 300).await;
    let request = ExportRequest {
        limits: ExportLimits {
            gather_rows_max: 100,
            row_group_rows_max: 100,
            ..ExportLimits::default()
        },
        ..world.request()
    };
    world.export(&request).await.expect("exports");
    let table = world.table();
    let entries = table.entries();
    let file = entries[1]
        .files
        .iter()
        .find(|file| file.kind == FileKind::Data)
        .expect("data");
    assert!(
        file.path
            .starts_with("data/partition=0/part-00000000000000000000-00000000000000000300-")
    );
    let path = table.0.join(&file.path);
    assert_eq!(read_rows(&path).len(), 300);
    assert_eq!(
        std::fs::metadata(&path).expect("is there").len(),
        file.bytes
    );
    let reader =
        SerializedFileReader::new(std::fs::File::open(path).expect("opens")).expect("is Parquet");
    let metadata = reader.metadata();
    assert_eq!(metadata.num_row_groups(), 3);
    let offsets = metadata
        .row_group(1)
        .column(2)
        .statistics()
        .expect("has statistics");
    assert_eq!(
        offsets.min_bytes_opt().expect("known"),
        100_i64.to_le_bytes()
    );
    assert_eq!(
        offsets.max_bytes_opt().expect("known"),
        199_i64.to_le_bytes()
    );
    let provenance = metadata
        .file_metadata()
        .key_value_metadata()
        .expect("is there");
    let value = |key: &str| {
        provenance
            .iter()
            .find(|kv| kv.key == key)
            .and_then(|kv| kv.value.clone())
    };
    assert_eq!(value("strandline.topic").as_deref(), Some(TOPIC));
    assert_eq!(value("strandline.offsets").as_deref(), Some("0-300"));
}
