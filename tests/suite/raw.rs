//! A client that does just what a test says: it blocks, retries nothing, and reads only when it is told to.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, TcpStream};
use std::time::Duration;

use bytes::{Buf, Bytes};
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{FetchRequest, ProduceRequest, ResponseHeader, TopicName};
use kafka_protocol::protocol::{Decodable, HeaderVersion, Request, StrBytes};
use strandline_log::record::{BatchBuilder, BatchOptions, NewRecord};
use strandline_tests::wait_until;
use strandline_wire::encode_request;

pub const DEADLINE: Duration = Duration::from_secs(30);
/// The newest versions that name topics by name.
pub const PRODUCE_VERSION: i16 = 9;
pub const FETCH_VERSION: i16 = 12;

pub struct RawClient {
    pub stream: TcpStream,
    next_correlation_id: i32,
}

impl RawClient {
    pub fn connect(port: u16) -> Self {
        let stream = wait_until("a connection is accepted", DEADLINE, || {
            TcpStream::connect(("127.0.0.1", port)).map_err(|error| error.to_string())
        });
        Self::over(stream)
    }

    /// From a given loopback address.
    pub fn connect_from(source: IpAddr, port: u16) -> std::io::Result<Self> {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
        socket.bind(&std::net::SocketAddr::new(source, 0).into())?;
        socket.connect(&std::net::SocketAddr::from(([127, 0, 0, 1], port)).into())?;
        Ok(Self::over(socket.into()))
    }

    pub fn over(stream: TcpStream) -> Self {
        stream
            .set_read_timeout(Some(DEADLINE))
            .expect("a timeout can be set");
        stream
            .set_write_timeout(Some(DEADLINE))
            .expect("a timeout can be set");
        stream.set_nodelay(true).expect("it can be set");
        Self {
            stream,
            next_correlation_id: 0,
        }
    }

    pub fn frame<R: Request>(&mut self, version: i16, request: &R) -> Bytes {
        self.next_correlation_id += 1;
        encode_request(self.next_correlation_id, Some("raw"), version, request)
            .expect("the request encodes")
    }

    pub fn send<R: Request>(&mut self, version: i16, request: &R) {
        let frame = self.frame(version, request);
        self.stream.write_all(&frame).expect("the request is taken");
    }

    /// The next answer, without its length.
    pub fn receive_frame(&mut self) -> std::io::Result<Bytes> {
        let mut length = [0; 4];
        self.stream.read_exact(&mut length)?;
        let mut frame = vec![0; u32::from_be_bytes(length) as usize];
        self.stream.read_exact(&mut frame)?;
        Ok(frame.into())
    }

    pub fn receive<R: Request>(&mut self, version: i16) -> R::Response {
        let frame = self.receive_frame().expect("an answer");
        decode_answer::<R>(version, frame)
    }

    pub fn ask<R: Request>(&mut self, version: i16, request: &R) -> R::Response {
        self.send(version, request);
        self.receive::<R>(version)
    }

    /// Waits until the broker closes; what it still sends is thrown away.
    pub fn wait_closed(&mut self, within: Duration) -> Result<(), String> {
        self.stream
            .set_read_timeout(Some(within))
            .expect("a timeout can be set");
        let mut sink = [0; 16 << 10];
        loop {
            match self.stream.read(&mut sink) {
                Ok(0) => return Ok(()),
                Ok(_) => {}
                Err(error)
                    if matches!(
                        error.kind(),
                        ErrorKind::ConnectionReset | ErrorKind::BrokenPipe
                    ) =>
                {
                    return Ok(());
                }
                Err(error) => return Err(error.to_string()),
            }
        }
    }
}

pub fn decode_answer<R: Request>(version: i16, mut frame: Bytes) -> R::Response {
    ResponseHeader::decode(&mut frame, R::Response::header_version(version)).expect("a header");
    let response = R::Response::decode(&mut frame, version).expect("a body");
    assert_eq!(frame.remaining(), 0, "bytes after the answer");
    response
}

pub fn name(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

/// A batch of records with these values.
pub fn batch<'a>(timestamp: i64, values: impl IntoIterator<Item = &'a [u8]>) -> Bytes {
    let mut builder = BatchBuilder::new(BatchOptions::default());
    for value in values {
        builder
            .append(NewRecord {
                timestamp,
                value: Some(Bytes::copy_from_slice(value)),
                ..NewRecord::default()
            })
            .expect("a record");
    }
    builder.build()
}

pub fn produce_request(topic: &str, partition: i32, acks: i16, batch: Bytes) -> ProduceRequest {
    let data = PartitionProduceData::default()
        .with_index(partition)
        .with_records(Some(batch));
    ProduceRequest::default()
        .with_acks(acks)
        .with_timeout_ms(30_000)
        .with_topic_data(vec![
            TopicProduceData::default()
                .with_name(TopicName(name(topic)))
                .with_partition_data(vec![data]),
        ])
}

/// A fetch without a session, of one byte at least.
pub fn fetch_request(
    topic: &str,
    partitions: impl IntoIterator<Item = (i32, i64)>,
    max_wait_ms: i32,
    max_bytes: i32,
) -> FetchRequest {
    let partitions = partitions
        .into_iter()
        .map(|(partition, offset)| {
            FetchPartition::default()
                .with_partition(partition)
                .with_fetch_offset(offset)
                .with_current_leader_epoch(-1)
                .with_last_fetched_epoch(-1)
                .with_partition_max_bytes(max_bytes)
        })
        .collect();
    FetchRequest::default()
        .with_max_wait_ms(max_wait_ms)
        .with_min_bytes(1)
        .with_max_bytes(max_bytes)
        .with_session_epoch(-1)
        .with_topics(vec![
            FetchTopic::default()
                .with_topic(TopicName(name(topic)))
                .with_partitions(partitions),
        ])
}
