//! The Kafka protocol as bytes: frames, the table of APIs, the guard, codecs and encoders. No sockets, no async.
//!
//! A request goes through this crate in four steps:
//!
//! 1. [`FrameSplitter`] cuts one frame off the bytes received, within `socket.request.max.bytes`.
//! 2. [`RequestFrame::parse`] reads the header, finds the [`Api`] and refuses versions that are not served.
//! 3. [`RequestFrame::check`] walks the body against the guard's table. Nothing has been allocated so far; the result
//!    knows how much memory decoding will take.
//! 4. [`CheckedRequest::decode`] runs the codec and yields a [`Request`], one variant per API.
//!
//! The types make the order: a body that the guard has not walked cannot be decoded.
//!
//! Responses leave through [`encode_response`], and through [`encode_fetch_response`] where records are sent as file
//! slices. [`api_versions_response`] derives from [`Api::ALL`], so an API that has no row in the table is not
//! advertised and an API that has one cannot lack a handler where `Request` is matched.

mod api;
mod api_versions;
mod error;
mod fetch_response;
mod frame;
pub mod guard;
mod request;
mod request_header;
mod response;

pub use api::{Api, Request, VersionRange};
pub use api_versions::{api_versions_response, unsupported_api_versions_response};
pub use error::{KafkaError, error_code, error_from_code};
pub use fetch_response::{
    EncodedFetchResponse, FetchPartitionPart, FetchResponseParts, FetchTopicPart,
    encode_fetch_response,
};
pub use frame::{FrameError, FrameSplitter};
pub use guard::{GuardError, GuardFault};
pub use kafka_protocol::messages;
pub use kafka_protocol::protocol::StrBytes;
pub use request::{
    CheckedRequest, DecodeError, RequestFrame, WireError, decode_request, encode_request,
};
pub use request_header::{HeaderError, RequestHeader};
pub use response::{EncodeError, decode_response, encode_response};
