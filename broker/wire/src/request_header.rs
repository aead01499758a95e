//! The header of a request.
//!
//! ```text
//! api_key: i16 | api_version: i16 | correlation_id: i32 | client_id: nullable string | tagged fields (version 2)
//! ```
//!
//! Key, version and correlation id stand at fixed places in every version, so that an ApiVersions request of a version
//! that we do not know can still be answered. The length of `client_id` is an i16 in every version.

use bytes::{Buf, Bytes};
use kafka_protocol::protocol::StrBytes;

use crate::Api;
use crate::guard::walk_tags;

/// What a request says about itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RequestHeader {
    pub api: Api,
    pub api_version: i16,
    pub correlation_id: i32,
    pub client_id: Option<StrBytes>,
}

/// Why a header cannot be used. All but `UnsupportedApiVersions` close the connection.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum HeaderError {
    #[error("a request of {len} bytes is too short for its header")]
    Truncated { len: usize },
    #[error("unknown API key {key} (version {version})")]
    UnknownApi { key: i16, version: i16 },
    #[error("{api} version {version} is not served (served: {})", api.served())]
    UnsupportedVersion { api: Api, version: i16 },
    /// To be answered with `unsupported_api_versions_response` in version 0.
    #[error("ApiVersions version {version} is not served")]
    UnsupportedApiVersions { version: i16, correlation_id: i32 },
    #[error("the client id is damaged: {0}")]
    ClientId(&'static str),
    #[error("the header's tagged fields are damaged")]
    TaggedFields,
}

impl RequestHeader {
    /// Takes the header off a frame; what is left is the body.
    pub fn parse(frame: &mut Bytes) -> Result<RequestHeader, HeaderError> {
        let len = frame.len();
        let truncated = HeaderError::Truncated { len };
        if len < 8 {
            return Err(truncated);
        }
        let key = frame.get_i16();
        let version = frame.get_i16();
        let correlation_id = frame.get_i32();
        let api = Api::from_key(key).ok_or(HeaderError::UnknownApi { key, version })?;
        if !api.served().contains(version) {
            return Err(match api {
                Api::ApiVersions => HeaderError::UnsupportedApiVersions {
                    version,
                    correlation_id,
                },
                _ => HeaderError::UnsupportedVersion { api, version },
            });
        }
        let client_id = match frame.try_get_i16().map_err(|_| truncated.clone())? {
            -1 => None,
            length => {
                let length = usize::try_from(length)
                    .map_err(|_| HeaderError::ClientId("its length is negative"))?;
                if length > frame.len() {
                    return Err(truncated);
                }
                let text = StrBytes::from_utf8(frame.split_to(length));
                Some(text.map_err(|_| HeaderError::ClientId("it is not UTF-8"))?)
            }
        };
        if api.request_header_version(version) >= 2 {
            let tags_len = walk_tags(frame).ok_or(HeaderError::TaggedFields)?;
            frame.advance(tags_len);
        }
        Ok(RequestHeader {
            api,
            api_version: version,
            correlation_id,
            client_id,
        })
    }
}
