//! The table of APIs: what ApiVersions advertises, what is decoded, and what the server must handle.
//!
//! One row per API gives its key, its request message, the versions that are advertised and served, and its row in the
//! guard. `Request` has one variant per row, so a server that matches it exhaustively has a handler for each API that
//! is advertised. An API that is not there yet has no row.
//!
//! The maxima are Kafka 4.3's, but for three: OffsetCommit and OffsetFetch end at 9 (10 replaces topic names by ids, and
//! the codecs do not decode it), DescribeLogDirs at 4 (5 adds cordoned folders). The minima are Kafka 4's.

use kafka_protocol::messages::*;
use kafka_protocol::protocol::{Decodable, HeaderVersion};

use crate::guard::Schema;
use crate::guard::schemas::{cluster, configs, groups, offsets, producers, records, topics};

/// Versions of an API, both ends included.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct VersionRange {
    pub min: i16,
    pub max: i16,
}

impl VersionRange {
    pub const fn contains(self, version: i16) -> bool {
        self.min <= version && version <= self.max
    }

    pub fn iter(self) -> impl DoubleEndedIterator<Item = i16> {
        self.min..=self.max
    }
}

impl std::fmt::Display for VersionRange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} to {}", self.min, self.max)
    }
}

macro_rules! apis {
    ($(
        $(#[$doc:meta])*
        $api:ident($request:ident) key $key:literal
        advertised $advertised_min:literal to $advertised_max:literal
        served $served_min:literal to $served_max:literal
        guard $schema:path;
    )*) => {
        /// An API that this broker speaks.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        pub enum Api {
            $( $(#[$doc])* $api, )*
        }

        /// A decoded request. The server matches it exhaustively.
        #[derive(Clone, PartialEq, Debug)]
        pub enum Request {
            $( $api($request), )*
        }

        impl Api {
            /// Every API, in the order of keys.
            pub const ALL: &[Api] = &[$(Api::$api),*];

            pub const fn from_key(key: i16) -> Option<Api> {
                match key {
                    $( $key => Some(Api::$api), )*
                    _ => None,
                }
            }

            pub const fn key(self) -> i16 {
                match self {
                    $( Api::$api => $key, )*
                }
            }

            /// Kafka's name of the API, as in metrics and logs.
            pub const fn name(self) -> &'static str {
                match self {
                    $( Api::$api => stringify!($api), )*
                }
            }

            /// The versions in the answer to ApiVersions.
            pub const fn advertised(self) -> VersionRange {
                match self {
                    $( Api::$api => VersionRange { min: $advertised_min, max: $advertised_max }, )*
                }
            }

            /// The versions that are decoded and answered.
            pub const fn served(self) -> VersionRange {
                match self {
                    $( Api::$api => VersionRange { min: $served_min, max: $served_max }, )*
                }
            }

            /// The version of the request header that comes with this version of the API: 2 has tagged fields.
            pub fn request_header_version(self, version: i16) -> i16 {
                match self {
                    $( Api::$api => <$request as HeaderVersion>::header_version(version), )*
                }
            }

            /// The guard's description of the request.
            pub const fn schema(self) -> &'static Schema {
                match self {
                    $( Api::$api => &$schema, )*
                }
            }
        }

        impl Request {
            pub const fn api(&self) -> Api {
                match self {
                    $( Request::$api(_) => Api::$api, )*
                }
            }

            /// Runs the codec. Only for bodies that the guard has walked: the codec trusts every count.
            pub(crate) fn decode_walked(api: Api, version: i16, body: &mut bytes::Bytes) -> Result<Request, String> {
                let version = api.codec_version(version);
                match api {
                    $( Api::$api => $request::decode(body, version)
                        .map(Request::$api)
                        .map_err(|error| format!("{error:#}")), )*
                }
            }
        }

        $(
            impl From<$request> for Request {
                fn from(request: $request) -> Request {
                    Request::$api(request)
                }
            }

            const _: () = assert!(<$request as kafka_protocol::protocol::Request>::KEY == $key);
        )*
    };
}

apis! {
    /// Advertised from 0 and refused below 3: librdkafka stops compressing otherwise (KAFKA-18659).
    Produce(ProduceRequest) key 0 advertised 0 to 13 served 3 to 13 guard records::PRODUCE;
    Fetch(FetchRequest) key 1 advertised 4 to 18 served 4 to 18 guard records::FETCH;
    ListOffsets(ListOffsetsRequest) key 2 advertised 1 to 11 served 1 to 11 guard records::LIST_OFFSETS;
    Metadata(MetadataRequest) key 3 advertised 0 to 13 served 0 to 13 guard cluster::METADATA;
    OffsetCommit(OffsetCommitRequest) key 8 advertised 2 to 9 served 2 to 9 guard offsets::OFFSET_COMMIT;
    OffsetFetch(OffsetFetchRequest) key 9 advertised 1 to 9 served 1 to 9 guard offsets::OFFSET_FETCH;
    FindCoordinator(FindCoordinatorRequest) key 10 advertised 0 to 6 served 0 to 6 guard groups::FIND_COORDINATOR;
    JoinGroup(JoinGroupRequest) key 11 advertised 0 to 9 served 0 to 9 guard groups::JOIN_GROUP;
    Heartbeat(HeartbeatRequest) key 12 advertised 0 to 4 served 0 to 4 guard groups::HEARTBEAT;
    LeaveGroup(LeaveGroupRequest) key 13 advertised 0 to 5 served 0 to 5 guard groups::LEAVE_GROUP;
    SyncGroup(SyncGroupRequest) key 14 advertised 0 to 5 served 0 to 5 guard groups::SYNC_GROUP;
    DescribeGroups(DescribeGroupsRequest) key 15 advertised 0 to 6 served 0 to 6 guard groups::DESCRIBE_GROUPS;
    ListGroups(ListGroupsRequest) key 16 advertised 0 to 5 served 0 to 5 guard groups::LIST_GROUPS;
    ApiVersions(ApiVersionsRequest) key 18 advertised 0 to 4 served 0 to 4 guard cluster::API_VERSIONS;
    CreateTopics(CreateTopicsRequest) key 19 advertised 2 to 7 served 2 to 7 guard topics::CREATE_TOPICS;
    DeleteTopics(DeleteTopicsRequest) key 20 advertised 1 to 6 served 1 to 6 guard topics::DELETE_TOPICS;
    DeleteRecords(DeleteRecordsRequest) key 21 advertised 0 to 2 served 0 to 2 guard records::DELETE_RECORDS;
    InitProducerId(InitProducerIdRequest) key 22 advertised 0 to 5 served 0 to 5 guard producers::INIT_PRODUCER_ID;
    OffsetForLeaderEpoch(OffsetForLeaderEpochRequest) key 23 advertised 2 to 4 served 2 to 4
        guard records::OFFSET_FOR_LEADER_EPOCH;
    DescribeConfigs(DescribeConfigsRequest) key 32 advertised 1 to 4 served 1 to 4 guard configs::DESCRIBE_CONFIGS;
    AlterConfigs(AlterConfigsRequest) key 33 advertised 0 to 2 served 0 to 2 guard configs::ALTER_CONFIGS;
    DescribeLogDirs(DescribeLogDirsRequest) key 35 advertised 1 to 4 served 1 to 4 guard cluster::DESCRIBE_LOG_DIRS;
    CreatePartitions(CreatePartitionsRequest) key 37 advertised 0 to 3 served 0 to 3 guard topics::CREATE_PARTITIONS;
    DeleteGroups(DeleteGroupsRequest) key 42 advertised 0 to 2 served 0 to 2 guard groups::DELETE_GROUPS;
    IncrementalAlterConfigs(IncrementalAlterConfigsRequest) key 44 advertised 0 to 1 served 0 to 1
        guard configs::INCREMENTAL_ALTER_CONFIGS;
    OffsetDelete(OffsetDeleteRequest) key 47 advertised 0 to 0 served 0 to 0 guard offsets::OFFSET_DELETE;
    DescribeCluster(DescribeClusterRequest) key 60 advertised 0 to 2 served 0 to 2 guard cluster::DESCRIBE_CLUSTER;
    DescribeProducers(DescribeProducersRequest) key 61 advertised 0 to 0 served 0 to 0
        guard producers::DESCRIBE_PRODUCERS;
    DescribeTopicPartitions(DescribeTopicPartitionsRequest) key 75 advertised 0 to 0 served 0 to 0
        guard cluster::DESCRIBE_TOPIC_PARTITIONS;
}

impl Api {
    /// The version that the codecs know this version's bytes by.
    ///
    /// ListOffsets 11 only allows one more timestamp; the codecs stop at 10, which has the same fields.
    pub const fn codec_version(self, version: i16) -> i16 {
        match (self, version) {
            (Api::ListOffsets, 11) => 10,
            _ => version,
        }
    }
}

impl std::fmt::Display for Api {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_go_both_ways_and_are_sorted() {
        for api in Api::ALL {
            assert_eq!(Api::from_key(api.key()), Some(*api));
            assert!(api.advertised().min <= api.served().min);
            assert_eq!(api.advertised().max, api.served().max);
        }
        assert!(
            Api::ALL
                .windows(2)
                .all(|pair| pair[0].key() < pair[1].key())
        );
        assert_eq!(Api::from_key(24), None);
        assert_eq!(Api::from_key(-1), None);
    }

    #[test]
    fn header_versions_follow_the_guards_flexible_versions() {
        for api in Api::ALL {
            for version in api.served().iter() {
                let flexible = version >= api.schema().flexible_since;
                assert_eq!(
                    api.request_header_version(version),
                    if flexible { 2 } else { 1 },
                    "{api} {version}"
                );
            }
        }
    }
}
