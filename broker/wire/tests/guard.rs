//! The guard against the codecs: what they write it accepts, what it accepts they read, and nothing that it accepts
//! makes them allocate more than it said.

mod allocations;
mod bodies;

use allocations::allocated_by;
use bodies::{Random, put_varint, random_body};
use bytes::Bytes;
use kafka_protocol::protocol::Encodable;
use proptest::prelude::*;
use strandline_wire::{Api, Request, RequestFrame, RequestHeader, WireError, decode_request};

fn frame(api: Api, version: i16, body: &[u8]) -> RequestFrame {
    let header = RequestHeader {
        api,
        api_version: version,
        correlation_id: 0,
        client_id: None,
    };
    RequestFrame {
        header,
        body: Bytes::copy_from_slice(body),
    }
}

/// Checks and decodes a body that may be anything, and holds the guard to its word.
fn survive(api: Api, version: i16, body: &[u8]) -> Result<Request, WireError> {
    let frame = frame(api, version, body);
    let (checked, walked) = allocated_by(|| frame.check(usize::MAX));
    assert_eq!(walked, 0, "the walk allocates");
    let checked = checked?;
    let estimate = checked.memory_estimate();
    let (request, allocated) = allocated_by(|| checked.decode());
    assert!(
        allocated <= estimate,
        "{api} {version}: {allocated} bytes allocated, {estimate} estimated: {body:?}"
    );
    Ok(request.unwrap_or_else(|error| panic!("the guard let {error} pass: {body:?}")))
}

/// Every API in every version that is served.
fn served() -> impl Iterator<Item = (Api, i16)> {
    Api::ALL
        .iter()
        .flat_map(|api| api.served().iter().map(|version| (*api, version)))
}

fn any_served() -> impl Strategy<Value = (Api, i16)> {
    prop::sample::select(served().collect::<Vec<_>>())
}

macro_rules! encode_defaults {
    ($version:expr, $wanted:expr, $($api:ident($request:ident)),*) => {
        match $wanted {
            $( Api::$api => {
                let mut body = Vec::new();
                let request = strandline_wire::messages::$request::default();
                request.encode(&mut body, $version).map(|()| (body, Request::from(request)))
            } )*
        }
    };
}

#[test]
fn default_requests_of_the_codecs_pass() {
    for (api, version) in served() {
        // ListOffsets 11 has the fields of 10.
        let codec_version = if api == Api::ListOffsets {
            version.min(10)
        } else {
            version
        };
        let encoded = encode_defaults!(
            codec_version,
            api,
            Produce(ProduceRequest),
            Fetch(FetchRequest),
            ListOffsets(ListOffsetsRequest),
            Metadata(MetadataRequest),
            OffsetCommit(OffsetCommitRequest),
            OffsetFetch(OffsetFetchRequest),
            FindCoordinator(FindCoordinatorRequest),
            JoinGroup(JoinGroupRequest),
            Heartbeat(HeartbeatRequest),
            LeaveGroup(LeaveGroupRequest),
            SyncGroup(SyncGroupRequest),
            DescribeGroups(DescribeGroupsRequest),
            ListGroups(ListGroupsRequest),
            ApiVersions(ApiVersionsRequest),
            CreateTopics(CreateTopicsRequest),
            DeleteTopics(DeleteTopicsRequest),
            DeleteRecords(DeleteRecordsRequest),
            InitProducerId(InitProducerIdRequest),
            OffsetForLeaderEpoch(OffsetForLeaderEpochRequest),
            DescribeConfigs(DescribeConfigsRequest),
            AlterConfigs(AlterConfigsRequest),
            DescribeLogDirs(DescribeLogDirsRequest),
            CreatePartitions(CreatePartitionsRequest),
            DeleteGroups(DeleteGroupsRequest),
            IncrementalAlterConfigs(IncrementalAlterConfigsRequest),
            OffsetDelete(OffsetDeleteRequest),
            DescribeCluster(DescribeClusterRequest),
            DescribeProducers(DescribeProducersRequest),
            DescribeTopicPartitions(DescribeTopicPartitionsRequest)
        );
        // Some defaults do not exist in every version (a null that old versions lack): those are not bodies.
        if let Ok((body, request)) = encoded {
            let decoded = survive(api, version, &body).unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(decoded.api(), request.api());
        }
    }
}

#[test]
fn every_version_reads_what_the_tables_write() {
    for (api, version) in served() {
        for seed in 0..40 {
            let body = random_body(&mut Random(seed), api, version, seed % 2 == 1);
            if let Err(error) = survive(api, version, &body) {
                panic!("{api} version {version} seed {seed}: {error}\n{body:?}");
            }
        }
    }
}

/// Twelve bytes used to abort the process: every place of every short body, overwritten by the largest counts.
#[test]
fn counts_that_lie_are_refused_at_every_place() {
    for (api, version) in served() {
        let body = random_body(&mut Random(7), api, version, true);
        let mut compact = Vec::new();
        put_varint(&mut compact, u32::MAX);
        for place in 0..body.len().min(200) {
            for count in [
                &i32::MAX.to_be_bytes()[..],
                &[0x00, 0xff, 0xff, 0xff],
                &[0x7f, 0xff],
                &compact,
            ] {
                let mut lying = body.clone();
                lying.truncate(place);
                lying.extend(count);
                lying.extend(body.get(place + count.len()..).unwrap_or_default());
                let _ = survive(api, version, &lying);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn mutated_bodies_do_no_harm(
        (api, version) in any_served(),
        seed: u64,
        cut in prop::option::weighted(0.2, 0usize..400),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
    ) {
        let mut body = random_body(&mut Random(seed), api, version, seed.is_multiple_of(2));
        for (place, byte) in changes {
            if !body.is_empty() {
                let place = place.index(body.len());
                body[place] = byte;
            }
        }
        if let Some(cut) = cut {
            body.truncate(cut);
        }
        let _ = survive(api, version, &body);
    }

    #[test]
    fn noise_does_no_harm((api, version) in any_served(), body in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = survive(api, version, &body);
    }

    #[test]
    fn whole_frames_of_noise_do_no_harm(frame in prop::collection::vec(any::<u8>(), 0..64), key in 0i16..80) {
        let mut bytes = key.to_be_bytes().to_vec();
        bytes.extend(frame);
        if let Ok(frame) = RequestFrame::parse(Bytes::from(bytes)) {
            let _ = survive(frame.header.api, frame.header.api_version, &frame.body.clone());
        }
    }

    #[test]
    fn a_budget_is_kept((api, version) in any_served(), seed: u64) {
        let body = random_body(&mut Random(seed), api, version, true);
        let estimate = frame(api, version, &body).check(usize::MAX).expect("the body is whole").memory_estimate();
        prop_assert!(frame(api, version, &body).check(estimate).is_ok());
        let within = decode_request(api, version, Bytes::from(body), estimate.saturating_sub(1));
        // The part that every request has is not refused: a budget below it makes no sense.
        prop_assert!(estimate == 256 || matches!(within, Err(WireError::Guard(_))));
    }
}
