//! Leaders that come and go: restarts, replicas that rolled elsewhere, transactions.

use strandline_log::record::control::{ControlRecordType, EndTxnMarker};

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crashed_broker_goes_on_where_its_manifest_ends() {
    let world = World::new();
    let log = world.log(&[]);
    fill(&log, 60, 300);
    let first_end = log.active_segment_base_offset();
    let mut expected = BytesMut::from(&local_bytes(&log, 0, first_end)[..]);
    let tier = world.started();
    let partition = tier.lead(leader(&log, 1));
    wait_until_tiered(&partition).await;
    tier.shutdown().await;
    drop((tier, partition, log));

    let log = world.log(&[]);
    assert_eq!(log.local_log_start_offset(), first_end);
    log.set_high_watermark(log.log_end_offset());
    fill(&log, 60, 300);
    let end = log.active_segment_base_offset();
    expected.extend_from_slice(&local_bytes(&log, first_end, end));
    let tier = world.started();
    let partition = tier.lead(leader(&log, 2));
    wait_until_tiered(&partition).await;
    assert_eq!(log.log_start_offset(), 0);
    let read = remote_bytes(&partition, 0, end, 1 << 20).await;
    assert_eq!(read.expect("readable"), expected.freeze());
    world.manifest().await.expect("there").check().expect("I5");
    tier.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_rolled_elsewhere_begins_in_mid_segment() {
    let world = World::new();
    let first = world.log_of("first", &[]);
    let second = world.log_of("second", &[("internal.segment.bytes", "41000")]);
    fill(&first, 47, 300);
    fill(&second, 150, 300);
    let expected = local_bytes(&second, 0, second.active_segment_base_offset());
    let tier = world.started();
    let partition = tier.lead(leader(&first, 1));
    wait_until_tiered(&partition).await;
    let handed_over = partition.uploaded_end().expect("uploaded");
    let partition = tier.lead(leader(&second, 2));
    wait_until_tiered(&partition).await;

    let manifest = world.manifest().await.expect("there");
    manifest.check().expect("I5");
    let next = manifest
        .entries
        .iter()
        .find(|entry| entry.start == handed_over);
    assert_eq!(next.expect("begins there").fence, Fence::new(1, 2));
    let end = second.active_segment_base_offset();
    let read = remote_bytes(&partition, 0, end, 20_000).await;
    assert_eq!(read.expect("readable"), expected);
    tier.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn aborted_transactions_come_with_the_history_that_they_touch() {
    let world = World::new();
    let log = world.log(&[]);
    fill(&log, 30, 300);
    let first_offset = log.log_end_offset();
    let mut builder = BatchBuilder::new(BatchOptions {
        producer_id: 7,
        producer_epoch: 0,
        base_sequence: 0,
        is_transactional: true,
        base_offset: first_offset,
        ..BatchOptions::default()
    });
    builder
        .append(NewRecord {
            timestamp: 5_000,
            key: None,
            value: Some(Bytes::from_static(b"never committed")),
            headers: Vec::new(),
        })
        .expect("fits");
    append(&log, Batch::parse(builder.build()).expect("valid"));
    // The marker lies in a later segment than the record.
    fill(&log, 30, 300);
    let last_offset = log.log_end_offset();
    let marker = EndTxnMarker {
        control_type: ControlRecordType::Abort,
        coordinator_epoch: 0,
    };
    let marker = marker.to_batch(7, 0, last_offset, 1, 6_000);
    // Coordinators do not write markers yet, so it is put where they will; recovery reads it as theirs.
    let active = log
        .dir()
        .join(format!("{:020}.log", log.active_segment_base_offset()));
    drop(log);
    let mut bytes = std::fs::read(&active).expect("reads");
    bytes.extend_from_slice(&marker);
    std::fs::write(&active, bytes).expect("writes");

    let log = world.log(&[]);
    log.set_high_watermark(log.log_end_offset());
    assert_eq!(log.last_stable_offset(), last_offset + 1);
    fill(&log, 60, 300);
    let tier = world.started();
    let partition = tier.lead(leader(&log, 1));
    wait_until_tiered(&partition).await;
    for (offset, touched) in [
        (0, false),
        (first_offset, true),
        (first_offset + 30, true),
        (last_offset, true),
        (last_offset + 30, false),
    ] {
        let read = partition.read(offset, 1).await.expect("readable");
        let found: Vec<_> = read
            .aborted
            .iter()
            .map(|txn| (txn.producer_id, txn.first_offset, txn.last_offset))
            .collect();
        let expected = [(7, first_offset, last_offset)];
        assert_eq!(found, &expected[..usize::from(touched)], "offset {offset}");
    }
    tier.shutdown().await;
}
