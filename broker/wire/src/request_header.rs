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

#[cfg(test)]
mod tests {
    use super::*;

    fn header(key: i16, version: i16, rest: &[u8]) -> Result<(RequestHeader, Bytes), HeaderError> {
        let mut frame = Vec::new();
        frame.extend(key.to_be_bytes());
        frame.extend(version.to_be_bytes());
        frame.extend(7i32.to_be_bytes());
        frame.extend(rest);
        let mut frame = Bytes::from(frame);
        RequestHeader::parse(&mut frame).map(|header| (header, frame))
    }

    fn expect(api: Api, api_version: i16, client_id: Option<&'static str>) -> RequestHeader {
        RequestHeader {
            api,
            api_version,
            correlation_id: 7,
            client_id: client_id.map(StrBytes::from_static_str),
        }
    }

    #[test]
    fn the_client_id_may_be_null_or_empty() {
        let (parsed, body) = header(3, 8, &[0xff, 0xff, 9]).unwrap();
        assert_eq!(
            (parsed, &body[..]),
            (expect(Api::Metadata, 8, None), &[9][..])
        );
        let (parsed, body) = header(3, 8, &[0, 0, 9]).unwrap();
        assert_eq!(
            (parsed, &body[..]),
            (expect(Api::Metadata, 8, Some("")), &[9][..])
        );
    }

    #[test]
    fn flexible_versions_have_tagged_fields_behind_a_plain_client_id() {
        let (parsed, body) = header(3, 9, &[0, 2, b'm', b'e', 1, 5, 2, 1, 2, 9]).unwrap();
        assert_eq!(
            (parsed, &body[..]),
            (expect(Api::Metadata, 9, Some("me")), &[9][..])
        );
    }

    #[test]
    fn an_unknown_version_of_api_versions_keeps_its_correlation_id() {
        let error = header(18, 99, &[1, 2, 3]).unwrap_err();
        assert_eq!(
            error,
            HeaderError::UnsupportedApiVersions {
                version: 99,
                correlation_id: 7
            }
        );
    }

    #[test]
    fn what_is_not_served_is_refused() {
        let cases = [
            (
                header(0, 2, &[]),
                "Produce version 2 is not served (served: 3 to 13)",
            ),
            (
                header(3, -1, &[]),
                "Metadata version -1 is not served (served: 0 to 13)",
            ),
            (header(4, 0, &[]), "unknown API key 4 (version 0)"),
            (
                header(3, 8, &[0]),
                "a request of 9 bytes is too short for its header",
            ),
            (
                header(3, 8, &[0, 5, 1]),
                "a request of 11 bytes is too short for its header",
            ),
            (
                header(3, 8, &[0x80, 0]),
                "the client id is damaged: its length is negative",
            ),
            (
                header(3, 8, &[0, 1, 0xff]),
                "the client id is damaged: it is not UTF-8",
            ),
            (
                header(3, 9, &[0, 0]),
                "the header's tagged fields are damaged",
            ),
            (
                header(3, 9, &[0, 0, 1, 0, 200]),
                "the header's tagged fields are damaged",
            ),
        ];
        for (result, text) in cases {
            assert_eq!(result.unwrap_err().to_string(), text);
        }
    }
}
