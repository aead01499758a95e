//! From a frame to a decoded request, and back for clients.

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages::RequestHeader as RequestHeaderMessage;
use kafka_protocol::protocol::{Encodable, HeaderVersion, Request as RequestMessage};

use crate::guard::{self, GuardError};
use crate::{Api, EncodeError, HeaderError, Request, RequestHeader, StrBytes};

/// A body that the codec refuses. The guard refuses the same bodies before; this is for where the two disagree.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{api} version {version} does not decode: {reason}")]
pub struct DecodeError {
    pub api: Api,
    pub version: i16,
    pub reason: String,
}

/// Why a frame is not a request that we can handle.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum WireError {
    #[error(transparent)]
    Header(#[from] HeaderError),
    #[error(transparent)]
    Guard(#[from] GuardError),
    #[error(transparent)]
    Decode(#[from] DecodeError),
}

/// A request whose header is read and whose body has not been looked at.
#[derive(Clone, Debug)]
pub struct RequestFrame {
    pub header: RequestHeader,
    pub body: Bytes,
}

impl RequestFrame {
    /// `frame` is without its length.
    pub fn parse(mut frame: Bytes) -> Result<RequestFrame, HeaderError> {
        let header = RequestHeader::parse(&mut frame)?;
        Ok(RequestFrame {
            header,
            body: frame,
        })
    }

    /// Walks the body: every length and count is held against the bytes that are there, and the memory that decoding
    /// will take against `memory_max`.
    pub fn check(self, memory_max: usize) -> Result<CheckedRequest, GuardError> {
        let memory_estimate = guard::check(
            self.header.api,
            self.header.api_version,
            &self.body,
            memory_max,
        )?;
        Ok(CheckedRequest {
            frame: self,
            memory_estimate,
        })
    }
}

/// A request that the guard has walked.
#[derive(Clone, Debug)]
pub struct CheckedRequest {
    frame: RequestFrame,
    memory_estimate: usize,
}

impl CheckedRequest {
    pub fn header(&self) -> &RequestHeader {
        &self.frame.header
    }

    /// The most bytes that decoding allocates, beside the frame itself, which the decoded request shares.
    pub fn memory_estimate(&self) -> usize {
        self.memory_estimate
    }

    pub fn decode(self) -> Result<Request, DecodeError> {
        let RequestFrame { header, mut body } = self.frame;
        let (api, version) = (header.api, header.api_version);
        Request::decode_walked(api, version, &mut body).map_err(|reason| DecodeError {
            api,
            version,
            reason,
        })
    }
}

/// Checks and decodes a body in one go.
pub fn decode_request(
    api: Api,
    version: i16,
    body: Bytes,
    memory_max: usize,
) -> Result<Request, WireError> {
    if !api.served().contains(version) {
        return Err(HeaderError::UnsupportedVersion { api, version }.into());
    }
    let header = RequestHeader {
        api,
        api_version: version,
        correlation_id: 0,
        client_id: None,
    };
    Ok(RequestFrame { header, body }.check(memory_max)?.decode()?)
}

/// A request as a client sends it, with its length in front.
pub fn encode_request<R: RequestMessage + Encodable + HeaderVersion>(
    correlation_id: i32,
    client_id: Option<&str>,
    version: i16,
    request: &R,
) -> Result<Bytes, EncodeError> {
    let codec_version = Api::from_key(R::KEY).map_or(version, |api| api.codec_version(version));
    let header = RequestHeaderMessage::default()
        .with_request_api_key(R::KEY)
        .with_request_api_version(version)
        .with_correlation_id(correlation_id)
        .with_client_id(client_id.map(|id| StrBytes::from_string(id.to_owned())));
    let fail = |error: String| EncodeError {
        api_key: R::KEY,
        version,
        reason: error,
    };
    let mut buffer = BytesMut::with_capacity(128);
    buffer.put_i32(0);
    header
        .encode(&mut buffer, R::header_version(codec_version))
        .map_err(|error| fail(format!("{error:#}")))?;
    request
        .encode(&mut buffer, codec_version)
        .map_err(|error| fail(format!("{error:#}")))?;
    crate::response::finish_frame(buffer).map_err(fail)
}
