//! The recorded sessions: `tests/corpus/sessions/CLIENT.frames`.
//!
//! A file is a row of connections, each as its number of bytes (4, big-endian) and the frames that the client sent, as
//! they went over the wire. Where the client named the topic by its id, [`TOPIC_ID`] stands in the file. With
//! TEST_STRANDLINE_RECORD=1 the sessions are recorded anew.

use std::path::PathBuf;
use std::time::Duration;

use rdkafka::Offset;
use strandline_tests::{
    Broker, BrokerOptions, Driver, DriverScript, Recorder, TestHeader, TestRecord, free_port,
    kafka_tool, now_ms, workspace_root,
};

use crate::librdkafka;

pub const TOPIC: &str = "recorded";
pub const PARTITIONS: i32 = 2;
/// Stands for the topic's id.
pub const TOPIC_ID: [u8; 16] = *b"STRANDLINE-TOPIC";
pub const CLIENTS: [&str; 4] = ["java", "java-admin", "kafka-python", "librdkafka"];
/// Of each API and version in one session.
const FRAMES_MAX: usize = 4;

/// A client's connections, each a row of frames.
pub type Session = Vec<Vec<Vec<u8>>>;

fn path(client: &str) -> PathBuf {
    workspace_root()
        .join("tests/corpus/sessions")
        .join(format!("{client}.frames"))
}

/// The recorded session of a client, for a topic of this id.
pub fn session(client: &str, topic_id: [u8; 16]) -> Session {
    let bytes = std::fs::read(path(client)).expect("the session is in the corpus");
    let mut left = &bytes[..];
    let mut connections = Vec::new();
    while let Some((length, rest)) = left.split_first_chunk::<4>() {
        let (mut connection, rest) = rest.split_at(u32::from_be_bytes(*length) as usize);
        let mut frames = Vec::new();
        while let Some((length, _)) = connection.split_first_chunk::<4>() {
            let (frame, after) = connection.split_at(4 + u32::from_be_bytes(*length) as usize);
            frames.push(replace(frame, &TOPIC_ID, &topic_id));
            connection = after;
        }
        connections.push(frames);
        left = rest;
    }
    connections
}

/// All sessions, with their clients' names.
pub fn sessions(topic_id: [u8; 16]) -> Vec<(&'static str, Session)> {
    CLIENTS
        .iter()
        .map(|client| (*client, session(client, topic_id)))
        .collect()
}

fn replace(bytes: &[u8], from: &[u8; 16], to: &[u8; 16]) -> Vec<u8> {
    let mut out = bytes.to_vec();
    let mut at = 0;
    while at + 16 <= out.len() {
        if out[at..at + 16] == *from {
            out[at..at + 16].copy_from_slice(to);
            at += 16;
        } else {
            at += 1;
        }
    }
    out
}

/// The id under which a broker knows a topic.
pub fn topic_id(bootstrap: &str, topic: &str) -> [u8; 16] {
    crate::strandline::block_on(async {
        let client =
            strandline_client::Client::new(strandline_client::ClientConfig::new([bootstrap]));
        let topic = client.topic(topic).await.expect("the topic is known");
        *topic.topic_id.as_bytes()
    })
}

fn records(count: usize) -> Vec<TestRecord> {
    (0..count)
        .map(|number| TestRecord {
            partition: number as i32 % PARTITIONS,
            timestamp: now_ms(),
            key: Some(format!("key {number}").into_bytes()),
            value: Some(vec![b'v'; 20 + number]),
            headers: vec![TestHeader("h".to_owned(), Some(b"1".to_vec()))],
        })
        .collect()
}

/// Does what the client does in a day.
fn work(client: &str, bootstrap: &str) {
    let driver = |driver: Driver| {
        let first_ms = now_ms();
        let mut script = DriverScript::new();
        for codec in ["none", "gzip"] {
            script = script.produce(TOPIC, codec, &records(6));
        }
        let script = script
            .consume(TOPIC, 12)
            .group(TOPIC, 12, "fuzzed")
            .seek(TOPIC, first_ms);
        driver.run(bootstrap, &script);
    };
    match client {
        "java" => driver(Driver::Java),
        "kafka-python" => driver(Driver::KafkaPython),
        "librdkafka" => {
            librdkafka::produce(bootstrap, TOPIC, "lz4", &records(8));
            let consumer = librdkafka::consumer_from(bootstrap, TOPIC, Offset::Beginning);
            let mut left = 8;
            librdkafka::poll_until(&consumer, "all records", |_| {
                left -= 1;
                left == 0
            });
            librdkafka::offsets_for_time(bootstrap, TOPIC, now_ms());
        }
        _ => {
            let tool = |class: &str, words: &[&str]| {
                let mut all = vec!["--bootstrap-server", bootstrap];
                all.extend_from_slice(words);
                kafka_tool(class, &all).expect_success(class);
            };
            let topics = "org.apache.kafka.tools.TopicCommand";
            tool(
                topics,
                &["--create", "--topic", "made", "--partitions", "1"],
            );
            tool(topics, &["--describe"]);
            tool(topics, &["--alter", "--topic", "made", "--partitions", "2"]);
            let configs = "kafka.admin.ConfigCommand";
            let entity = ["--entity-type", "topics", "--entity-name", "made"];
            let with = |words: &[&'static str]| [words, &entity[..]].concat();
            tool(
                configs,
                &with(&["--alter", "--add-config", "retention.ms=1000000"]),
            );
            tool(configs, &with(&["--describe"]));
            tool(topics, &["--delete", "--topic", "made"]);
            tool(
                "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand",
                &["--list"],
            );
        }
    }
}

fn record(client: &str) {
    let port = free_port();
    let advertised = format!("advertised.listeners=PLAINTEXT://127.0.0.1:{port}");
    let broker = Broker::start(BrokerOptions::with(&[&advertised]));
    let recorder = Recorder::start(port, broker.port());
    librdkafka::create_topic(&broker.bootstrap(), TOPIC, PARTITIONS, &[]);
    let before = recorder.connections().len();
    work(client, &format!("127.0.0.1:{port}"));
    let id = topic_id(&broker.bootstrap(), TOPIC);
    let mut counts = std::collections::BTreeMap::new();
    let mut file = Vec::new();
    for connection in recorder.connections().into_iter().skip(before) {
        let frames = connection.into_iter().filter(|frame| {
            let count = counts.entry(frame[4..8].to_vec()).or_insert(0);
            *count += 1;
            *count <= FRAMES_MAX
        });
        let bytes: Vec<u8> = frames
            .flat_map(|frame| replace(&frame, &id, &TOPIC_ID))
            .collect();
        if !bytes.is_empty() {
            file.extend((bytes.len() as u32).to_be_bytes());
            file.extend(bytes);
        }
    }
    println!(
        "{client}: {} bytes, {} kinds of requests",
        file.len(),
        counts.len()
    );
    std::fs::create_dir_all(path(client).parent().expect("a folder")).expect("it can be made");
    std::fs::write(path(client), file).expect("it can be written");
}

/// The recorded frames are what clients send today: the broker answers them, and keeps their connections.
#[test]
fn the_recorded_sessions_are_served() {
    use crate::raw::RawClient;
    use std::io::Write;

    if std::env::var_os("TEST_STRANDLINE_RECORD").is_some() {
        CLIENTS.iter().for_each(|client| record(client));
    }
    let broker = Broker::start(BrokerOptions::default());
    librdkafka::create_topic(&broker.bootstrap(), TOPIC, PARTITIONS, &[]);
    let id = topic_id(&broker.bootstrap(), TOPIC);
    let mut kinds = std::collections::BTreeSet::new();
    for (client, session) in sessions(id) {
        let mut frames = 0;
        for connection in session {
            let mut raw = RawClient::connect(broker.port());
            raw.stream
                .set_read_timeout(Some(Duration::from_secs(20)))
                .expect("it can be set");
            for frame in connection {
                raw.stream.write_all(&frame).expect("the frame is taken");
                let key = i16::from_be_bytes([frame[4], frame[5]]);
                kinds.insert(frame[4..8].to_vec());
                frames += 1;
                let answer = raw
                    .receive_frame()
                    .unwrap_or_else(|error| panic!("{client}, API {key}: {error}"));
                assert_eq!(answer[..4], frame[8..12], "{client}, API {key}");
            }
        }
        println!("{client}: {frames} frames were answered");
    }
    assert!(kinds.len() >= 25, "{} kinds of requests", kinds.len());
}
