//! Which versions a broker speaks.

use std::collections::BTreeMap;

use bytes::Buf;
use kafka_protocol::messages::{ApiVersionsRequest, ApiVersionsResponse};
use kafka_protocol::protocol::{Decodable, StrBytes};
use strandline_wire::{Api, KafkaError};

use super::{Connection, decode_answer};
use crate::ConnectionError;

/// Versions by API key, both ends included.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct ApiVersionTable {
    versions: BTreeMap<i16, (i16, i16)>,
}

impl ApiVersionTable {
    pub fn get(&self, api_key: i16) -> Option<(i16, i16)> {
        self.versions.get(&api_key).copied()
    }

    pub fn iter(&self) -> impl Iterator<Item = (i16, (i16, i16))> + '_ {
        self.versions
            .iter()
            .map(|(key, versions)| (*key, *versions))
    }

    pub(super) fn newest_common(&self, api_key: i16, ours: (i16, i16)) -> Option<i16> {
        let (min, max) = self.get(api_key)?;
        let newest = max.min(ours.1);
        (newest >= min.max(ours.0)).then_some(newest)
    }

    fn of(response: &ApiVersionsResponse) -> Self {
        let versions = response
            .api_keys
            .iter()
            .map(|api| (api.api_key, (api.min_version, api.max_version)));
        Self {
            versions: versions.collect(),
        }
    }
}

/// Asks in our newest version. A broker that does not know it answers in version 0 and says which it knows.
pub(super) async fn negotiate(connection: &Connection) -> Result<ApiVersionTable, ConnectionError> {
    let mut version = Api::ApiVersions.served().max;
    let request = ApiVersionsRequest::default()
        .with_client_software_name(StrBytes::from_static_str("strandline"))
        .with_client_software_version(StrBytes::from_static_str(env!("CARGO_PKG_VERSION")));
    loop {
        // The older versions have no fields, and the codec refuses what it would lose.
        let request = if version >= 3 {
            request.clone()
        } else {
            ApiVersionsRequest::default()
        };
        let frame = connection
            .submit(version, &request)
            .await?
            .wait_bytes()
            .await?;
        let unsupported = KafkaError::UnsupportedVersion.code();
        let is_refused = version > 0 && frame.len() >= 6 && (&frame[4..6]).get_i16() == unsupported;
        if !is_refused {
            let response = decode_answer::<ApiVersionsRequest>(version, frame)?;
            return match response.error_code {
                0 => Ok(ApiVersionTable::of(&response)),
                code => Err(ConnectionError::Connect {
                    address: connection.address().to_owned(),
                    reason: format!("ApiVersions is answered with error code {code}"),
                }),
            };
        }
        let offered = ApiVersionsResponse::decode(&mut frame.slice(4..), 0).ok();
        let offered =
            offered.and_then(|response| ApiVersionTable::of(&response).get(Api::ApiVersions.key()));
        // Each round goes down, so there are few.
        version = offered.map_or(0, |(_, max)| max).clamp(0, version - 1);
    }
}
