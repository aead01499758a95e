//! The connection against a scripted peer: what real brokers seldom do.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::{
    ApiVersionsRequest, ApiVersionsResponse, FindCoordinatorRequest, HeartbeatRequest,
};
use kafka_protocol::messages::{HeartbeatResponse, InitProducerIdRequest};
use strandline_client::{Connection, ConnectionConfig, ConnectionError};
use strandline_wire::messages::api_versions_response::ApiVersion;
use strandline_wire::{
    Api, FrameSplitter, KafkaError, RequestFrame, RequestHeader, api_versions_response,
    encode_response,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// The broker's end of one connection.
struct Peer {
    socket: TcpStream,
    buffer: BytesMut,
}

impl Peer {
    async fn accept(listener: &TcpListener) -> Peer {
        let (socket, _) = listener.accept().await.expect("the client connects");
        Peer {
            socket,
            buffer: BytesMut::new(),
        }
    }

    /// The next request's bytes; `None` when the client has closed.
    async fn frame(&mut self) -> Option<Bytes> {
        let splitter = FrameSplitter::new(1 << 20);
        loop {
            if let Some(frame) = splitter.next_frame(&mut self.buffer).expect("whole frames") {
                return Some(frame);
            }
            if self.socket.read_buf(&mut self.buffer).await.ok()? == 0 {
                return None;
            }
        }
    }

    async fn request(&mut self) -> RequestHeader {
        let frame = self.frame().await.expect("a request");
        RequestFrame::parse(frame)
            .expect("a header that we know")
            .header
    }

    async fn answer(&mut self, bytes: Bytes) {
        self.socket
            .write_all(&bytes)
            .await
            .expect("the client reads");
    }

    /// Answers ApiVersions as Strandline does.
    async fn negotiate(&mut self) {
        let header = self.request().await;
        assert_eq!(header.api, Api::ApiVersions);
        let answer = encode_response(
            header.correlation_id,
            header.api,
            header.api_version,
            &api_versions_response(),
        );
        self.answer(answer.expect("encodes")).await;
    }
}

fn heartbeat(correlation_id: i32, version: i16, error_code: i16) -> Bytes {
    let response = HeartbeatResponse::default().with_error_code(error_code);
    encode_response(correlation_id, Api::Heartbeat, version, &response).expect("encodes")
}

async fn listen() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound").to_string();
    (listener, address)
}

async fn open(address: &str, config: ConnectionConfig) -> Connection {
    Connection::open(address, config)
        .await
        .expect("the peer answers")
}

#[tokio::test]
async fn requests_are_pipelined_and_matched_in_order() {
    let (listener, address) = listen().await;
    let peer = tokio::spawn(async move {
        let mut peer = Peer::accept(&listener).await;
        peer.negotiate().await;
        let mut headers = Vec::new();
        for _ in 0..3 {
            headers.push(peer.request().await);
        }
        assert!(
            headers
                .iter()
                .all(|header| header.client_id.as_deref() == Some("strandline"))
        );
        // All three in one packet, then the connection stays open until the client is gone.
        let answers: Vec<Bytes> = headers
            .iter()
            .enumerate()
            .map(|(place, header)| {
                heartbeat(header.correlation_id, header.api_version, place as i16)
            })
            .collect();
        peer.answer(answers.concat().into()).await;
        assert_eq!(
            peer.frame().await,
            None,
            "the client closes when its last handle is gone"
        );
    });
    let connection = open(&address, ConnectionConfig::default()).await;
    let version = connection.version_of::<HeartbeatRequest>().unwrap();
    assert_eq!(version, 4);
    let request = HeartbeatRequest::default();
    let mut replies = Vec::new();
    for _ in 0..3 {
        replies.push(connection.submit(version, &request).await.unwrap());
    }
    for (place, reply) in replies.into_iter().enumerate().rev() {
        assert_eq!(reply.wait().await.unwrap().error_code, place as i16);
    }
    drop(connection);
    peer.await.unwrap();
}

#[tokio::test]
async fn in_flight_is_bounded() {
    let (listener, address) = listen().await;
    let peer = tokio::spawn(async move {
        let mut peer = Peer::accept(&listener).await;
        peer.negotiate().await;
        for _ in 0..3 {
            let header = peer.request().await;
            peer.answer(heartbeat(header.correlation_id, header.api_version, 0))
                .await;
        }
    });
    let connection = open(
        &address,
        ConnectionConfig {
            in_flight_max: 1,
            ..Default::default()
        },
    )
    .await;
    let first = connection
        .submit(4, &HeartbeatRequest::default())
        .await
        .unwrap();
    let request = HeartbeatRequest::default();
    let second = connection.submit(4, &request);
    tokio::pin!(second);
    let early = tokio::time::timeout(Duration::from_millis(50), second.as_mut()).await;
    assert!(
        early.is_err(),
        "the first is not answered to its caller yet"
    );
    first.wait().await.unwrap();
    second.await.unwrap().wait().await.unwrap();
    connection.send(&HeartbeatRequest::default()).await.unwrap();
    peer.await.unwrap();
}

#[tokio::test]
async fn an_overdue_answer_closes_the_connection_for_all() {
    let (listener, address) = listen().await;
    let peer = tokio::spawn(async move {
        let mut peer = Peer::accept(&listener).await;
        peer.negotiate().await;
        while peer.frame().await.is_some() {}
    });
    let config = ConnectionConfig {
        request_timeout: Duration::from_millis(50),
        ..Default::default()
    };
    let connection = open(&address, config).await;
    let patient = connection
        .submit(4, &HeartbeatRequest::default())
        .await
        .unwrap();
    let patient = patient.with_timeout(Duration::from_secs(60));
    let error = connection
        .send(&HeartbeatRequest::default())
        .await
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("{address} has not answered Heartbeat within 50 ms")
    );
    assert_eq!(
        patient.wait().await.unwrap_err(),
        error,
        "answers come in order: none will come any more"
    );
    assert!(connection.is_closed() && error.is_retriable());
    assert_eq!(
        connection
            .send(&HeartbeatRequest::default())
            .await
            .unwrap_err(),
        error
    );
    peer.await.unwrap();
}

#[tokio::test]
async fn a_peer_that_closes_or_lies_is_told_apart() {
    type Script = fn(RequestHeader) -> Option<Bytes>;
    let cases: [(Script, &str); 4] = [
        (|_| None, "the peer closed it"),
        (
            |header| Some(heartbeat(header.correlation_id + 1, 4, 0)),
            "an answer has correlation id Some(2), Some(1) was expected",
        ),
        (
            |_| Some(Bytes::from_static(&[0xff; 4])),
            "it sent an answer of size -1",
        ),
        (
            |_| Some(Bytes::from_static(&[0x7f, 0xff, 0xff, 0xff])),
            "it sent an answer of 2147483647 bytes, 536870912 are allowed",
        ),
    ];
    for (script, reason) in cases {
        let (listener, address) = listen().await;
        let peer = tokio::spawn(async move {
            let mut peer = Peer::accept(&listener).await;
            peer.negotiate().await;
            let header = peer.request().await;
            if let Some(bytes) = script(header) {
                peer.answer(bytes).await;
                while peer.frame().await.is_some() {}
            }
        });
        let connection = open(&address, ConnectionConfig::default()).await;
        let error = connection
            .send(&HeartbeatRequest::default())
            .await
            .unwrap_err();
        assert_eq!(
            error,
            ConnectionError::Closed {
                address,
                reason: reason.to_owned()
            }
        );
        peer.await.unwrap();
    }
}

#[tokio::test]
async fn versions_go_down_to_what_the_broker_knows() {
    let (listener, address) = listen().await;
    let peer = tokio::spawn(async move {
        let mut peer = Peer::accept(&listener).await;
        let header = peer.request().await;
        assert_eq!((header.api, header.api_version), (Api::ApiVersions, 4));
        let api = |key, max| {
            ApiVersion::default()
                .with_api_key(key)
                .with_max_version(max)
        };
        let refusal = ApiVersionsResponse::default()
            .with_error_code(KafkaError::UnsupportedVersion.code())
            .with_api_keys(vec![api(18, 2)]);
        let refusal =
            encode_response(header.correlation_id, Api::ApiVersions, 0, &refusal).unwrap();
        peer.answer(refusal).await;
        let header = peer.request().await;
        assert_eq!(header.api_version, 2);
        let known = ApiVersionsResponse::default().with_api_keys(vec![api(18, 2), api(10, 1)]);
        let known = encode_response(header.correlation_id, Api::ApiVersions, 2, &known).unwrap();
        peer.answer(known).await;
        while peer.frame().await.is_some() {}
    });
    let connection = open(&address, ConnectionConfig::default()).await;
    assert_eq!(connection.version_of::<FindCoordinatorRequest>(), Ok(1));
    assert_eq!(connection.version_of::<ApiVersionsRequest>(), Ok(2));
    let missing = connection
        .version_of::<InitProducerIdRequest>()
        .unwrap_err();
    assert_eq!(
        missing.to_string(),
        format!("{address} serves no version of InitProducerId that we speak")
    );
    drop(connection);
    peer.await.unwrap();
}

#[tokio::test]
async fn nobody_at_the_address_is_said_so() {
    let (listener, address) = listen().await;
    drop(listener);
    let error = Connection::open(&address, ConnectionConfig::default())
        .await
        .unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with(&format!("cannot connect to {address}: ")),
        "{error}"
    );
    assert!(error.is_retriable());
}
