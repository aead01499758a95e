//! What a listener hands to the APIs and what it gets back.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use strandline_log::FileSlice;

/// Where a request came from and how it is to be answered.
#[derive(Clone, Debug)]
pub struct RequestContext {
    /// The listener's name; answers that name brokers give this listener's addresses.
    pub listener: Arc<str>,
    /// Empty when the client gave none.
    pub client_id: Arc<str>,
    /// The peer's IP address.
    pub client_host: Arc<str>,
    pub connection_id: u64,
    pub api_version: i16,
    pub correlation_id: i32,
    /// When the request had been read.
    pub received: Instant,
}

/// A whole answer.
pub enum ResponseBody {
    /// The frame, with its length prefix.
    Bytes(Bytes),
    Fetch(FetchFrames),
    /// acks=0: the client expects nothing.
    None,
    /// There is no way to tell the client: close its connection. The text is for the log.
    Close(String),
}

/// A Fetch answer's frame: header bytes and record bytes in turn, the length prefix first.
pub struct FetchFrames {
    pub parts: Vec<ResponsePart>,
}

pub enum ResponsePart {
    Bytes(Bytes),
    /// Sent with sendfile.
    File(FileSlice),
}

/// An answer, and how long its request waited for others: replicas, new records, group members.
pub struct Response {
    pub body: ResponseBody,
    /// `None`: since the answer first was not ready.
    pub remote: Option<Duration>,
}

impl From<ResponseBody> for Response {
    fn from(body: ResponseBody) -> Self {
        Self { body, remote: None }
    }
}

pub type Answer = Pin<Box<dyn Future<Output = Response> + Send>>;

/// What became of a request.
pub enum Handled {
    Ready(ResponseBody),
    /// Poll it when the request is at the head of its connection's queue.
    Pending(Answer),
    /// As `Pending`, but read no further request of this connection before `admitted` resolves: what this one appends
    /// to has more waiting than it should.
    Stalled {
        admitted: Pin<Box<dyn Future<Output = ()> + Send>>,
        answer: Answer,
    },
}
