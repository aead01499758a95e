//! The answer to ApiVersions, derived from the table of APIs.

use kafka_protocol::messages::ApiVersionsResponse;
use kafka_protocol::messages::api_versions_response::ApiVersion;

use crate::{Api, KafkaError};

/// Every API with its advertised versions.
pub fn api_versions_response() -> ApiVersionsResponse {
    let api_keys = Api::ALL.iter().map(|api| api_version(*api)).collect();
    ApiVersionsResponse::default().with_api_keys(api_keys)
}

/// The answer to a version of ApiVersions that we do not know. It is encoded in version 0, which every client reads,
/// and names only ApiVersions, so that the client asks again with a version that we share.
pub fn unsupported_api_versions_response() -> ApiVersionsResponse {
    ApiVersionsResponse::default()
        .with_error_code(KafkaError::UnsupportedVersion.code())
        .with_api_keys(vec![api_version(Api::ApiVersions)])
}

fn api_version(api: Api) -> ApiVersion {
    let versions = api.advertised();
    ApiVersion::default()
        .with_api_key(api.key())
        .with_min_version(versions.min)
        .with_max_version(versions.max)
}
