//! Hostile frames for every API and version: they cost their sender the request or the connection, and nobody else
//! anything. The broker stays up, its memory stays bounded, a neighbour is served all the while.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use strandline_tests::{Broker, BrokerOptions, wait_until};
use strandline_wire::Api;

#[path = "../../broker/wire/tests/bodies/mod.rs"]
mod bodies;

use bodies::{Random, random_body};

/// What all requests together may hold, as the broker is told.
const BUDGET_BYTES: u64 = 32 << 20;
/// Beyond the budget: threads, caches, topics that hostile requests have made.
const RESIDENT_BYTES_MAX: u64 = BUDGET_BYTES + (160 << 20);
/// A request that waits for something (a long poll) is left alone after this time.
const PATIENCE: Duration = Duration::from_millis(30);
/// Refusals come at once; this is how long a test waits before it fails.
const DEADLINE: Duration = Duration::from_secs(20);

/// A number that no array or string has room for, in the ways the protocol writes lengths.
const LIES: &[&[u8]] = &[
    &[0x7f, 0xff, 0xff, 0xff],
    &[0xff, 0xff, 0xff, 0xff],
    &[0x80, 0x00, 0x00, 0x00],
    &[0xff, 0xff, 0xff, 0xff, 0x07],
    &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01],
    &[0x7f, 0xff],
    &[0x00, 0x00, 0xff, 0xff, 0xff],
];

fn frame(api: Api, version: i16, body: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(body.len() + 32);
    frame.extend_from_slice(&api.key().to_be_bytes());
    frame.extend_from_slice(&version.to_be_bytes());
    frame.extend_from_slice(&7i32.to_be_bytes());
    frame.extend_from_slice(&[0, 4]);
    frame.extend_from_slice(b"evil");
    if api.request_header_version(version) >= 2 {
        frame.push(0);
    }
    frame.extend_from_slice(body);
    let mut framed = (frame.len() as u32).to_be_bytes().to_vec();
    framed.extend(frame);
    framed
}

#[derive(PartialEq, Eq, Debug)]
enum Reaction {
    Answered,
    Closed,
    /// Neither within the patience.
    Waiting,
}

fn connect(port: u16) -> TcpStream {
    wait_until("a connection is accepted", DEADLINE, || {
        TcpStream::connect(("127.0.0.1", port)).map_err(|error| error.to_string())
    })
}

/// What comes next on a connection.
fn reaction(stream: &mut TcpStream, patience: Duration) -> Reaction {
    stream
        .set_read_timeout(Some(patience))
        .expect("a timeout can be set");
    match stream.read(&mut [0; 1024]) {
        Ok(0) => Reaction::Closed,
        Ok(_) => Reaction::Answered,
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
            Reaction::Waiting
        }
        Err(_) => Reaction::Closed,
    }
}

/// Sends bytes on a connection of their own.
fn provoke(port: u16, bytes: &[u8], patience: Duration) -> Reaction {
    let mut stream = connect(port);
    // The broker may close before it has read all.
    let _ = stream.write_all(bytes);
    reaction(&mut stream, patience)
}

/// A client that minds its own business on one connection.
struct Neighbour(TcpStream);

impl Neighbour {
    fn new(port: u16) -> Self {
        let stream = connect(port);
        stream
            .set_read_timeout(Some(DEADLINE))
            .expect("a timeout can be set");
        Self(stream)
    }

    /// Metadata of no topics.
    fn ask(&mut self) {
        let request = frame(Api::Metadata, 1, &0i32.to_be_bytes());
        self.0.write_all(&request).expect("the neighbour is served");
        let mut length = [0; 4];
        self.0
            .read_exact(&mut length)
            .expect("the neighbour is answered");
        let mut answer = vec![0; u32::from_be_bytes(length) as usize];
        self.0
            .read_exact(&mut answer)
            .expect("the neighbour is answered in full");
        assert_eq!(answer[..4], 7i32.to_be_bytes());
    }
}

fn peak_bytes(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))
        .expect("the broker is still running");
    let peak = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .and_then(|value| value.trim().trim_end_matches(" kB").parse::<u64>().ok());
    peak.expect("VmHWM") << 10
}

fn check_memory(broker: &Broker, what: &str) {
    let peak = peak_bytes(broker.pid());
    println!("{what}: at most {} MiB were resident", peak >> 20);
    assert!(peak <= RESIDENT_BYTES_MAX, "{what}: {peak} bytes resident");
}

fn broker() -> Broker {
    Broker::start(BrokerOptions::with(&[
        &format!("queued.max.request.bytes={BUDGET_BYTES}"),
        "auto.create.topics.enable=false",
        "topic.max.partitions=100",
    ]))
}

#[test]
fn lying_truncated_and_random_bodies_of_every_api_and_version() {
    let broker = broker();
    let port = broker.port();
    let mut neighbour = Neighbour::new(port);
    let mut random = Random(5);
    let (mut sent, mut closed, mut answered, mut waiting) = (0u32, 0u32, 0u32, 0u32);
    for api in Api::ALL {
        for version in api.advertised().iter() {
            let valid = random_body(&mut random, *api, version, true);
            let mut hostile: Vec<Vec<u8>> = LIES.iter().map(|lie| lie.repeat(4)).collect();
            // A valid body up to some byte, then a lie, or nothing.
            for _ in 0..6 {
                let cut = random.below(valid.len() + 1);
                let lie = LIES[random.below(LIES.len())];
                hostile.push(valid[..cut].to_vec());
                hostile.push([&valid[..cut], lie].concat());
                hostile.push([&valid[..cut], lie, &valid[cut..]].concat());
            }
            for length in [1, 12, 64, 400] {
                hostile.push((0..length).map(|_| random.next() as u8).collect());
            }
            // As many small elements as there is room for.
            hostile.push([&[0, 1, 0, 0][..], &[0; 1 << 16]].concat());
            hostile.push([&[0x80, 0x80, 0x04][..], &[0; 1 << 16]].concat());
            hostile.push(vec![1; 1 << 16]);
            hostile.push(valid);
            for body in &hostile {
                sent += 1;
                match provoke(port, &frame(*api, version, body), PATIENCE) {
                    Reaction::Answered => answered += 1,
                    Reaction::Closed => closed += 1,
                    Reaction::Waiting => waiting += 1,
                }
            }
        }
        neighbour.ask();
    }
    println!(
        "{sent} hostile bodies: {closed} closed their connection, {answered} were answered, {waiting} waited"
    );
    assert!(closed > sent / 4, "{closed} of {sent} closed");
    check_memory(&broker, "after hostile bodies");
}

#[test]
fn huge_and_half_sent_frames() {
    let broker = broker();
    let port = broker.port();
    let mut neighbour = Neighbour::new(port);
    for length in [i32::MAX, -1, i32::MIN, 0, 1, 7, 104_857_601] {
        let mut bytes = length.to_be_bytes().to_vec();
        bytes.extend_from_slice(&[0; 64]);
        assert_eq!(
            provoke(port, &bytes, DEADLINE),
            Reaction::Closed,
            "a frame of {length} bytes"
        );
    }
    for (key, version) in [(-1i16, 0i16), (999, 0), (0, 99), (3, -1), (18, -5)] {
        let mut header = key.to_be_bytes().to_vec();
        header.extend_from_slice(&version.to_be_bytes());
        header.extend_from_slice(&[0, 0, 0, 7, 0xff, 0xff, 0, 0, 0, 0]);
        let mut bytes = (header.len() as u32).to_be_bytes().to_vec();
        bytes.extend(header);
        let reaction = provoke(port, &bytes, DEADLINE);
        assert_ne!(reaction, Reaction::Waiting, "API {key} version {version}");
    }
    // Many that announce much and send little: nothing is reserved for what has not come.
    let mut half_sent: Vec<TcpStream> = (0..200)
        .map(|_| {
            let mut stream = connect(port);
            let mut bytes = (90i32 << 20).to_be_bytes().to_vec();
            bytes.extend_from_slice(&frame(Api::Produce, 9, &[0; 64])[4..]);
            // It may be refused before all of it is read.
            let _ = stream.write_all(&bytes);
            stream
        })
        .collect();
    for _ in 0..50 {
        neighbour.ask();
    }
    check_memory(&broker, "200 half-sent frames of 90 MiB");
    for stream in &mut half_sent {
        assert_ne!(
            reaction(stream, Duration::from_millis(1)),
            Reaction::Answered
        );
    }
    drop(half_sent);
    // Many that really send much, more than the budget, and never the end.
    let mut senders: Vec<TcpStream> = (0..20).map(|_| connect(port)).collect();
    let chunk = vec![0u8; 1 << 16];
    for stream in &mut senders {
        stream.set_nonblocking(true).expect("it can be set");
        let _ = stream.write_all(&(90i32 << 20).to_be_bytes());
        let _ = stream.write_all(&frame(Api::Produce, 9, &[0; 64])[4..]);
    }
    for _ in 0..64 {
        for stream in &mut senders {
            // What the broker does not take stays in the socket.
            let _ = stream.write(&chunk);
        }
    }
    for _ in 0..50 {
        neighbour.ask();
    }
    check_memory(&broker, "20 senders of endless frames");
}
