//! ApiVersions (18), versions 0-4.
//!
//! Answers from the table of APIs, so that nothing is advertised that is not served. The answer to a version that is
//! not known here (version 0 with UNSUPPORTED_VERSION) is given where the header is read.
//!
//! Gaps: no features are finalized yet; the levels of the group and transaction protocols come with those protocols.

use kafka_protocol::messages::{ApiVersionsRequest, ApiVersionsResponse};

pub fn handle(_request: &ApiVersionsRequest) -> ApiVersionsResponse {
    strandline_wire::api_versions_response()
}
