//! Our encoders against the codecs' decoders, in every version.

use bytes::{Buf, Bytes};
use kafka_protocol::messages::fetch_response::{
    AbortedTransaction, EpochEndOffset, LeaderIdAndEpoch, NodeEndpoint, SnapshotId,
};
use kafka_protocol::messages::{
    ApiVersionsResponse, BrokerId, FetchResponse, ListOffsetsResponse, MetadataRequest,
    MetadataResponse, ProducerId, TopicName,
};
use proptest::prelude::*;
use strandline_wire::{
    Api, FetchPartitionPart, FetchResponseParts, FetchTopicPart, Request, RequestFrame, StrBytes,
    api_versions_response, decode_response, encode_fetch_response, encode_request, encode_response,
    unsupported_api_versions_response,
};

/// Takes the length off and checks it.
fn unframe(mut frame: Bytes) -> Bytes {
    let length = frame.get_i32();
    assert_eq!(length as usize, frame.len());
    frame
}

fn text(max: usize) -> impl Strategy<Value = StrBytes> {
    prop::collection::vec(prop::char::range('a', 'z'), 0..max)
        .prop_map(|letters| StrBytes::from_string(letters.into_iter().collect()))
}

fn partition_part() -> impl Strategy<Value = FetchPartitionPart> {
    let aborted =
        prop::collection::vec((any::<i64>(), any::<i64>()), 0..4).prop_map(|transactions| {
            let transactions = transactions.into_iter().map(|(producer_id, first_offset)| {
                AbortedTransaction::default()
                    .with_producer_id(ProducerId(producer_id))
                    .with_first_offset(first_offset)
            });
            transactions.collect::<Vec<_>>()
        });
    let offsets = (any::<i64>(), any::<i64>(), any::<i64>());
    let tags = (
        prop::option::of((0i32.., any::<i64>())),
        prop::option::of((0i32.., 0i32..)),
        any::<bool>(),
    );
    let records_len = prop_oneof![Just(0usize), 1..300usize, Just(20_000)];
    (
        any::<i32>(),
        any::<i16>(),
        offsets,
        prop::option::of(aborted),
        any::<i32>(),
        tags,
        records_len,
    )
        .prop_map(
            |(
                partition_index,
                error_code,
                offsets,
                aborted_transactions,
                replica,
                tags,
                records_len,
            )| {
                let epoch = |(epoch, end)| {
                    EpochEndOffset::default()
                        .with_epoch(epoch)
                        .with_end_offset(end)
                };
                let leader = |(id, epoch)| {
                    LeaderIdAndEpoch::default()
                        .with_leader_id(BrokerId(id))
                        .with_leader_epoch(epoch)
                };
                FetchPartitionPart {
                    partition_index,
                    error_code,
                    high_watermark: offsets.0,
                    last_stable_offset: offsets.1,
                    log_start_offset: offsets.2,
                    diverging_epoch: tags.0.map(epoch),
                    current_leader: tags.1.map(leader),
                    snapshot_id: tags
                        .2
                        .then(|| SnapshotId::default().with_epoch(3).with_end_offset(9)),
                    aborted_transactions,
                    preferred_read_replica: replica,
                    records_len,
                }
            },
        )
}

fn parts() -> impl Strategy<Value = FetchResponseParts> {
    let topic = (
        text(200),
        any::<u128>(),
        prop::collection::vec(partition_part(), 0..5),
    )
        .prop_map(|(topic, id, partitions)| FetchTopicPart {
            topic: TopicName(topic),
            topic_id: uuid::Uuid::from_u128(id),
            partitions,
        });
    let node = (
        any::<i32>(),
        text(30),
        any::<i32>(),
        prop::option::of(text(5)),
    )
        .prop_map(|(id, host, port, rack)| {
            NodeEndpoint::default()
                .with_node_id(BrokerId(id))
                .with_host(host)
                .with_port(port)
                .with_rack(rack)
        });
    let header = (any::<i32>(), any::<i16>(), any::<i32>());
    (
        header,
        prop::collection::vec(topic, 0..4),
        prop::collection::vec(node, 0..3),
    )
        .prop_map(
            |((throttle_time_ms, error_code, session_id), topics, node_endpoints)| {
                FetchResponseParts {
                    throttle_time_ms,
                    error_code,
                    session_id,
                    topics,
                    node_endpoints,
                }
            },
        )
}

/// What the server sends: chunks with the records between them.
fn join(parts: &FetchResponseParts, chunks: &[Bytes]) -> Bytes {
    let partitions: Vec<_> = parts
        .topics
        .iter()
        .flat_map(|topic| &topic.partitions)
        .collect();
    assert_eq!(chunks.len(), partitions.len() + 1);
    let mut joined = Vec::new();
    for (index, chunk) in chunks.iter().enumerate() {
        joined.extend_from_slice(chunk);
        if let Some(partition) = partitions.get(index) {
            joined.extend(std::iter::repeat_n(index as u8, partition.records_len));
        }
    }
    Bytes::from(joined)
}

fn compare(version: i16, parts: &FetchResponseParts, response: &FetchResponse) {
    let since = |first: i16| version >= first;
    assert_eq!(response.throttle_time_ms, parts.throttle_time_ms);
    assert_eq!(
        response.error_code,
        if since(7) { parts.error_code } else { 0 }
    );
    assert_eq!(
        response.session_id,
        if since(7) { parts.session_id } else { 0 }
    );
    assert_eq!(
        response.node_endpoints,
        if since(16) {
            parts.node_endpoints.clone()
        } else {
            Vec::new()
        }
    );
    assert_eq!(response.responses.len(), parts.topics.len());
    let mut index = 0;
    for (topic, expected) in response.responses.iter().zip(&parts.topics) {
        if since(13) {
            assert_eq!(topic.topic_id, expected.topic_id);
        } else {
            assert_eq!(topic.topic, expected.topic);
        }
        assert_eq!(topic.partitions.len(), expected.partitions.len());
        for (partition, expected) in topic.partitions.iter().zip(&expected.partitions) {
            assert_eq!(partition.partition_index, expected.partition_index);
            assert_eq!(partition.error_code, expected.error_code);
            assert_eq!(partition.high_watermark, expected.high_watermark);
            assert_eq!(partition.last_stable_offset, expected.last_stable_offset);
            assert_eq!(
                partition.log_start_offset,
                if since(5) {
                    expected.log_start_offset
                } else {
                    -1
                }
            );
            assert_eq!(
                partition.aborted_transactions,
                expected.aborted_transactions
            );
            let replica = if since(11) {
                expected.preferred_read_replica
            } else {
                -1
            };
            assert_eq!(partition.preferred_read_replica, BrokerId(replica));
            if since(12) {
                assert_eq!(
                    partition.diverging_epoch,
                    expected.diverging_epoch.clone().unwrap_or_default()
                );
                assert_eq!(
                    partition.current_leader,
                    expected.current_leader.clone().unwrap_or_default()
                );
                assert_eq!(
                    partition.snapshot_id,
                    expected.snapshot_id.clone().unwrap_or_default()
                );
            }
            let records = partition.records.as_ref().expect("records are never null");
            assert_eq!(records.len(), expected.records_len);
            assert!(records.iter().all(|byte| *byte == index as u8));
            index += 1;
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn fetch_responses_are_read_by_the_codec_in_every_version(parts in parts(), correlation_id: i32) {
        for version in Api::Fetch.served().iter() {
            let encoded = encode_fetch_response(version, correlation_id, &parts).expect("encodes");
            let joined = join(&parts, &encoded.chunks);
            prop_assert_eq!(joined.len(), encoded.total_bytes);
            let (answered, response) =
                decode_response::<FetchResponse>(Api::Fetch, version, unframe(joined)).expect("decodes");
            prop_assert_eq!(answered, correlation_id);
            compare(version, &parts, &response);
        }
    }
}

#[test]
fn a_fetch_version_that_is_not_served_is_refused() {
    assert!(encode_fetch_response(3, 0, &FetchResponseParts::default()).is_err());
    assert!(encode_fetch_response(19, 0, &FetchResponseParts::default()).is_err());
}

#[test]
fn api_versions_answers_list_every_api_in_every_version() {
    for version in Api::ApiVersions.served().iter() {
        let frame =
            encode_response(5, Api::ApiVersions, version, &api_versions_response()).unwrap();
        let (correlation_id, response) =
            decode_response::<ApiVersionsResponse>(Api::ApiVersions, version, unframe(frame))
                .unwrap();
        assert_eq!(correlation_id, 5);
        let listed: Vec<_> = response
            .api_keys
            .iter()
            .map(|api| (api.api_key, api.min_version, api.max_version))
            .collect();
        let table: Vec<_> = Api::ALL
            .iter()
            .map(|api| (api.key(), api.advertised().min, api.advertised().max))
            .collect();
        assert_eq!(listed, table);
    }
}

/// Kafka's answer to a version of ApiVersions that it does not know, byte for byte.
#[test]
fn an_unknown_version_of_api_versions_is_answered_in_version_0() {
    let frame =
        encode_response(7, Api::ApiVersions, 0, &unsupported_api_versions_response()).unwrap();
    assert_eq!(
        frame[..],
        [
            0, 0, 0, 16, 0, 0, 0, 7, 0, 35, 0, 0, 0, 1, 0, 18, 0, 0, 0, 4
        ],
        "length, correlation id, UNSUPPORTED_VERSION, one API: ApiVersions 0 to 4"
    );
}

#[test]
fn response_headers_follow_the_version() {
    let plain = encode_response(1, Api::Metadata, 8, &MetadataResponse::default()).unwrap();
    let flexible = encode_response(1, Api::Metadata, 9, &MetadataResponse::default()).unwrap();
    assert_eq!(plain[4..8], [0, 0, 0, 1]);
    assert_eq!(
        flexible[4..9],
        [0, 0, 0, 1, 0],
        "an empty section of tagged fields"
    );
    for version in Api::ListOffsets.served().iter() {
        let frame = encode_response(
            1,
            Api::ListOffsets,
            version,
            &ListOffsetsResponse::default(),
        )
        .unwrap();
        let decoded =
            decode_response::<ListOffsetsResponse>(Api::ListOffsets, version, unframe(frame));
        assert_eq!(
            decoded.unwrap(),
            (1, ListOffsetsResponse::default()),
            "version {version}"
        );
    }
}

#[test]
fn requests_of_the_client_are_read_by_the_server() {
    let request = MetadataRequest::default().with_topics(None);
    for version in 1..=Api::Metadata.served().max {
        let request = request.clone().with_allow_auto_topic_creation(true);
        let frame = encode_request(3, Some("me"), version, &request).unwrap();
        let frame = RequestFrame::parse(unframe(frame)).unwrap();
        assert_eq!(frame.header.client_id.as_deref(), Some("me"));
        assert_eq!(
            (frame.header.api, frame.header.correlation_id),
            (Api::Metadata, 3)
        );
        let decoded = frame.check(1 << 20).unwrap().decode().unwrap();
        assert_eq!(decoded, Request::Metadata(request), "version {version}");
    }
}
