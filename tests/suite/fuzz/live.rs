//! Recorded sessions of real clients, damaged on the way, against the live broker.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use strandline_tests::{Broker, BrokerOptions, memory_bytes, metric, timed};

use super::corpus::{PARTITIONS, Session, TOPIC, sessions, topic_id};
use super::{Mutator, patience, seed};
use crate::librdkafka::create_topic;
use crate::stuck::mind_own_business;

const THREADS: u64 = 12;
const BUDGET_BYTES: u64 = 32 << 20;
/// Beyond the budget: threads, caches, the logs and groups that damaged requests make.
const MEMORY_BYTES_MAX: u64 = BUDGET_BYTES + (160 << 20);

/// What became of the frames of one thread.
#[derive(Default)]
struct Counts {
    frames: AtomicU64,
    damaged: AtomicU64,
    closed: AtomicU64,
}

/// Reads what is there. False when the broker has closed.
fn drain(stream: &mut TcpStream, sink: &mut [u8]) -> bool {
    loop {
        match stream.read(sink) {
            Ok(0) => return false,
            Ok(_) => {}
            Err(error) => {
                return matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut);
            }
        }
    }
}

fn replay(port: u16, frames: &[Vec<u8>], mutator: &mut Mutator, counts: &Counts) {
    let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) else {
        return;
    };
    let wait = Duration::from_millis(1);
    stream.set_read_timeout(Some(wait)).expect("it can be set");
    stream
        .set_write_timeout(Some(Duration::from_millis(100)))
        .expect("it can be set");
    let mut sink = vec![0; 64 << 10];
    // Every connection has its own mixture of good and bad.
    let one_in = 1 + mutator.below(6);
    for frame in frames {
        let mut sent = vec![frame.clone()];
        if mutator.chance(one_in) {
            counts.damaged.fetch_add(1, Ordering::Relaxed);
            sent[0] = mutator.damage_frame(frame);
            if mutator.chance(10) {
                sent.push(frame.clone());
            }
        }
        for bytes in sent {
            counts.frames.fetch_add(1, Ordering::Relaxed);
            if stream.write_all(&bytes).is_err() || !drain(&mut stream, &mut sink) {
                counts.closed.fetch_add(1, Ordering::Relaxed);
                return;
            }
        }
    }
}

fn storm(port: u16, seed: u64, sessions: &[(&str, Session)], stop: &AtomicBool, counts: &Counts) {
    let mut case = 0;
    while !stop.load(Ordering::Relaxed) {
        let mut mutator = Mutator::new(seed.wrapping_add(case));
        let (_, session) = &sessions[mutator.below(sessions.len())];
        let connection = &session[mutator.below(session.len())];
        replay(port, connection, &mut mutator, counts);
        case += 1;
    }
}

#[test]
fn damaged_sessions_of_real_clients_harm_nobody_else() {
    let mut broker = Broker::start(BrokerOptions::with(&[
        &format!("queued.max.request.bytes={BUDGET_BYTES}"),
        "auto.create.topics.enable=false",
        "topic.max.partitions=20",
        "request.read.timeout.ms=2000",
    ]));
    create_topic(&broker.bootstrap(), TOPIC, PARTITIONS, &[]);
    create_topic(&broker.bootstrap(), "neighbour", 1, &[]);
    let sessions = sessions(topic_id(&broker.bootstrap(), TOPIC));
    let seed = seed("live sessions");
    let patience = patience(Duration::from_secs(10), Duration::from_secs(1800));
    let (stop, counts) = (AtomicBool::new(false), Counts::default());
    let port = broker.port();
    let (records, slowest) = std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (sessions, stop, counts) = (&sessions, &stop, &counts);
            scope.spawn(move || {
                storm(
                    port,
                    seed.wrapping_add(thread << 32),
                    sessions,
                    stop,
                    counts,
                )
            });
        }
        let neighbour = scope.spawn(|| mind_own_business(port, "neighbour", 0, &stop));
        let mut left = patience;
        while !left.is_zero() && !neighbour.is_finished() {
            // Its page is a client too.
            let ((), took) = timed(|| {
                let _ = metric(broker.http_port(), "strandline_network_connections", &[]);
                std::thread::park_timeout(Duration::from_millis(200));
            });
            left = left.saturating_sub(took);
        }
        stop.store(true, Ordering::Relaxed);
        neighbour
            .join()
            .expect("the neighbour was served all the while")
    });
    let peak = memory_bytes(broker.pid(), "VmHWM");
    println!(
        "{} frames, {} of them damaged, closed {} connections; the neighbour wrote and read {records} records, the \
         slowest in {slowest:?}; at most {} MiB were resident",
        counts.frames.load(Ordering::Relaxed),
        counts.damaged.load(Ordering::Relaxed),
        counts.closed.load(Ordering::Relaxed),
        peak >> 20,
    );
    assert!(records > 50, "{records} records");
    assert!(slowest < Duration::from_secs(5), "{slowest:?}");
    assert!(counts.damaged.load(Ordering::Relaxed) > 100);
    assert!(peak <= MEMORY_BYTES_MAX, "{peak} bytes resident");
    let panics = metric(
        broker.http_port(),
        "strandline_network_connections_failed_total",
        &["cause=\"panic\""],
    );
    assert_eq!(panics, 0.0);
    assert_eq!(
        metric(broker.http_port(), "strandline_task_deaths_total", &[]),
        0.0
    );
    let log = std::fs::read_to_string(broker.log()).expect("its log");
    let panic = log.lines().find(|line| line.contains("panicked"));
    assert_eq!(panic, None);
    // It stops as it should, and what it holds can be loaded.
    broker.stop();
    broker.restart();
}
