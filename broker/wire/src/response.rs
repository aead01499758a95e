//! Responses: length, header, body.
//!
//! The header is the correlation id, and in flexible versions an empty section of tagged fields. ApiVersions always has
//! the header without one: its reader does not know yet which versions we speak.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion};

use crate::Api;
use crate::guard::walk_tags;

/// A message that cannot be put into the version asked for. It is a bug of ours: a field is set that the version does
/// not have.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("API key {api_key} version {version} does not encode: {reason}")]
pub struct EncodeError {
    pub api_key: i16,
    pub version: i16,
    pub reason: String,
}

/// A response frame with its length in front.
pub fn encode_response<R: Encodable + HeaderVersion>(
    correlation_id: i32,
    api: Api,
    version: i16,
    response: &R,
) -> Result<Bytes, EncodeError> {
    let fail = |reason: String| EncodeError {
        api_key: api.key(),
        version,
        reason,
    };
    let version = api.codec_version(version);
    let body_len = response
        .compute_size(version)
        .map_err(|error| fail(format!("{error:#}")))?;
    let mut buffer = BytesMut::with_capacity(body_len + 9);
    buffer.put_i32(0);
    put_response_header(&mut buffer, correlation_id, R::header_version(version));
    response
        .encode(&mut buffer, version)
        .map_err(|error| fail(format!("{error:#}")))?;
    finish_frame(buffer).map_err(fail)
}

/// Reads a response body as a client does; `frame` is without its length and starts with the correlation id.
///
/// For peers that we trust: the guard has no table of responses.
pub fn decode_response<R: Decodable + HeaderVersion>(
    api: Api,
    version: i16,
    mut frame: Bytes,
) -> Result<(i32, R), crate::DecodeError> {
    let fail = |reason: String| crate::DecodeError {
        api,
        version,
        reason,
    };
    let version = api.codec_version(version);
    let correlation_id = frame
        .try_get_i32()
        .map_err(|error| fail(error.to_string()))?;
    if R::header_version(version) >= 1 {
        let tags_len = walk_tags(&frame)
            .ok_or_else(|| fail("damaged tagged fields in the header".to_owned()))?;
        frame.advance(tags_len);
    }
    let response = R::decode(&mut frame, version).map_err(|error| fail(format!("{error:#}")))?;
    if !frame.is_empty() {
        return Err(fail(format!("{} bytes are left over", frame.len())));
    }
    Ok((correlation_id, response))
}

pub(crate) fn put_response_header(buffer: &mut BytesMut, correlation_id: i32, header_version: i16) {
    buffer.put_i32(correlation_id);
    if header_version >= 1 {
        buffer.put_u8(0);
    }
}

/// Fills in the length that the first four bytes were kept for.
pub(crate) fn finish_frame(mut buffer: BytesMut) -> Result<Bytes, String> {
    let len = buffer.len() - 4;
    let length = i32::try_from(len).map_err(|_| format!("{len} bytes do not fit a frame"))?;
    buffer[..4].copy_from_slice(&length.to_be_bytes());
    Ok(buffer.freeze())
}
